//! Does not start: its image cannot be had.

use super::container;
use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let decisive = story.newest_first().find(|stored| matches!(stored.record.what, What::PullFailed { .. }))?;
    let What::PullFailed { image, error } = &decisive.record.what else { return None };
    let subject = &decisive.record.subject;
    let same = |stored: &&Stored| stored.record.subject.container == subject.container;
    let started = |stored: &Stored| matches!(stored.record.what, What::Started { .. }) && stored.id > decisive.id;
    if story.newest_first().filter(same).any(started) {
        return None;
    }
    let is_try = |stored: &&Stored| matches!(stored.record.what, What::PullFailed { .. } | What::BackOff { .. });
    let mut steps: Vec<&Stored> = story.newest_first().filter(same).filter(is_try).take(6).collect();
    let tries = story.newest_first().filter(same).filter(|s| matches!(s.record.what, What::PullFailed { .. })).count();
    let times = if tries == 1 { "once".to_string() } else { format!("{tries} times") };
    let verdict =
        format!("{} does not start: image {image} cannot be had, tried {times}: {error}", container(decisive));
    steps.sort_by_key(|stored| stored.id);
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Rule, What};

    #[test]
    fn no_such_tag() {
        let mut tape = Tape::new();
        for wait_ms in [10_000, 20_000] {
            let (image, error) = ("registry.local/app:9".to_string(), "manifest unknown".to_string());
            let failed = tape.app(0, What::PullFailed { image, error });
            tape.app(0, What::BackOff { wait_ms, because: Cause::kubelet(Rule::PullBackOff, vec![failed]) });
            tape.wait(wait_ms as i64);
        }
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: container app does not start: image registry.local/app:9 cannot be had, tried 2 times: manifest unknown
          2026-11-18T11:06:40.000Z      #1  app  image registry.local/app:9 could not be pulled: manifest unknown
          2026-11-18T11:06:40.000Z      #2  app  waits 10 s before the next try: the kubelet decided, since its image could not be pulled (see #1)
          2026-11-18T11:06:50.000Z      #3  app  image registry.local/app:9 could not be pulled: manifest unknown
          2026-11-18T11:06:50.000Z      #4  app  waits 20 s before the next try: the kubelet decided, since its image could not be pulled (see #3)
        "#);
    }
}
