//! The operations of a kind, as OpenAPI paths.

use std::collections::BTreeSet;

use kinds::kind::SchemaSource;
use kinds::{Kind, Subresource, Verbs};
use serde_json::{Map, Value, json};

use super::custom;
use super::schemas::reference;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Adds the kind's paths; `wanted` collects the schemas they name.
pub fn add(kind: &Kind, paths: &mut Map<String, Value>, wanted: &mut BTreeSet<String>) {
    for name in ["Patch", "DeleteOptions", "Status"] {
        wanted.insert(format!("{META}.{name}"));
    }
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let plural = &kind.names.plural;
    let collection = if kind.namespaced() {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let operations = Operations { kind, schema: schema_name(kind) };
    let mut item = operations.of_collection();
    if item.as_object().is_some_and(|map| map.len() > 1) {
        paths.insert(collection.clone(), item);
    }
    if kind.namespaced() && kind.verbs.has(Verbs::LIST) {
        let mut all = operations.parameters(&["pretty"]);
        all["get"] = operations.operation("list", "list", true, None);
        paths.insert(format!("{root}/{plural}"), all);
    }
    item = operations.of_object();
    if item.as_object().is_some_and(|map| map.len() > 1) {
        paths.insert(format!("{collection}/{{name}}"), item);
    }
    for subresource in kind.subresources.iter() {
        let path = format!("{collection}/{{name}}/{}", subresource.name());
        if let Some(value) = operations.of_subresource(subresource) {
            paths.insert(path, value);
        }
    }
}

fn schema_name(kind: &Kind) -> String {
    match &kind.schema {
        SchemaSource::Facts(name) => (*name).to_owned(),
        SchemaSource::Custom(_) => custom::name(kind),
    }
}

struct Operations<'a> {
    kind: &'a Kind,
    schema: String,
}

fn parameter(name: &str, place: &str, of: &str) -> Value {
    let mut parameter = json!({ "name": name, "in": place, "schema": { "type": of, "uniqueItems": true } });
    if place == "path" {
        parameter["required"] = json!(true);
    }
    parameter
}

/// Query parameters of each verb, with their types.
fn query(verb: &str) -> Vec<Value> {
    let named = |list: &[(&str, &str)]| list.iter().map(|(name, of)| parameter(name, "query", of)).collect();
    match verb {
        "list" | "watch" | "deletecollection" => named(&[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ]),
        "post" | "put" => named(&[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]),
        "patch" => named(&[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
            ("force", "boolean"),
        ]),
        "delete" => named(&[
            ("dryRun", "string"),
            ("gracePeriodSeconds", "integer"),
            ("orphanDependents", "boolean"),
            ("propagationPolicy", "string"),
        ]),
        _ => Vec::new(),
    }
}

impl Operations<'_> {
    /// A path with the parameters that all of its operations share.
    fn parameters(&self, names: &[&str]) -> Value {
        let mut parameters = Vec::new();
        for name in names {
            match *name {
                "namespace" if !self.kind.namespaced() => {}
                "name" | "namespace" => parameters.push(parameter(name, "path", "string")),
                other => parameters.push(parameter(other, "query", "string")),
            }
        }
        json!({ "parameters": parameters })
    }

    fn of_collection(&self) -> Value {
        let mut path = self.parameters(&["namespace", "pretty"]);
        let has = |verb| self.kind.verbs.has(verb);
        if has(Verbs::LIST) {
            path["get"] = self.operation("list", "list", true, None);
        }
        if has(Verbs::CREATE) {
            path["post"] = self.operation("create", "post", false, None);
        }
        if has(Verbs::DELETE_COLLECTION) {
            path["delete"] = self.operation("deleteCollection", "deletecollection", false, None);
        }
        path
    }

    fn of_object(&self) -> Value {
        let mut path = self.parameters(&["name", "namespace", "pretty"]);
        let has = |verb| self.kind.verbs.has(verb);
        if has(Verbs::GET) {
            path["get"] = self.operation("read", "get", false, None);
        }
        if has(Verbs::UPDATE) {
            path["put"] = self.operation("replace", "put", false, None);
        }
        if has(Verbs::PATCH) {
            path["patch"] = self.operation("patch", "patch", false, None);
        }
        if has(Verbs::DELETE) {
            path["delete"] = self.operation("delete", "delete", false, None);
        }
        path
    }

    /// Streams have no schema to show.
    fn of_subresource(&self, subresource: &Subresource) -> Option<Value> {
        let mut path = self.parameters(&["name", "namespace", "pretty"]);
        match subresource {
            Subresource::Log
            | Subresource::Exec
            | Subresource::Attach
            | Subresource::PortForward
            | Subresource::Proxy => return None,
            Subresource::Binding | Subresource::Eviction | Subresource::Token => {
                path["post"] = self.operation("create", "post", false, Some(subresource));
            }
            Subresource::Finalize => path["put"] = self.operation("replace", "put", false, Some(subresource)),
            _ => {
                path["get"] = self.operation("read", "get", false, Some(subresource));
                path["put"] = self.operation("replace", "put", false, Some(subresource));
                path["patch"] = self.operation("patch", "patch", false, Some(subresource));
            }
        }
        Some(path)
    }

    fn operation(&self, action: &str, verb: &str, list: bool, subresource: Option<&Subresource>) -> Value {
        let kind = &self.kind.names.kind;
        let answer = if list { format!("{}List", self.schema) } else { self.schema.clone() };
        let answer = if verb == "delete" || verb == "deletecollection" { format!("{META}.Status") } else { answer };
        let group =
            if self.kind.group.is_empty() { "core" } else { self.kind.group.split('.').next().unwrap_or_default() };
        let scope = if self.kind.namespaced() { "Namespaced" } else { "" };
        let part = subresource.map(|sub| upper_first(sub.name())).unwrap_or_default();
        let all = if list && self.kind.namespaced() { "" } else { scope };
        let mut operation = json!({
            "tags": [format!("{group}_{}", self.kind.version)],
            "description": format!("{action} the specified {kind}"),
            "operationId": format!("{action}{}{}{all}{kind}{part}", upper_first(group), upper_first(&self.kind.version)),
            "parameters": query(verb),
            "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": reference(&answer) } } } },
            "x-kubernetes-action": verb,
            "x-kubernetes-group-version-kind": { "group": self.kind.group, "version": self.kind.version, "kind": kind },
        });
        match verb {
            "post" | "put" => {
                operation["requestBody"] =
                    json!({ "required": true, "content": { "*/*": { "schema": reference(&self.schema) } } })
            }
            "delete" | "deletecollection" => {
                let options = reference(&format!("{META}.DeleteOptions"));
                operation["requestBody"] = json!({ "content": { "*/*": { "schema": options } } });
            }
            "patch" => {
                let patch = json!({ "schema": reference(&format!("{META}.Patch")) });
                let mut content = json!({});
                for media in
                    ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
                {
                    content[media] = patch.clone();
                }
                if matches!(self.kind.schema, SchemaSource::Facts(_)) {
                    content["application/strategic-merge-patch+json"] = patch;
                }
                operation["requestBody"] = json!({ "required": true, "content": content });
            }
            _ => {}
        }
        operation
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}
