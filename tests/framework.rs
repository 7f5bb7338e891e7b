//! The whole: health, error handling, and the composition root, in virtual time.

mod support;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Act, EPOCH_MS, Ear, Log, Scripted, Sim, answer, calls, config, options};
use tiebeam::bus::{Bus, Draft, Executor, Failure, Policy, Subscription};
use tiebeam::error::{Category, Error, Kind};
use tiebeam::event::{Payload, Priority};
use tiebeam::framework::{
    Framework, FrameworkState, bus_settings, log_settings, transport_options,
};
use tiebeam::health::{Check, CheckKind, Verdict};
use tiebeam::lifecycle::State;
use tiebeam::recovery::Route;
use tiebeam::transport::outbox::Full;

struct World {
    sim: Sim,
    log: Log,
    framework: Framework,
    ear: Ear,
}

impl World {
    fn new(tree: Value) -> World {
        let sim = Sim::new();
        let framework = Framework::new(config(tree), sim.clock.clone(), sim.spawner()).unwrap();
        let ear = Ear::on(framework.bus(), "system.#");
        World { sim, log: Log::default(), framework, ear }
    }

    fn add(&self, name: &str, script: impl FnOnce(Scripted) -> Scripted) -> Arc<Scripted> {
        let component = Arc::new(script(Scripted::new(name, &self.sim.clock, &self.log)));
        self.framework.register(component.clone()).unwrap();
        component
    }

    fn start(&mut self) {
        let framework = self.framework.clone();
        self.sim.run(async move { framework.start().await }).unwrap();
    }

    fn stop(&mut self) -> tiebeam::registry::StopReport {
        let framework = self.framework.clone();
        self.sim.run(async move { framework.stop().await })
    }

    fn state(&self, name: &str) -> State {
        self.framework.registry().get(name).unwrap().state()
    }

    fn report(&self, name: &str) -> Value {
        let report = self.framework.monitor().report(name).unwrap();
        serde_json::to_value(report).unwrap()
    }

    fn alerts(&self) -> Vec<Value> {
        self.ear.of("system.alert")
    }
}

/// Handles inside `publish`; fails as long as it has a failure to give.
#[derive(Debug, Default)]
struct Handler(Mutex<Option<Failure>>);

impl Handler {
    fn failing(category: Category, error_type: &str) -> Arc<Handler> {
        let handler = Handler::default();
        handler.fail_with(category, error_type);
        Arc::new(handler)
    }

    fn fail_with(&self, category: Category, error_type: &str) {
        let (error_type, message) = (error_type.to_owned(), "no luck".to_owned());
        *self.0.lock().unwrap() = Some(Failure {
            traceback: Some("line 1".into()),
            ..Failure::new(category, error_type, message)
        });
    }

    fn subscribe(
        self: &Arc<Self>,
        bus: &Bus,
        component: &str,
        policy: Policy,
    ) -> Arc<Subscription> {
        let mut options = options(&format!("{component}.on_price"), Some(component));
        options.policy = policy;
        bus.subscribe("market_data.*", options, self.clone()).unwrap()
    }
}

impl Executor for Handler {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        let mut batch = VecDeque::new();
        let mut some = subscription.claim(10, &mut batch);
        while some {
            let mut delivered = 0;
            for delivery in batch.drain(..) {
                match self.0.lock().unwrap().clone() {
                    Some(failure) => {
                        subscription.failed(delivery, failure);
                    }
                    None => delivered += 1,
                }
            }
            some = subscription.next(delivered, 10, &mut batch);
        }
    }

    fn describe(&self) -> &'static str {
        "test"
    }
}

fn publish(bus: &Bus, priority: Priority) {
    let payload = Payload::from_json_value(&json!({"price": 1})).unwrap();
    let draft = Draft { priority, ..Draft::new("market_data.price_update", payload) };
    assert!(bus.publish(draft).unwrap().admission.is_none());
}

