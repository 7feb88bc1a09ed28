//! Words and operators. A word keeps its quoting as written; `expand` takes it apart.

/// What the parser reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Word(String),
    Operator(&'static str),
    Newline,
}

#[derive(Debug)]
pub struct SyntaxError {
    pub message: String,
    /// More input could make it right (an open quote, a missing `done`).
    pub incomplete: bool,
}

impl SyntaxError {
    pub fn wrong(message: impl Into<String>) -> Self {
        Self { message: format!("syntax error: {}", message.into()), incomplete: false }
    }

    pub fn unfinished(message: impl Into<String>) -> Self {
        Self { message: format!("syntax error: {}", message.into()), incomplete: true }
    }
}

/// A token with its place in the source, and the text of a here-document when it is `<<`'s delimiter.
#[derive(Clone, Debug)]
pub struct Lexeme {
    pub token: Token,
    pub start: usize,
    pub end: usize,
    pub here: Option<String>,
}

const OPERATORS: &[&str] = &["<<-", "&&", "||", ";;", "<<", ">>", "<&", ">&", ">|", "|", "&", ";", "<", ">", "(", ")"];

pub fn lex(source: &str) -> Result<Vec<Lexeme>, SyntaxError> {
    let mut out: Vec<Lexeme> = Vec::new();
    let mut waiting: Vec<usize> = Vec::new();
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\r' => at += 1,
            b'\\' if bytes.get(at + 1) == Some(&b'\n') => at += 2,
            b'#' => at += source[at..].find('\n').unwrap_or(source.len() - at),
            b'\n' => {
                out.push(Lexeme { token: Token::Newline, start: at, end: at + 1, here: None });
                at += 1;
                for index in waiting.drain(..) {
                    at = read_here_document(source, at, &mut out, index)?;
                }
            }
            _ => {
                let start = at;
                let token = if let Some(operator) = OPERATORS.iter().find(|o| source[at..].starts_with(**o)) {
                    at += operator.len();
                    Token::Operator(operator)
                } else {
                    at = word_end(source, at)?;
                    Token::Word(source[start..at].to_owned())
                };
                let follows_here = matches!(out.last(), Some(Lexeme { token: Token::Operator("<<" | "<<-"), .. }));
                if follows_here && matches!(token, Token::Word(_)) {
                    waiting.push(out.len());
                }
                out.push(Lexeme { token, start, end: at, here: None });
            }
        }
    }
    if waiting.is_empty() { Ok(out) } else { Err(SyntaxError::unfinished("unterminated here-document")) }
}

fn read_here_document(source: &str, from: usize, out: &mut [Lexeme], index: usize) -> Result<usize, SyntaxError> {
    let strip = matches!(out[index - 1].token, Token::Operator("<<-"));
    let Token::Word(delimiter) = &out[index].token else { return Ok(from) };
    let plain = delimiter.replace(['\'', '"', '\\'], "");
    let quoted = plain != *delimiter;
    let mut text = String::new();
    let mut at = from;
    loop {
        if at >= source.len() {
            return Err(SyntaxError::unfinished("unterminated here-document"));
        }
        let end = source[at..].find('\n').map_or(source.len(), |n| at + n);
        let mut line = &source[at..end];
        if strip {
            line = line.trim_start_matches('\t');
        }
        at = (end + 1).min(source.len());
        if line == plain {
            break;
        }
        if quoted {
            text.push_str(&line.replace('\\', "\\\\").replace('$', "\\$").replace('`', "\\`"));
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    out[index].here = Some(text);
    Ok(at)
}

/// The end of the word that starts at `at`: quotes and substitutions are skipped as wholes.
fn word_end(source: &str, mut at: usize) -> Result<usize, SyntaxError> {
    let bytes = source.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' => break,
            _ => at = skip_unit(source, at)?,
        }
    }
    Ok(at)
}

/// The place after one character, quoted string or substitution.
pub fn skip_unit(source: &str, at: usize) -> Result<usize, SyntaxError> {
    let bytes = source.as_bytes();
    match bytes[at] {
        b'\\' => Ok((at + 1 + char_len(source, at + 1)).min(source.len())),
        b'\'' => source[at + 1..]
            .find('\'')
            .map(|n| at + n + 2)
            .ok_or_else(|| SyntaxError::unfinished("unterminated quoted string")),
        b'"' => skip_until(source, at + 1, b'"'),
        b'`' => skip_until(source, at + 1, b'`'),
        b'$' if source[at..].starts_with("$((") => {
            let close = skip_until(source, at + 3, b')')?;
            Ok(if bytes.get(close) == Some(&b')') { close + 1 } else { close })
        }
        b'$' if bytes.get(at + 1) == Some(&b'(') => skip_until(source, at + 2, b')'),
        b'$' if bytes.get(at + 1) == Some(&b'{') => skip_until(source, at + 2, b'}'),
        _ => Ok(at + char_len(source, at)),
    }
}

fn char_len(source: &str, at: usize) -> usize {
    source.get(at..).and_then(|s| s.chars().next()).map_or(0, char::len_utf8)
}

fn skip_until(source: &str, mut at: usize, close: u8) -> Result<usize, SyntaxError> {
    let bytes = source.as_bytes();
    while at < bytes.len() {
        if bytes[at] == close {
            return Ok(at + 1);
        }
        at = match bytes[at] {
            // Inside double quotes a single quote is an ordinary character.
            b'\'' if close == b'"' => at + 1,
            b'(' if close == b')' => skip_until(source, at + 1, b')')?,
            _ => skip_unit(source, at)?,
        };
    }
    Err(SyntaxError::unfinished(format!("unterminated, missing {:?}", char::from(close))))
}
