//! Which requests a webhook or a policy is about: rules, a namespace selector and an object selector.
//!
//! `kubernetes/apiserver pkg/admission/plugin/webhook/predicates` and `.../policy/matching`: the order of the questions.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{MatchResources, NamedRuleWithOperations, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::gvk::{GroupVersionKind, GroupVersionResource};
use machinery::labels::Selector;
use machinery::object;
use machinery::status::Status;
use serde_json::Value;

use super::{Subject, Surroundings};
use crate::admission::Operation;

/// Another name of a resource, with the kind of the object that it takes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivalent {
    pub resource: GroupVersionResource,
    pub kind: GroupVersionKind,
}

/// The version of the request that a rule named.
pub type Matched = Equivalent;

/// Operations on resources.
#[derive(Clone, Debug, Default)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    /// `pods`, `pods/log`, `*`, `*/*`.
    resources: Vec<String>,
    operations: Vec<String>,
    scope: Option<String>,
    /// Empty: of any name.
    names: Vec<String>,
}

/// What a webhook or a policy says of the requests it is about.
#[derive(Clone, Debug)]
pub struct Criteria {
    /// `None`: every request.
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    /// A rule for one version stands for the others too.
    equivalent: bool,
    namespaces: Result<Selector, String>,
    objects: Result<Selector, String>,
}

impl Criteria {
    pub fn of_webhook(
        rules: &[RuleWithOperations],
        match_policy: Option<&str>,
        namespaces: Option<&LabelSelector>,
        objects: Option<&LabelSelector>,
    ) -> Criteria {
        Criteria {
            rules: Some(rules.iter().map(Rule::from).collect()),
            excluded: Vec::new(),
            equivalent: match_policy != Some("Exact"),
            namespaces: selector(namespaces),
            objects: selector(objects),
        }
    }

    /// A policy without rules is about everything that its selectors let pass.
    pub fn of_policy(resources: &MatchResources) -> Criteria {
        let rules = |named: &Option<Vec<NamedRuleWithOperations>>| -> Vec<Rule> {
            named.iter().flatten().map(Rule::from).collect()
        };
        Criteria {
            rules: Some(rules(&resources.resource_rules)).filter(|rules| !rules.is_empty()),
            excluded: rules(&resources.exclude_resource_rules),
            equivalent: resources.match_policy.as_deref() != Some("Exact"),
            namespaces: selector(resources.namespace_selector.as_ref()),
            objects: selector(resources.object_selector.as_ref()),
        }
    }

    /// The version to speak to it in, if the request concerns it. A namespace that is not there is told only when the
    /// rest fits.
    pub fn matches(
        &self,
        subject: &Subject<'_>,
        around: &dyn Surroundings,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Option<Matched>, Status> {
        let namespace = self.in_namespace(subject, around, new);
        if namespace == Ok(false) || !self.selects(new, old)? {
            return Ok(None);
        }
        if self.excluded.iter().any(|rule| self.find(rule, subject, around).is_some()) {
            return Ok(None);
        }
        let own = || Equivalent { resource: subject.resource.clone(), kind: subject.kind.clone() };
        let matched = match &self.rules {
            None => Some(own()),
            Some(rules) if rules.iter().any(|rule| rule.matches(subject, &subject.resource)) => Some(own()),
            Some(rules) => rules.iter().find_map(|rule| self.find(rule, subject, around)),
        };
        namespace.map(|_| matched)
    }

    /// The name of the request's resource that a rule is for.
    fn find(&self, rule: &Rule, subject: &Subject<'_>, around: &dyn Surroundings) -> Option<Equivalent> {
        if rule.matches(subject, &subject.resource) {
            return Some(Equivalent { resource: subject.resource.clone(), kind: subject.kind.clone() });
        }
        // Whatever else the rule asks for holds in every version.
        if !self.equivalent || !rule.concerns(subject) {
            return None;
        }
        let others = around.equivalents(&subject.resource, subject.subresource);
        others.into_iter().find(|other| rule.matches(subject, &other.resource))
    }

    fn selects(&self, new: Option<&Value>, old: Option<&Value>) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        if *selector == Selector::everything() {
            return Ok(true);
        }
        let empty = serde_json::Map::new();
        let fits = |object: &Value| selector.matches(object::labels(object).unwrap_or(&empty));
        Ok(new.is_some_and(fits) || old.is_some_and(fits))
    }

    fn in_namespace(
        &self,
        subject: &Subject<'_>,
        around: &dyn Surroundings,
        new: Option<&Value>,
    ) -> Result<bool, Status> {
        let is_namespace = &*subject.resource.resource == "namespaces";
        if subject.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if *selector == Selector::everything() {
            return Ok(true);
        }
        let written = matches!(subject.operation, Operation::Create | Operation::Update);
        if is_namespace && subject.subresource.is_empty() && written {
            let empty = serde_json::Map::new();
            return Ok(selector.matches(new.and_then(object::labels).unwrap_or(&empty)));
        }
        let found = around.namespace(subject.namespace)?;
        let none = BTreeMap::new();
        Ok(selector.matches(found.metadata.labels.as_ref().unwrap_or(&none)))
    }
}

/// A selector as its configuration has it; none selects everything.
fn selector(written: Option<&LabelSelector>) -> Result<Selector, String> {
    match written {
        None => Ok(Selector::everything()),
        Some(written) => {
            let value = serde_json::to_value(written).map_err(|error| error.to_string())?;
            Selector::from_label_selector(Some(&value))
        }
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>, resource: &GroupVersionResource) -> bool {
        self.concerns(subject)
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.resources.iter().any(|named| {
                let (name, subresource) = named.split_once('/').unwrap_or((named, ""));
                matches!(name, "*") | (name == &*resource.resource)
                    && (subresource == "*" || subresource == subject.subresource)
            })
    }

    /// What a rule asks for besides the resource.
    fn concerns(&self, subject: &Subject<'_>) -> bool {
        // A namespace is itself of the cluster.
        let cluster = subject.namespace.is_empty()
            || (subject.resource.group.is_empty() && &*subject.resource.resource == "namespaces");
        let scope = match self.scope.as_deref() {
            None | Some("*") => true,
            Some("Namespaced") => !cluster,
            Some("Cluster") => cluster,
            Some(_) => false,
        };
        scope
            && has(&self.operations, subject.operation.name())
            && (self.names.is_empty() || self.names.iter().any(|name| name == subject.name))
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl From<&RuleWithOperations> for Rule {
    fn from(rule: &RuleWithOperations) -> Rule {
        Rule {
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            operations: rule.operations.clone().unwrap_or_default(),
            scope: rule.scope.clone(),
            names: Vec::new(),
        }
    }
}

impl From<&NamedRuleWithOperations> for Rule {
    fn from(rule: &NamedRuleWithOperations) -> Rule {
        let NamedRuleWithOperations { api_groups, api_versions, operations, resource_names, resources, scope } =
            rule.clone();
        let unnamed = RuleWithOperations { api_groups, api_versions, operations, resources, scope };
        Rule { names: resource_names.unwrap_or_default(), ..Rule::from(&unnamed) }
    }
}
