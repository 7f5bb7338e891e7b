//! Content filters: which of the matching events a subscription takes.
//!
//! They read the encoded payload where it lies, so that an event nobody wants never wakes
//! Python, and allocate nothing while they do.
//!
//! ```text
//! payload.symbol in ["BTCUSDT", "ETHUSDT"] and not (payload.volume < 0.5 or payload.test == true)
//! ```
//!
//! - `path`: where in an event a value is found.
//! - `value`: literals, and how two values compare.
//! - `expr`: conditions, and whether an event meets them.
//! - `lex` and `parse`: from text to conditions, with errors that point at the mistake.
//!
//! # What compares how
//! - A path that leads nowhere is null: it equals null, and differs from everything else.
//! - `!=` is exactly "not `==`", and `not in` exactly "not `in`".
//! - Numbers compare by their exact value, whatever their type: integers up to `u64` are never
//!   rounded to meet a float.
//! - `<`, `<=`, `>` and `>=` order numbers among themselves and texts by code point; between
//!   unlike types, and for null and booleans, each of them is false.
//! - `metadata.priority` is ordered by urgency: `metadata.priority >= "high"`.
//! - Lists and maps equal nothing; compare what is in them.

mod expr;
mod lex;
mod parse;
mod path;
#[cfg(test)]
mod tests;
mod value;

use crate::error::Result;
use crate::event::Event;
use expr::Expr;
pub use parse::{MAX_LENGTH, MAX_LIST, MAX_NESTING};
pub use path::Path;
pub use value::Literal;

/// A condition on events; the empty one lets everything pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter(Expr);

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// `Kind::Configuration`, with the position (`position`, in bytes), the line with a caret
    /// under it, and a suggestion where there is one.
    pub fn parse(text: &str) -> Result<Filter> {
        parse::parse(text).map(Filter)
    }

    /// Adds the condition that the field at `path` equals `value`.
    ///
    /// The segments of the path are what stands between the dots, whatever characters they have.
    ///
    /// # Errors
    /// `Kind::Configuration` for a path that leads nowhere in any event, and for a value that no
    /// event can have there.
    pub fn and_equals(self, path: &str, value: Literal) -> Result<Filter> {
        let condition = parse::equality(path, value)?;
        Ok(Filter(match self.0 {
            Expr::All(mut conditions) => {
                conditions.push(condition);
                Expr::All(conditions)
            }
            other => Expr::All(vec![other, condition]),
        }))
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Expr::All(conditions) if conditions.is_empty())
    }

    /// Whether `event` passes.
    pub fn accepts(&self, event: &Event) -> bool {
        self.0.accepts(event)
    }
}
