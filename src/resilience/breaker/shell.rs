//! The circuit breaker as others use it: one lock around the machine, the clock, the observers.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::machine::{Machine, Refusal};
use super::settings::{BreakerSettings, Mode};
use super::signal::{Observer, Signal};
use super::state::{Metrics, State};
use crate::clock::{Clock, Instant};
use crate::error::{Error, Kind, Result};

struct Shared {
    machine: Machine,
    last_error: Option<Arc<str>>,
    observers: Arc<[Arc<dyn Observer>]>,
    untold: VecDeque<Signal>,
    telling: bool,
}

struct Inner {
    name: Arc<str>,
    clock: Clock,
    /// Whether it matters how long calls take.
    timed: bool,
    /// Generation and state, published by whoever holds the lock: a call through a closed breaker
    /// begins with this one load.
    word: AtomicU64,
    shared: Mutex<Shared>,
}

/// A shared handle to one circuit breaker; clones are the same breaker.
///
/// A call asks [`acquire`](CircuitBreaker::acquire), runs, and settles its [`Permit`]. No lock is
/// held while the call or an observer runs.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Inner>);

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CircuitBreaker({}, {})", self.0.name, self.state())
    }
}

/// A call that may not pass, and what to tell the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// The state that rejects.
    pub state: State,
    /// When to try again; `None` when time alone does not help.
    pub retry_after: Option<Duration>,
    /// The last failure that counted.
    pub last_error: Option<Arc<str>>,
    /// When the breaker opened, in Unix milliseconds.
    pub opened_at: Option<i64>,
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Error {
        let Rejected { breaker, state, retry_after, last_error, opened_at } = rejected;
        let mut message = format!("circuit breaker `{breaker}` is {state}");
        if let Some(after) = retry_after {
            message.push_str(&format!("; try again in {:.3} s", after.as_secs_f64()));
        }
        if let Some(last) = &last_error {
            message.push_str(&format!("; last error: {last}"));
        }
        let mut error = Error::new(Kind::CircuitOpen, "call through circuit breaker", message)
            .with("name", &*breaker)
            .with("state", state.as_str());
        if let Some(after) = retry_after {
            error = error.with("retry_after", after.as_secs_f64().to_string());
        }
        if let Some(last) = last_error {
            error = error.with("last_error", &*last);
        }
        if let Some(at) = opened_at {
            error = error.with("opened_at", at.to_string());
        }
        error
    }
}

