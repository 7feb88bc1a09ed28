//! Ended by itself with exit code 0: nothing is wrong.

use super::{afterwards, container, newest_exit};
use crate::chain::Finding;
use crate::record::What;
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let is_done = |what: &What| matches!(what, What::Exited { code: 0, oom_killed: false, .. });
    let (decisive, _) = newest_exit(story, |exit, signals| signals.is_empty() && is_done(&exit.record.what))?;
    let verdict = format!("{} completed with exit code 0{}", container(decisive), afterwards(story, decisive));
    let mut steps: Vec<_> =
        story.same_run(decisive).filter(|stored| matches!(stored.record.what, What::Started { .. })).collect();
    steps.extend(story.aftermath(decisive));
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Rule, What};

    #[test]
    fn done_and_taken_away() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "job".into() });
        let exit = tape.wait(2300).exited(0, 0);
        tape.pod(What::Removal { because: Cause::kubelet(Rule::PodCompleted, vec![exit]) });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app completed with exit code 0
          2026-11-18T11:06:40.000Z      #1  app  started from job
          2026-11-18T11:06:42.300Z      #2  app  ended with exit code 0 after 2.3 s
        "#);
    }
}
