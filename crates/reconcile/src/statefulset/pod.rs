//! The pod of an ordinal, and the claims that are its own.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{Draft, Place, Revision};
use crate::history::HASH;
use crate::meta;
use crate::plan::{Action, Note, reference};
use crate::template::pod_of;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal a pod's name says, if it is one of this set's names.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = meta::name(&pod.metadata).rsplit_once('-')?;
    if parent != meta::name(&set.metadata) || number.len() > 1 && number.starts_with('0') {
        return None;
    }
    number.parse().ok()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", meta::name(&template.metadata), meta::name(&set.metadata))
}

impl Draft<'_> {
    /// The pod an ordinal shall have, of the revision that is its turn.
    pub(super) fn pod(&self, ordinal: i32) -> Pod {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let behind = match rolling {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None if self.rolls() => self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
            None => 0,
        };
        let revision = if ordinal < self.start() + behind { &self.current } else { &self.update };
        self.pod_of_revision(ordinal, revision)
    }

    fn pod_of_revision(&self, ordinal: i32, revision: &Revision) -> Pod {
        let set = self.set;
        let mut pod = pod_of(set, &revision.template);
        let name = format!("{}-{ordinal}", meta::name(&set.metadata));
        pod.metadata.generate_name = Some(format!("{}-", meta::name(&set.metadata)));
        pod.metadata.name = Some(name.clone());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(POD_NAME.into(), name.clone());
        labels.insert(POD_INDEX.into(), ordinal.to_string());
        labels.insert(HASH.into(), revision.name.clone());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name);
        spec.subdomain = set.spec.service_name.clone().filter(|s| !s.is_empty());
        let templates = set.spec.volume_claim_templates.as_deref().unwrap_or(&[]);
        let mut volumes: Vec<Volume> = templates.iter().map(|t| volume_of(set, t, ordinal)).collect();
        let others = spec.volumes.take().unwrap_or_default();
        volumes.extend(others.into_iter().filter(|v| !templates.iter().any(|t| meta::name(&t.metadata) == v.name)));
        spec.volumes = (!volumes.is_empty()).then_some(volumes);
        pod
    }

    /// Creates the claims of an ordinal that are missing; false if one of them is on its way out.
    pub(super) fn make_claims(&mut self, ordinal: i32) -> bool {
        let set = self.set;
        let mut usable = true;
        for template in set.spec.volume_claim_templates.iter().flatten() {
            let name = claim_name(set, template, ordinal);
            if let Some(there) = self.claims.get(&name) {
                usable &= !meta::deleting(&there.metadata);
                continue;
            }
            let mut claim = template.clone();
            claim.status = None;
            claim.metadata.name = Some(name.clone());
            claim.metadata.namespace = set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
            if self.deletes("when_deleted") {
                claim.metadata.owner_references = Some(vec![meta::controller_reference(set)]);
            }
            let (pod, set_name) = (format!("{}-{ordinal}", meta::name(&set.metadata)), meta::name(&set.metadata));
            let text = format!("create Claim {name} Pod {pod} in StatefulSet {set_name}");
            self.plan.actions.push(Action::create(&claim).noted(Note {
                about: reference(set),
                done: ("SuccessfulCreate", format!("{text} success").into()),
                failed: ("FailedCreate", format!("{text} failed error: {{error}}").into()),
            }));
        }
        usable
    }

    fn deletes(&self, when: &str) -> bool {
        let policy = self.set.spec.persistent_volume_claim_retention_policy.as_ref();
        let said =
            policy.and_then(|p| if when == "when_deleted" { p.when_deleted.as_ref() } else { p.when_scaled.as_ref() });
        said.is_some_and(|p| p == "Delete")
    }

    /// Gives the claims of an ordinal the owners that the retention policy says. `condemned`: the pod that is scaled
    /// down, if it is.
    pub(super) fn own_claims(&mut self, ordinal: i32, condemned: Option<&Pod>) {
        let set = self.set;
        for template in set.spec.volume_claim_templates.iter().flatten() {
            let Some(claim) = self.claims.get(&claim_name(set, template, ordinal)) else { continue };
            let set_uid = meta::uid(&set.metadata);
            let pod_name = format!("{}-{ordinal}", meta::name(&set.metadata));
            let ours = |o: &OwnerReference| o.uid == set_uid || (o.kind == "Pod" && o.name == pod_name);
            let had = meta::owners(&claim.metadata);
            let mut owners: Vec<OwnerReference> = had.iter().filter(|o| !ours(o)).cloned().collect();
            let foreign = owners.iter().any(|o| o.controller == Some(true));
            match (foreign, condemned, self.deletes("when_scaled"), self.deletes("when_deleted")) {
                (true, _, _, _) => {}
                (_, Some(pod), true, _) => owners.push(meta::controller_reference(pod)),
                (_, Some(_), false, true) | (_, None, _, true) => owners.push(meta::controller_reference(set)),
                (_, Some(_), false, false) | (_, None, _, false) => {}
            }
            if owners != had {
                let owners = Some(owners);
                let action = Action::changed(claim.as_ref(), |c| c.metadata.owner_references = owners);
                self.plan.actions.push(action);
            }
        }
    }

    pub(super) fn create(&mut self, at: usize) {
        let set = meta::name(&self.set.metadata);
        let Place { wanted, .. } = &self.places[at];
        let action = Action::create(wanted).noted(Note {
            about: reference(self.set),
            done: ("SuccessfulCreate", format!("create Pod {{name}} in StatefulSet {set} successful").into()),
            failed: (
                "FailedCreate",
                format!("create Pod {{name}} in StatefulSet {set} failed error: {{error}}").into(),
            ),
        });
        self.plan.actions.push(action);
    }
}

fn volume_of(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> Volume {
    Volume {
        name: meta::name(&template.metadata).to_string(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Default::default()
    }
}
