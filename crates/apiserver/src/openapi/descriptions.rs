//! Descriptions for `kubectl explain`, read from `k8s-openapi`'s schemas when a document is made.

use std::sync::{Arc, LazyLock};

use kinds::Kind;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

/// Adds each kind's types to the generator.
macro_rules! types {
    ($generator:ident; $($module:path => $($kind:ident)*;)*) => {
        $({
            use $module as module;
            $( $generator.subschema_for::<module::$kind>(); )*
        })*
    };
}

fn definitions(collect: fn(&mut SchemaGenerator)) -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    collect(&mut generator);
    generator.take_definitions(true)
}

/// Copies descriptions into schemas of the same names.
pub fn add(kinds: &[Arc<Kind>], schemas: &mut Map<String, Value>) {
    let built_in = kinds.iter().any(|kind| matches!(kind.schema, kinds::kind::SchemaSource::Facts(_)));
    // All of them take a while to describe, and a document of custom kinds refers to few.
    let described = definitions(if built_in { collect } else { collect_meta });
    for (name, schema) in schemas {
        let Some(found) = described.get(name) else { continue };
        describe(schema, found);
        let properties = found.get("properties").and_then(Value::as_object);
        let Some(Value::Object(own)) = schema.get_mut("properties") else { continue };
        for (field, schema) in own {
            if let Some(found) = properties.and_then(|properties| properties.get(field)) {
                describe(schema, found);
            }
        }
    }
}

/// The description of a definition's field; empty where it has none. Read once, for they are many.
pub fn of_field(definition: &str, field: &str) -> String {
    static DESCRIBED: LazyLock<Map<String, Value>> = LazyLock::new(|| definitions(collect));
    words_of(DESCRIBED.get(definition), field)
}

/// The same of a type that every group version uses: `of_meta("ObjectMeta", "name")`.
pub fn of_meta(name: &str, field: &str) -> String {
    static DESCRIBED: LazyLock<Map<String, Value>> = LazyLock::new(|| definitions(collect_meta));
    words_of(DESCRIBED.get(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")), field)
}

fn words_of(definition: Option<&Value>, field: &str) -> String {
    let found = definition.and_then(|found| found.get("properties")?.get(field)?.get("description"));
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A reference can carry no words beside it, so it is wrapped.
fn describe(schema: &mut Value, found: &Value) {
    let Some(words) = found.get("description") else { return };
    if schema.get("$ref").is_some() {
        *schema = serde_json::json!({ "allOf": [schema.take()] });
    }
    schema["description"] = words.clone();
}

fn collect_meta(generator: &mut SchemaGenerator) {
    types! { generator;
        k8s_openapi::apimachinery::pkg::apis::meta::v1 => DeleteOptions ListMeta ObjectMeta Status;
        k8s_openapi::api::autoscaling::v1 => Scale;
    }
}

fn collect(generator: &mut SchemaGenerator) {
    types! { generator;
        k8s_openapi::api::core::v1 => Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
        k8s_openapi::api::admissionregistration::v1 => MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration;
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 => CustomResourceDefinition;
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 => APIService;
        k8s_openapi::api::apps::v1 => ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        k8s_openapi::api::autoscaling::v1 => HorizontalPodAutoscaler Scale;
        k8s_openapi::api::autoscaling::v2 => HorizontalPodAutoscaler;
        k8s_openapi::api::batch::v1 => CronJob Job;
        k8s_openapi::api::certificates::v1 => CertificateSigningRequest;
        k8s_openapi::api::coordination::v1 => Lease;
        k8s_openapi::api::discovery::v1 => EndpointSlice;
        k8s_openapi::api::events::v1 => Event;
        k8s_openapi::api::flowcontrol::v1 => FlowSchema PriorityLevelConfiguration;
        k8s_openapi::api::networking::v1 => IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
        k8s_openapi::api::node::v1 => RuntimeClass;
        k8s_openapi::api::policy::v1 => PodDisruptionBudget Eviction;
        k8s_openapi::api::rbac::v1 => ClusterRole ClusterRoleBinding Role RoleBinding;
        k8s_openapi::api::scheduling::v1 => PriorityClass;
        k8s_openapi::api::storage::v1 => CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment;
    }
}
