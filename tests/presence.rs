//! Presence between several processes, in virtual time, over a broker that can fail.

#[path = "support/hub.rs"]
mod hub;
mod support;

use std::sync::Arc;

use hub::Hub;
use serde_json::json;
use support::{Ear, Log, Scripted, Sim, config, secs};
use tiebeam::bus::{Bus, BusSettings};
use tiebeam::config::PresenceSettings;
use tiebeam::error::{Error, Kind};
use tiebeam::lifecycle::State;
use tiebeam::registry::graph::Node;
use tiebeam::registry::presence::{Identity, Presence, Question};
use tiebeam::registry::supervision::Cause;
use tiebeam::registry::{Monitor, Registry, RegistryOptions};

/// One process: a part of a system.
struct Process {
    bus: Bus,
    registry: Registry,
    monitor: Monitor,
    presence: Presence,
    ear: Ear,
}

struct World {
    sim: Sim,
    log: Log,
    hub: Hub,
}

impl World {
    fn new() -> World {
        World { sim: Sim::new(), log: Log::default(), hub: Hub::default() }
    }

    fn process(&self, address: &str, elsewhere: &[&str]) -> Process {
        self.named(address, "", elsewhere)
    }

    fn named(&self, address: &str, instance: &str, elsewhere: &[&str]) -> Process {
        let bus = Bus::new(BusSettings::default(), self.sim.clock.clone());
        bus.reach_out(self.hub.line(address)).unwrap();
        let config = config(json!({"system": {"name": "shop"}}));
        let mut options = RegistryOptions::from_config(&config);
        options.rules.elsewhere = elsewhere.iter().copied().map(Node::new).collect();
        options.rules.unreachable = None;
        let registry = Registry::new(bus.clone(), config.clone(), options, self.sim.spawner());
        let monitor = Monitor::new(registry.clone(), config.settings().health.clone());
        let settings = PresenceSettings { instance: instance.into(), ..settings(&config) };
        let identity = Identity { host: format!("host-of-{address}"), pid: 7 };
        let presence = Presence::new(registry.clone(), monitor.clone(), &settings, identity);
        let ear = Ear::on(&bus, "system.#");
        Process { bus, registry, monitor, presence, ear }
    }

    fn add(&self, process: &Process, name: &str, script: impl FnOnce(Scripted) -> Scripted) {
        let component = Arc::new(script(Scripted::new(name, &self.sim.clock, &self.log)));
        process.registry.register(component).unwrap();
    }

    /// A process with one component, which runs.
    fn running(&mut self, address: &str, name: &str) -> Process {
        let process = self.process(address, &[]);
        self.add(&process, name, |c| c);
        self.start(&process);
        process
    }

    fn start(&mut self, process: &Process) {
        process.presence.start().unwrap();
        let registry = process.registry.clone();
        self.sim.spawn(async move {
            registry.start_all().await.unwrap();
        });
        self.sim.settle();
    }

    fn stop(&mut self, process: &Process) {
        let registry = process.registry.clone();
        self.sim.run(async move { registry.stop_all(secs(30.0)).await });
        process.presence.leave();
        self.sim.settle();
    }

    fn ask(
        &mut self,
        process: &Process,
        instance: &'static str,
        component: &'static str,
        what: Question,
    ) -> Result<serde_json::Value, Error> {
        let presence = process.presence.clone();
        self.sim.run(async move { presence.ask(instance, component, what, secs(5.0)).await })
    }
}

fn settings(config: &tiebeam::config::Config) -> PresenceSettings {
    config.settings().service_registry.presence.clone()
}

impl Process {
    fn state(&self, name: &str) -> State {
        self.registry.get(name).unwrap().state()
    }

    /// The components of others that are ready, each with its process.
    fn found(&self) -> Vec<String> {
        let ready = self.registry.others().services().into_iter().filter(|s| s.is_ready());
        ready.map(|s| format!("{}@{}", s.told.name, s.instance)).collect()
    }

