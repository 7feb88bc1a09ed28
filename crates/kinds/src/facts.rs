//! The type facts: what is true of a type wherever it is used, read from the generated table in `facts/`.
//!
//! The table is written by `cargo xtask facts` from upstream's OpenAPI documents and Go struct tags and holds names,
//! numbers and types, one definition a line. Its keys: `f` fields, `t` type (`[]T` a list, `{}T` a map, `#name` a
//! definition), `r` required (the place among those that are), `d` default, `e` what an encoder does with an empty value
//! (`z` writes the type's zero, `n` writes null, `o` leaves it out), `en` enumeration (of the items, if it is a list or a
//! map), `l` list type, `k` list map keys, `m` merge key, `s` patch strategy, `g` the type's name in Go where it has one,
//! `i` the embedded Go struct that the field is of, `a` map type (1 atomic, 0 granular), `b` published as a bare reference,
//! `n` protobuf field number (several for a field of an embedded message, outermost first), `gvk` group, version and kind,
//! `u` unions.
//!
//! A definition is parsed when it is first asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use machinery::schema::{
    Definitions, Field as SchemaField, List, ListKind, Map as SchemaMap, Node, Patch, Schema, Shape, Struct,
};
use serde::Deserialize;
use serde_json::Value;

use crate::protobuf::Layout;

/// The generated files.
const FILES: &[&str] = &[
    include_str!("../facts/admissionregistration.v1.json"),
    include_str!("../facts/apiextensions.v1.json"),
    include_str!("../facts/apimachinery.json"),
    include_str!("../facts/apiregistration.v1.json"),
    include_str!("../facts/apps.v1.json"),
    include_str!("../facts/authentication.v1.json"),
    include_str!("../facts/authorization.v1.json"),
    include_str!("../facts/autoscaling.v1.json"),
    include_str!("../facts/autoscaling.v2.json"),
    include_str!("../facts/batch.v1.json"),
    include_str!("../facts/certificates.v1.json"),
    include_str!("../facts/coordination.v1.json"),
    include_str!("../facts/core.v1.json"),
    include_str!("../facts/discovery.v1.json"),
    include_str!("../facts/events.v1.json"),
    include_str!("../facts/flowcontrol.v1.json"),
    include_str!("../facts/meta.v1.json"),
    include_str!("../facts/metrics.v1beta1.json"),
    include_str!("../facts/networking.v1.json"),
    include_str!("../facts/node.v1.json"),
    include_str!("../facts/policy.v1.json"),
    include_str!("../facts/rbac.v1.json"),
    include_str!("../facts/resource.v1.json"),
    include_str!("../facts/scheduling.v1.json"),
    include_str!("../facts/scheduling.v1alpha3.json"),
    include_str!("../facts/storage.v1.json"),
    include_str!("../facts/storagemigration.v1.json"),
];

/// What an encoder does with an empty value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// It is a pointer: missing stays missing, and what is there is written even if it is zero.
    Kept,
    /// The zero of its type is written.
    Zero,
    /// `null` is written.
    Null,
    /// It is left out.
    Omitted,
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    String,
    Bytes,
    Int32,
    Int64,
    Double,
    Bool,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON.
    Any,
    /// An object without named fields.
    Object,
    Definition(&'static str),
    List(Box<Type>),
    Map(Box<Type>),
}

/// What is true of a field.
#[derive(Debug, Clone)]
pub struct Field {
    pub of: Type,
    pub required: bool,
    /// Published as a reference and nothing else, for upstream has no description of it.
    pub bare: bool,
    /// As published in OpenAPI, zeros of Go's types included.
    pub default: Option<Value>,
    pub empty: Empty,
    pub values: Vec<&'static str>,
    pub list: ListKind,
    /// Whether a list type was published at all.
    pub list_type: Option<&'static str>,
    pub merge_key: Option<&'static str>,
    pub strategy: Option<&'static str>,
    /// The type as Go prints it, where that is no type of the language or one of these definitions.
    pub go_type: Option<&'static str>,
    /// The embedded Go struct that declares it, which JSON does not show.
    pub embedded: Option<&'static str>,
    /// Whether apply owns it as a whole, where that is said of the field and not of its type.
    pub atomic: Option<bool>,
    /// Protobuf field numbers, from the outer message inwards.
    pub numbers: Vec<u32>,
}

