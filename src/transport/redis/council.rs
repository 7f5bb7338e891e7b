//! The members of a group whose partitions are read by one of them at a time: who is there, and who
//! has which.
//!
//! Each says every half second that it is there, and hears who else is. All come to the same share
//! by themselves, give up what is not theirs any more, and take what is as soon as it is free. The
//! leases decide; that all see the same members is only for an even share. Each time that a lease is
//! taken it is by a new token: whoever had it before, and does not know that it has run out, has
//! none any more.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::RedisResult;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys::{self, Stream};
use super::link::Link;
use super::{Group, Inner, lease, partition};
use crate::clock::{Clock, Instant};

/// How often a member says that it is there.
const BEAT: Duration = Duration::from_millis(500);

/// How often it is looked whether what is ours is free.
const LOOK: Duration = Duration::from_millis(50);

/// How often a lease is renewed.
const RENEW: Duration = Duration::from_secs(1);

/// How long a server may take to answer: a lease that is not renewed in time is lost.
const ANSWER: Duration = Duration::from_millis(lease::LASTS.as_millis() as u64 / 2);

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
    let council = Arc::new(Council { said: Arc::default(), _end: stop.clone().drop_guard() });
    let seat = Seat::new(inner, streams, group);
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
    /// To where the members are known; where there is one server, to the leases, too.
    link: Link,
    chairs: Vec<Chair>,
    /// To where each lease is, in a cluster: one that does not answer holds no other one up.
    links: Vec<Link>,
}

/// One of the partitions, for us to read or not.
struct Chair {
    number: usize,
    lease: String,
    /// How often we took it.
    taken: u64,
    held: Option<Held>,
    /// The token of a lease of which we do not know whether it is ours.
    unsure: Option<Token>,
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
    fn new(inner: &Arc<Inner>, streams: &[Stream], group: &str) -> Seat {
        let limit = inner.settings.response_timeout.min(ANSWER);
        let members = keys::members(&streams[0].key, group);
        let chair = |(number, stream): (usize, &Stream)| Chair {
            number,
            lease: keys::lease(&stream.key, group),
            taken: 0,
            held: None,
            unsure: None,
        };
        let chairs: Vec<Chair> = streams.iter().enumerate().map(chair).collect();
        let link = |key: &str| match inner.site.is_cluster() {
            true => Link::shared(inner, key),
            false => Link::new(inner, key, limit),
        };
        let links = match inner.site.is_cluster() {
            true => chairs.iter().map(|chair| link(&chair.lease)).collect(),
            false => Vec::new(),
        };
        let number = inner.seats.fetch_add(1, Ordering::Relaxed);
        Seat {
            link: link(&members),
            members,
            member: format!("{}.{}.{number}", inner.consumer, inner.address),
            chairs,
            links,
        }
    }

    async fn sit(mut self, inner: Arc<Inner>, said: Arc<Said>, stop: CancellationToken) {
        let mut patience = inner.patience();
        let (mut attended, mut company) = (None, false);
        loop {
            let met = tokio::select! {
                met = self.meet(&inner, &mut attended) => met,
                () = stop.cancelled() => break,
            };
            let wait = match met {
                Ok(waits) => {
                    patience.renew();
                    if waits { LOOK } else { BEAT }
                }
                // Others have to be renewed meanwhile.
                Err(()) => patience.next_wait().min(RENEW),
            };
            let now = inner.clock.now();
            self.chairs.iter_mut().for_each(|chair| chair.doubt(now));
            if let Some((_, members)) = &attended {
                company = members.len() > 1;
            }
            said.state.send_if_modified(|state| {
                let ours = self
                    .chairs
                    .iter()
                    .filter_map(|chair| Some((chair.number, chair.held.as_ref()?.token.clone())));
                let next = State { ours: ours.collect(), company };
                let changed = *state != next;
                *state = next;
                changed
            });
            tokio::select! {
                () = inner.clock.sleep(wait) => {}
                () = said.lost.notified() => {
                    let now = inner.clock.now();
                    let held = self.chairs.iter_mut().filter_map(|chair| chair.held.as_mut());
                    held.for_each(|held| held.renew = now);
                }
                () = stop.cancelled() => break,
            }
        }
        // Nobody else has to wait until the server finds out.
        let _ = inner.clock.timeout(PARTING, self.part()).await;
    }

