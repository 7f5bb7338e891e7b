use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * MS)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The settings that most cases share: a 20 s window, 5 calls, 50 %, slow above 4 s, 4 probes.
fn shared() -> BreakerSettings {
    BreakerSettings {
        mode: Mode::Rate {
            window: Window::Time(ms(20_000)),
            minimum: 5,
            failure_percent: 50.0,
            slow_percent: 50.0,
            slow: ms(4_000),
        },
        half_open_permits: 4,
        ..BreakerSettings::default().with_open(ms(5_000))
    }
}

/// A machine with its time and a script in the words of the cases.
struct Run {
    machine: Machine,
    now: u64,
}

impl Run {
    fn new(settings: BreakerSettings) -> Self {
        settings.validate().expect("valid settings");
        Run { machine: Machine::new(settings), now: 0 }
    }

    fn acquire(&mut self) -> bool {
        self.machine.acquire(at(self.now)).is_ok()
    }

    /// `S` success, `F` failure, `I` ignored; each is let pass.
    #[track_caller]
    fn calls(&mut self, outcomes: &str, duration: u64) {
        for outcome in outcomes.chars() {
            let generation = self.machine.acquire(at(self.now)).expect("let pass");
            match outcome {
                'I' => self.machine.release(at(self.now), generation, false),
                _ => {
                    let failed = outcome == 'F';
                    assert!(self.machine.record(at(self.now), generation, failed, ms(duration)));
                }
            }
        }
    }

    #[track_caller]
    fn force(&mut self, to: State) {
        assert!(self.machine.force(at(self.now), to, None));
    }

    fn metrics(&mut self) -> Metrics {
        self.machine.metrics(at(self.now))
    }

    #[track_caller]
    fn is(&mut self, state: State) {
        assert_eq!(self.metrics().state, state);
    }

    fn events(&mut self) -> Vec<String> {
        let name = |signal| match signal {
            Signal::FailureRateExceeded { .. } => "failure_rate_exceeded".into(),
            Signal::SlowRateExceeded { .. } => "slow_rate_exceeded".into(),
            Signal::Transition { from, to, .. } => format!("{from}->{to}"),
        };
        self.machine.take_signals().into_iter().map(name).collect()
    }
}

#[test]
fn cb_001_a_success_can_be_the_call_that_trips() {
    let mut run = Run::new(shared());
    run.calls("FFFS", 0);
    assert_eq!((run.metrics().failure_percent, run.metrics().calls), (None, 4));
    run.calls("S", 0);
    let metrics = run.metrics();
    assert_eq!((metrics.state, metrics.failure_percent), (State::Open, Some(60.0)));
    assert_eq!((metrics.calls, metrics.failed), (5, 3));
    assert!(!run.acquire());
    assert_eq!(run.metrics().not_permitted, 1);
    assert_eq!(run.events(), ["failure_rate_exceeded", "closed->open"]);
    // The window has long passed, and still shows what it decided on.
    run.now = 60_000;
    let metrics = run.metrics();
    assert_eq!((metrics.calls, metrics.failure_percent), (5, Some(60.0)));
}

#[test]
fn cb_003_and_cb_004_slow_calls_trip_by_themselves_and_only_above_the_limit() {
    let mut run = Run::new(shared());
    run.calls("FS", 5_000);
    run.calls("FS", 100);
    run.is(State::Closed);
    run.calls("S", 5_000);
    let metrics = run.metrics();
    assert_eq!((metrics.slow_percent, metrics.failure_percent), (Some(60.0), Some(40.0)));
    assert_eq!(run.events(), ["slow_rate_exceeded", "closed->open"]);

    let mut settings = shared();
    if let Mode::Rate { minimum, .. } = &mut settings.mode {
        *minimum = 2;
    }
    let mut run = Run::new(settings);
    run.calls("S", 4_000);
    assert_eq!(run.metrics().slow, 0);
    run.calls("S", 4_001);
    let metrics = run.metrics();
    assert_eq!((metrics.state, metrics.slow, metrics.slow_percent), (State::Open, 1, Some(50.0)));
}

