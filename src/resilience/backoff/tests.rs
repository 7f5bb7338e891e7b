use proptest::prelude::*;

use super::*;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Compares the first waits, in units of `unit` seconds.
#[track_caller]
fn assert_waits(case: &str, backoff: &Backoff, random: f64, unit: f64, expected: &[f64]) {
    backoff.validate().expect(case);
    let mut draws = Draws::fixed(random);
    for (index, expected) in expected.iter().enumerate() {
        let wait = backoff.wait(index as u32 + 1, &mut draws, None).expect(case);
        let got = wait.as_secs_f64() / unit;
        let near = (got - expected).abs() <= 1e-9 / unit + expected * 1e-9;
        assert!(near, "{case}, wait {}: {got} instead of {expected}", index + 1);
    }
}

#[test]
fn curves_give_the_figures_of_the_cases() {
    let ms = |n| Duration::from_millis(n);
    let plain = |backoff: Backoff| backoff.with_jitter(Jitter::None);
    let expo = |base, factor| plain(Backoff::exponential(secs(base), factor));
    let exact = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
    assert_waits("rt-001", &expo(1.0, 2.0), 0.5, 1.0, &exact);
    let linear = plain(Backoff::linear(ms(500), 0.1));
    assert_waits("rt-006", &linear, 0.5, 1e-3, &[500.0, 600.0, 700.0, 800.0]);
    let shrinking = plain(Backoff::linear(ms(500), -0.2));
    assert_waits("rt-007", &shrinking, 0.5, 1e-3, &[500.0, 300.0, 100.0, 0.0, 0.0]);
    let capped = expo(2.0, 3.0).with_cap(secs(100.0));
    assert_waits("rt-014", &capped, 0.5, 1.0, &[2.0, 6.0, 18.0, 54.0, 100.0, 100.0]);
    let fibonacci = plain(Backoff::fibonacci(secs(1.0))).with_cap(secs(8.0));
    assert_waits("rt-015", &fibonacci, 0.5, 1.0, &[1., 1., 2., 3., 5., 8., 8., 8., 8.]);
    assert_waits("rt-017", &expo(1.0, 1.5), 0.5, 1.0, &[1.0, 1.5, 2.25]);
    let list = plain(Backoff::list(vec![ms(10), ms(20)]));
    assert_waits("list", &list, 0.5, 1e-3, &[10.0, 20.0, 20.0]);
    // A truncation at each step would give 1687 and 2530 (rt-034, to be avoided).
    let whole = [500.0, 750.0, 1125.0, 1687.5, 2531.25];
    assert_waits("rt-034", &expo(0.5, 1.5), 0.5, 1e-3, &whole);
    let geometric = plain(Backoff::geometric(secs(2.0), 3, secs(16.0)));
    assert_waits("rt-040", &geometric, 0.5, 1.0, &[2.0, 4.0, 8.0, 16.0, 16.0, 16.0]);
}

#[test]
fn random_curves_give_the_figures_of_the_cases() {
    let smooth = Backoff::smooth(secs(1.0));
    let exact = [0.897404935579, 1.093003547382, 2.035747962622, 4.045979422784, 8.08363160982];
    assert_waits("rt-031", &smooth, 0.5, 1.0, &exact);
    let aws = Backoff::decorrelated(secs(5.0)).with_cap(secs(2000.0));
    let triples = [15.0, 45.0, 135.0, 405.0, 1215.0, 2000.0, 2000.0];
    assert_waits("rt-038", &aws, 1.0, 1.0, &triples);
    assert_waits("rt-038, lower edge", &aws, 0.0, 1.0, &[5.0, 5.0, 5.0]);
}

#[test]
fn jitters_give_the_figures_of_the_cases() {
    let full = Backoff::exponential(secs(0.5), 2.0).with_cap(secs(60.0));
    assert_waits("rt-009", &full, 1.0, 1.0, &[0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]);
    assert_waits("rt-010", &full, 0.0, 1.0, &[0.0; 8]);
    let factor = |amount| Jitter::Factor { amount, hard_cap: true };
    let constant = Backoff::constant(secs(1.0)).with_jitter(factor(0.25));
    assert_waits("rt-023", &constant, 0.6, 1.0, &[1.05]);
    assert_waits("rt-024", &constant, 1.0, 1.0, &[1.25]);
    let linear = Backoff::linear(secs(1.0), 1.0).with_jitter(factor(0.25));
    for (case, random, third) in
        [("rt-025", 0.0, 2.25), ("rt-026", 0.4, 2.85), ("rt-028", 0.6, 3.15), ("rt-029", 1.0, 3.75)]
    {
        let wait = linear.wait(3, &mut Draws::fixed(random), None);
        assert_eq!(wait, Some(secs(third)), "{case}");
    }
    let grpc = Backoff::exponential(secs(0.1), 2.0).with_cap(secs(1.0)).with_jitter(factor(0.2));
    assert_waits("rt-035", &grpc, 0.0, 1.0, &[0.08, 0.16, 0.32, 0.64, 0.8]);
    assert_waits("fold at the cap", &grpc, 1.0, 1.0, &[0.12, 0.24, 0.48, 0.96, 1.0]);
    let equal =
        Backoff::exponential(secs(10.0), 2.0).with_cap(secs(2000.0)).with_jitter(Jitter::Equal);
    let half = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1000.0, 1000.0];
    assert_waits("rt-037", &equal, 0.0, 1.0, &half);
    let down = Backoff::constant(secs(4.0)).with_jitter(Jitter::Down { amount: 0.25 });
    assert_waits("down", &down, 1.0, 1.0, &[3.0]);
}

