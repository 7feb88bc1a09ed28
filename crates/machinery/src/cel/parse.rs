//! CEL tokens to an expression tree; macros become their own nodes.

use super::lex::{Token, lex};
use super::value::Val;

/// How deep expressions may nest.
const DEPTH_MAX: usize = 100;

/// An expression.
#[derive(Clone, Debug)]
pub enum Expr {
    Literal(Val),
    Ident(String),
    /// `a.b`, or `a.?b` when `optional`.
    Select {
        of: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(a.b)`.
    Has {
        of: Box<Expr>,
        field: String,
    },
    /// `a[b]`, or `a[?b]` when `optional`.
    Index {
        of: Box<Expr>,
        key: Box<Expr>,
        optional: bool,
    },
    /// A function, or an operator by its sign, with the receiver first when it has one.
    Call {
        name: String,
        receiver: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// Items, with whether each is optional.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Object.spec{replicas: 1}`: a name, and fields with whether each is optional.
    Message {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    /// `range.all(x, ...)` and its kin.
    Comprehension {
        kind: Comprehension,
        range: Box<Expr>,
        variables: Vec<String>,
        body: Vec<Expr>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comprehension {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    OptMap,
    OptFlatMap,
}

pub(super) fn parse(source: &str) -> Result<Expr, String> {
    let mut parser = Parser { tokens: lex(source)?, at: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => parser.unexpected("<EOF>"),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

const LEVELS: [&[&str]; 5] =
    [&["||"], &["&&"], &["==", "!=", "<=", ">=", "<", ">", "in"], &["+", "-"], &["*", "/", "%"]];

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(own) if *own == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.eat(sign) { Ok(()) } else { self.unexpected(&format!("'{sign}'")) }
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, String> {
        let (token, column) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        let shown = match token {
            Token::Ident(name) => name.clone(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "<EOF>".to_owned(),
            Token::Int(value) => value.to_string(),
            Token::Uint(value) => format!("{value}u"),
            Token::Double(value) => value.to_string(),
            Token::Text(text) => crate::go::quote(text),
            Token::Bytes(_) => "bytes".to_owned(),
        };
        Err(format!("ERROR: <input>:1:{column}: Syntax error: mismatched input '{shown}' expecting {wanted}"))
    }

    fn expr(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("ERROR: <input>:-1:0: expression recursion limit exceeded".to_owned());
        }
        let condition = self.level(0)?;
        let out = if self.eat("?") {
            let yes = self.level(0)?;
            self.expect(":")?;
            let no = self.expr()?;
            Expr::Call { name: "?:".to_owned(), receiver: None, args: vec![condition, yes, no] }
        } else {
            condition
        };
        self.depth -= 1;
        Ok(out)
    }

    fn level(&mut self, level: usize) -> Result<Expr, String> {
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        loop {
            let name = match self.peek() {
                Token::Sign(sign) if signs.contains(sign) => (*sign).to_owned(),
                Token::Ident(word) if word == "in" && signs.contains(&"in") => "in".to_owned(),
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.level(level + 1)?;
            left = Expr::Call { name, receiver: None, args: vec![left, right] };
        }
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.eat("!") {
            let of = self.unary()?;
            return Ok(Expr::Call { name: "!".to_owned(), receiver: None, args: vec![of] });
        }
        if self.eat("-") {
            return Ok(match self.unary()? {
                Expr::Literal(Val::Int(value)) => Expr::Literal(Val::Int(value.wrapping_neg())),
                Expr::Literal(Val::Double(value)) => Expr::Literal(Val::Double(-value)),
                of => Expr::Call { name: "-".to_owned(), receiver: None, args: vec![of] },
            });
        }
        self.member()
    }

    fn member(&mut self) -> Result<Expr, String> {
        let mut of = self.primary()?;
        loop {
            if self.eat(".") {
                let Token::Ident(name) = self.next() else {
                    self.at -= 1;
                    return self.unexpected("IDENTIFIER");
                };
                of = if self.eat("(") { self.call(name, Some(of))? } else { select(of, name, false) };
            } else if self.eat(".?") {
                let Token::Ident(name) = self.next() else {
                    self.at -= 1;
                    return self.unexpected("IDENTIFIER");
                };
                of = select(of, name, true);
            } else if self.eat("[") || self.eat("[?") {
                let optional = self.tokens[self.at - 1].0 == Token::Sign("[?");
                let key = self.expr()?;
                self.expect("]")?;
                of = Expr::Index { of: Box::new(of), key: Box::new(key), optional };
            } else if let Some(name) = of.dotted()
                && self.eat("{")
            {
                of = Expr::Message { name, fields: self.fields()? };
            } else {
                return Ok(of);
            }
        }
    }

    /// The fields of a message, after its opening brace.
    fn fields(&mut self) -> Result<Vec<(String, Expr, bool)>, String> {
        let mut out = Vec::new();
        loop {
            if self.eat("}") {
                return Ok(out);
            }
            let optional = self.eat("?");
            let Token::Ident(name) = self.next() else {
                self.at -= 1;
                return self.unexpected("IDENTIFIER");
            };
            self.expect(":")?;
            out.push((name, self.expr()?, optional));
            if self.eat("}") {
                return Ok(out);
            }
            self.expect(",")?;
        }
    }

    fn args(&mut self) -> Result<Vec<Expr>, String> {
        let mut out = Vec::new();
        if self.eat(")") {
            return Ok(out);
        }
        loop {
            out.push(self.expr()?);
            if self.eat(")") {
                return Ok(out);
            }
            self.expect(",")?;
        }
    }

    fn call(&mut self, name: String, receiver: Option<Expr>) -> Result<Expr, String> {
        let args = self.args()?;
        let kind = match (name.as_str(), args.len()) {
            ("all", 2) => Some(Comprehension::All),
            ("exists", 2) => Some(Comprehension::Exists),
            ("exists_one" | "existsOne", 2) => Some(Comprehension::ExistsOne),
            ("map", 2 | 3) => Some(Comprehension::Map),
            ("filter", 2) => Some(Comprehension::Filter),
            ("optMap", 2) => Some(Comprehension::OptMap),
            ("optFlatMap", 2) => Some(Comprehension::OptFlatMap),
            _ => None,
        };
        match (kind, receiver) {
            (Some(kind), Some(range)) => {
                let mut args = args.into_iter();
                let Some(Expr::Ident(variable)) = args.next() else {
                    return Err("ERROR: <input>:1:1: argument must be a simple name".to_owned());
                };
                let (range, variables) = (Box::new(range), vec![variable]);
                Ok(Expr::Comprehension { kind, range, variables, body: args.collect() })
            }
            (_, None) if name == "has" && args.len() == 1 => match args.into_iter().next() {
                Some(Expr::Select { of, field, .. }) => Ok(Expr::Has { of, field }),
                _ => Err("ERROR: <input>:1:1: invalid argument to has() macro".to_owned()),
            },
            (_, receiver) => Ok(Expr::Call { name, receiver: receiver.map(Box::new), args }),
        }
    }

    fn primary(&mut self) -> Result<Expr, String> {
        Ok(match self.next() {
            Token::Int(value) => Expr::Literal(Val::Int(value)),
            Token::Uint(value) => Expr::Literal(Val::Uint(value)),
            Token::Double(value) => Expr::Literal(Val::Double(value)),
            Token::Text(text) => Expr::Literal(Val::text(text)),
            Token::Bytes(bytes) => Expr::Literal(Val::Bytes(bytes.into())),
            Token::Ident(name) => match name.as_str() {
                "true" => Expr::Literal(Val::Bool(true)),
                "false" => Expr::Literal(Val::Bool(false)),
                "null" => Expr::Literal(Val::Null),
                _ if self.eat("(") => self.call(name, None)?,
                _ => Expr::Ident(name),
            },
            Token::Sign("(") => {
                let inner = self.expr()?;
                self.expect(")")?;
                inner
            }
            Token::Sign("[") => self.list(false)?,
            Token::Sign("[?") => self.list(true)?,
            Token::Sign("{") => self.map()?,
            Token::Sign(".") => return self.primary(),
            _ => {
                self.at -= 1;
                return self.unexpected("an expression");
            }
        })
    }

    fn list(&mut self, first_optional: bool) -> Result<Expr, String> {
        let mut out = Vec::new();
        let mut optional = first_optional;
        loop {
            if !optional && self.eat("]") {
                return Ok(Expr::List(out));
            }
            out.push((self.expr()?, optional));
            if self.eat("]") {
                return Ok(Expr::List(out));
            }
            self.expect(",")?;
            optional = self.eat("?");
        }
    }

    fn map(&mut self) -> Result<Expr, String> {
        let mut out = Vec::new();
        loop {
            if self.eat("}") {
                return Ok(Expr::Map(out));
            }
            let optional = self.eat("?");
            let key = self.expr()?;
            self.expect(":")?;
            out.push((key, self.expr()?, optional));
            if self.eat("}") {
                return Ok(Expr::Map(out));
            }
            self.expect(",")?;
        }
    }
}

fn select(of: Expr, field: String, optional: bool) -> Expr {
    Expr::Select { of: Box::new(of), field, optional }
}

impl Expr {
    /// The expressions right below this one.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Literal(_) | Self::Ident(_) => Vec::new(),
            Self::Select { of, .. } | Self::Has { of, .. } => vec![of],
            Self::Index { of, key, .. } => vec![of, key],
            Self::Call { receiver, args, .. } => receiver.iter().map(Box::as_ref).chain(args).collect(),
            Self::List(items) => items.iter().map(|(item, _)| item).collect(),
            Self::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Self::Message { fields, .. } => fields.iter().map(|(_, value, _)| value).collect(),
            Self::Comprehension { range, body, .. } => std::iter::once(&**range).chain(body).collect(),
        }
    }

    /// `a.b.c`, when the expression is nothing but names.
    pub fn dotted(&self) -> Option<String> {
        match self {
            Self::Ident(name) => Some(name.clone()),
            Self::Select { of, field, optional: false } => Some(format!("{}.{field}", of.dotted()?)),
            _ => None,
        }
    }

    /// The first name that is neither one of `known` nor bound by a comprehension around it. `a.b` is known as such too.
    pub(super) fn undeclared(&self, known: &mut Vec<String>) -> Option<String> {
        match self {
            Self::Ident(name) => {
                let free = !known.contains(name) && !super::eval::TYPES.contains(&name.as_str());
                free.then(|| name.clone())
            }
            Self::Select { .. } if self.dotted().is_some_and(|name| known.contains(&name)) => None,
            Self::Call { receiver: Some(space), args, .. } if matches!(&**space, Self::Ident(name) if super::functions::is_namespace(name)) => {
                args.iter().find_map(|arg| arg.undeclared(known))
            }
            Self::Comprehension { range, variables, body, .. } => range.undeclared(known).or_else(|| {
                let outer = known.len();
                known.extend(variables.iter().cloned());
                let found = body.iter().find_map(|expr| expr.undeclared(known));
                known.truncate(outer);
                found
            }),
            _ => self.children().into_iter().find_map(|child| child.undeclared(known)),
        }
    }

    pub(super) fn names(&self, variable: &str) -> bool {
        matches!(self, Self::Ident(name) if name == variable)
            || self.children().into_iter().any(|child| child.names(variable))
    }
}
