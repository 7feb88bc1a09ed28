//! Gone because somebody deleted the pod.

use crate::cause::Rule;
use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

fn is_part(stored: &Stored) -> bool {
    match &stored.record.what {
        What::DeletionRequested { .. } => true,
        What::Signal { because, .. } | What::Removal { because } => {
            matches!(because.rule, Rule::PodDeleted | Rule::ManifestRemoved)
        }
        _ => false,
    }
}

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let decisive = story.newest_first().find(|stored| is_part(stored))?;
    let by = story.newest_first().find_map(|stored| match &stored.record.what {
        What::DeletionRequested { by, .. } => Some(by.to_string()),
        _ => None,
    });
    let by_file = decisive.record.what.cause().is_some_and(|cause| cause.rule == Rule::ManifestRemoved);
    let by = match (by, by_file) {
        (Some(by), _) => format!("by {by}"),
        (None, true) => "by removing its static pod file".to_string(),
        (None, false) => "at the API (who asked for it is not on this node's record)".to_string(),
    };
    let first = story.newest_first().filter(|stored| is_part(stored)).last()?;
    let is_end = |stored: &&Stored| {
        stored.id > first.id
            && matches!(stored.record.what, What::Signal { .. } | What::Exited { .. } | What::Removal { .. })
    };
    let mut steps: Vec<&Stored> = story.newest_first().filter(is_end).collect();
    steps.push(first);
    Some(Finding {
        decisive: steps.iter().copied().max_by_key(|stored| stored.id)?,
        verdict: format!("deleted {by}"),
        steps,
    })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Decider, Rule, What};

    #[test]
    fn by_a_user_with_grace() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "nginx".into() });
        tape.wait(5000);
        let by = Decider::User("kubernetes-admin".into());
        let asked = tape.pod(What::DeletionRequested { by, grace_seconds: 30 });
        tape.wait(1);
        tape.app(0, What::Signal { signal: 15, because: Cause::kubelet(Rule::PodDeleted, vec![asked]) });
        tape.wait(20).exited(0, 143);
        tape.pod(What::Removal { because: Cause::kubelet(Rule::PodDeleted, vec![asked]) });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: deleted by user kubernetes-admin
          2026-11-18T11:06:45.000Z      #2       deletion requested by user kubernetes-admin, 30 s of grace
          2026-11-18T11:06:45.001Z      #3  app  SIGTERM sent: the kubelet decided, since the pod was deleted (see #2)
          2026-11-18T11:06:45.021Z      #4  app  ended with SIGTERM (exit code 143) after 2.3 s
              | panic: no such table
          2026-11-18T11:06:45.021Z      #5       sandbox taken away: the kubelet decided, since the pod was deleted (see #2)
        "#);
    }
}