#[test]
fn cb_008_open_periods_grow_until_closed() {
    let mut run = Run::new(BreakerSettings { open_factor: 1.5, ..shared() });
    run.force(State::Open);
    for (now, permitted, state) in [(3_000, false, State::Open), (6_000, true, State::HalfOpen)] {
        run.now = now;
        assert_eq!(run.acquire(), permitted);
        run.is(state);
    }
    run.force(State::Open);
    for (now, permitted, state) in [(12_000, false, State::Open), (17_000, true, State::HalfOpen)] {
        run.now = now;
        assert_eq!(run.acquire(), permitted);
        run.is(state);
    }
}

#[test]
fn cb_009_and_cb_010_half_open_decides_after_its_probes_and_the_figures_stay() {
    for (first, duration, last, last_duration, failure, slow) in
        [("FFS", 0, "F", 0, 75.0, 0.0), ("SSS", 5_000, "S", 1_000, 0.0, 75.0)]
    {
        let mut run = Run::new(shared());
        run.force(State::Open);
        run.force(State::HalfOpen);
        run.calls(first, duration);
        assert_eq!((run.metrics().state, run.metrics().failure_percent), (State::HalfOpen, None));
        run.calls(last, last_duration);
        let metrics = run.metrics();
        assert_eq!((metrics.state, metrics.calls), (State::Open, 4));
        assert_eq!((metrics.failure_percent, metrics.slow_percent), (Some(failure), Some(slow)));
    }
}

#[test]
fn cb_013_and_cb_014_ignored_probes_give_their_permit_back() {
    let mut run = Run::new(shared());
    run.force(State::Open);
    run.force(State::HalfOpen);
    run.calls("SSSI", 0);
    assert_eq!((run.metrics().state, run.metrics().calls), (State::HalfOpen, 3));
    run.calls("F", 0);
    assert_eq!((run.metrics().state, run.metrics().calls), (State::Closed, 0));

    run.force(State::Open);
    run.force(State::HalfOpen);
    run.calls("IIIISSS", 0);
    run.is(State::HalfOpen);
    run.calls("S", 0);
    run.is(State::Closed);
}

#[test]
fn cb_015_to_cb_018_states_that_only_an_operator_leaves() {
    let mut run = Run::new(shared());
    run.force(State::ForcedOpen);
    assert!(!run.acquire());
    run.now = 6_000;
    assert!(!run.acquire());
    let metrics = run.metrics();
    assert_eq!((metrics.state, metrics.not_permitted), (State::ForcedOpen, 2));
    assert_eq!(run.machine.retry_after(at(6_000)), None);

    let mut run = Run::new(shared());
    run.force(State::Disabled);
    run.calls("SFFFF", 0);
    let metrics = run.metrics();
    assert_eq!((metrics.state, metrics.calls, metrics.failed), (State::Disabled, 0, 0));

    let mut run = Run::new(shared());
    run.force(State::MetricsOnly);
    run.calls("FFFSSF", 0);
    run.is(State::MetricsOnly);
    assert_eq!(run.events(), ["closed->metrics_only", "failure_rate_exceeded"]);

    let mut run = Run::new(shared());
    run.force(State::MetricsOnly);
    run.calls("FFFFF", 5_000);
    let both = ["closed->metrics_only", "failure_rate_exceeded", "slow_rate_exceeded"];
    assert_eq!(run.events(), both);
}

#[test]
fn cb_019_to_cb_021_the_admin_table() {
    use State::{Closed, HalfOpen, MetricsOnly, Open};
    let illegal = [(Closed, HalfOpen), (MetricsOnly, Open), (MetricsOnly, HalfOpen)];
    for from in State::ALL {
        for to in State::ALL {
            let mut run = Run::new(shared());
            if from == HalfOpen {
                run.force(Open);
            }
            run.force(from);
            run.events();
            let before = run.machine.generation();
            let done = run.machine.force(at(0), to, None);
            assert_eq!(done, !illegal.contains(&(from, to)), "{from} -> {to}");
            run.is(if done { to } else { from });
            let expected = if done && from != to { vec![format!("{from}->{to}")] } else { vec![] };
            assert_eq!(run.events(), expected);
            assert_eq!(run.machine.generation() > before, done && from != to);
        }
    }
}

#[test]
fn cb_022_and_cb_023_reset_and_an_open_period_of_its_own() {
    let mut run = Run::new(shared());
    run.calls("SS", 0);
    run.machine.reset(at(0));
    assert_eq!(run.metrics().calls, 0);
    assert!(run.machine.force(at(0), State::Open, Some(ms(7_200_000))));
    assert!(!run.acquire());
    run.now = 3_600_000;
    assert!(!run.acquire());
    assert_eq!(run.metrics().not_permitted, 2);
    run.now = 7_201_000;
    assert!(run.acquire());
    run.is(State::HalfOpen);
    run.machine.reset(at(run.now));
    run.is(State::Closed);
}