/// What is true of a type.
#[derive(Debug, Clone)]
pub struct Definition {
    pub name: &'static str,
    pub fields: BTreeMap<&'static str, Field>,
    /// Its required fields, in upstream's order.
    pub required: Vec<&'static str>,
    /// What the type is when it has no fields.
    pub of: Option<Type>,
    /// The same as it is published, which says less than its decoder knows.
    pub published: Option<Type>,
    pub atomic: bool,
    /// Group, version and kind.
    pub kinds: Vec<(&'static str, &'static str, &'static str)>,
    pub unions: Option<Value>,
    layout: OnceLock<Layout>,
    /// The defaults that depend on other fields.
    pub rule: Option<crate::defaults::Rule>,
}

#[derive(Deserialize)]
struct RawDefinition<'a> {
    #[serde(borrow, default)]
    f: BTreeMap<&'a str, RawField<'a>>,
    #[serde(borrow)]
    t: Option<&'a str>,
    a: Option<u8>,
    #[serde(borrow, default)]
    gvk: Vec<(&'a str, &'a str, &'a str)>,
    u: Option<Value>,
}

#[derive(Deserialize)]
struct RawField<'a> {
    #[serde(borrow)]
    t: &'a str,
    r: Option<u8>,
    b: Option<u8>,
    d: Option<Value>,
    e: Option<&'a str>,
    #[serde(borrow, default)]
    en: Vec<&'a str>,
    l: Option<&'a str>,
    #[serde(borrow, default)]
    k: Vec<&'a str>,
    m: Option<&'a str>,
    s: Option<&'a str>,
    g: Option<&'a str>,
    i: Option<&'a str>,
    a: Option<u8>,
    n: Option<Numbers>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(u32),
    Path(Vec<u32>),
}

struct Entry {
    name: &'static str,
    text: &'static str,
    definition: OnceLock<Option<Definition>>,
    schema: OnceLock<Schema>,
}

static TABLE: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let lines = FILES.iter().flat_map(|file| file.lines());
    lines
        .filter_map(|line| {
            let (name, text) = line.strip_prefix('"')?.split_once("\":")?;
            let text = text.strip_suffix(',').unwrap_or(text);
            Some((name, Entry { name, text, definition: OnceLock::new(), schema: OnceLock::new() }))
        })
        .collect()
});

/// The definitions as `machinery` looks them up.
pub struct Facts;

/// The one table of facts.
pub static FACTS: Facts = Facts;

impl Definitions for Facts {
    fn definition(&self, name: &str) -> Option<Schema> {
        Some(TABLE.get(name)?.schema())
    }
}

/// The facts of a definition, `io.k8s.api.core.v1.Pod`.
pub fn definition(name: &str) -> Option<&'static Definition> {
    TABLE.get(name)?.definition()
}

/// The facts of the field at a path below a definition.
pub fn field_at<'a>(name: &str, path: impl IntoIterator<Item = &'a str>) -> Option<&'static Field> {
    let mut definition = definition(name);
    let mut found = None;
    for step in path {
        let field = definition?.fields.get(step)?;
        definition = match &field.of {
            Type::Definition(name) => self::definition(name),
            _ => None,
        };
        found = Some(field);
    }
    found
}

/// The names of all definitions, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = TABLE.keys().copied().collect();
    names.sort_unstable();
    names
}

/// The schema of a definition; any JSON for a name nobody defines.
pub fn schema(name: &str) -> Schema {
    FACTS.definition(name).unwrap_or_else(Schema::any)
}

