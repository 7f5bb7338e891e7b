//! The one error of the core: what failed, of what kind, where, and why.
//!
//! A [`Kind`] has exactly one Python exception (mapped in `python/errors.rs`); its
//! [`Category`] says what to do about it, so that whether to retry belongs to the error and
//! not to whoever catches it.

use std::error::Error as StdError;
use std::fmt;

/// What an error means for whoever must deal with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Likely to resolve with a retry.
    Transient,
    /// Persistent; the same input will fail again.
    Permanent,
    /// A mistake in the system's configuration.
    Configuration,
    /// Something outside the system does not answer.
    Dependency,
    /// A bug.
    Internal,
}

impl Category {
    /// Every category, in the order of the requirement.
    pub const ALL: [Category; 5] = [
        Category::Transient,
        Category::Permanent,
        Category::Configuration,
        Category::Dependency,
        Category::Internal,
    ];

    /// The name used in events, configuration and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Category::Transient => "transient",
            Category::Permanent => "permanent",
            Category::Configuration => "configuration",
            Category::Dependency => "dependency",
            Category::Internal => "internal",
        }
    }

    /// Parses the name used in events and configuration.
    pub fn parse(name: &str) -> Option<Category> {
        Category::ALL.into_iter().find(|category| category.as_str() == name)
    }

    /// Whether another attempt at the same work may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Category::Transient | Category::Dependency)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which exception an error becomes. One variant, one Python class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A payload or metadata value that cannot be an event.
    Payload,
    /// A malformed topic or pattern.
    Topic,
    /// A bounded mailbox has no room.
    MailboxFull,
    /// A request got no reply in time.
    RequestTimeout,
    /// The responder failed.
    RequestFault,
    /// Nobody responds to this request type.
    NoResponder,
    /// Nobody handles this command.
    NoHandler,
    /// The broker has no reader for this event, and did not keep it.
    Unroutable,
    /// The answer of the broker got lost: it may have the event.
    OutcomeUnknown,
    /// The broker takes nothing just now: its memory or its disk is full.
    BrokerBlocked,
    /// The command already has its one handler.
    DuplicateHandler,
    /// Waiting here would wait for itself.
    WouldDeadlock,
    /// The process was forked after the core had started.
    ForkedProcess,
    /// An illegal state transition or a hook that failed.
    Lifecycle,
    /// Components depend on each other in a circle.
    DependencyCycle,
    /// A component is not ready to start yet.
    NotReady,
    /// The configuration is wrong.
    Configuration,
    /// Raised or classified as transient.
    Transient,
    /// Raised or classified as permanent.
    Permanent,
    /// Raised or classified as a dependency's failure.
    Dependency,
    /// A bug, or a panic that was caught.
    Internal,
    /// A breaker rejected the call.
    CircuitOpen,
    /// A bulkhead has no place for the call.
    BulkheadFull,
    /// A rate limiter has no permit for the call.
    RateLimited,
    /// The bus, framework or runtime is closed.
    Closed,
    /// A bounded time ran out.
    Timeout,
}

impl Kind {
    /// The category an error of this kind has unless it says otherwise.
    pub fn category(self) -> Category {
        match self {
            Kind::Payload
            | Kind::Topic
            | Kind::NoHandler
            | Kind::NoResponder
            | Kind::Unroutable
            | Kind::DuplicateHandler
            | Kind::RequestFault
            | Kind::Permanent
            | Kind::Closed => Category::Permanent,
            Kind::MailboxFull
            | Kind::RequestTimeout
            | Kind::NotReady
            | Kind::Transient
            | Kind::BulkheadFull
            | Kind::RateLimited
            | Kind::Timeout => Category::Transient,
            Kind::Configuration | Kind::DependencyCycle => Category::Configuration,
            Kind::Dependency | Kind::CircuitOpen | Kind::OutcomeUnknown | Kind::BrokerBlocked => {
                Category::Dependency
            }
            Kind::WouldDeadlock | Kind::ForkedProcess | Kind::Lifecycle | Kind::Internal => {
                Category::Internal
            }
        }
    }
}

/// The core's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with the operation that failed and the facts needed to mend it.
///
/// `Display` is one line for a person; `Debug` shows everything.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    category: Category,
    operation: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` found while doing `operation`.
    pub fn new(kind: Kind, operation: &'static str, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            category: kind.category(),
            operation,
            message: message.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// Adds one fact: which component, which path, which event.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.context.push((key, value.into()));
        self
    }

    /// Overrides the category that follows from the kind.
    #[must_use]
    pub fn with_category(mut self, category: Category) -> Self {
        self.0.category = category;
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for somebody else; what caused it stays here.
    #[must_use]
    pub fn again(&self) -> Error {
        let Inner { kind, category, operation, message, context, .. } = &*self.0;
        Error(Box::new(Inner {
            kind: *kind,
            category: *category,
            operation,
            message: message.clone(),
            context: context.clone(),
            source: None,
        }))
    }

    /// Which exception this becomes.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What to do about it.
    pub fn category(&self) -> Category {
        self.0.category
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The sentence for a person, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts, in the order in which they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The value of one fact.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:?} ({}) in {}: {}",
            self.0.kind, self.0.category, self.0.operation, self.0.message
        )?;
        for (key, value) in &self.0.context {
            writeln!(f, "    {key}: {value}")?;
        }
        if let Some(source) = &self.0.source {
            writeln!(f, "    caused by: {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The nearest of `candidates` to `given`, for "did you mean" in messages.
///
/// Distance is Damerau-Levenshtein; anything farther than a third of the word is no help.
pub fn did_you_mean<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_and_debug_tells_all() {
        let error = Error::new(Kind::Topic, "publish", "topic `a..b` has an empty segment")
            .with("topic", "a..b");
        assert_eq!(error.to_string(), "topic `a..b` has an empty segment");
        assert_eq!(error.category(), Category::Permanent);
        assert!(format!("{error:?}").contains("topic: a..b"));
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        assert_eq!(did_you_mean("event_buss", ["event_bus", "health"]), Some("event_bus"));
        assert_eq!(did_you_mean("zzz", ["event_bus", "health"]), None);
    }
}
