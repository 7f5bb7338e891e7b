//! The only clock: every `now` and every wait of the core comes from here.
//!
//! A [`Clock`] is real or virtual. Both keep one ordered table of timers, so that the order in
//! which things fire is the same in both; they differ only in who moves time on: a thread that
//! parks until the next timer, or a test that calls [`Clock::advance`].
//!
//! Timer callbacks run on the clock's thread (real) or on the caller of `advance` (virtual).
//! They must be short and must never take Python's GIL: they put something into a queue and
//! wake whoever reads it.
//!
//! A third kind follows one of these two, and has no timers of its own: what lives as long as the
//! process, and is used in tests as well, goes by such a clock.

mod following;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use self::following::Following;

/// A point on a clock's monotonic line, in nanoseconds since the clock was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment the clock was made.
    pub const ZERO: Instant = Instant(0);

    /// The point `nanos` nanoseconds after the clock was made.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the clock was made.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the clock was made.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// This point plus `duration`, at most the end of time.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Instant(self.0.saturating_add(nanos(duration)))
    }

    /// Time from `earlier` to this point, zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

type Callback = Box<dyn FnOnce() + Send>;
type Key = (Instant, u64);

enum Source {
    Real { origin: std::time::Instant },
    Virtual { now: AtomicU64, epoch_ms: i64, movers: Movers },
    Following(Following),
}

/// Who made a virtual clock, and who moved it last.
struct Movers {
    maker: ThreadId,
    last: Mutex<ThreadId>,
}

struct Timers {
    due: BTreeMap<Key, Callback>,
    sequence: u64,
    stopped: bool,
    driver: Option<JoinHandle<()>>,
}

struct Inner {
    source: Source,
    timers: Mutex<Timers>,
    changed: Condvar,
}

/// A shared handle to one clock; clones tell the same time.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.source {
            Source::Real { .. } => "real",
            Source::Virtual { .. } => "virtual",
            Source::Following(_) => "following",
        };
        write!(f, "Clock({kind}, {:.3} s, {} timers)", self.now().as_secs_f64(), self.pending())
    }
}

impl Clock {
    /// The machine's time. Its timer thread starts with the first timer.
    pub fn real() -> Self {
        Clock::from_source(Source::Real { origin: std::time::Instant::now() })
    }

    /// Time that stands still until [`Clock::advance`]; it starts at `epoch_ms` (Unix
    /// milliseconds).
    pub fn simulated(epoch_ms: i64) -> Self {
        let maker = std::thread::current().id();
        let movers = Movers { maker, last: Mutex::new(maker) };
        Clock::from_source(Source::Virtual { now: AtomicU64::new(0), epoch_ms, movers })
    }

    /// A clock that goes as `first` does, until it is told to [follow](Clock::follow) another.
    pub fn following(first: Clock) -> Self {
        Clock::from_source(Source::Following(Following::new(first)))
    }

    /// Has this clock, made by [`Clock::following`], go as `leader` does from now on, or as the
    /// first one again. Returns whom it followed; `None` for a clock that follows nobody. Timers
    /// that wait stay with the clock that was followed when they were set.
    pub fn follow(&self, leader: Option<Clock>) -> Option<Clock> {
        let Source::Following(following) = &self.0.source else { return None };
        // Of itself it cannot be told what time it is.
        Some(following.follow(leader.filter(|leader| !leader.is(self))))
    }

    /// The clock that has the timers: this one, or the one that it follows.
    pub fn leader(&self) -> Clock {
        match &self.0.source {
            Source::Following(following) => following.leader(),
            _ => self.clone(),
        }
    }

    /// Whether both are handles to one clock.
    pub fn is(&self, other: &Clock) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn from_source(source: Source) -> Self {
        Clock(Arc::new(Inner {
            source,
            timers: Mutex::new(Timers {
                due: BTreeMap::new(),
                sequence: 0,
                stopped: false,
                driver: None,
            }),
            changed: Condvar::new(),
        }))
    }

    /// Whether a test moves this clock.
    pub fn is_virtual(&self) -> bool {
        match &self.0.source {
            Source::Real { .. } => false,
            Source::Virtual { .. } => true,
            Source::Following(following) => following.leader().is_virtual(),
        }
    }

    /// The present point on the monotonic line.
    pub fn now(&self) -> Instant {
        match &self.0.source {
            Source::Real { origin } => Instant(nanos(origin.elapsed())),
            Source::Virtual { now, .. } => Instant(now.load(Ordering::Acquire)),
            Source::Following(following) => following.now(),
        }
    }

    /// The present time of day, in Unix milliseconds.
    pub fn unix_ms(&self) -> i64 {
        match &self.0.source {
            Source::Real { .. } => match std::time::SystemTime::UNIX_EPOCH.elapsed() {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
            },
            Source::Virtual { now, epoch_ms, .. } => {
                epoch_ms + (now.load(Ordering::Acquire) / 1_000_000) as i64
            }
            Source::Following(following) => following.leader().unix_ms(),
        }
    }

