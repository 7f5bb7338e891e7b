//! The members of a group whose partitions are read by one of them at a time: who is there, and who
//! has which.
//!
//! Each says every half second that it is there, and hears who else is. All come to the same share
//! by themselves, give up what is not theirs any more, and take what is as soon as it is free. The
//! leases decide; that all see the same members is only for an even share. Each time that a lease is
//! taken it is by a new token: whoever had it before, and does not know that it has run out, has
//! none any more.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::RedisResult;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys::{self, Stream};
use super::link::Links;
use super::{Group, Inner, lease, partition};
use crate::clock::Instant;

/// How often a member says that it is there.
const BEAT: Duration = Duration::from_millis(500);

/// How often it is looked whether what is ours is free.
const LOOK: Duration = Duration::from_millis(50);

/// How often a lease is renewed.
const RENEW: Duration = Duration::from_secs(1);

/// How long it may take to part.
const PARTING: Duration = Duration::from_secs(1);

/// Those that this process takes part in: the first stream of the category, and the group.
#[derive(Default)]
pub(super) struct Councils(Mutex<HashMap<Group, Weak<Council>>>);

/// What a lease was taken by: no other one ever was.
pub(super) type Token = Arc<str>;

/// A member's seat: what it has to read.
pub(super) struct Council {
    said: Arc<Said>,
    _end: DropGuard,
}

/// What those who read and whoever speaks for them tell each other.
#[derive(Default)]
struct Said {
    state: watch::Sender<State>,
    /// What was ours is not.
    lost: Notify,
}

#[derive(Clone, Default, PartialEq)]
struct State {
    ours: HashMap<usize, Token>,
    company: bool,
}

/// One partition of those.
pub(super) struct Turn {
    council: Arc<Council>,
    partition: usize,
    state: watch::Receiver<State>,
}

/// The seat of this process where the group reads `streams`; a new one where it has none.
pub(super) fn of(inner: &Arc<Inner>, streams: &Arc<[Stream]>, group: &Arc<str>) -> Arc<Council> {
    let mut councils = inner.councils.0.lock();
    councils.retain(|_, council| council.strong_count() > 0);
    let key = (streams[0].key.clone(), group.clone());
    if let Some(council) = councils.get(&key).and_then(Weak::upgrade) {
        return council;
    }
    let stop = inner.ending.child_token();
    let number = inner.seats.fetch_add(1, Ordering::Relaxed);
    let council = Arc::new(Council { said: Arc::default(), _end: stop.clone().drop_guard() });
    let seat = Seat {
        members: keys::members(&streams[0].key, group),
        member: format!("{}.{}.{number}", inner.consumer, inner.address),
        taken: 0,
        leases: streams.iter().map(|stream| keys::lease(&stream.key, group)).collect(),
        held: HashMap::new(),
        links: Links::within(inner, inner.settings.response_timeout.min(lease::LASTS / 2)),
    };
    let sitting = seat.sit(inner.clone(), council.said.clone(), stop);
    inner.tasks.spawn_on(sitting, &inner.runtime);
    councils.insert(key, Arc::downgrade(&council));
    council
}

impl Turn {
    pub fn new(council: Arc<Council>, partition: usize) -> Turn {
        let state = council.said.state.subscribe();
        Turn { council, partition, state }
    }

    /// The token of its lease, if it is ours to read.
    pub fn token(&self) -> Option<Token> {
        self.state.borrow().ours.get(&self.partition).cloned()
    }

    /// Whether it is ours to read.
    pub fn is_ours(&self) -> bool {
        self.state.borrow().ours.contains_key(&self.partition)
    }

    /// Whether others read for the group.
    pub fn has_company(&self) -> bool {
        self.state.borrow().company
    }

    /// Resolves when it is ours: with the token of its lease.
    pub async fn begins(&self) -> Token {
        loop {
            self.comes_to(|token| token.is_some()).await;
            if let Some(token) = self.token() {
                return token;
            }
        }
    }

    /// Resolves when it is not ours any more by this token.
    pub async fn ends(&self, token: &Token) {
        self.comes_to(|ours| ours != Some(token)).await;
    }

    async fn comes_to(&self, what: impl Fn(Option<&Token>) -> bool) {
        let mut state = self.state.clone();
        let found = state.wait_for(|state| what(state.ours.get(&self.partition)));
        if found.await.is_err() {
            std::future::pending::<()>().await; // the council is over, and so is the reading
        }
    }

    /// The server says that it is not ours any more by this token.
    pub fn lost(&self, token: &Token) {
        self.council.said.state.send_if_modified(|state| {
            let lost = state.ours.get(&self.partition) == Some(token);
            if lost {
                state.ours.remove(&self.partition);
            }
            lost
        });
        self.council.said.lost.notify_one();
    }
}

