//! Commands that read text and write some of it: `head`, `tail`, `grep`, `wc`, `sort`, `tee`, `cut`, `tr`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};

use crate::{Call, Parsed};

/// An input with its name, `-` for standard input.
type Input = (String, Box<dyn BufRead>);

/// The inputs named, or standard input.
fn inputs(call: &Call, parsed: &Parsed) -> Result<Vec<Input>, i32> {
    if parsed.operands.is_empty() {
        return Ok(vec![("-".to_owned(), Box::new(std::io::stdin().lock()))]);
    }
    let open = |name: &&str| -> Result<Input, i32> {
        if *name == "-" {
            return Ok(((*name).to_owned(), Box::new(std::io::stdin().lock())));
        }
        match File::open(name) {
            Ok(file) => Ok(((*name).to_owned(), Box::new(BufReader::new(file)))),
            Err(error) => Err(call.fail(format_args!("{name}: {}", crate::shell_words(&error)))),
        }
    };
    parsed.operands.iter().map(open).collect()
}

fn emit(call: &Call, bytes: &[u8]) -> Result<(), i32> {
    std::io::stdout().write_all(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => 141,
        _ => call.fail(error),
    })
}

fn run(body: impl FnOnce() -> Result<i32, i32>) -> i32 {
    body().unwrap_or_else(|code| code)
}

/// `-n N`, `-N`, and `-c N`, which are counts of lines or bytes.
fn count<'a>(call: &'a Call<'a>) -> Result<(Parsed<'a>, i64, bool), i32> {
    let dashed = call.arguments.first().and_then(|w| w.strip_prefix('-')).and_then(|n| n.parse::<i64>().ok());
    if let Some(n) = dashed {
        let parsed = Parsed { operands: call.arguments[1..].iter().map(String::as_str).collect(), ..Parsed::default() };
        return Ok((parsed, n, false));
    }
    let parsed = call.parse("fqFv", "nc")?;
    let (text, bytes) = match (parsed.value('n'), parsed.value('c')) {
        (_, Some(c)) => (c, true),
        (Some(n), None) => (n, false),
        (None, None) => ("10", false),
    };
    let number: i64 =
        text.trim_start_matches('+').parse().map_err(|_| call.fail(format_args!("invalid number '{text}'")))?;
    let number = if text.starts_with('+') { -number } else { number };
    Ok((parsed, number, bytes))
}

pub fn head(call: &Call) -> i32 {
    run(|| {
        let (parsed, n, bytes) = count(call)?;
        for (_, mut input) in inputs(call, &parsed)? {
            if bytes {
                let mut text = Vec::new();
                input.take(n.unsigned_abs()).read_to_end(&mut text).map_err(|e| call.fail(e))?;
                emit(call, &text)?;
                continue;
            }
            let mut line = Vec::new();
            for _ in 0..n {
                line.clear();
                if input.read_until(b'\n', &mut line).map_err(|e| call.fail(e))? == 0 {
                    break;
                }
                emit(call, &line)?;
            }
        }
        Ok(0)
    })
}

pub fn tail(call: &Call) -> i32 {
    run(|| {
        let (parsed, n, bytes) = count(call)?;
        let follow = parsed.has('f') || parsed.has('F');
        for (_, mut input) in inputs(call, &parsed)? {
            let mut text = Vec::new();
            input.read_to_end(&mut text).map_err(|e| call.fail(e))?;
            emit(call, last_part(&text, n, bytes))?;
        }
        match parsed.operands.last() {
            Some(name) if follow => follow_file(call, name),
            _ => Ok(0),
        }
    })
}

fn last_part(text: &[u8], n: i64, bytes: bool) -> &[u8] {
    let size = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    if bytes {
        return &text[text.len().saturating_sub(size)..];
    }
    let mut starts: VecDeque<usize> = VecDeque::from([0]);
    starts.extend(text.iter().enumerate().filter(|(at, b)| **b == b'\n' && at + 1 < text.len()).map(|(at, _)| at + 1));
    // `+N` begins at line N.
    let line = if n < 0 { size.saturating_sub(1) } else { starts.len().saturating_sub(size) };
    starts.get(line).map_or(&[], |start| &text[*start..])
}