impl Entry {
    fn definition(&'static self) -> Option<&'static Definition> {
        let parse = || {
            let raw: RawDefinition<'static> = serde_json::from_str(self.text).ok()?;
            let published = raw.t.map(parse_type);
            let mut required: Vec<_> = raw.f.iter().filter_map(|(name, field)| Some((field.r?, *name))).collect();
            required.sort_unstable();
            Some(Definition {
                name: self.name,
                fields: raw.f.into_iter().map(|(name, field)| (name, field.read())).collect(),
                required: required.into_iter().map(|(_, name)| name).collect(),
                of: published.as_ref().map(|of| special(self.name).unwrap_or_else(|| of.clone())),
                published,
                // What is kept as it came is owned as a whole.
                atomic: raw.a == Some(1) || special(self.name) == Some(Type::Any),
                kinds: raw.gvk,
                unions: raw.u,
                layout: OnceLock::new(),
                rule: crate::defaults::of_type(self.name),
            })
        };
        self.definition.get_or_init(parse).as_ref()
    }

    fn schema(&'static self) -> Schema {
        let build = || self.definition().map_or_else(Schema::any, Definition::schema);
        self.schema.get_or_init(build).clone()
    }
}

impl RawField<'static> {
    fn read(self) -> Field {
        let list = match self.l {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map(self.k.iter().map(|key| Arc::from(*key)).collect()),
            _ => ListKind::Atomic,
        };
        Field {
            of: parse_type(self.t),
            required: self.r.is_some(),
            bare: self.b.is_some(),
            default: self.d,
            empty: match self.e {
                Some("z") => Empty::Zero,
                Some("n") => Empty::Null,
                Some("o") => Empty::Omitted,
                _ => Empty::Kept,
            },
            values: self.en,
            list,
            list_type: self.l,
            merge_key: self.m,
            strategy: self.s,
            go_type: self.g,
            embedded: self.i,
            atomic: self.a.map(|whole| whole == 1),
            numbers: match self.n {
                Some(Numbers::One(number)) => vec![number],
                Some(Numbers::Path(path)) => path,
                None => Vec::new(),
            },
        }
    }
}

/// Types of which what is published says less than their decoder knows.
fn special(name: &str) -> Option<Type> {
    let short = name.rsplit('.').next()?;
    Some(match short {
        "RawExtension" | "FieldsV1" | "Patch" => Type::Any,
        "MicroTime" => Type::MicroTime,
        _ => return None,
    })
}

fn parse_type(text: &'static str) -> Type {
    if let Some(items) = text.strip_prefix("[]") {
        return Type::List(Box::new(parse_type(items)));
    }
    if let Some(values) = text.strip_prefix("{}") {
        return Type::Map(Box::new(parse_type(values)));
    }
    if let Some(name) = text.strip_prefix('#') {
        return Type::Definition(name);
    }
    match text {
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "bool" => Type::Bool,
        "time" => Type::Time,
        "quantity" => Type::Quantity,
        "intstr" => Type::IntOrString,
        "object" => Type::Object,
        _ => Type::Any,
    }
}

impl Type {
    /// What the type is when references to definitions without fields are followed.
    pub fn resolve(&self) -> &Type {
        match self {
            Type::Definition(name) => match definition(name) {
                Some(Definition { of: Some(of), .. }) => of,
                _ => self,
            },
            other => other,
        }
    }

    fn schema(&self, kind: ListKind) -> Schema {
        let shape = match self {
            Type::Any => return Schema::any(),
            Type::Definition(name) => return Schema::reference(*name, &FACTS),
            Type::String => Shape::String,
            Type::Bytes => Shape::Bytes,
            Type::Int32 => Shape::Integer { bits: 32, unsigned: false },
            Type::Int64 => Shape::Integer { bits: 64, unsigned: false },
            Type::Double => Shape::Number,
            Type::Bool => Shape::Boolean,
            Type::Time => Shape::Time,
            Type::MicroTime => Shape::MicroTime,
            Type::Quantity => Shape::Quantity,
            Type::IntOrString => Shape::IntOrString,
            Type::Object => Shape::Struct(Struct::default()),
            Type::List(items) => Shape::List(List { items: items.schema(ListKind::Atomic), kind }),
            Type::Map(values) => Shape::Map(SchemaMap { values: values.schema(ListKind::Atomic) }),
        };
        let format = match self {
            Type::Bytes => Some("byte"),
            Type::Int32 => Some("int32"),
            Type::Int64 => Some("int64"),
            Type::Double => Some("double"),
            Type::Time | Type::MicroTime => Some("date-time"),
            Type::IntOrString => Some("int-or-string"),
            _ => None,
        };
        Schema::from(Node { shape, format: format.map(Arc::from), ..Node::default() })
    }
}

