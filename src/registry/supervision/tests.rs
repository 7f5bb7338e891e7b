use super::*;

fn ceiling(restart: u32) -> Duration {
    Wait::default().ceiling(restart)
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn supervisor(intensity: u32, period: u64) -> Supervisor {
    let policy = Policy { intensity, period: Duration::from_secs(period), ..Policy::default() };
    Supervisor::new(policy, Box::new(ceiling))
}

/// What becomes of crashes at these seconds: true is a restart, false is giving up.
fn crashes(intensity: u32, period: u64, seconds: &[u64]) -> Vec<bool> {
    let mut supervisor = supervisor(intensity, period);
    let verdicts = seconds.iter().map(|s| supervisor.on_exit("a", Cause::Error, at(*s), &["a"]));
    verdicts.map(|verdict| matches!(verdict, Verdict::Restart { .. })).collect()
}

#[test]
fn intensity_counts_restarts_within_the_period() {
    assert_eq!(crashes(2, 3600, &[0, 1, 2]), [true, true, false]);
    assert_eq!(crashes(1, 5, &[0, 3]), [true, false]);
    assert_eq!(crashes(1, 5, &[0, 6, 12, 18]), [true; 4]);
    assert_eq!(crashes(5, 30, &[0, 0, 0, 0, 0, 29]), [true, true, true, true, true, false]);
    assert_eq!(crashes(0, 5, &[0]), [false]);
}

#[test]
fn a_restart_exactly_one_period_old_still_counts() {
    assert_eq!(crashes(1, 5, &[0, 5]), [true, false]);
}

#[test]
fn type_and_exit_decide_whether_to_restart() {
    use Cause::*;
    use RestartType::*;
    let table = [
        (Permanent, Normal, true),
        (Permanent, Error, true),
        (Permanent, OperatorStop, false),
        (Transient, Normal, false),
        (Transient, Shutdown, false),
        (Transient, Error, true),
        (Transient, Timeout, true),
        (Transient, Watchdog, true),
        (Transient, OperatorStop, false),
        (Temporary, Normal, false),
        (Temporary, Error, false),
    ];
    for (restart, cause, expected) in table {
        assert_eq!(restart.wants_restart(cause), expected, "{restart:?} {cause:?}");
        let policy = Policy { restart_of: [("a".to_owned(), restart)].into(), ..Policy::default() };
        let mut supervisor = Supervisor::new(policy, Wait::default().backoff(1));
        let verdict = supervisor.on_exit("a", cause, at(0), &["a"]);
        assert_eq!(verdict != Verdict::Leave, expected, "{restart:?} {cause:?}");
    }
}

fn with_strategy(strategy: Strategy) -> Supervisor {
    Supervisor::new(Policy { strategy, ..Policy::default() }, Box::new(ceiling))
}

fn moves(verdict: Verdict) -> (Vec<String>, Vec<String>) {
    match verdict {
        Verdict::Restart { stop, affected, .. } => (stop, affected),
        other => panic!("no restart: {other:?}"),
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn strategies_choose_who_goes_down_and_comes_back() {
    let table = [
        (Strategy::OneForOne, vec![], vec!["b"]),
        (Strategy::RestForOne, vec!["c"], vec!["b", "c"]),
        (Strategy::OneForAll, vec!["c", "a"], vec!["a", "b", "c"]),
    ];
    for (strategy, stopped, started) in table {
        let mut supervisor = with_strategy(strategy);
        let verdict = supervisor.on_exit("b", Cause::Error, at(0), &["a", "b", "c"]);
        assert_eq!(moves(verdict), (strings(&stopped), strings(&started)), "{strategy:?}");
        assert_eq!(supervisor.restarts(at(0)), 1, "a group costs one restart");
    }
}

#[test]
fn a_temporary_sibling_is_stopped_and_does_not_come_back() {
    let mut supervisor = with_strategy(Strategy::OneForAll);
    supervisor.policy.restart_of.insert("c".into(), RestartType::Temporary);
    let verdict = supervisor.on_exit("a", Cause::Error, at(0), &["a", "b", "c"]);
    assert_eq!(moves(verdict), (strings(&["c", "b"]), strings(&["a", "b"])));
}

#[test]
fn a_start_that_always_fails_uses_up_the_intensity_and_stops_the_others() {
    let mut supervisor = supervisor(4, 3600);
    let mut starts = 0;
    let last = loop {
        match supervisor.on_exit("child1", Cause::Error, at(starts), &["child1", "child2"]) {
            Verdict::Restart { .. } => starts += 1,
            verdict => break verdict,
        }
    };
    assert_eq!(starts, 4);
    let stop = strings(&["child2"]);
    assert_eq!(last, Verdict::GiveUp { stop, cooldown: Some(Duration::from_secs(300)) });
    let echo = supervisor.on_exit("child2", Cause::Error, at(9), &["child1", "child2"]);
    assert_eq!(echo, Verdict::Leave);
}

#[test]
fn waits_grow_from_nothing_to_half_a_minute() {
    let seconds: Vec<u64> = (1..=8).map(|n| ceiling(n).as_secs()).collect();
    assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(ceiling(u32::MAX).as_secs(), 30);
    let (one, same) = (Wait::default().backoff(7), Wait::default().backoff(7));
    for n in 1..100 {
        let wait = one(n);
        assert!(wait <= ceiling(n));
        assert_eq!(wait, same(n), "the same seed draws the same waits");
    }
    let mut supervisor = supervisor(3, 60);
    let waits: Vec<Duration> = (0..3)
        .map(|s| match supervisor.on_exit("a", Cause::Error, at(s), &["a"]) {
            Verdict::Restart { after, .. } => after,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(waits, [0, 1, 2].map(Duration::from_secs));
}

#[test]
fn cooldown_doubles_to_an_hour_and_each_try_is_one_start() {
    let mut supervisor = supervisor(0, 60);
    let mut now = 0;
    let mut cooldowns = Vec::new();
    let mut verdict = supervisor.on_exit("a", Cause::Error, at(now), &["a"]);
    for _ in 0..6 {
        let Verdict::GiveUp { cooldown: Some(cooldown), .. } = verdict else {
            panic!("no cooldown: {verdict:?}")
        };
        cooldowns.push(cooldown.as_secs());
        assert_eq!(supervisor.try_again(at(now + cooldown.as_secs() - 1), &["a"]), Verdict::Leave);
        now += cooldown.as_secs();
        assert!(supervisor.has_given_up());
        assert_eq!(moves(supervisor.try_again(at(now), &["a"])).1, ["a"]);
        assert!(!supervisor.has_given_up());
        now += 1;
        verdict = supervisor.on_exit("a", Cause::Error, at(now), &["a"]);
    }
    assert_eq!(cooldowns, [300, 600, 1200, 2400, 3600, 3600]);
}

#[test]
fn staying_up_for_two_periods_ends_probation() {
    let mut supervisor = supervisor(1, 10);
    supervisor.on_exit("a", Cause::Error, at(0), &["a"]);
    supervisor.on_exit("a", Cause::Error, at(1), &["a"]);
    assert!(supervisor.has_given_up());
    supervisor.try_again(at(301), &["a"]);
    supervisor.on_running("a", at(302));
    let verdict = supervisor.on_exit("a", Cause::Error, at(322), &["a"]);
    assert!(matches!(verdict, Verdict::Restart { attempt: 1, .. }), "{verdict:?}");
    let verdict = supervisor.on_exit("a", Cause::Error, at(323), &["a"]);
    let cooldown = Some(Duration::from_secs(300));
    assert_eq!(verdict, Verdict::GiveUp { stop: vec![], cooldown }, "the first cooldown again");
}

#[test]
fn reset_forgives_at_once() {
    let mut supervisor = supervisor(1, 60);
    supervisor.on_exit("a", Cause::Error, at(0), &["a"]);
    supervisor.on_exit("a", Cause::Error, at(1), &["a"]);
    supervisor.reset();
    assert_eq!(supervisor.restarts(at(1)), 0);
    let verdict = supervisor.on_exit("a", Cause::Error, at(2), &["a"]);
    assert!(matches!(verdict, Verdict::Restart { attempt: 1, .. }));
}

#[test]
fn budgets_of_two_levels_multiply() {
    let policy = Policy {
        intensity: 10,
        period: Duration::from_secs(3600),
        escalates: true,
        ..Policy::default()
    };
    let mut top = Supervisor::new(policy.clone(), Box::new(ceiling));
    let mut below = Supervisor::new(policy, Box::new(ceiling));
    let mut restarts = 0;
    loop {
        match below.on_exit("a", Cause::Error, at(0), &["a"]) {
            Verdict::Restart { .. } => restarts += 1,
            Verdict::GiveUp { cooldown, .. } => {
                assert_eq!(cooldown, None, "the one above decides");
                match top.on_exit("below", Cause::Error, at(0), &["below"]) {
                    Verdict::Restart { .. } => below.reset(),
                    _ => break,
                }
            }
            Verdict::Leave => panic!("a failure was left alone"),
        }
    }
    assert_eq!(restarts, 110);
}

#[test]
fn what_is_said_otherwise_takes_the_place_of_the_rest() {
    let said = serde_json::json!({"intensity": 9, "period": 1.5, "backoff": {"jitter": "none",
        "initial_delay": 0.5, "max_delay": 3}, "on_loss": {"a": "stop"}});
    let said = Overrides::from_options(said.as_object().unwrap());
    let policy = said.over(&Policy::default());
    assert_eq!((policy.intensity, policy.period), (9, Duration::from_millis(1500)));
    assert_eq!(policy.cooldown, Duration::from_secs(300), "as for everybody");
    let wait = policy.wait.backoff(3);
    let waits: Vec<f64> = (1..=6).map(|n| wait(n).as_secs_f64()).collect();
    assert_eq!(waits, [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]);
    assert_eq!(policy.wait.ceiling(u32::MAX), Duration::from_secs(3));
}

#[test]
fn surrender_gives_up_at_once_and_cooldown_zero_is_none() {
    let policy = Policy { cooldown: Duration::ZERO, ..Policy::default() };
    let mut supervisor = Supervisor::new(policy, Box::new(ceiling));
    let verdict = supervisor.surrender("a", at(0), &["a", "b"]);
    assert_eq!(verdict, Verdict::GiveUp { stop: strings(&["b"]), cooldown: None });
    assert_eq!(supervisor.surrender("a", at(1), &["a"]), Verdict::Leave);
    assert_eq!(supervisor.try_again(at(9_999), &["a"]), Verdict::Leave);
}
