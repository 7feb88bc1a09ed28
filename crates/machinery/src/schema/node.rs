//! The nodes a schema is made of.

use std::fmt;
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use serde_json::Value;

use super::rule::Rule;
use super::validation::Validation;

/// A shared node; cloning copies a pointer.
#[derive(Clone)]
pub struct Schema(Arc<Node>);

/// What one value may be, and what is true of it where it stands.
///
/// A node whose shape is [`Shape::Ref`] says what is true of the field; the definition says what is true of the
/// type. `default`, `patch` and `atomic` of the field win.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub shape: Shape,
    pub description: Option<Arc<str>>,
    /// What a missing field becomes.
    pub default: Option<Value>,
    /// Whether `null` is a value of its own (and not the same as missing).
    pub nullable: bool,
    /// Values allowed, none for all.
    pub allowed: Vec<Value>,
    /// The OpenAPI `format`, as published (`int32`, `date-time`, `byte` ...).
    pub format: Option<Arc<str>>,
    /// The type's name in Go, as a decode error prints it (`v1.PodSpec`, `[]v1.Container`); none derives it.
    pub go_type: Option<Arc<str>>,
    /// The embedded Go struct that declares the field, which a decode error names on the way to it.
    pub embedded_in: Option<Arc<str>>,
    /// How a strategic merge patch treats it (`x-kubernetes-patch-*`).
    pub patch: Patch,
    /// Whether apply owns it as a whole (`x-kubernetes-map-type`: `atomic` or `granular`). Lists say so by [`ListKind`].
    pub atomic: Option<bool>,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// It is an object with `apiVersion`, `kind` and `metadata` of its own (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
    /// Value checks of a CustomResourceDefinition (bounds, patterns, `allOf` ...).
    pub validation: Option<Arc<Validation>>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
}

/// How a strategic merge patch treats a list or object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Lists: items are merged instead of the list replaced.
    pub merge: bool,
    /// Objects: only the keys that `$retainKeys` names survive.
    pub retain_keys: bool,
    /// Objects: replaced as a whole.
    pub replace: bool,
    /// Lists of objects: the field that tells items apart.
    pub merge_key: Option<Arc<str>>,
}

/// The kinds of values.
#[derive(Clone, Debug, Default)]
pub enum Shape {
    /// Any JSON (`RawExtension`, `JSON`, an untyped field that preserves what it is given).
    #[default]
    Any,
    /// An object with named fields. None named and nothing preserved: an object that stays empty.
    Struct(Struct),
    /// An object with free keys and values of one kind.
    Map(Map),
    List(List),
    String,
    /// A base64 string.
    Bytes,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    /// A Go duration in a string (`metav1.Duration`).
    Duration,
    Quantity,
    IntOrString,
    /// `bits` is 32 or 64.
    Integer {
        bits: u8,
        unsigned: bool,
    },
    Number,
    Boolean,
    Ref(Reference),
}

/// An object with named fields, in the order they are published.
#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// The type's name (`DeploymentSpec`); none in a CustomResourceDefinition.
    pub name: Option<Arc<str>>,
    pub fields: IndexMap<Arc<str>, Field>,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    pub schema: Schema,
    pub required: bool,
}

/// An object with free keys.
#[derive(Clone, Debug)]
pub struct Map {
    pub values: Schema,
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    pub items: Schema,
    pub kind: ListKind,
}

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Not at all: the list is one value.
    #[default]
    Atomic,
    /// By their own value, which must be a scalar (or an atomic object).
    Set,
    /// By the values of these fields (`x-kubernetes-list-map-keys`).
    Map(Vec<Arc<str>>),
}

/// Where named definitions come from.
pub trait Definitions: Send + Sync + 'static {
    /// The definition of a name as `io.k8s.api.apps.v1.DeploymentSpec`.
    fn definition(&self, name: &str) -> Option<Schema>;
}

/// A definition by name, looked up when first needed.
#[derive(Clone)]
pub struct Reference {
    pub name: Arc<str>,
    definitions: &'static dyn Definitions,
    found: Arc<OnceLock<Schema>>,
}

