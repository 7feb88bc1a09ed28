//! The operations of a kind, by path.
//!
//! `kubernetes/apiserver pkg/endpoints/installer.go: the actions of a resource, their paths, names and parameters`; of a
//! custom kind `kubernetes/apiextensions-apiserver pkg/controller/openapi/builder`, which tells less.

use kinds::kind::SchemaSource;
use kinds::parameters;
use kinds::{Kind, Subresource, Verbs};
use machinery::gvk::GroupVersionKind;

use super::custom;
use super::operations::{Body, Item, Model, Operation, Place, Placed, placed};
use crate::verbs::delete;

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

pub const JSON: &str = "application/json";
pub const MEDIA: [&str; 3] = [JSON, "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const CUSTOM_MEDIA: [&str; 2] = [JSON, "application/yaml"];
const ANY: &[&str] = &["*/*"];
const APPLY: &str = "application/apply-patch+yaml";
const PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", APPLY];
const CUSTOM_PATCHES: &[&str] = &["application/json-patch+json", "application/merge-patch+json", APPLY];

/// A way of asking a resource, as its route is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    List,
    Create,
    DeleteCollection,
    /// By the deprecated path of its own.
    WatchList,
    Read,
    Replace,
    Patch,
    Delete,
    /// By the deprecated path of its own.
    Watch,
    /// A stream, or what a proxy hands on, by a method.
    Connect(&'static str),
}

impl Action {
    fn method(self) -> &'static str {
        match self {
            Action::List | Action::WatchList | Action::Read | Action::Watch => "get",
            Action::Create => "post",
            Action::Replace => "put",
            Action::Patch => "patch",
            Action::DeleteCollection | Action::Delete => "delete",
            Action::Connect(method) => method,
        }
    }

    /// What `x-kubernetes-action` calls it.
    fn name(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Create => "post",
            Action::DeleteCollection => "deletecollection",
            Action::WatchList => "watchlist",
            Action::Read => "get",
            Action::Replace => "put",
            Action::Patch => "patch",
            Action::Delete => "delete",
            Action::Watch => "watch",
            Action::Connect(_) => "connect",
        }
    }

    /// What its operation's name begins with.
    fn prefix(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Create => "create",
            Action::DeleteCollection | Action::Delete => "delete",
            Action::WatchList | Action::Watch => "watch",
            Action::Read => "read",
            Action::Replace => "replace",
            Action::Patch => "patch",
            Action::Connect(_) => "connect",
        }
    }

    fn codes(self, custom: bool) -> &'static [u16] {
        match self {
            Action::Create => &[200, 201, 202],
            Action::Replace => &[200, 201],
            // What is applied may be new.
            Action::Patch if !custom => &[200, 201],
            Action::Delete => &[200, 202],
            _ => &[200],
        }
    }
}

/// What a path is about.
#[derive(Clone, Copy)]
struct At<'a> {
    subresource: Option<&'a Subresource>,
    /// Every namespace at once.
    all: bool,
    named: bool,
    /// With a path of another server's behind it.
    with_path: bool,
}

const COLLECTION: At = At { subresource: None, all: false, named: false, with_path: false };

/// The paths of a kind.
pub fn of(kind: &Kind) -> Vec<Item> {
    let schema = match &kind.schema {
        SchemaSource::Facts(name) => (*name).to_owned(),
        SchemaSource::Custom(_) => custom::name(kind),
    };
    let custom = matches!(kind.schema, SchemaSource::Custom(_));
    Routes { kind, schema, custom }.items()
}

/// Where a group and version is served: `/api/v1`, `/apis/apps/v1`.
fn root(kind: &Kind) -> String {
    let prefix = if kind.group.is_empty() { "/api" } else { "/apis" };
    format!("{prefix}/{}", kind.api_version())
}

struct Routes<'a> {
    kind: &'a Kind,
    schema: String,
    custom: bool,
}