/// What is said and heard in the name of a member.
struct Seat {
    members: String,
    /// What names it among the members: nobody else ever has it.
    member: String,
    /// How many leases were taken.
    taken: u64,
    leases: Vec<String>,
    held: HashMap<usize, Held>,
    links: Links,
}

/// A lease that is ours.
struct Held {
    token: Token,
    /// Until when that is sure.
    until: Instant,
    /// When it is to be renewed.
    renew: Instant,
}

impl Seat {
    async fn sit(mut self, inner: Arc<Inner>, said: Arc<Said>, stop: CancellationToken) {
        let mut patience = inner.patience();
        let (mut attended, mut company) = (None, false);
        loop {
            let now = inner.clock.now();
            let met = tokio::select! {
                met = self.meet(now, &mut attended) => met,
                () = stop.cancelled() => break,
            };
            let wait = match met {
                Ok(waits) => {
                    patience.renew();
                    if waits { LOOK } else { BEAT }
                }
                Err(cause) => {
                    self.links.failed(&cause);
                    // What we do not know to be ours, somebody else may have.
                    let now = inner.clock.now();
                    self.held.retain(|_, held| now < held.until);
                    patience.next_wait()
                }
            };
            if let Some((_, members)) = &attended {
                company = members.len() > 1;
            }
            said.state.send_if_modified(|state| {
                let ours = self.held.iter().map(|(number, held)| (*number, held.token.clone()));
                let next = State { ours: ours.collect(), company };
                let changed = *state != next;
                *state = next;
                changed
            });
            tokio::select! {
                () = inner.clock.sleep(wait) => {}
                () = said.lost.notified() => {
                    let now = inner.clock.now();
                    self.held.values_mut().for_each(|held| held.renew = now);
                }
                () = stop.cancelled() => break,
            }
        }
        // Nobody else has to wait until the server finds out.
        let _ = inner.clock.timeout(PARTING, self.part()).await;
    }

    /// Hears who is there, unless that was a moment ago; gives up what is not ours, and takes what
    /// is. Whether something that is ours is not free yet.
    async fn meet(
        &mut self,
        now: Instant,
        attended: &mut Option<(Instant, Vec<String>)>,
    ) -> RedisResult<bool> {
        let mut failed = None;
        let recent = attended.as_ref().is_some_and(|(at, _)| now.saturating_since(*at) < BEAT);
        if !recent {
            match self.attend().await {
                Ok(members) => *attended = Some((now, members)),
                // In a cluster, others may have the leases: what is held is kept all the same.
                Err(cause) => failed = Some(cause),
            }
        }
        let members = attended.as_ref().map_or(&[][..], |(_, members)| members);
        let ours = partition::share(self.leases.len(), members, &self.member);
        let mut waits = false;
        for number in 0..self.leases.len() {
            match self.see_to(number, ours.contains(&number), now).await {
                Ok(is_settled) => waits |= !is_settled,
                Err(cause) => failed = Some(cause),
            }
        }
        match failed {
            None => Ok(waits),
            Some(cause) => Err(cause),
        }
    }

    async fn attend(&mut self) -> RedisResult<Vec<String>> {
        let connection = self.links.to(&self.members).get().await?;
        lease::attend(connection, &self.members, &self.member).await
    }

    /// Gives one lease up, keeps it or takes it; false where it is to be ours and is not yet.
    async fn see_to(&mut self, number: usize, ours: bool, now: Instant) -> RedisResult<bool> {
        let lease = &self.leases[number];
        if !ours {
            if let Some(held) = self.held.remove(&number) {
                let connection = self.links.to(lease).get().await?;
                lease::give_up(connection, lease, &held.token).await?;
            }
            return Ok(true);
        }
        let (until, renew) = (now.saturating_add(lease::LASTS), now.saturating_add(RENEW));
        if let Some(held) = self.held.get_mut(&number) {
            if now < held.renew {
                return Ok(true);
            }
            let connection = self.links.to(lease).get().await?;
            if lease::renew(connection, lease, &held.token).await? {
                (held.until, held.renew) = (until, renew);
                return Ok(true);
            }
            self.held.remove(&number);
        }
        self.taken += 1;
        let token: Token = format!("{}.{}", self.member, self.taken).into();
        let taken = lease::take(self.links.to(lease).get().await?, lease, &token).await?;
        if taken {
            self.held.insert(number, Held { token, until, renew });
        }
        Ok(taken)
    }

    async fn part(&mut self) -> RedisResult<()> {
        for (number, held) in &self.held {
            let lease = &self.leases[*number];
            lease::give_up(self.links.to(lease).get().await?, lease, &held.token).await?;
        }
        let connection = self.links.to(&self.members).get().await?;
        lease::part(connection, &self.members, &self.member).await
    }
}
