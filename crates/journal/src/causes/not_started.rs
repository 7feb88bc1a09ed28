//! Does not start: configuration, volume, sandbox or program.

use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

fn is_failure(stored: &Stored) -> bool {
    matches!(
        stored.record.what,
        What::StartFailed { .. } | What::MountFailed { .. } | What::SandboxFailed { .. } | What::PodRefused { .. }
    )
}

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let decisive = story.newest_first().find(|stored| is_failure(stored))?;
    let subject = &decisive.record.subject;
    let started = story.newest_first().any(|stored| {
        stored.id > decisive.id
            && matches!(stored.record.what, What::Started { .. })
            && (subject.container.is_none() || stored.record.subject.container == subject.container)
    });
    if started {
        return None;
    }
    let whom = match &subject.container {
        Some(name) => format!("container {name}"),
        None => "the pod".to_string(),
    };
    let failures: Vec<&Stored> = story.newest_first().filter(|stored| is_failure(stored)).collect();
    let verdict = format!("{whom} does not start: {}", decisive.record.what.sentence());
    Some(Finding { decisive, verdict, steps: failures.into_iter().take(5).collect() })
}

#[cfg(test)]
mod tests {
    use crate::What;
    use crate::causes::testing::Tape;

    #[test]
    fn a_missing_config_map() {
        let mut tape = Tape::new();
        tape.pod(What::PodAdmitted);
        let error = "configmap \"settings\" not found".to_string();
        tape.pod(What::MountFailed { volume: "settings".into(), error });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: the pod does not start: volume settings could not be mounted: configmap "settings" not found
          2026-11-18T11:06:40.000Z      #2    volume settings could not be mounted: configmap "settings" not found
        "#);
    }
}
