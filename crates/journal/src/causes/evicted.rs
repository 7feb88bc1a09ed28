//! Put out by the node or for a pod of higher priority.

use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let evicted = story.newest_first().find(|stored| matches!(stored.record.what, What::Evicted { .. }))?;
    let What::Evicted { reason, message, because } = &evicted.record.what else { return None };
    let verdict = format!("evicted by {} ({reason}): {message}", because.decider);
    let is_end = |stored: &&Stored| {
        stored.id > evicted.id
            && matches!(stored.record.what, What::Signal { .. } | What::Exited { .. } | What::Removal { .. })
    };
    let mut steps: Vec<&Stored> = story.evidence(evicted);
    steps.push(evicted);
    steps.extend(story.newest_first().filter(is_end));
    Some(Finding { decisive: steps.iter().copied().max_by_key(|stored| stored.id)?, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Rule, What};

    #[test]
    fn the_disk_was_full() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "nginx".into() });
        let because = Cause::kubelet(Rule::NodePressure, vec![]);
        let message = "The node was low on resource: ephemeral-storage.".to_string();
        let evicted = tape.pod(What::Evicted { reason: "Evicted".into(), message, because });
        tape.app(0, What::Signal { signal: 9, because: Cause::kubelet(Rule::NodePressure, vec![evicted]) });
        tape.exited(0, 137);
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: evicted by the kubelet (Evicted): The node was low on resource: ephemeral-storage.
          2026-11-18T11:06:40.000Z      #2       evicted by the kubelet, since the node was short of a resource (Evicted: The node was low on resource: ephemeral-storage.)
          2026-11-18T11:06:40.000Z      #3  app  SIGKILL sent: the kubelet decided, since the node was short of a resource (see #2)
          2026-11-18T11:06:40.000Z      #4  app  ended with SIGKILL (exit code 137) after 2.3 s
              | panic: no such table
        "#);
    }
}
