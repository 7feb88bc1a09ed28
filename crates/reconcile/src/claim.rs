//! Who owns what: taking in orphans that a selector matches, letting go of what it no longer matches.
//!
//! kubernetes/kubernetes pkg/controller/controller_ref_manager.go: decides in which cases an object is adopted,
//! kept, released or left alone.

use std::sync::Arc;

use serde_json::json;

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
            (true, true, false) => actions.push(release(owner, object.as_ref())),
            (false, _, false) => {}
            (false, _, true) if going || meta::deleting(theirs) => {}
            (false, _, true) => {
                actions.push(adopt(owner, object.as_ref()));
                claimed.push(object);
            }
        }
    }
    claimed
}

fn adopt<K: Kept, O: Kept>(owner: &O, object: &K) -> Action {
    let mut owners = meta::owners(object.metadata()).to_vec();
    owners.push(meta::controller_reference(owner));
    patch_owners(object, json!(owners))
}

fn release<K: Kept, O: Kept>(owner: &O, object: &K) -> Action {
    let uid = meta::uid(owner.metadata());
    let owners: Vec<_> = meta::owners(object.metadata()).iter().filter(|o| o.uid != uid).collect();
    patch_owners(object, json!(owners))
}

/// The whole list is written, so the patch is bound to the version it was read at.
fn patch_owners<K: Kept>(object: &K, owners: serde_json::Value) -> Action {
    let revision = &object.metadata().resource_version;
    Action::patch(object, json!({"metadata": {"ownerReferences": owners, "resourceVersion": revision}}))
}
