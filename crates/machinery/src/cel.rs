//! CEL, the expression language of validation rules and admission policies.
//!
//! An expression is parsed once ([`Program::compile`]) and evaluated over named values with a budget
//! ([`Program::eval`]); every step costs, so no expression runs for long. The language is that of
//! `github.com/google/cel-spec` (standard operators, macros and functions, optional values) with the libraries of
//! `k8s.io/apiserver pkg/cel/library`: strings, lists, regular expressions, quantities, URLs, addresses and formats
//! of time. [`rules`] runs the `x-kubernetes-validations` of a custom resource's schema.

mod authorizer;
mod eval;
mod functions;
mod kubernetes;
mod lex;
mod operators;
mod parse;
mod rules;
mod strings;
mod value;

use std::collections::HashMap;

pub use authorizer::{Authorizer, Check, Decision};
pub use parse::Expr;
pub use rules::{check_rules, has_rules, validate_rules};
pub use value::Val;

/// What one evaluation may cost (`k8s.io/apiserver pkg/apis/cel/config.go`: PerCallLimit).
pub const CALL_COST_MAX: u64 = 1_000_000;
/// What all rules of one object may cost together (RuntimeCELCostBudget).
pub const OBJECT_COST_MAX: u64 = 10_000_000;

/// Why an expression has no value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CelError {
    /// It is not CEL.
    #[error("{0}")]
    Syntax(String),
    /// It failed on these values.
    #[error("{0}")]
    Runtime(String),
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Program {
    source: String,
    expr: Expr,
}

impl Program {
    pub fn compile(source: &str) -> Result<Self, CelError> {
        Ok(Self { source: source.to_owned(), expr: parse::parse(source).map_err(CelError::Syntax)? })
    }

    /// The same for an expression that may name only these variables (`a`, `a.b`).
    pub fn compile_with(source: &str, variables: &[&str]) -> Result<Self, CelError> {
        let program = Self::compile(source)?;
        let mut known = variables.iter().map(|name| (*name).to_owned()).collect();
        match program.expr.undeclared(&mut known) {
            None => Ok(program),
            Some(name) => {
                let column = column_of(source, &name);
                let (line, caret) = (source.lines().next().unwrap_or_default(), ".".repeat(column - 1));
                Err(CelError::Syntax(format!(
                    "ERROR: <input>:1:{column}: undeclared reference to '{name}' (in container '')\n | {line}\n | {caret}^"
                )))
            }
        }
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the expression names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.expr.names(variable)
    }

    /// The expression as parsed.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Its value; `budget` goes down by what it cost.
    pub fn eval(&self, variables: &HashMap<String, Val>, budget: &mut u64) -> Result<Val, CelError> {
        let allowed = CALL_COST_MAX.min(*budget);
        let mut evaluation = eval::Evaluation::new(variables, allowed);
        let value = evaluation.eval(&self.expr);
        *budget -= allowed - evaluation.left();
        value
    }
}

/// Where a name stands first that is no field of something else; counted from one.
fn column_of(source: &str, name: &str) -> usize {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let stands_alone = |at: &usize| {
        let after = source[at + name.len()..].chars().next().filter(|c| *c != '.');
        !part(source[..*at].chars().next_back()) && !part(after)
    };
    source.match_indices(name).map(|(at, _)| at).find(stands_alone).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests;
