//! What the system says of a thread: whether it works, and what it waits for.
//!
//! Read from Linux' `/proc`, without the GIL; other systems say nothing, and the kind of a stall
//! is then told by its stack alone.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Instant};

/// Of the time between two looks, in hundredths, how much one works that is not blocked. What
/// others leave it may be little, and what a poll now and then takes is less.
const WORKS: u64 = 10;

/// A thread that waits for the GIL wakes now and then to ask for it: as often as the switch interval
/// of the interpreter says, 200 times a second unless it is set. Who has woken that often, or at
/// least one of so many times, may have done nothing else.
const ASKS: u128 = 5;

/// So often one that asks must have been seen to wake, to tell how often it does.
const LEAST: u64 = 4;

/// The system call that locks wait in.
const FUTEX: Option<i64> = if cfg!(target_arch = "x86_64") {
    Some(202)
} else if cfg!(any(target_arch = "aarch64", target_arch = "riscv64")) {
    Some(98)
} else if cfg!(any(target_arch = "arm", target_arch = "x86")) {
    Some(240)
} else {
    None
};

/// What something that does not come back is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StallKind {
    /// Its thread is blocked in a system call: it sleeps, or waits for input or a process.
    Sleeps,
    /// Its thread uses the processor.
    Spins,
    /// Its thread waits for a lock.
    WaitsForLock,
    /// It holds the interpreter's lock, in code that is not Python's.
    HoldsGil,
    /// It is suspended.
    Awaits,
}

impl StallKind {
    /// For a sentence: `it ...`.
    pub fn says(self) -> &'static str {
        match self {
            StallKind::Sleeps => "sleeps, or waits in a system call",
            StallKind::Spins => "spins: it uses the processor all the time",
            StallKind::WaitsForLock => "waits for a lock",
            StallKind::HoldsGil => "holds the GIL in code that is not Python's",
            StallKind::Awaits => "awaits something that does not come",
        }
    }
}

/// How often one wakes that asks for the GIL, and does nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    waits: u64,
    time: Duration,
}

impl Pace {
    /// Of one that has asked between two looks; none if that was not often enough to say.
    pub fn between(before: &ThreadSample, now: &ThreadSample) -> Option<Pace> {
        let waits = now.waits.saturating_sub(before.waits);
        (waits >= LEAST).then(|| Pace { waits, time: now.since(before) })
    }

