//! Conflicts of an apply, in upstream's words.

use std::collections::BTreeMap;

use super::managed::Manager;
use super::path::{PathElement, path_text};
use crate::go;
use crate::status::{Cause, Status};

/// A field somebody else owns that the apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) manager: Manager,
    pub(super) path: Vec<PathElement>,
}

fn shown(manager: &Manager) -> String {
    let mut out = go::quote(&manager.name);
    if !manager.subresource.is_empty() {
        out = format!("{out} with subresource {}", go::quote(&manager.subresource));
    }
    if !manager.applies {
        out = format!("{out} using {}", manager.api_version);
    }
    out
}

/// `k8s.io/apimachinery pkg/util/managedfields/internal/conflict.go`: the 409 and its causes.
pub(super) fn status(conflicts: &[Conflict]) -> Status {
    let causes = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", shown(&conflict.manager)),
            field: path_text(&conflict.path),
        })
        .collect();
    let message = match conflicts {
        [conflict] => {
            let (manager, path) = (shown(&conflict.manager), path_text(&conflict.path));
            format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
        }
        _ => {
            let mut by_manager: BTreeMap<&Manager, Vec<String>> = BTreeMap::new();
            for conflict in conflicts {
                by_manager.entry(&conflict.manager).or_default().push(format!("- {}", path_text(&conflict.path)));
            }
            let mut lines = Vec::new();
            for (manager, paths) in by_manager {
                lines.push(format!("conflicts with {}:", shown(manager)));
                lines.extend(paths);
            }
            format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
        }
    };
    Status::apply_conflict(causes, message)
}
