//! The logs of one process: opened, changed and closed at run time, any number of times.
//!
//! There is one tracing subscriber per process, installed by the first [`init`] and never
//! removed; behind it stands whichever logs are open. Logs opened later take over, and when
//! they close, those opened before go on. Without open logs nothing is recorded.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

pub use super::active::enabled;
use super::active::{ACTIVE, active};
use super::format::{Formatter, Record, Redact};
use super::layer::RecordLayer;
use super::levels::{LevelFilter, Levels};
use super::output::{Counters, Output};
use super::rotate::RotatingFile;
use super::sink::{Limits, Sink};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// How long dropping a [`LogGuard`] waits for the last lines.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// How logs are to be kept.
#[derive(Clone)]
pub struct LogSettings {
    /// Whether the file holds JSON records; otherwise lines for people.
    pub json: bool,
    /// The file, none for no file.
    pub file: Option<PathBuf>,
    /// How large the file grows before it is rotated, in bytes; 0 for no limit.
    pub max_bytes: u64,
    /// How many rotated files are kept.
    pub backups: usize,
    /// Whether records go to stderr.
    pub console: bool,
    /// Whether stderr gets JSON records too; otherwise lines for people.
    pub console_json: bool,
    /// The least grave level that is recorded.
    pub level: LevelFilter,
    /// Other levels for single targets and what is below them.
    pub targets: Vec<(String, LevelFilter)>,
    /// The system's name, in every JSON record.
    pub system_name: String,
    /// The system's version, in every JSON record.
    pub system_version: String,
    /// What takes secrets out of messages and fields; without, they are written as they are.
    pub redact: Option<Redact>,
    /// How many records may wait for the writer; beyond that they are lost and counted.
    pub queue_records: usize,
    /// How many bytes of records may wait for the writer.
    pub queue_bytes: usize,
}

impl Default for LogSettings {
    /// To stderr, level info; a file would hold JSON and be rotated at 100 MiB, 10 kept.
    fn default() -> Self {
        LogSettings {
            json: true,
            file: None,
            max_bytes: 100 * 1024 * 1024,
            backups: 10,
            console: true,
            console_json: false,
            level: LevelFilter::INFO,
            targets: Vec::new(),
            system_name: String::new(),
            system_version: String::new(),
            redact: None,
            queue_records: 16_384,
            queue_bytes: 16 * 1024 * 1024,
        }
    }
}

impl std::fmt::Debug for LogSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSettings")
            .field("json", &self.json)
            .field("file", &self.file)
            .field("console", &self.console)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// What became of the records of one [`LogGuard`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Records that the writer has dealt with.
    pub written: u64,
    /// Records nobody can read: the queue was full, the logs were closing, or all outputs failed.
    pub lost: u64,
    /// Lines that the file did not take and that went to stderr.
    pub redirected: u64,
    /// Failed attempts to write the file or the console.
    pub write_errors: u64,
    /// How many times the file was rotated.
    pub rotations: u64,
    /// How many times it could not be rotated.
    pub failed_rotations: u64,
    /// Records that wait to be written.
    pub queued: usize,
}

/// Open logs, the active ones last. Held only to open, change or close, never to log.
static OPEN: Mutex<Vec<Arc<Sink>>> = Mutex::new(Vec::new());

/// How many forks lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The handle of the process's subscriber; none if somebody else's was there first.
static SUBSCRIBER: OnceLock<Option<reload::Handle<LevelFilter, Registry>>> = OnceLock::new();

/// Opens logs, which from now on get every record until the guard is closed or dropped.
///
/// # Errors
/// [`Kind::Configuration`] if the file cannot be written, with its path; [`Kind::Internal`] if
/// the writer's thread cannot be started. Nothing has changed then.
pub fn init(settings: LogSettings, clock: &Clock) -> Result<LogGuard> {
    let file = match &settings.file {
        Some(path) => Some(RotatingFile::open(path, settings.max_bytes, settings.backups, clock)?),
        None => None,
    };
    let console = settings.console.then(|| Box::new(io::stderr()) as Box<dyn Write + Send>);
    open(settings, file, console, clock)
}

fn open(
    settings: LogSettings,
    file: Option<RotatingFile>,
    console: Option<Box<dyn Write + Send>>,
    clock: &Clock,
) -> Result<LogGuard> {
    let output = Output {
        formatter: Formatter {
            system_name: settings.system_name,
            system_version: settings.system_version,
            redact: settings.redact,
        },
        file,
        file_json: settings.json,
        console,
        console_json: settings.console_json,
        fallback: Box::new(io::stderr()),
        clock: clock.clone(),
        counters: Arc::new(Counters::default()),
        failing_until: None,
        lost_reported: 0,
        redirected_reported: 0,
    };
    let limits =
        Limits { records: settings.queue_records.max(1), bytes: settings.queue_bytes.max(1) };
    let levels = Levels::new(settings.level, settings.targets);
    let (sink, thread) = Sink::start(levels, limits, output)?;
    install();
    let mut open = OPEN.lock();
    open.push(sink.clone());
    activate(&open);
    drop(open);
    Ok(LogGuard { sink, thread: Some(thread), forks: FORKS.load(Ordering::Relaxed) })
}

