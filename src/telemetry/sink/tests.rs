use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc;

use serde_json::Map;
use tracing::Level;

use super::*;
use crate::telemetry::format::Formatter;
use crate::telemetry::output::RETRY_EVERY;
use crate::telemetry::rotate::RotatingFile;

const LONG: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits { records: 100, bytes: 1 << 20 };

/// Text that a test can look at while the writer still owns its end.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// A terminal that takes nothing until it is let go.
struct Stuck {
    entered: mpsc::Sender<()>,
    go: mpsc::Receiver<()>,
    inner: Shared,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let _ = self.go.recv();
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn output(clock: &Clock, console: Option<Box<dyn Write + Send>>) -> Output {
    Output {
        formatter: Formatter::default(),
        file: None,
        file_json: true,
        console,
        console_json: false,
        fallback: Box::new(io::sink()),
        clock: clock.clone(),
        counters: Arc::default(),
        failing_until: None,
        lost_reported: 0,
        redirected_reported: 0,
    }
}

fn record(message: &str) -> Record {
    Record::new(0, Level::INFO, "t", message, Map::new())
}

#[test]
fn a_stuck_output_never_holds_up_who_logs_and_losses_are_reported() {
    let ((entered, is_in), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    let text = Shared::default();
    let stuck = Stuck { entered, go: may_go, inner: text.clone() };
    let limits = Limits { records: 5, ..LIMITS };
    let console: Option<Box<dyn Write + Send>> = Some(Box::new(stuck));
    let (sink, thread) =
        Sink::start(Levels::default(), limits, output(&Clock::simulated(0), console)).unwrap();
    assert!(sink.push(record("first")));
    is_in.recv().unwrap();
    let taken = (0..12).filter(|number| sink.push(record(&format!("n{number}")))).count();
    assert_eq!((taken, sink.queued()), (5, 5));
    assert!(!sink.flush(Duration::from_millis(1)), "nothing was written yet");
    drop(go);
    assert!(sink.flush(LONG));
    sink.close();
    assert!(sink.wait_ended(LONG));
    thread.join().unwrap();
    let text = text.text();
    assert!(text.contains("first") && text.contains("n4") && !text.contains("n5"), "{text}");
    assert!(text.contains("7 log records were lost"), "{text}");
    assert!(!sink.push(record("too late")));
    assert_eq!(sink.counters.lost.load(Ordering::Relaxed), 8);
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let limits = Limits { records: 100, bytes: 2000 };
    let (sink, _thread) =
        Sink::start(Levels::default(), limits, output(&Clock::simulated(0), None)).unwrap();
    assert!(!sink.push(record(&"x".repeat(3000))));
    assert!(sink.push(record("x")));
    sink.close();
}

fn failing_file(path: &Path, clock: &Clock) -> RotatingFile {
    let mut file = RotatingFile::open(path, 0, 1, clock).unwrap();
    file.replace_file(OpenOptions::new().write(true).open("/dev/full").unwrap());
    file
}

#[test]
fn a_full_disk_sends_lines_to_stderr_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs/a.log");
    let clock = Clock::simulated(0);
    let stderr = Shared::default();
    let mut output = output(&clock, None);
    output.file = Some(failing_file(&path, &clock));
    output.fallback = Box::new(stderr.clone());
    let (sink, _thread) = Sink::start(Levels::default(), LIMITS, output).unwrap();
    for message in ["one", "two"] {
        sink.push(record(message)); // the second falls into the time of rest
        assert!(sink.flush(LONG));
    }
    let told = stderr.text();
    assert!(told.contains("cannot write the log file") && told.contains("os error 28"), "{told}");
    assert!(told.contains("\"one\"") && told.contains("\"two\""), "{told}");
    clock.advance(RETRY_EVERY);
    sink.push(record("three"));
    assert!(sink.flush(LONG));
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(file.contains("\"three\"") && file.contains("2 lines went to stderr"), "{file}");
    assert!(!file.contains("\"one\"") && !stderr.text().contains("three"));
    let counters = &sink.counters;
    assert_eq!(counters.redirected.load(Ordering::Relaxed), 2);
    assert_eq!(counters.write_errors.load(Ordering::Relaxed), 1);
    assert_eq!(counters.lost.load(Ordering::Relaxed), 0);
    sink.close();
}

#[test]
fn a_panicking_redaction_shows_nothing_and_ends_nothing() {
    let text = Shared::default();
    let mut output = output(&Clock::simulated(0), Some(Box::new(text.clone())));
    output.formatter.redact = Some(Arc::new(|_, text| {
        assert!(!text.contains("canary"), "refused");
        None
    }));
    let (sink, _thread) = Sink::start(Levels::default(), LIMITS, output).unwrap();
    sink.push(record("the canary"));
    sink.push(record("after"));
    assert!(sink.flush(LONG));
    let text = text.text();
    assert!(!text.contains("canary") && text.contains("redaction panicked"), "{text}");
    assert!(text.contains("after"), "{text}");
    sink.close();
}
