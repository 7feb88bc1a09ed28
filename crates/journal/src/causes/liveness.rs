//! Killed because its liveness probe failed too often.

use super::killed_by_probe;
use crate::cause::Rule;
use crate::chain::Finding;
use crate::outcome::Probe;
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    killed_by_probe(story, Rule::LivenessProbe, Probe::Liveness)
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Outcome, Probe, Rule, Symptom, What};

    #[test]
    fn three_failures_then_both_signals() {
        let mut tape = Tape::new();
        tape.pod(What::PodAdmitted);
        tape.app(0, What::Started { image: "nginx".into() });
        let mut evidence = Vec::new();
        for failures in 1..=3 {
            tape.wait(10_000);
            let symptom = Symptom::HttpStatus { status: 503, output: "overloaded\n".into() };
            let outcome = Outcome::Unhealthy(symptom);
            evidence.push(
                tape.app(0, What::ProbeAttempt { probe: Probe::Liveness, outcome, took_ms: 4, failures, threshold: 3 }),
            );
        }
        let term = tape.app(0, What::Signal { signal: 15, because: Cause::kubelet(Rule::LivenessProbe, evidence) });
        tape.wait(30_000);
        tape.app(0, What::Signal { signal: 9, because: Cause::kubelet(Rule::GraceExpired, vec![term]) });
        tape.wait(12);
        let exit = tape.exited(0, 137);
        tape.app(1, What::Restart { because: Cause::kubelet(Rule::RestartPolicy, vec![exit]) });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app was killed by its liveness probe after 3 failures in a row (HTTP status 503, it said "overloaded"), started again once
          2026-11-18T11:06:50.000Z      #3  app    liveness probe failed, 1 of 3, after 4 ms: HTTP status 503, it said "overloaded"
          2026-11-18T11:07:00.000Z      #4  app    liveness probe failed, 2 of 3, after 4 ms: HTTP status 503, it said "overloaded"
          2026-11-18T11:07:10.000Z      #5  app    liveness probe failed, 3 of 3, after 4 ms: HTTP status 503, it said "overloaded"
          2026-11-18T11:07:10.000Z      #6  app    SIGTERM sent: the kubelet decided, since its liveness probe failed too often (see #3 #4 #5)
          2026-11-18T11:07:40.000Z      #7  app    SIGKILL sent: the kubelet decided, since the grace period was over (see #6)
          2026-11-18T11:07:40.012Z      #8  app    ended with SIGKILL (exit code 137) after 2.3 s
              | panic: no such table
          2026-11-18T11:07:40.012Z      #9  app#1  started again: the kubelet decided, since the restart policy wants it to run (see #8)
        "#);
    }
}
