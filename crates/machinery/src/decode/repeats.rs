//! The fields that a YAML mapping names more than once, and where.

use std::collections::HashSet;

use granit_parser::{Event, Parser};

use super::Problem;
use super::tree;

/// A mapping or list that is being read.
#[derive(Default)]
struct Open {
    /// None in a list.
    keys: Option<HashSet<String>>,
    /// The key whose value comes next.
    key: Option<String>,
    /// What is wrong with this one being a value.
    repeat: Option<Problem>,
}

/// The repeats of the first document, in the order in which their values end, as upstream's decoder comes upon them.
/// `go.yaml.in/yaml/v2 decode.go: decoder.setMapIndex`: a repeat is where its value begins.
pub(super) fn repeats(text: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let line = span.start.line();
        match (event, open.last_mut()) {
            (Event::DocumentEnd, _) => break,
            (Event::Scalar(..) | Event::Alias(_), Some(mapping)) if mapping.wants_key() => {
                mapping.key = Some(tree::key_in_go(span.slice(text).unwrap_or_default()));
            }
            (Event::Scalar(..) | Event::Alias(_), within) => found.extend(within.and_then(|it| it.value(line))),
            (Event::MappingStart(..), within) => {
                let repeat = within.and_then(|it| it.value(line));
                open.push(Open { keys: Some(HashSet::new()), repeat, ..Open::default() });
            }
            (Event::SequenceStart(..), within) => {
                let repeat = within.and_then(|it| it.value(line));
                open.push(Open { repeat, ..Open::default() });
            }
            (Event::MappingEnd | Event::SequenceEnd, _) => found.extend(open.pop().and_then(|it| it.repeat)),
            _ => {}
        }
    }
    found
}

impl Open {
    fn wants_key(&self) -> bool {
        self.keys.is_some() && self.key.is_none()
    }

    /// Takes note of a value that begins at `line`.
    fn value(&mut self, line: usize) -> Option<Problem> {
        let key = self.key.take()?;
        if self.keys.as_mut()?.insert(key.clone()) { None } else { Some(Problem::Repeated { line, key }) }
    }
}
