use super::*;

fn token(ratio: f64, min_per_second: u32, ttl: u64) -> BudgetRule {
    BudgetRule::Token { ratio, min_per_second, ttl: Duration::from_secs(ttl) }
}

fn budget(rule: BudgetRule) -> (RetryBudget, Clock) {
    let clock = Clock::simulated(0);
    (RetryBudget::seeded(rule, clock.clone(), 1).unwrap(), clock)
}

#[test]
fn bu_001_to_bu_006_the_share_of_calls_that_may_be_retried() {
    for (case, rule, initial, expected) in [
        ("bu-001", token(0.1, 0, 60), 0.0, 1_000_i32),
        ("bu-002", token(0.5, 0, 60), 0.0, 5_000),
        ("bu-003", token(0.25, 0, 60), 0.0, 2_500),
        ("bu-006", token(0.5, 5, 2), 10.0, 5_010),
    ] {
        let (budget, _) = budget(rule);
        assert_eq!(budget.balance(), initial, "{case}");
        let retries = (0..10_000).filter(|_| budget.enter().retry()).count();
        assert!((retries as i32 - expected).abs() <= 1, "{case}: {retries}");
    }
}

#[test]
fn bu_007_and_bu_009_deposits_and_the_reserve() {
    let (deposits, _) = budget(token(2.0, 0, 60));
    (0..10_000).for_each(|_| drop(deposits.enter()));
    assert_eq!(deposits.balance(), 20_000.0);
    let (reserve, clock) = budget(token(1.0, 5, 1));
    let mut call = reserve.resume();
    let granted: Vec<_> = (0..6).map(|_| call.retry()).collect();
    assert_eq!(granted, [true, true, true, true, true, false]);
    clock.advance(Duration::from_secs(1));
    assert!(call.retry(), "withdrawals from the reserve expire too");
}

#[test]
fn deposits_expire() {
    let (budget, clock) = budget(token(1.0, 0, 10));
    drop(budget.enter());
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(budget.balance(), 1.0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(budget.balance(), 0.0);
}

#[test]
fn bu_010_and_bu_011_the_throttle() {
    let run = |max, ratio, steps: &[(bool, f64, bool)]| {
        let (budget, _) = budget(BudgetRule::Throttle { max, ratio });
        let mut call = budget.enter();
        for (index, (ok, tokens, allowed)) in steps.iter().enumerate() {
            if *ok {
                call.succeeded()
            } else {
                call.failed()
            }
            assert!((budget.balance() - tokens).abs() < 1e-9, "step {index}");
            assert_eq!(call.retry(), *allowed, "step {index}");
        }
    };
    let (ok, fail) = (true, false);
    run(
        10.0,
        0.1,
        &[
            (fail, 9.0, true),
            (fail, 8.0, true),
            (fail, 7.0, true),
            (fail, 6.0, true),
            (fail, 5.0, false),
            (ok, 5.1, true),
            (fail, 4.1, false),
        ],
    );
    run(
        2.0,
        0.5,
        &[
            (ok, 2.0, true),
            (fail, 1.0, false),
            (fail, 0.0, false),
            (fail, 0.0, false),
            (ok, 0.5, false),
            (ok, 1.0, false),
            (ok, 1.5, true),
        ],
    );
}

#[test]
fn bu_012_retrying_calls_are_a_share_of_the_active_ones() {
    for (active, expected) in [(25, 5), (2, 2)] {
        let (budget, _) = budget(BudgetRule::Concurrency { ratio: 0.2, min: 3 });
        let mut calls: Vec<_> = (0..active).map(|_| budget.enter()).collect();
        let granted = calls.iter_mut().filter_map(|call| call.retry().then_some(())).count();
        assert_eq!(granted, expected, "{active} active");
        assert!(calls[0].retry(), "a call that retries keeps its place");
        drop(calls);
        assert_eq!(budget.balance(), 3.0);
    }
    assert_eq!((allowed(0.2, 3, 25), allowed(0.2, 3, 2)), (5, 3));
}

#[test]
fn bu_013_the_probability_of_a_refusal() {
    for (calls, ok, threshold, expected) in
        [(100, 90, 0, 0.0), (100, 45, 0, 0.495049505), (100, 0, 0, 0.9), (5, 0, 10, 0.0)]
    {
        let got = refusal(calls, ok, 0.9, threshold);
        assert!((got - expected).abs() < 1e-9, "{ok} of {calls}: {got}");
    }
    let window = Duration::from_secs(60);
    let rule = BudgetRule::Adaptive { target: 0.9, threshold: 0, window };
    let (budget, clock) = budget(rule);
    let mut call = budget.enter();
    (0..100).for_each(|_| call.failed());
    let granted = (0..1_000).filter(|_| call.retry()).count();
    assert!((50..150).contains(&granted), "{granted} of 1000 at 90 % refusal");
    clock.advance(window);
    assert_eq!(budget.balance(), 1.0);
}

#[test]
fn figures_outside_their_range_are_refused() {
    let window = Duration::ZERO;
    for rule in [
        token(-0.1, 0, 10),
        token(f64::NAN, 0, 10),
        token(0.1, 0, 61),
        BudgetRule::Throttle { max: 0.0, ratio: 0.1 },
        BudgetRule::Concurrency { ratio: 1.1, min: 0 },
        BudgetRule::Adaptive { target: 0.0, threshold: 0, window },
    ] {
        let refused = RetryBudget::new(rule, Clock::simulated(0)).unwrap_err();
        assert_eq!(refused.kind(), Kind::Configuration, "{rule:?}");
    }
}
