//! An operation and its path, and how either format tells them.
//!
//! `kubernetes/kube-openapi pkg/builder, pkg/builder3: what the operations of a path have in common is told once, sorted`.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use kinds::parameters::{self, Parameter};
use machinery::gvk::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::Form;
use super::schemas::reference;

/// What an operation answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    Definition(String),
    /// A stream, or whatever another server answers.
    Text,
}

/// What an operation takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub definition: String,
    pub required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Path,
    Query,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Query => "query",
        }
    }
}

/// A parameter, and where it stands.
pub type Placed = (Place, &'static Parameter);

/// The name of an object, which is never shared: upstream describes it by the kind.
const NAME: &Parameter = &Parameter { name: "name", of: "string", mark: "" };

/// One parameter of no options: in the path, or `pretty`.
pub fn placed(place: Place, name: &str) -> Option<Placed> {
    let known = if name == NAME.name { Some(NAME) } else { parameters::find(place.name(), name) };
    known.map(|parameter| (place, parameter))
}

#[derive(Debug, Clone)]
pub struct Operation {
    /// The HTTP method in small letters, as both formats call it.
    pub method: &'static str,
    pub id: String,
    pub tag: String,
    pub words: String,
    pub parameters: Vec<Placed>,
    pub body: Option<Body>,
    pub consumes: &'static [&'static str],
    pub produces: Vec<&'static str>,
    /// The codes of success.
    pub codes: &'static [u16],
    pub model: Model,
    /// What it does, and to which kind; none for what is no resource.
    pub about: Option<(&'static str, GroupVersionKind)>,
}

/// A path with its operations.
#[derive(Debug)]
pub struct Item {
    pub path: String,
    pub operations: Vec<Operation>,
}

/// What the operations written so far refer to.
#[derive(Default)]
pub struct Referred {
    pub definitions: BTreeSet<String>,
    /// The parameters that the older format shares, by their names there.
    pub parameters: BTreeMap<String, Value>,
}

impl Item {
    pub fn write(&self, form: Form, referred: &mut Referred) -> Value {
        let common = self.common();
        let mut item = Map::new();
        for operation in &self.operations {
            item.insert(operation.method.to_owned(), operation.write(&common, form, referred));
        }
        if !common.is_empty() {
            let common = common.iter().map(|one| write(*one, form, referred));
            item.insert("parameters".to_owned(), common.collect());
        }
        Value::Object(item)
    }

    /// The parameters of all operations, sorted by name and place.
    fn common(&self) -> Vec<Placed> {
        let Some((first, others)) = self.operations.split_first() else { return Vec::new() };
        let takes = |operation: &Operation, (place, parameter): Placed| {
            operation.parameters.iter().any(|(at, known)| (*at, known.name) == (place, parameter.name))
        };
        let mut common = first.parameters.clone();
        common.retain(|one| others.iter().all(|operation| takes(operation, *one)));
        sort(&mut common);
        common
    }
}

fn sort(parameters: &mut [Placed]) {
    parameters.sort_by_key(|(place, parameter)| (parameter.name, *place));
}

fn write((place, parameter): Placed, form: Form, referred: &mut Referred) -> Value {
    let (name, of) = (parameter.name, parameter.of);
    let mut told = match form {
        Form::V2 => json!({ "name": name, "in": place.name(), "type": of, "uniqueItems": true }),
        Form::V3 => json!({ "name": name, "in": place.name(), "schema": { "type": of, "uniqueItems": true } }),
    };
    if place == Place::Path {
        told["required"] = json!(true);
    }
    share(name, parameter.mark, told, form, referred)
}

/// The older format tells most parameters once, and refers to them.
fn share(name: &str, mark: &str, told: Value, form: Form, referred: &mut Referred) -> Value {
    if form == Form::V3 || mark.is_empty() {
        return told;
    }
    let name = format!("{name}-{mark}");
    let reference = json!({ "$ref": format!("#/parameters/{name}") });
    referred.parameters.insert(name, told);
    reference
}

impl Operation {
    fn write(&self, common: &[Placed], form: Form, referred: &mut Referred) -> Value {
        let mut own = self.parameters.clone();
        own.retain(|(place, one)| !common.iter().any(|(at, known)| (*at, known.name) == (*place, one.name)));
        sort(&mut own);
        let mut parameters: Vec<Value> = own.iter().map(|one| write(*one, form, referred)).collect();
        let mut told = json!({ "description": self.words, "operationId": self.id, "tags": [self.tag] });
        if form == Form::V2 {
            told["schemes"] = json!(["https"]);
            told["produces"] = json!(self.produces);
            if !self.consumes.is_empty() {
                told["consumes"] = json!(self.consumes);
            }
        }
        if let Some(body) = &self.body {
            referred.definitions.insert(body.definition.clone());
            match form {
                Form::V2 => {
                    // Sorted by name too, and none sorts before it.
                    let at = own.iter().take_while(|(_, one)| one.name < "body").count();
                    parameters.insert(at, body.parameter(referred));
                }
                Form::V3 => told["requestBody"] = body.content(self.consumes),
            }
        }
        if !parameters.is_empty() {
            told["parameters"] = Value::Array(parameters);
        }
        told["responses"] = self.responses(form, referred);
        if let Some((action, kind)) = &self.about {
            told["x-kubernetes-action"] = json!(action);
            told["x-kubernetes-group-version-kind"] =
                json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        }
        told
    }

    fn responses(&self, form: Form, referred: &mut Referred) -> Value {
        let schema = match &self.model {
            Model::Definition(name) => {
                referred.definitions.insert(name.clone());
                reference(name, form)
            }
            Model::Text => json!({ "type": "string" }),
        };
        let mut responses = Map::new();
        for code in self.codes {
            let mut response = json!({ "description": meaning(*code) });
            match form {
                Form::V2 => response["schema"] = schema.clone(),
                Form::V3 => response["content"] = content(&self.produces, &schema),
            }
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".to_owned(), json!({ "description": meaning(401) }));
        Value::Object(responses)
    }
}

impl Body {
    fn parameter(&self, referred: &mut Referred) -> Value {
        let mut told = json!({ "name": "body", "in": "body", "schema": reference(&self.definition, Form::V2) });
        if self.required {
            told["required"] = json!(true);
        }
        let short = self.definition.rsplit('.').next().unwrap_or_default();
        let mark = parameters::find("body", short).map_or("", |known| known.mark);
        share("body", mark, told, Form::V2, referred)
    }

    fn content(&self, consumes: &[&str]) -> Value {
        let mut told = json!({ "content": content(consumes, &reference(&self.definition, Form::V3)) });
        if self.required {
            told["required"] = json!(true);
        }
        told
    }
}

fn content(media: &[&str], schema: &Value) -> Value {
    media.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect()
}

fn meaning(code: u16) -> &'static str {
    StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default()
}
