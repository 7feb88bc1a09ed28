//! `DaemonSet`: one pod on each node that fits.
//!
//! kubernetes/kubernetes pkg/controller/daemon: decides which nodes, the tolerations added, and the rolling update.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
};

use crate::cache::{Cache, Change, Key, Of};
use crate::claim::claim;
use crate::controller::{Controller, Cx, Failure, controlling, own};
use crate::fence::{self, Round};
use crate::history::{self, HASH, History};
use crate::meta;
use crate::plan::{Action, Event, Plan, Verb};
use crate::podstate;
use crate::selector;
use crate::template::{create_pod, delete_pod, pod_of};
use kinds::nodefit;

const BURST: usize = 250;
const GENERATION: &str = "deprecated.daemonset.template.generation";

pub static DAEMONSET: Controller = Controller {
    name: "daemonset-controller",
    account: "daemon-set-controller",
    watches: &[
        (Of::DaemonSet, own),
        (Of::Pod, of_pod),
        (Of::ControllerRevision, controlling::<DaemonSet>),
        (Of::Node, of_node),
    ],
    workers: 2,
    sync: |cx, key| {
        let Some(view) = gather(cx, key) else { return Plan::default() };
        let (set, pods) = (view.set.clone(), view.pods.clone());
        let plan = plan(view, cx.now);
        remember(cx, &set, &pods, &plan);
        plan
    },
};

/// A node that refuses the set's pods is not hammered: how often that has happened is remembered under this name.
fn backoff_name(set: &DaemonSet, node: &str) -> String {
    let observed = set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    format!("daemonset/{}/{observed}/{node}", meta::uid(&set.metadata))
}

/// Notes which nodes lose a failed pod by a plan.
fn remember(cx: &Cx<'_>, set: &DaemonSet, pods: &[Arc<Pod>], plan: &Plan) {
    let deleted = plan.actions.iter().filter(|a| matches!(a.verb, Verb::Delete { .. }));
    let names: BTreeSet<&Key> = deleted.map(|a| &a.key).collect();
    let failed = pods.iter().filter(|p| podstate::phase(p) == "Failed" && names.contains(&Key::of(&p.metadata)));
    let nodes: BTreeSet<String> = failed.map(|p| target_node(p)).collect();
    let mut backoffs = cx.cache.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
    for node in nodes {
        backoffs.tried(backoff_name(set, &node), cx.now);
    }
}

struct View {
    set: Arc<DaemonSet>,
    pods: Vec<Arc<Pod>>,
    nodes: Vec<Arc<Node>>,
    revisions: Vec<Arc<ControllerRevision>>,
    failure: Option<Failure>,
    /// How long nodes that refused a pod are still let alone.
    resting: BTreeMap<String, Duration>,
}

fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    controlling::<DaemonSet>(cache, change, keys);
    if let Some(pod) = change.after::<Pod>()
        && meta::controller_of(&pod.metadata).is_none()
    {
        let sets = cache.daemon_sets.within(meta::namespace(&pod.metadata));
        let takes = |s: &&Arc<DaemonSet>| selector::matches(Some(&s.spec.selector), &pod.metadata.labels);
        keys.extend(sets.iter().filter(takes).map(|s| Key::of(&s.metadata)));
    }
}

/// A node's labels and taints concern every set; its heartbeat none.
fn of_node(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone());
    if let (Some(old), Some(new)) = (change.before::<Node>(), change.after::<Node>())
        && old.metadata.labels == new.metadata.labels
        && taints(old) == taints(new)
    {
        return;
    }
    keys.extend(cache.daemon_sets.keys());
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let set = cx.cache.daemon_sets.at(key)?;
    let uid = meta::uid(&set.metadata).to_string();
    let mut pods = cx.cache.pods.controlled_by(&uid);
    let orphans = cx.cache.pods.within(&key.namespace);
    pods.extend(orphans.into_iter().filter(|p| meta::controller_of(&p.metadata).is_none()));
    let revisions = history::gather(cx, key, &uid);
    let nodes = cx.cache.nodes.all();
    let backoffs = cx.cache.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
    let left = |name: &str| backoffs.left(&backoff_name(&set, name), cx.now);
    let resting = nodes
        .iter()
        .filter_map(|n| left(meta::name(&n.metadata)).map(|wait| (meta::name(&n.metadata).to_string(), wait)))
        .collect();
    Some(View { set: set.clone(), pods, nodes, revisions, failure: cx.failure.cloned(), resting })
}

