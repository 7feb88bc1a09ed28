//! Ephemeral volumes: a claim for each, owned by the pod.
//!
//! kubernetes/kubernetes pkg/controller/volume/ephemeral: decides its name and refuses claims of others.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, controlling, own};
use crate::meta;
use crate::plan::{Action, Event, Note, Plan, reference};
use crate::podstate;

pub static EPHEMERALVOLUME: Controller = Controller {
    name: "ephemeral_volume",
    account: "ephemeral-volume-controller",
    watches: &[(Of::Pod, of_pod), (Of::PersistentVolumeClaim, controlling::<Pod>)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    pod: Arc<Pod>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
}

fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let has = |pod: &Pod| pod.spec.as_ref().is_some_and(|s| s.volumes.iter().flatten().any(|v| v.ephemeral.is_some()));
    if change.old.is_none() && change.after::<Pod>().is_some_and(has) {
        own(cache, change, keys);
    }
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let pod = cx.cache.pods.at(key)?;
    let claims = cx.cache.claims.within(&key.namespace);
    let claims = claims.into_iter().map(|c| (meta::name(&c.metadata).to_string(), c)).collect();
    Some(View { pod, claims })
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    let pod = view.pod.as_ref();
    if meta::deleting(&pod.metadata) || podstate::finished(pod) {
        return plan;
    }
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(template) = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref()) else { continue };
        let name = format!("{}-{}", meta::name(&pod.metadata), volume.name);
        if let Some(there) = view.claims.get(&name) {
            if !meta::controlled_by(&there.metadata, meta::uid(&pod.metadata)) {
                let text = format!(
                    "PVC {} was not created for pod {} (pod is not owner)",
                    Key::of(&there.metadata),
                    Key::of(&pod.metadata)
                );
                plan.events.push(Event::warning(pod, "FailedBinding", text));
            }
            continue;
        }
        let from = template.metadata.clone().unwrap_or_default();
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: pod.metadata.namespace.clone(),
                labels: from.labels,
                annotations: from.annotations,
                owner_references: Some(vec![meta::controller_reference(pod)]),
                ..Default::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        };
        plan.actions.push(Action::create(&claim).noted(Note {
            about: reference(pod),
            done: ("", "".into()),
            failed: ("FailedBinding", "ephemeral volume controller: failed to create PVC: {error}".into()),
        }));
    }
    plan
}