#[test]
fn health_is_the_requirements_json() {
    let mut world = World::new(json!({}));
    let a = world.add("data_collection_framework", |c| c);
    a.health.lock().unwrap().details.insert("binance_connection".into(), json!("connected"));
    world.start();
    let handler = Arc::new(Handler::default());
    let subscription =
        handler.subscribe(world.framework.bus(), "data_collection_framework", Policy::default());
    subscription.hold(true);
    publish(world.framework.bus(), Priority::Normal);
    world.sim.advance(0.012);
    subscription.hold(false);
    let slot = world.framework.registry().get("data_collection_framework").unwrap();
    slot.meters().published(2);
    assert_eq!(world.report("data_collection_framework")["details"]["event_processing_delay"], 12);
    world.sim.advance(25.0);
    let mut report = world.report("data_collection_framework");
    let memory = report["details"].as_object_mut().unwrap().shift_remove("memory_usage");
    assert!(memory.unwrap().as_f64().unwrap() > 1.0);
    let expected = json!({
        "component_id": "data_collection_framework",
        "status": "running",
        "version": "1.0.0",
        "uptime": 25,
        "last_checked": EPOCH_MS + 20_000,
        "details": {"event_processing_delay": 0, "binance_connection": "connected"},
        "metrics": {"events_processed": 1, "events_published": 2, "errors_encountered": 0},
        "health": "pass",
        "live": true,
        "ready": true,
    });
    assert_eq!(report, expected);
    let system = world.framework.health();
    assert_eq!((system.status, system.live, system.ready), (Verdict::Pass, true, true));
    assert_eq!(system.metrics.events_published, 2);
    assert_eq!(calls(&world.log, &["health_check"]).len(), 3, "at once, at 10 s and at 20 s");
}

#[test]
fn a_check_that_is_taken_out_leaves_nothing_that_waits() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    let monitor = world.framework.monitor().clone();
    world.sim.advance(1.0);
    let before = world.sim.clock.pending();
    let daily = |told, replaces| {
        let check = Check::builder("daily", CheckKind::Resource).period(support::secs(86_400.0));
        monitor.add_check("a", check.build().unwrap(), told, replaces).unwrap();
    };
    for (n, told) in [true, false].into_iter().cycle().take(50).enumerate() {
        daily(told, n > 0);
        world.sim.advance(0.1);
        assert_eq!(world.sim.clock.pending(), before + 1, "the one before has ended");
    }
    monitor.remove_check("a", "daily").unwrap();
    world.sim.advance(0.1);
    assert_eq!(world.sim.clock.pending(), before);
}

#[test]
fn figures_outlive_the_subscription_they_are_from() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    let handler = Arc::new(Handler::default());
    let subscription = handler.subscribe(world.framework.bus(), "a", Policy::default());
    publish(world.framework.bus(), Priority::Normal);
    subscription.cancel();
    assert_eq!(world.report("a")["metrics"]["events_processed"], 1);
    handler.subscribe(world.framework.bus(), "a", Policy::default());
    publish(world.framework.bus(), Priority::Normal);
    assert_eq!(world.report("a")["metrics"]["events_processed"], 2);
}

#[test]
fn a_warning_degrades_and_a_pass_recovers() {
    let mut world = World::new(json!({}));
    let a = world.add("a", |c| c);
    world.start();
    world.sim.advance(10.0);
    *a.health.lock().unwrap() = answer(Verdict::Warn, "slow");
    world.sim.advance(10.0);
    assert_eq!(world.state("a"), State::Degraded);
    assert_eq!(world.report("a")["details"]["reasons"], json!(["health_check: slow"]));
    *a.health.lock().unwrap() = answer(Verdict::Pass, "");
    world.sim.advance(10.0);
    assert_eq!(world.state("a"), State::Running);
    let changes: Vec<String> = world
        .ear
        .of("system.health.changed")
        .iter()
        .map(|e| format!("{}>{}", e["from"].as_str().unwrap(), e["to"].as_str().unwrap()))
        .collect();
    assert_eq!(changes, ["unknown>pass", "pass>warn", "warn>pass"]);
}

#[test]
fn success_threshold_holds_a_recovery_back() {
    let mut world = World::new(json!({"health": {"success_threshold": 2}}));
    let a = world.add("a", |c| c);
    world.start();
    world.sim.advance(10.0);
    *a.health.lock().unwrap() = answer(Verdict::Warn, "slow");
    world.sim.advance(10.0);
    *a.health.lock().unwrap() = answer(Verdict::Pass, "");
    world.sim.advance(10.0);
    assert_eq!(world.state("a"), State::Degraded);
    world.sim.advance(10.0);
    assert_eq!(world.state("a"), State::Running);
}