impl CircuitBreaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when the settings contradict each other.
    pub fn new(name: impl Into<Arc<str>>, settings: BreakerSettings, clock: Clock) -> Result<Self> {
        settings.validate()?;
        let timed = matches!(settings.mode, Mode::Rate { .. });
        let machine = Machine::new(settings);
        let word = AtomicU64::new(pack(machine.generation(), machine.state()));
        let shared = Mutex::new(Shared {
            machine,
            last_error: None,
            observers: Arc::new([]),
            untold: VecDeque::new(),
            telling: false,
        });
        Ok(CircuitBreaker(Arc::new(Inner { name: name.into(), clock, timed, word, shared })))
    }

    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Adds an observer; it hears what happens from now on.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let mut shared = self.0.shared.lock();
        shared.observers = shared.observers.iter().cloned().chain([observer]).collect();
    }

    /// Asks for a call to pass.
    ///
    /// # Errors
    /// [`Rejected`], which becomes a [`Kind::CircuitOpen`] error with name, state, `retry_after`
    /// (seconds), `last_error` and `opened_at` (Unix milliseconds) as context.
    pub fn acquire(&self) -> Result<Permit, Rejected> {
        let ticket = Ticket { started: Some(self.0.clock.now()), ..self.begin()? };
        Ok(Permit { breaker: self.clone(), ticket, settled: false })
    }

    /// [`CircuitBreaker::acquire`] for callers that see to it themselves that each call is
    /// settled: by [`pass`](CircuitBreaker::pass), [`fail`](CircuitBreaker::fail) or
    /// [`give_back`](CircuitBreaker::give_back).
    ///
    /// # Errors
    /// As [`CircuitBreaker::acquire`].
    pub fn begin(&self) -> Result<Ticket, Rejected> {
        let (generation, state) = unpack(self.0.word.load(Ordering::Acquire));
        if state.is_free() {
            let started = self.0.timed.then(|| self.0.clock.now());
            return Ok(Ticket { generation, started });
        }
        let now = self.0.clock.now();
        let asked = self.with(|shared| match shared.machine.acquire(now) {
            Ok(generation) => Ok(generation),
            Err(refusal) => Err((refusal, shared.last_error.clone())),
        });
        match asked {
            Ok(generation) => Ok(Ticket { generation, started: self.0.timed.then_some(now) }),
            Err((refusal, last)) => Err(self.rejected(refusal, last, now)),
        }
    }

    /// The call of `ticket` succeeded just now.
    pub fn pass(&self, ticket: Ticket) {
        // By far the most frequent end of a call: it changes no state and tells nobody anything.
        if !self.0.timed && self.0.shared.lock().machine.counts_a_success(ticket.generation) {
            return;
        }
        self.ended(ticket, None);
    }

    /// The call of `ticket` failed just now with `error`, which later rejections will quote.
    pub fn fail(&self, ticket: Ticket, error: impl Into<Arc<str>>) {
        self.ended(ticket, Some(error.into()));
    }

    /// The call of `ticket` says nothing about the dependency: its error is an ignored one, or
    /// it was `abandoned`, by a caller's cancellation for one.
    pub fn give_back(&self, ticket: Ticket, abandoned: bool) {
        let now = self.0.clock.now();
        self.with(|shared| shared.machine.release(now, ticket.generation, abandoned));
    }

    fn ended(&self, ticket: Ticket, failure: Option<Arc<str>>) {
        let now = self.0.clock.now();
        let started = ticket.started.unwrap_or(now);
        self.settle(now, ticket.generation, now.saturating_since(started), failure);
    }

    fn rejected(&self, refusal: Refusal, last_error: Option<Arc<str>>, now: Instant) -> Rejected {
        let Refusal { state, retry_after, opened_at } = refusal;
        let opened_at = opened_at.map(|at| {
            let ago = now.saturating_since(at).as_millis();
            self.0.clock.unix_ms() - i64::try_from(ago).unwrap_or(i64::MAX)
        });
        Rejected { breaker: self.0.name.clone(), state, retry_after, last_error, opened_at }
    }

    /// The present state.
    pub fn state(&self) -> State {
        let now = self.0.clock.now();
        self.with(|shared| {
            shared.machine.tick(now);
            shared.machine.state()
        })
    }

    /// How long until a call may pass: zero now, `None` when time alone does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        let now = self.0.clock.now();
        self.with(|shared| shared.machine.retry_after(now))
    }

    /// The figures of this moment.
    pub fn metrics(&self) -> Metrics {
        let now = self.0.clock.now();
        self.with(|shared| shared.machine.metrics(now))
    }

    /// Puts the breaker into `to`. Its own state is allowed and silent.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`] for what makes no sense from the present state (half-open from closed;
    /// open or half-open from metrics-only); nothing has changed then.
    pub fn force(&self, to: State) -> Result<()> {
        self.force_state(to, None)
    }

    /// Opens the breaker for `wait` instead of the configured period; extends or shortens the
    /// period of one that is open.
    ///
    /// # Errors
    /// As [`CircuitBreaker::force`].
    pub fn force_open_for(&self, wait: Duration) -> Result<()> {
        self.force_state(State::Open, Some(wait))
    }

    fn force_state(&self, to: State, wait: Option<Duration>) -> Result<()> {
        let now = self.0.clock.now();
        let refused = self.with(|shared| {
            let done = shared.machine.force(now, to, wait);
            (!done).then(|| shared.machine.state())
        });
        let Some(from) = refused else { return Ok(()) };
        let message =
            format!("circuit breaker `{}` is {from} and cannot be put into {to}", self.0.name);
        Err(Error::new(Kind::Lifecycle, "force circuit breaker", message)
            .with("name", self.name())
            .with("from", from.as_str())
            .with("to", to.as_str()))
    }

    /// Closes the breaker and forgets what it counted.
    pub fn reset(&self) {
        let now = self.0.clock.now();
        self.with(|shared| {
            shared.machine.reset(now);
            shared.last_error = None;
        });
    }

    fn settle(&self, now: Instant, generation: u64, duration: Duration, failure: Option<Arc<str>>) {
        self.with(|shared| {
            let counted = shared.machine.record(now, generation, failure.is_some(), duration);
            if counted && failure.is_some() {
                shared.last_error = failure;
            }
        });
    }

    /// Does `work` under the lock, then tells the observers without it.
    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        let (result, tells) = {
            let mut shared = self.0.shared.lock();
            let result = work(&mut shared);
            let word = pack(shared.machine.generation(), shared.machine.state());
            self.0.word.store(word, Ordering::Release);
            let signals = shared.machine.take_signals();
            shared.untold.extend(signals);
            // One thread tells at a time, so that observers hear signals in their order; whoever
            // comes meanwhile (an observer too) leaves its signals to that thread.
            let tells = !shared.untold.is_empty() && !shared.telling;
            shared.telling |= tells;
            (result, tells)
        };
        if tells {
            self.tell();
        }
        result
    }

    fn tell(&self) {
        loop {
            let (signal, observers) = {
                let mut shared = self.0.shared.lock();
                let Some(signal) = shared.untold.pop_front() else {
                    shared.telling = false;
                    return;
                };
                (signal, shared.observers.clone())
            };
            for observer in observers.iter() {
                let told = AssertUnwindSafe(|| observer.on_signal(&self.0.name, &signal));
                if catch_unwind(told).is_err() {
                    tracing::error!(
                        target: "tiebeam::resilience",
                        breaker = &*self.0.name,
                        "an observer of a circuit breaker panicked"
                    );
                }
            }
        }
    }
}

