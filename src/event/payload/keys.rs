//! The keys of one JSON object: none of them stands there twice.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// So few are compared with each other, which is faster than a table.
const FEW: usize = 16;

/// Those that came so far.
#[derive(Default)]
pub(super) struct Keys<'de> {
    few: Vec<Key<'de>>,
    /// All of them, once they are more. Whoever sends them may choose keys that fall together: the
    /// hash is one that cannot be foreseen.
    many: HashSet<Key<'de>>,
}

impl<'de> Keys<'de> {
    /// Adds one.
    ///
    /// # Errors
    /// The key, where it came before.
    pub fn add(&mut self, key: Key<'de>) -> Result<(), Key<'de>> {
        if self.many.is_empty() {
            if self.few.contains(&key) {
                return Err(key);
            }
            if self.few.len() < FEW {
                self.few.reserve(FEW - self.few.len()); // once
                self.few.push(key);
                return Ok(());
            }
            self.many.extend(self.few.drain(..));
        }
        self.many.replace(key).map_or(Ok(()), Err)
    }
}

/// A key, as it stands in the text where that is possible.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key<'de>(pub Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_again_however_many_there_are() {
        for count in [1, FEW - 1, FEW, FEW + 1, FEW * 4] {
            let mut keys = Keys::default();
            let key = |n: usize| Key(Cow::Owned(format!("key {n}")));
            for n in 0..count {
                keys.add(key(n)).expect("a new one");
            }
            for n in 0..count {
                assert_eq!(keys.add(key(n)), Err(key(n)), "{n} of {count}");
            }
            keys.add(key(count)).expect("a new one");
        }
    }
}