#[test]
fn three_failed_checks_restart_and_three_failed_recoveries_give_up() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c.always("health_check", Act::Fail(Kind::Transient, "dead line")));
    world.add("b", |c| c.depends_on(&["a"]));
    world.start();
    world.sim.advance(15.0);
    assert_eq!(calls(&world.log, &["start"]).len(), 2);
    assert_eq!(world.state("a"), State::Degraded);
    world.sim.advance(5.5);
    let starts = calls(&world.log, &["start"]);
    assert_eq!(starts, ["a start", "b start", "a start", "b start"], "at the third failure");
    world.sim.advance(200.0);
    let restarts = calls(&world.log, &["start"]).iter().filter(|call| *call == "a start").count();
    assert_eq!(restarts, 4, "the first start and three recoveries");
    assert_eq!(world.state("a"), State::Failed);
    let alerts = world.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(
        (&alerts[0]["component"], &alerts[0]["reason"]),
        (&json!("a"), &json!("supervisor_gave_up"))
    );
    assert_eq!(
        world.framework.registry().get("b").unwrap().status().blocked_by.as_deref(),
        Some("a")
    );
    assert_eq!(world.framework.health().status, Verdict::Fail);
    let stops = calls(&world.log, &["stop"]).iter().filter(|call| *call == "a stop").count();
    assert_eq!(stops, 4);
}

#[test]
fn one_failed_check_is_no_reason_to_restart() {
    let fail = || Act::Fail(Kind::Transient, "blip");
    let mut world = World::new(json!({}));
    world.add("a", |c| c.on("health_check", [fail(), fail(), Act::Ok, fail(), fail(), Act::Ok]));
    world.start();
    world.sim.advance(65.0);
    assert_eq!(calls(&world.log, &["start"]).len(), 1);
    assert_eq!(world.state("a"), State::Running);
}

#[test]
fn a_check_that_hangs_fails_in_its_time_and_never_runs_twice_at_once() {
    let mut world = World::new(json!({"health": {"check_interval": 1, "check_timeout": 5}}));
    world.add("a", |c| c.on("health_check", [Act::Hang]));
    world.start(); // which waits for its first answer, for as long as that may take
    world.sim.advance(0.0);
    assert_eq!((world.sim.now(), calls(&world.log, &["health_check"]).len()), (5.0, 1));
    assert_eq!(world.state("a"), State::Degraded);
    let checks = world.framework.monitor().checks("a").unwrap();
    assert!(
        checks[0]
            .history()
            .iter()
            .next()
            .unwrap()
            .outcome
            .message
            .as_ref()
            .unwrap()
            .contains("within 5 s")
    );
    world.sim.advance(2.0);
    assert_eq!(world.state("a"), State::Running);
}

#[test]
fn an_open_breaker_degrades_until_it_closes() {
    let mut world = World::new(json!({"error_handling": {
        "circuit_breaker": {"threshold": 2, "reset_timeout": 30},
        "retry": {"enabled": false},
    }}));
    world.add("a", |c| c);
    world.start();
    let policy = world.framework.default_policy("a.on_price").unwrap();
    assert!(policy.retry.is_none());
    let handler = Handler::failing(Category::Dependency, "ConnectionRefusedError");
    handler.subscribe(world.framework.bus(), "a", policy);
    publish(world.framework.bus(), Priority::Normal);
    assert_eq!(world.state("a"), State::Running);
    publish(world.framework.bus(), Priority::Normal);
    assert_eq!(world.state("a"), State::Degraded);
    let details = &world.report("a")["details"];
    assert_eq!(details["circuit_breakers"], json!({"a.on_price": "open"}));
    assert_eq!(details["last_error"]["error_type"], "ConnectionRefusedError");
    *handler.0.lock().unwrap() = None;
    publish(world.framework.bus(), Priority::Normal);
    world.sim.advance(29.0);
    assert_eq!(world.state("a"), State::Degraded, "health checks that pass change nothing");
    world.sim.advance(2.0);
    assert_eq!(world.state("a"), State::Running);
    assert_eq!(world.report("a")["metrics"]["errors_encountered"], 2);
}

