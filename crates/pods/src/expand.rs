//! `$(VAR)` references in commands, arguments and environment values.

/// Replaces `$(NAME)` by its value. An unknown name stays as written; `$$` is one `$` and shields what follows.
///
/// kubernetes/kubernetes third_party/forked/golang/expansion: the syntax.
pub fn expand<'a>(input: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.as_bytes().first() {
            Some(b'$') => {
                out.push('$');
                rest = &rest[1..];
            }
            Some(b'(') => match rest.find(')') {
                Some(end) => {
                    let name = &rest[1..end];
                    match value(name) {
                        Some(known) => out.push_str(known),
                        None => out.push_str(&format!("$({name})")),
                    }
                    rest = &rest[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = &rest[1..];
                }
            },
            Some(_) => {
                // Not a reference: the operator and the character stay.
                out.push('$');
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references_escapes_and_leftovers() {
        let value = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let cases = [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("x$(EMPTY)y", "xy"),
            ("$()", "$()"),
        ];
        for (input, expected) in cases {
            assert_eq!(expand(input, value), expected, "{input}");
        }
    }
}
