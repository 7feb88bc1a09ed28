//! Killed because its startup probe failed too often.

use super::killed_by_probe;
use crate::cause::Rule;
use crate::chain::Finding;
use crate::outcome::Probe;
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    killed_by_probe(story, Rule::StartupProbe, Probe::Startup)
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Outcome, Probe, Rule, Symptom, What};

    #[test]
    fn told_while_the_container_still_ends() {
        let mut tape = Tape::new();
        let outcome = Outcome::Unhealthy(Symptom::Deadline { limit_ms: 1000, output: String::new() });
        let attempt = What::ProbeAttempt { probe: Probe::Startup, outcome, took_ms: 1000, failures: 1, threshold: 1 };
        let failed = tape.app(0, attempt);
        tape.app(0, What::Signal { signal: 15, because: Cause::kubelet(Rule::StartupProbe, vec![failed]) });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app was killed by its startup probe after 1 failure (no answer within 1 s)
          2026-11-18T11:06:40.000Z      #1  app  startup probe failed, 1 of 1, after 1 s: no answer within 1 s
          2026-11-18T11:06:40.000Z      #2  app  SIGTERM sent: the kubelet decided, since its startup probe failed too often (see #1)
        "#);
    }
}
