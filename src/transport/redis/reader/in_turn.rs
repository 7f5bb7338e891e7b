//! Reading for a group that keeps the order of keys: what is in one stream is read by one member at
//! a time.
//!
//! Who takes a stream over waits until nobody else has anything of it: what is at work elsewhere is
//! waited for, and what was left alone is taken over. All of that comes before anything new, in
//! order. Whoever has lost its turn goes on with what it has, and is waited for in the same way.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::RedisResult;

use super::{BLOCK, Reader};
use crate::transport::redis::answers::Raw;
use crate::transport::redis::council::{Token, Turn};
use crate::transport::redis::entry_id::EntryId;
use crate::transport::redis::lease;
use crate::transport::redis::link::Link;
use crate::transport::redis::place;

/// How often it is looked whether others have come to an end with what they have: at first, and
/// less and less often where that takes long, which is so when they were killed.
const LOOK: Duration = Duration::from_millis(20);
const RARELY: Duration = Duration::from_millis(500);

impl Reader {
    /// Reads whenever it is our turn, until the connection fails.
    pub(super) async fn take_turns(
        &self,
        link: &mut Link,
        turn: &Turn,
        mut worked: impl FnMut(),
    ) -> RedisResult<()> {
        worked();
        loop {
            let token = match turn.token() {
                Some(token) => token,
                None => {
                    link.let_go(); // whoever waits needs no connection
                    turn.begins().await
                }
            };
            if self.settle_in(link, turn, &token).await? {
                worked();
                self.read_in_turn(link, turn, &token, &mut worked).await?;
            }
        }
    }

    /// Waits until nobody else has anything, and brings what is left of before. Whether it is our
    /// turn yet.
    async fn settle_in(&self, link: &mut Link, turn: &Turn, token: &Token) -> RedisResult<bool> {
        let (idle, count) = (self.inner.settings.claim_idle, self.inner.settings.batch);
        self.stay_so(link).await?; // whoever was here before may have taken it back
        let mut wait = LOOK;
        let given = loop {
            let connection = link.get().await?;
            let claimed = lease::claim(&self.place, connection, token, (idle, count)).await?;
            let Some(gone) = claimed else {
                turn.lost(token);
                return Ok(false);
            };
            if gone > 0 {
                self.lost(gone);
            }
            if self.place.held_by_others(connection).await? == 0
                && let Some(given) = self.given_in_order(link).await?
            {
                break given;
            }
            tokio::select! {
                () = self.inner.clock.sleep(wait) => wait = (wait * 2).min(RARELY),
                () = turn.ends(token) => return Ok(false),
            }
        };
        self.holding.set_company(turn.has_company());
        self.remember(link).await?;
        if self.bring_in_order(link, (turn, token), &given).await? {
            return Ok(true);
        }
        self.hand_back_rest(link).await?;
        Ok(false)
    }

    /// What was given to us and is not at work here, and how often it was given out; none as long
    /// as something that stands behind it is at work here.
    async fn given_in_order(&self, link: &mut Link) -> RedisResult<Option<Vec<(EntryId, u64)>>> {
        if self.holding.has_released() {
            return Ok(None); // the server is to hear of that first
        }
        let given = self.given_and_idle(link).await?;
        let Some((first, _)) = given.first() else { return Ok(Some(given)) };
        Ok(self.holding.ends().is_none_or(|(_, last)| last < *first).then_some(given))
    }

    async fn given_and_idle(&self, link: &mut Link) -> RedisResult<Vec<(EntryId, u64)>> {
        const PAGE: usize = 1_000;
        let (mut after, mut idle) = (EntryId::default(), Vec::new());
        loop {
            let given = self.place.given(link.get().await?, after, PAGE).await?;
            let Some((last, _)) = given.last() else { return Ok(idle) };
            after = *last;
            idle.extend(given.into_iter().filter(|(id, _)| !self.holding.has(*id)));
        }
    }

