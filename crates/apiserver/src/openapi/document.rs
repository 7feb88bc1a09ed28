//! A document as it is written: part by part, for as a tree it would take many times its length.

use serde_json::{Value, json};

use super::Form;

/// Where the parts of a document go.
pub trait Sink {
    fn path(&mut self, path: &str, item: &Value);
    fn schema(&mut self, name: &str, schema: &Value);
    /// One of the parameters that the older format shares.
    fn parameter(&mut self, name: &str, parameter: &Value);
}

/// What a document says besides its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub title: &'static str,
    pub version: &'static str,
    /// Whether it says how to authenticate.
    pub secured: bool,
}

impl Head {
    pub const SERVER: Head = Head { title: "Kubernetes", version: "1.37", secured: true };
    /// `kubernetes/apiextensions-apiserver pkg/controller/openapi/builder: getOpenAPIV3Config`.
    pub const CUSTOM: Head = Head { title: "Kubernetes CRD Swagger", version: "v0.1.0", secured: false };

    pub fn info(&self) -> Value {
        json!({ "title": self.title, "version": self.version })
    }
}

/// How to authenticate, in either format.
pub fn security_schemes() -> Value {
    let words = "a bearer token in the header Authorization";
    json!({ "BearerToken": { "description": words, "type": "apiKey", "name": "authorization", "in": "header" } })
}

/// The members of a JSON object.
#[derive(Default)]
struct Members(Vec<u8>);

impl Members {
    fn add(&mut self, name: &str, value: &Value) {
        self.add_text(name, value.to_string().as_bytes());
    }

    fn add_text(&mut self, name: &str, value: &[u8]) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.extend_from_slice(Value::from(name).to_string().as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(value);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        self.0
    }
}

/// A document as JSON text.
#[derive(Default)]
pub struct Text {
    paths: Members,
    schemas: Members,
    parameters: Members,
}

impl Sink for Text {
    fn path(&mut self, path: &str, item: &Value) {
        self.paths.add(path, item);
    }

    fn schema(&mut self, name: &str, schema: &Value) {
        self.schemas.add(name, schema);
    }

    fn parameter(&mut self, name: &str, parameter: &Value) {
        self.parameters.add(name, parameter);
    }
}

impl Text {
    pub fn finish(self, form: Form, head: &Head) -> Vec<u8> {
        let mut whole = Members::default();
        whole.add("info", &head.info());
        whole.add_text("paths", &self.paths.finish());
        match form {
            Form::V2 => {
                whole.add("swagger", &json!("2.0"));
                whole.add("security", &json!([{ "BearerToken": [] }]));
                whole.add("securityDefinitions", &security_schemes());
                whole.add_text("parameters", &self.parameters.finish());
                whole.add_text("definitions", &self.schemas.finish());
            }
            Form::V3 => {
                whole.add("openapi", &json!("3.0.0"));
                let mut components = Members::default();
                if !self.schemas.0.is_empty() {
                    components.add_text("schemas", &self.schemas.finish());
                }
                if head.secured {
                    components.add("securitySchemes", &security_schemes());
                }
                whole.add_text("components", &components.finish());
            }
        }
        whole.finish()
    }
}
