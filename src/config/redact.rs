//! Hides secrets in whatever is printed: by the name of the key and inside URLs.

use serde_json::Value;

/// What stands in place of a secret value.
pub const MASK: &str = "**********";
/// What stands in place of a password inside a URL.
const URL_MASK: &str = "******";

/// Last words of a key that make its value a secret.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "pass",
    "secret",
    "token",
    "key",
    "apikey",
    "credential",
    "credentials",
    "dsn",
];

/// Whether a key of this name holds a secret: its last word decides (`api_key`, `apiKey`, but
/// not `tokenizer` or `authentication`).
pub fn is_secret_key(name: &str) -> bool {
    let chars: Vec<char> = name.chars().collect();
    let mut start = 0;
    for at in 0..chars.len() {
        let boundary = !chars[at].is_alphanumeric();
        let hump = at > 0 && chars[at].is_uppercase() && chars[at - 1].is_lowercase();
        // A separator at the very end ends no word: `password_` is still a password.
        if boundary && chars[at..].iter().any(|c| c.is_alphanumeric()) {
            start = at + 1;
        } else if hump {
            start = at;
        }
    }
    let word: String = chars[start..].iter().filter(|c| c.is_alphanumeric()).collect();
    let word = word.to_lowercase();
    SECRET_WORDS.contains(&word.as_str())
}

/// Whether anything on this dotted path is a secret key.
pub fn is_secret_path(path: &str) -> bool {
    path.split('.').any(is_secret_key)
}

/// `text` without passwords in URLs and in `password=...` parameters.
pub fn text(text: &str) -> String {
    parameters(&userinfo(text))
}

/// A copy of `value`, found at `path`, that is safe to print.
pub fn value(path: &str, value: &Value) -> Value {
    tree(value, is_secret_path(path))
}

fn tree(value: &Value, secret: bool) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), tree(value, secret || is_secret_key(key))))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(|item| tree(item, secret)).collect()),
        Value::String(content) if secret && !content.is_empty() => MASK.into(),
        Value::Number(_) if secret => MASK.into(),
        Value::String(content) => text(content).into(),
        // Whether there is a secret may be told: null, true and the empty text hide nothing.
        other => other.clone(),
    }
}

fn ends_token(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

/// `scheme://user:password@host` into `scheme://user:******@host`.
///
/// Everything up to the last `@` of the token counts as userinfo: a password may hold `/`, `@`
/// and `,` unescaped, and hiding too much is the better mistake.
fn userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        shown.push_str(before);
        let token = &after[..after.find(ends_token).unwrap_or(after.len())];
        rest = match token.rfind('@') {
            Some(at) => {
                let user = token[..at].split_once(':').filter(|(user, _)| !user.contains('/'));
                if let Some((user, _)) = user {
                    shown.push_str(user);
                    shown.push(':');
                }
                shown.push_str(URL_MASK);
                shown.push_str(&token[at..]);
                &after[token.len()..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

/// `?password=x&db=1` into `?password=******&db=1`.
fn parameters(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, after) = (&rest[..equals], &rest[equals + 1..]);
        let name_at = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        shown.push_str(before);
        shown.push('=');
        rest = after;
        if is_secret_key(&before[name_at..]) {
            let end = after.find(|c: char| ends_token(c) || c == '&' || c == ';');
            let end = end.unwrap_or(after.len());
            if end > 0 {
                shown.push_str(URL_MASK);
            }
            rest = &after[end..];
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_word_of_a_key_decides() {
        let secret = ["password", "api_key", "privateKey", "DB-PASSWORD", "aws.credentials", "key"];
        for key in secret {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["tokenizer", "authentication", "key_count", "host", "monkey", ""] {
            assert!(!is_secret_key(key), "{key}");
        }
        assert!(is_secret_path("aws.credentials.id"));
        assert!(!is_secret_path("tokenizer.size"));
    }

    #[test]
    fn urls_lose_their_password_only() {
        let cases = [
            ("redis://user:pw@host:6379/0", "redis://user:******@host:6379/0"),
            ("amqp://host/vh", "amqp://host/vh"),
            ("redis://:pw@h1", "redis://:******@h1"),
            ("redis://:p/w@x@h1", "redis://:******@h1"),
            (
                "see redis://a:b@h, or 'amqp://c:d@h'",
                "see redis://a:******@h, or 'amqp://c:******@h'",
            ),
            ("https://token@host", "https://******@host"),
            ("redis://h/0?password=a&db=1&api_key=", "redis://h/0?password=******&db=1&api_key="),
            ("host=h password=geheim", "host=h password=******"),
            ("é=1 ü=2 →=3", "é=1 ü=2 →=3"),
        ];
        for (given, shown) in cases {
            assert_eq!(text(given), shown);
        }
    }

    #[test]
    fn a_secret_section_hides_all_it_holds() {
        let given = json!({"credentials": {"id": "x", "n": 7, "on": true}, "url": "redis://:p@h"});
        let shown = value("", &given);
        assert_eq!(
            shown,
            json!({"credentials": {"id": MASK, "n": MASK, "on": true}, "url": "redis://:******@h"})
        );
    }
}
