//! The OpenAPI v2 document as `gnostic`'s protobuf, the one form in which `kubectl` asks for it.
//!
//! `google/gnostic-models openapiv2/OpenAPIv2.proto`: the field numbers.

use serde_json::{Map, Value};

use super::document::{self, Head, Sink};

/// The media type as it is answered with; `kubectl` asks for it with an `@` before the version.
pub const MEDIA: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Whether a media type is this one, in either spelling.
pub fn is_media(name: &str) -> bool {
    name == MEDIA || name == "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
}

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }

    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, value: Option<&Value>) {
        for text in value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn double(&mut self, field: u64, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_f64).filter(|number| *number != 0.0) {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn integer(&mut self, field: u64, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_u64).filter(|number| *number != 0) {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    /// `Any`: the value as YAML, of which JSON is a part.
    fn any(&mut self, field: u64, value: Option<&Value>) {
        if let Some(value) = value {
            let mut any = Message::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(field, &any);
        }
    }

    /// A `NamedX` message.
    fn named(&mut self, field: u64, name: &str, value: &Message) {
        let mut named = Message::default();
        named.bytes(1, name.as_bytes());
        named.message(2, value);
        self.message(field, &named);
    }

    fn extensions(&mut self, field: u64, object: &Map<String, Value>) {
        for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Message::default();
            any.bytes(2, value.to_string().as_bytes());
            self.named(field, name, &any);
        }
    }
}

/// A document being written.
#[derive(Default)]
pub struct Document {
    paths: Message,
    definitions: Message,
    parameters: Message,
}

impl Sink for Document {
    fn path(&mut self, path: &str, item: &Value) {
        self.paths.named(2, path, &path_item(item));
    }

    fn schema(&mut self, name: &str, of: &Value) {
        self.definitions.named(1, name, &schema(of));
    }

    fn parameter(&mut self, name: &str, parameter: &Value) {
        self.parameters.named(1, name, &parameter_message(parameter));
    }
}

impl Document {
    pub fn finish(self, head: &Head) -> Vec<u8> {
        let mut out = Message::default();
        out.text(1, Some(&Value::from("2.0")));
        let (told, mut info) = (head.info(), Message::default());
        info.text(1, told.get("title"));
        info.text(2, told.get("version"));
        out.message(2, &info);
        out.message(8, &self.paths);
        out.message(9, &self.definitions);
        out.message(10, &self.parameters);
        let (schemes, mut requirement, mut schemes_message) =
            (document::security_schemes(), Message::default(), Message::default());
        for (name, scheme) in entries(Some(&schemes)) {
            requirement.named(1, name, &Message::default());
            let (mut key, mut item) = (Message::default(), Message::default());
            for (field, part) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
                key.text(field, scheme.get(part));
            }
            item.message(2, &key);
            schemes_message.named(1, name, &item);
        }
        out.message(12, &requirement);
        out.message(13, &schemes_message);
        out.0
    }
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn path_item(item: &Value) -> Message {
    const VERBS: [(&str, u64); 7] =
        [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];
    let mut out = Message::default();
    for (verb, field) in VERBS {
        if let Some(Value::Object(object)) = item.get(verb) {
            out.message(field, &operation(object));
        }
    }
    parameters(&mut out, 9, item.get("parameters"));
    out
}

fn operation(object: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    out.texts(1, object.get("tags"));
    out.text(3, object.get("description"));
    out.text(5, object.get("operationId"));
    out.texts(6, object.get("produces"));
    out.texts(7, object.get("consumes"));
    parameters(&mut out, 8, object.get("parameters"));
    out.texts(10, object.get("schemes"));
    let mut responses = Message::default();
    for (code, response) in entries(object.get("responses")) {
        let mut inner = Message::default();
        inner.text(1, response.get("description"));
        if let Some(of) = response.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(of));
            inner.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &inner);
        responses.named(1, code, &value);
    }
    out.message(9, &responses);
    out.extensions(13, object);
    out
}

