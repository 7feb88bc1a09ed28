//! Commands that print what they are told: `echo`, `printf`, `seq`, `date`, `basename`, `dirname`.

use std::io::Write;

use crate::Call;

fn print(call: &Call, text: &str) -> i32 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => call.fail(error),
    }
}

pub fn echo(call: &Call) -> i32 {
    let mut words = call.arguments;
    let (mut newline, mut escapes) = (true, false);
    while let Some(flags) = words.first().and_then(|w| w.strip_prefix('-')) {
        if flags.is_empty() || !flags.chars().all(|c| "neE".contains(c)) {
            break;
        }
        newline &= !flags.contains('n');
        escapes = flags.contains('e') || (escapes && !flags.contains('E'));
        words = &words[1..];
    }
    let mut text = words.join(" ");
    if escapes {
        text = unescape(&text);
    }
    if newline {
        text.push('\n');
    }
    print(call, &text)
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\u{7}'),
            Some('e') => out.push('\u{1b}'),
            Some('\\') => out.push('\\'),
            Some('0') => {
                let mut value = 0;
                for _ in 0..3 {
                    let Some(digit) = letters.peek().and_then(|c| c.to_digit(8)) else { break };
                    value = value * 8 + digit;
                    letters.next();
                }
                out.extend(char::from_u32(value));
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// `printf FORMAT [ARG ...]`: `%s %d %x %o %c %b %%` with width and precision; the format repeats while words are left.
pub fn printf(call: &Call) -> i32 {
    let Some((format, mut words)) = call.arguments.split_first() else {
        return call.fail("usage: printf FORMAT [ARG ...]");
    };
    let format = unescape(format);
    let mut out = String::new();
    loop {
        let before = words.len();
        words = format_once(&format, words, &mut out);
        if words.is_empty() || words.len() == before {
            return print(call, &out);
        }
    }
}

fn format_once<'a>(format: &str, mut words: &'a [String], out: &mut String) -> &'a [String] {
    let mut letters = format.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(c) = letters.next_if(|c| "-0+ #.123456789".contains(*c)) {
            spec.push(c);
        }
        let Some(kind) = letters.next() else { break };
        if kind == '%' {
            out.push('%');
            continue;
        }
        let word = match words.split_first() {
            Some((word, rest)) => {
                words = rest;
                word.as_str()
            }
            None => "",
        };
        out.push_str(&pad(&value(kind, word, &spec), &spec));
    }
    words
}

fn value(kind: char, word: &str, spec: &str) -> String {
    let number = || word.trim().parse::<i64>().unwrap_or(0);
    match kind {
        'd' | 'i' | 'u' => number().to_string(),
        'x' => format!("{:x}", number()),
        'X' => format!("{:X}", number()),
        'o' => format!("{:o}", number()),
        'f' => {
            let places = spec.split_once('.').and_then(|(_, p)| p.parse().ok()).unwrap_or(6);
            format!("{:.places$}", word.trim().parse::<f64>().unwrap_or(0.0))
        }
        'c' => word.chars().take(1).collect(),
        'b' => unescape(word),
        _ => match spec.split_once('.').and_then(|(_, p)| p.parse().ok()) {
            Some(most) => word.chars().take(most).collect(),
            None => word.to_owned(),
        },
    }
}

fn pad(text: &str, spec: &str) -> String {
    let width = spec.split('.').next().unwrap_or_default();
    let zeros = width.trim_start_matches('-').starts_with('0');
    let least: usize = width.trim_start_matches(['-', '0', '+', ' ', '#']).parse().unwrap_or(0);
    if width.starts_with('-') {
        format!("{text:<least$}")
    } else if zeros {
        format!("{text:0>least$}")
    } else {
        format!("{text:>least$}")
    }
}

pub fn seq(call: &Call) -> i32 {
    let numbers: Option<Vec<i64>> = call.arguments.iter().map(|w| w.parse().ok()).collect();
    let (first, step, last) = match numbers.as_deref() {
        Some([last]) => (1, 1, *last),
        Some([first, last]) => (*first, 1, *last),
        Some([first, step, last]) if *step != 0 => (*first, *step, *last),
        _ => return call.fail("usage: seq [FIRST [INC]] LAST"),
    };
    let mut out = String::new();
    let mut n = first;
    while (step > 0 && n <= last) || (step < 0 && n >= last) {
        out.push_str(&n.to_string());
        out.push('\n');
        n += step;
    }
    print(call, &out)
}

/// `date [-u] [+FORMAT]`, in UTC: an image without time zones has no other.
pub fn date(call: &Call) -> i32 {
    let parsed = match call.parse("uR", "dI") {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let format = parsed.operands.first().and_then(|w| w.strip_prefix('+')).unwrap_or("%a %b %e %H:%M:%S UTC %Y");
    match jiff::fmt::strtime::format(format, &now) {
        Ok(text) => print(call, &format!("{text}\n")),
        Err(error) => call.fail(error),
    }
}

pub fn basename(call: &Call) -> i32 {
    let Some(path) = call.arguments.first() else { return call.fail("missing operand") };
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = call.arguments.get(1).and_then(|suffix| name.strip_suffix(suffix.as_str())).unwrap_or(name);
    print(call, &format!("{}\n", if name.is_empty() { "/" } else { name }))
}

pub fn dirname(call: &Call) -> i32 {
    let Some(path) = call.arguments.first() else { return call.fail("missing operand") };
    let directory = match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
        None if path.starts_with('/') => "/",
        None => ".",
    };
    print(call, &format!("{directory}\n"))
}
