use std::fs;

use serde_json::json;

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// The active logs belong to the process, so that these tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn settings(file: PathBuf) -> LogSettings {
    LogSettings { file: Some(file), console: false, ..LogSettings::default() }
}

fn fields(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

/// The records of one target: other tests of this process log, too.
fn records(path: &PathBuf, target: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["target"] == target).collect()
}

#[test]
fn logs_open_close_and_open_again_in_one_process() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::simulated(1_795_489_636_042);
    for round in 0..3 {
        let path = directory.path().join(format!("{round}.log"));
        let settings = LogSettings { system_name: "demo".into(), ..settings(path.clone()) };
        let guard = init(settings, &clock).unwrap();
        assert!(captures_tracing());
        tracing::info!(target: "rounds", round, "traced");
        assert!(emit(Level::WARN, "rounds", "direct", fields(json!({"component": "c", "n": 1}))));
        let stats = guard.shutdown(LONG);
        assert!(stats.written >= 2 && stats.queued == 0, "{stats:?}");
        tracing::info!(target: "rounds", "nobody listens");
        assert!(!emit(Level::ERROR, "rounds", "nobody listens", Map::new()));
        let records = records(&path, "rounds");
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["fields"]["round"], round);
        assert_eq!(records[0]["timestamp"], "2026-11-24T03:07:16.042Z");
        assert_eq!(records[1]["component"], "c");
        assert_eq!(records[1]["system"], json!({"name": "demo"}));
    }
    assert!(stats().is_none());
}

#[test]
fn later_logs_take_over_and_hand_back() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("1.log"), directory.path().join("2.log"));
    let first = init(settings(one.clone()), &Clock::simulated(0)).unwrap();
    let second = init(settings(two.clone()), &Clock::simulated(0)).unwrap();
    tracing::info!(target: "stack", "to the second");
    drop(second);
    tracing::info!(target: "stack", "to the first");
    first.flush(LONG).unwrap();
    assert_eq!(records(&two, "stack")[0]["message"], "to the second");
    assert_eq!(records(&one, "stack")[0]["message"], "to the first");
    assert_eq!(records(&one, "stack").len(), 1);
}

#[test]
fn levels_change_at_run_time() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let guard = init(settings(path.clone()), &Clock::simulated(0)).unwrap();
    let say = |number: i64| tracing::debug!(target: "levels::deep", number, "said");
    say(1);
    guard.set_level(LevelFilter::DEBUG);
    say(2);
    guard.set_target_level("levels", LevelFilter::OFF);
    say(3);
    assert!(!enabled(Level::ERROR, "levels::deep"));
    guard.set_levels(Levels::new(LevelFilter::TRACE, []));
    say(4);
    assert_eq!(guard.levels().max(), LevelFilter::TRACE);
    guard.flush(LONG).unwrap();
    let said: Vec<Value> =
        records(&path, "levels::deep").iter().map(|r| r["fields"]["number"].clone()).collect();
    assert_eq!(said, [2, 4]);
}

#[test]
fn spans_give_their_fields_to_events() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let guard = init(settings(path.clone()), &Clock::simulated(0)).unwrap();
    let outer = tracing::info_span!(
        target: "spans", "handle", component = "c", correlation_id = "evt_1", late = tracing::field::Empty
    );
    outer.record("late", 7);
    outer.in_scope(|| {
        let cause = Error::new(Kind::Topic, "x", "outer").with_source("inner");
        let cause: &(dyn std::error::Error + 'static) = &cause;
        tracing::error!(target: "spans", event_id = "evt_2", cause, ratio = f64::NAN, "failed");
    });
    guard.flush(LONG).unwrap();
    let record = &records(&path, "spans")[0];
    let ids = [&record["component"], &record["correlation_id"], &record["event_id"]];
    assert_eq!(ids, ["c", "evt_1", "evt_2"]);
    let expected = json!({"late": 7, "cause": "outer: inner", "ratio": "NaN"});
    assert_eq!(record["fields"], expected);
}

#[test]
fn a_value_that_panics_loses_its_record_alone() {
    struct Rude;
    impl std::fmt::Debug for Rude {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("rude")
        }
    }
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let guard = init(settings(path.clone()), &Clock::simulated(0)).unwrap();
    tracing::info!(target: "rude", value = ?Rude, "never seen");
    tracing::info!(target: "rude", "seen");
    guard.flush(LONG).unwrap();
    assert_eq!(records(&path, "rude").len(), 1);
    assert_eq!(guard.stats().lost, 1);
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing() {
    let _turn = TURN.lock();
    let error = init(settings("/dev/null/a.log".into()), &Clock::simulated(0)).unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    assert_eq!(error.get("path"), Some("/dev/null/a.log"));
    assert!(stats().is_none());
}

#[test]
fn many_threads_lose_nothing_that_is_not_counted() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let settings = LogSettings { max_bytes: 20_000, backups: 1000, ..settings(path.clone()) };
    let guard = init(settings, &Clock::real()).unwrap();
    let taken: usize = std::thread::scope(|scope| {
        let log = |thread: usize| {
            let one = move |n| emit(Level::INFO, "many", format!("{thread} {n}"), Map::new());
            (0..2000).filter(|n| one(*n)).count()
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || log(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let stats = guard.shutdown(LONG);
    assert!(taken as u64 + stats.lost >= 8000, "{taken} {stats:?}");
    let mut lines = 0;
    for entry in fs::read_dir(directory.path()).unwrap() {
        lines += records(&entry.unwrap().path(), "many").len();
    }
    assert_eq!(lines, taken);
    assert!(stats.rotations > 10, "{stats:?}");
}

#[test]
fn a_forked_child_is_silent_and_its_copy_of_the_guard_does_nothing() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let guard = init(settings(path.clone()), &Clock::simulated(0)).unwrap();
    detach_after_fork();
    assert!(!emit(Level::ERROR, "forked", "nobody writes here", Map::new()));
    let parents = guard.sink.clone();
    drop(guard);
    assert!(!parents.wait_ended(Duration::ZERO), "the parent's logs are still open");
    parents.close();
    let own = init(settings(path.clone()), &Clock::simulated(0)).unwrap();
    assert!(emit(Level::INFO, "forked", "logs of its own", Map::new()));
    own.shutdown(LONG);
    assert_eq!(records(&path, "forked").len(), 1);
}
