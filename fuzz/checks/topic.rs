//! Topics and patterns: what is taken is well-formed, and matching is what a table says.

use tiebeam::topic::{MAX_LENGTH, MAX_SEGMENTS, Pattern, Topic, Trie};

/// `data` has a pattern in each line but the last, which is a topic.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let last = lines.pop().unwrap_or_default();
    let topic = Topic::parse(last);
    assert_eq!(topic.is_ok(), well_formed(last, false), "{last:?}");
    let patterns: Vec<Pattern> = lines
        .into_iter()
        .filter_map(|line| {
            let pattern = Pattern::parse(line);
            assert_eq!(pattern.is_ok(), well_formed(line, true), "{line:?}");
            pattern.ok()
        })
        .collect();
    let Ok(topic) = topic else { return };
    assert_eq!(topic.as_str(), last);
    assert_eq!(topic.category(), last.split('.').next().expect("has a segment"));
    let own = Pattern::parse(last).expect("a topic is a pattern");
    assert!(own.is_literal() && own.matches(&topic));

    let mut trie = Trie::default();
    for (index, pattern) in patterns.iter().enumerate() {
        trie.insert(pattern, index);
        let expected = matches(pattern.as_str(), topic.as_str());
        assert_eq!(pattern.matches(&topic), expected, "{pattern} ~ {topic}");
    }
    let mut found = trie.find(&topic);
    found.sort_unstable();
    found.dedup();
    let expected: Vec<usize> =
        (0..patterns.len()).filter(|index| patterns[*index].matches(&topic)).collect();
    assert_eq!(found, expected);
}

/// The grammar, word by word.
fn well_formed(text: &str, pattern: bool) -> bool {
    let letters = |segment: &str| {
        !segment.is_empty()
            && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let wildcard = |segment: &str| pattern && (segment == "*" || segment == "#");
    text.len() <= MAX_LENGTH
        && text.split('.').count() <= MAX_SEGMENTS
        && text.split('.').all(|segment| letters(segment) || wildcard(segment))
}

/// By a table: whether the first `p` segments of the pattern match the first `t` of the topic.
fn matches(pattern: &str, topic: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let topic: Vec<&str> = topic.split('.').collect();
    let mut table = vec![vec![false; topic.len() + 1]; pattern.len() + 1];
    table[0][0] = true;
    for p in 1..=pattern.len() {
        for t in 0..=topic.len() {
            table[p][t] = match pattern[p - 1] {
                "#" => table[p - 1][t] || t > 0 && table[p][t - 1],
                "*" => t > 0 && table[p - 1][t - 1],
                text => t > 0 && text == topic[t - 1] && table[p - 1][t - 1],
            };
        }
    }
    table[pattern.len()][topic.len()]
}
