//! What is wrong with a configuration: every problem, each with its place.

use std::fmt;

use crate::error::{Error, Kind};

use super::origin::Origin;

/// One problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Dotted path of the key; empty if the whole source is meant.
    pub path: String,
    /// Where the value, or else the nearest section above it, was written.
    pub origin: Option<Origin>,
    /// The value, redacted; none where showing it would not help or not be safe.
    pub value: Option<String>,
    /// The rule that is broken: `type`, `range`, `choice`, `pattern`, `required`, `unknown_key`,
    /// `cross_field`, `interpolation`, `syntax`, `file`, `duplicate`.
    pub rule: &'static str,
    /// What is wrong, for a person.
    pub message: String,
    /// What to write instead, if that can be guessed.
    pub suggestion: Option<String>,
}

impl Violation {
    pub(super) fn new(rule: &'static str, path: &str, message: impl Into<String>) -> Self {
        Violation {
            path: path.to_owned(),
            origin: None,
            value: None,
            rule,
            message: message.into(),
            suggestion: None,
        }
    }

    pub(super) fn at(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    pub(super) fn got(mut self, value: Option<String>) -> Self {
        self.value = value;
        self
    }

    pub(super) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(value) = &self.value {
            write!(f, ", got {value}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, ", did you mean `{suggestion}`?")?;
        }
        Ok(())
    }
}

/// Lines of a message; [`violations`] has them all.
const MOST_LINES: usize = 50;

/// The list that an [`Error`] carries as its source.
#[derive(Debug)]
struct Violations(Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, violation) in self.0.iter().take(MOST_LINES).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{violation}")?;
        }
        match self.0.len().saturating_sub(MOST_LINES) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Violations {}

/// One error out of all problems; with one problem, its line is the message.
pub(super) fn error(operation: &'static str, found: Vec<Violation>) -> Error {
    let list = Violations(found);
    let message = match list.0.len() {
        1 => list.to_string(),
        count => format!("{count} problems in the configuration:\n{list}"),
    };
    Error::new(Kind::Configuration, operation, message)
        .with("violations", list.0.len().to_string())
        .with_source(list)
}

/// The problems behind a configuration error; empty for any other error.
pub fn violations(error: &Error) -> &[Violation] {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<Violations>())
        .map_or(&[], |list| &list.0)
}
