//! The shape of a kind: what the generic verbs need to know to serve it.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::schema::Schema;
use serde_json::Value;

/// A string that is static in a built-in kind and owned in one made from a CustomResourceDefinition.
pub type Str = Cow<'static, str>;

/// What a kind is called.
#[derive(Debug, Clone)]
pub struct Names {
    pub kind: Str,
    /// The resource in URLs and RBAC rules, `pods`.
    pub plural: Str,
    pub singular: Str,
    /// The name of the kind's list where it is not the kind with `List` added.
    pub list_kind: Option<Str>,
    pub short: Cow<'static, [Str]>,
    pub categories: Cow<'static, [Str]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// What the names of a kind's objects must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain (RFC 1123), as most names are.
    Subdomain,
    /// The same by the rule that the type declares.
    LongName,
    /// A DNS label (RFC 1123).
    Label,
    /// A DNS label that starts with a letter (RFC 1035).
    Label1035,
    /// Whatever fits in one segment of a URL path.
    PathSegment,
    /// Checked by the kind's own rules.
    Any,
}

/// The verbs a resource answers to, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs(pub u8);

impl Verbs {
    pub const CREATE: Verbs = Verbs(1);
    pub const DELETE: Verbs = Verbs(2);
    pub const DELETE_COLLECTION: Verbs = Verbs(4);
    pub const GET: Verbs = Verbs(8);
    pub const LIST: Verbs = Verbs(16);
    pub const PATCH: Verbs = Verbs(32);
    pub const UPDATE: Verbs = Verbs(64);
    pub const WATCH: Verbs = Verbs(128);
    /// Everything a stored kind answers to.
    pub const ALL: Verbs = Verbs(255);

    /// Those about an object by its name.
    pub const OF_ONE: Verbs = Verbs(1 << 1 | 8 | 32 | 64);

    /// Their names in upstream's (alphabetical) order.
    const NAMES: [(&'static str, Verbs); 8] = [
        ("create", Verbs::CREATE),
        ("delete", Verbs::DELETE),
        ("deletecollection", Verbs::DELETE_COLLECTION),
        ("get", Verbs::GET),
        ("list", Verbs::LIST),
        ("patch", Verbs::PATCH),
        ("update", Verbs::UPDATE),
        ("watch", Verbs::WATCH),
    ];

    pub const fn and(self, other: Verbs) -> Verbs {
        Verbs(self.0 | other.0)
    }

    pub const fn without(self, other: Verbs) -> Verbs {
        Verbs(self.0 & !other.0)
    }

    pub const fn has(self, other: Verbs) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn has_any(self, others: Verbs) -> bool {
        self.0 & others.0 != 0
    }

    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(_, verb)| self.has(*verb)).map(|(name, _)| *name).collect()
    }
}

/// Where `scale` finds its numbers: paths without a leading dot, `spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec: Str,
    pub status: Str,
    /// Empty when the kind has no selector.
    pub selector: Str,
}

impl ScalePaths {
    /// Where every built-in kind with a scale keeps its numbers.
    pub const REPLICAS: ScalePaths = ScalePaths {
        spec: Cow::Borrowed("spec.replicas"),
        status: Cow::Borrowed("status.replicas"),
        selector: Cow::Borrowed("spec.selector"),
    };
}

/// The subresources there are; each is served by a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subresource {
    Status,
    Scale(ScalePaths),
    /// `pods/binding` and the legacy `bindings` kind.
    Binding,
    Eviction,
    EphemeralContainers,
    Resize,
    Log,
    Exec,
    Attach,
    PortForward,
    /// `pods/proxy`, `services/proxy`, `nodes/proxy`.
    Proxy,
    /// `serviceaccounts/token`.
    Token,
    /// `namespaces/finalize`.
    Finalize,
    /// `certificatesigningrequests/approval`.
    Approval,
}