#[test]
fn a_factor_jitter_spreads_at_the_cap_instead_of_gathering_there() {
    // rt-011, rt-012 and rt-020 are to be avoided: no spread at the cap, or waits beyond it.
    let backoff = Backoff::exponential(secs(1.0), 2.0)
        .with_cap(secs(10.0))
        .with_jitter(Jitter::Factor { amount: 0.5, hard_cap: true });
    let mut draws = Draws::seeded(7);
    let mut waits: Vec<_> = (0..1_000).map(|_| backoff.wait(9, &mut draws, None)).collect();
    assert!(waits.iter().flatten().all(|wait| *wait <= secs(10.0)));
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 990, "{} different waits", waits.len());
}

#[test]
fn overflow_is_the_cap_or_the_end() {
    let endless = Backoff::exponential(secs(1.0), 2.0).with_jitter(Jitter::None);
    assert_eq!(endless.wait(5_000, &mut Draws::fixed(0.5), None), None);
    let capped = endless.with_cap(secs(7_200.0));
    let wait = capped.wait(5_000, &mut Draws::fixed(0.5), None);
    assert_eq!(wait, Some(secs(7_200.0)), "rt-005");
    let smooth = Backoff::smooth(secs(1.0)).with_cap(secs(60.0));
    let mut draws = Draws::fixed(0.5);
    for n in [2_000, 2_001] {
        assert_eq!(smooth.wait(n, &mut draws, None), Some(secs(60.0)));
    }
}

#[test]
fn a_servers_hint_replaces_the_wait_within_its_own_bound() {
    let backoff = Backoff::default().with_max_server_delay(secs(30.0));
    let mut draws = Draws::seeded(1);
    assert_eq!(backoff.wait(1, &mut draws, Some(secs(20.0))), Some(secs(20.0)));
    assert_eq!(backoff.wait(2, &mut draws, Some(secs(99.0))), Some(secs(30.0)));
}

#[test]
fn a_floor_holds_under_jitter() {
    let backoff = Backoff::default().with_floor(Duration::from_millis(50));
    let wait = backoff.wait(1, &mut Draws::fixed(0.0), None);
    assert_eq!(wait, Some(Duration::from_millis(50)));
}

#[test]
fn figures_that_contradict_each_other_are_refused() {
    let base = secs(1.0);
    for wrong in [
        Backoff::exponential(base, f64::NAN),
        Backoff::exponential(base, 0.0),
        Backoff::linear(base, f64::INFINITY),
        Backoff::list(vec![]),
        Backoff::geometric(base, 0, base),
        Backoff::geometric(Duration::ZERO, 3, base),
        Backoff::constant(base).with_jitter(Jitter::Down { amount: 1.5 }),
        Backoff::smooth(base).with_jitter(Jitter::Full),
        Backoff::constant(base).with_cap(base).with_floor(base * 2),
    ] {
        assert_eq!(wrong.validate().unwrap_err().kind(), Kind::Configuration, "{wrong:?}");
    }
}

fn curves() -> impl Strategy<Value = Curve> {
    prop_oneof![
        Just(Curve::Constant),
        (-1e6..1e6).prop_map(|increment| Curve::Linear { increment }),
        (1e-3..1e3).prop_map(|factor| Curve::Exponential { factor }),
        Just(Curve::Fibonacci),
        prop::collection::vec(0u64..1 << 40, 1..5)
            .prop_map(|waits| Curve::List(waits.into_iter().map(Duration::from_nanos).collect())),
        Just(Curve::Decorrelated),
        Just(Curve::Smooth),
        (1u32..20).prop_map(|steps| Curve::Geometric { steps }),
    ]
}

fn jitters() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0.0..=1.0).prop_map(|amount| Jitter::Factor { amount, hard_cap: true }),
        (0.0..=1.0).prop_map(|amount| Jitter::Down { amount }),
    ]
}

proptest! {
    #[test]
    fn no_wait_is_above_the_cap_or_missing(
        curve in curves(),
        jitter in jitters(),
        base in 1u64..1 << 40,
        cap in 1u64..1 << 50,
        start in 1u32..3_000,
        seed: u64,
    ) {
        let cap = Duration::from_nanos(cap);
        let mut backoff = Backoff::new(curve, Duration::from_nanos(base)).with_cap(cap);
        if backoff.jitter != Jitter::None {
            backoff = backoff.with_jitter(jitter);
        }
        prop_assert!(backoff.validate().is_ok());
        let mut draws = Draws::seeded(seed);
        for n in start..start + 20 {
            let wait = backoff.wait(n, &mut draws, None);
            prop_assert!(wait.is_some_and(|wait| wait <= cap), "{backoff:?} {n}: {wait:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits(seed: u64) {
        let run = || {
            let mut draws = Draws::seeded(seed);
            (1..9).map(|n| Backoff::default().wait(n, &mut draws, None)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }
}
