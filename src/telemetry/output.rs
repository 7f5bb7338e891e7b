//! Where finished log lines go: the file, the console, and stderr when the file fails.
//!
//! Belongs to the writer's thread; nothing here is reached from a caller that logs.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Map;
use tracing::Level;

use super::format::{Formatter, Record};
use super::rotate::RotatingFile;
use crate::clock::{Clock, Instant};

/// How long a file that failed is left alone.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The target of what the logs say about themselves.
const TARGET: &str = "tiebeam::telemetry";

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub written: AtomicU64,
    pub lost: AtomicU64,
    pub redirected: AtomicU64,
    pub write_errors: AtomicU64,
    pub rotations: AtomicU64,
    pub failed_rotations: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(super) struct Output {
    pub formatter: Formatter,
    pub file: Option<RotatingFile>,
    pub file_json: bool,
    pub console: Option<Box<dyn Write + Send>>,
    pub console_json: bool,
    /// Where lines go that the file did not take.
    pub fallback: Box<dyn Write + Send>,
    pub clock: Clock,
    pub counters: Arc<Counters>,
    /// When to try the file again, while it is failing.
    pub failing_until: Option<Instant>,
    /// Lost records and redirected lines that were already reported.
    pub lost_reported: u64,
    pub redirected_reported: u64,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output(file: {:?}, console: {})", self.file, self.console.is_some())
    }
}

impl Output {
    /// Writes a batch, and what there is to report about the logs themselves.
    pub fn write_batch(&mut self, batch: impl Iterator<Item = Record>) {
        let mut console = Vec::new();
        for record in batch {
            self.write(record, &mut console);
        }
        let lost = self.counters.lost.load(Ordering::Relaxed);
        if lost > self.lost_reported {
            let message = format!("{} log records were lost", lost - self.lost_reported);
            self.lost_reported = lost;
            self.report(message, &mut console);
        }
        self.flush_file(&mut console);
        if let Some(out) = &mut self.console
            && !console.is_empty()
            && out.write_all(&console).and_then(|()| out.flush()).is_err()
        {
            add(&self.counters.write_errors, 1);
        }
        if let Some(file) = &self.file {
            self.counters.rotations.store(file.rotations(), Ordering::Relaxed);
            self.counters.failed_rotations.store(file.failed_rotations(), Ordering::Relaxed);
        }
    }

    fn write(&mut self, mut record: Record, console: &mut Vec<u8>) {
        // The redaction is the user's code. If it fails, what it did not see is not shown.
        let formatter = &self.formatter;
        if catch_unwind(AssertUnwindSafe(|| formatter.clean(&mut record))).is_err() {
            record.message = "a record was left out because its redaction panicked".to_owned();
            record.fields = Map::new();
            (record.component, record.correlation_id, record.event_id) = (None, None, None);
            add(&self.counters.lost, 1);
            self.lost_reported += 1;
        }
        let form = |json| match json {
            true => formatter.json(&record),
            false => formatter.console(&record),
        };
        if self.console.is_some() {
            console.extend_from_slice(form(self.console_json).as_bytes());
            console.push(b'\n');
        }
        let mut failed = None;
        if let Some(file) = &mut self.file {
            let line = form(self.file_json);
            let resting = self.failing_until.is_some_and(|until| self.clock.now() < until);
            if let Err(error) = file.write_line_unless(resting, line.as_bytes()) {
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            self.redirect(Some(error), console);
        }
        add(&self.counters.written, 1);
    }

    fn flush_file(&mut self, console: &mut Vec<u8>) {
        let Some(file) = &mut self.file else { return };
        if self.failing_until.is_some_and(|until| self.clock.now() < until) {
            return self.redirect(None, console);
        }
        if let Err(error) = file.flush() {
            return self.redirect(Some(error), console);
        }
        if self.failing_until.take().is_some() {
            let redirected = self.counters.redirected.load(Ordering::Relaxed);
            let missing = redirected - self.redirected_reported;
            self.redirected_reported = redirected;
            self.report(
                format!("the log file can be written again; {missing} lines went to stderr"),
                console,
            );
            // A second failure is found by the next batch.
            let _ = self.file.as_mut().map_or(Ok(()), RotatingFile::flush);
        }
    }

    /// Gives the lines that the file did not take to stderr. With a console they are on the
    /// screen already.
    fn redirect(&mut self, error: Option<io::Error>, console: &mut Vec<u8>) {
        let Some(file) = &mut self.file else { return };
        let lines = file.take_unwritten();
        let path = file.path().display().to_string();
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        add(&self.counters.redirected, count);
        if let Some(error) = error {
            add(&self.counters.write_errors, 1);
            let first = self.failing_until.is_none();
            self.failing_until = Some(self.clock.now().saturating_add(RETRY_EVERY));
            if first {
                let message =
                    format!("cannot write the log file `{path}` ({error}); it is tried again");
                let record = self.own_record(message);
                let line = self.formatter.console(&record) + "\n";
                match &self.console {
                    Some(_) => console.extend_from_slice(line.as_bytes()),
                    None => drop(self.fallback.write_all(line.as_bytes())),
                }
            }
        }
        if self.console.is_none()
            && self.fallback.write_all(&lines).and_then(|()| self.fallback.flush()).is_err()
        {
            add(&self.counters.lost, count);
        }
    }

    fn report(&mut self, message: String, console: &mut Vec<u8>) {
        let record = self.own_record(message);
        self.write(record, console);
    }

    fn own_record(&self, message: String) -> Record {
        Record::new(self.clock.unix_ms(), Level::WARN, TARGET, message, Map::new())
    }
}