/// What answers for a kind that is read only and never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computed {
    /// What the server sees of its own parts.
    ComponentStatuses,
    /// What nodes use, by their kubelets.
    NodeMetrics,
    /// What pods use, by the kubelets of their nodes.
    PodMetrics,
}

/// What a change must touch for `metadata.generation` to count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The kind keeps no generation.
    None,
    /// Starts at 1 and counts changes of `.spec`.
    OfSpec,
    /// Counts changes of `.spec` from nothing (CSIDriver).
    OfSpecUnstarted,
    /// As `OfSpec`, and counts changes of annotations too (Deployment).
    OfSpecAndAnnotations,
    /// Starts at 1 and counts changes of anything but `.metadata` (custom resources without a status of their own).
    OfEverything,
    /// Starts at 1 and counts changes of `.template` (PodTemplate).
    OfTemplate,
    /// Starts at 1 and stays there (PriorityClass).
    Initial,
    /// Starts at 1 and counts changes of anything but `.metadata` and `.status` (webhook configurations, custom resources).
    OfAll,
}

/// From and to the form a kind is stored in, when that is another version's. Both work in place and leave
/// `apiVersion` and `kind` to the caller.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    pub to_storage: fn(&mut Value),
    pub from_storage: fn(&mut Value),
}

/// Where the kind's schema comes from.
#[derive(Debug, Clone)]
pub enum SchemaSource {
    /// A definition of the type facts: `io.k8s.api.core.v1.Pod`.
    Facts(&'static str),
    /// The structural schema of a CustomResourceDefinition's version.
    Custom(Schema),
}

/// One column of `kubectl get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Str,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub of: Str,
    /// `name` marks the object's name; else usually empty.
    pub format: Str,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i32,
    pub description: Str,
    /// The definition and field whose description is the column's, where it has none of its own.
    pub documented_by: Option<(&'static str, &'static str)>,
}

/// How a row's cells come from an object.
#[derive(Debug, Clone)]
pub enum Columns {
    /// Name and age.
    Generic,
    /// Written in the kind's file.
    BuiltIn { head: &'static [Column], cells: fn(&Value, Timestamp) -> Vec<Value> },
    /// `additionalPrinterColumns` of a CustomResourceDefinition: the column and its JSON path.
    Paths(Arc<[(Column, String)]>),
}

/// A rule applied to an object before it is created.
pub type Warnings = fn(&Value, Option<&Value>) -> Vec<String>;
pub type PrepareCreate = fn(&mut Value);
/// A rule applied to an update: the new object and the old one.
pub type PrepareUpdate = fn(&mut Value, &Value);

/// What holds an object on the first request to delete it: the object, and the time of the request.
pub type HoldOnDelete = fn(&mut Value, &str);

/// A rule that reports every failure of an object (and of its change from the old one).
pub type Validate = fn(&Value, Option<&Value>, &mut FieldErrors);

/// The same for a change through a subresource that has rules of its own: it, the new object and the old one.
pub type ValidateSubresource = fn(&Subresource, &Value, &Value, &mut FieldErrors);

/// An API kind in one version.
#[derive(Debug, Clone)]
pub struct Kind {
    pub names: Names,
    /// Empty for the core group.
    pub group: Str,
    pub version: Str,
    pub scope: Scope,
    pub name_rule: NameRule,
    pub schema: SchemaSource,
    pub verbs: Verbs,
    pub subresources: Cow<'static, [Subresource]>,
    pub generation: Generation,
    /// What `fieldSelector` may name, besides `metadata.name` and `metadata.namespace`.
    pub fields: Cow<'static, [Str]>,
    /// Those of them whose value stands elsewhere than their name says; of several places the first that has one.
    pub fields_elsewhere: &'static [(&'static str, &'static [&'static str])],
    pub columns: Columns,
    /// The key's part between `/registry/` and the namespace or name: `services/specs`. Empty: nothing is stored.
    pub storage_prefix: Str,
    pub computed: Option<Computed>,
    /// The group and version the object is stored in.
    pub storage_version: (Str, Str),
    pub conversion: Option<Conversion>,
    /// The `spec.conversion.webhook` of a definition whose versions a webhook converts.
    pub webhook_conversion: Option<Arc<Value>>,
    /// How long an object lives after its last write.
    pub ttl_seconds: Option<u32>,
    /// Defaults that depend on other fields; the unconditional ones are in the facts.
    pub conditional_defaults: Option<fn(&mut Value)>,
    pub on_create: Option<PrepareCreate>,
    pub on_update: Option<PrepareUpdate>,
    pub on_status_update: Option<PrepareUpdate>,
    /// Marks an object that is never deleted at once, in place of the rules that hold for most kinds.
    pub on_delete: Option<HoldOnDelete>,
    /// Cross-field rules: the new object, the old one on an update, and where the failures go.
    pub validate: Option<Validate>,
    /// Instead of `validate`, where a subresource changes the object in a way of its own.
    pub validate_subresource: Option<ValidateSubresource>,
    /// What a client is warned of: the new object, and the old one on an update.
    pub warnings: Option<Warnings>,
    /// Whether an update of the status leaves labels, annotations and owners alone.
    pub status_keeps_metadata: bool,
    /// Whether a new object may come with a status.
    pub created_with_status: bool,
    /// What a client is warned of when it uses the kind; empty for most.
    pub deprecation: Str,
    /// Whether an update without `resourceVersion` is taken (upstream's `AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// Whether a PUT to a name that does not exist creates it (upstream's `AllowCreateOnUpdate`).
    pub create_on_update: bool,
}

