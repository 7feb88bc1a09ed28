//! Walking an expression.

use std::collections::HashMap;
use std::sync::Arc;

use super::parse::{Comprehension, Expr};
use super::value::Val;
use super::{CelError, functions, operators};

type Outcome = Result<Val, CelError>;

/// Names that stand for types.
pub(super) const TYPES: [&str; 10] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

pub(super) fn fail<T>(text: impl Into<String>) -> Result<T, CelError> {
    Err(CelError::Runtime(text.into()))
}

pub(super) fn no_overload<T>() -> Result<T, CelError> {
    fail("no such overload")
}

/// One evaluation: its variables, those of comprehensions over them, and what it may still cost.
pub(super) struct Evaluation<'a> {
    variables: &'a HashMap<String, Val>,
    locals: Vec<(String, Val)>,
    left: u64,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(variables: &'a HashMap<String, Val>, budget: u64) -> Self {
        Self { variables, locals: Vec::new(), left: budget }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn spend(&mut self, cost: u64) -> Result<(), CelError> {
        let enough = cost <= self.left;
        self.left = self.left.saturating_sub(cost);
        if enough { Ok(()) } else { Err(CelError::Budget) }
    }

    pub(super) fn eval(&mut self, expr: &Expr) -> Outcome {
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select { of, field, optional } => {
                if let Some(qualified) = qualified(of, field)
                    && let Some(value) = self.variables.get(&qualified)
                {
                    return known(value);
                }
                self.spend(1)?;
                let of = self.eval(of)?;
                select(&of, &Val::text(unescape(field)), *optional, || format!("no such key: {field}"))
            }
            Expr::Has { of, field } => {
                self.spend(1)?;
                let of = self.eval(of)?;
                has(&of, &Val::text(unescape(field)))
            }
            Expr::Index { of, key, optional } => {
                self.spend(1)?;
                let (of, key) = (self.eval(of)?, self.eval(key)?);
                index(&of, &key, *optional)
            }
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(entries),
            Expr::Message { fields, .. } => self.message(fields),
            Expr::Call { name, receiver, args } => self.call(name, receiver.as_deref(), args),
            Expr::Comprehension { kind, range, variables, body } => {
                let range = self.eval(range)?;
                match (kind, &variables[0]) {
                    (Comprehension::OptMap | Comprehension::OptFlatMap, variable) => {
                        self.optional(*kind, range, variable, &body[0])
                    }
                    (kind, variable) => self.comprehend(*kind, &range, variable, body),
                }
            }
        }
    }

    fn variable(&mut self, name: &str) -> Outcome {
        self.spend(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(own, _)| own == name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.variables.get(name) {
            return known(value);
        }
        match TYPES.iter().find(|own| **own == name) {
            Some(name) => Ok(Val::Type(name)),
            None => fail(format!("undeclared reference to '{name}'")),
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Outcome {
        self.spend(10)?;
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.eval(item)?, optional) {
                (Val::Optional(inner), true) => out.extend(inner.map(|inner| (*inner).clone())),
                (_, true) => return no_overload(),
                (value, false) => out.push(value),
            }
        }
        Ok(Val::list(out))
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Outcome {
        self.spend(30)?;
        let mut out: Vec<(Val, Val)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            if out.iter().any(|(own, _)| *own == key) {
                return fail("Failed with repeated key");
            }
            match (self.eval(value)?, optional) {
                (Val::Optional(inner), true) => out.extend(inner.map(|inner| (key, (*inner).clone()))),
                (_, true) => return no_overload(),
                (value, false) => out.push((key, value)),
            }
        }
        Ok(Val::Map(Arc::new(out)))
    }

    /// A message is the map of its fields: what it is called matters to whoever takes it.
    fn message(&mut self, fields: &[(String, Expr, bool)]) -> Outcome {
        self.spend(40)?;
        let mut out = Vec::with_capacity(fields.len());
        for (name, value, optional) in fields {
            let name = Val::text(unescape(name));
            match (self.eval(value)?, optional) {
                (Val::Optional(inner), true) => out.extend(inner.map(|inner| (name, (*inner).clone()))),
                (_, true) => return no_overload(),
                (value, false) => out.push((name, value)),
            }
        }
        Ok(Val::Map(Arc::new(out)))
    }

    fn call(&mut self, name: &str, receiver: Option<&Expr>, args: &[Expr]) -> Outcome {
        match (name, args) {
            ("&&", [a, b]) => return self.logic(a, b, false),
            ("||", [a, b]) => return self.logic(a, b, true),
            ("?:", [condition, yes, no]) => {
                return match self.eval(condition)? {
                    Val::Bool(true) => self.eval(yes),
                    Val::Bool(false) => self.eval(no),
                    _ => no_overload(),
                };
            }
            _ => {}
        }
        // `optional.of(x)` and the like are functions of a namespace, not of a value.
        if let Some(Expr::Ident(space)) = receiver
            && !self.variables.contains_key(space)
            && functions::is_namespace(space)
        {
            let args = self.all(args)?;
            return functions::call(self, &format!("{space}.{name}"), &args);
        }
        let receiver = receiver.map(|receiver| self.eval(receiver)).transpose()?;
        // `a.or(b)` and `a.orValue(b)` want no `b` when there is an `a`.
        if let (Some(Val::Optional(Some(inner))), "or" | "orValue") = (&receiver, name) {
            let value = if name == "or" { Val::Optional(Some(inner.clone())) } else { (**inner).clone() };
            return Ok(value);
        }
        let args = self.all(args)?;
        let sizes: u64 = receiver.iter().chain(&args).map(Val::size).sum();
        self.spend(1 + sizes / 10)?;
        match receiver {
            Some(receiver) => functions::method(self, &receiver, name, &args),
            None => match operators::apply(name, &args) {
                Some(outcome) => outcome,
                None => functions::call(self, name, &args),
            },
        }
    }

    fn all(&mut self, args: &[Expr]) -> Result<Vec<Val>, CelError> {
        args.iter().map(|arg| self.eval(arg)).collect()
    }

    /// `&&` and `||`: either side may decide, whatever the other fails with.
    fn logic(&mut self, a: &Expr, b: &Expr, decides: bool) -> Outcome {
        let left = self.eval(a);
        if matches!(left, Ok(Val::Bool(value)) if value == decides) || matches!(left, Err(CelError::Budget)) {
            return left;
        }
        match (left, self.eval(b)) {
            (_, Ok(Val::Bool(value))) if value == decides => Ok(Val::Bool(decides)),
            (_, Err(CelError::Budget)) => Err(CelError::Budget),
            (Err(error), _) | (Ok(Val::Bool(_)), Err(error)) => Err(error),
            (Ok(Val::Bool(_)), Ok(Val::Bool(_))) => Ok(Val::Bool(!decides)),
            _ => no_overload(),
        }
    }

    fn with(&mut self, variable: &str, value: Val, body: &Expr) -> Outcome {
        self.locals.push((variable.to_owned(), value));
        let out = self.eval(body);
        self.locals.pop();
        out
    }

    fn optional(&mut self, kind: Comprehension, of: Val, variable: &str, body: &Expr) -> Outcome {
        let Val::Optional(of) = of else { return no_overload() };
        let Some(inner) = of else { return Ok(Val::Optional(None)) };
        let value = self.with(variable, (*inner).clone(), body)?;
        match (kind, value) {
            (Comprehension::OptFlatMap, value @ Val::Optional(_)) => Ok(value),
            (Comprehension::OptFlatMap, _) => no_overload(),
            (_, value) => Ok(Val::some(value)),
        }
    }

    fn comprehend(&mut self, kind: Comprehension, range: &Val, variable: &str, body: &[Expr]) -> Outcome {
        let items: Vec<Val> = match range {
            Val::List(items) => items.to_vec(),
            Val::Map(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
            _ => return no_overload(),
        };
        let (test, value) = match body {
            [test, value] => (Some(test), value),
            [value] => (None, value),
            _ => return no_overload(),
        };
        let mut out = Vec::new();
        let mut failure = None;
        let mut count = 0usize;
        for item in items {
            self.spend(1)?;
            if let Some(test) = test
                && !matches!(self.with(variable, item.clone(), test)?, Val::Bool(true))
            {
                continue;
            }
            match (kind, self.with(variable, item.clone(), value)) {
                (_, Err(CelError::Budget)) => return Err(CelError::Budget),
                (Comprehension::All, Ok(Val::Bool(false))) => return Ok(Val::Bool(false)),
                (Comprehension::Exists, Ok(Val::Bool(true))) => return Ok(Val::Bool(true)),
                // An error counts only when no later item decides.
                (Comprehension::All | Comprehension::Exists, Err(error)) => failure = Some(error),
                (_, Err(error)) => return Err(error),
                (Comprehension::Map, Ok(value)) => out.push(value),
                (Comprehension::Filter, Ok(Val::Bool(true))) => out.push(item),
                (Comprehension::ExistsOne, Ok(Val::Bool(true))) => count += 1,
                (_, Ok(Val::Bool(_))) => {}
                (_, Ok(_)) => return no_overload(),
            }
        }
        match (kind, failure) {
            (_, Some(error)) => Err(error),
            (Comprehension::All, None) => Ok(Val::Bool(true)),
            (Comprehension::Exists, None) => Ok(Val::Bool(false)),
            (Comprehension::ExistsOne, None) => Ok(Val::Bool(count == 1)),
            _ => Ok(Val::list(out)),
        }
    }
}

/// A variable's value, or the failure that it is.
fn known(value: &Val) -> Outcome {
    match value {
        Val::Failed(words) => fail(words.as_ref()),
        value => Ok(value.clone()),
    }
}

/// `a.b` when both are plain names, which may be a variable of that name.
fn qualified(of: &Expr, field: &str) -> Option<String> {
    match of {
        Expr::Ident(name) => Some(format!("{name}.{field}")),
        _ => None,
    }
}

/// Field names that CEL reserves or cannot spell are escaped in expressions.
///
/// `k8s.io/apiserver pkg/cel/escaping.go`: `__namespace__`, `__dot__` and the like.
pub(super) fn unescape(name: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if !name.contains("__") {
        return name.to_owned();
    }
    if let Some(inner) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && RESERVED.contains(&inner)
    {
        return inner.to_owned();
    }
    name.replace("__dot__", ".").replace("__dash__", "-").replace("__slash__", "/").replace("__underscores__", "__")
}

fn select(of: &Val, key: &Val, optional: bool, missing: impl FnOnce() -> String) -> Outcome {
    let (of, optional) = match of {
        Val::Optional(None) => return Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => (&**inner, true),
        of => (of, optional),
    };
    match (of, of.get(key), optional) {
        (Val::Map(_), Some(value), true) => Ok(Val::some(value.clone())),
        (Val::Map(_), Some(value), false) => Ok(value.clone()),
        (Val::Map(_), None, true) => Ok(Val::Optional(None)),
        (Val::Map(_), None, false) => fail(missing()),
        _ => no_overload(),
    }
}

fn has(of: &Val, key: &Val) -> Outcome {
    match of {
        Val::Map(_) => Ok(Val::Bool(of.get(key).is_some())),
        Val::Optional(inner) => Ok(Val::Bool(inner.as_ref().is_some_and(|inner| inner.get(key).is_some()))),
        _ => no_overload(),
    }
}

fn index(of: &Val, key: &Val, optional: bool) -> Outcome {
    let (inner, optional) = match of {
        Val::Optional(None) => return Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => (&**inner, true),
        of => (of, optional),
    };
    let Val::List(items) = inner else {
        let shown = match key {
            Val::Text(text) => text.to_string(),
            key => functions::to_text(key).unwrap_or_default(),
        };
        return select(inner, key, optional, || format!("no such key: {shown}"));
    };
    let at = match key {
        Val::Int(at) => *at,
        Val::Uint(at) => i64::try_from(*at).unwrap_or(i64::MAX),
        _ => return no_overload(),
    };
    match (usize::try_from(at).ok().and_then(|at| items.get(at)), optional) {
        (Some(value), true) => Ok(Val::some(value.clone())),
        (Some(value), false) => Ok(value.clone()),
        (None, true) => Ok(Val::Optional(None)),
        (None, false) => fail(format!("index out of bounds: {at}")),
    }
}
