//! Waits: no node is fit for it.

use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let decisive = story.newest_first().find(|stored| matches!(stored.record.what, What::SchedulingRefused { .. }))?;
    let What::SchedulingRefused { message } = &decisive.record.what else { return None };
    // Taken in since; or deleted, which a scheduler that is just at it may learn too late.
    let is_over = |stored: &Stored| match stored.record.what {
        What::PodAdmitted => stored.id > decisive.id,
        What::DeletionRequested { .. } => true,
        _ => false,
    };
    if story.newest_first().any(is_over) {
        return None;
    }
    let refusals: Vec<&Stored> =
        story.newest_first().filter(|stored| matches!(stored.record.what, What::SchedulingRefused { .. })).collect();
    let times = if refusals.len() == 1 { "once".to_string() } else { format!("{} times", refusals.len()) };
    let verdict = format!("not scheduled, tried {times}: {message}");
    Some(Finding { decisive, verdict, steps: refusals.into_iter().take(3).collect() })
}

#[cfg(test)]
mod tests {
    use crate::What;
    use crate::causes::testing::Tape;

    #[test]
    fn until_it_is_taken_in() {
        let mut tape = Tape::new();
        tape.pod(What::SchedulingRefused { message: "0/1 nodes are available: 1 Insufficient cpu.".into() });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: not scheduled, tried once: 0/1 nodes are available: 1 Insufficient cpu.
          2026-11-18T11:06:40.000Z      #1    no node for it: 0/1 nodes are available: 1 Insufficient cpu.
        "#);
        tape.wait(1000).pod(What::PodAdmitted);
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: nothing has ended it or holds it up; what happened last:
          2026-11-18T11:06:40.000Z      #1    no node for it: 0/1 nodes are available: 1 Insufficient cpu.
          2026-11-18T11:06:41.000Z      #2    taken in by this node
        "#);
    }
}