fn parameters(out: &mut Message, field: u64, list: Option<&Value>) {
    for parameter in list.and_then(Value::as_array).into_iter().flatten() {
        let mut item = Message::default();
        match parameter.get("$ref") {
            Some(_) => {
                let mut reference = Message::default();
                reference.text(1, parameter.get("$ref"));
                item.message(2, &reference);
            }
            None => item.message(1, &parameter_message(parameter)),
        }
        out.message(field, &item);
    }
}

fn parameter_message(parameter: &Value) -> Message {
    let mut wrapped = Message::default();
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
    if place == "body" {
        let mut body = Message::default();
        body.text(1, parameter.get("description"));
        body.text(2, parameter.get("name"));
        body.text(3, parameter.get("in"));
        body.flag(4, parameter.get("required"));
        if let Some(of) = parameter.get("schema") {
            body.message(5, &schema(of));
        }
        wrapped.message(1, &body);
        return wrapped;
    }
    let (choice, shift) = if place == "path" { (4, 0) } else { (3, 1) };
    let mut plain = Message::default();
    plain.flag(1, parameter.get("required"));
    plain.text(2, parameter.get("in"));
    plain.text(3, parameter.get("description"));
    plain.text(4, parameter.get("name"));
    // A query parameter has `allow_empty_value` in between.
    plain.text(5 + shift, parameter.get("type"));
    plain.text(6 + shift, parameter.get("format"));
    plain.flag(19 + shift, parameter.get("uniqueItems"));
    let mut non_body = Message::default();
    non_body.message(choice, &plain);
    wrapped.message(2, &non_body);
    wrapped
}

fn named_schemas(value: Option<&Value>) -> Message {
    let mut out = Message::default();
    for (name, of) in entries(value) {
        out.named(1, name, &schema(of));
    }
    out
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    let Value::Object(object) = value else { return out };
    out.text(1, object.get("$ref"));
    out.text(2, object.get("format"));
    out.text(3, object.get("title"));
    out.text(4, object.get("description"));
    out.any(5, object.get("default"));
    out.double(7, object.get("maximum"));
    out.double(9, object.get("minimum"));
    out.integer(11, object.get("maxLength"));
    out.integer(12, object.get("minLength"));
    out.text(13, object.get("pattern"));
    out.integer(14, object.get("maxItems"));
    out.integer(15, object.get("minItems"));
    out.texts(19, object.get("required"));
    for one in object.get("enum").and_then(Value::as_array).into_iter().flatten() {
        out.any(20, Some(one));
    }
    if let Some(additional) = object.get("additionalProperties") {
        let mut item = Message::default();
        match additional {
            Value::Bool(_) => item.flag(2, Some(additional)),
            of => item.message(1, &schema(of)),
        }
        out.message(21, &item);
    }
    let mut types = Message::default();
    types.text(1, object.get("type"));
    types.texts(1, object.get("type"));
    if !types.0.is_empty() {
        out.message(22, &types);
    }
    if let Some(of) = object.get("items") {
        let mut items = Message::default();
        items.message(1, &schema(of));
        out.message(23, &items);
    }
    if object.contains_key("properties") {
        out.message(25, &named_schemas(object.get("properties")));
    }
    out.extensions(31, object);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_field_by_field() {
        let mut document = Document::default();
        document.schema("a", &json!({ "type": "object", "x-b": 1 }));
        document.parameter("p", &json!({ "name": "p", "in": "query", "type": "string", "uniqueItems": true }));
        let head = Head { title: "t", version: "v", secured: true };
        let written = document.finish(&head);
        let wanted = b"\x0a\x032.0\x12\x06\x0a\x01t\x12\x01v\x42\x00\x4a\x1f\x0a\x1d\x0a\x01a\x12\x18\
            \xb2\x01\x08\x0a\x06object\xfa\x01\x0a\x0a\x03x-b\x12\x03\x12\x011\
            \x52\x20\x0a\x1e\x0a\x01p\x12\x19\x12\x17\x1a\x15\x12\x05query\x22\x01p\x32\x06string\xa0\x01\x01";
        assert_eq!(written[..wanted.len()], wanted[..]);
    }
}