    /// How long one that asks is to be watched to be known by that.
    pub fn window(&self) -> Duration {
        let each = self.time.as_nanos() / u128::from(self.waits.max(1));
        let nanos = each.saturating_mul(u128::from(LEAST));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The threads of this process, as the system knows them; none where it does not say.
pub fn threads() -> Vec<u32> {
    let Ok(listed) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    listed.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A thread at one moment.
#[derive(Clone, Copy, Debug)]
pub struct ThreadSample {
    at: Instant,
    /// How long it has worked, or could have: the time that others took the processor counts.
    busy: Duration,
    /// How long it was on a processor.
    ran: Duration,
    /// How often it has waited for something.
    waits: u64,
    /// The system call that it is in.
    call: Option<i64>,
    /// Whether it works at this moment.
    runs: bool,
}

impl ThreadSample {
    /// The thread that the system knows by `native`, now.
    pub fn of(native: Option<u32>, clock: &Clock) -> Option<ThreadSample> {
        let native = native?;
        let read = |file: &dyn Display| {
            std::fs::read_to_string(format!("/proc/self/task/{native}/{file}")).ok()
        };
        let stat = read(&"stat")?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let runs = fields.next()? == "R";
        let (ran, busy) = read(&"schedstat")
            .and_then(|text| scheduled(&text))
            .or_else(|| ticks(fields).map(|ran| (ran, ran)))?;
        let waits = read(&"status").as_deref().and_then(voluntary).unwrap_or(0);
        let call = read(&"syscall").and_then(|text| text.split(' ').next()?.trim().parse().ok());
        Some(ThreadSample {
            at: clock.now(),
            busy,
            ran,
            waits,
            call: call.filter(|call| *call >= 0),
            runs,
        })
    }

    /// What the thread is at, by this alone.
    pub fn kind(&self) -> StallKind {
        match self.call {
            _ if self.runs => StallKind::Spins,
            Some(_) if self.call == FUTEX => StallKind::WaitsForLock,
            _ => StallKind::Sleeps,
        }
    }

    /// Whether it has worked since it was as it was at `before`.
    pub fn has_worked(&self, before: &ThreadSample) -> bool {
        self.is_much(self.busy.saturating_sub(before.busy), before)
    }

    /// Whether it was on a processor so much since. One that only wakes to ask for the GIL is not,
    /// however long it has to wait for a processor each time.
    pub fn has_run(&self, before: &ThreadSample) -> bool {
        self.is_much(self.ran.saturating_sub(before.ran), before)
    }

    fn is_much(&self, busy: Duration, before: &ThreadSample) -> bool {
        busy.as_nanos() * 100 >= self.since(before).as_nanos() * u128::from(WORKS)
    }

    /// Whether it has only waited for the GIL, as one that wakes at `pace`.
    pub fn has_asked(&self, before: &ThreadSample, pace: Pace) -> bool {
        let waits = u128::from(self.waits.saturating_sub(before.waits));
        let time = self.since(before).as_nanos();
        waits * pace.time.as_nanos() * ASKS >= u128::from(pace.waits) * time
    }

    /// What it is at; `locked` is what the stack says where the system says nothing.
    pub fn told(
        before: Option<&ThreadSample>,
        now: Option<&ThreadSample>,
        locked: bool,
    ) -> StallKind {
        match (before, now) {
            (Some(before), Some(now)) if now.has_worked(before) => StallKind::Spins,
            (_, Some(ThreadSample { call: Some(call), .. })) if FUTEX.is_some() => {
                let waits = Some(*call) == FUTEX;
                if waits { StallKind::WaitsForLock } else { StallKind::Sleeps }
            }
            _ if locked => StallKind::WaitsForLock,
            _ => StallKind::Sleeps,
        }
    }

    fn since(&self, before: &ThreadSample) -> Duration {
        self.at.saturating_since(before.at).max(Duration::from_nanos(1))
    }
}

/// `<time on a processor> <time it waited for one> <turns>`: the first, and both.
fn scheduled(text: &str) -> Option<(Duration, Duration)> {
    let mut figures = text.split_whitespace().map(str::parse::<u64>);
    let (ran, waited) = (figures.next()?.ok()?, figures.next()?.ok()?);
    let busy = Duration::from_nanos(ran.saturating_add(waited));
    (ran > 0).then(|| (Duration::from_nanos(ran), busy))
}

/// The times in user and system mode, in hundredths of a second, from behind the state.
fn ticks<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Duration> {
    let mut figure = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let (user, system) = (figure(10)?, figure(0)?);
    Some(Duration::from_millis(10 * user.saturating_add(system)))
}

fn voluntary(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, busy: u64, waits: u64, call: Option<i64>) -> ThreadSample {
        let (at, busy) = (Instant::from_nanos(at * 1_000_000), Duration::from_millis(busy));
        ThreadSample { at, busy, ran: busy, waits, call, runs: false }
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let (ran, busy) = (Duration::from_nanos(50_565), Duration::from_nanos(76_454));
        assert_eq!(scheduled("50565 25889 4\n"), Some((ran, busy)));
        assert_eq!(scheduled("0 0 0\n"), None, "a kernel that does not count");
        let stat = " S 7214 7214 4173 0 -1 4194368 4 6579 0 0 3 2 0 0 20 0 2";
        let mut fields = stat.split_whitespace();
        fields.next();
        assert_eq!(ticks(fields), Some(Duration::from_millis(50)));
        assert_eq!(voluntary("Name:\tx\nvoluntary_ctxt_switches:\t12\n"), Some(12));
        assert_eq!(voluntary("Name:\tx\n"), None);
    }

    #[test]
    fn kinds_by_two_samples() {
        let first = sample(0, 0, 0, None);
        let told =
            |second: ThreadSample, locked| ThreadSample::told(Some(&first), Some(&second), locked);
        assert_eq!(told(sample(250, 240, 0, None), true), StallKind::Spins);
        assert_eq!(told(sample(250, 1, 1, Some(230)), true), StallKind::Sleeps);
        assert_eq!(told(sample(250, 1, 1, None), true), StallKind::WaitsForLock);
        assert_eq!(told(sample(250, 1, 1, None), false), StallKind::Sleeps);
        assert_eq!(ThreadSample::told(None, None, true), StallKind::WaitsForLock);
        if let Some(futex) = FUTEX {
            assert_eq!(told(sample(250, 1, 1, Some(futex)), false), StallKind::WaitsForLock);
        }
        let pace = Pace::between(&first, &sample(500, 2, 100, FUTEX)).unwrap();
        assert!(sample(250, 2, 50, FUTEX).has_asked(&first, pace));
        assert!(!sample(250, 2, 2, FUTEX).has_asked(&first, pace));
        assert!(Pace::between(&first, &sample(500, 2, 3, FUTEX)).is_none());
        let slow = Pace::between(&first, &sample(500, 2, 5, FUTEX)).unwrap();
        assert!(sample(250, 2, 2, FUTEX).has_asked(&first, slow), "with an interval of 0.1 s");
        assert!(!sample(1250, 2, 2, FUTEX).has_asked(&first, slow));
        assert_eq!(slow.window(), Duration::from_millis(400));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_of_this_process_can_be_looked_at() {
        let own = std::fs::read_link("/proc/thread-self").unwrap();
        let native = own.file_name().unwrap().to_str().unwrap().parse().ok();
        let clock = Clock::simulated(0);
        let sample = ThreadSample::of(native, &clock).unwrap();
        assert!(sample.runs && sample.kind() == StallKind::Spins, "{sample:?}");
        assert!(ThreadSample::of(Some(u32::MAX), &clock).is_none());
        assert!(ThreadSample::of(None, &clock).is_none());
    }
}
