//! From a word as written to the fields it stands for: parameters, substitutions, arithmetic, splitting, file names.

use super::lex::skip_unit;
use super::parse::is_name;
use super::pattern::{glob, matches};
use super::state::Shell;

/// A character of an expanded word, and whether quoting protects it from splitting and patterns.
type Marked = (char, bool);

impl Shell {
    /// All fields of a list of words.
    pub fn fields(&mut self, words: &[String]) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        for word in words {
            if word == "\"$@\"" {
                out.extend(self.positional.iter().cloned());
                continue;
            }
            let mut marked = Vec::new();
            let quoted = self.marked(word, false, &mut marked)?;
            let separators = self.get("IFS").unwrap_or(" \t\n").to_owned();
            for field in split(&marked, quoted, &separators) {
                out.extend(file_names(&field));
            }
        }
        Ok(out)
    }

    /// One string: no splitting, no file names (assignments, `case` words, redirection targets).
    pub fn text(&mut self, word: &str) -> Result<String, String> {
        let mut marked = Vec::new();
        self.marked(word, false, &mut marked)?;
        Ok(marked.into_iter().map(|(c, _)| c).collect())
    }

    /// The text of a here-document: parameters and substitutions only.
    pub fn document(&mut self, text: &str) -> Result<String, String> {
        let mut marked = Vec::new();
        self.marked(text, true, &mut marked)?;
        Ok(marked.into_iter().map(|(c, _)| c).collect())
    }

    /// A pattern: quoted characters stand for themselves.
    pub fn pattern(&mut self, word: &str) -> Result<String, String> {
        let mut marked = Vec::new();
        self.marked(word, false, &mut marked)?;
        let escaped = marked.into_iter().flat_map(|(c, quoted)| {
            let escape = quoted && matches!(c, '*' | '?' | '[' | '\\');
            escape.then_some('\\').into_iter().chain([c])
        });
        Ok(escaped.collect())
    }

    /// Expands a word; answers whether it held quotes, so that an empty result is still a field.
    fn marked(&mut self, word: &str, in_quotes: bool, out: &mut Vec<Marked>) -> Result<bool, String> {
        let mut quoted = false;
        let mut at = 0;
        if !in_quotes && (word == "~" || word.starts_with("~/")) {
            out.extend(self.get("HOME").unwrap_or("/root").chars().map(|c| (c, true)));
            at = 1;
        }
        while at < word.len() {
            let end = skip_unit_or_char(word, at, in_quotes);
            let unit = &word[at..end];
            let inner = |open: usize, close: usize| unit.get(open..unit.len() - close).unwrap_or_default().to_owned();
            match unit.as_bytes()[0] {
                b'\'' if !in_quotes => {
                    quoted = true;
                    out.extend(inner(1, 1).chars().map(|c| (c, true)));
                }
                b'"' if !in_quotes => {
                    quoted = true;
                    self.marked(&inner(1, 1), true, out)?;
                }
                b'\\' if unit.len() > 1 => {
                    let kept = in_quotes && !matches!(unit.as_bytes()[1], b'$' | b'`' | b'"' | b'\\' | b'\n');
                    if kept {
                        out.push(('\\', true));
                    }
                    out.extend(unit[1..].chars().filter(|c| *c != '\n' || kept).map(|c| (c, true)));
                    quoted = true;
                }
                b'`' => self.substitute(&inner(1, 1).replace("\\`", "`"), in_quotes, out)?,
                b'$' if unit.starts_with("$((") => {
                    let value = self.arithmetic(&inner(3, 2))?;
                    out.extend(value.to_string().chars().map(|c| (c, in_quotes)));
                }
                b'$' if unit.starts_with("$(") => self.substitute(&inner(2, 1), in_quotes, out)?,
                b'$' if unit.starts_with("${") => {
                    let value = self.parameter(&inner(2, 1))?;
                    out.extend(value.chars().map(|c| (c, in_quotes)));
                }
                b'$' => {
                    let (value, length) = self.plain_parameter(&word[at + 1..]);
                    if length == 0 {
                        out.push(('$', in_quotes));
                    }
                    out.extend(value.chars().map(|c| (c, in_quotes)));
                    at += 1 + length;
                    continue;
                }
                _ => out.extend(unit.chars().map(|c| (c, in_quotes))),
            }
            at = end;
        }
        Ok(quoted)
    }

    fn substitute(&mut self, source: &str, in_quotes: bool, out: &mut Vec<Marked>) -> Result<(), String> {
        let output = self.capture(source)?;
        out.extend(output.trim_end_matches('\n').chars().map(|c| (c, in_quotes)));
        Ok(())
    }

    /// `$name`, `$1`, `$?` ...: the value and how many bytes of the text the name took.
    fn plain_parameter(&self, text: &str) -> (String, usize) {
        let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        match text.chars().next() {
            Some(c) if c.is_ascii_digit() => (self.value(&c.to_string()).unwrap_or_default(), 1),
            Some(c) if "?#@*$!-".contains(c) => (self.value(&c.to_string()).unwrap_or_default(), 1),
            _ if is_name(&name) => (self.value(&name).unwrap_or_default(), name.len()),
            _ => (String::new(), 0),
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.status.to_string()),
            "#" => Some(self.positional.len().to_string()),
            "@" | "*" => Some(self.positional.join(" ")),
            "$" => Some(std::process::id().to_string()),
            "!" => self.background.last().map(|child| child.id().to_string()),
            "-" => Some(if self.errexit { "e" } else { "" }.to_owned()),
            "0" => Some(self.name.clone()),
            _ => match name.parse::<usize>() {
                Ok(n) => self.positional.get(n - 1).cloned(),
                Err(_) => self.get(name).map(str::to_owned),
            },
        }
    }

    /// The inside of `${...}`.
    fn parameter(&mut self, text: &str) -> Result<String, String> {
        if let Some(name) = text.strip_prefix('#').filter(|name| !name.is_empty()) {
            return Ok(self.value(name).unwrap_or_default().chars().count().to_string());
        }
        let length = match text.chars().next() {
            Some(c) if "?#@*$!-".contains(c) => 1,
            _ => text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(length);
        let value = self.value(name);
        if rest.is_empty() {
            return Ok(value.unwrap_or_default());
        }
        for (operator, longest) in [("##", true), ("#", false), ("%%", true), ("%", false)] {
            if let Some(pattern) = rest.strip_prefix(operator) {
                let pattern = self.pattern(pattern)?;
                let value = value.unwrap_or_default();
                return Ok(trim(&value, &pattern, operator.starts_with('#'), longest).to_owned());
            }
        }
        let (or_empty, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
        let missing = value.as_ref().is_none_or(|v| or_empty && v.is_empty());
        let (operator, word) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
        match operator {
            "-" if missing => self.text(word),
            "=" if missing => {
                let default = self.text(word)?;
                self.set(name, default.clone());
                Ok(default)
            }
            "?" if missing => Err(format!("{name}: {}", if word.is_empty() { "parameter not set" } else { word })),
            "+" => {
                if missing {
                    Ok(String::new())
                } else {
                    self.text(word)
                }
            }
            "-" | "=" | "?" => Ok(value.unwrap_or_default()),
            _ => Err(format!("${{{text}}}: bad substitution")),
        }
    }

    fn arithmetic(&mut self, expression: &str) -> Result<i64, String> {
        let expanded = self.document(expression)?;
        let mut reader = Arithmetic { text: expanded.as_bytes(), at: 0, shell: self };
        let value = reader.binary(0)?;
        reader.space();
        if reader.at < reader.text.len() {
            return Err(format!("arithmetic syntax error: {expression}"));
        }
        Ok(value)
    }
}

fn skip_unit_or_char(word: &str, at: usize, in_quotes: bool) -> usize {
    let next = || at + word[at..].chars().next().map_or(1, char::len_utf8);
    if in_quotes && matches!(word.as_bytes()[at], b'\'' | b'"') {
        return next();
    }
    skip_unit(word, at).unwrap_or_else(|_| next())
}

fn split(marked: &[Marked], quoted: bool, separators: &str) -> Vec<Vec<Marked>> {
    let mut fields = Vec::new();
    let mut field: Vec<Marked> = Vec::new();
    for &(c, protected) in marked {
        if !protected && separators.contains(c) {
            if !field.is_empty() {
                fields.push(std::mem::take(&mut field));
            }
        } else {
            field.push((c, protected));
        }
    }
    if !field.is_empty() || (quoted && fields.is_empty()) {
        fields.push(field);
    }
    fields
}

fn file_names(field: &[Marked]) -> Vec<String> {
    let text: String = field.iter().map(|(c, _)| c).collect();
    if field.iter().any(|(c, protected)| !protected && matches!(c, '*' | '?' | '[')) {
        let found = glob(&text);
        if !found.is_empty() {
            return found;
        }
    }
    vec![text]
}

fn trim<'a>(value: &'a str, pattern: &str, prefix: bool, longest: bool) -> &'a str {
    let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    if prefix == longest {
        cuts.reverse();
    }
    let fits = |cut: &usize| matches(pattern, if prefix { &value[..*cut] } else { &value[*cut..] });
    match cuts.into_iter().find(fits) {
        Some(cut) if prefix => &value[cut..],
        Some(cut) => &value[..cut],
        None => value,
    }
}

