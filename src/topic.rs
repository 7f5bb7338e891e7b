//! Topics name what happened; patterns say which topics somebody wants.
//!
//! Patterns have AMQP's meaning, so that every transport can filter on its server: `*` is
//! exactly one segment, `#` zero or more, and both stand for whole segments only.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};

/// The longest topic or pattern, in bytes.
pub const MAX_LENGTH: usize = 128;
/// The most segments of a topic or pattern.
pub const MAX_SEGMENTS: usize = 8;

/// The type of an event: `^[a-z0-9_]+(\.[a-z0-9_]+){0,7}$`, at most 128 bytes.
///
/// The small alphabet keeps a topic safe as a key or routing key on every transport.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// `Kind::Topic`, saying which segment is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Topic> {
        check("topic", text, |segment| {
            if segment.contains(['*', '#']) {
                return Err("is a pattern; events are published to one topic".into());
            }
            check_letters(segment)
        })?;
        Ok(Topic(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// The first segment.
    pub fn category(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }
}

/// Equal topics have equal texts, and hash alike.
impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

/// Which topics a subscription wants.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// `Kind::Topic`, for example for `price*`, which no transport would ever match.
    pub fn parse(text: &str) -> Result<Pattern> {
        check("pattern", text, |segment| match segment {
            "*" | "#" => Ok(()),
            _ if segment.contains(['*', '#']) => {
                Err("mixes a wildcard with text; `*` and `#` stand for whole segments".into())
            }
            _ => check_letters(segment),
        })?;
        Ok(Pattern(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the name of one topic.
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '#'])
    }

    /// The one category that its topics have; none where they may have any.
    pub fn category(&self) -> Option<&str> {
        self.0.split('.').next().filter(|first| !matches!(*first, "*" | "#"))
    }

    /// Whether `topic` is wanted.
    pub fn matches(&self, topic: &Topic) -> bool {
        fn walk(pattern: &[&str], topic: &[&str]) -> bool {
            match (pattern.split_first(), topic.split_first()) {
                (None, None) => true,
                (Some((&"#", rest)), _) => {
                    (0..=topic.len()).any(|skipped| walk(rest, &topic[skipped..]))
                }
                (Some((&"*", rest)), Some((_, tail))) => walk(rest, tail),
                (Some((head, rest)), Some((segment, tail))) => head == segment && walk(rest, tail),
                _ => false,
            }
        }
        let pattern: Vec<&str> = self.0.split('.').collect();
        let topic: Vec<&str> = topic.0.split('.').collect();
        walk(&pattern, &topic)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

fn check(
    what: &str,
    text: &str,
    segment_ok: impl Fn(&str) -> std::result::Result<(), String>,
) -> Result<()> {
    let refuse = |reason: String| {
        let shown: String = text.chars().take(MAX_LENGTH).collect();
        Err(Error::new(Kind::Topic, "check topic", format!("{what} {shown:?} {reason}"))
            .with("topic", shown))
    };
    if text.is_empty() {
        return refuse("is empty; write something like \"market_data.price_update\"".into());
    }
    if text.len() > MAX_LENGTH {
        return refuse(format!("has {} bytes; the limit is {MAX_LENGTH}", text.len()));
    }
    let segments = text.split('.').count();
    if segments > MAX_SEGMENTS {
        return refuse(format!("has {segments} segments; the limit is {MAX_SEGMENTS}"));
    }
    for (index, segment) in text.split('.').enumerate() {
        if segment.is_empty() {
            return refuse(format!("has an empty segment at position {}", index + 1));
        }
        if let Err(reason) = segment_ok(segment) {
            let hint = suggestion(text)
                .map(|better| format!("; did you mean {better:?}?"))
                .unwrap_or_default();
            return refuse(format!("is not valid: segment {segment:?} {reason}{hint}"));
        }
    }
    Ok(())
}

fn check_letters(segment: &str) -> std::result::Result<(), String> {
    match segment.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_')) {
        None => Ok(()),
        Some(wrong) => Err(format!("has {wrong:?}; use a-z, 0-9 and _")),
    }
}

/// The nearest well-formed spelling, where lower case and underscores are all it takes.
fn suggestion(text: &str) -> Option<String> {
    let better: String = text
        .chars()
        .map(|c| match c {
            '-' | ' ' | '/' | ':' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect();
    (better != text && better.split('.').all(|segment| check_letters(segment).is_ok()))
        .then_some(better)
}

/// Finds the values whose patterns match a topic, at a cost that depends on the topic's
/// segments and not on how many patterns there are.
#[derive(Debug)]
pub struct Trie<T> {
    root: Branch<T>,
}

#[derive(Debug)]
struct Branch<T> {
    children: HashMap<Box<str>, Branch<T>>,
    values: Vec<T>,
}

impl<T> Default for Branch<T> {
    fn default() -> Self {
        Branch { children: HashMap::new(), values: Vec::new() }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Trie { root: Branch::default() }
    }
}

impl<T: Clone> Trie<T> {
    /// Adds `value` under `pattern`.
    pub fn insert(&mut self, pattern: &Pattern, value: T) {
        let mut branch = &mut self.root;
        for segment in pattern.0.split('.') {
            branch = branch.children.entry(segment.into()).or_default();
        }
        branch.values.push(value);
    }

    /// Removes what `is_it` picks from under `pattern`, and branches that become empty.
    pub fn remove(&mut self, pattern: &Pattern, is_it: impl Fn(&T) -> bool) {
        fn prune<T>(branch: &mut Branch<T>, path: &[&str], is_it: &impl Fn(&T) -> bool) {
            match path.split_first() {
                None => branch.values.retain(|value| !is_it(value)),
                Some((head, rest)) => {
                    if let Some(child) = branch.children.get_mut(*head) {
                        prune(child, rest, is_it);
                        if child.values.is_empty() && child.children.is_empty() {
                            branch.children.remove(*head);
                        }
                    }
                }
            }
        }
        let path: Vec<&str> = pattern.0.split('.').collect();
        prune(&mut self.root, &path, &is_it);
    }

    /// The values of every pattern that matches; a value may come more than once when its
    /// pattern matches in more than one way (`#.#`).
    pub fn find(&self, topic: &Topic) -> Vec<T> {
        fn walk<T: Clone>(branch: &Branch<T>, path: &[&str], found: &mut Vec<T>) {
            if let Some(hash) = branch.children.get("#") {
                for skipped in 0..=path.len() {
                    walk(hash, &path[skipped..], found);
                }
            }
            match path.split_first() {
                None => found.extend(branch.values.iter().cloned()),
                Some((head, rest)) => {
                    for name in [*head, "*"] {
                        if let Some(child) = branch.children.get(name) {
                            walk(child, rest, found);
                        }
                    }
                }
            }
        }
        let path: Vec<&str> = topic.0.split('.').collect();
        let mut found = Vec::new();
        walk(&self.root, &path, &mut found);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::parse(text).expect(text)
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    #[test]
    fn the_pinned_table_of_matches() {
        for (wanted, given, matches) in [
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b", true),
            ("a.#", "a.b.c", true),
            ("#", "anything.at_all", true),
            ("#.c", "c", true),
            ("#.c", "a.b.c", true),
            ("*.#", "a", true),
            ("a.#.b", "a.b", true),
            ("a.#.b", "a.x.y.b", true),
            ("a.#.b", "a.x.y", false),
        ] {
            assert_eq!(pattern(wanted).matches(&topic(given)), matches, "{wanted} ~ {given}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (text, says) in [
            ("a..b", "empty segment at position 2"),
            ("", "is empty"),
            ("market_data.*", "is a pattern"),
            ("market-data.Price", "did you mean \"market_data.price\"?"),
            ("a.b.c.d.e.f.g.h.i", "9 segments"),
            ("a\r\nb", "use a-z, 0-9 and _"),
        ] {
            let error = Topic::parse(text).expect_err(text);
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(Pattern::parse("price*").expect_err("partial").to_string().contains("whole"));
        assert!(Topic::parse(&"a".repeat(129)).is_err());
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_matching_one_by_one_finds(
            patterns in prop::collection::vec("([ab*#]\\.){0,4}[ab*#]", 1..20),
            given in "([ab]\\.){0,4}[ab]",
        ) {
            let mut trie = Trie::default();
            for (index, text) in patterns.iter().enumerate() {
                trie.insert(&pattern(text), index);
            }
            let given = topic(&given);
            let mut found = trie.find(&given);
            found.sort_unstable();
            found.dedup();
            let naive: Vec<usize> = (0..patterns.len())
                .filter(|&index| pattern(&patterns[index]).matches(&given))
                .collect();
            prop_assert_eq!(found, naive);
            for (index, text) in patterns.iter().enumerate() {
                trie.remove(&pattern(text), |&value| value == index);
            }
            prop_assert!(trie.root.children.is_empty());
        }
    }
}
