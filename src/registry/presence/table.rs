//! Who is there, decided from what was heard and when: a table that does nothing by itself.
//!
//! | what is heard, or not | what it means |
//! | --- | --- |
//! | a new instance | it is there |
//! | a known one, a greater number | it is as it says now, for another lease |
//! | a greater incarnation | it began anew: what was known of it is of no worth |
//! | a number or incarnation that is not greater | it came late or twice: nothing |
//! | its last word | it is gone |
//! | nothing for a lease | it is gone |
//! | nothing of anybody, because we cannot hear | nothing; and after that, everybody has a lease |
//!
//! At most a seventh of all (and always one) are given up in one pass over the table: that many
//! fall silent at once rather because of us than because of them. The others are looked at in the
//! next pass.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::announcement::Announcement;
use crate::clock::Instant;

/// The most processes that are known at a time, and that are remembered as gone.
pub const MOST: usize = 1_024;

/// The share of all that may stay when others are given up in one pass.
const KEPT: f64 = 0.85;

/// One process that is there.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it said last.
    pub said: Announcement,
    /// When it was first heard of, in Unix milliseconds of our clock.
    pub since: i64,
    /// When it was last heard.
    pub heard: Instant,
    /// Until when it counts as there.
    pub expires: Instant,
}

/// What came of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody new is there, or one that had been gone.
    New,
    /// One that was there began anew.
    Anew,
    /// What it says differs from before.
    Changed,
    /// It says the same again.
    Renewed,
    /// It said goodbye.
    Left,
    /// It came late or twice, and means nothing.
    Stale,
    /// There are too many already.
    Full,
}

/// What is remembered of one that is gone, so that what comes late does not bring it back.
#[derive(Clone, Copy, Debug)]
struct Gone {
    incarnation: u64,
    /// The last number; none where it said goodbye: nothing of this incarnation counts then.
    number: Option<u64>,
    until: Instant,
}

/// Who is there.
#[derive(Debug, Default)]
pub struct Table {
    there: IndexMap<Arc<str>, Entry>,
    gone: IndexMap<Arc<str>, Gone>,
    /// Since we cannot hear.
    deaf: bool,
    /// The next pass is not before this.
    pause: Option<Instant>,
}

impl Table {
    /// Takes an announcement that was heard at `now`, which is `unix_ms`.
    pub fn hear(&mut self, said: Announcement, now: Instant, unix_ms: i64) -> Heard {
        self.gone.retain(|_, gone| gone.until > now);
        let expires = now.saturating_add(said.lease());
        let (incarnation, number) = (said.incarnation, said.number);
        let Some(entry) = self.there.get_mut(&said.instance) else {
            if let Some(gone) = self.gone.get(&said.instance) {
                let late = match gone.number {
                    Some(last) => (incarnation, number) <= (gone.incarnation, last),
                    None => incarnation <= gone.incarnation,
                };
                if late {
                    return Heard::Stale;
                }
            }
            if said.leaves {
                self.bury(said.instance, incarnation, None, expires);
                return Heard::Stale; // nobody knew it
            }
            if self.there.len() >= MOST {
                return Heard::Full;
            }
            let entry = Entry { since: unix_ms, heard: now, expires, said };
            self.there.insert(entry.said.instance.clone(), entry);
            return Heard::New;
        };
        let known = (entry.said.incarnation, entry.said.number);
        if (incarnation, number) <= known {
            return Heard::Stale;
        }
        let anew = incarnation > entry.said.incarnation;
        if said.leaves {
            self.there.shift_remove(&said.instance);
            self.bury(said.instance, incarnation, None, expires);
            return Heard::Left;
        }
        let same = !anew && entry.said.components == said.components;
        (entry.heard, entry.expires) = (now, expires);
        if anew {
            entry.since = unix_ms;
        }
        entry.said = said;
        match (anew, same) {
            (true, _) => Heard::Anew,
            (false, true) => Heard::Renewed,
            (false, false) => Heard::Changed,
        }
    }

    /// Gives up those whose lease is over at `now`, and says who that is; the next pass is not
    /// before `pause` from now where some were left.
    pub fn pass(&mut self, now: Instant, pause: Duration) -> Vec<Entry> {
        if self.deaf || self.pause.is_some_and(|until| now < until) {
            return Vec::new();
        }
        self.pause = None;
        let mut over: Vec<(Instant, Arc<str>)> = self
            .there
            .iter()
            .filter(|(_, entry)| now > entry.expires)
            .map(|(instance, entry)| (entry.expires, instance.clone()))
            .collect();
        over.sort();
        let all = self.there.len();
        let most = (all - (all as f64 * KEPT).floor() as usize).max(1);
        if over.len() > most {
            over.truncate(most);
            self.pause = Some(now.saturating_add(pause));
        }
        let given_up = over.into_iter().filter_map(|(_, instance)| {
            let entry = self.there.shift_remove(&instance)?;
            let until = now.saturating_add(entry.said.lease());
            self.bury(instance, entry.said.incarnation, Some(entry.said.number), until);
            Some(entry)
        });
        given_up.collect()
    }

    /// From now on silence means nothing: it is us who cannot hear.
    pub fn deafen(&mut self) {
        self.deaf = true;
    }

    /// We can hear since `now`: everybody has a lease to be heard in.
    pub fn listen(&mut self, now: Instant) {
        if std::mem::take(&mut self.deaf) {
            for entry in self.there.values_mut() {
                entry.expires = entry.expires.max(now.saturating_add(entry.said.lease()));
            }
        }
    }

    /// Whether silence means nothing at present.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// When the next pass may find somebody, if anybody is there and silence means anything.
    pub fn next_pass(&self) -> Option<Instant> {
        if self.deaf {
            return None;
        }
        let first = self.there.values().map(|entry| entry.expires).min()?;
        // Over is what is past, and not what is just there.
        let first = first.saturating_add(Duration::from_millis(1));
        Some(self.pause.map_or(first, |pause| first.max(pause)))
    }

    /// Those who are there, in the order in which they came.
    pub fn there(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.there.values()
    }

    fn bury(&mut self, instance: Arc<str>, incarnation: u64, number: Option<u64>, until: Instant) {
        if self.gone.len() >= MOST {
            self.gone.shift_remove_index(0);
        }
        self.gone.insert(instance, Gone { incarnation, number, until });
    }
}

#[cfg(test)]
mod tests;
