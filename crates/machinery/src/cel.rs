//! CEL, the expression language of validation rules and admission policies.
//!
//! An expression is parsed once ([`Program::compile`]) and evaluated over named values with a budget
//! ([`Program::eval`]); every step costs, so no expression runs for long. The language is that of
//! `github.com/google/cel-spec` (standard operators, macros and functions, optional values) with the libraries of
//! `k8s.io/apiserver pkg/cel/library`: strings, lists, regular expressions, quantities, URLs, addresses and formats
//! of time. [`rules`] runs the `x-kubernetes-validations` of a custom resource's schema.

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

pub use parse::Expr;
pub use rules::{check_rules, validate_rules};
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
    expr: Expr,
}

impl Program {
    pub fn compile(source: &str) -> Result<Self, CelError> {
        Ok(Self { expr: parse::parse(source).map_err(CelError::Syntax)? })
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

#[cfg(test)]
mod tests;