/// Integer arithmetic as in `$((1 + 2 * x))`.
struct Arithmetic<'a> {
    text: &'a [u8],
    at: usize,
    shell: &'a Shell,
}

const PRECEDENCE: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Arithmetic<'_> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(operators) = PRECEDENCE.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            self.space();
            let rest = &self.text[self.at..];
            let doubled = |o: &str| o.len() == 1 && rest.len() > 1 && rest[1] == rest[0] && "|&<>".contains(o);
            let Some(operator) = operators.iter().find(|o| rest.starts_with(o.as_bytes()) && !doubled(o)) else {
                return Ok(left);
            };
            self.at += operator.len();
            let right = self.binary(level + 1)?;
            left = apply(operator, left, right)?;
        }
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.space();
        let Some(&first) = self.text.get(self.at) else { return Ok(0) };
        match first {
            b'-' | b'+' | b'!' | b'~' => {
                self.at += 1;
                let value = self.unary()?;
                Ok(match first {
                    b'-' => value.wrapping_neg(),
                    b'!' => i64::from(value == 0),
                    b'~' => !value,
                    _ => value,
                })
            }
            b'(' => {
                self.at += 1;
                let value = self.binary(0)?;
                self.space();
                if self.text.get(self.at) != Some(&b')') {
                    return Err("arithmetic syntax error: missing )".to_owned());
                }
                self.at += 1;
                Ok(value)
            }
            _ => self.atom(),
        }
    }

    fn atom(&mut self) -> Result<i64, String> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_') {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        if is_name(&word) {
            let value = self.shell.get(&word).unwrap_or("0").trim().to_owned();
            return Ok(value.parse().unwrap_or(0));
        }
        let parsed = word.strip_prefix("0x").map_or_else(|| word.parse(), |hex| i64::from_str_radix(hex, 16));
        parsed.map_err(|_| format!("arithmetic syntax error near '{}'", String::from_utf8_lossy(&self.text[start..])))
    }
}

fn apply(operator: &str, left: i64, right: i64) -> Result<i64, String> {
    let truth = |b: bool| Ok(i64::from(b));
    match operator {
        "||" => truth(left != 0 || right != 0),
        "&&" => truth(left != 0 && right != 0),
        "|" => Ok(left | right),
        "^" => Ok(left ^ right),
        "&" => Ok(left & right),
        "==" => truth(left == right),
        "!=" => truth(left != right),
        "<=" => truth(left <= right),
        ">=" => truth(left >= right),
        "<" => truth(left < right),
        ">" => truth(left > right),
        "<<" => Ok(left.wrapping_shl(right as u32)),
        ">>" => Ok(left.wrapping_shr(right as u32)),
        "+" => Ok(left.wrapping_add(right)),
        "-" => Ok(left.wrapping_sub(right)),
        "*" => Ok(left.wrapping_mul(right)),
        "/" | "%" if right == 0 => Err("divide by zero".to_owned()),
        "/" => Ok(left.wrapping_div(right)),
        _ => Ok(left.wrapping_rem(right)),
    }
}
