//! The registry: ordered start and stop, blocking, supervision.

mod support;

use std::sync::Arc;

use serde_json::json;
use support::{Act, Ear, Log, Scripted, Sim, calls, config, defaults, secs};
use tiebeam::bus::{Bus, BusSettings, Executor, Subscription};
use tiebeam::error::{Error, Kind};
use tiebeam::event::Event;
use tiebeam::lifecycle::State;
use tiebeam::registry::supervision::Cause;
use tiebeam::registry::{Registry, RegistryOptions, Slot};

struct World {
    sim: Sim,
    log: Log,
    registry: Registry,
    ear: Ear,
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut RegistryOptions)) -> World {
        let sim = Sim::new();
        let bus = Bus::new(BusSettings::default(), sim.clock.clone());
        let config = defaults();
        let mut options = RegistryOptions::from_config(&config);
        change(&mut options);
        let ear = Ear::on(&bus, "system.#");
        let registry = Registry::new(bus, config, options, sim.spawner());
        World { sim, log: Log::default(), registry, ear }
    }

    fn add(&self, name: &str, script: impl FnOnce(Scripted) -> Scripted) -> Arc<Scripted> {
        let component = Arc::new(script(Scripted::new(name, &self.sim.clock, &self.log)));
        self.registry.register(component.clone()).unwrap();
        component
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        self.registry.get(name).unwrap()
    }

    fn states(&self) -> Vec<(String, State)> {
        let slots = self.registry.slots();
        slots.iter().map(|slot| (slot.name().to_owned(), slot.state())).collect()
    }

    fn start_all(&mut self) -> tiebeam::registry::StartReport {
        let registry = self.registry.clone();
        self.sim.run(async move { registry.start_all().await }).unwrap()
    }

    fn stop_all(&mut self, seconds: f64) -> tiebeam::registry::StopReport {
        let registry = self.registry.clone();
        self.sim.run(async move { registry.stop_all(secs(seconds)).await })
    }

    fn fail(&mut self, name: &str) {
        let error = Error::new(Kind::Transient, "test", "lost its wits");
        assert!(self.registry.component_failed(name, Cause::Error, error).unwrap());
    }
}

fn states(pairs: &[(&str, State)]) -> Vec<(String, State)> {
    pairs.iter().map(|(name, state)| (name.to_string(), *state)).collect()
}

#[test]
fn dependencies_start_first_and_independent_ones_at_the_same_time() {
    let mut world = World::new();
    world.add("c", |c| c.depends_on(&["a", "b"]));
    world.add("a", |c| c.on("start", [Act::Take(2.0)]));
    world.add("b", |c| c.on("start", [Act::Take(1.0)]));
    let report = world.start_all();
    assert_eq!(report.started, ["b", "a", "c"]);
    assert!(report.is_complete());
    assert_eq!(world.sim.now(), 2.0, "one after the other would be 3 s");
    assert_eq!(
        calls(&world.log, &["start"]),
        ["a start", "b start", "b start done", "a start done", "c start"]
    );
    let path = ["initialized>configured", "configured>starting", "starting>running"];
    for name in ["a", "b", "c"] {
        assert_eq!(world.ear.path(name), path);
    }
    let a = world.ear.of("system.component.running")[1].clone();
    assert_eq!(a["component"], "a");
    assert_eq!(a["duration_ms"], 2_000);
    assert_eq!(a["cause"], "started");
}

/// Looks at the registry whenever it hears of a change.
#[derive(Debug)]
struct Witness(Registry, std::sync::Mutex<Vec<(String, State)>>);

impl Executor for Witness {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        let payload = event.payload.to_json_value();
        let slot = self.0.get(payload["component"].as_str().unwrap()).unwrap();
        self.1.lock().unwrap().push((payload["to"].as_str().unwrap().into(), slot.state()));
        subscription.handled_inline(event);
    }

    fn describe(&self) -> &'static str {
        "test"
    }
}

#[test]
fn an_event_is_told_after_the_state_is_visible() {
    let mut world = World::new();
    world.add("a", |c| c);
    let witness = Arc::new(Witness(world.registry.clone(), Default::default()));
    let wish = support::options("witness", None);
    world.registry.bus().subscribe("system.component.*", wish, witness.clone()).unwrap();
    world.start_all();
    world.stop_all(1.0);
    let seen = witness.1.lock().unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|(told, state)| told == state.as_str()), "{seen:?}");
}