impl Routes<'_> {
    fn items(&self) -> Vec<Item> {
        let (root, plural, verbs) = (root(self.kind), &self.kind.names.plural, self.kind.verbs);
        let collection =
            if self.kind.namespaced() { format!("namespaces/{{namespace}}/{plural}") } else { plural.to_string() };
        let watches = verbs.has(Verbs::WATCH) && !self.custom;
        let actions = |known: &[(Verbs, Action)]| -> Vec<Action> {
            known.iter().filter(|(verb, _)| verbs.has(*verb)).map(|(_, action)| *action).collect()
        };
        let lists = actions(&[(Verbs::LIST, Action::List)]);
        let listing = verbs.has(Verbs::LIST) && watches;
        let watch_list = if listing { vec![Action::WatchList] } else { Vec::new() };
        let of_collection = actions(&[
            (Verbs::LIST, Action::List),
            (Verbs::CREATE, Action::Create),
            (Verbs::DELETE_COLLECTION, Action::DeleteCollection),
        ]);
        let of_object = actions(&[
            (Verbs::GET, Action::Read),
            (Verbs::UPDATE, Action::Replace),
            (Verbs::PATCH, Action::Patch),
            (Verbs::DELETE, Action::Delete),
        ]);
        let watch = if watches { vec![Action::Watch] } else { Vec::new() };
        let object = At { named: true, ..COLLECTION };
        let mut paths = vec![
            (collection.clone(), COLLECTION, of_collection),
            (format!("watch/{collection}"), COLLECTION, watch_list.clone()),
            (format!("{collection}/{{name}}"), object, of_object),
            (format!("watch/{collection}/{{name}}"), object, watch),
        ];
        if self.kind.namespaced() {
            let all = At { all: true, ..COLLECTION };
            paths.push((plural.to_string(), all, lists));
            paths.push((format!("watch/{plural}"), all, watch_list));
        }
        for subresource in self.kind.subresources.iter() {
            let path = format!("{collection}/{{name}}/{}", subresource.name());
            let at = At { subresource: Some(subresource), ..object };
            let actions = self.of_subresource(subresource);
            if *subresource == Subresource::Proxy {
                paths.push((format!("{path}/{{path}}"), At { with_path: true, ..at }, actions.clone()));
            }
            paths.push((path, at, actions));
        }
        paths.retain(|(_, _, actions)| !actions.is_empty());
        let item = |(path, at, actions): (String, At, Vec<Action>)| Item {
            path: format!("{root}/{path}"),
            operations: actions.into_iter().map(|action| self.operation(action, at)).collect(),
        };
        paths.into_iter().map(item).collect()
    }

    /// A stream is begun by either method; what a proxy hands on by any.
    fn of_subresource(&self, subresource: &Subresource) -> Vec<Action> {
        match subresource {
            Subresource::Exec | Subresource::Attach | Subresource::PortForward => {
                ["get", "post"].map(Action::Connect).into()
            }
            Subresource::Proxy => {
                ["get", "put", "post", "delete", "options", "head", "patch"].map(Action::Connect).into()
            }
            _ => {
                let verbs = self.kind.verbs_of(subresource).iter();
                let actions = verbs.filter_map(|verb| match *verb {
                    "get" => Some(Action::Read),
                    "update" => Some(Action::Replace),
                    "patch" => Some(Action::Patch),
                    "create" => Some(Action::Create),
                    _ => None,
                });
                actions.collect()
            }
        }
    }

    fn operation(&self, action: Action, at: At) -> Operation {
        let about = match at.subresource {
            Some(subresource) if !self.custom => self.kind.speaks(subresource.name()),
            _ => self.kind.speaks(""),
        };
        let part = at.subresource.map(Subresource::name).unwrap_or_default();
        let (group, version) = name_parts(&self.kind.group, &self.kind.version);
        Operation {
            method: action.method(),
            id: format!(
                "{}{}{}{}",
                action.prefix(),
                upper_first(&group),
                upper_first(&version),
                self.rest_of_id(action, at)
            ),
            tag: format!("{group}_{version}"),
            words: [action.prefix(), self.kind.names.kind.as_ref(), part].join(" ").trim_end().to_owned(),
            parameters: self.parameters(action, at, &about),
            body: self.body(action, at, &about),
            consumes: match (action, self.custom) {
                (Action::Patch, false) => PATCHES,
                (Action::Patch, true) => CUSTOM_PATCHES,
                (_, false) => ANY,
                (_, true) => &CUSTOM_MEDIA,
            },
            produces: self.produces(action, at),
            codes: action.codes(self.custom),
            model: self.model(action, at, &about),
            about: Some((action.name(), about)),
        }
    }

    /// `NamespacedPodStatus`.
    fn rest_of_id(&self, action: Action, at: At) -> String {
        let before = match action {
            Action::DeleteCollection => "Collection".to_owned(),
            Action::Connect(method) => upper_first(method),
            _ => String::new(),
        };
        let scope = if self.kind.namespaced() && !at.all { "Namespaced" } else { "" };
        let part = at.subresource.map(|subresource| upper_first(subresource.name())).unwrap_or_default();
        let list = if action == Action::WatchList { "List" } else { "" };
        let suffix = match (at.with_path, at.all) {
            (true, _) => "WithPath",
            (false, true) => "ForAllNamespaces",
            (false, false) => "",
        };
        format!("{before}{scope}{}{part}{list}{suffix}", self.kind.names.kind)
    }

    fn parameters(&self, action: Action, at: At, about: &GroupVersionKind) -> Vec<Placed> {
        let log = at.subresource == Some(&Subresource::Log);
        let options: &[&str] = match action {
            Action::DeleteCollection if !self.custom => &["DeleteOptions", "ListOptions"],
            Action::List | Action::WatchList | Action::Watch | Action::DeleteCollection => &["ListOptions"],
            Action::Create => &["CreateOptions"],
            Action::Replace => &["UpdateOptions"],
            Action::Patch => &["PatchOptions"],
            Action::Delete => &["DeleteOptions"],
            Action::Read if log => &["PodLogOptions"],
            Action::Read if self.custom => &["GetOptions"],
            Action::Read => &[],
            Action::Connect(_) => &[&*about.kind],
        };
        let mut found: Vec<Placed> = options
            .iter()
            .flat_map(|options| parameters::of(options))
            .filter(|one| options.len() == 1 || !matches!(one.name, "watch" | "allowWatchBookmarks"))
            .map(|parameter| (Place::Query, parameter))
            .collect();
        let others = [
            (Place::Query, "pretty", !matches!(action, Action::Connect(_))),
            (Place::Path, "namespace", self.kind.namespaced() && !at.all),
            (Place::Path, "name", at.named),
            (Place::Path, "path", at.with_path),
        ];
        found.extend(others.into_iter().filter(|(_, _, has)| *has).filter_map(|(place, name, _)| placed(place, name)));
        found
    }

    fn body(&self, action: Action, at: At, about: &GroupVersionKind) -> Option<Body> {
        let (definition, required) = match action {
            Action::Create | Action::Replace => (self.definition(at, about), true),
            Action::Patch => (format!("{META}.Patch"), true),
            Action::DeleteCollection if self.custom => return None,
            Action::Delete | Action::DeleteCollection => (format!("{META}.DeleteOptions"), false),
            _ => return None,
        };
        Some(Body { definition, required })
    }

    /// The definition of the objects that are taken and answered with.
    fn definition(&self, at: At, about: &GroupVersionKind) -> String {
        match at.subresource {
            Some(Subresource::Scale(_)) => "io.k8s.api.autoscaling.v1.Scale".to_owned(),
            Some(_) if !self.custom && *about.kind != *self.kind.names.kind => {
                let package = about.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
                format!("io.k8s.api.{package}.{}.{}", about.version, about.kind)
            }
            _ => self.schema.clone(),
        }
    }

    fn model(&self, action: Action, at: At, about: &GroupVersionKind) -> Model {
        Model::Definition(match action {
            Action::Connect(_) => return Model::Text,
            Action::Read if at.subresource == Some(&Subresource::Log) => return Model::Text,
            Action::List => format!("{}List", self.schema),
            Action::WatchList | Action::Watch => format!("{META}.WatchEvent"),
            // A namespace is answered with, and told not to be.
            Action::Delete if delete::returns_object(self.kind) && self.kind.names.plural != "namespaces" => {
                self.schema.clone()
            }
            Action::Delete | Action::DeleteCollection => format!("{META}.Status"),
            _ => self.definition(at, about),
        })
    }

    fn produces(&self, action: Action, at: At) -> Vec<&'static str> {
        match action {
            _ if self.custom => CUSTOM_MEDIA.to_vec(),
            Action::Connect(_) => ANY.to_vec(),
            Action::List | Action::WatchList | Action::Watch => [&MEDIA[..], &STREAMS].concat(),
            Action::Read if at.subresource == Some(&Subresource::Log) => [&["text/plain"][..], &MEDIA].concat(),
            _ => MEDIA.to_vec(),
        }
    }
}

