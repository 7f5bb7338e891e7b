//! Which records are wanted: one level, and exceptions for single targets.

use tracing::Level;
pub use tracing::level_filters::LevelFilter;

use crate::error::{Error, Kind, Result, did_you_mean};

const NAMES: [(&str, LevelFilter); 11] = [
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warning", LevelFilter::WARN),
    ("warn", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("critical", LevelFilter::ERROR),
    ("fatal", LevelFilter::ERROR),
    ("off", LevelFilter::OFF),
    ("none", LevelFilter::OFF),
    ("notset", LevelFilter::TRACE),
];

/// Reads a level's name in Rust's or Python's spelling, in any case.
///
/// # Errors
/// [`Kind::Configuration`] with a suggestion, for anything else.
pub fn parse_level(name: &str) -> Result<LevelFilter> {
    let lower = name.trim().to_ascii_lowercase();
    NAMES.iter().find(|(known, _)| *known == lower).map(|(_, level)| *level).ok_or_else(|| {
        let hint = match did_you_mean(&lower, NAMES.iter().map(|(known, _)| *known)) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => "; it is one of trace, debug, info, warning, error, off".to_owned(),
        };
        Error::new(Kind::Configuration, "read a log level", format!("unknown level `{name}`{hint}"))
    })
}

/// The name of a level in records, as Python spells it.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warning",
        Level::ERROR => "error",
    }
}

/// A level, and other levels for targets and all that lies below them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    default: LevelFilter,
    /// Longest first, so that the most specific one is met first.
    targets: Vec<(String, LevelFilter)>,
}

impl Default for Levels {
    fn default() -> Self {
        Levels::new(LevelFilter::INFO, [])
    }
}

impl Levels {
    /// `default` for everything but `targets`, of which the most specific counts. Targets are
    /// dotted (`shop.orders`) or Rust paths (`tiebeam::clock`).
    pub fn new(
        default: LevelFilter,
        targets: impl IntoIterator<Item = (String, LevelFilter)>,
    ) -> Self {
        let mut targets: Vec<_> = targets.into_iter().collect();
        targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Levels { default, targets }
    }

    /// The level that counts for `target`.
    pub fn level_of(&self, target: &str) -> LevelFilter {
        let specific = self.targets.iter().find(|(prefix, _)| is_below(target, prefix));
        specific.map_or(self.default, |(_, level)| *level)
    }

    /// Whether a record of `level` and `target` is wanted.
    pub fn allow(&self, level: Level, target: &str) -> bool {
        level <= self.level_of(target)
    }

    /// The most talkative level of any target.
    pub fn max(&self) -> LevelFilter {
        let levels = self.targets.iter().map(|(_, level)| *level);
        levels.fold(self.default, |most, level| most.max(level))
    }

    /// The same exceptions with another level for the rest.
    #[must_use]
    pub fn with_default(&self, default: LevelFilter) -> Self {
        Levels { default, targets: self.targets.clone() }
    }

    /// The same levels but for `target`.
    #[must_use]
    pub fn with_target(&self, target: &str, level: LevelFilter) -> Self {
        let others = self.targets.iter().filter(|(known, _)| known != target).cloned();
        Levels::new(self.default, others.chain([(target.to_owned(), level)]))
    }
}

/// Whole segments only: `shop` is above `shop.orders` and not above `shopping`.
fn is_below(target: &str, prefix: &str) -> bool {
    target
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_languages_are_read() {
        assert_eq!(parse_level("WARNING").unwrap(), LevelFilter::WARN);
        assert_eq!(parse_level(" warn ").unwrap(), LevelFilter::WARN);
        assert_eq!(parse_level("critical").unwrap(), LevelFilter::ERROR);
        let error = parse_level("infoo").unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.message().contains("did you mean `info`?"), "{error}");
    }

    #[test]
    fn the_most_specific_target_counts_and_only_whole_segments() {
        let levels = Levels::new(
            LevelFilter::WARN,
            [
                ("shop".to_owned(), LevelFilter::INFO),
                ("shop.orders".to_owned(), LevelFilter::DEBUG),
                ("tiebeam".to_owned(), LevelFilter::OFF),
            ],
        );
        assert!(levels.allow(Level::DEBUG, "shop.orders.new"));
        assert!(!levels.allow(Level::DEBUG, "shop.ordersets"));
        assert!(levels.allow(Level::INFO, "shop.cart"));
        assert!(!levels.allow(Level::INFO, "shopping"));
        assert!(!levels.allow(Level::ERROR, "tiebeam::clock"));
        assert_eq!(levels.max(), LevelFilter::DEBUG);
        let louder =
            levels.with_default(LevelFilter::TRACE).with_target("tiebeam", LevelFilter::INFO);
        assert!(louder.allow(Level::TRACE, "other") && louder.allow(Level::INFO, "tiebeam"));
    }
}
