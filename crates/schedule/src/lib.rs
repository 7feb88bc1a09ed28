//! Which node a pod goes to, as decisions: the queue's order, filtering, scoring and preemption over a snapshot of the
//! cluster. It knows no client, no clock and no randomness of its own: events, times and seeds are arguments, and
//! whoever runs it binds, reports and evicts.
//!
//! Start at [`Scheduler`] for how it is driven, at [`decide`] for one decision, and at [`rules`] for the table of rules,
//! one file each.

mod affinity;
mod amounts;
mod cycle;
mod event;
mod node_view;
mod pod_view;
mod preemption;
mod queue;
pub mod rules;
mod scheduler;
mod snapshot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use amounts::Amounts;
pub use cycle::{Decision, Refusal, decide};
pub use event::{Change, ClusterEvent};
pub use node_view::NodeView;
pub use pod_view::{PodRef, PodView};
pub use scheduler::Scheduler;
pub use snapshot::Snapshot;