/// The right to make one call, as plain data that somebody has to settle; see
/// [`CircuitBreaker::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a call that is never settled keeps its place as a probe"]
pub struct Ticket {
    /// The number of the state in which the call began.
    pub generation: u64,
    /// When it began, where the breaker looks at how long calls take.
    pub started: Option<Instant>,
}

/// The right to make one call. Dropped without an outcome (a cancelled task, a panic) it is
/// abandoned: neutral, and its place goes to another call.
#[must_use = "a permit dropped at once is an abandoned call"]
pub struct Permit {
    breaker: CircuitBreaker,
    ticket: Ticket,
    settled: bool,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Permit { breaker, ticket, .. } = self;
        write!(f, "Permit({}, generation {})", breaker.0.name, ticket.generation)
    }
}

impl Permit {
    /// Time since the call was let pass, for [`success`](Permit::success) and
    /// [`failure`](Permit::failure).
    pub fn elapsed(&self) -> Duration {
        let now = self.breaker.0.clock.now();
        now.saturating_since(self.ticket.started.unwrap_or(now))
    }

    /// The call succeeded after `duration`.
    pub fn success(self, duration: Duration) {
        self.settle(duration, None);
    }

    /// The call failed after `duration` with `error`, which later rejections will quote.
    pub fn failure(self, duration: Duration, error: impl Into<Arc<str>>) {
        self.settle(duration, Some(error.into()));
    }

    fn settle(mut self, duration: Duration, failure: Option<Arc<str>>) {
        self.settled = true;
        let now = self.breaker.0.clock.now();
        self.breaker.settle(now, self.ticket.generation, duration, failure);
    }

    /// The outcome says nothing about the dependency (an ignored error, a caller's cancellation).
    pub fn ignore(mut self) {
        self.settled = true;
        self.breaker.give_back(self.ticket, false);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.give_back(self.ticket, true);
        }
    }
}

fn pack(generation: u64, state: State) -> u64 {
    generation << 3 | state as u64
}

fn unpack(word: u64) -> (u64, State) {
    (word >> 3, State::ALL[(word & 7) as usize])
}

#[cfg(test)]
mod tests;
