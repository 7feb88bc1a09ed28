//! The table of built-in kinds: the one place that lists them all.

use crate::kind::Kind;

/// Every built-in kind upstream serves by default, in discovery's order of groups.
pub static KINDS: &[&Kind] = &[
    &crate::core::binding::BINDING,
    &crate::core::component_status::COMPONENT_STATUS,
    &crate::core::config_map::CONFIG_MAP,
    &crate::core::endpoints::ENDPOINTS,
    &crate::core::event::EVENT,
    &crate::core::limit_range::LIMIT_RANGE,
    &crate::core::namespace::NAMESPACE,
    &crate::core::node::NODE,
    &crate::core::persistent_volume_claim::PERSISTENT_VOLUME_CLAIM,
    &crate::core::persistent_volume::PERSISTENT_VOLUME,
    &crate::core::pod::POD,
    &crate::core::pod_template::POD_TEMPLATE,
    &crate::core::replication_controller::REPLICATION_CONTROLLER,
    &crate::core::resource_quota::RESOURCE_QUOTA,
    &crate::core::secret::SECRET,
    &crate::core::service_account::SERVICE_ACCOUNT,
    &crate::core::service::SERVICE,
    &crate::apiregistration::api_service::API_SERVICE,
    &crate::apps::controller_revision::CONTROLLER_REVISION,
    &crate::apps::daemon_set::DAEMON_SET,
    &crate::apps::deployment::DEPLOYMENT,
    &crate::apps::replica_set::REPLICA_SET,
    &crate::apps::stateful_set::STATEFUL_SET,
    &crate::events::event::EVENT,
    &crate::authentication::self_subject_review::SELF_SUBJECT_REVIEW,
    &crate::authentication::token_review::TOKEN_REVIEW,
    &crate::authorization::local_subject_access_review::LOCAL_SUBJECT_ACCESS_REVIEW,
    &crate::authorization::self_subject_access_review::SELF_SUBJECT_ACCESS_REVIEW,
    &crate::authorization::self_subject_rules_review::SELF_SUBJECT_RULES_REVIEW,
    &crate::authorization::subject_access_review::SUBJECT_ACCESS_REVIEW,
    &crate::autoscaling::horizontal_pod_autoscaler::HORIZONTAL_POD_AUTOSCALER_V2,
    &crate::autoscaling::horizontal_pod_autoscaler::HORIZONTAL_POD_AUTOSCALER_V1,
    &crate::batch::cron_job::CRON_JOB,
    &crate::batch::job::JOB,
    &crate::certificates::certificate_signing_request::CERTIFICATE_SIGNING_REQUEST,
    &crate::certificates::cluster_trust_bundle::CLUSTER_TRUST_BUNDLE,
    &crate::certificates::pod_certificate_request::POD_CERTIFICATE_REQUEST,
    &crate::networking::ingress_class::INGRESS_CLASS,
    &crate::networking::ingress::INGRESS,
    &crate::networking::ip_address::IP_ADDRESS,
    &crate::networking::network_policy::NETWORK_POLICY,
    &crate::networking::service_cidr::SERVICE_CIDR,
    &crate::policy::pod_disruption_budget::POD_DISRUPTION_BUDGET,
    &crate::rbac::cluster_role_binding::CLUSTER_ROLE_BINDING,
    &crate::rbac::cluster_role::CLUSTER_ROLE,
    &crate::rbac::role_binding::ROLE_BINDING,
    &crate::rbac::role::ROLE,
    &crate::storage::csi_driver::CSI_DRIVER,
    &crate::storage::csi_node::CSI_NODE,
    &crate::storage::csi_storage_capacity::CSI_STORAGE_CAPACITY,
    &crate::storage::storage_class::STORAGE_CLASS,
    &crate::storage::volume_attachment::VOLUME_ATTACHMENT,
    &crate::storage::volume_attributes_class::VOLUME_ATTRIBUTES_CLASS,
    &crate::admissionregistration::mutating_admission_policy::MUTATING_ADMISSION_POLICY,
    &crate::admissionregistration::mutating_admission_policy_binding::MUTATING_ADMISSION_POLICY_BINDING,
    &crate::admissionregistration::mutating_webhook_configuration::MUTATING_WEBHOOK_CONFIGURATION,
    &crate::admissionregistration::validating_admission_policy::VALIDATING_ADMISSION_POLICY,
    &crate::admissionregistration::validating_admission_policy_binding::VALIDATING_ADMISSION_POLICY_BINDING,
    &crate::admissionregistration::validating_webhook_configuration::VALIDATING_WEBHOOK_CONFIGURATION,
    &crate::apiextensions::custom_resource_definition::CUSTOM_RESOURCE_DEFINITION,
    &crate::scheduling::priority_class::PRIORITY_CLASS,
    &crate::coordination::lease::LEASE,
    &crate::node::runtime_class::RUNTIME_CLASS,
    &crate::discovery::endpoint_slice::ENDPOINT_SLICE,
    &crate::resource::device_class::DEVICE_CLASS,
    &crate::resource::device_taint_rule::DEVICE_TAINT_RULE,
    &crate::resource::resource_claim::RESOURCE_CLAIM,
    &crate::resource::resource_claim_template::RESOURCE_CLAIM_TEMPLATE,
    &crate::resource::resource_slice::RESOURCE_SLICE,
    &crate::flowcontrol::flow_schema::FLOW_SCHEMA,
    &crate::flowcontrol::priority_level_configuration::PRIORITY_LEVEL_CONFIGURATION,
    &crate::storagemigration::storage_version_migration::STORAGE_VERSION_MIGRATION,
];

/// The built-in kind a resource of a group and version names.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.group == group && kind.version == version && kind.names.plural == plural)
}

/// The built-in kind of a group, version and kind.
pub fn by_kind(group: &str, version: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.group == group && kind.version == version && kind.names.kind == name)
}
