//! Shell patterns: `*`, `?`, `[...]`, and the expansion of a pattern to file names.

/// Whether the text matches the pattern as a whole.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    match_from(&pattern, &text)
}

fn match_from(pattern: &[char], text: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        '*' => (0..=text.len()).any(|n| match_from(rest, &text[n..])),
        '?' => text.split_first().is_some_and(|(_, tail)| match_from(rest, tail)),
        '[' => match (text.split_first(), set(rest)) {
            (Some((c, tail)), Some((negated, members, after))) => {
                let inside = members.iter().any(|(low, high)| (low..=high).contains(&c));
                inside != negated && match_from(after, tail)
            }
            (Some((c, tail)), None) => *c == '[' && match_from(rest, tail),
            (None, _) => false,
        },
        '\\' => match (rest.split_first(), text.split_first()) {
            (Some((escaped, rest)), Some((c, tail))) => escaped == c && match_from(rest, tail),
            _ => false,
        },
        literal => text.split_first().is_some_and(|(c, tail)| c == literal && match_from(rest, tail)),
    }
}

type Set<'a> = (bool, Vec<(char, char)>, &'a [char]);

/// The set after `[`: whether it is negated, its ranges, and what follows `]`.
fn set(pattern: &[char]) -> Option<Set<'_>> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let body = &pattern[usize::from(negated)..];
    let close = body.iter().enumerate().skip(1).find(|(_, c)| **c == ']').map(|(n, _)| n)?;
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < close {
        if at + 2 < close && body[at + 1] == '-' {
            ranges.push((body[at], body[at + 2]));
            at += 3;
        } else {
            ranges.push((body[at], body[at]));
            at += 1;
        }
    }
    Some((negated, ranges, &body[close + 1..]))
}

/// Files that match, sorted; empty when none does.
pub fn glob(pattern: &str) -> Vec<String> {
    let (mut found, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (vec!["/".to_owned()], rest),
        None => (vec![String::new()], pattern),
    };
    for part in rest.split('/') {
        found = found.iter().flat_map(|base| step(base, part)).collect();
    }
    found.sort();
    found
}

fn step(base: &str, part: &str) -> Vec<String> {
    let joined = |name: &str| match base {
        "" => name.to_owned(),
        base if base.ends_with('/') => format!("{base}{name}"),
        base => format!("{base}/{name}"),
    };
    if !part.contains(['*', '?', '[']) {
        let path = joined(part);
        return if std::fs::symlink_metadata(&path).is_ok() { vec![path] } else { vec![] };
    }
    let directory = if base.is_empty() { "." } else { base };
    let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| (!name.starts_with('.') || part.starts_with('.')) && matches(part, name))
        .map(|name| joined(&name))
        .collect()
}