    /// Runs `callback` at `at` (at once if that is past), unless the timer is dropped before.
    pub fn schedule_at(&self, at: Instant, callback: impl FnOnce() + Send + 'static) -> Timer {
        if let Source::Following(following) = &self.0.source {
            let (leader, at) = following.translate(at);
            return leader.schedule_at(at, callback);
        }
        let mut timers = self.0.timers.lock();
        timers.sequence += 1;
        let key = (at, timers.sequence);
        if timers.stopped {
            return Timer { clock: self.clone(), key, armed: false };
        }
        let first = timers.due.first_key_value().is_none_or(|(next, _)| key < *next);
        timers.due.insert(key, Box::new(callback));
        if !self.is_virtual() {
            if timers.driver.is_none() {
                let clock = self.clone();
                timers.driver = std::thread::Builder::new()
                    .name("tiebeam-clock".into())
                    .spawn(move || clock.drive())
                    .ok();
            } else if first {
                self.0.changed.notify_one();
            }
        }
        Timer { clock: self.clone(), key, armed: true }
    }

    /// Runs `callback` after `delay`, unless the timer is dropped before.
    pub fn schedule(&self, delay: Duration, callback: impl FnOnce() + Send + 'static) -> Timer {
        self.schedule_at(self.now().saturating_add(delay), callback)
    }

    /// Waits for `delay`.
    pub fn sleep(&self, delay: Duration) -> Sleep {
        self.sleep_until(self.now().saturating_add(delay))
    }

    /// Waits until `at`.
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep { clock: self.clone(), at, shared: Arc::default(), timer: None }
    }

    /// `future`'s output, or [`Elapsed`] after `limit`; the future is then dropped.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let sleep = self.sleep(limit);
        futures_util::pin_mut!(future);
        futures_util::pin_mut!(sleep);
        match futures_util::future::select(future, sleep).await {
            futures_util::future::Either::Left((output, _)) => Ok(output),
            futures_util::future::Either::Right(((), _)) => Err(Elapsed { limit }),
        }
    }

    /// How many timers wait.
    pub fn pending(&self) -> usize {
        if let Source::Following(following) = &self.0.source {
            return following.leader().pending();
        }
        self.0.timers.lock().due.len()
    }

    /// When the next timer fires.
    pub fn next_due(&self) -> Option<Instant> {
        if let Source::Following(following) = &self.0.source {
            return following.leader().next_due().map(|at| following.translate_back(at));
        }
        self.0.timers.lock().due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Virtual time only: moves to the next timer at or before `limit` and fires it.
    ///
    /// Returns false, with time moved to `limit`, when there is none.
    pub fn step(&self, limit: Instant) -> bool {
        if let Source::Following(following) = &self.0.source {
            let (leader, limit) = following.translate(limit);
            return leader.step(limit);
        }
        let Source::Virtual { now, movers, .. } = &self.0.source else { return false };
        *movers.last.lock() = std::thread::current().id();
        let next = {
            let mut timers = self.0.timers.lock();
            match timers.due.first_key_value() {
                Some((&key, _)) if key.0 <= limit => timers.due.remove_entry(&key),
                _ => None,
            }
        };
        match next {
            Some(((at, _), callback)) => {
                now.fetch_max(at.0, Ordering::AcqRel);
                fire(callback);
                true
            }
            None => {
                now.fetch_max(limit.0, Ordering::AcqRel);
                false
            }
        }
    }

    /// Virtual time only: whether `thread` made the clock, or moved it last.
    pub fn is_moved_by(&self, thread: ThreadId) -> bool {
        match &self.0.source {
            Source::Real { .. } => false,
            Source::Virtual { movers, .. } => {
                movers.maker == thread || *movers.last.lock() == thread
            }
            Source::Following(following) => following.leader().is_moved_by(thread),
        }
    }

    /// Virtual time only: moves on by `duration`, firing what falls due, in order.
    pub fn advance(&self, duration: Duration) {
        let limit = self.now().saturating_add(duration);
        while self.step(limit) {}
    }

    /// Drops every timer and ends the timer thread; later timers never fire.
    pub fn shutdown(&self) {
        let (driver, dropped) = {
            let mut timers = self.0.timers.lock();
            timers.stopped = true;
            (timers.driver.take(), std::mem::take(&mut timers.due))
        };
        self.0.changed.notify_all();
        drop(dropped);
        if let Some(driver) = driver
            && driver.thread().id() != std::thread::current().id()
        {
            // A panicking callback is caught where it runs; there is nothing to learn here.
            let _ = driver.join();
        }
    }

    fn drive(&self) {
        let mut timers = self.0.timers.lock();
        while !timers.stopped {
            let now = self.now();
            match timers.due.first_key_value().map(|(&key, _)| key) {
                None => self.0.changed.wait(&mut timers),
                Some(key) if key.0 <= now => {
                    let callback = timers.due.remove(&key);
                    parking_lot::MutexGuard::unlocked(&mut timers, || {
                        callback.into_iter().for_each(fire);
                    });
                }
                Some(key) => {
                    self.0.changed.wait_for(&mut timers, key.0.saturating_since(now));
                }
            }
        }
    }
}