    /// Brings what was given before. What was given out more than once may be what ended those who
    /// had it: it comes by itself, and nothing behind it as long as it is at work. Whether that was
    /// all: false where the turn was lost meanwhile.
    async fn bring_in_order(
        &self,
        link: &mut Link,
        (turn, token): (&Turn, &Token),
        given: &[(EntryId, u64)],
    ) -> RedisResult<bool> {
        let count = self.inner.settings.batch;
        let alone = |(_, times): &(EntryId, u64)| *times > 1;
        for part in
            given.chunk_by(|a, b| !alone(a) && !alone(b)).flat_map(|part| part.chunks(count))
        {
            if turn.token().as_ref() != Some(token) {
                return Ok(false);
            }
            self.give_again(link, part).await?;
            if let [one] = part
                && alone(one)
            {
                tokio::select! {
                    () = self.holding.rid_of(one.0) => {}
                    () = turn.ends(token) => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// What was given to us and is not at work here is for whoever comes next, at once.
    pub(super) async fn hand_back_rest(&self, link: &mut Link) -> RedisResult<()> {
        let idle = self.inner.settings.claim_idle;
        let mut by_count: BTreeMap<u64, Vec<EntryId>> = BTreeMap::new();
        for (id, times) in self.given_and_idle(link).await? {
            by_count.entry(times).or_default().push(id);
        }
        for (times, ids) in by_count {
            self.place.hand_back(link.get().await?, &ids, (idle, times)).await?;
        }
        Ok(())
    }

    /// Reads what is new, until it is not our turn any more, or something came back that has to
    /// come first.
    async fn read_in_turn(
        &self,
        link: &mut Link,
        turn: &Turn,
        token: &Token,
        mut worked: impl FnMut(),
    ) -> RedisResult<()> {
        let count = self.inner.settings.batch;
        let mut last = self.place.last_delivered(link.get().await?).await?;
        loop {
            tokio::select! {
                () = self.room() => {}
                () = turn.ends(token) => return Ok(()),
            }
            if turn.token().as_ref() != Some(token) || self.holding.something_came_back() {
                return Ok(());
            }
            self.holding.set_company(turn.has_company());
            let Some(fresh) = self.fresh_in_turn(link, turn, token).await? else { return Ok(()) };
            worked();
            if fresh.is_empty() {
                self.anew.store(false, Ordering::Relaxed); // all that was there has come
                let connection = link.get().await?;
                self.place.stay(connection).await?;
                let news = place::behind(connection, &self.place.stream.key, last, (1, BLOCK));
                tokio::select! {
                    found = news => last = found?.last().map_or(last, |raw| raw.id),
                    () = turn.ends(token) => {
                        // Whatever comes next would have to wait for the answer to this.
                        link.let_go();
                        return Ok(());
                    }
                }
                worked();
                continue;
            }
            last = fresh.last().map_or(last, |raw| raw.id);
            let (mut full, mut there) = (fresh.len() >= count, self.understand(fresh, None));
            while full && self.has_room() {
                // There is more: the server looks for it while this is brought.
                let mut beside = link.get().await?.clone();
                let ahead = async {
                    let fresh = lease::fresh(&self.place, &mut beside, token, count).await?;
                    let fresh = fresh.unwrap_or_default(); // the next look tells that it is lost
                    let last = fresh.last().map(|raw| raw.id);
                    RedisResult::Ok((last, fresh.len() >= count, self.understand(fresh, None)))
                };
                let (ahead, brought) = tokio::join!(ahead, self.bring(link, there, false));
                brought?;
                let (newest, more, found) = ahead?;
                last = newest.unwrap_or(last);
                (full, there) = (more && !self.holding.has_something_come_back(), found);
                worked();
            }
            self.bring(link, there, false).await?;
        }
    }

    async fn fresh_in_turn(
        &self,
        link: &mut Link,
        turn: &Turn,
        token: &Token,
    ) -> RedisResult<Option<Vec<Raw>>> {
        let count = self.inner.settings.batch;
        let connection = link.get().await?;
        let fresh = lease::fresh(&self.place, connection, token, count).await?;
        if fresh.is_none() {
            turn.lost(token);
        }
        Ok(fresh)
    }
}