/// The newer and the older pod of a node.
type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// The pods of each node, the oldest first.
type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

struct Draft<'a> {
    set: &'a DaemonSet,
    nodes: &'a [Arc<Node>],
    by_node: ByNode,
    resting: &'a BTreeMap<String, Duration>,
    hash: String,
    now: Timestamp,
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
    plan: Plan,
}

fn plan(view: View, now: Timestamp) -> Plan {
    let set = view.set.as_ref();
    let mut plan = Plan::default();
    if selector::is_empty(Some(&set.spec.selector)) {
        let text = "This daemon set is selecting all pods. A non-empty selector is required.";
        plan.events.push(Event::warning(set, "SelectingAll", text));
        return plan;
    }
    if meta::deleting(&set.metadata) {
        return plan;
    }
    let selects = |labels: &selector::Labels| selector::matches(Some(&set.spec.selector), labels);
    let revisions = claim(set, view.revisions, |r| selects(&r.metadata.labels), &mut plan.actions);
    let pods = claim(set, view.pods, |p| selects(&p.metadata.labels), &mut plan.actions);
    let collisions = set.status.as_ref().and_then(|s| s.collision_count);
    let history = history::revise(set, &set.spec.template, revisions, collisions, HASH, view.failure.as_ref());
    plan.actions.extend(history.actions.iter().cloned());
    if history.collision {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(collisions.unwrap_or(0) + 1);
        plan.status = Some(Action::update_status(&DaemonSet { status: Some(status), ..set.clone() }));
        return plan;
    }
    let Some(current) = history.current.clone() else { return plan };
    let hash = history::hash_of(&current).to_string();
    let mut draft = Draft {
        set,
        nodes: &view.nodes,
        by_node: by_node(pods),
        resting: &view.resting,
        hash,
        now,
        create: Vec::new(),
        delete: Vec::new(),
        plan,
    };
    draft.manage();
    if draft.create.is_empty() && draft.delete.is_empty() && draft.rolls() {
        draft.roll();
    }
    draft.finish(&history)
}

fn by_node(pods: Vec<Arc<Pod>>) -> ByNode {
    let mut by_node = ByNode::new();
    for pod in pods {
        by_node.entry(target_node(&pod)).or_default().push(pod);
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|p| {
            let unassigned = podstate::node_name(p).is_empty();
            (unassigned, meta::created(&p.metadata), p.metadata.name.clone())
        });
    }
    by_node
}

/// The node a pod is on or meant for.
fn target_node(pod: &Pod) -> String {
    let bound = podstate::node_name(pod);
    if !bound.is_empty() {
        return bound.to_string();
    }
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()).and_then(|a| a.node_affinity.as_ref());
    let terms = affinity
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|r| r.node_selector_terms.as_slice())
        .unwrap_or(&[]);
    let fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let mut names = fields.filter(|f| f.key == "metadata.name").flat_map(|f| f.values.iter().flatten());
    names.next().cloned().unwrap_or_default()
}

/// The tolerations every pod of a DaemonSet has beside its own.
fn add_tolerations(spec: &mut PodSpec) {
    let mut wanted = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        let place = tolerations
            .iter_mut()
            .find(|t| t.key == toleration.key && t.effect == toleration.effect && t.operator == toleration.operator);
        match place {
            Some(had) => *had = toleration,
            None => tolerations.push(toleration),
        }
    }
}

/// Binds a pod to a node by affinity, which the scheduler follows.
fn pin(spec: &mut PodSpec, node: &str) {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.to_string()]),
        }]),
        match_expressions: None,
    };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

