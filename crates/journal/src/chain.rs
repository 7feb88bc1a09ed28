//! `why`: from records to a verdict and the chain that leads to it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::causes::{CAUSES, Explanation};
use crate::record::{RecordId, Stored, Subject, What};
use crate::story::Story;

/// An answer to `why`. Its text has the verdict in the first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// Name of the explanation in [`CAUSES`]; empty when the journal knows of nothing that ended or held up the subject.
    pub cause: String,
    pub verdict: String,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub id: RecordId,
    pub at: Timestamp,
    /// `app` or `app#2`, which is the container's third run; empty for the pod and the node.
    pub whom: String,
    pub text: String,
    /// The records that this one rests on.
    pub evidence: Vec<RecordId>,
    /// The last lines of output, of an exit.
    pub last_lines: Vec<String>,
}

/// What a cause has found: the sentence and the records that show it, of which the last in time decides between causes.
pub(crate) struct Finding<'a> {
    /// The record that the verdict is about.
    pub decisive: &'a Stored,
    pub verdict: String,
    pub steps: Vec<&'a Stored>,
}

/// Why the subject ended, waits or was not served. `records` may be a whole node's journal, in any order. Of several
/// explanations the one about the latest happening is given; for the same happening the table's order decides.
pub fn explain(records: &[Stored], subject: &Subject) -> Chain {
    let story = Story::new(records, subject);
    let mut best: Option<(&Explanation, Finding)> = None;
    for cause in CAUSES {
        let Some(finding) = (cause.find)(&story) else { continue };
        let better = best.as_ref().is_none_or(|(so_far, best)| match (so_far.background, cause.background) {
            (false, true) => false,
            (true, false) => true,
            _ => finding.decisive.id > best.decisive.id,
        });
        if better {
            best = Some((cause, finding));
        }
    }
    let name = describe(subject);
    match best {
        Some((cause, finding)) => {
            let mut steps = finding.steps;
            steps.push(finding.decisive);
            steps.sort_by_key(|stored| stored.id);
            steps.dedup_by_key(|stored| stored.id);
            let verdict = format!("{name}: {}", finding.verdict);
            Chain { cause: cause.name.to_string(), verdict, steps: steps.into_iter().map(step).collect() }
        }
        None => {
            let latest: Vec<Step> = story.newest_first().take(5).map(step).collect();
            let verdict = match latest.is_empty() {
                true => format!("{name}: this node's journal knows nothing about it"),
                false => format!("{name}: nothing has ended it or holds it up; what happened last:"),
            };
            Chain { cause: String::new(), verdict, steps: latest.into_iter().rev().collect() }
        }
    }
}

fn describe(subject: &Subject) -> String {
    let pod = match (subject.namespace.as_str(), subject.pod.as_str(), subject.uid.as_str()) {
        (_, "", "") => "this node".to_string(),
        (_, "", uid) => format!("pod {uid}"),
        ("", pod, _) => pod.to_string(),
        (namespace, pod, _) => format!("{namespace}/{pod}"),
    };
    match &subject.container {
        Some(container) => format!("{pod}, container {container}"),
        None => pod,
    }
}

fn step(stored: &Stored) -> Step {
    let subject = &stored.record.subject;
    let whom = match (&subject.container, subject.attempt) {
        (Some(container), Some(attempt)) if attempt > 0 => format!("{container}#{attempt}"),
        (Some(container), _) => container.clone(),
        (None, _) => String::new(),
    };
    let what = &stored.record.what;
    let last_lines = match what {
        What::Exited { last_lines, .. } => last_lines.clone(),
        _ => Vec::new(),
    };
    Step {
        id: stored.id,
        at: stored.at,
        whom,
        text: what.sentence(),
        evidence: what.cause().map(|cause| cause.evidence.clone()).unwrap_or_default(),
        last_lines,
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        let width = self.steps.iter().map(|step| step.whom.len()).max().unwrap_or(0);
        for step in &self.steps {
            write!(f, "  {:.3}  {:>6}  {:width$}  {}", step.at, format!("#{}", step.id.0), step.whom, step.text)?;
            if !step.evidence.is_empty() {
                let ids: Vec<String> = step.evidence.iter().map(|id| format!("#{}", id.0)).collect();
                write!(f, " (see {})", ids.join(" "))?;
            }
            writeln!(f)?;
            for line in &step.last_lines {
                writeln!(f, "      | {line}")?;
            }
        }
        Ok(())
    }
}