#[test]
fn components_may_go_down_and_come_up_together() {
    use tiebeam::registry::supervision::Strategy;
    let mut world = World::with(|options| options.supervision.strategy = Strategy::RestForOne);
    for name in ["a", "b", "c"] {
        world.add(name, |c| c);
    }
    world.start_all();
    world.log.lock().unwrap().clear();
    world.fail("b");
    world.sim.settle();
    assert_eq!(calls(&world.log, &["start", "stop"]), ["c stop", "b stop", "b start", "c start"]);
}

#[test]
fn a_failure_blocks_its_dependents_and_nothing_else() {
    let mut world = World::new();
    world.add("a", |c| c.always("start", Act::Fail(Kind::Dependency, "no route")));
    world.add("b", |c| c.depends_on(&["a"]));
    world.add("c", |c| c.depends_on(&["b"]));
    world.add("d", |c| c);
    let report = world.start_all();
    assert_eq!(report.started, ["d"]);
    assert_eq!(report.failed[0].0, "a");
    assert_eq!(report.failed[0].1.kind(), Kind::Dependency);
    let cause = "blocked by a: no route".to_owned();
    assert_eq!(report.blocked, [("b".into(), cause.clone()), ("c".into(), cause.clone())]);
    use State::{Configured, Failed, Running};
    let expected = [("a", Failed), ("b", Configured), ("c", Configured), ("d", Running)];
    assert_eq!(world.states(), states(&expected));
    assert_eq!(calls(&world.log, &["start"]), ["a start", "d start"]);
    assert_eq!(world.slot("c").status().cause, cause);
    assert_eq!(world.slot("c").status().blocked_by.as_deref(), Some("a"));
    let told = world.ear.of("system.component.configured");
    assert!(told.iter().any(|e| e["component"] == "b" && e["cause"] == cause.as_str()));
    let error = &world.ear.of("system.error.dependency")[0];
    assert_eq!((&error["component"], &error["hook"]), (&json!("a"), &json!("start")));
}

#[test]
fn who_depended_resumes_in_order_when_the_dependency_recovers() {
    let mut world = World::new();
    world.add("a", |c| c.on("start", [Act::Fail(Kind::Transient, "not today")]));
    world.add("b", |c| c.depends_on(&["a"]));
    world.add("c", |c| c.depends_on(&["b"]));
    world.start_all();
    let registry = world.registry.clone();
    world.sim.run(async move { registry.start("a").await }).unwrap();
    assert_eq!(calls(&world.log, &["start"]), ["a start", "a start", "b start", "c start"]);
    assert!(world.states().iter().all(|(_, state)| *state == State::Running));
    assert_eq!(world.slot("c").status().blocked_by, None);
}

#[test]
fn a_hook_that_hangs_fails_after_the_service_timeout() {
    for hook in ["initialize", "configure", "start"] {
        let mut world = World::new();
        world.add("a", |c| c.always(hook, Act::Hang));
        world.add("b", |c| c.depends_on(&["a"]));
        let report = world.start_all();
        assert_eq!(world.sim.now(), 30.0, "{hook}");
        assert_eq!(report.failed[0].1.kind(), Kind::Timeout, "{hook}");
        assert_eq!(report.failed[0].1.get("hook"), Some(hook));
        assert_eq!(world.slot("b").state(), State::Configured, "{hook}");
        assert!(calls(&world.log, &["start"]).iter().all(|call| call != "b start"), "{hook}");
    }
}

#[test]
fn a_panic_is_an_internal_error_and_the_rest_goes_on() {
    let mut world = World::new();
    world.add("a", |c| c.always("start", Act::Panic("boom")));
    world.add("b", |c| c);
    let report = world.start_all();
    assert_eq!(report.failed[0].1.kind(), Kind::Internal);
    assert!(report.failed[0].1.message().contains("boom"));
    assert_eq!(world.slot("b").state(), State::Running);
    assert_eq!(world.ear.of("system.error.internal").len(), 1);
}

#[test]
fn a_cycle_starts_nothing() {
    let mut world = World::new();
    world.add("a", |c| c.depends_on(&["b"]));
    world.add("b", |c| c.depends_on(&["a"]));
    world.add("c", |c| c);
    let registry = world.registry.clone();
    let error = world.sim.run(async move { registry.start_all().await }).unwrap_err();
    assert_eq!(error.kind(), Kind::DependencyCycle);
    assert!(error.message().contains("a -> b -> a"), "{error}");
    assert!(world.log.lock().unwrap().is_empty());
    assert!(world.states().iter().all(|(_, state)| *state == State::Initialized));
}