#[test]
fn an_event_that_was_given_up_shows_for_a_minute() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    let handler = Handler::failing(Category::Permanent, "ValueError");
    handler.subscribe(world.framework.bus(), "a", Policy::default());
    publish(world.framework.bus(), Priority::Normal);
    let report = world.report("a");
    assert_eq!((&report["status"], &report["health"]), (&json!("running"), &json!("warn")));
    assert_eq!(report["details"]["reasons"][0], "an event was given up: ValueError: no luck");
    world.sim.advance(60.0);
    assert_eq!(world.report("a")["health"], "pass");
    assert!(world.alerts().is_empty(), "a normal event is no reason to wake anybody");
}

#[test]
fn alerts_are_for_bugs_wrong_configuration_and_lost_critical_events() {
    let alerts_for = |category, priority| {
        let mut world = World::new(json!({}));
        world.add("a", |c| c);
        world.start();
        let handler = Handler::failing(category, "Oops");
        handler.subscribe(world.framework.bus(), "a", Policy::default());
        publish(world.framework.bus(), priority);
        let alerts = world.alerts();
        alerts.iter().map(|alert| alert["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    use Priority::{Critical, High};
    assert_eq!(alerts_for(Category::Internal, High), ["internal_error"]);
    assert_eq!(alerts_for(Category::Configuration, High), ["configuration_error"]);
    assert_eq!(alerts_for(Category::Permanent, Critical), ["critical_event_lost"]);
    assert_eq!(alerts_for(Category::Permanent, High), [""; 0]);
}

#[test]
fn the_same_alert_is_told_once_a_minute_with_a_count() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    let handler = Handler::failing(Category::Internal, "AttributeError");
    handler.subscribe(world.framework.bus(), "a", Policy::default());
    for _ in 0..3 {
        publish(world.framework.bus(), Priority::Normal);
    }
    assert_eq!(world.alerts().len(), 1);
    handler.fail_with(Category::Internal, "NameError");
    publish(world.framework.bus(), Priority::Normal);
    assert_eq!(world.alerts().len(), 2, "another type is another alert");
    world.sim.advance(60.0);
    handler.fail_with(Category::Internal, "AttributeError");
    publish(world.framework.bus(), Priority::Normal);
    let counts: Vec<Value> = world.alerts().iter().map(|alert| alert["count"].clone()).collect();
    assert_eq!(counts, [1, 1, 3]);
}

#[test]
fn routes_choose_by_category_component_and_type() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    let heard: Arc<Mutex<Vec<&str>>> = Arc::default();
    let listen = |name: &'static str, route: Route| {
        let heard = heard.clone();
        world.framework.recovery().on_error(route, move |error| {
            assert_eq!(error.traceback.as_deref(), Some("line 1"));
            assert_eq!(error.priority.as_deref(), Some("normal"));
            assert!(error.last && error.event_id.is_some() && error.correlation_id.is_some());
            heard.lock().unwrap().push(name);
        })
    };
    let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
    let all = listen("all", Route::default());
    listen("category", Route { category: Some(Category::Permanent), ..Route::default() });
    listen("other category", Route { category: Some(Category::Internal), ..Route::default() });
    listen("component", Route { component: a, ..Route::default() });
    listen("other component", Route { component: b, ..Route::default() });
    listen("type", Route { error_type: Some("KeyError".into()), ..Route::default() });
    world.framework.recovery().on_error(Route::default(), |_| panic!("a broken route"));
    let handler = Handler::failing(Category::Permanent, "KeyError");
    handler.subscribe(world.framework.bus(), "a", Policy::default());
    publish(world.framework.bus(), Priority::Normal);
    assert_eq!(*heard.lock().unwrap(), ["all", "category", "component", "type"]);
    assert!(world.framework.recovery().remove_route(all));
    assert!(!world.framework.recovery().remove_route(all));
    publish(world.framework.bus(), Priority::Normal);
    assert_eq!(heard.lock().unwrap().len(), 7);
}

#[test]
fn a_component_that_fails_to_start_is_an_alert_and_no_end_of_the_system() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c.always("start", Act::Fail(Kind::Dependency, "refused")));
    world.add("b", |c| c);
    world.start();
    assert_eq!(world.framework.state(), FrameworkState::Running);
    assert_eq!(world.state("b"), State::Running);
    assert_eq!(world.alerts()[0]["reason"], "component_failed");
    assert_eq!(world.report("a")["metrics"]["errors_encountered"], 1);
    assert_eq!(world.report("a")["details"]["last_error"]["message"], "refused");
}

