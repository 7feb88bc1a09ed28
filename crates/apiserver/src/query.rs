//! The query string and the typed options that verbs read from it.

use std::time::Duration;

use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use machinery::gvk::GroupKind;
use machinery::status::Status;
use serde_json::Value;

use crate::request_info::percent_decode;

/// The parameters of a request, in the order given.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits an `application/x-www-form-urlencoded` query.
    pub fn parse(text: &str) -> Query {
        let decode = |part: &str| percent_decode(&part.replace('+', " "));
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        };
        Query(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name` that is not empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// A flag, as upstream's conversion reads one: `false` and `0` say no, anything else says yes.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => value
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing \"{value}\": invalid syntax"))),
        }
    }
}

/// How an unset `resourceVersion` and its match rule choose what a list may answer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Unset,
    NotOlderThan,
    Exact,
}

/// The parameters of list, watch and deletecollection.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: Option<String>,
    pub version_match: VersionMatch,
    pub limit: usize,
    pub continue_token: Option<String>,
    pub timeout: Option<Duration>,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and cross-checks them.
    /// `kubernetes/apimachinery pkg/apis/meta/internalversion/validation: ValidateListOptions`.
    pub fn parse(query: &Query, watch: bool) -> Result<ListOptions, Status> {
        let version_match = match query.get("resourceVersionMatch").unwrap_or_default() {
            "" => VersionMatch::Unset,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            "Exact" => VersionMatch::Exact,
            other => {
                let path = Path::new("resourceVersionMatch");
                return Err(invalid(
                    "ListOptions",
                    FieldError::not_supported(&path, other, &["Exact", "NotOlderThan", ""]),
                ));
            }
        };
        let options = ListOptions {
            label_selector: query.text("labelSelector").unwrap_or_default(),
            field_selector: query.text("fieldSelector").unwrap_or_default(),
            resource_version: query.text("resourceVersion"),
            version_match,
            limit: query.number("limit")?.map_or(0, |limit| usize::try_from(limit).unwrap_or(0)),
            continue_token: query.text("continue"),
            timeout: query.number("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        options.check(watch)?;
        Ok(options)
    }

    fn check(&self, watch: bool) -> Result<(), Status> {
        if watch {
            return match (self.send_initial_events, self.version_match) {
                (Some(_), VersionMatch::NotOlderThan) | (None, VersionMatch::Unset) => Ok(()),
                (Some(_), _) => Err(invalid(
                    "ListOptions",
                    FieldError::forbidden(
                        &Path::new("resourceVersionMatch"),
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    ),
                )),
                (None, _) => Err(invalid(
                    "ListOptions",
                    FieldError::forbidden(
                        &Path::new("resourceVersionMatch"),
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    ),
                )),
            };
        }
        if self.send_initial_events.is_some() {
            return Err(invalid(
                "ListOptions",
                FieldError::forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list"),
            ));
        }
        if self.version_match == VersionMatch::Unset {
            return Ok(());
        }
        let version = self.resource_version.as_deref().unwrap_or_default();
        if version.is_empty() {
            return Err(invalid(
                "ListOptions",
                FieldError::forbidden(
                    &Path::new("resourceVersionMatch"),
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ),
            ));
        }
        if self.continue_token.is_some() {
            return Err(invalid(
                "ListOptions",
                FieldError::forbidden(
                    &Path::new("resourceVersionMatch"),
                    "resourceVersionMatch is forbidden when continue is provided",
                ),
            ));
        }
        if self.version_match == VersionMatch::Exact && version == "0" {
            return Err(invalid(
                "ListOptions",
                FieldError::forbidden(
                    &Path::new("resourceVersionMatch"),
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ),
            ));
        }
        Ok(())
    }
}

/// A refusal of options, by the name of their kind.
pub fn invalid(kind: &str, error: FieldError) -> Status {
    Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", &FieldErrors(vec![error]))
}

/// What a write does with fields the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The parameters of create, update and patch.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    pub field_manager: String,
    pub force: bool,
}

impl WriteOptions {
    /// Reads them; the field manager falls back to the user agent's first word.
    /// `kubernetes/apiserver pkg/endpoints/handlers/create.go: managerOrUserAgent`.
    pub fn parse(query: &Query, user_agent: &str, verb: &str) -> Result<WriteOptions, Status> {
        let kind = match verb {
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            _ => "CreateOptions",
        };
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let path = Path::new("fieldValidation");
                let known = ["", "Ignore", "Strict", "Warn"];
                return Err(invalid(kind, FieldError::not_supported(&path, other, &known)));
            }
        };
        let manager = query.text("fieldManager");
        if manager.as_ref().is_some_and(|name| name.len() > 128) {
            return Err(invalid(kind, FieldError::too_long(&Path::new("fieldManager"), 128)));
        }
        let agent = || user_agent.split('/').next().unwrap_or_default().chars().take(128).collect();
        Ok(WriteOptions {
            dry_run: dry_run(query, kind)?,
            field_validation,
            field_manager: manager.unwrap_or_else(agent),
            force: query.flag("force"),
        })
    }
}

/// `dryRun=All` is the only stage there is. `kind` names the options that a refusal is about.
pub fn dry_run(query: &Query, kind: &str) -> Result<bool, Status> {
    let stages: Vec<&str> = query.all("dryRun").filter(|stage| !stage.is_empty()).collect();
    check_dry_run(&stages, kind)
}

fn check_dry_run(stages: &[&str], kind: &str) -> Result<bool, Status> {
    if stages.iter().any(|stage| *stage != "All") {
        let shown = BadValue::json(&stages);
        return Err(invalid(kind, FieldError::not_supported(&Path::new("dryRun"), shown, &["All"])));
    }
    Ok(!stages.is_empty())
}

/// What becomes of an object's dependents when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// The parameters of delete, from the query and, where it is given, the body.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    /// The old way to say it.
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// A body wins over the query, as upstream decodes one or the other; only a dry run may be asked for in either. The
    /// body must have been decoded as what it is: a value of another type is not looked for here.
    pub fn parse(query: &Query, body: Option<&Value>) -> Result<DeleteOptions, Status> {
        let mut options = DeleteOptions { dry_run: dry_run(query, "DeleteOptions")?, ..DeleteOptions::default() };
        let policy = match body {
            Some(body) => options.read_body(body)?,
            None => {
                options.grace_seconds = query.number("gracePeriodSeconds")?;
                options.orphan_dependents = query.get("orphanDependents").map(|_| query.flag("orphanDependents"));
                query.text("propagationPolicy")
            }
        };
        let path = Path::new("propagationPolicy");
        options.propagation = match (policy.as_deref(), options.orphan_dependents) {
            (None, None) => None,
            (None, Some(true)) => Some(Propagation::Orphan),
            (None, Some(false)) => Some(Propagation::Background),
            (Some("Orphan"), None) => Some(Propagation::Orphan),
            (Some("Background"), None) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (Some(policy), Some(_)) => {
                let words = "orphanDependents and deletionPropagation cannot be both set";
                return Err(invalid("DeleteOptions", FieldError::invalid(&path, policy, words)));
            }
            (Some(other), None) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                return Err(invalid("DeleteOptions", FieldError::not_supported(&path, other, &known)));
            }
        };
        if options.grace_seconds.is_some_and(|seconds| seconds < 0) {
            // Upstream reads a negative grace period as one second.
            options.grace_seconds = Some(1);
        }
        Ok(options)
    }

    /// As admission shows them.
    pub fn to_json(&self) -> Value {
        let mut options = serde_json::json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                options[field] = value;
            }
        };
        set("gracePeriodSeconds", self.grace_seconds.map(Value::from));
        set("orphanDependents", self.orphan_dependents.map(Value::from));
        set("propagationPolicy", self.propagation.map(|policy| Value::from(format!("{policy:?}"))));
        set("dryRun", self.dry_run.then(|| serde_json::json!(["All"])));
        let wanted = [("uid", &self.uid), ("resourceVersion", &self.resource_version)];
        let wanted =
            wanted.iter().filter_map(|(name, value)| Some(((*name).to_owned(), Value::from((*value).clone()?))));
        let wanted: serde_json::Map<String, Value> = wanted.collect();
        set("preconditions", (!wanted.is_empty()).then_some(Value::Object(wanted)));
        options
    }

    /// Takes over what a body says; answers the propagation policy.
    fn read_body(&mut self, body: &Value) -> Result<Option<String>, Status> {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        self.grace_seconds = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        self.uid = text("/preconditions/uid");
        self.resource_version = text("/preconditions/resourceVersion");
        self.orphan_dependents = body.get("orphanDependents").and_then(Value::as_bool);
        let stages = body.get("dryRun").and_then(Value::as_array).into_iter().flatten();
        let stages: Vec<&str> = stages.filter_map(Value::as_str).collect();
        self.dry_run |= check_dry_run(&stages, "DeleteOptions")?;
        Ok(text("/propagationPolicy"))
    }
}