#[test]
fn not_ready_is_tried_again_with_growing_waits() {
    let not_yet = || Act::Fail(Kind::NotReady, "warming up");
    let mut world = World::new();
    world.add("a", |c| c.on("start", [not_yet(), not_yet()]));
    assert_eq!(world.start_all().started, ["a"]);
    assert_eq!(world.sim.now(), 1.5);
    assert_eq!(calls(&world.log, &["start"]).len(), 3);
    assert!(world.ear.of("system.error.transient").is_empty(), "not yet is no error");

    let mut world = World::new();
    world.add("a", |c| c.always("start", not_yet()));
    let report = world.start_all();
    assert_eq!(report.failed[0].1.kind(), Kind::NotReady);
    assert!(world.sim.now() <= 90.0 && world.sim.now() > 80.0, "{}", world.sim.now());
}

#[test]
fn what_is_wanted_and_missing_degrades_until_it_is_there() {
    let mut world = World::new();
    world.add("a", |c| c.on("start", [Act::Fail(Kind::Transient, "no")]));
    world.add("b", |c| c.wants(&["a"]));
    world.add("c", |c| c.wants(&["nobody"]));
    world.start_all();
    assert_eq!(world.slot("b").state(), State::Degraded);
    assert_eq!(world.slot("b").status().cause, "without a: failed (no)");
    assert_eq!(world.slot("c").status().cause, "without nobody: absent");
    let registry = world.registry.clone();
    world.sim.run(async move { registry.start("a").await }).unwrap();
    assert_eq!(world.slot("b").state(), State::Running);
    assert_eq!(world.ear.path("b").last().unwrap(), "degraded>running");
    assert_eq!(world.slot("c").state(), State::Degraded);
    let registry = world.registry.clone();
    world.sim.run(async move { registry.stop("a").await }).unwrap();
    assert_eq!(world.slot("b").state(), State::Degraded);
}

#[test]
fn stop_goes_backwards_past_errors_and_only_where_start_was_entered() {
    let mut world = World::new();
    world.add("a", |c| c.on("stop", [Act::Take(1.0)]));
    world.add("b", |c| c.depends_on(&["a"]).on("stop", [Act::Panic("no")]));
    world.add("c", |c| c.depends_on(&["b"]).on("stop", [Act::Fail(Kind::Permanent, "never")]));
    world.add("x", |c| c.always("start", Act::Fail(Kind::Transient, "half")));
    world.add("y", |c| c.depends_on(&["x"]));
    world.start_all();
    let report = world.stop_all(30.0);
    let stops: Vec<String> = calls(&world.log, &["stop"]);
    // x failed in `start`, so that it is cleaned up; y never started.
    assert_eq!(stops, ["c stop", "x stop", "b stop", "a stop", "a stop done"]);
    let failed: Vec<_> = report.failed.iter().map(|(name, e)| (name.as_str(), e.kind())).collect();
    assert_eq!(failed, [("c", Kind::Permanent), ("b", Kind::Internal)]);
    assert_eq!(report.stopped, ["y", "x", "a"]);
    assert_eq!(world.ear.path("y").last().unwrap(), "configured>stopped");
    let x = world.ear.path("x");
    assert_eq!(x[x.len() - 3..], ["starting>failed", "failed>stopping", "stopping>stopped"]);
    world.stop_all(30.0);
    assert_eq!(calls(&world.log, &["stop"]).len(), 5, "twice is once");
}

#[test]
fn stopping_keeps_its_deadline_and_reaches_everybody() {
    let mut world = World::new();
    world.add("a", |c| c);
    world.add("b", |c| c.depends_on(&["a"]).always("stop", Act::Hang));
    world.add("c", |c| c.always("stop", Act::Hang));
    world.start_all();
    let report = world.stop_all(5.0);
    assert_eq!(report.took, secs(5.0));
    assert_eq!(report.stopped, ["a"]);
    assert!(report.failed.iter().all(|(_, error)| error.kind() == Kind::Timeout));
    assert_eq!(world.slot("b").state(), State::Failed);
}