impl Draft<'_> {
    fn template(&self) -> PodTemplateSpec {
        let mut template = self.set.spec.template.clone();
        add_tolerations(template.spec.get_or_insert_default());
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        if let Some(generation) = meta::annotation(&self.set.metadata, GENERATION) {
            labels.insert("pod-template-generation".into(), generation.to_string());
        }
        labels.insert(HASH.into(), self.hash.clone());
        template
    }

    /// Whether a pod should be started on the node, and whether one there may stay.
    fn fits(&self, spec: &PodSpec, node: &Node) -> (bool, bool) {
        let named = spec.node_name.as_deref().unwrap_or("");
        if (!named.is_empty() && named != meta::name(&node.metadata)) || !nodefit::affinity_fits(spec, node) {
            return (false, false);
        }
        let tolerations = spec.tolerations.as_deref().unwrap_or(&[]);
        if nodefit::untolerated(node, tolerations, &["NoSchedule", "NoExecute"]).is_none() {
            return (true, true);
        }
        (false, nodefit::untolerated(node, tolerations, &["NoExecute"]).is_none())
    }

    fn spec(&self) -> PodSpec {
        let mut spec = self.set.spec.template.spec.clone().unwrap_or_default();
        add_tolerations(&mut spec);
        spec
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    fn available(&self, pod: &Pod) -> bool {
        podstate::available(pod, self.min_ready(), self.now)
    }

    fn updated(&self, pod: &Pod) -> bool {
        meta::label(&pod.metadata, HASH) == Some(&self.hash)
    }

    fn rolls(&self) -> bool {
        self.set.spec.update_strategy.as_ref().is_none_or(|s| s.type_.as_deref() != Some("OnDelete"))
    }

    fn fence(&self, surge: bool, desired: i32) -> i32 {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        match rolling {
            Some(r) if surge => fence::scaled(r.max_surge.as_ref(), desired, Round::Up),
            Some(r) => fence::scaled(r.max_unavailable.as_ref(), desired, Round::Up),
            None if surge => 0,
            None => 1,
        }
    }

    fn manage(&mut self) {
        let spec = self.spec();
        let surges = self.rolls() && self.fence(true, self.nodes.len() as i32) > 0;
        for node in self.nodes {
            let name = meta::name(&node.metadata).to_string();
            let (should_run, may_stay) = self.fits(&spec, node);
            let pods = self.by_node.get(&name).cloned().unwrap_or_default();
            match (should_run, may_stay, pods.is_empty()) {
                (true, _, true) => self.create.push(name),
                (_, true, _) => self.prune(&name, &pods, should_run, surges),
                (_, false, false) => {
                    self.delete.extend(pods.into_iter().filter(|p| !meta::deleting(&p.metadata)));
                }
                (_, false, true) => {}
            }
        }
        // Pods meant for nodes that are gone would wait for ever.
        let known: Vec<&str> = self.nodes.iter().map(|n| meta::name(&n.metadata)).collect();
        for (node, pods) in &self.by_node {
            if !known.contains(&node.as_str()) {
                let lost = |p: &&Arc<Pod>| podstate::node_name(p).is_empty() && !meta::deleting(&p.metadata);
                self.delete.extend(pods.iter().filter(lost).cloned());
            }
        }
    }

    /// The pods of one node: ended ones go, and all but one of those that run.
    fn prune(&mut self, node: &str, pods: &[Arc<Pod>], should_run: bool, surges: bool) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|p| !meta::deleting(&p.metadata)) {
            let key = Key::of(&pod.metadata);
            match podstate::phase(pod) {
                "Failed" => {
                    if let Some(wait) = self.resting.get(node) {
                        self.plan.requeue(*wait);
                        continue;
                    }
                    let text = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
                    self.plan.events.push(Event::warning(self.set, "FailedDaemonPod", text));
                    self.delete.push(pod.clone());
                }
                "Succeeded" => {
                    let text = format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
                    self.plan.events.push(Event::normal(self.set, "SucceededDaemonPod", text));
                    self.delete.push(pod.clone());
                }
                _ => running.push(pod.clone()),
            }
        }
        if !surges {
            self.delete.extend(running.into_iter().skip(1));
            return;
        }
        if running.is_empty() && should_run {
            self.create.push(node.to_string());
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.updated(p));
        self.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).cloned());
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!podstate::ready(old) || self.available(new))
        {
            self.delete.push(old.clone());
        }
    }

    fn desired(&self) -> Vec<String> {
        let spec = self.spec();
        let fitting = self.nodes.iter().filter(|n| self.fits(&spec, n).0);
        fitting.map(|n| meta::name(&n.metadata).to_string()).collect()
    }

    /// The newer and the older pod of a node; none if there are too many to say.
    fn pair(&self, pods: &[Arc<Pod>]) -> Option<Pair> {
        let (mut new, mut old) = (None, None);
        for pod in pods.iter().filter(|p| !meta::deleting(&p.metadata)) {
            let place = if self.updated(pod) { &mut new } else { &mut old };
            if place.is_some() {
                return None;
            }
            *place = Some(pod.clone());
        }
        Some((new, old))
    }

    fn roll(&mut self) {
        let desired = self.desired();
        let count = desired.len() as i32;
        let (surge, mut unavailable_max) = (self.fence(true, count), self.fence(false, count));
        if surge == 0 && unavailable_max == 0 {
            unavailable_max = 1;
        }
        if surge == 0 {
            self.replace_in_place(&desired, unavailable_max)
        } else {
            self.replace_with_surge(&desired, surge)
        }
    }

    /// The nodes that an update concerns: those that shall have a pod, and those that still have one.
    fn nodes_to_update(&self, desired: &[String]) -> Vec<String> {
        let known = self.nodes.iter().map(|n| meta::name(&n.metadata));
        let concerned = |name: &&str| self.by_node.contains_key(*name) || desired.iter().any(|d| d == name);
        known.filter(concerned).map(str::to_string).collect()
    }

    fn replace_in_place(&mut self, desired: &[String], most: i32) {
        let (mut unavailable, mut candidates) = (0, Vec::new());
        for node in self.nodes_to_update(desired) {
            let pods = self.by_node.get(&node).cloned().unwrap_or_default();
            match self.pair(&pods) {
                None | Some((None, None)) | Some((Some(_), Some(_))) => unavailable += 1,
                Some((Some(new), None)) => unavailable += i32::from(!self.available(&new)),
                Some((None, Some(old))) if !self.available(&old) => {
                    unavailable += 1;
                    self.delete.push(old);
                }
                Some((None, Some(old))) => candidates.push(old),
            }
        }
        let room = usize::try_from(most - unavailable).unwrap_or(0);
        self.delete.extend(candidates.into_iter().take(room));
    }

    fn replace_with_surge(&mut self, desired: &[String], most: i32) {
        let (mut surging, mut serving, mut candidates, mut unwanted) = (0, 0, Vec::new(), Vec::new());
        for node in self.nodes_to_update(desired) {
            let pods = self.by_node.get(&node).cloned().unwrap_or_default();
            let Some((new, old)) = self.pair(&pods) else {
                surging += 1;
                continue;
            };
            serving += i32::from(old.as_ref().or(new.as_ref()).is_some_and(|pod| self.available(pod)));
            match (new, old, desired.contains(&node)) {
                (_, None, _) => {}
                (None, Some(old), false) if !self.available(&old) => self.delete.push(old),
                (None, Some(old), false) => unwanted.push(old),
                (None, Some(old), true) if !self.available(&old) => self.create.push(node),
                (None, Some(_), true) => candidates.push(node),
                (Some(new), Some(old), _) if self.available(&new) => self.delete.push(old),
                (Some(_), Some(_), _) => surging += 1,
            }
        }
        // A pod that would not be started where it is serves until another does so in its place.
        let spare = usize::try_from(serving - desired.len() as i32).unwrap_or(0);
        self.delete.extend(unwanted.into_iter().take(spare));
        let room = usize::try_from(most - surging).unwrap_or(0);
        self.create.extend(candidates.into_iter().take(room));
    }

    fn finish(mut self, history: &History) -> Plan {
        let template = self.template();
        for node in self.create.iter().take(BURST) {
            let mut pod = pod_of(self.set, &template);
            pin(pod.spec.get_or_insert_default(), node);
            self.plan.actions.push(create_pod(self.set, &pod));
        }
        let deletes = self.delete.iter().take(BURST).map(|pod| delete_pod(self.set, pod));
        self.plan.actions.extend(deletes);
        let named: Vec<&str> = self.by_node.values().flatten().filter_map(|p| meta::label(&p.metadata, HASH)).collect();
        let limit = self.set.spec.revision_history_limit.unwrap_or(10);
        let trimmed = history::truncate(&history.old, limit, |r| named.contains(&history::hash_of(r)));
        self.plan.actions.extend(trimmed);
        self.report();
        self.plan
    }

    fn report(&mut self) {
        let spec = self.spec();
        let mut status = self.set.status.clone().unwrap_or_default();
        let (mut desired, mut current, mut misscheduled, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
        for node in self.nodes {
            let pods = self.by_node.get(meta::name(&node.metadata)).map(Vec::as_slice).unwrap_or(&[]);
            let should_run = self.fits(&spec, node).0;
            desired += i32::from(should_run);
            let Some(pod) = pods.first() else { continue };
            if !should_run {
                misscheduled += 1;
                continue;
            }
            current += 1;
            ready += i32::from(podstate::ready(pod));
            available += i32::from(self.available(pod));
            updated += i32::from(self.updated(pod));
            if let Some(wait) = podstate::available_in(pod, self.min_ready(), self.now) {
                self.plan.requeue(wait.max(Duration::from_millis(1)));
            }
        }
        let some = |count: i32| (count != 0).then_some(count);
        status = DaemonSetStatus {
            desired_number_scheduled: desired,
            current_number_scheduled: current,
            number_misscheduled: misscheduled,
            number_ready: ready,
            updated_number_scheduled: some(updated),
            number_available: some(available),
            number_unavailable: some(desired - available),
            observed_generation: Some(meta::generation(&self.set.metadata)),
            ..status
        };
        if Some(&status) != self.set.status.as_ref() {
            let set = DaemonSet { status: Some(status), ..self.set.clone() };
            self.plan.status = Some(Action::update_status(&set));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Source;
    use crate::settings::Settings;

    /// A set of generation 1 with its revision, and one node.
    fn cache() -> Cache {
        let cache = Cache::default();
        let put = |of: Of, object: serde_json::Value| {
            cache.store(of).apply_json(&object.to_string(), Source::Watch).unwrap();
        };
        let template = serde_json::json!({
            "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        let owner = serde_json::json!([
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "a", "uid": "a", "controller": true}
        ]);
        put(
            Of::DaemonSet,
            serde_json::json!({
                "metadata": {"name": "a", "namespace": "n", "uid": "a", "generation": 1},
                "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
            }),
        );
        let mut patch = template.clone();
        patch["$patch"] = "replace".into();
        put(
            Of::ControllerRevision,
            serde_json::json!({
                "metadata": {"name": "a-x", "namespace": "n", "ownerReferences": owner,
                    "labels": {"app": "a", "controller-revision-hash": "x"}},
                "revision": 1, "data": {"spec": {"template": patch}},
            }),
        );
        put(Of::Node, serde_json::json!({"metadata": {"name": "node"}}));
        put(
            Of::Pod,
            serde_json::json!({
                "metadata": {"name": "p", "namespace": "n", "uid": "p", "ownerReferences": owner,
                    "labels": {"app": "a", "controller-revision-hash": "x"}},
                "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Failed"},
            }),
        );
        cache
    }

    #[test]
    fn a_node_that_fails_the_pod_again_and_again_is_let_alone_for_longer_each_time() {
        let cache = cache();
        let settings = Settings::default();
        let sync = |milliseconds: i64| {
            let now = Timestamp::from_millisecond(milliseconds).unwrap();
            let cx = Cx { cache: &cache, now, started: now, settings: &settings, failure: None };
            let plan = (DAEMONSET.sync)(&cx, &Key::new("n", "a"));
            let deletes = plan.actions.iter().any(|a| matches!(a.verb, Verb::Delete { .. }));
            (deletes, plan.requeue_after)
        };
        assert_eq!(sync(0), (true, None));
        assert_eq!(sync(400), (false, Some(Duration::from_millis(600))));
        assert_eq!(sync(1000), (true, None));
        assert_eq!(sync(2000), (false, Some(Duration::from_secs(1))));
        assert_eq!(sync(3000), (true, None));
        assert_eq!(sync(4000), (false, Some(Duration::from_secs(3))));
    }
}