#[test]
fn cb_024_a_time_window_forgets_whole_buckets() {
    let mut settings = shared();
    settings.mode = Mode::Rate {
        window: Window::Time(ms(5_000)),
        minimum: 1,
        failure_percent: 100.0,
        slow_percent: 100.0,
        slow: ms(999),
    };
    let mut run = Run::new(settings);
    run.force(State::MetricsOnly);
    let figures = |run: &mut Run| {
        let metrics = run.metrics();
        (metrics.calls, metrics.failed, metrics.slow)
    };
    run.calls("F", 100);
    run.now = 100;
    run.calls("S", 100);
    run.now = 800;
    run.calls("F", 1_000);
    assert_eq!(figures(&mut run), (3, 2, 1));
    run.now = 4_800;
    assert_eq!(figures(&mut run), (3, 2, 1));
    run.now = 5_800;
    assert_eq!(figures(&mut run), (0, 0, 0));
    run.now = 5_900;
    run.calls("S", 100);
    run.now = 10_900;
    run.calls("S", 100);
    assert_eq!(run.metrics().calls, 1);
}

#[test]
fn cb_026_lost_probes_do_not_hold_it_half_open() {
    for (on_timeout, state) in [(OnTimeout::Open, State::Open), (OnTimeout::Closed, State::Closed)]
    {
        let half_open_max = Some(ms(1_000));
        let mut run = Run::new(BreakerSettings { half_open_max, on_timeout, ..shared() });
        run.force(State::Open);
        run.force(State::HalfOpen);
        for _ in 0..4 {
            assert!(run.acquire());
        }
        assert!(!run.acquire());
        run.now = 999;
        run.is(State::HalfOpen);
        assert_eq!(run.machine.retry_after(at(999)), Some(ms(1)));
        run.now = 1_000;
        run.is(state);
    }
}

#[test]
fn a_half_open_period_ends_at_its_limit_and_not_when_somebody_looks() {
    let half_open_max = Some(ms(1_000));
    let mut run = Run::new(BreakerSettings { half_open_max, ..shared() });
    run.force(State::Open);
    run.force(State::HalfOpen);
    // Open again since 1 s, for 5 s: at 6 s a call passes although nobody looked in between.
    run.now = 6_000;
    assert!(run.acquire());
    run.is(State::HalfOpen);
}

#[test]
fn cb_029_and_cb_030_a_success_ends_a_run_of_failures() {
    let mut run = Run::new(BreakerSettings::consecutive(3, ms(60_000)));
    run.calls("FSFF", 0);
    run.is(State::Closed);
    run.calls("F", 0);
    run.is(State::Open);
    assert_eq!(run.metrics().consecutive_failures, 3);

    let mut run = Run::new(BreakerSettings::consecutive(2, ms(60_000)));
    run.calls(&"SF".repeat(20), 0);
    run.is(State::Closed);
}

#[test]
fn cb_031_and_cb_034_k_of_n_opens_and_closes_when_certain() {
    let mut run = Run::new(BreakerSettings::with_mode(Mode::KOfN { failures: 2, of: 3 }));
    run.calls("FS", 0);
    run.is(State::Closed);
    run.calls("F", 0);
    run.is(State::Open);

    let settings = BreakerSettings {
        half_open_rule: Some(HalfOpenRule::KOfN { successes: 3, of: 4 }),
        half_open_permits: 4,
        ..BreakerSettings::with_mode(Mode::KOfN { failures: 3, of: 5 })
    };
    for (calls, state) in [("SFSS", State::Closed), ("SFF", State::Open)] {
        let mut run = Run::new(settings.clone());
        run.force(State::Open);
        run.force(State::HalfOpen);
        run.calls(&calls[..calls.len() - 1], 0);
        run.is(State::HalfOpen);
        run.calls(&calls[calls.len() - 1..], 0);
        run.is(state);
    }
}