/// A built-in kind as its file writes it: all static, so that it can be spread over [`Declaration::NEW`].
#[derive(Clone, Copy)]
pub struct Declaration {
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short: &'static [Str],
    pub categories: &'static [Str],
    pub group: &'static str,
    pub version: &'static str,
    pub scope: Scope,
    pub name_rule: NameRule,
    pub schema: &'static str,
    pub verbs: Verbs,
    pub subresources: &'static [Subresource],
    pub generation: Generation,
    pub fields: &'static [Str],
    pub fields_elsewhere: &'static [(&'static str, &'static [&'static str])],
    /// `None` prints name and age.
    pub columns: Option<BuiltInColumns>,
    /// Empty: the plural.
    pub storage_prefix: &'static str,
    /// Set: nothing is stored.
    pub computed: Option<Computed>,
    /// `None`: the kind's own group and version.
    pub storage_version: Option<(&'static str, &'static str)>,
    pub conversion: Option<Conversion>,
    pub ttl_seconds: Option<u32>,
    pub conditional_defaults: Option<fn(&mut Value)>,
    pub on_create: Option<PrepareCreate>,
    pub on_update: Option<PrepareUpdate>,
    pub on_status_update: Option<PrepareUpdate>,
    pub on_delete: Option<HoldOnDelete>,
    pub validate: Option<Validate>,
    pub validate_subresource: Option<ValidateSubresource>,
    /// What a client is warned of: the new object, and the old one on an update.
    pub warnings: Option<Warnings>,
    pub status_keeps_metadata: bool,
    pub created_with_status: bool,
    pub deprecation: &'static str,
    pub unconditional_update: bool,
    pub create_on_update: bool,
}

/// The head and the body of a built-in kind's table.
#[derive(Clone, Copy)]
pub struct BuiltInColumns {
    pub head: &'static [Column],
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

impl Declaration {
    /// A stored, namespaced kind with every verb and nothing special.
    pub const NEW: Declaration = Declaration {
        kind: "",
        plural: "",
        singular: "",
        short: &[],
        categories: &[],
        group: "",
        version: "v1",
        scope: Scope::Namespaced,
        name_rule: NameRule::Subdomain,
        schema: "",
        verbs: Verbs::ALL,
        subresources: &[],
        generation: Generation::None,
        fields: &[],
        fields_elsewhere: &[],
        columns: None,
        storage_prefix: "",
        computed: None,
        storage_version: None,
        conversion: None,
        ttl_seconds: None,
        conditional_defaults: None,
        on_create: None,
        on_update: None,
        on_status_update: None,
        on_delete: None,
        validate: None,
        validate_subresource: None,
        warnings: None,
        status_keeps_metadata: false,
        created_with_status: false,
        deprecation: "",
        unconditional_update: false,
        create_on_update: false,
    };

