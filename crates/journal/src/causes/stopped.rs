//! Ended on purpose for another reason: its deadline, a changed definition, a failed hook, a node that goes down.

use super::{afterwards, container, newest_exit, rule_of};
use crate::cause::Rule;
use crate::chain::Finding;
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let told_elsewhere = |rule: &Rule| {
        matches!(rule, Rule::LivenessProbe | Rule::StartupProbe | Rule::PodDeleted | Rule::ManifestRemoved)
    };
    let (decisive, signals) =
        newest_exit(story, |_, signals| rule_of(signals).is_some_and(|rule| !told_elsewhere(&rule)))?;
    let cause = signals.first()?.record.what.cause()?;
    let verdict = format!(
        "{} was stopped by {}, since {}{}",
        container(decisive),
        cause.decider,
        cause.rule,
        afterwards(story, decisive)
    );
    let mut steps = story.evidence(signals.first()?);
    steps.extend(signals);
    steps.extend(story.aftermath(decisive));
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Rule, What};

    #[test]
    fn deadline_of_a_job() {
        let mut tape = Tape::new();
        tape.app(0, What::Signal { signal: 15, because: Cause::kubelet(Rule::DeadlineExceeded, vec![]) });
        tape.exited(0, 143);
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app was stopped by the kubelet, since activeDeadlineSeconds had passed
          2026-11-18T11:06:40.000Z      #1  app  SIGTERM sent: the kubelet decided, since activeDeadlineSeconds had passed
          2026-11-18T11:06:40.000Z      #2  app  ended with SIGTERM (exit code 143) after 2.3 s
              | panic: no such table
        "#);
    }
}