#[test]
fn cb_033_one_failed_probe_opens_whatever_came_before() {
    let settings = BreakerSettings {
        half_open_rule: Some(HalfOpenRule::Successes(3)),
        half_open_permits: 3,
        ..BreakerSettings::consecutive(2, ms(1_000))
    };
    let mut run = Run::new(settings);
    run.force(State::Open);
    run.force(State::HalfOpen);
    run.calls("SS", 0);
    run.is(State::HalfOpen);
    run.calls("F", 0);
    run.is(State::Open);
}

#[test]
fn cb_038_and_cb_039_a_probe_decides_and_a_failed_one_waits_the_whole_period_again() {
    let mut run = Run::new(BreakerSettings::consecutive(2, ms(30_000)));
    run.calls("FF", 0);
    for (now, permitted) in [(0, false), (29_000, false), (29_999, false), (30_000, true)] {
        run.now = now;
        assert_eq!(run.machine.retry_after(at(now)), Some(ms(30_000 - now)));
        assert_eq!(run.acquire(), permitted, "at {now}");
    }
    let generation = run.machine.generation();
    assert!(run.machine.record(at(30_000), generation, true, ms(0)));
    run.now = 59_999;
    assert!(!run.acquire());
    run.now = 60_000;
    run.calls("S", 0);
    run.is(State::Closed);
}

#[test]
fn cb_041_an_ignored_error_does_not_end_a_run_of_failures() {
    let mut run = Run::new(BreakerSettings::consecutive(2, ms(10_000)));
    run.calls("FIF", 0);
    run.is(State::Open);
}

#[test]
fn cb_043_growth_ends_when_it_closes() {
    let settings = BreakerSettings {
        open_factor: 2.0,
        open_max: ms(300_000),
        ..BreakerSettings::consecutive(3, ms(5_000))
    };
    let mut run = Run::new(settings);
    run.calls("SSSSSSSSSSFFF", 0);
    for _ in 0..10 {
        assert!(!run.acquire());
    }
    assert_eq!(run.metrics().not_permitted, 10);
    run.now = 2_000;
    assert!(!run.acquire());
    run.now = 6_000;
    run.calls("F", 0);
    run.now = 11_000;
    assert!(!run.acquire());
    run.now = 17_000;
    run.calls("SSSSSSSSSSSFFF", 0);
    run.is(State::Open);
    run.now = 22_100;
    assert!(run.acquire());
    run.is(State::HalfOpen);
}

#[test]
fn cb_045_and_cb_046_one_probe_at_a_time_and_late_failures_change_nothing() {
    let mut run = Run::new(BreakerSettings::consecutive(1, ms(5_000)));
    let early = run.machine.acquire(at(0)).unwrap();
    run.calls("F", 0);
    run.now = 4_000;
    assert!(!run.machine.record(at(4_000), early, true, ms(4_000)));
    run.is(State::Open);
    run.now = 5_000;
    let probe = run.machine.acquire(at(5_000)).unwrap();
    let refusal = run.machine.acquire(at(5_000)).unwrap_err();
    assert_eq!((refusal.state, refusal.retry_after), (State::HalfOpen, Some(ms(5_000))));
    // Late in half-open too: neither verdict nor permit.
    assert!(!run.machine.record(at(5_000), early, false, ms(5_000)));
    assert_eq!((run.metrics().state, run.metrics().probes), (State::HalfOpen, 1));
    assert!(run.machine.record(at(5_000), probe, false, ms(0)));
    run.is(State::Closed);
    assert_eq!(run.metrics().late, 2);
    assert_eq!(run.events(), ["closed->open", "open->half_open", "half_open->closed"]);
}

#[test]
fn cb_047_and_cb_048_break_iff_enough_calls_and_the_ratio_is_reached() {
    let rate = |minimum, failure_percent| Mode::Rate {
        window: Window::Time(ms(1_000)),
        minimum,
        failure_percent,
        slow_percent: 100.0,
        slow: ms(60_000),
    };
    let mut run = Run::new(BreakerSettings::with_mode(rate(3, 10.0)));
    run.calls("FFF", 0);
    for _ in 0..7 {
        assert!(!run.acquire());
    }
    assert_eq!(run.metrics().not_permitted, 7);
    let machine = Machine::new(BreakerSettings::with_mode(rate(10, 10.0)));
    for (calls, failed, breaks) in
        [(10, 0, false), (10, 1, true), (10, 2, true), (11, 2, true), (9, 1, false)]
    {
        let breach = machine.breach(Counts { calls, failed, slow: 0 });
        assert_eq!(breach.is_some_and(|(failure, _)| failure), breaks, "{failed} of {calls}");
    }
}

