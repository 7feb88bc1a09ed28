//! Every kind upstream publishes filled in is answered as upstream writes it, in every media type.

#[path = "../../../kinds/tests/upstream/mod.rs"]
mod upstream;

use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::decode::{self, DecodeError, Decoded};

use super::*;

/// Kinds of the API server that upstream publishes no object of.
const UNPUBLISHED: [&str; 3] = ["apiextensions.k8s.io", "apiregistration.k8s.io", "metrics.k8s.io"];

fn strictly(name: &str, decoded: Result<Decoded, DecodeError>) -> Value {
    let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(decoded.problems.is_empty(), "{name}: {:?}", decoded.problems);
    decoded.value
}

/// `value` is what our decoder made of upstream's text, `published` what a plain parser did.
fn answered_as_published(name: &str, kind: &Kind, value: &Value, published: &Value) {
    let schema = kind.schema();
    for media in [Media::Json, Media::PrettyJson, Media::Yaml, Media::Protobuf] {
        let bytes = encode(media, value).unwrap();
        let (plain, again) = match media {
            Media::Json | Media::PrettyJson => {
                (serde_json::from_slice::<Value>(&bytes).unwrap(), decode::json(&bytes, Some(&schema)))
            }
            Media::Protobuf => {
                let plain = kinds::protobuf::decode(&bytes).unwrap();
                (plain.clone(), decode::value(plain, &schema))
            }
            Media::Yaml => (serde_yaml_ng::from_slice::<Value>(&bytes).unwrap(), decode::yaml(&bytes, Some(&schema))),
        };
        assert_eq!(&plain, published, "{name} as {media:?}");
        assert_eq!(&strictly(name, again), value, "{name} as {media:?}");
    }
}

#[test]
fn every_published_object_is_answered_as_it_was_published() {
    let directory = upstream::module("k8s.io/api@v0.37.2").join("testdata/HEAD");
    for kind in kinds::KINDS.iter().filter(|kind| matches!(kind.schema, SchemaSource::Facts(_))) {
        let group = if kind.group.is_empty() { "core" } else { &*kind.group };
        if UNPUBLISHED.contains(&group) {
            continue;
        }
        let name = format!("{group}.{}.{}", kind.version, kind.names.kind);
        let read = |form: &str| {
            let path = directory.join(format!("{name}.{form}"));
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let (json, yaml) = (read("json"), read("yaml"));
        let schema = kind.schema();
        let from_json = strictly(&name, decode::json(&json, Some(&schema)));
        let from_yaml = strictly(&name, decode::yaml(&yaml, Some(&schema)));
        answered_as_published(&name, kind, &from_json, &serde_json::from_slice(&json).unwrap());
        answered_as_published(&name, kind, &from_yaml, &serde_yaml_ng::from_slice(&yaml).unwrap());
    }
}