#[test]
fn one_that_hangs_leaves_time_to_those_it_depends_on() {
    let mut world = World::new();
    world.add("a", |c| c.on("stop", [Act::Take(0.4)]));
    world.add("b", |c| c.depends_on(&["a"]).on("stop", [Act::Take(0.4)]));
    world.add("c", |c| c.depends_on(&["b"]).always("stop", Act::Hang));
    world.start_all();
    let report = world.stop_all(3.0);
    assert_eq!(report.stopped, ["b", "a"]);
    assert_eq!(report.failed[0].0, "c");
    assert_eq!(report.took, secs(2.0 + 0.4 + 0.4));
}

#[test]
fn a_stop_cuts_a_start_short() {
    let mut world = World::new();
    world.add("a", |c| c.on("start", [Act::Hang]));
    let registry = world.registry.clone();
    world.sim.spawn(async move {
        let report = registry.start_all().await.unwrap();
        assert_eq!(report.interrupted, ["a"]);
    });
    world.sim.advance(1.0);
    assert_eq!(world.slot("a").state(), State::Starting);
    let report = world.stop_all(10.0);
    assert_eq!((report.took, world.sim.now()), (secs(0.0), 1.0));
    assert_eq!(calls(&world.log, &["start", "stop"]), ["a start", "a stop"]);
    let path = world.ear.path("a");
    assert_eq!(path[1..], ["configured>starting", "starting>stopping", "stopping>stopped"]);
}

#[test]
fn a_start_that_is_dropped_leaves_nobody_starting() {
    let mut world = World::new();
    world.add("a", |c| c.on("start", [Act::Hang]));
    let (registry, clock) = (world.registry.clone(), world.sim.clock.clone());
    let late = world.sim.run(async move { clock.timeout(secs(1.0), registry.start_all()).await });
    assert!(late.is_err());
    assert_eq!(world.slot("a").state(), State::Failed);
    let report = world.stop_all(1.0);
    assert_eq!(report.stopped, ["a"]);
    assert_eq!(calls(&world.log, &["stop"]).len(), 1);
}

#[test]
fn restart_is_stop_configure_start_with_dependents_after_it() {
    let mut world = World::new();
    world.add("a", |c| c);
    world.add("b", |c| c.depends_on(&["a"]));
    world.start_all();
    world.log.lock().unwrap().clear();
    let registry = world.registry.clone();
    world.sim.run(async move { registry.restart("a").await }).unwrap();
    let expected = ["b stop", "a stop", "a configure", "a start", "b configure", "b start"];
    assert_eq!(*world.log.lock().unwrap(), expected);
    assert!(world.states().iter().all(|(_, state)| *state == State::Running));
}

#[test]
fn supervision_restarts_and_dependents_follow() {
    let mut world = World::new();
    world.add("a", |c| c);
    world.add("b", |c| c.depends_on(&["a"]));
    world.add("z", |c| c);
    world.start_all();
    world.log.lock().unwrap().clear();
    world.fail("a");
    assert_eq!(world.slot("a").state(), State::Failed, "at once, before anybody runs");
    world.sim.settle();
    let expected = ["b stop", "a stop", "a configure", "a start", "b configure", "b start"];
    assert_eq!(*world.log.lock().unwrap(), expected, "the first restart does not wait");
    assert_eq!(world.slot("a").status().restarts, 1);
    assert_eq!(world.slot("z").status().restarts, 0);
    assert_eq!(world.ear.of("system.supervisor.restarting")[0]["attempt"], 1);
    let path = world.ear.path("a");
    let again = [
        "running>failed",
        "failed>stopping",
        "stopping>stopped",
        "stopped>configured",
        "configured>starting",
        "starting>running",
    ];
    assert_eq!(path[3..], again);
}

#[test]
fn supervision_gives_up_when_restarts_do_not_help() {
    let run = || {
        let mut world = World::new();
        world.add("a", |c| {
            c.on("start", [Act::Ok]).always("start", Act::Fail(Kind::Transient, "no"))
        });
        world.add("b", |c| c.depends_on(&["a"]));
        world.start_all();
        world.fail("a");
        world.sim.advance(120.0);
        let slot = world.slot("a");
        assert_eq!(slot.state(), State::Failed);
        assert!(slot.status().given_up);
        assert_eq!(slot.status().cause, "gave up: no");
        assert_eq!(
            calls(&world.log, &["start"]),
            ["a start", "b start", "a start", "a start", "a start"]
        );
        assert_eq!(world.ear.of("system.supervisor.gave_up").len(), 1);
        // One stop for each start that was entered.
        let stops = calls(&world.log, &["stop"]);
        assert_eq!(stops.iter().filter(|call| *call == "a stop").count(), 4);
        assert_eq!(world.slot("b").status().blocked_by.as_deref(), Some("a"));
        world.ear.all()
    };
    assert_eq!(run(), run(), "the same every time");
}

