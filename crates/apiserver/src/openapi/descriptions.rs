//! Descriptions for `kubectl explain`, read from `k8s-openapi`'s schemas when a document is made.

use std::sync::LazyLock;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

use super::Form;
use super::schemas::extended;

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

/// What is said of the types of a document.
pub struct Described(Map<String, Value>);

impl Described {
    /// All types take a while to describe, and a document without built-in kinds refers to few.
    pub fn of(built_in: bool) -> Described {
        Described(definitions(if built_in { collect } else { collect_meta }))
    }

    /// Copies the descriptions of a type and of its fields into its schema.
    pub(super) fn add(&self, name: &str, schema: &mut Value, form: Form) {
        let Some(found) = self.0.get(name) else { return };
        describe(schema, found, form);
        let properties = found.get("properties").and_then(Value::as_object);
        let Some(Value::Object(own)) = schema.get_mut("properties") else { return };
        for (field, schema) in own {
            if let Some(found) = properties.and_then(|properties| properties.get(field)) {
                describe(schema, found, form);
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

/// In the newer format a reference can carry no words beside it, so it is wrapped.
fn describe(schema: &mut Value, found: &Value, form: Form) {
    let Some(words) = found.get("description") else { return };
    if schema.get("$ref").is_some() {
        *schema = extended(schema.take(), form);
    }
    schema["description"] = words.clone();
}

fn collect_meta(generator: &mut SchemaGenerator) {
    types! { generator;
        k8s_openapi::apimachinery::pkg::apis::meta::v1 => APIGroup APIGroupList APIResourceList APIVersions DeleteOptions ListMeta ObjectMeta Patch Status;
        k8s_openapi::apimachinery::pkg::version => Info;
        k8s_openapi::api::autoscaling::v1 => Scale;
    }
}

fn collect(generator: &mut SchemaGenerator) {
    collect_meta(generator);
    types! { generator;
        k8s_openapi::api::core::v1 => Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
        k8s_openapi::api::admissionregistration::v1 => MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration;
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 => CustomResourceDefinition;
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 => APIService;
        k8s_openapi::api::apps::v1 => ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        k8s_openapi::api::authentication::v1 => SelfSubjectReview TokenRequest TokenReview;
        k8s_openapi::api::authorization::v1 => LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
        k8s_openapi::api::autoscaling::v1 => HorizontalPodAutoscaler;
        k8s_openapi::api::autoscaling::v2 => HorizontalPodAutoscaler;
        k8s_openapi::api::batch::v1 => CronJob Job;
        k8s_openapi::api::certificates::v1 => CertificateSigningRequest ClusterTrustBundle PodCertificateRequest;
        k8s_openapi::api::coordination::v1 => Lease;
        k8s_openapi::api::discovery::v1 => EndpointSlice;
        k8s_openapi::api::events::v1 => Event;
        k8s_openapi::api::flowcontrol::v1 => FlowSchema PriorityLevelConfiguration;
        k8s_openapi::api::networking::v1 => IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
        k8s_openapi::api::node::v1 => RuntimeClass;
        k8s_openapi::api::policy::v1 => PodDisruptionBudget Eviction;
        k8s_openapi::api::rbac::v1 => ClusterRole ClusterRoleBinding Role RoleBinding;
        k8s_openapi::api::resource::v1 => DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate ResourceSlice;
        k8s_openapi::api::scheduling::v1 => PriorityClass;
        k8s_openapi::api::storage::v1 => CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
        k8s_openapi::api::storagemigration::v1 => StorageVersionMigration;
    }
}
