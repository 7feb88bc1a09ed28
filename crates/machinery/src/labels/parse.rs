//! The selector grammar: a lexer and a recursive-descent parser over its tokens.

use super::{Operator, Requirement};
use crate::field::{FieldError, Path};
use crate::names;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

fn keyword(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::Greater,
        "in" => Token::In,
        "<" => Token::Less,
        "!=" => Token::NotEquals,
        "notin" => Token::NotIn,
        "(" => Token::Open,
        _ => return None,
    })
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn lex(text: &str) -> Vec<(Token, String)> {
    // Upstream's lexer takes a zero byte for the end.
    let text = text.split('\0').next().unwrap_or("");
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let (token, literal) = if is_special(first) { lex_special(rest) } else { lex_word(rest) };
        rest = rest[literal.len()..].trim_start_matches(is_space);
        if token == Token::Error {
            out.push((token, format!("error expected: keyword found '{literal}'")));
        } else {
            out.push((token, literal.to_owned()));
        }
    }
    out.push((Token::End, String::new()));
    out
}

fn lex_word(rest: &str) -> (Token, &str) {
    let end = rest.find(|c| is_special(c) || is_space(c)).unwrap_or(rest.len());
    let word = &rest[..end];
    (keyword(word).unwrap_or(Token::Identifier), word)
}

/// The longest run of symbols that is an operator.
fn lex_special(rest: &str) -> (Token, &str) {
    let end = rest.find(|c| !is_special(c)).unwrap_or(rest.len());
    let mut found = None;
    for length in 1..=end {
        match keyword(&rest[..length]) {
            Some(token) => found = Some((token, &rest[..length])),
            None if found.is_some() => break,
            None => {}
        }
    }
    found.unwrap_or((Token::Error, &rest[..end]))
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

/// Where `in` and `notin` are operators; elsewhere they are plain words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    KeyAndOperator,
    Values,
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: lex(text), at: 0 };
    let mut out = Vec::new();
    loop {
        match parser.peek(Context::Values) {
            (Token::Identifier | Token::Not, _) => {
                let requirement =
                    parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
                out.push(requirement);
                match parser.next(Context::Values) {
                    (Token::End, _) => return Ok(out),
                    (Token::Comma, _) => {
                        let (token, literal) = parser.peek(Context::Values);
                        if !matches!(token, Token::Identifier | Token::Not) {
                            return Err(format!("found '{literal}', expected: identifier after ','"));
                        }
                    }
                    (_, literal) => return Err(format!("found '{literal}', expected: ',' or 'end of string'")),
                }
            }
            (Token::End, _) => return Ok(out),
            (_, literal) => return Err(format!("found '{literal}', expected: !, identifier, or 'end of string'")),
        }
    }
}

impl Parser {
    fn peek(&self, context: Context) -> (Token, String) {
        let (token, literal) = self.tokens.get(self.at).cloned().unwrap_or((Token::End, String::new()));
        match token {
            Token::In | Token::NotIn if context == Context::Values => (Token::Identifier, literal),
            token => (token, literal),
        }
    }

    fn next(&mut self, context: Context) -> (Token, String) {
        let found = self.peek(context);
        self.at += 1;
        found
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (key, operator) = self.key()?;
        let (operator, values) = match operator {
            Some(operator) => (operator, Vec::new()),
            None => {
                let operator = self.operator()?;
                let mut values = match operator {
                    Operator::In | Operator::NotIn => self.values()?,
                    _ => vec![self.exact_value()?],
                };
                // Upstream keeps them in a set, which lists sorted.
                values.sort_unstable();
                values.dedup();
                (operator, values)
            }
        };
        Requirement::new(key, operator, values).map_err(|errors| errors.to_string())
    }

    /// The key, and the operator when it is one without values.
    fn key(&mut self) -> Result<(String, Option<Operator>), String> {
        let mut operator = None;
        let (mut token, mut literal) = self.next(Context::Values);
        if token == Token::Not {
            operator = Some(Operator::DoesNotExist);
            (token, literal) = self.next(Context::Values);
        }
        if token != Token::Identifier {
            return Err(format!("found '{literal}', expected: identifier"));
        }
        let complaints = names::qualified_name(&literal);
        if !complaints.is_empty() {
            return Err(FieldError::invalid(&Path::ROOT, &literal, complaints.join("; ")).to_string());
        }
        if operator.is_none() && matches!(self.peek(Context::Values).0, Token::End | Token::Comma) {
            operator = Some(Operator::Exists);
        }
        Ok((literal, operator))
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let (token, literal) = self.next(Context::KeyAndOperator);
        Ok(match token {
            Token::In => Operator::In,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            Token::NotIn => Operator::NotIn,
            Token::NotEquals => Operator::NotEquals,
            _ => return Err(format!("found '{literal}', expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, literal) = self.next(Context::Values);
        if token != Token::Open {
            return Err(format!("found '{literal}' expected: '('"));
        }
        let (token, literal) = self.peek(Context::Values);
        match token {
            Token::Identifier | Token::Comma => {
                let values = self.identifiers()?;
                if self.next(Context::Values).0 != Token::Close {
                    return Err(format!("found '{literal}', expected: ')'"));
                }
                Ok(values)
            }
            Token::Close => {
                self.at += 1;
                Ok(vec![String::new()])
            }
            _ => Err(format!("found '{literal}', expected: ',', ')' or identifier")),
        }
    }

    /// Identifiers between commas, any of them possibly empty.
    fn identifiers(&mut self) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        loop {
            let (token, literal) = self.next(Context::Values);
            match token {
                Token::Identifier => {
                    out.push(literal);
                    match self.peek(Context::Values) {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(out),
                        (_, literal) => return Err(format!("found '{literal}', expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if out.is_empty() {
                        out.push(String::new());
                    }
                    match self.peek(Context::Values).0 {
                        Token::Close => {
                            out.push(String::new());
                            return Ok(out);
                        }
                        Token::Comma => out.push(String::new()),
                        _ => {}
                    }
                }
                _ => return Err(format!("found '{literal}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(Context::Values).0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next(Context::Values) {
            (Token::Identifier, literal) => Ok(literal),
            (_, literal) => Err(format!("found '{literal}', expected: identifier")),
        }
    }
}
