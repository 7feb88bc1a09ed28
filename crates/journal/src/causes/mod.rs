//! The explanations, one file each with the test that provokes it, and the table of them.

mod adopted;
mod completed;
mod crashed;
mod deleted;
mod evicted;
mod image;
mod liveness;
mod not_asked;
mod not_started;
mod out_of_memory;
mod startup;
mod stopped;
#[cfg(test)]
pub(crate) mod testing;
mod unschedulable;

use crate::cause::Rule;
use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

/// A way for a pod or container to end, wait or be spared.
pub struct Explanation {
    pub name: &'static str,
    /// Told only when no other explanation fits: it explains why nothing happened.
    pub background: bool,
    pub(crate) find: for<'a> fn(&Story<'a>) -> Option<Finding<'a>>,
}

/// Where two fit the same happening, the one further up is told.
pub static CAUSES: &[Explanation] = &[
    Explanation { name: "liveness-probe", background: false, find: liveness::find },
    Explanation { name: "startup-probe", background: false, find: startup::find },
    Explanation { name: "evicted", background: false, find: evicted::find },
    Explanation { name: "deleted", background: false, find: deleted::find },
    Explanation { name: "stopped", background: false, find: stopped::find },
    Explanation { name: "out-of-memory", background: false, find: out_of_memory::find },
    Explanation { name: "crashed", background: false, find: crashed::find },
    Explanation { name: "image", background: false, find: image::find },
    Explanation { name: "not-started", background: false, find: not_started::find },
    Explanation { name: "unschedulable", background: false, find: unschedulable::find },
    Explanation { name: "probe-not-asked", background: false, find: not_asked::find },
    Explanation { name: "completed", background: false, find: completed::find },
    Explanation { name: "adopted", background: true, find: adopted::find },
];

/// The newest exit that `fits`, given the signals that were sent to that run before.
fn newest_exit<'a>(
    story: &Story<'a>,
    fits: impl Fn(&'a Stored, &[&'a Stored]) -> bool,
) -> Option<(&'a Stored, Vec<&'a Stored>)> {
    let exits = story.newest_first().filter(|stored| matches!(stored.record.what, What::Exited { .. }));
    let mut with_signals = exits.map(|exit| (exit, story.signals_before(exit)));
    with_signals.find(|(exit, signals)| fits(exit, signals))
}

/// The first signal decides why a run was ended; a later SIGKILL only follows it.
fn rule_of(signals: &[&Stored]) -> Option<Rule> {
    Some(signals.first()?.record.what.cause()?.rule.clone())
}

fn container(of: &Stored) -> String {
    let name = of.record.subject.container.as_deref().unwrap_or("?");
    format!("container {name}")
}

/// `, started again 2 times, waits 20 s before the next try`.
fn afterwards(story: &Story, exit: &Stored) -> String {
    let restarts = match story.restarts(exit) {
        0 => String::new(),
        1 => ", started again once".to_string(),
        times => format!(", started again {times} times"),
    };
    let waits = story.aftermath(exit).iter().rev().find_map(|stored| match &stored.record.what {
        What::BackOff { wait_ms, .. } => Some(format!(", waits {} before the next try", crate::words::span(*wait_ms))),
        _ => None,
    });
    format!("{restarts}{}", waits.unwrap_or_default())
}

/// A container ended because a probe of it failed too often: the probe attempts, the signals, the exit, what came after.
fn killed_by_probe<'a>(story: &Story<'a>, rule: Rule, probe: crate::outcome::Probe) -> Option<Finding<'a>> {
    let exit = newest_exit(story, |_, signals| rule_of(signals).as_ref() == Some(&rule));
    let unanswered = || {
        let is_signal =
            |stored: &&Stored| matches!(&stored.record.what, What::Signal { because, .. } if because.rule == rule);
        story.newest_first().find(is_signal).map(|signal| (signal, vec![signal]))
    };
    let (decisive, signals) = exit.or_else(unanswered)?;
    let first = signals.first()?;
    let attempts = story.evidence(first);
    let symptom = attempts.iter().rev().find_map(|stored| match &stored.record.what {
        What::ProbeAttempt { outcome: crate::outcome::Outcome::Unhealthy(symptom), .. } => Some(symptom.to_string()),
        _ => None,
    });
    let times = match attempts.len() {
        0 => String::new(),
        1 => " after 1 failure".to_string(),
        times => format!(" after {times} failures in a row"),
    };
    let last = symptom.map(|symptom| format!(" ({symptom})")).unwrap_or_default();
    let verdict =
        format!("{} was killed by its {probe} probe{times}{last}{}", container(decisive), afterwards(story, decisive));
    let mut steps = attempts;
    steps.extend(signals);
    steps.extend(story.aftermath(decisive));
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<&str> = CAUSES.iter().map(|cause| cause.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CAUSES.len());
    }
}