#[test]
fn a_framework_stops_components_and_closes_the_bus_last() {
    let mut world = World::new(json!({"service_registry": {"shutdown_timeout": 12}}));
    world.add("a", |c| c.always("stop", Act::Hang));
    world.start();
    assert_eq!(world.framework.state(), FrameworkState::Running);
    let report = world.stop();
    assert_eq!(world.sim.now(), 12.0, "one deadline for everything");
    assert_eq!(report.failed[0].0, "a");
    assert_eq!(world.framework.state(), FrameworkState::Stopped);
    assert!(world.framework.bus().is_closed());
    assert!(world.ear.path("a").contains(&"stopping>failed".to_owned()), "told before the end");
    assert!(world.stop().is_clean(), "stopping again does nothing");
    let framework = world.framework.clone();
    let error = world.sim.run(async move { framework.start().await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Closed);
    world.sim.advance(1_000.0);
    assert_eq!(world.sim.clock.pending(), 0, "no loop is left behind");
}

#[test]
fn starting_twice_is_refused_and_a_wrong_plan_may_be_mended() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c.depends_on(&["b"]));
    let framework = world.framework.clone();
    let error = world.sim.run(async move { framework.start().await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    assert_eq!(world.framework.state(), FrameworkState::Created);
    world.add("b", |c| c);
    world.start();
    let framework = world.framework.clone();
    let error = world.sim.run(async move { framework.start().await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Lifecycle);
    let late = world.add("c", |c| c.always("health_check", Act::Fail(Kind::Transient, "no")));
    let registry = world.framework.registry().clone();
    world.sim.run(async move { registry.start("c").await }).unwrap();
    world.sim.advance(15.0);
    assert_eq!(world.state("c"), State::Degraded, "who comes late is watched too");
    drop(late);
}

#[test]
fn a_component_that_is_switched_off_is_absent() {
    let world = World::new(json!({"components": {"a": {"enabled": false}}}));
    let component = Arc::new(Scripted::new("a", &world.sim.clock, &world.log));
    assert!(world.framework.register(component).unwrap().is_none());
    assert!(world.framework.registry().slots().is_empty());
}

#[test]
fn the_configuration_decides_policies_bus_and_logs() {
    let world = World::new(json!({}));
    let policy = world.framework.default_policy("a.h").unwrap();
    assert_eq!(policy.retry.unwrap().max_attempts(), Some(3));
    assert_eq!(policy.guard.unwrap().breaker().name(), "a.h");
    assert!(world.framework.fallback_enabled());
    let off = World::new(json!({"error_handling": {
        "circuit_breaker": {"enabled": false},
        "retry": {"enabled": false},
        "fallback": {"enabled": false},
    }}));
    let policy = off.framework.default_policy("a.h").unwrap();
    assert!(policy.retry.is_none() && policy.guard.is_none() && !off.framework.fallback_enabled());
    let sim = Sim::new();
    let settings = |tree| config(tree).settings().clone();
    let bus = bus_settings(&settings(json!({"event_bus": {"batch_size": 7}})), &sim.clock).unwrap();
    assert_eq!(bus.batch_size, 7);
    assert!(transport_options(&config(json!({}))).is_none());
    let redis = |more: Value| {
        let mut tree = json!({"event_bus": {
            "implementation": "redis", "connection_string": "redis://u:canary@localhost",
            "channel_prefix": "trading", "max_retry": 5, "outbox": {"overflow": "fail"},
            "retry_delay": 250, "batch_size": 7, "heartbeat": 3, "claim_idle": "9s",
            "partitions": 8,
            "max_payload": 2048, "tls": {"ca_file": "ca.pem", "key_file": ""},
        }});
        tree["event_bus"]["dedup"] = more;
        config(tree)
    };
    let options = transport_options(&redis(json!({}))).unwrap();
    assert!(!format!("{options:?}").contains("canary"));
    assert_eq!((&*options.prefix, options.max_retry), ("trading", 5));
    assert_eq!(options.outbox.full, Full::Fail);
    assert_eq!((options.batch, options.max_payload, options.partitions), (7, 2048, 8));
    let times = [options.retry_delay, options.heartbeat, options.claim_idle];
    assert_eq!(times, [250, 3_000, 9_000].map(Duration::from_millis));
    assert_eq!(options.tls.ca.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!((options.tls.certificate, options.tls.key), (None, None));
    assert!(options.dedup.is_some(), "on a broker, unless somebody says no");
    assert!(transport_options(&redis(json!({"enabled": false}))).unwrap().dedup.is_none());
    // What waits in virtual time would wait for a broker for ever.
    let refused = Framework::new(redis(json!({})), sim.clock.clone(), sim.spawner()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Configuration);
    let logs = log_settings(&settings(json!({"logging": {"file": "x.log", "backups": 2}})));
    assert_eq!((logs.backups, logs.json), (2, true));
}

#[test]
fn what_is_published_under_the_cores_names_is_left_alone() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    for topic in ["system.error.mine", "system.circuit_breaker.mine", "system.supervisor.gave_up"] {
        let payload = Payload::from_json_value(&json!({"anything": 1})).unwrap();
        assert!(world.framework.bus().publish(Draft::new(topic, payload)).is_ok());
    }
    assert!(world.alerts().is_empty());
}

#[test]
fn who_was_given_up_and_started_by_hand_is_watched_anew() {
    let mut world = World::new(json!({"health": {"recovery_attempts": 0}}));
    world.add("a", |c| c.always("health_check", Act::Fail(Kind::Transient, "no")));
    world.start();
    world.sim.advance(31.0);
    assert_eq!(world.state("a"), State::Failed);
    let registry = world.framework.registry().clone();
    world.sim.run(async move { registry.start("a").await }).unwrap();
    assert!(!world.framework.registry().get("a").unwrap().status().given_up);
    world.sim.advance(31.0);
    assert_eq!(world.state("a"), State::Failed, "given up once more");
    assert_eq!(world.ear.of("system.supervisor.gave_up").len(), 2);
}

#[test]
fn a_component_of_the_same_name_takes_the_place_of_the_old_one() {
    let mut world = World::new(json!({}));
    world.add("a", |c| c);
    world.start();
    let registry = world.framework.registry().clone();
    let error = world.framework.unregister("a").unwrap_err();
    assert_eq!(error.kind(), Kind::Lifecycle);
    world.sim.run(async move { registry.stop("a").await }).unwrap();
    world.framework.unregister("a").unwrap();
    let new = world.add("a", |c| c);
    *new.health.lock().unwrap() = answer(Verdict::Warn, "new");
    let registry = world.framework.registry().clone();
    world.sim.run(async move { registry.start("a").await }).unwrap();
    world.log.lock().unwrap().clear();
    world.sim.advance(10.0);
    assert_eq!(calls(&world.log, &["health_check"]).len(), 1);
    assert_eq!(world.state("a"), State::Degraded);
}

#[test]
fn while_supervision_tries_there_is_no_alert_and_one_when_it_gives_up() {
    let mut world = World::new(json!({}));
    let a = world.add("a", |c| c);
    world.start();
    a.then("start", Act::Fail(Kind::Transient, "no"));
    let error = Error::new(Kind::Transient, "test", "crashed");
    let cause = tiebeam::registry::supervision::Cause::Error;
    assert!(world.framework.registry().component_failed("a", cause, error).unwrap());
    world.sim.settle();
    assert_eq!(world.state("a"), State::Stopped, "one restart has failed, the next one waits");
    assert!(world.alerts().is_empty());
    world.sim.advance(60.0);
    let reasons: Vec<Value> = world.alerts().iter().map(|alert| alert["reason"].clone()).collect();
    assert_eq!(reasons, ["supervisor_gave_up"]);
}

#[test]
fn one_reason_less_is_not_recovered_while_another_stays() {
    let mut world = World::new(json!({}));
    let a = world.add("a", |c| c.wants(&["nobody"]));
    world.start();
    *a.health.lock().unwrap() = answer(Verdict::Warn, "slow");
    world.sim.advance(10.0);
    let both = json!(["health_check: slow", "without nobody: absent"]);
    assert_eq!(world.report("a")["details"]["reasons"], both);
    *a.health.lock().unwrap() = answer(Verdict::Pass, "");
    world.sim.advance(10.0);
    assert_eq!(world.state("a"), State::Degraded);
    assert_eq!(world.report("a")["details"]["reasons"], json!(["without nobody: absent"]));
}