fn install() {
    SUBSCRIBER.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        let subscriber = Registry::default().with(filter).with(RecordLayer);
        tracing::subscriber::set_global_default(subscriber).ok().map(|()| handle)
    });
}

/// Makes the last of `open` the active one and tells tracing what is wanted from now on.
fn activate(open: &[Arc<Sink>]) {
    ACTIVE.store(open.last().cloned());
    if let Some(Some(handle)) = SUBSCRIBER.get() {
        let level = open.last().map_or(LevelFilter::OFF, |sink| sink.levels.load().max());
        // Fails only when the subscriber is gone; this one stays for ever. Reloading also makes
        // tracing ask again about every call site, which it otherwise remembers.
        let _ = handle.reload(level);
    }
}

/// Whether tracing events of the core reach these logs; not so if the program had installed a
/// tracing subscriber of its own before. [`emit`] works either way.
pub fn captures_tracing() -> bool {
    matches!(SUBSCRIBER.get(), Some(Some(_)))
}

/// Records one thing that happened; `component`, `correlation_id` and `event_id` among the
/// fields get their own place. Never waits and never panics.
///
/// Returns false if it was not recorded: not wanted, no logs open, or the queue full (counted).
pub fn emit(
    level: Level,
    target: &str,
    message: impl Into<String>,
    fields: Map<String, Value>,
) -> bool {
    match active().as_ref() {
        Some(sink) if sink.levels.load().allow(level, target) => {
            sink.push(Record::new(sink.clock.unix_ms(), level, target, message, fields))
        }
        _ => false,
    }
}

/// Waits until what was recorded so far by the active logs is written; true if it is.
pub fn flush(timeout: Duration) -> bool {
    // A full handle: waiting with a borrowed one would hold up whoever changes the logs.
    ACTIVE.load_full().is_none_or(|sink| sink.flush(timeout))
}

/// The figures of the active logs.
pub fn stats() -> Option<LogStats> {
    ACTIVE.load_full().map(|sink| stats_of(&sink))
}

/// To be called first in a forked child: there is no writer here, the parent's file is not
/// ours, and a lock may have been held at the moment of the fork. From now on nothing is
/// recorded.
pub fn detach_after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // Leaked, not dropped: their locks may be held by threads that do not exist here.
    std::mem::forget(ACTIVE.swap(None));
    if let Some(mut open) = OPEN.try_lock() {
        std::mem::forget(std::mem::take(&mut *open));
    }
}

fn stats_of(sink: &Sink) -> LogStats {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &sink.counters;
    LogStats {
        written: get(&counters.written),
        lost: get(&counters.lost),
        redirected: get(&counters.redirected),
        write_errors: get(&counters.write_errors),
        rotations: get(&counters.rotations),
        failed_rotations: get(&counters.failed_rotations),
        queued: sink.queued(),
    }
}

/// Open logs; dropping it writes what is queued (for at most 2 s) and closes them.
#[derive(Debug)]
#[must_use = "dropping the guard closes the logs"]
pub struct LogGuard {
    sink: Arc<Sink>,
    thread: Option<JoinHandle<()>>,
    /// In a forked child the guard of the parent must do nothing: its writer is not here.
    forks: u64,
}

impl LogGuard {
    /// Waits until what was recorded so far is written, in real time.
    ///
    /// # Errors
    /// [`Kind::Timeout`] with the number of records that still wait.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        if self.sink.flush(timeout) {
            return Ok(());
        }
        let message = format!("logs are not written after {timeout:?}");
        Err(Error::new(Kind::Timeout, "flush the logs", message)
            .with("queued", self.sink.queued().to_string()))
    }

    /// What became of the records so far.
    pub fn stats(&self) -> LogStats {
        stats_of(&self.sink)
    }

    /// The levels that count now.
    pub fn levels(&self) -> Arc<Levels> {
        self.sink.levels.load_full()
    }

    /// Changes the level of everything that has no level of its own, from the next record on.
    pub fn set_level(&self, level: LevelFilter) {
        self.change(|levels| levels.with_default(level));
    }

    /// Changes the level of one target and what is below it.
    pub fn set_target_level(&self, target: &str, level: LevelFilter) {
        self.change(|levels| levels.with_target(target, level));
    }

    /// Replaces all levels.
    pub fn set_levels(&self, levels: Levels) {
        self.change(|_| levels.clone());
    }

    fn change(&self, change: impl Fn(&Levels) -> Levels) {
        let open = OPEN.lock();
        self.sink.levels.rcu(|levels| change(levels));
        activate(&open);
    }

    /// Closes the logs and waits for the last lines; returns what became of all records.
    /// After `timeout` the writer is left to itself.
    pub fn shutdown(mut self, timeout: Duration) -> LogStats {
        self.close(timeout);
        self.stats()
    }

    fn close(&mut self, timeout: Duration) {
        let Some(thread) = self.thread.take() else { return };
        if self.forks != FORKS.load(Ordering::Relaxed) {
            std::mem::forget(thread);
            return;
        }
        let mut open = OPEN.lock();
        open.retain(|other| !Arc::ptr_eq(other, &self.sink));
        activate(&open);
        drop(open);
        self.sink.close();
        if self.sink.wait_ended(timeout) {
            // It has nothing left to do, and its panics are caught where they happen.
            let _ = thread.join();
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.close(DROP_WAIT);
    }
}

#[cfg(test)]
mod tests;