impl Reference {
    pub fn new(name: impl Into<Arc<str>>, definitions: &'static dyn Definitions) -> Self {
        Self { name: name.into(), definitions, found: Arc::default() }
    }

    /// The definition. A name nobody defines stands for any JSON, so a hole in the facts never refuses an object.
    pub fn target(&self) -> &Schema {
        self.found.get_or_init(|| self.definitions.definition(&self.name).unwrap_or_else(Schema::any))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({})", self.name)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Node> for Schema {
    fn from(node: Node) -> Self {
        Self(Arc::new(node))
    }
}

impl From<Shape> for Schema {
    fn from(shape: Shape) -> Self {
        Self::from(Node { shape, ..Node::default() })
    }
}

impl std::ops::Deref for Schema {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.0
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::any()
    }
}

impl Schema {
    /// Any JSON, kept as it is.
    pub fn any() -> Self {
        Self::from(Node { shape: Shape::Any, preserve_unknown: true, ..Node::default() })
    }

    pub fn string() -> Self {
        Self::from(Shape::String)
    }

    pub fn boolean() -> Self {
        Self::from(Shape::Boolean)
    }

    pub fn int32() -> Self {
        Self::from(Shape::Integer { bits: 32, unsigned: false })
    }

    pub fn int64() -> Self {
        Self::from(Shape::Integer { bits: 64, unsigned: false })
    }

    pub fn map(values: Schema) -> Self {
        Self::from(Shape::Map(Map { values }))
    }

    pub fn list(items: Schema, kind: ListKind) -> Self {
        Self::from(Shape::List(List { items, kind }))
    }

    pub fn reference(name: impl Into<Arc<str>>, definitions: &'static dyn Definitions) -> Self {
        Self::from(Shape::Ref(Reference::new(name, definitions)))
    }

    /// An object of these optional fields.
    pub fn object<N: Into<Arc<str>>>(name: Option<&str>, fields: impl IntoIterator<Item = (N, Schema)>) -> Self {
        let fields = fields.into_iter().map(|(n, schema)| (n.into(), Field { schema, required: false })).collect();
        Self::from(Shape::Struct(Struct { name: name.map(Into::into), fields }))
    }

    /// A copy of this node, changed; what it holds stays shared.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut Node)) -> Self {
        let mut node = Node::clone(self);
        change(&mut node);
        Self::from(node)
    }

    /// The node references lead to; itself when it is none.
    pub fn resolve(&self) -> &Schema {
        let mut at = self;
        while let Shape::Ref(reference) = &at.shape {
            at = reference.target();
        }
        at
    }

    /// The shape references lead to.
    pub fn shape(&self) -> &Shape {
        &self.resolve().shape
    }

    /// The schema of a named field (or of any entry of a map).
    pub fn field(&self, name: &str) -> Option<&Schema> {
        match self.shape() {
            Shape::Struct(object) => object.fields.get(name).map(|field| &field.schema),
            Shape::Map(map) => Some(&map.values),
            _ => None,
        }
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<&Schema> {
        match self.shape() {
            Shape::List(list) => Some(&list.items),
            _ => None,
        }
    }

    /// The schema at a path of field names, through lists without an index.
    pub fn at(&self, path: &[&str]) -> Option<&Schema> {
        path.iter().try_fold(self, |schema, name| match schema.shape() {
            Shape::List(list) => list.items.field(name),
            _ => schema.field(name),
        })
    }

    /// Whether apply owns it as a whole, by the field or by the type.
    pub fn is_atomic(&self) -> bool {
        self.atomic.or(self.resolve().atomic) == Some(true)
    }

    /// Whether unknown fields are kept, by the field or by the type.
    pub fn preserves_unknown(&self) -> bool {
        self.preserve_unknown || self.resolve().preserve_unknown
    }

    /// Whether two handles are the same node.
    pub fn same(&self, other: &Schema) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
