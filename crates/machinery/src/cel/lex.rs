//! CEL text to tokens.

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    Ident(String),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 26] = [
    "==", "!=", "<=", ">=", "&&", "||", ".?", "[?", "{", "}", "[", "]", "(", ")", ".", ",", "-", "+", "*", "/", "%",
    "!", "?", ":", "<", ">",
];

/// The tokens with where each starts, in characters from 1.
pub(super) fn lex(source: &str) -> Result<Vec<(Token, usize)>, String> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip();
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        out.push((token, start + 1));
        if end {
            return Ok(out);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip(&mut self) {
        loop {
            match self.peek(0) {
                Some(c) if c.is_whitespace() => self.at += 1,
                Some('/') if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn error<T>(&self, text: &str) -> Result<T, String> {
        Err(format!("ERROR: <input>:1:{}: Syntax error: {text}", self.at + 1))
    }

    fn token(&mut self) -> Result<Token, String> {
        let Some(c) = self.peek(0) else { return Ok(Token::End) };
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if let Some(token) = self.prefixed_text()? {
            return Ok(token);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let start = self.at;
            while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                self.at += 1;
            }
            return Ok(Token::Ident(self.chars[start..self.at].iter().collect()));
        }
        if c == '`' {
            let start = self.at + 1;
            let end = (start..self.chars.len()).find(|at| self.chars[*at] == '`');
            let Some(end) = end else { return self.error("token recognition error at: '`'") };
            self.at = end + 1;
            return Ok(Token::Ident(self.chars[start..end].iter().collect()));
        }
        let found = SIGNS.iter().find(|sign| sign.chars().enumerate().all(|(at, c)| self.peek(at) == Some(c)));
        match found {
            None => self.error(&format!("token recognition error at: '{c}'")),
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
        }
    }

    fn number(&mut self) -> Result<Token, String> {
        let start = self.at;
        if self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X')) {
            self.at += 2;
            let digits = self.run(|c| c.is_ascii_hexdigit());
            if matches!(self.peek(0), Some('u' | 'U')) {
                self.at += 1;
                return u64::from_str_radix(&digits, 16)
                    .map(Token::Uint)
                    .or_else(|_| self.error("invalid uint literal"));
            }
            return i64::from_str_radix(&digits, 16).map(Token::Int).or_else(|_| self.error("invalid int literal"));
        }
        self.run(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            double = true;
            self.at += 1;
            self.run(|c| c.is_ascii_digit());
        }
        let exponent = usize::from(matches!(self.peek(1), Some('+' | '-'))) + 1;
        if matches!(self.peek(0), Some('e' | 'E')) && self.peek(exponent).is_some_and(|c| c.is_ascii_digit()) {
            double = true;
            self.at += exponent;
            self.run(|c| c.is_ascii_digit());
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if double {
            return text.parse().map(Token::Double).or_else(|_| self.error("invalid double literal"));
        }
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return text.parse().map(Token::Uint).or_else(|_| self.error("invalid uint literal"));
        }
        // The least int64 is written as a negation of what no int64 holds.
        match text.parse::<i64>() {
            Ok(value) => Ok(Token::Int(value)),
            Err(_) if text == "9223372036854775808" => Ok(Token::Int(i64::MIN)),
            Err(_) => self.error("invalid int literal"),
        }
    }

    fn run(&mut self, of: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(&of) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// A string or bytes literal, with its `r` and `b` before it.
    fn prefixed_text(&mut self) -> Result<Option<Token>, String> {
        let (mut raw, mut bytes, mut length) = (false, false, 0);
        while let Some(c) = self.peek(length) {
            match c.to_ascii_lowercase() {
                'r' if !raw => raw = true,
                'b' if !bytes => bytes = true,
                _ => break,
            }
            length += 1;
        }
        let Some(quote @ ('"' | '\'')) = self.peek(length) else { return Ok(None) };
        self.at += length;
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if triple { 3 } else { 1 };
        let mut text = String::new();
        loop {
            match self.peek(0) {
                None => return self.error("token recognition error: unterminated string"),
                Some('\n') if !triple => return self.error("token recognition error: unterminated string"),
                Some(c) if c == quote && (!triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote))) => {
                    self.at += if triple { 3 } else { 1 };
                    break;
                }
                Some('\\') if !raw => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(c) => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
        Ok(Some(if bytes { Token::Bytes(text.into_bytes()) } else { Token::Text(text) }))
    }

    fn escape(&mut self) -> Result<char, String> {
        let Some(c) = self.peek(0) else { return self.error("unterminated escape") };
        self.at += 1;
        let digits = match c {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'a' => return Ok('\u{7}'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            'v' => return Ok('\u{b}'),
            '\\' | '"' | '\'' | '`' | '?' => return Ok(c),
            'x' | 'X' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.error("unable to unescape string"),
        };
        let text: String = (0..digits).filter_map(|at| self.peek(at)).collect();
        self.at += digits;
        match u32::from_str_radix(&text, 16).ok().and_then(char::from_u32) {
            Some(c) => Ok(c),
            None => self.error("unable to unescape string"),
        }
    }
}
