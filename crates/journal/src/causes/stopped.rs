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
        insta::assert_snapshot!(tape.why(), @"");
    }
}