#[test]
fn a_temporary_component_stays_failed_and_a_stopped_one_stays_stopped() {
    use tiebeam::registry::supervision::RestartType;
    let mut world = World::new();
    world.add("a", |mut c| {
        c.descriptor.restart = Some(RestartType::Temporary);
        c
    });
    world.add("b", |c| c);
    world.start_all();
    world.fail("a");
    world.sim.advance(10.0);
    assert_eq!(world.slot("a").state(), State::Failed);
    world.fail("b");
    let registry = world.registry.clone();
    world.sim.run(async move { registry.stop("b").await }).unwrap();
    world.sim.advance(100.0);
    assert_eq!(world.slot("b").state(), State::Stopped);
}

#[test]
fn a_configuration_may_say_who_is_restarted_and_in_what_group_one_is() {
    let config = config(json!({"components": {
        "agents": {"a": {"enabled": true, "restart": "temporary", "window": 3}},
        "off": {"enabled": false},
    }}));
    let options = RegistryOptions::from_config(&config);
    assert_eq!(options.rules.disabled, ["off"]);
    let sim = Sim::new();
    let bus = Bus::new(BusSettings::default(), sim.clock.clone());
    let registry = Registry::new(bus, config, options, sim.spawner());
    let mut world =
        World { ear: Ear::on(registry.bus(), "system.#"), sim, log: Log::default(), registry };
    let a = world.add("a", |c| c);
    world.add("b", |c| c.depends_on(&["agents"]));
    world.start_all();
    assert_eq!(*a.configured.lock().unwrap(), Some(json!({"window": 3})));
    assert_eq!(calls(&world.log, &["start"]), ["a start", "b start"]);
    world.fail("a");
    world.sim.advance(60.0);
    assert_eq!(world.slot("a").state(), State::Failed);
}

#[test]
fn lookup_leaves_the_unhealthy_out_unless_asked() {
    let mut world = World::new();
    let with = |c: Scripted| {
        let mut c = c;
        c.descriptor.capabilities = vec!["prices".into()];
        c
    };
    world.add("a", |c| with(c).wants(&["nobody"]));
    world.add("b", with);
    world.add("c", |c| with(c).always("start", Act::Fail(Kind::Transient, "no")));
    world.start_all();
    let names = |unhealthy| -> Vec<String> {
        let found = world.registry.by_capability("prices", unhealthy);
        found.iter().map(|slot| slot.name().to_owned()).collect()
    };
    assert_eq!(names(false), ["b", "a"], "running before degraded");
    assert_eq!(names(true).len(), 3);
    assert!(world.registry.get("aa").unwrap_err().message().contains("did you mean `a`"));
    let again = Arc::new(Scripted::new("a", &world.sim.clock, &world.log));
    assert_eq!(world.registry.register(again).unwrap_err().kind(), Kind::Configuration);
}

#[test]
fn a_configuration_that_fails_on_the_way_back_fails_the_component() {
    let mut world = World::new();
    let a = world.add("a", |c| c);
    world.start_all();
    a.then("configure", Act::Fail(Kind::Configuration, "no such window"));
    let registry = world.registry.clone();
    let error = world.sim.run(async move { registry.restart("a").await }).unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Configuration, "no such window"));
    assert_eq!(world.slot("a").state(), State::Failed);
    let path = world.ear.path("a");
    assert_eq!(path[path.len() - 2..], ["stopped>configured", "configured>failed"]);
    assert_eq!(calls(&world.log, &["start"]).len(), 1);
}