/// How a group and a version stand in names: `rbac.authorization.k8s.io/v1` is `rbacAuthorization` and `v1`.
pub fn name_parts(group: &str, version: &str) -> (String, String) {
    let group = if group.is_empty() { "core" } else { group };
    (camel(group.strip_suffix(".k8s.io").unwrap_or(group)), camel(version))
}

/// The letters and digits of a name, each part of it with a capital but the first.
/// `kubernetes/apiserver pkg/endpoints/openapi/openapi.go: ToValidOperationID`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut capital = false;
    for (at, letter) in name.char_indices() {
        let fits = letter.is_alphabetic() || letter == '_' || (letter.is_ascii_digit() && at > 0);
        match (fits, capital) {
            (true, true) => out.extend(letter.to_uppercase()),
            (true, false) => out.push(letter),
            (false, _) => {}
        }
        capital = !fits;
    }
    out
}

pub fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openapi::Form;
    use crate::openapi::operations::Referred;

    fn custom(subresources: &serde_json::Value) -> Kind {
        let definition = json!({ "spec": {
            "group": "stable.example.com", "scope": "Cluster", "names": { "plural": "wares", "kind": "Ware" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": subresources,
                "schema": { "openAPIV3Schema": { "type": "object" } } }],
        } });
        Kind::from_crd(&definition, "v1").expect("readable").expect("served")
    }

    /// Each path below its group version, and what may be done there by which name.
    fn told(kind: &Kind) -> String {
        let prefix = format!("{}/", root(kind));
        let lines = of(kind).into_iter().map(|item| {
            let path = item.path.strip_prefix(&prefix).expect("below its group version");
            let operations: Vec<String> = item
                .operations
                .iter()
                .map(|one| format!("  {} {} {}", one.method, one.about.as_ref().expect("a kind").0, one.id))
                .collect();
            format!("{path}\n{}", operations.join("\n"))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_namespaced_kind_is_told_with_its_subresources_and_deprecated_watches() {
        let kind = kinds::by_resource("apps", "v1", "replicasets").expect("built in");
        insta::assert_snapshot!(told(kind), @r"
        namespaces/{namespace}/replicasets
          get list listAppsV1NamespacedReplicaSet
          post post createAppsV1NamespacedReplicaSet
          delete deletecollection deleteAppsV1CollectionNamespacedReplicaSet
        watch/namespaces/{namespace}/replicasets
          get watchlist watchAppsV1NamespacedReplicaSetList
        namespaces/{namespace}/replicasets/{name}
          get get readAppsV1NamespacedReplicaSet
          put put replaceAppsV1NamespacedReplicaSet
          patch patch patchAppsV1NamespacedReplicaSet
          delete delete deleteAppsV1NamespacedReplicaSet
        watch/namespaces/{namespace}/replicasets/{name}
          get watch watchAppsV1NamespacedReplicaSet
        replicasets
          get list listAppsV1ReplicaSetForAllNamespaces
        watch/replicasets
          get watchlist watchAppsV1ReplicaSetListForAllNamespaces
        namespaces/{namespace}/replicasets/{name}/scale
          get get readAppsV1NamespacedReplicaSetScale
          patch patch patchAppsV1NamespacedReplicaSetScale
          put put replaceAppsV1NamespacedReplicaSetScale
        namespaces/{namespace}/replicasets/{name}/status
          get get readAppsV1NamespacedReplicaSetStatus
          patch patch patchAppsV1NamespacedReplicaSetStatus
          put put replaceAppsV1NamespacedReplicaSetStatus
        ");
    }

    #[test]
    fn a_custom_kind_is_told_without_watches() {
        insta::assert_snapshot!(told(&custom(&json!({ "status": {} }))), @r"
        wares
          get list listStableExampleComV1Ware
          post post createStableExampleComV1Ware
          delete deletecollection deleteStableExampleComV1CollectionWare
        wares/{name}
          get get readStableExampleComV1Ware
          put put replaceStableExampleComV1Ware
          patch patch patchStableExampleComV1Ware
          delete delete deleteStableExampleComV1Ware
        wares/{name}/status
          get get readStableExampleComV1WareStatus
          patch patch patchStableExampleComV1WareStatus
          put put replaceStableExampleComV1WareStatus
        ");
    }

    #[test]
    fn streams_and_proxies_are_told_by_their_methods() {
        let kind = kinds::by_resource("", "v1", "nodes").expect("built in");
        let told = told(kind);
        assert!(
            told.contains("nodes/{name}/proxy/{path}\n  get connect connectCoreV1GetNodeProxyWithPath\n"),
            "{told}"
        );
        let pod = of(kinds::by_resource("", "v1", "pods").expect("built in"));
        let exec = pod.iter().find(|item| item.path.ends_with("/exec")).expect("exec");
        let names: Vec<&str> = exec.operations[0].parameters.iter().map(|(_, one)| one.name).collect();
        assert_eq!(names, ["command", "container", "stderr", "stdin", "stdout", "tty", "namespace", "name"]);
        assert_eq!(exec.operations[1].about.as_ref().expect("a kind").1.kind.as_ref(), "PodExecOptions");
    }

    fn names(operation: &Operation) -> String {
        let names: Vec<&str> = operation.parameters.iter().map(|(_, parameter)| parameter.name).collect();
        names.join(" ")
    }

    /// Of what is asked of one object: what it takes, what it answers with by which codes, and its parameters.
    fn shape(kind: &Kind) -> String {
        let operations = of(kind).into_iter().flat_map(|item| item.operations);
        let lines = operations.filter(|one| !names(one).contains("labelSelector")).map(|one| {
            let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
            let model = match &one.model {
                Model::Definition(name) => short(name),
                Model::Text => "text".to_owned(),
            };
            let body = one.body.as_ref().map_or("-".to_owned(), |body| short(&body.definition));
            format!("{} {body} -> {:?} {model}\n  {}", one.id, one.codes, names(&one))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_verb_takes_its_options() {
        let kind = kinds::by_resource("node.k8s.io", "v1", "runtimeclasses").expect("built in");
        insta::assert_snapshot!(shape(kind), @r"
        createNodeV1RuntimeClass RuntimeClass -> [200, 201, 202] RuntimeClass
          dryRun fieldManager fieldValidation pretty
        readNodeV1RuntimeClass - -> [200] RuntimeClass
          pretty name
        replaceNodeV1RuntimeClass RuntimeClass -> [200, 201] RuntimeClass
          dryRun fieldManager fieldValidation pretty name
        patchNodeV1RuntimeClass Patch -> [200, 201] RuntimeClass
          dryRun fieldManager fieldValidation force pretty name
        deleteNodeV1RuntimeClass DeleteOptions -> [200, 202] Status
          dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents propagationPolicy pretty name
        ");
        let all: Vec<Operation> = of(kind).into_iter().flat_map(|item| item.operations).collect();
        let named = |id: &str| names(all.iter().find(|one| one.id == id).expect(id));
        let (list, collection) = (named("listNodeV1RuntimeClass"), named("deleteNodeV1CollectionRuntimeClass"));
        assert!(list.starts_with("allowWatchBookmarks continue ") && list.ends_with(" watch pretty"), "{list}");
        assert_eq!(list, named("watchNodeV1RuntimeClassList"));
        assert!(collection.contains("orphanDependents propagationPolicy continue ") && !collection.contains(" watch"));
    }

    #[test]
    fn a_custom_kind_takes_and_answers_less() {
        insta::assert_snapshot!(shape(&custom(&json!({ "scale": {} }))), @r"
        createStableExampleComV1Ware Ware -> [200, 201, 202] Ware
          dryRun fieldManager fieldValidation pretty
        readStableExampleComV1Ware - -> [200] Ware
          resourceVersion pretty name
        replaceStableExampleComV1Ware Ware -> [200, 201] Ware
          dryRun fieldManager fieldValidation pretty name
        patchStableExampleComV1Ware Patch -> [200] Ware
          dryRun fieldManager fieldValidation force pretty name
        deleteStableExampleComV1Ware DeleteOptions -> [200, 202] Status
          dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents propagationPolicy pretty name
        readStableExampleComV1WareScale - -> [200] Scale
          resourceVersion pretty name
        patchStableExampleComV1WareScale Patch -> [200] Scale
          dryRun fieldManager fieldValidation force pretty name
        replaceStableExampleComV1WareScale Scale -> [200, 201] Scale
          dryRun fieldManager fieldValidation pretty name
        ");
    }

    #[test]
    fn the_older_format_shares_parameters_by_name() {
        let kind = kinds::by_resource("node.k8s.io", "v1", "runtimeclasses").expect("built in");
        let item = of(kind).into_iter().find(|item| item.path.ends_with("/runtimeclasses/{name}")).expect("its path");
        let mut referred = Referred::default();
        let told = item.write(Form::V2, &mut referred);
        let wanted = json!([
            { "name": "name", "in": "path", "required": true, "type": "string", "uniqueItems": true },
            { "$ref": "#/parameters/pretty-tJGM1-ng" },
        ]);
        assert_eq!(told["parameters"], wanted);
        assert_eq!(told["delete"]["parameters"][0]["$ref"], "#/parameters/body-2Y1dVQaQ");
        assert_eq!(told["put"]["parameters"][0]["schema"]["$ref"], "#/definitions/io.k8s.api.node.v1.RuntimeClass");
        assert_eq!(told["put"]["parameters"][0]["required"], true);
        assert_eq!(told["patch"]["consumes"][2], "application/strategic-merge-patch+json");
        let shared = json!({ "name": "pretty", "in": "query", "type": "string", "uniqueItems": true });
        assert_eq!(referred.parameters["pretty-tJGM1-ng"], shared);
        assert!(referred.definitions.contains("io.k8s.apimachinery.pkg.apis.meta.v1.Patch"));
    }

    #[test]
    fn the_newer_format_tells_media_types_where_they_are_used() {
        let kind = kinds::by_resource("node.k8s.io", "v1", "runtimeclasses").expect("built in");
        let item = of(kind).into_iter().find(|item| item.path.ends_with("/runtimeclasses/{name}")).expect("its path");
        let told = item.write(Form::V3, &mut Referred::default());
        let schema = json!({ "$ref": "#/components/schemas/io.k8s.api.node.v1.RuntimeClass" });
        assert_eq!(told["get"]["responses"]["200"]["content"]["application/yaml"], json!({ "schema": schema }));
        assert_eq!(told["put"]["requestBody"], json!({ "required": true, "content": { "*/*": { "schema": schema } } }));
        assert_eq!(told["delete"]["requestBody"].get("required"), None);
        assert_eq!(told["get"]["responses"]["401"], json!({ "description": "Unauthorized" }));
        let name = json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } });
        assert_eq!(told["parameters"][0], name);
    }

    #[test]
    fn names_are_made_of_letters_and_digits() {
        assert_eq!(name_parts("rbac.authorization.k8s.io", "v1"), ("rbacAuthorization".to_owned(), "v1".to_owned()));
        assert_eq!(name_parts("", "v1").0, "core");
        assert_eq!(name_parts("my-2.x.io", "v1alpha1"), ("my2XIo".to_owned(), "v1alpha1".to_owned()));
    }
}
