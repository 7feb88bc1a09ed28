//! The garbage collector: deletes what no owner holds any more.
//!
//! A graph of every object of every resource, by uid, with edges from owners to dependents. [`Graph::observe`] and
//! [`Graph::forget`] keep it and say which objects to look at; [`Graph::attempt`] decides about one. The graph is
//! a cache: before an owner counts as absent the runner asks the API server ([`Attempt::LookUp`]), and every delete is
//! bound to the uid and revision that was looked at.
//! kubernetes/kubernetes pkg/controller/garbagecollector: decides all of this.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::cache::Key;
use crate::meta;
use crate::plan::{Action, Propagation, Subresource, Verb};
use crate::resource::Resource;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

type Uid = String;

/// One object.
struct Node {
    resource: Arc<Resource>,
    key: Key,
    revision: String,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
    deleting: bool,
}

impl Node {
    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|f| f == finalizer)
    }

    /// Whether a reference from `namespace` leads here.
    fn is_at(&self, kind: &str, name: &str, namespace: &str) -> bool {
        let inside = !self.resource.namespaced || self.key.namespace == namespace;
        inside && self.key.name == name && self.resource.kind == kind
    }

    /// Being deleted, and waiting for those who block it.
    fn deleting_dependents(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }
}

/// What to do about one object.
#[derive(Debug)]
pub enum Attempt {
    Nothing,
    /// Ask whether these owners are there, then attempt again. The namespace is the dependent's.
    LookUp {
        namespace: String,
        owners: Vec<OwnerReference>,
    },
    /// Do this, then look at these.
    Act {
        actions: Vec<Action>,
        next: Vec<Uid>,
    },
}

/// Every object of the cluster and who owns whom.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    /// By the owner's uid, whether or not the owner is known.
    dependents: HashMap<Uid, HashSet<Uid>>,
    /// References that lead nowhere, by the owner's uid.
    absent: HashMap<Uid, HashSet<Place>>,
}

/// Where a reference says its owner is: an owner that is in one namespace is absent for a dependent in another.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    api_version: String,
    kind: String,
    name: String,
    /// The dependent's.
    namespace: String,
}

impl Place {
    fn of(owner: &OwnerReference, namespace: &str) -> Place {
        Place {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            namespace: namespace.to_string(),
        }
    }
}

/// Owners known to be absent that are remembered at most.
const ABSENT_MAX: usize = 10_000;

