//! Nothing happened to it when the node's process went and came back.

use crate::chain::Finding;
use crate::record::{Stored, What};
use crate::story::Story;

pub(super) fn find<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let is_adoption = |stored: &&Stored| matches!(stored.record.what, What::Adopted { .. } | What::Lost { .. });
    let decisive = story.newest_first().find(is_adoption)?;
    let verdict = match &decisive.record.what {
        What::Lost { message } => format!("it was gone when the node's process came back: {message}"),
        What::Adopted { running: true } => {
            "still running: the node's process was started again and adopted it without restarting it".to_string()
        }
        _ => "it had ended before the node's process was started again".to_string(),
    };
    let is_boundary =
        |stored: &&Stored| matches!(stored.record.what, What::NodeStarted { .. } | What::NodeStopped { .. });
    let mut steps: Vec<&Stored> =
        story.node_newest_first().filter(|stored| stored.id < decisive.id).filter(is_boundary).take(2).collect();
    let since = steps.iter().map(|stored| stored.id).min();
    let others = story.newest_first().filter(is_adoption).filter(|stored| Some(stored.id) > since);
    steps.extend(others);
    Some(Finding { decisive, verdict, steps })
}

#[cfg(test)]
mod tests {
    use crate::causes::testing::Tape;
    use crate::{Cause, Decider, Rule, Subject, What};

    #[test]
    fn over_a_restart_of_the_node() {
        let mut tape = Tape::new();
        tape.app(0, What::Started { image: "nginx".into() });
        tape.wait(60_000);
        let because = Cause::new(Decider::Operator("SIGTERM".into()), Rule::NodeStopped, vec![]);
        tape.on(Subject::node(), What::NodeStopped { containers_left: 1, because });
        tape.wait(5000);
        tape.on(Subject::node(), What::NodeStarted { version: "0.1.0".into() });
        tape.app(0, What::Adopted { running: true });
        insta::assert_snapshot!(tape.why(), @r#"
        default/web: still running: the node's process was started again and adopted it without restarting it
          2026-11-18T11:07:40.000Z      #2       the node's process stopped, 1 container left running: `SIGTERM` on the node decided, since the node was told to stop
          2026-11-18T11:07:45.000Z      #3       the node's process started, version 0.1.0
          2026-11-18T11:07:45.000Z      #4  app  found running and left running
        "#);
    }
}
