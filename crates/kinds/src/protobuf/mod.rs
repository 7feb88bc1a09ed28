//! Objects in Kubernetes' protobuf form, read into the same trees as JSON and written from them. Field numbers and
//! types come from the type facts; no message is spelled out here.
//!
//! `kubernetes/apimachinery pkg/runtime/serializer/protobuf: the four bytes "k8s\0", then runtime.Unknown`. What is
//! in it follows Go's structs: a value that is no pointer is always written, a pointer if it is set, a list or map if
//! it has elements; fields go by their numbers, and a map's entries by their keys.

mod layout;
mod read;
mod write;

pub use layout::Layout;

use machinery::object;
use serde_json::Value;

use crate::facts::{self, Definition, definition};
use crate::kind::SchemaSource;
use read::Wire;

const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("empty data")]
    Empty,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("empty body")]
    NoBody,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u64),
    #[error("Object 'Kind' is missing in '{{APIVersion:{0} Kind:}}'")]
    NoKind(String),
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    UnknownKind { kind: String, version: String },
    #[error("proto: nested too deep")]
    TooDeep,
}

/// Whether bytes claim to be an object in protobuf.
pub fn is_encoded(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The facts that describe a version and kind, as upstream names its Go packages after API groups.
pub fn definition_of(api_version: &str, kind: &str) -> Option<&'static Definition> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if let Some(SchemaSource::Facts(name)) = crate::by_kind(group, version, kind).map(|kind| &kind.schema) {
        return definition(name);
    }
    let of_list = kind.strip_suffix("List").and_then(|item| crate::by_kind(group, version, item));
    if let Some(SchemaSource::Facts(name)) = of_list.map(|item| &item.schema)
        && let Some(list) = definition(&format!("{name}List"))
    {
        return Some(list);
    }
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
    // Options, Status and what has metadata alone belong to no group, and are sent under the name of any.
    definition(&format!("io.k8s.api.{package}.{version}.{kind}"))
        .or_else(|| definition(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")))
        .or_else(|| crate::registered::same_as_served(api_version, kind))
}

/// An object whose message is not read yet.
pub struct Envelope<'a> {
    /// Empty where the sender does not say it, as is the kind.
    pub api_version: String,
    pub kind: String,
    raw: &'a [u8],
}

impl Envelope<'_> {
    pub fn read(self) -> Result<Value, Unreadable> {
        let Self { api_version, kind, raw } = self;
        if kind.is_empty() {
            return Err(Unreadable::NoKind(api_version));
        }
        let Some(facts) = definition_of(&api_version, &kind) else {
            return Err(Unreadable::UnknownKind { kind, version: api_version });
        };
        let mut object = read::message(raw, facts, 0)?;
        object.insert("apiVersion".to_owned(), Value::String(api_version));
        object.insert("kind".to_owned(), Value::String(kind));
        Ok(Value::Object(object))
    }
}

/// Takes an object's envelope off.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, Unreadable> {
    if bytes.is_empty() {
        return Err(Unreadable::Empty);
    }
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Unreadable::NoPrefix)?;
    if envelope.is_empty() {
        return Err(Unreadable::NoBody);
    }
    let mut opened = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    for part in read::parts(envelope)? {
        match (part.number, part.value) {
            (1, Wire::Bytes(meta)) => {
                for part in read::parts(meta)? {
                    match (part.number, part.value) {
                        (1, Wire::Bytes(text)) => opened.api_version = read::string(text),
                        (2, Wire::Bytes(text)) => opened.kind = read::string(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(body)) => opened.raw = body,
            _ => {}
        }
    }
    Ok(opened)
}

/// Reads an object with its envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, Unreadable> {
    open(bytes)?.read()
}

/// Reads what another API server has stored. What it stored in a version that is not served is the same in the one that is,
/// and is told as of that.
pub fn decode_stored(bytes: &[u8]) -> Result<Value, Unreadable> {
    let mut object = decode(bytes)?;
    let served = crate::registered::served(object::api_version(&object), object::kind(&object));
    if let Some(served) = served {
        object["apiVersion"] = Value::String(served);
    }
    Ok(object)
}

/// Writes an object with its envelope; nothing for a kind that has no protobuf form.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let (version, kind) = (object::api_version(object), object::kind(object));
    let facts = definition_of(version, kind)?;
    Some(envelope(version, kind, &bare(object, facts)))
}

/// An object without its envelope, as a list holds it.
fn bare(object: &Value, definition: &'static Definition) -> Vec<u8> {
    let mut raw = Vec::new();
    write::message(&mut raw, object, definition);
    raw
}

/// Writes a list of a kind, whose items need not say what they are.
pub fn encode_list(version: &str, list_kind: &str, meta: &Value, items: &[Value]) -> Option<Vec<u8>> {
    let item_facts = definition_of(version, list_kind.strip_suffix("List")?)?;
    let mut raw = Vec::new();
    write::bytes(&mut raw, 1, &bare(meta, definition("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")?));
    for item in items {
        write::bytes(&mut raw, 2, &bare(item, item_facts));
    }
    Some(envelope(version, list_kind, &raw))
}