#[test]
fn open_periods_with_jitter_stay_within_a_tenth_and_promise_what_they_keep() {
    let settings = BreakerSettings {
        open_jitter: true,
        seed: Some(3),
        ..BreakerSettings::consecutive(1, ms(10_000))
    };
    let mut run = Run::new(settings);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        run.machine.reset(at(run.now));
        run.calls("F", 0);
        let wait = run.machine.retry_after(at(run.now)).unwrap();
        assert!((ms(9_000)..=ms(11_000)).contains(&wait), "{wait:?}");
        let until = at(run.now).saturating_add(wait);
        let before = Instant::from_nanos(until.as_nanos() - 1);
        assert!(run.machine.acquire(before).is_err());
        assert!(run.machine.acquire(until).is_ok());
        seen.insert(wait);
    }
    assert!(seen.len() > 40);
}

/// A breaker in consecutive mode told as plainly as possible, to hold the machine against.
#[derive(Debug, Default)]
struct Model {
    failures: u32,
    open_until: Option<u64>,
    half_open_until: Option<u64>,
    probes: u32,
}

impl Model {
    const THRESHOLD: u32 = 3;
    const OPEN: u64 = 100;
    const LIMIT: u64 = 40;
    const PERMITS: u32 = 2;

    fn pass_time(&mut self, now: u64) {
        if let Some(limit) = self.half_open_until.filter(|limit| now >= *limit) {
            self.half_open_until = None;
            self.open_until = Some(limit + Self::OPEN);
        }
    }

    fn acquire(&mut self, now: u64) -> bool {
        self.pass_time(now);
        if self.open_until.is_some_and(|until| now >= until) {
            self.open_until = None;
            self.half_open_until = Some(now + Self::LIMIT);
            self.probes = 0;
        }
        if self.open_until.is_some() {
            return false;
        }
        if self.half_open_until.is_some() {
            let free = self.probes < Self::PERMITS;
            self.probes += u32::from(free);
            return free;
        }
        true
    }

    fn settle(&mut self, now: u64, outcome: u8) {
        let half_open = self.half_open_until.is_some();
        match outcome {
            0 if half_open => *self = Model::default(),
            0 => self.failures = 0,
            1 if half_open => {
                *self = Model { open_until: Some(now + Self::OPEN), ..Model::default() };
            }
            1 => {
                self.failures += 1;
                if self.failures >= Self::THRESHOLD {
                    *self = Model { open_until: Some(now + Self::OPEN), ..Model::default() };
                }
            }
            _ => self.probes = self.probes.saturating_sub(1),
        }
    }
}

proptest! {
    /// Steps: 0 acquire; 1 to 3 settle one of the calls in flight as success, failure, ignored;
    /// 4 lets time pass.
    #[test]
    fn the_machine_does_what_the_model_does(
        steps in prop::collection::vec((0u8..5, 0usize..8, 1u64..60), 1..200),
    ) {
        let settings = BreakerSettings {
            half_open_permits: Model::PERMITS,
            half_open_max: Some(ms(Model::LIMIT)),
            ..BreakerSettings::consecutive(Model::THRESHOLD, ms(Model::OPEN))
        };
        let mut machine = Machine::new(settings);
        let (mut model, mut flying, mut now) = (Model::default(), Vec::new(), 0);
        for (step, index, pause) in steps {
            model.pass_time(now);
            machine.tick(at(now));
            match step {
                0 => {
                    let permitted = machine.acquire(at(now));
                    prop_assert_eq!(permitted.is_ok(), model.acquire(now));
                    flying.extend(permitted);
                }
                4 => now += pause,
                _ if flying.is_empty() => {}
                outcome => {
                    let generation: u64 = flying.swap_remove(index % flying.len());
                    let current = generation == machine.generation();
                    if outcome == 3 {
                        machine.release(at(now), generation, false);
                    } else {
                        let counted = machine.record(at(now), generation, outcome == 2, ms(1));
                        prop_assert_eq!(counted, current);
                    }
                    if current {
                        model.settle(now, outcome - 1);
                    }
                }
            }
            let state = machine.metrics(at(now)).state;
            model.pass_time(now);
            prop_assert_eq!(state == State::Open, model.open_until.is_some());
            prop_assert_eq!(state == State::HalfOpen, model.half_open_until.is_some());
        }
    }
}
