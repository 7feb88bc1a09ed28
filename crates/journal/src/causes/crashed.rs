//! Ended by itself, and not well.

use super::{afterwards, container, newest_exit};
use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;
use crate::words;

fn crash(stored: &Stored) -> Option<(i32, Option<i32>, u64)> {
    match stored.record.what {
        What::Exited { code, signal, oom_killed: false, ran_ms, .. } if code != 0 => Some((code, signal, ran_ms)),
        _ => None,
    }
}

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let (decisive, _) = newest_exit(story, |exit, signals| signals.is_empty() && crash(exit).is_some())?;
    let (code, signal, ran_ms) = crash(decisive)?;
    let verdict = format!(
        "{} crashed: {} after {}{}",
        container(decisive),
        words::exit(code, signal),
        words::span(ran_ms),
        afterwards(story, decisive)
    );
    let subject = &decisive.record.subject;
    let earlier = story.newest_first().filter(|stored| {
        stored.id < decisive.id
            && stored.record.subject.container == subject.container
            && matches!(stored.record.what, What::Exited { .. } | What::Restart { .. } | What::BackOff { .. })
    });
    let mut steps: Vec<&Stored> = earlier.take(6).collect();
    steps.extend(story.same_run(decisive).filter(|stored| matches!(stored.record.what, What::Started { .. })));
    steps.extend(story.aftermath(decisive));
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Rule, What};

    #[test]
    fn twice_with_the_last_lines() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "app:1".into() });
        let exit = tape.wait(2300).exited(0, 1);
        tape.app(1, What::Restart { because: Cause::kubelet(Rule::RestartPolicy, vec![exit]) });
        tape.app(1, What::Started { image: "app:1".into() });
        let exit = tape.wait(2300).exited(1, 139);
        tape.app(1, What::BackOff { wait_ms: 10_000, because: Cause::kubelet(Rule::CrashBackOff, vec![exit]) });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app crashed: SIGSEGV (exit code 139) after 2.3 s, started again once, waits 10 s before the next try
          2026-11-18T11:06:42.300Z      #2  app    ended with exit code 1 after 2.3 s
              | panic: no such table
          2026-11-18T11:06:42.300Z      #3  app#1  started again: the kubelet decided, since the restart policy wants it to run (see #2)
          2026-11-18T11:06:42.300Z      #4  app#1  started from app:1
          2026-11-18T11:06:44.600Z      #5  app#1  ended with SIGSEGV (exit code 139) after 2.3 s
              | panic: no such table
          2026-11-18T11:06:44.600Z      #6  app#1  waits 10 s before the next try: the kubelet decided, since it keeps failing (see #5)
        "#);
    }
}