    /// Hears who is there, unless that was a moment ago; gives up what is not ours, and takes what
    /// is. Whether something that is ours is not free yet.
    ///
    /// # Errors
    /// Where somebody did not answer: what he has is as it was.
    async fn meet(
        &mut self,
        inner: &Inner,
        attended: &mut Option<(Instant, Vec<String>)>,
    ) -> Result<bool, ()> {
        let (clock, now, mut failed) = (&inner.clock, inner.clock.now(), false);
        let recent = attended.as_ref().is_some_and(|(at, _)| now.saturating_since(*at) < BEAT);
        if !recent {
            match in_time(clock, self.attend()).await {
                Ok(members) => *attended = Some((now, members)),
                // In a cluster, others may have the leases: what is held is kept all the same.
                Err(cause) => {
                    self.link.failed(&cause);
                    failed = true;
                }
            }
        }
        let members = attended.as_ref().map_or(&[][..], |(_, members)| members);
        let ours = partition::share(self.chairs.len(), members, &self.member);
        let Seat { member, link, chairs, links, .. } = self;
        let see = async |chair: &mut Chair, link: &mut Link| {
            let ours = ours.contains(&chair.number);
            let seen = in_time(clock, chair.see_to(link, (&**member, ours), clock)).await;
            seen.inspect_err(|cause| link.failed(cause))
        };
        let mut all = Vec::with_capacity(chairs.len());
        if links.is_empty() {
            for chair in chairs {
                let seen = see(chair, link).await;
                let lost = seen.is_err();
                all.push(seen);
                if lost {
                    break; // it is the same server for all of them
                }
            }
        } else {
            let each = chairs.iter_mut().zip(links).map(|(chair, link)| see(chair, link));
            all = join_all(each).await;
        }
        failed |= all.iter().any(RedisResult::is_err);
        let waits = all.into_iter().flatten().any(|is_settled| !is_settled);
        if failed { Err(()) } else { Ok(waits) }
    }

    async fn attend(&mut self) -> RedisResult<Vec<String>> {
        lease::attend(self.link.get().await?, &self.members, &self.member).await
    }

    async fn part(&mut self) -> RedisResult<()> {
        let Seat { link, chairs, links, .. } = self;
        for (number, chair) in chairs.iter().enumerate() {
            if let Some(held) = &chair.held {
                let link = links.get_mut(number).unwrap_or(&mut *link);
                lease::give_up(link.get().await?, &chair.lease, &held.token).await?;
            }
        }
        lease::part(link.get().await?, &self.members, &self.member).await
    }
}

impl Chair {
    /// Gives the lease up, keeps it or takes it; false where it is to be ours and is not yet.
    async fn see_to(
        &mut self,
        link: &mut Link,
        (member, ours): (&str, bool),
        clock: &Clock,
    ) -> RedisResult<bool> {
        if !ours {
            if let Some(held) = self.held.take() {
                lease::give_up(link.get().await?, &self.lease, &held.token).await?;
            }
            return Ok(true);
        }
        if self.held.as_ref().is_some_and(|held| clock.now() < held.renew) {
            return Ok(true);
        }
        let connection = link.get().await?;
        // It counts from before the server does.
        let now = clock.now();
        let held = |token| {
            let (until, renew) = (now.saturating_add(lease::LASTS), now.saturating_add(RENEW));
            Some(Held { token, until, renew })
        };
        let known = self.held.as_ref().map(|held| &held.token).or(self.unsure.as_ref()).cloned();
        if let Some(token) = known {
            let renewed = lease::renew(connection, &self.lease, &token).await?;
            (self.held, self.unsure) = (held(token).filter(|_| renewed), None);
            if renewed {
                return Ok(true);
            }
        }
        self.taken += 1;
        let token: Token = format!("{member}.{}.{}", self.number, self.taken).into();
        self.unsure = Some(token.clone());
        let taken = lease::take(connection, &self.lease, &token).await?;
        (self.held, self.unsure) = (held(token).filter(|_| taken), None);
        Ok(taken)
    }

    /// What we do not know to be ours at `now`, somebody else may have.
    fn doubt(&mut self, now: Instant) {
        if let Some(held) = self.held.take_if(|held| now >= held.until) {
            self.unsure = Some(held.token);
        }
    }
}

/// What is asked of a server, if it answers in time.
async fn in_time<T>(clock: &Clock, asked: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    clock.timeout(ANSWER, asked).await.unwrap_or_else(|elapsed| {
        let said = format!("no answer within {:?}", elapsed.limit);
        Err(io::Error::new(io::ErrorKind::TimedOut, said).into())
    })
}