fn follow_file(call: &Call, name: &str) -> Result<i32, i32> {
    let mut file = File::open(name).map_err(|e| call.fail(e))?;
    file.seek(SeekFrom::End(0)).map_err(|e| call.fail(e))?;
    loop {
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|e| call.fail(e))?;
        emit(call, &text)?;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// `grep [-vqicnEF] PATTERN [FILE ...]`: `^ $ . * + ? [...]` and alternatives, enough for a script's questions.
pub fn grep(call: &Call) -> i32 {
    run(|| {
        let mut parsed = call.parse("vqicnEFo", "e")?;
        let pattern = match parsed.value('e') {
            Some(pattern) => pattern,
            None if parsed.operands.is_empty() => return Err(call.fail("usage: grep [-vqicnEF] PATTERN [FILE ...]")),
            None => parsed.operands.remove(0),
        };
        let fold = |text: &str| if parsed.has('i') { text.to_lowercase() } else { text.to_owned() };
        let pattern = fold(pattern);
        let many = parsed.operands.len() > 1;
        let mut found = false;
        for (name, input) in inputs(call, &parsed)? {
            let mut hits = 0;
            for (number, line) in input.split(b'\n').enumerate() {
                let line = line.map_err(|e| call.fail(e))?;
                let text = String::from_utf8_lossy(&line);
                let hit = if parsed.has('F') { fold(&text).contains(&pattern) } else { search(&pattern, &fold(&text)) };
                if hit == parsed.has('v') {
                    continue;
                }
                (found, hits) = (true, hits + 1);
                if parsed.has('q') {
                    return Ok(0);
                }
                if !parsed.has('c') {
                    let prefix = if many { format!("{name}:") } else { String::new() };
                    let place = if parsed.has('n') { format!("{}:", number + 1) } else { String::new() };
                    emit(call, format!("{prefix}{place}{text}\n").as_bytes())?;
                }
            }
            if parsed.has('c') {
                emit(call, format!("{hits}\n").as_bytes())?;
            }
        }
        Ok(i32::from(!found))
    })
}

/// Whether the expression is found anywhere in the text.
fn search(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    pattern.replace("\\|", "|").split('|').any(|branch| {
        let branch: Vec<char> = branch.chars().collect();
        match branch.strip_prefix(&['^']) {
            Some(rest) => here(rest, &text),
            None => (0..=text.len()).any(|at| here(&branch, &text[at..])),
        }
    })
}

/// Whether the expression matches at the beginning of the text.
fn here(pattern: &[char], text: &[char]) -> bool {
    if pattern.is_empty() {
        return true;
    }
    if pattern == ['$'] {
        return text.is_empty();
    }
    let length = unit_length(pattern);
    let (unit, rest) = pattern.split_at(length);
    let one = |text: &[char]| text.first().is_some_and(|c| unit_fits(unit, *c));
    match rest.first() {
        Some(repeat @ ('*' | '+' | '?')) => {
            let most = if *repeat == '?' { 1 } else { text.len() };
            let least = usize::from(*repeat == '+');
            let run = (0..most).take_while(|n| one(&text[*n..])).count();
            (least..=run).rev().any(|n| here(&rest[1..], &text[n..]))
        }
        _ => one(text) && here(rest, &text[1..]),
    }
}

fn unit_length(pattern: &[char]) -> usize {
    match pattern[0] {
        '\\' if pattern.len() > 1 => 2,
        '[' => pattern.iter().skip(2).position(|c| *c == ']').map_or(1, |n| n + 3),
        _ => 1,
    }
}

fn unit_fits(unit: &[char], c: char) -> bool {
    match unit {
        ['.'] => true,
        ['\\', escaped] => *escaped == c,
        ['[', .., ']'] => crate::shell::matches(&unit.iter().collect::<String>(), &c.to_string()),
        [literal] => *literal == c,
        _ => false,
    }
}

pub fn wc(call: &Call) -> i32 {
    run(|| {
        let parsed = call.parse("lwc", "")?;
        let all = !"lwc".chars().any(|f| parsed.has(f));
        for (name, mut input) in inputs(call, &parsed)? {
            let mut text = Vec::new();
            input.read_to_end(&mut text).map_err(|e| call.fail(e))?;
            let lines = text.iter().filter(|b| **b == b'\n').count();
            let words = String::from_utf8_lossy(&text).split_whitespace().count();
            let counts = [('l', lines), ('w', words), ('c', text.len())];
            let shown: Vec<String> =
                counts.iter().filter(|(f, _)| all || parsed.has(*f)).map(|(_, n)| n.to_string()).collect();
            let label = if name == "-" { String::new() } else { format!(" {name}") };
            emit(call, format!("{}{label}\n", shown.join(" ")).as_bytes())?;
        }
        Ok(0)
    })
}

pub fn sort(call: &Call) -> i32 {
    run(|| {
        let parsed = call.parse("rnu", "k")?;
        let mut lines = Vec::new();
        for (_, input) in inputs(call, &parsed)? {
            for line in input.lines() {
                lines.push(line.map_err(|e| call.fail(e))?);
            }
        }
        if parsed.has('n') {
            lines.sort_by_key(|line| line.split_whitespace().next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0));
        } else {
            lines.sort();
        }
        if parsed.has('r') {
            lines.reverse();
        }
        if parsed.has('u') {
            lines.dedup();
        }
        for line in lines {
            emit(call, format!("{line}\n").as_bytes())?;
        }
        Ok(0)
    })
}

