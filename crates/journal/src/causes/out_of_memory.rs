//! Ended by the kernel, which found no memory within the container's limit.

use super::{afterwards, container, newest_exit};
use crate::chain::Finding;
use crate::record::What;
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let is_oom = |what: &What| matches!(what, What::Exited { oom_killed: true, .. });
    let (decisive, signals) = newest_exit(story, |exit, signals| signals.is_empty() && is_oom(&exit.record.what))?;
    let verdict = format!(
        "{} was killed by the kernel, out of memory: it needed more than its limit{}",
        container(decisive),
        afterwards(story, decisive)
    );
    let mut steps = signals;
    steps.extend(story.same_run(decisive).filter(|stored| matches!(stored.record.what, What::Started { .. })));
    steps.extend(story.aftermath(decisive));
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Rule, What};

    #[test]
    fn killed_and_waiting() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "db".into() });
        tape.wait(65_000);
        let what = What::Exited { code: 137, signal: Some(9), oom_killed: true, ran_ms: 65_000, last_lines: vec![] };
        let exit = tape.app(0, what);
        tape.app(0, What::BackOff { wait_ms: 10_000, because: Cause::kubelet(Rule::CrashBackOff, vec![exit]) });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app was killed by the kernel, out of memory: it needed more than its limit, waits 10 s before the next try
          2026-11-18T11:06:40.000Z      #1  app  started from db
          2026-11-18T11:07:45.000Z      #2  app  killed by the kernel, out of memory, after 1m5s
          2026-11-18T11:07:45.000Z      #3  app  waits 10 s before the next try: the kubelet decided, since it keeps failing (see #2)
        "#);
    }
}
