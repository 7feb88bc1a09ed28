//! Spared: a probe could not be asked, which says nothing about the container and is not counted.

use super::container;
use crate::chain::Finding;
use crate::outcome::{Obstacle, Outcome, Probe};
use crate::record::{Stored, What};
use crate::story::Story;

fn obstacle(stored: &Stored) -> Option<(Probe, &Obstacle)> {
    match &stored.record.what {
        What::ProbeAttempt { probe, outcome: Outcome::NotAsked(obstacle), .. } => Some((*probe, obstacle)),
        _ => None,
    }
}

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let decisive = story.newest_first().find(|stored| obstacle(stored).is_some())?;
    let (probe, why) = obstacle(decisive)?;
    let same = |stored: &&Stored| obstacle(stored).is_some_and(|(other, _)| other == probe);
    let attempts: Vec<&Stored> = story.same_run(decisive).filter(same).collect();
    let times = match attempts.len() {
        1 => "once".to_string(),
        times => format!("{times} times"),
    };
    let again = story.same_run(decisive).any(|stored| {
        stored.id > decisive.id
            && matches!(stored.record.what, What::ProbeAttempt { probe: other, .. } if other == probe)
    });
    let since = if again { " (it can be asked again)" } else { "" };
    let verdict = format!(
        "{} was not killed: its {probe} probe could not be asked {times}{since}, and that does not count: {why}",
        container(decisive)
    );
    // The first and the last few show since when, and that it goes on.
    let mut steps: Vec<&Stored> = attempts.iter().copied().take(1).collect();
    steps.extend(attempts.iter().rev().take(3));
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Obstacle, Outcome, Probe, What};

    #[test]
    fn exec_broken_on_the_node() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "nginx".into() });
        for _ in 0..6 {
            tape.wait(10_000);
            let outcome = Outcome::NotAsked(Obstacle::ExecNotLaunched { error: "helper: permission denied".into() });
            let probe = Probe::Liveness;
            tape.app(0, What::ProbeAttempt { probe, outcome, took_ms: 1, failures: 0, threshold: 3 });
        }
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app was not killed: its liveness probe could not be asked 6 times, and that does not count: the command could not be launched: helper: permission denied
          2026-11-18T11:06:50.000Z      #2  app  liveness probe could not be asked, which does not count: the command could not be launched: helper: permission denied
          2026-11-18T11:07:20.000Z      #5  app  liveness probe could not be asked, which does not count: the command could not be launched: helper: permission denied
          2026-11-18T11:07:30.000Z      #6  app  liveness probe could not be asked, which does not count: the command could not be launched: helper: permission denied
          2026-11-18T11:07:40.000Z      #7  app  liveness probe could not be asked, which does not count: the command could not be launched: helper: permission denied
        "#);
    }
}
