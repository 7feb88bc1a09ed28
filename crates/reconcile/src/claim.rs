//! Who owns what: taking in orphans that a selector matches, letting go of what it no longer matches.
//!
//! kubernetes/kubernetes pkg/controller/controller_ref_manager.go: decides in which cases an object is adopted,
//! kept, released or left alone.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cache::Kept;
use crate::meta;
use crate::plan::Action;

/// Sorts `objects` into those the owner may count as its own, with the patches that make it so.
pub fn claim<K: Kept, O: Kept>(
    owner: &O,
    objects: Vec<Arc<K>>,
    matches: impl Fn(&K) -> bool,
    actions: &mut Vec<Action>,
) -> Vec<Arc<K>> {
    claim_held(owner, objects, matches, None, actions)
}

/// As [`claim`], for an owner that holds what it owns by a finalizer: taking in puts it on, letting go takes it off.
pub fn claim_held<K: Kept, O: Kept>(
    owner: &O,
    objects: Vec<Arc<K>>,
    matches: impl Fn(&K) -> bool,
    finalizer: Option<&str>,
    actions: &mut Vec<Action>,
) -> Vec<Arc<K>> {
    let own = owner.metadata();
    let going = meta::deleting(own);
    let mut claimed = Vec::new();
    for object in objects {
        let theirs = object.metadata();
        let controller = meta::controller_of(theirs);
        let owned = controller.is_some_and(|c| c.uid == meta::uid(own));
        match (controller.is_some(), owned, matches(&object)) {
            (true, false, _) => {}
            (true, true, true) => claimed.push(object),
            (true, true, false) if going => {}
            (true, true, false) => actions.push(release(owner, object.as_ref(), finalizer)),
            (false, _, false) => {}
            (false, _, true) if going || meta::deleting(theirs) => {}
            (false, _, true) => {
                actions.push(adopt(owner, object.as_ref(), finalizer));
                claimed.push(object);
            }
        }
    }
    claimed
}

fn adopt<K: Kept, O: Kept>(owner: &O, object: &K, finalizer: Option<&str>) -> Action {
    let mut owners = meta::owners(object.metadata()).to_vec();
    owners.push(meta::controller_reference(owner));
    let held = finalizer.filter(|finalizer| !meta::has_finalizer(object.metadata(), finalizer)).map(|finalizer| {
        let others = object.metadata().finalizers.iter().flatten().map(String::as_str);
        others.chain([finalizer]).collect()
    });
    Action::adopt(owner, object, owners_patch(object, json!(owners), held))
}

fn release<K: Kept, O: Kept>(owner: &O, object: &K, finalizer: Option<&str>) -> Action {
    let uid = meta::uid(owner.metadata());
    let owners: Vec<_> = meta::owners(object.metadata()).iter().filter(|o| o.uid != uid).collect();
    let held = finalizer.filter(|finalizer| meta::has_finalizer(object.metadata(), finalizer)).map(|finalizer| {
        let all = object.metadata().finalizers.iter().flatten().map(String::as_str);
        all.filter(|other| *other != finalizer).collect()
    });
    Action::patch(object, owners_patch(object, json!(owners), held))
}

/// Whole lists are written, so the patch is bound to the version it was read at.
fn owners_patch<K: Kept>(object: &K, owners: Value, finalizers: Option<Vec<&str>>) -> Value {
    let mut metadata = json!({"ownerReferences": owners, "resourceVersion": object.metadata().resource_version});
    if let Some(finalizers) = finalizers {
        metadata["finalizers"] = json!(finalizers);
    }
    json!({ "metadata": metadata })
}