#[test]
fn a_stop_cuts_an_initialization_short() {
    let mut world = World::new();
    world.add("a", |c| c.on("initialize", [Act::Hang]));
    let registry = world.registry.clone();
    world.sim.spawn(async move {
        registry.start_all().await.unwrap();
    });
    world.sim.advance(1.0);
    let report = world.stop_all(10.0);
    assert_eq!((report.stopped, report.took), (vec!["a".to_owned()], secs(0.0)));
    assert!(calls(&world.log, &["start", "stop"]).is_empty());
    let registry = world.registry.clone();
    let error = world.sim.run(async move { registry.start("a").await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Closed);
}

#[test]
fn a_dependent_that_failed_by_itself_does_not_come_back_with_its_dependency() {
    let mut world = World::new();
    world.add("a", |c| c);
    world.add("b", |c| c.depends_on(&["a"]).on("start", [Act::Fail(Kind::Permanent, "own")]));
    world.start_all();
    let registry = world.registry.clone();
    world.sim.run(async move { registry.restart("a").await }).unwrap();
    assert_eq!(world.slot("b").state(), State::Failed);
    assert_eq!(world.slot("b").status().cause, "own");
}

#[test]
fn one_that_is_not_at_work_cannot_fail_at_work() {
    let mut world = World::new();
    world.add("a", |c| c);
    world.start_all();
    world.stop_all(1.0);
    let error = Error::new(Kind::Transient, "test", "late");
    assert!(!world.registry.component_failed("a", Cause::Error, error).unwrap());
    assert_eq!(world.slot("a").state(), State::Stopped);
    assert_eq!(world.registry.unregister("a").unwrap().name(), "a");
    assert!(world.registry.slots().is_empty());
}

/// Panics at whatever it hears.
#[derive(Debug)]
struct Panicky;

impl Executor for Panicky {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        subscription.handled_inline(event);
        panic!("a subscriber panics");
    }

    fn describe(&self) -> &'static str {
        "test"
    }
}

#[test]
fn a_subscriber_that_panics_does_not_end_supervision() {
    let mut world = World::new();
    world.add("a", |c| c);
    world.start_all();
    let wish = support::options("panicky", None);
    let pattern = "system.supervisor.restarting";
    world.registry.bus().subscribe(pattern, wish, Arc::new(Panicky)).unwrap();
    for _ in 0..2 {
        let error = Error::new(Kind::Transient, "test", "struck");
        assert!(world.registry.component_failed("a", Cause::Error, error).unwrap());
        world.sim.advance(10.0);
        assert_eq!(world.slot("a").state(), State::Running);
    }
    assert_eq!(world.slot("a").status().restarts, 2);
}

#[test]
fn a_panic_in_supervision_is_told_and_ends_nothing_else() {
    // A wait that no configuration can say, and that no clock can keep.
    let mut world = World::with(|options| options.supervision.wait.multiplier = -1.0);
    world.add("a", |c| c);
    world.start_all();
    let strike = |world: &mut World| {
        let error = Error::new(Kind::Transient, "test", "struck");
        assert!(world.registry.component_failed("a", Cause::Error, error).unwrap());
        world.sim.advance(5.0);
    };
    strike(&mut world);
    strike(&mut world);
    assert_eq!(world.slot("a").state(), State::Running);
    strike(&mut world);
    let status = world.slot("a").status();
    assert_eq!((status.state, status.given_up), (State::Failed, true));
    let told = world.ear.of("system.error.internal");
    assert_eq!(told.last().unwrap()["hook"], "supervise");
    assert!(status.cause.contains("supervision of `a` panicked"), "{}", status.cause);
    let registry = world.registry.clone();
    world.sim.run(async move { registry.start("a").await }).unwrap();
    assert_eq!(world.slot("a").state(), State::Running);
    world.sim.advance(200.0);
    strike(&mut world);
    assert_eq!(world.slot("a").state(), State::Running, "the desk is not busy for ever");
}

#[test]
fn who_fails_while_it_starts_cuts_its_start_short() {
    let mut world = World::new();
    world.add("a", |c| c.on("start", [Act::Hang]));
    let registry = world.registry.clone();
    let starting = Arc::new(std::sync::Mutex::new(None));
    let report = starting.clone();
    world.sim.spawn(async move {
        *report.lock().unwrap() = Some(registry.start_all().await.unwrap());
    });
    world.sim.settle();
    let error = || Error::new(Kind::Transient, "test", "struck");
    assert!(world.registry.component_failed("a", Cause::Error, error()).unwrap());
    assert!(!world.registry.component_failed("a", Cause::Error, error()).unwrap());
    world.sim.settle();
    assert_eq!(world.slot("a").state(), State::Failed);
    let report = starting.lock().unwrap().take().unwrap();
    assert_eq!(report.failed[0].1.message(), "struck");
}