impl Definition {
    /// Its fields by their protobuf numbers.
    pub fn layout(&self) -> &Layout {
        self.layout.get_or_init(|| Layout::of(self))
    }

    /// The type's own name, `PodSpec`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    fn schema(&self) -> Schema {
        if let Some(of) = &self.of {
            return of.schema(ListKind::Atomic).with(|node| node.atomic = self.atomic.then_some(true));
        }
        let fields = self
            .fields
            .iter()
            .map(|(name, field)| (Arc::from(*name), SchemaField { schema: field.schema(), required: field.required }));
        Schema::from(Node {
            shape: Shape::Struct(Struct { name: Some(Arc::from(self.short_name())), fields: fields.collect() }),
            atomic: self.atomic.then_some(true),
            ..Node::default()
        })
    }
}

impl Field {
    /// The declared default, without the zeros OpenAPI publishes for every Go value that is always written.
    pub fn declared_default(&self) -> Option<&Value> {
        self.default.as_ref().filter(|value| !is_zero(value))
    }

    fn schema(&self) -> Schema {
        let strategies: Vec<&str> = self.strategy.unwrap_or_default().split(',').collect();
        let schema = self.of.schema(self.list.clone());
        let schema = self.go_type.map_or(schema.clone(), |name| named(&schema, name));
        schema.with(|node| {
            node.default = self.declared_default().cloned();
            node.embedded_in = self.embedded.map(Arc::from);
            node.atomic = self.atomic.or(node.atomic);
            node.patch = Patch {
                merge: strategies.contains(&"merge"),
                retain_keys: strategies.contains(&"retainKeys"),
                replace: strategies.contains(&"replace"),
                merge_key: self.merge_key.map(Arc::from),
            };
        })
    }
}

/// A schema that knows its name in Go, and those of what it is made of.
fn named(schema: &Schema, go_type: &str) -> Schema {
    schema.with(|node| {
        node.go_type = Some(Arc::from(go_type));
        match &mut node.shape {
            Shape::List(list) => {
                if let Some(items) = go_type.strip_prefix("[]") {
                    list.items = named(&list.items, items);
                }
            }
            Shape::Map(map) => {
                if let Some((_, values)) = go_type.split_once(']').filter(|(key, _)| key.starts_with("map[")) {
                    map.values = named(&map.values, values);
                }
            }
            _ => {}
        }
    })
}

/// Whether a value is what Go's `omitempty` leaves out.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_parses_and_refers_to_one_there_is() {
        fn check(of: &Type) {
            match of {
                Type::Definition(name) => assert!(definition(name).is_some(), "{name}"),
                Type::List(of) | Type::Map(of) => check(of),
                _ => {}
            }
        }
        assert!(names().len() > 500);
        for name in names() {
            let found = definition(name).expect(name);
            found.fields.values().for_each(|field| check(&field.of));
        }
    }

    #[test]
    fn every_generated_file_is_read() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/facts");
        let names = std::fs::read_dir(directory).expect("facts").map(|entry| entry.expect("entry").file_name());
        let of_types = names.filter(|name| name != "registered.txt" && name != "parameters.json");
        assert_eq!(of_types.count(), FILES.len());
    }

    #[test]
    fn a_field_may_be_owned_otherwise_than_its_type() {
        let atomic = |name: &str, field: &str| definition(name).expect(name).fields[field].schema().is_atomic();
        assert!(!atomic("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef"));
        assert!(atomic("io.k8s.api.core.v1.Event", "involvedObject"));
    }

    #[test]
    fn a_list_of_ports_knows_its_keys() {
        let container = definition("io.k8s.api.core.v1.Container").expect("Container");
        let ports = &container.fields["ports"];
        assert_eq!(ports.list, ListKind::Map(vec!["containerPort".into(), "protocol".into()]));
        assert_eq!(ports.merge_key, Some("containerPort"));
        assert_eq!(ports.numbers, [6]);
        let pod = schema("io.k8s.api.core.v1.Pod");
        assert!(pod.at(&["spec", "containers", "ports", "protocol"]).is_some());
    }
}