    fn lost(&self) -> Vec<String> {
        let lost = self.ear.of("system.service_lost");
        lost.iter().map(|p| p["reason"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn the_defaults_are_a_lease_of_three_intervals() {
    let settings = settings(&config(json!({})));
    assert_eq!((settings.lease, settings.interval), (secs(15.0), secs(5.0)));
}

#[test]
fn who_is_new_knows_everybody_within_milliseconds() {
    let mut world = World::new();
    let first = world.running("a", "feed");
    let second = world.running("b", "store");
    world.sim.advance(60.0);
    let new = world.running("c", "engine");
    world.sim.advance(0.2);
    assert_eq!(new.found(), ["feed@a", "store@b"]);
    assert_eq!(first.found(), ["store@b", "engine@c"]);
    assert_eq!(second.found(), ["feed@a", "engine@c"]);
    let found = new.ear.of("system.service_discovered");
    assert_eq!(found[0]["system"], "shop");
    assert_eq!(found[0]["host"], "host-of-a");
}

#[test]
fn little_is_told_and_nothing_of_it_is_kept() {
    let mut world = World::new();
    let listener = world.process("l", &[]);
    let heard = Ear::on(&listener.bus, "system.presence.announcement");
    let feed = world.running("a", "feed");
    world.sim.advance(1.0);
    // initialized and asking, then all that a start changes, at once.
    let at_start = heard.of("system.presence.announcement").len();
    assert!(at_start <= 3, "{at_start}: {:#?}", heard.of("system.presence.announcement"));
    world.sim.advance(60.0);
    let later = heard.of("system.presence.announcement").len() - at_start;
    assert_eq!(later, 12, "one each five seconds");
    assert!(feed.ear.of("system.presence.announcement").is_empty(), "no wildcard hears them");
}

#[test]
fn a_start_waits_for_what_is_elsewhere_and_no_longer_than_it_may() {
    let mut world = World::new();
    let engine = world.process("e", &["feed"]);
    world.add(&engine, "engine", |c| c.depends_on(&["feed"]));
    world.start(&engine);
    world.sim.advance(10.0);
    let status = engine.registry.get("engine").unwrap().status();
    assert_eq!(status.state, State::Configured);
    assert_eq!(status.cause, "waiting for `feed`: no process announces `feed`");
    let feed = world.running("f", "feed");
    world.sim.advance(0.2);
    assert_eq!(engine.state("engine"), State::Running);
    drop(feed);

    let late = world.process("l", &["news"]);
    world.add(&late, "reader", |c| c.depends_on(&["news"]));
    world.start(&late);
    world.sim.advance(30.1);
    let status = late.registry.get("reader").unwrap().status();
    assert_eq!((status.state, status.blocked_by.as_deref()), (State::Configured, Some("news")));
    let told = late.ear.of("system.error.dependency");
    let said = told[0]["message"].as_str().unwrap();
    assert!(said.contains("`reader` has not started within 30 s"), "{said}");
    assert!(said.contains("no process announces `news`; start the part that runs it"), "{said}");
    let news = world.running("n", "news");
    world.sim.advance(0.2);
    assert_eq!(late.state("reader"), State::Running, "it starts by itself once it may");
    drop(news);
}

#[test]
fn what_is_there_and_not_ready_is_said_to_be() {
    let mut world = World::new();
    let feed = world.process("f", &["source"]);
    world.add(&feed, "feed", |c| c.depends_on(&["source"]));
    world.start(&feed);
    let engine = world.process("e", &["feed"]);
    world.add(&engine, "engine", |c| c.depends_on(&["feed"]));
    world.start(&engine);
    world.sim.advance(6.0);
    assert_eq!(
        engine.registry.get("engine").unwrap().status().cause,
        "waiting for `feed`: `feed` is configured in process 7 on host-of-f: waiting for \
         `source`: no process announces `source`"
    );
    // Each a part of the other: both say whom they wait for, and nobody hangs for ever.
    world.sim.advance(60.0);
    assert_eq!(engine.state("engine"), State::Configured);
    world.stop(&engine);
    assert_eq!(engine.state("engine"), State::Stopped);
}

#[test]
fn who_falls_silent_is_gone_after_its_lease_and_who_says_goodbye_at_once() {
    let mut world = World::new();
    let watcher = world.running("w", "watcher");
    let silent = world.running("s", "silent");
    let leaving = world.running("l", "leaving");
    world.sim.advance(1.0);
    assert_eq!(watcher.found(), ["silent@s", "leaving@l"]);
    world.stop(&leaving);
    world.sim.advance(0.2);
    assert_eq!(watcher.found(), ["silent@s"]);
    // While it stopped it said so, which is how it went first.
    assert_eq!(watcher.lost(), ["not_ready"]);
    world.hub.set_cut("s", true);
    world.sim.advance(9.0);
    assert_eq!(watcher.found(), ["silent@s"], "it may be late");
    world.sim.advance(7.0);
    assert_eq!(watcher.found(), [""; 0]);
    assert_eq!(watcher.lost(), ["not_ready", "lease"]);
    // And it hears itself no more: for it nobody is gone.
    assert_eq!(silent.found(), ["watcher@w"]);
    world.hub.set_cut("s", false);
    world.sim.advance(5.1);
    assert_eq!(watcher.found(), ["silent@s"]);
}

#[test]
fn while_the_broker_is_away_nobody_is_gone_and_after_that_all_have_a_lease() {
    let mut world = World::new();
    let (a, b) = (world.running("a", "feed"), world.running("b", "store"));
    world.sim.advance(1.0);
    world.hub.set_down("a", true);
    world.hub.set_down("b", true);
    world.sim.advance(3_600.0);
    assert_eq!((a.found(), b.found()), (vec!["store@b".to_owned()], vec!["feed@a".to_owned()]));
    world.hub.set_down("a", false);
    world.sim.advance(14.0);
    assert_eq!(a.found(), ["store@b"], "it has a lease from when we could hear");
    world.hub.set_down("b", false);
    world.sim.advance(5.1);
    assert_eq!((a.found(), b.found()), (vec!["store@b".to_owned()], vec!["feed@a".to_owned()]));
    assert!(a.lost().is_empty() && b.lost().is_empty());
    // What is really gone then goes.
    world.hub.set_cut("b", true);
    world.sim.advance(21.0);
    assert_eq!(a.lost(), ["lease"]);
}

#[test]
fn who_has_a_trouble_that_stays_is_neither_silent_nor_deaf() {
    let mut world = World::new();
    let (a, b) = (world.running("a", "feed"), world.running("b", "store"));
    world.sim.advance(1.0);
    world.hub.set_troubled("a", true);
    world.sim.advance(60.0);
    assert_eq!(b.found(), ["feed@a"], "what it says goes its way");
    assert!(b.lost().is_empty(), "{:?}", b.lost());
    world.hub.set_cut("b", true);
    world.sim.advance(21.0);
    assert_eq!(a.lost(), ["lease"], "it hears itself, and so would have heard the other");
}

#[test]
fn who_waits_for_a_subscription_to_be_read_hears_the_others_nevertheless() {
    let mut world = World::new();
    let (a, b) = (world.running("a", "feed"), world.running("b", "store"));
    world.sim.advance(1.0);
    world.hub.set_unread("a", true);
    let late = Ear::on(&a.bus, "orders.#");
    world.sim.advance(60.0);
    assert_eq!(b.found(), [""; 0], "what it is not yet read for cannot be sent to it");
    assert_eq!(b.lost(), ["not_ready"], "and it does not count as gone");
    assert_eq!(a.found(), ["store@b"]);
    world.hub.set_cut("b", true);
    world.sim.advance(26.0);
    assert_eq!(a.lost(), ["lease"]);
    drop(late);
}

#[test]
fn dependents_are_unhealthy_without_it_and_recover_when_it_is_back_for_good() {
    let mut world = World::new();
    let feed = world.running("f", "feed");
    let engine = world.process("e", &["feed", "news"]);
    world.add(&engine, "engine", |c| c.depends_on(&["feed"]).wants(&["news"]));
    world.start(&engine);
    world.sim.advance(0.2);
    let slot = engine.registry.get("engine").unwrap();
    let reasons: Vec<String> = slot.status().degradations.into_values().collect();
    assert_eq!(reasons, ["without news: no process announces `news`"]);
    let report = engine.monitor.report("engine").unwrap();
    assert!(report.ready, "what is only wanted keeps nobody from working");
    world.add(&feed, "news", |c| c);
    let registry = feed.registry.clone();
    world.sim.run(async move { registry.start("news").await }).unwrap();
    world.sim.advance(6.0);
    assert_eq!(slot.state(), State::Running);

    let failure = Error::new(Kind::Transient, "test", "lost its wits");
    feed.registry.give_up("feed", failure).unwrap();
    world.sim.advance(0.2);
    assert_eq!(slot.state(), State::Degraded);
    let report = engine.monitor.report("engine").unwrap();
    assert_eq!((report.health.as_str(), report.ready, report.live), ("fail", false, true));
    let whole = serde_json::to_value(engine.monitor.system()).unwrap();
    assert_eq!(whole["status"], "fail");
    assert_eq!(whole["remote"][0]["component_id"], "feed");
    assert_eq!(whole["remote"][0]["status"], "failed");
    assert_eq!(whole["remote"][0]["needed_by"], json!(["engine"]));
    assert_eq!(whole["remote"][0]["lives"]["host"], "host-of-f");

    // Back, and gone again within an interval: nothing flickers here.
    let registry = feed.registry.clone();
    world.sim.run(async move { registry.start("feed").await }).unwrap();
    world.sim.advance(2.0);
    assert_eq!(slot.state(), State::Degraded, "not yet steady");
    let failure = Error::new(Kind::Transient, "test", "again");
    feed.registry.component_failed("feed", Cause::Error, failure).unwrap();
    world.sim.advance(11.0);
    assert_eq!(slot.state(), State::Running, "{:?} {:?}", slot.status(), feed.registry);
    let mut changes: Vec<_> = engine.ear.of("system.component.running");
    changes.retain(|change| change["component"] == "engine");
    assert_eq!(changes.len(), 2, "got the news, recovered");
    assert_eq!(slot.status().restarts, 0);
}

#[test]
fn a_successor_under_the_same_name_is_no_second_one() {
    let mut world = World::new();
    let watcher = world.running("w", "watcher");
    let old = world.named("old", "node-1", &[]);
    world.add(&old, "feed", |c| c);
    world.start(&old);
    world.sim.advance(1.0);
    world.hub.set_cut("old", true); // killed
    let new = world.named("new", "node-1", &[]);
    world.add(&new, "feed", |c| c);
    world.start(&new);
    world.sim.advance(0.2);
    assert_eq!(watcher.found(), ["feed@node-1"]);
    let known = watcher.registry.others().named("feed");
    assert_eq!((known.len(), known[0].host.as_str()), (1, "host-of-new"));
    // One that is not dead after all is told, and changes nothing.
    world.hub.set_cut("old", false);
    world.sim.advance(30.0);
    assert_eq!(watcher.registry.others().named("feed")[0].host, "host-of-new");
    assert!(old.presence.ignored() > 0);
}

#[test]
fn one_process_is_asked_and_answers_by_itself() {
    let mut world = World::new();
    let (asker, _other) = (world.running("a", "asker"), world.running("b", "feed"));
    let _third = world.running("c", "feed");
    world.sim.advance(1.0);
    let ping = world.ask(&asker, "b", "feed", Question::Ping).unwrap();
    assert_eq!((&ping["state"], &ping["ready"]), (&json!("running"), &json!(true)));
    let info = world.ask(&asker, "c", "feed", Question::Info).unwrap();
    assert_eq!((&info["instance"], &info["host"]), (&json!("c"), &json!("host-of-c")));
    let stats = world.ask(&asker, "b", "feed", Question::Stats).unwrap();
    assert_eq!(stats["events_processed"], 0);
    let own = world.ask(&asker, "a", "asker", Question::Ping).unwrap();
    assert_eq!(own["ready"], true);
    let nobody = world.ask(&asker, "x", "feed", Question::Ping).unwrap_err();
    assert_eq!(nobody.kind(), Kind::NoResponder);
    world.hub.set_cut("b", true);
    let late = world.ask(&asker, "b", "feed", Question::Ping).unwrap_err();
    assert_eq!(late.kind(), Kind::RequestTimeout);
}