/// `runtime.Unknown`; its two fields about the content are empty, and there nevertheless.
fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut meta = Vec::with_capacity(version.len() + kind.len() + 8);
    write::bytes(&mut meta, 1, version.as_bytes());
    write::bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + meta.len() + 24);
    out.extend_from_slice(MAGIC);
    write::bytes(&mut out, 1, &meta);
    write::bytes(&mut out, 2, raw);
    write::bytes(&mut out, 3, &[]);
    write::bytes(&mut out, 4, &[]);
    out
}

/// One event of a watch: its length in four bytes, then `WatchEvent` without an envelope around an object with one.
/// `kubernetes/apimachinery pkg/util/framer: NewLengthDelimitedFrameWriter`.
pub fn write_event(out: &mut Vec<u8>, what: &str, object: &[u8]) {
    let mut extension = Vec::with_capacity(object.len() + 8);
    write::bytes(&mut extension, 1, object);
    let mut event = Vec::with_capacity(extension.len() + 24);
    write::bytes(&mut event, 1, what.as_bytes());
    write::bytes(&mut event, 2, &extension);
    out.extend_from_slice(&u32::try_from(event.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&event);
}

/// How a field stands in its message, where its type does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OfItsType,
    /// A list whose Go type has a name is a message of its own.
    ListInMessage,
    /// Go's `metav1.Duration`: text in JSON, here a message with nanoseconds.
    Duration,
}

fn form(definition: &Definition, field: &str) -> Form {
    match (definition.name, field) {
        ("io.k8s.apimachinery.pkg.apis.meta.v1.APIResource", "verbs") => Form::ListInMessage,
        (
            "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"
            | "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
            "window",
        ) => Form::Duration,
        _ => Form::OfItsType,
    }
}

/// Types whose JSON has another form than their message: a schema, or else something other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// A list of schemas.
    List,
    /// Whether anything is allowed.
    Bool,
    /// A list of strings.
    Strings,
}

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn special(of: &facts::Type) -> Option<Special> {
    let facts::Type::Definition(name) = of else { return None };
    match name.strip_prefix(SCHEMA)? {
        "OrArray" => Some(Special::List),
        "OrBool" => Some(Special::Bool),
        "OrStringArray" => Some(Special::Strings),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_config_map_goes_both_ways() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "c", "namespace": "default"}});
        let bytes = encode(&object).unwrap();
        assert_eq!(decode(&bytes).unwrap(), object);
        assert_eq!(decode(b""), Err(Unreadable::Empty));
        assert_eq!(decode(MAGIC), Err(Unreadable::NoBody));
        assert_eq!(decode(b"{}"), Err(Unreadable::NoPrefix));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Err(Unreadable::Truncated));
        let bare = envelope("v1", "", &[]);
        assert_eq!(decode(&bare).unwrap_err().to_string(), "Object 'Kind' is missing in '{APIVersion:v1 Kind:}'");
        assert_eq!(encode(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table"})), None);
    }

    #[test]
    fn options_and_statuses_are_known_in_every_group() {
        let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}});
        assert_eq!(decode(&encode(&options).unwrap()).unwrap(), options);
        let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404});
        assert_eq!(decode(&encode(&status).unwrap()).unwrap(), status);
    }

    #[test]
    fn a_schema_is_an_object_a_list_or_a_boolean() {
        let schema = json!({
            "type": "object", "additionalProperties": {"type": "string"}, "additionalItems": false,
            "items": {"type": "integer", "minimum": -1.5}, "enum": ["a", {"b": 1}], "default": {"x": null},
            "dependencies": {"a": ["b"], "c": {"type": "string"}},
            "properties": {"big": {"type": "string", "x-kubernetes-int-or-string": true}},
        });
        let of = definition(SCHEMA).unwrap();
        assert_eq!(Value::Object(read::message(&bare(&schema, of), of, 0).unwrap()), schema);
    }

    #[test]
    fn a_list_is_written_as_its_items() {
        let item = json!({"metadata": {"name": "c"}, "data": {"a": "b"}});
        let meta = json!({"resourceVersion": "7", "remainingItemCount": 3});
        let bytes = encode_list("v1", "ConfigMapList", &meta, std::slice::from_ref(&item)).unwrap();
        let whole = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": meta, "items": [item]});
        assert_eq!(bytes, encode(&whole).unwrap());
        assert_eq!(decode(&bytes).unwrap(), whole);
    }

    #[test]
    fn a_duration_is_text_in_json_and_a_number_here() {
        let of = definition("io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics").unwrap();
        for (text, nanos) in [("10.2s", 10_200_000_000u64), ("1m0s", 60_000_000_000), ("1h0m0.5s", 3_600_500_000_000)] {
            let value = json!({"metadata": {}, "timestamp": null, "window": text, "usage": null});
            let bytes = bare(&value, of);
            let mut window = vec![0x1a, 0, 0x08];
            write::varint(&mut window, nanos);
            window[1] = u8::try_from(window.len() - 2).unwrap();
            assert!(bytes.windows(window.len()).any(|part| part == window), "{text}: {bytes:?}");
            assert_eq!(read::message(&bytes, of, 0).unwrap()["window"], json!(text));
        }
    }

    #[test]
    fn an_event_says_its_length() {
        let mut out = Vec::new();
        write_event(&mut out, "ADDED", b"xy");
        assert_eq!(out, b"\0\0\0\x0d\n\x05ADDED\x12\x04\n\x02xy");
    }
}
