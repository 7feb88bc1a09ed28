//! From tokens to a tree. Every command keeps the place of its source text, for running it in another process.

use std::ops::Range;

use super::lex::{Lexeme, SyntaxError, Token, lex};

#[derive(Clone, Debug)]
pub struct List(pub Vec<Item>);

#[derive(Clone, Debug)]
pub struct Item {
    pub first: Pipeline,
    pub rest: Vec<(Connective, Pipeline)>,
    pub background: bool,
    pub source: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Connective {
    And,
    Or,
}

#[derive(Clone, Debug)]
pub struct Pipeline {
    pub negated: bool,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
pub struct Stage {
    pub command: Command,
    pub redirects: Vec<Redirect>,
    pub source: Range<usize>,
}

#[derive(Clone, Debug)]
pub struct Redirect {
    pub descriptor: Option<u32>,
    pub operator: &'static str,
    pub target: String,
}

#[derive(Clone, Debug)]
pub enum Command {
    Simple { assignments: Vec<(String, String)>, words: Vec<String> },
    Group(List),
    Subshell(Range<usize>),
    If { arms: Vec<(List, List)>, otherwise: Option<List> },
    Loop { until: bool, condition: List, body: List },
    For { variable: String, words: Option<Vec<String>>, body: List },
    Case { word: String, arms: Vec<(Vec<String>, List)> },
    Function { name: String, body: Range<usize> },
}

pub fn parse(source: &str) -> Result<List, SyntaxError> {
    let lexemes = lex(source)?;
    let mut parser = Parser { lexemes, at: 0 };
    let list = parser.list(&[])?;
    match parser.peek() {
        None => Ok(list),
        Some(token) => Err(SyntaxError::wrong(format!("unexpected {token:?}"))),
    }
}

struct Parser {
    lexemes: Vec<Lexeme>,
    at: usize,
}

const RESERVED_ENDS: &[&str] = &["then", "else", "elif", "fi", "do", "done", "esac", "}"];

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.lexemes.get(self.at).map(|l| &l.token)
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(Token::Operator(o)) if *o == operator)
    }

    fn start(&self) -> usize {
        self.lexemes.get(self.at).map_or_else(|| self.lexemes.last().map_or(0, |l| l.end), |l| l.start)
    }

    fn end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |i| self.lexemes[i].end)
    }

    fn newlines(&mut self) {
        while matches!(self.peek(), Some(Token::Newline)) {
            self.at += 1;
        }
    }

    fn expect_word(&mut self, expected: &str) -> Result<(), SyntaxError> {
        self.newlines();
        match self.peek() {
            Some(Token::Word(word)) if word == expected => {
                self.at += 1;
                Ok(())
            }
            Some(token) => Err(SyntaxError::wrong(format!("unexpected {token:?} (expecting {expected:?})"))),
            None => Err(SyntaxError::unfinished(format!("unexpected end of file (expecting {expected:?})"))),
        }
    }

    fn expect_operator(&mut self, expected: &str) -> Result<(), SyntaxError> {
        self.newlines();
        if self.is(expected) {
            self.at += 1;
            return Ok(());
        }
        match self.peek() {
            Some(token) => Err(SyntaxError::wrong(format!("unexpected {token:?} (expecting {expected:?})"))),
            None => Err(SyntaxError::unfinished(format!("unexpected end of file (expecting {expected:?})"))),
        }
    }

    fn list(&mut self, ends: &[&str]) -> Result<List, SyntaxError> {
        let mut items = Vec::new();
        loop {
            self.newlines();
            match self.peek() {
                None => break,
                Some(Token::Operator(")" | ";;")) => break,
                Some(Token::Word(word)) if ends.contains(&word.as_str()) => break,
                Some(Token::Word(word)) if RESERVED_ENDS.contains(&word.as_str()) => {
                    return Err(SyntaxError::wrong(format!("unexpected {word:?}")));
                }
                _ => {}
            }
            items.push(self.item()?);
            if self.is(";") || self.is("&") {
                self.at += 1;
            } else if !matches!(self.peek(), Some(Token::Newline)) {
                break;
            }
        }
        Ok(List(items))
    }

    fn item(&mut self) -> Result<Item, SyntaxError> {
        let start = self.start();
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            let connective = if self.is("&&") {
                Connective::And
            } else if self.is("||") {
                Connective::Or
            } else {
                break;
            };
            self.at += 1;
            self.newlines();
            rest.push((connective, self.pipeline()?));
        }
        let source = start..self.end();
        Ok(Item { first, rest, background: self.is("&"), source })
    }

    fn pipeline(&mut self) -> Result<Pipeline, SyntaxError> {
        let negated = self.word() == Some("!");
        if negated {
            self.at += 1;
        }
        let mut stages = vec![self.stage()?];
        while self.is("|") {
            self.at += 1;
            self.newlines();
            stages.push(self.stage()?);
        }
        Ok(Pipeline { negated, stages })
    }

    fn stage(&mut self) -> Result<Stage, SyntaxError> {
        let start = self.start();
        let mut redirects = Vec::new();
        let command = match self.peek() {
            None => return Err(SyntaxError::unfinished("unexpected end of file")),
            Some(Token::Operator("(")) => self.subshell()?,
            Some(Token::Word(word)) => match word.as_str() {
                "{" => self.group()?,
                "if" => self.conditional()?,
                "while" => self.repeat(false)?,
                "until" => self.repeat(true)?,
                "for" => self.each()?,
                "case" => self.case()?,
                _ if self.defines_function() => self.function()?,
                _ => self.simple(&mut redirects)?,
            },
            Some(Token::Operator("<" | ">" | ">>" | "<<" | "<<-" | "<&" | ">&" | ">|")) => {
                self.simple(&mut redirects)?
            }
            Some(token) => return Err(SyntaxError::wrong(format!("unexpected {token:?}"))),
        };
        while let Some(redirect) = self.redirect()? {
            redirects.push(redirect);
        }
        Ok(Stage { command, redirects, source: start..self.end() })
    }

    fn defines_function(&self) -> bool {
        let follows = |n: usize, operator: &str| matches!(self.lexemes.get(self.at + n).map(|l| &l.token), Some(Token::Operator(o)) if *o == operator);
        follows(1, "(") && follows(2, ")")
    }

    fn function(&mut self) -> Result<Command, SyntaxError> {
        let name = self.word().unwrap_or_default().to_owned();
        self.at += 3;
        self.newlines();
        let body = self.stage()?.source;
        Ok(Command::Function { name, body })
    }

    fn subshell(&mut self) -> Result<Command, SyntaxError> {
        self.at += 1;
        let start = self.start();
        self.list(&[])?;
        let end = self.end();
        self.expect_operator(")")?;
        Ok(Command::Subshell(start..end))
    }

    fn group(&mut self) -> Result<Command, SyntaxError> {
        self.at += 1;
        let list = self.list(&["}"])?;
        self.expect_word("}")?;
        Ok(Command::Group(list))
    }

    fn conditional(&mut self) -> Result<Command, SyntaxError> {
        let mut arms = Vec::new();
        let mut otherwise = None;
        self.at += 1;
        loop {
            let condition = self.list(&["then"])?;
            self.expect_word("then")?;
            arms.push((condition, self.list(&["elif", "else", "fi"])?));
            match self.word() {
                Some("elif") => self.at += 1,
                Some("else") => {
                    self.at += 1;
                    otherwise = Some(self.list(&["fi"])?);
                    break;
                }
                _ => break,
            }
        }
        self.expect_word("fi")?;
        Ok(Command::If { arms, otherwise })
    }

    fn repeat(&mut self, until: bool) -> Result<Command, SyntaxError> {
        self.at += 1;
        let condition = self.list(&["do"])?;
        let body = self.body()?;
        Ok(Command::Loop { until, condition, body })
    }

    fn body(&mut self) -> Result<List, SyntaxError> {
        self.expect_word("do")?;
        let body = self.list(&["done"])?;
        self.expect_word("done")?;
        Ok(body)
    }

    fn each(&mut self) -> Result<Command, SyntaxError> {
        self.at += 1;
        let variable = self.word().ok_or_else(|| SyntaxError::unfinished("expecting a name"))?.to_owned();
        self.at += 1;
        self.newlines();
        let mut words = None;
        if self.word() == Some("in") {
            self.at += 1;
            let mut list = Vec::new();
            while let Some(word) = self.word() {
                list.push(word.to_owned());
                self.at += 1;
            }
            words = Some(list);
        }
        if self.is(";") {
            self.at += 1;
        }
        Ok(Command::For { variable, words, body: self.body()? })
    }

    fn case(&mut self) -> Result<Command, SyntaxError> {
        self.at += 1;
        let word = self.word().ok_or_else(|| SyntaxError::unfinished("expecting a word"))?.to_owned();
        self.at += 1;
        self.expect_word("in")?;
        let mut arms = Vec::new();
        loop {
            self.newlines();
            if self.word() == Some("esac") {
                self.at += 1;
                return Ok(Command::Case { word, arms });
            }
            if self.is("(") {
                self.at += 1;
            }
            let mut patterns = Vec::new();
            loop {
                let pattern = self.word().ok_or_else(|| SyntaxError::unfinished("expecting a pattern"))?;
                patterns.push(pattern.to_owned());
                self.at += 1;
                if !self.is("|") {
                    break;
                }
                self.at += 1;
            }
            self.expect_operator(")")?;
            arms.push((patterns, self.list(&["esac"])?));
            if self.is(";;") {
                self.at += 1;
            }
        }
    }

    fn simple(&mut self, redirects: &mut Vec<Redirect>) -> Result<Command, SyntaxError> {
        let mut assignments = Vec::new();
        let mut words: Vec<String> = Vec::new();
        loop {
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            let Some(word) = self.word() else { break };
            match assignment(word) {
                Some((name, value)) if words.is_empty() => assignments.push((name.to_owned(), value.to_owned())),
                _ => words.push(word.to_owned()),
            }
            self.at += 1;
        }
        Ok(Command::Simple { assignments, words })
    }

    /// A redirection at this place. `2>x`: the lexer gave the word `2`, which is taken when it touches the operator.
    fn redirect(&mut self) -> Result<Option<Redirect>, SyntaxError> {
        let mut descriptor = None;
        let mut ahead = self.at;
        if let (Some(Token::Word(word)), Some(next)) = (self.peek(), self.lexemes.get(self.at + 1))
            && let Ok(number) = word.parse::<u32>()
            && next.start == self.lexemes[self.at].end
        {
            descriptor = Some(number);
            ahead += 1;
        }
        let Some(Token::Operator(operator @ ("<" | ">" | ">>" | "<<" | "<<-" | "<&" | ">&" | ">|"))) =
            self.lexemes.get(ahead).map(|l| l.token.clone())
        else {
            return Ok(None);
        };
        let Some(Lexeme { token: Token::Word(target), here, .. }) = self.lexemes.get(ahead + 1).cloned() else {
            return Err(SyntaxError::wrong("expecting a file name"));
        };
        self.at = ahead + 2;
        Ok(Some(Redirect { descriptor, operator, target: here.unwrap_or(target) }))
    }
}

/// `NAME=value` split, when the word is one.
pub fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    is_name(name).then_some((name, value))
}

pub fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
