//! Conditions, and whether an event meets them.

use std::cmp::Ordering;

use super::path::Path;
use super::value::{Literal, Set, Value};
use crate::event::Event;

/// What stands on a side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Path(Path),
    Literal(Literal),
}

impl Operand {
    fn read<'a>(&'a self, event: &'a Event) -> Value<'a> {
        match self {
            Operand::Path(path) => path.read(event),
            Operand::Literal(literal) => literal.value(),
        }
    }
}

/// How two operands are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Eq => "==",
            Op::Ne => "!=",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
        }
    }

    fn holds(self, left: Value<'_>, right: Value<'_>) -> bool {
        match self {
            Op::Eq => left.equals(right),
            Op::Ne => !left.equals(right),
            Op::Lt => left.compare(right) == Some(Ordering::Less),
            Op::Le => left.compare(right).is_some_and(Ordering::is_le),
            Op::Gt => left.compare(right) == Some(Ordering::Greater),
            Op::Ge => left.compare(right).is_some_and(Ordering::is_ge),
        }
    }
}

/// A condition. Its depth is bounded by the parser, so that walking it needs no care.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// All of them hold; none of them is the condition that always holds.
    All(Vec<Expr>),
    /// At least one of them holds.
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Operand, Op, Operand),
    In(Operand, Set),
}

impl Default for Expr {
    fn default() -> Self {
        Expr::All(Vec::new())
    }
}

impl Expr {
    pub fn accepts(&self, event: &Event) -> bool {
        match self {
            Expr::All(conditions) => conditions.iter().all(|condition| condition.accepts(event)),
            Expr::Any(conditions) => conditions.iter().any(|condition| condition.accepts(event)),
            Expr::Not(condition) => !condition.accepts(event),
            Expr::Compare(left, op, right) => op.holds(left.read(event), right.read(event)),
            Expr::In(operand, set) => set.contains(operand.read(event)),
        }
    }
}