impl Graph {
    /// Takes in an object's newest state; says which objects to look at.
    pub fn observe(&mut self, resource: &Arc<Resource>, object: &ObjectMeta) -> Vec<Uid> {
        let uid = meta::uid(object).to_string();
        let known = self.nodes.get(&uid);
        if known.is_some_and(|had| had.revision.parse::<u64>().unwrap_or(0) > meta::revision(object)) {
            return Vec::new();
        }
        let node = Node {
            resource: resource.clone(),
            key: Key::of(object),
            revision: object.resource_version.clone().unwrap_or_default(),
            owners: meta::owners(object).to_vec(),
            finalizers: object.finalizers.clone().unwrap_or_default(),
            deleting: meta::deleting(object),
        };
        if let Some(places) = self.absent.get_mut(&uid) {
            let holds = |place: &Place| node.is_at(&place.kind, &place.name, &place.namespace);
            places.retain(|place| !holds(place));
        }
        let mut look = Vec::new();
        let old = self.nodes.remove(&uid);
        let old_owners = old.as_ref().map(|o| o.owners.clone()).unwrap_or_default();
        self.relink(&uid, &old_owners, &node.owners, &mut look);
        let was_collecting = old.as_ref().is_some_and(|o| o.deleting_dependents());
        let was_orphaning = old.as_ref().is_some_and(|o| o.deleting && o.has(ORPHAN));
        let owners_gone = old.as_ref().is_some_and(|o| !o.owners.is_empty() && o.owners != node.owners);
        if node.deleting_dependents() && !was_collecting {
            look.extend(self.dependents_of(&uid));
            look.push(uid.clone());
        }
        if (node.deleting && node.has(ORPHAN) && !was_orphaning)
            || owners_gone
            || (old.is_none() && !node.owners.is_empty())
        {
            look.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        look
    }

    /// Takes out an object that is gone.
    pub fn forget(&mut self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut look = Vec::new();
        self.relink(uid, &node.owners, &[], &mut look);
        for dependent in self.dependents_of(uid) {
            if let Some(other) = self.nodes.get(&dependent) {
                let places: Vec<Place> = other
                    .owners
                    .iter()
                    .filter(|o| o.uid == uid)
                    .map(|owner| Place::of(owner, &other.key.namespace))
                    .collect();
                self.absent_now(uid, places);
            }
            look.push(dependent);
        }
        look
    }

    /// Takes out the objects of a resource that is no longer served. Whether they are there is not known any more.
    pub fn lose(&mut self, resource: &Resource) {
        for uid in self.of_resource(resource) {
            if let Some(node) = self.nodes.remove(&uid) {
                self.relink(&uid, &node.owners, &[], &mut Vec::new());
            }
        }
    }

    /// Records that an owner was asked for where a dependent in `namespace` says it is, and is not there.
    pub fn owner_absent(&mut self, namespace: &str, owner: &OwnerReference) -> Vec<Uid> {
        self.absent_now(&owner.uid, vec![Place::of(owner, namespace)]);
        self.dependents_of(&owner.uid)
    }

    fn absent_now(&mut self, uid: &str, places: Vec<Place>) {
        if self.absent.len() >= ABSENT_MAX {
            self.absent.clear();
        }
        self.absent.entry(uid.to_string()).or_default().extend(places);
    }

    fn is_absent(&self, node: &Node, owner: &OwnerReference) -> bool {
        let place = Place::of(owner, &node.key.namespace);
        self.absent.get(&owner.uid).is_some_and(|places| places.contains(&place))
    }

    /// Whether this uid is a known object of this resource; used after a list to find what vanished.
    pub fn of_resource(&self, resource: &Resource) -> Vec<Uid> {
        self.nodes.iter().filter(|(_, node)| *node.resource == *resource).map(|(uid, _)| uid.clone()).collect()
    }

    /// How many objects of a resource a namespace holds.
    pub fn count(&self, group: &str, plural: &str, namespace: &str) -> usize {
        self.nodes
            .values()
            .filter(|n| n.resource.group == group && n.resource.plural == plural && n.key.namespace == namespace)
            .count()
    }

    /// Where an object is.
    pub fn namespace_of(&self, uid: &str) -> Option<&str> {
        self.nodes.get(uid).map(|node| node.key.namespace.as_str())
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.nodes.contains_key(uid)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn dependents_of(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    fn relink(&mut self, uid: &str, before: &[OwnerReference], after: &[OwnerReference], look: &mut Vec<Uid>) {
        let now: HashSet<&str> = after.iter().map(|o| o.uid.as_str()).collect();
        for owner in before {
            let blocks = owner.block_owner_deletion == Some(true);
            let still_blocks = after.iter().any(|o| o.uid == owner.uid && o.block_owner_deletion == Some(true));
            if blocks && !still_blocks && self.nodes.get(&owner.uid).is_some_and(Node::deleting_dependents) {
                look.push(owner.uid.clone());
            }
            if !now.contains(owner.uid.as_str())
                && let Some(set) = self.dependents.get_mut(&owner.uid)
            {
                set.remove(uid);
                let waits = self.nodes.get(&owner.uid).is_some_and(Node::deleting_dependents);
                if waits && !look.contains(&owner.uid) {
                    look.push(owner.uid.clone());
                }
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        for owner in after {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_string());
        }
    }

    /// Decides about one object.
    pub fn attempt(&self, uid: &str) -> Attempt {
        let Some(node) = self.nodes.get(uid) else { return Attempt::Nothing };
        if node.deleting && node.has(ORPHAN) {
            return self.orphan(uid, node);
        }
        if node.deleting_dependents() {
            return self.collect(uid, node);
        }
        if node.deleting || node.owners.is_empty() {
            return Attempt::Nothing;
        }
        let unsure: Vec<OwnerReference> =
            node.owners.iter().filter(|o| !self.is_absent(node, o) && !self.solid_place(node, o)).cloned().collect();
        if !unsure.is_empty() {
            return Attempt::LookUp { namespace: node.key.namespace.clone(), owners: unsure };
        }
        self.judge(uid, node)
    }

    /// Whether the owner is known where the reference says it is.
    fn solid_place(&self, node: &Node, owner: &OwnerReference) -> bool {
        self.nodes.get(&owner.uid).is_some_and(|o| o.is_at(&owner.kind, &owner.name, &node.key.namespace))
    }

    fn judge(&self, uid: &str, node: &Node) -> Attempt {
        let (mut solid, mut waiting, mut gone) = (0, Vec::new(), Vec::new());
        for owner in &node.owners {
            match self.nodes.get(&owner.uid).filter(|_| !self.is_absent(node, owner)) {
                None => gone.push(owner.uid.as_str()),
                Some(o) if o.deleting_dependents() && owner.block_owner_deletion == Some(true) => {
                    waiting.push(owner.uid.as_str());
                }
                Some(_) => solid += 1,
            }
        }
        let has_dependents = self.dependents.get(uid).is_some_and(|d| !d.is_empty());
        match (solid > 0, waiting.is_empty(), gone.is_empty()) {
            (true, true, true) => Attempt::Nothing,
            (true, _, _) => {
                let drop: Vec<&str> = waiting.into_iter().chain(gone).collect();
                let kept: Vec<_> = node.owners.iter().filter(|o| !drop.contains(&o.uid.as_str())).collect();
                act(vec![patch_owners(uid, node, json!(kept))])
            }
            (false, false, _) if has_dependents => self.delete_foreground(uid, node),
            (false, _, _) => {
                let how = match (node.has(ORPHAN), node.has(FOREGROUND)) {
                    (true, _) => Propagation::Orphan,
                    (false, true) => Propagation::Foreground,
                    (false, false) => Propagation::Background,
                };
                act(vec![delete(uid, node, how)])
            }
        }
    }

    /// Deletes an object whose owner waits for it, its own dependents first. A dependent that is itself being
    /// collected might be part of a circle, so the reference stops blocking.
    fn delete_foreground(&self, uid: &str, node: &Node) -> Attempt {
        let circle = self.dependents_of(uid).iter().any(|d| self.nodes.get(d).is_some_and(Node::deleting_dependents));
        let mut actions = Vec::new();
        if circle {
            let unblocked: Vec<_> =
                node.owners.iter().map(|o| OwnerReference { block_owner_deletion: Some(false), ..o.clone() }).collect();
            actions.push(patch_owners(uid, node, json!(unblocked)));
            return act(actions);
        }
        actions.push(delete(uid, node, Propagation::Foreground));
        act(actions)
    }

    /// An object in foreground deletion goes when nobody blocks it any more.
    fn collect(&self, uid: &str, node: &Node) -> Attempt {
        let blocking: Vec<Uid> = self
            .dependents_of(uid)
            .into_iter()
            .filter(|d| {
                let owners = self.nodes.get(d).map(|n| n.owners.as_slice()).unwrap_or(&[]);
                owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
            })
            .collect();
        if blocking.is_empty() {
            return act(vec![without_finalizer(uid, node, FOREGROUND)]);
        }
        let next = blocking.into_iter().filter(|d| self.nodes.get(d).is_some_and(|n| !n.deleting)).collect();
        Attempt::Act { actions: Vec::new(), next }
    }

    /// Dependents lose the reference before the owner goes.
    fn orphan(&self, uid: &str, node: &Node) -> Attempt {
        let mut actions = Vec::new();
        for dependent in self.dependents_of(uid) {
            if let Some(other) = self.nodes.get(&dependent) {
                let kept: Vec<_> = other.owners.iter().filter(|o| o.uid != uid).collect();
                actions.push(patch_owners(&dependent, other, json!(kept)));
            }
        }
        actions.push(without_finalizer(uid, node, ORPHAN));
        act(actions)
    }
}

fn act(actions: Vec<Action>) -> Attempt {
    Attempt::Act { actions, next: Vec::new() }
}

fn on(node: &Node, verb: Verb) -> Action {
    Action { resource: (*node.resource).clone(), key: node.key.clone(), verb, note: None }
}

fn delete(uid: &str, node: &Node, how: Propagation) -> Action {
    let revision = Some(node.revision.clone());
    let verb = Verb::Delete { uid: Some(uid.to_string()), revision, grace_seconds: None, propagation: Some(how) };
    on(node, verb)
}

fn patch_owners(uid: &str, node: &Node, owners: serde_json::Value) -> Action {
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": node.revision, "ownerReferences": owners}});
    on(node, Verb::Patch { patch, subresource: Subresource::None })
}

fn without_finalizer(uid: &str, node: &Node, finalizer: &str) -> Action {
    let kept: Vec<&String> = node.finalizers.iter().filter(|f| *f != finalizer).collect();
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": node.revision, "finalizers": kept}});
    on(node, Verb::Patch { patch, subresource: Subresource::None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value};

    fn resource(kind: &'static str) -> Arc<Resource> {
        Arc::new(Resource::builtin("apps", "v1", kind, kind, true))
    }

    /// `name>owner` with `!` for an owner that is blocked, as metadata.
    fn object(name: &str, owners: &[(&str, bool)], more: Value) -> ObjectMeta {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(owner, blocks)| {
                json!({"apiVersion": "apps/v1", "kind": "Thing", "name": owner, "uid": owner, "blockOwnerDeletion": blocks})
            })
            .collect();
        let mut meta =
            json!({"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "ownerReferences": owners});
        for (key, value) in more.as_object().into_iter().flatten() {
            meta[key] = value.clone();
        }
        from_value(meta).unwrap()
    }

    fn text(attempt: Attempt) -> String {
        match attempt {
            Attempt::Nothing => "nothing".into(),
            Attempt::LookUp { owners, .. } => {
                format!("look up {}", owners.iter().map(|o| o.name.clone()).collect::<Vec<_>>().join(" "))
            }
            Attempt::Act { actions, next } => {
                let plan = crate::plan::Plan { actions, ..Default::default() };
                let plan = if plan.actions.is_empty() { String::new() } else { plan.to_text() };
                format!("{plan}next {next:?}")
            }
        }
    }

    fn graph(objects: &[ObjectMeta]) -> Graph {
        let mut graph = Graph::default();
        for object in objects {
            graph.observe(&resource("Thing"), object);
        }
        graph
    }

    #[test]
    fn an_owner_nobody_knows_is_looked_up_and_then_missed() {
        let mut graph = graph(&[object("child", &[("parent", true)], json!({}))]);
        assert_eq!(text(graph.attempt("child")), "look up parent");
        let Attempt::LookUp { namespace, owners } = graph.attempt("child") else { panic!() };
        assert_eq!(graph.owner_absent(&namespace, &owners[0]), ["child"]);
        assert_eq!(text(graph.attempt("child")), "delete Thing.apps n/child Background\nnext []");
    }

    #[test]
    fn an_owner_in_another_namespace_holds_nothing() {
        let stray = object("stray", &[("parent", true)], json!({"namespace": "elsewhere"}));
        let mut graph =
            graph(&[object("parent", &[], json!({})), object("child", &[("parent", true)], json!({})), stray]);
        let Attempt::LookUp { namespace, owners } = graph.attempt("stray") else { panic!() };
        graph.owner_absent(&namespace, &owners[0]);
        assert_eq!(text(graph.attempt("stray")), "delete Thing.apps elsewhere/stray Background\nnext []");
        assert_eq!(text(graph.attempt("child")), "nothing");
        graph.observe(&resource("Thing"), &object("parent", &[], json!({"resourceVersion": "2"})));
        assert_eq!(text(graph.attempt("stray")), "delete Thing.apps elsewhere/stray Background\nnext []");
    }

    #[test]
    fn an_owner_of_a_resource_no_longer_served_is_not_taken_for_absent() {
        let mut graph = graph(&[object("parent", &[], json!({}))]);
        graph.observe(&resource("Other"), &object("child", &[("parent", true)], json!({})));
        graph.lose(&resource("Thing"));
        assert_eq!(text(graph.attempt("child")), "look up parent");
    }

    #[test]
    fn an_owner_that_goes_takes_its_dependents() {
        let mut graph = graph(&[object("parent", &[], json!({})), object("child", &[("parent", true)], json!({}))]);
        assert_eq!(text(graph.attempt("child")), "nothing");
        assert_eq!(graph.forget("parent"), ["child"]);
        assert_eq!(text(graph.attempt("child")), "delete Thing.apps n/child Background\nnext []");
    }

    #[test]
    fn one_of_two_owners_keeps_the_object() {
        let mut graph = graph(&[
            object("a", &[], json!({})),
            object("b", &[], json!({})),
            object("child", &[("a", true), ("b", true)], json!({})),
        ]);
        graph.forget("a");
        let done = text(graph.attempt("child"));
        assert!(done.starts_with("patch Thing.apps n/child"), "{done}");
        assert!(done.contains("\"uid\":\"b\"") && !done.contains("\"name\":\"a\""), "{done}");
    }

    #[test]
    fn foreground_waits_for_those_that_block() {
        let going =
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FOREGROUND], "resourceVersion": "2"});
        let mut graph = graph(&[object("parent", &[], json!({})), object("child", &[("parent", true)], json!({}))]);
        let look = graph.observe(&resource("Thing"), &object("parent", &[], going));
        assert_eq!(look, ["child", "parent"]);
        assert_eq!(text(graph.attempt("parent")), "next [\"child\"]");
        assert_eq!(text(graph.attempt("child")), "delete Thing.apps n/child Background\nnext []");
        assert_eq!(graph.forget("child"), ["parent"]);
        let done = text(graph.attempt("parent"));
        assert!(done.contains("\"finalizers\":[]"), "{done}");
    }

    #[test]
    fn orphaning_cuts_the_references_before_the_owner_goes() {
        let going =
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [ORPHAN], "resourceVersion": "2"});
        let mut graph = graph(&[object("parent", &[], json!({})), object("child", &[("parent", true)], json!({}))]);
        assert_eq!(graph.observe(&resource("Thing"), &object("parent", &[], going)), ["parent"]);
        let done = text(graph.attempt("parent"));
        let child = done.find("n/child").unwrap();
        assert!(child < done.find("n/parent").unwrap(), "{done}");
        assert!(done.contains("\"ownerReferences\":[]"), "{done}");
    }
}