    pub const fn build(self) -> Kind {
        let stored = self.verbs.has(Verbs::GET) && self.computed.is_none();
        let (storage_group, storage_version) = match self.storage_version {
            Some(other) => other,
            None => (self.group, self.version),
        };
        let prefix = match (stored, self.storage_prefix.is_empty()) {
            (false, _) => "",
            (true, true) => self.plural,
            (true, false) => self.storage_prefix,
        };
        Kind {
            names: Names {
                kind: Cow::Borrowed(self.kind),
                plural: Cow::Borrowed(self.plural),
                singular: Cow::Borrowed(self.singular),
                list_kind: None,
                short: Cow::Borrowed(self.short),
                categories: Cow::Borrowed(self.categories),
            },
            group: Cow::Borrowed(self.group),
            version: Cow::Borrowed(self.version),
            scope: self.scope,
            name_rule: self.name_rule,
            schema: SchemaSource::Facts(self.schema),
            verbs: self.verbs,
            subresources: Cow::Borrowed(self.subresources),
            generation: self.generation,
            fields: Cow::Borrowed(self.fields),
            fields_elsewhere: self.fields_elsewhere,
            columns: match self.columns {
                Some(BuiltInColumns { head, cells }) => Columns::BuiltIn { head, cells },
                None => Columns::Generic,
            },
            storage_prefix: Cow::Borrowed(prefix),
            computed: self.computed,
            storage_version: (Cow::Borrowed(storage_group), Cow::Borrowed(storage_version)),
            conversion: self.conversion,
            webhook_conversion: None,
            ttl_seconds: self.ttl_seconds,
            conditional_defaults: self.conditional_defaults,
            on_create: self.on_create,
            on_update: self.on_update,
            on_status_update: self.on_status_update,
            on_delete: self.on_delete,
            validate: self.validate,
            validate_subresource: self.validate_subresource,
            warnings: self.warnings,
            status_keeps_metadata: self.status_keeps_metadata,
            created_with_status: self.created_with_status,
            deprecation: Str::Borrowed(self.deprecation),
            unconditional_update: self.unconditional_update,
            create_on_update: self.create_on_update,
        }
    }
}

impl Kind {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        join_version(&self.group, &self.version)
    }

    /// The `apiVersion` objects have in the store.
    pub fn storage_api_version(&self) -> String {
        join_version(&self.storage_version.0, &self.storage_version.1)
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// `PodList`.
    pub fn list_kind(&self) -> String {
        match &self.names.list_kind {
            Some(name) => name.to_string(),
            None => format!("{}List", self.names.kind),
        }
    }

    /// The key of one object, `/registry/pods/default/web`; the namespace is ignored for cluster-scoped kinds.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        match self.scope {
            Scope::Namespaced => format!("/registry/{}/{namespace}/{name}", self.storage_prefix),
            Scope::Cluster => format!("/registry/{}/{name}", self.storage_prefix),
        }
    }

    /// What the keys of all objects (of one namespace, or of all with `None`) begin with; ends in a slash.
    pub fn key_prefix(&self, namespace: Option<&str>) -> String {
        match (self.scope, namespace) {
            (Scope::Namespaced, Some(namespace)) => format!("/registry/{}/{namespace}/", self.storage_prefix),
            _ => format!("/registry/{}/", self.storage_prefix),
        }
    }

    /// Whether `fieldSelector` may name this field.
    pub fn selectable(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.namespaced())
            || self.fields.iter().any(|known| known == field)
    }

    pub fn has_status(&self) -> bool {
        self.subresources.contains(&Subresource::Status)
    }
}

fn join_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
