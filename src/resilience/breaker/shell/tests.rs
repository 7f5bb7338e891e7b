use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn breaker(clock: &Clock, permits: u32) -> CircuitBreaker {
    let settings = BreakerSettings {
        half_open_permits: permits,
        ..BreakerSettings::consecutive(1, seconds(30))
    };
    CircuitBreaker::new("exchange", settings, clock.clone()).unwrap()
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn on_signal(&self, breaker: &str, signal: &Signal) {
        if let Signal::Transition { from, to, .. } = signal {
            self.0.lock().push(format!("{breaker}: {from}->{to}"));
        }
    }
}

#[test]
fn a_rejection_says_what_failed_and_when_to_come_back() {
    let clock = Clock::simulated(1_000_000);
    let breaker = breaker(&clock, 1);
    clock.advance(seconds(1));
    breaker.acquire().unwrap().failure(Duration::ZERO, "connection refused");
    clock.advance(seconds(10));
    let error = Error::from(breaker.acquire().unwrap_err());
    assert_eq!(error.kind(), Kind::CircuitOpen);
    assert_eq!(error.get("name"), Some("exchange"));
    assert_eq!(error.get("state"), Some("open"));
    assert_eq!(error.get("retry_after"), Some("20"));
    assert_eq!(error.get("last_error"), Some("connection refused"));
    assert_eq!(error.get("opened_at"), Some("1001000"));
    let sentence = "circuit breaker `exchange` is open; try again in 20.000 s; \
                    last error: connection refused";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn of_many_threads_exactly_the_permits_get_through_half_open() {
    const THREADS: usize = 8;
    for permits in [1, 3] {
        let clock = Clock::simulated(0);
        let breaker = breaker(&clock, permits);
        for _ in 0..50 {
            breaker.reset();
            breaker.acquire().unwrap().failure(Duration::ZERO, "down");
            clock.advance(seconds(30));
            let (begin, end) = (Barrier::new(THREADS), Barrier::new(THREADS));
            let passed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        begin.wait();
                        let permit = breaker.acquire();
                        passed.fetch_add(usize::from(permit.is_ok()), Ordering::Relaxed);
                        // Every probe stays in flight until all have asked.
                        end.wait();
                    });
                }
            });
            assert_eq!(passed.into_inner(), permits as usize);
            assert_eq!(breaker.state(), State::HalfOpen);
            assert_eq!(breaker.metrics().probes, 0, "dropped permits are given back");
        }
        assert_eq!(breaker.metrics().abandoned, u64::from(permits) * 50);
    }
}

#[test]
fn a_dropped_permit_is_neutral() {
    let clock = Clock::simulated(0);
    let breaker = breaker(&clock, 1);
    drop(breaker.acquire().unwrap());
    let metrics = breaker.metrics();
    assert_eq!((metrics.state, metrics.calls, metrics.abandoned), (State::Closed, 0, 1));
}

#[test]
fn observers_hear_in_order_without_the_lock_and_their_panics_end_with_them() {
    struct Meddler(CircuitBreaker);
    impl Observer for Meddler {
        fn on_signal(&self, _: &str, signal: &Signal) {
            if matches!(signal, Signal::Transition { to: State::Open, .. }) {
                self.0.force(State::ForcedOpen).unwrap();
                panic!("an observer's own trouble");
            }
        }
    }
    let clock = Clock::simulated(0);
    let breaker = breaker(&clock, 1);
    let log = Arc::new(Log::default());
    breaker.observe(Arc::new(Meddler(breaker.clone())));
    breaker.observe(log.clone());
    breaker.acquire().unwrap().failure(Duration::ZERO, "down");
    let heard = ["exchange: closed->open", "exchange: open->forced_open"];
    assert_eq!(*log.0.lock(), heard);
    assert_eq!(breaker.state(), State::ForcedOpen);
    breaker.reset();
    assert_eq!(log.0.lock().len(), 3);
}

#[test]
fn an_illegal_wish_is_an_error_that_changes_nothing() {
    let breaker = breaker(&Clock::simulated(0), 1);
    let error = breaker.force(State::HalfOpen).unwrap_err();
    assert_eq!(error.kind(), Kind::Lifecycle);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_permit_measures_its_call() {
    let clock = Clock::simulated(0);
    let permit = breaker(&clock, 1).acquire().unwrap();
    clock.advance(seconds(3));
    assert_eq!(permit.elapsed(), seconds(3));
    permit.success(seconds(3));
}