/// A panic in one callback must not stop the clock for everybody else.
fn fire(callback: Callback) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!(target: "tiebeam::clock", "a timer callback panicked");
    }
}

/// A waiting timer; dropping it cancels it.
#[must_use = "dropping a timer cancels it; call `detach` to let it run"]
pub struct Timer {
    clock: Clock,
    key: Key,
    armed: bool,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timer(at {:.3} s)", self.key.0.as_secs_f64())
    }
}

impl Timer {
    /// Lets the timer run although nobody holds it.
    pub fn detach(mut self) {
        self.armed = false;
    }

    /// When it fires, on the line of the clock that has it.
    pub fn at(&self) -> Instant {
        self.key.0
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.armed {
            let callback = self.clock.0.timers.lock().due.remove(&self.key);
            drop(callback); // after the lock: a callback may own anything
        }
    }
}

#[derive(Default)]
struct SleepState {
    fired: bool,
    waker: Option<Waker>,
}

/// The future of [`Clock::sleep`].
#[derive(Debug)]
pub struct Sleep {
    clock: Clock,
    at: Instant,
    shared: Arc<Mutex<SleepState>>,
    timer: Option<Timer>,
}

impl fmt::Debug for SleepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SleepState(fired: {})", self.fired)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut state = this.shared.lock();
        if state.fired || this.clock.now() >= this.at {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        drop(state);
        if this.timer.is_none() {
            let shared = this.shared.clone();
            this.timer = Some(this.clock.schedule_at(this.at, move || {
                let waker = {
                    let mut state = shared.lock();
                    state.fired = true;
                    state.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }));
        }
        Poll::Pending
    }
}

/// A time limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// The limit that passed.
    pub limit: Duration,
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no result within {:?}", self.limit)
    }
}

impl std::error::Error for Elapsed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_timers_fire_in_order_and_at_their_time() {
        let clock = Clock::simulated(1_000);
        let log = Arc::new(Mutex::new(Vec::new()));
        for (name, delay) in [("b", 20), ("a", 10), ("b2", 20)] {
            let (log, at) = (log.clone(), clock.clone());
            clock
                .schedule(Duration::from_millis(delay), move || {
                    log.lock().push((name, at.unix_ms()));
                })
                .detach();
        }
        clock.advance(Duration::from_millis(15));
        assert_eq!(*log.lock(), [("a", 1_010)]);
        clock.advance(Duration::from_millis(15));
        assert_eq!(*log.lock(), [("a", 1_010), ("b", 1_020), ("b2", 1_020)]);
        assert_eq!(clock.unix_ms(), 1_030);
    }

    #[test]
    fn a_timer_set_by_a_timer_fires_within_the_same_advance() {
        let clock = Clock::simulated(0);
        let seen = Arc::new(Mutex::new(None));
        let (inner, result) = (clock.clone(), seen.clone());
        clock
            .schedule(Duration::from_secs(1), move || {
                let at = inner.clone();
                inner
                    .schedule(Duration::from_secs(1), move || *result.lock() = Some(at.now()))
                    .detach();
            })
            .detach();
        clock.advance(Duration::from_secs(5));
        assert_eq!(*seen.lock(), Some(Instant::from_nanos(2_000_000_000)));
    }

    #[test]
    fn a_dropped_timer_never_fires() {
        let clock = Clock::simulated(0);
        drop(clock.schedule(Duration::from_secs(1), || panic!("cancelled timers do not fire")));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.pending(), 0);
    }

    #[tokio::test]
    async fn real_sleep_and_timeout_come_back() {
        let clock = Clock::real();
        let before = clock.now();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.now().saturating_since(before) >= Duration::from_millis(5));
        let never = std::future::pending::<()>();
        assert!(clock.timeout(Duration::from_millis(5), never).await.is_err());
        assert_eq!(clock.timeout(Duration::from_secs(5), async { 7 }).await, Ok(7));
        clock.shutdown();
        assert_eq!(clock.pending(), 0);
    }

    #[test]
    fn a_panicking_callback_leaves_the_clock_running() {
        let clock = Clock::simulated(0);
        clock.schedule(Duration::from_secs(1), || panic!("boom")).detach();
        let fired = Arc::new(Mutex::new(false));
        let flag = fired.clone();
        clock.schedule(Duration::from_secs(2), move || *flag.lock() = true).detach();
        clock.advance(Duration::from_secs(3));
        assert!(*fired.lock());
    }
}