pub fn tee(call: &Call) -> i32 {
    run(|| {
        let parsed = call.parse("a", "")?;
        let open = |name: &&str| {
            let append = parsed.has('a');
            let mut options = std::fs::OpenOptions::new();
            options.create(true).write(true).append(append).truncate(!append).open(name).map_err(|e| call.fail(e))
        };
        let mut files = parsed.operands.iter().map(open).collect::<Result<Vec<_>, i32>>()?;
        let mut buffer = [0; 8192];
        loop {
            let n = std::io::stdin().read(&mut buffer).map_err(|e| call.fail(e))?;
            if n == 0 {
                return Ok(0);
            }
            emit(call, &buffer[..n])?;
            for file in &mut files {
                file.write_all(&buffer[..n]).map_err(|e| call.fail(e))?;
            }
        }
    })
}

/// `cut -d C -f LIST`.
pub fn cut(call: &Call) -> i32 {
    run(|| {
        let parsed = call.parse("s", "dfc")?;
        let delimiter = parsed.value('d').unwrap_or("\t");
        let list = parsed.value('f').or(parsed.value('c')).ok_or_else(|| call.fail("expected a list of fields"))?;
        let wanted = |n: usize| {
            list.split(',').any(|range| match range.split_once('-') {
                Some((low, high)) => n >= low.parse().unwrap_or(1) && n <= high.parse().unwrap_or(usize::MAX),
                None => range.parse() == Ok(n),
            })
        };
        for (_, input) in inputs(call, &parsed)? {
            for line in input.lines() {
                let line = line.map_err(|e| call.fail(e))?;
                let text: String = if parsed.value('c').is_some() {
                    line.chars().enumerate().filter(|(n, _)| wanted(n + 1)).map(|(_, c)| c).collect()
                } else if line.contains(delimiter) {
                    let kept = line.split(delimiter).enumerate().filter(|(n, _)| wanted(n + 1)).map(|(_, f)| f);
                    kept.collect::<Vec<_>>().join(delimiter)
                } else {
                    line
                };
                emit(call, format!("{text}\n").as_bytes())?;
            }
        }
        Ok(0)
    })
}

/// `tr SET1 SET2`, `tr -d SET1`.
pub fn tr(call: &Call) -> i32 {
    run(|| {
        let parsed = call.parse("ds", "")?;
        let set = |at: usize| parsed.operands.get(at).map(|text| members(text)).unwrap_or_default();
        let (from, to) = (set(0), set(1));
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| call.fail(e))?;
        let translated: String = text
            .chars()
            .filter_map(|c| match from.iter().position(|f| *f == c) {
                Some(_) if parsed.has('d') => None,
                Some(at) => to.get(at).or(to.last()).copied().or(Some(c)),
                None => Some(c),
            })
            .collect();
        emit(call, translated.as_bytes())?;
        Ok(0)
    })
}

fn members(set: &str) -> Vec<char> {
    let letters: Vec<char> = set.replace("\\n", "\n").replace("\\t", "\t").chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        if at + 2 < letters.len() && letters[at + 1] == '-' {
            out.extend(letters[at]..=letters[at + 2]);
            at += 3;
        } else {
            out.push(letters[at]);
            at += 1;
        }
    }
    out
}
