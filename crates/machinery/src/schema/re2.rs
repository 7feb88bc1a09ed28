//! Go's regular expressions (RE2) as the `regex` crate writes them.
//!
//! The two share their roots; what differs is translated: classes as `\d` are ASCII in RE2, `[` and `&&` mean
//! themselves in its classes, `\Q..\E` quotes, a `{` that starts no repetition means itself, and any escaped
//! punctuation is that punctuation.

use regex::Regex;

/// Compiles an RE2 pattern; the error says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern);
    Regex::new(&translated).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        format!("error parsing regexp: {last}: `{pattern}`")
    })
}

/// The `regex` crate's form of a pattern.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, in_class, &mut out),
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                open_class(after, &mut out)
            }
            '[' if after.starts_with(':') => {
                // A named class (`[:alpha:]`) ends with its own bracket.
                let end = after.find(":]").map_or(0, |at| at + 2);
                out.push('[');
                out.push_str(&after[..end]);
                &after[end..]
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
                after
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
                after
            }
            '-' if in_class && after.starts_with('-') => {
                out.push_str("\\-");
                after
            }
            '{' if !in_class && !starts_repetition(after) => {
                out.push_str("\\{");
                after
            }
            c => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// After `[`: a negation, and a `]` that stands first and means itself.
fn open_class<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    rest
}

/// After a backslash.
fn escape<'a>(rest: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    let after = &rest[c.len_utf8()..];
    let class = |inside: &str, outside: &str, out: &mut String| out.push_str(if in_class { inside } else { outside });
    match c {
        'd' => class("0-9", "[0-9]", out),
        'D' => class("[^0-9]", "[^0-9]", out),
        'w' => class("0-9A-Za-z_", "[0-9A-Za-z_]", out),
        'W' => class("[^0-9A-Za-z_]", "[^0-9A-Za-z_]", out),
        's' => class("\\t\\n\\f\\r ", "[\\t\\n\\f\\r ]", out),
        'S' => class("[^\\t\\n\\f\\r ]", "[^\\t\\n\\f\\r ]", out),
        'b' => out.push_str("(?-u:\\b)"),
        'B' => out.push_str("(?-u:\\B)"),
        'Q' => {
            let end = after.find("\\E").unwrap_or(after.len());
            out.push_str(&regex::escape(&after[..end]));
            return after.get(end + 2..).unwrap_or("");
        }
        '<' | '>' => out.push(c),
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    after
}

/// Whether `{` is followed by `n}`, `n,}` or `n,m}`.
fn starts_repetition(rest: &str) -> bool {
    let Some((counts, _)) = rest.split_once('}') else { return false };
    let (low, high) = counts.split_once(',').unwrap_or((counts, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_re2() {
        for (pattern, text, expected) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١", false),
            (r"^[\d.]+$", "1.2", true),
            (r"^[^\s]+$", "a b", false),
            (r"^a{,2}$", "a{,2}", true),
            (r"^a{1,2}$", "aa", true),
            (r"^[[]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^\<a\>$", "<a>", true),
            (r"^[\w-]+$", "a-b", true),
            (r"^[--a]+$", "-a", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern}");
        }
        assert!(compile("a(").unwrap_err().starts_with("error parsing regexp: "));
    }
}
