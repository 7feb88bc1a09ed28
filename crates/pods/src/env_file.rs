//! Files of environment variables (`fileKeyRef`): `NAME='value'`, a value over several lines, comments.
//!
//! kubernetes/kubernetes pkg/kubelet/util/env/env_util.go: the grammar, a strict part of the shell's.

/// The value of `key`; `None` when it is not there or empty.
///
/// # Errors
/// A line before the key's that is none of the grammar.
pub fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let wrong = |what: &str| Err(format!("invalid environment variable format at line {number}: {what}"));
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, rest)) = line.split_once('=') else { return wrong("missing '='") };
        if name.trim_end_matches([' ', '\t']).is_empty() {
            return wrong("empty variable name");
        }
        if name.ends_with([' ', '\t']) {
            return wrong("whitespace before '=' is not allowed");
        }
        if rest.starts_with([' ', '\t']) {
            // The shell takes `NAME= 'value'` for an empty assignment.
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let Some(mut rest) = rest.strip_prefix('\'') else {
            return wrong("value must be enclosed in single quotes");
        };
        let mut value = String::new();
        let after = loop {
            if let Some((part, after)) = rest.split_once('\'') {
                value.push_str(part);
                break after.trim_start_matches([' ', '\t']);
            }
            value.push_str(rest);
            value.push('\n');
            let Some((_, next)) = lines.next() else {
                return Err(format!(
                    "invalid environment variable format starting at line {number}: unclosed single quote"
                ));
            };
            rest = next;
        };
        if !after.is_empty() && !after.starts_with('#') {
            return wrong("unexpected content after closing quote");
        }
        if name == key {
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn values_are_quoted_and_may_have_several_lines() {
        let text = "# a comment\n\n  A='1' # said\nB='two\nlines'\nC= 'x'\nD=''\nE='last'\n";
        let of = |key: &str| value(text, key).unwrap();
        assert_eq!(of("A").as_deref(), Some("1"));
        assert_eq!(of("B").as_deref(), Some("two\nlines"));
        assert_eq!((of("C"), of("D"), of("NO")), (None, None, None));
        assert_eq!(of("E").as_deref(), Some("last"));
    }

    #[test]
    fn what_the_grammar_does_not_have_is_refused() {
        let of = |text: &str| value(text, "Z").unwrap_err();
        assert_eq!(of("A='1'\nB"), "invalid environment variable format at line 2: missing '='");
        assert!(of("A ='1'").ends_with("whitespace before '=' is not allowed"));
        assert!(of("A=1").ends_with("value must be enclosed in single quotes"));
        assert!(of("A='1' 2").ends_with("unexpected content after closing quote"));
        assert!(of("A='1").ends_with("starting at line 1: unclosed single quote"));
    }
}
