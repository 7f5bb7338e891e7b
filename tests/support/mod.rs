//! A single-threaded executor in virtual time, components that follow a script, and an ear on
//! the bus. Nothing here sleeps and nothing depends on the machine's speed.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, Stream};
use serde_json::{Value, json};
use tiebeam::bus::{Bus, Executor, Options, Subscription};
use tiebeam::clock::Clock;
use tiebeam::config::{Config, Loader};
use tiebeam::error::{Error, Kind, Result};
use tiebeam::event::Event;
use tiebeam::health::Verdict;
use tiebeam::registry::{Component, ComponentConfig, Descriptor, HealthAnswer, Spawn};

/// What the requirement's example has as its time.
pub const EPOCH_MS: i64 = 1_645_541_585_432;

pub fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

type Task = BoxFuture<'static, ()>;

#[derive(Clone, Default)]
pub struct Incoming(Arc<Mutex<Vec<Task>>>);

impl Spawn for Incoming {
    fn spawn(&self, work: Task) {
        self.0.lock().unwrap().push(work);
    }
}

/// Runs tasks until nobody can go on, and only then moves time to the next timer.
pub struct Sim {
    pub clock: Clock,
    incoming: Incoming,
    tasks: FuturesUnordered<Task>,
}

impl Sim {
    pub fn new() -> Sim {
        let clock = Clock::simulated(EPOCH_MS);
        Sim { clock, incoming: Incoming::default(), tasks: FuturesUnordered::new() }
    }

    pub fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::new(self.incoming.clone())
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.incoming.spawn(Box::pin(work));
    }

    /// Lets everybody go on who can, without moving time.
    pub fn settle(&mut self) {
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            let new: Vec<Task> = self.incoming.0.lock().unwrap().drain(..).collect();
            let fresh = !new.is_empty();
            self.tasks.extend(new);
            flag.0.store(false, Ordering::Release);
            let polled = pin!(&mut self.tasks).poll_next(&mut cx);
            let done = matches!(polled, Poll::Pending | Poll::Ready(None));
            let woken = flag.0.load(Ordering::Acquire);
            if done && !woken && !fresh && self.incoming.0.lock().unwrap().is_empty() {
                return;
            }
        }
    }

    /// Runs `work` to its end, moving time as far as that takes.
    pub fn run<T: Send + 'static>(&mut self, work: impl Future<Output = T> + Send + 'static) -> T {
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        self.spawn(work.map(move |output| *slot.lock().unwrap() = Some(output)));
        loop {
            self.settle();
            if let Some(output) = result.lock().unwrap().take() {
                return output;
            }
            let next = self.clock.next_due().expect("nobody can go on, and no timer waits");
            self.clock.step(next);
        }
    }

    pub fn advance(&mut self, seconds: f64) {
        let limit = self.clock.now().saturating_add(secs(seconds));
        self.settle();
        while self.clock.step(limit) {
            self.settle();
        }
        self.settle();
    }

    pub fn now(&self) -> f64 {
        self.clock.now().as_secs_f64()
    }
}

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Act {
    Ok,
    Fail(Kind, &'static str),
    Panic(&'static str),
    Take(f64),
    Hang,
}

pub type Log = Arc<Mutex<Vec<String>>>;

/// A component that does what its script says, and notes each call.
pub struct Scripted {
    pub descriptor: Descriptor,
    clock: Clock,
    log: Log,
    scripts: Mutex<Vec<(&'static str, VecDeque<Act>)>>,
    /// What a hook does when its script is at its end.
    always: Mutex<Vec<(&'static str, Act)>>,
    pub health: Mutex<HealthAnswer>,
    pub configured: Mutex<Option<Value>>,
}

impl Scripted {
    pub fn new(name: &str, clock: &Clock, log: &Log) -> Scripted {
        Scripted {
            descriptor: Descriptor::new(name),
            clock: clock.clone(),
            log: log.clone(),
            scripts: Mutex::default(),
            always: Mutex::default(),
            health: Mutex::default(),
            configured: Mutex::default(),
        }
    }

    pub fn depends_on(mut self, names: &[&str]) -> Self {
        self.descriptor.depends_on = names.iter().map(|name| name.to_string()).collect();
        self
    }

    pub fn wants(mut self, names: &[&str]) -> Self {
        self.descriptor.wants = names.iter().map(|name| name.to_string()).collect();
        self
    }

    pub fn on(self, hook: &'static str, acts: impl IntoIterator<Item = Act>) -> Self {
        self.scripts.lock().unwrap().push((hook, acts.into_iter().collect()));
        self
    }

    pub fn always(self, hook: &'static str, act: Act) -> Self {
        self.then(hook, act);
        self
    }

    /// Changes what a hook does from now on.
    pub fn then(&self, hook: &'static str, act: Act) {
        let mut always = self.always.lock().unwrap();
        always.retain(|(other, _)| *other != hook);
        always.push((hook, act));
    }

    fn next(&self, hook: &'static str) -> Act {
        let mut scripts = self.scripts.lock().unwrap();
        let scripted = scripts.iter_mut().find(|(name, _)| *name == hook);
        if let Some(act) = scripted.and_then(|(_, acts)| acts.pop_front()) {
            return act;
        }
        let always = self.always.lock().unwrap();
        always.iter().find(|(name, _)| *name == hook).map_or(Act::Ok, |(_, act)| act.clone())
    }

    fn play(&self, hook: &'static str) -> BoxFuture<'_, Result<()>> {
        self.log.lock().unwrap().push(format!("{} {hook}", self.descriptor.name));
        let act = self.next(hook);
        Box::pin(async move {
            match act {
                Act::Ok => Ok(()),
                Act::Fail(kind, message) => Err(Error::new(kind, hook, message)),
                Act::Panic(message) => panic!("{message}"),
                Act::Take(seconds) => {
                    self.clock.sleep(secs(seconds)).await;
                    self.log.lock().unwrap().push(format!("{} {hook} done", self.descriptor.name));
                    Ok(())
                }
                Act::Hang => std::future::pending().await,
            }
        })
    }
}

impl Component for Scripted {
    fn describe(&self) -> Descriptor {
        self.descriptor.clone()
    }

    fn initialize(&self) -> BoxFuture<'_, Result<()>> {
        self.play("initialize")
    }

    fn configure<'a>(&'a self, config: &'a ComponentConfig) -> BoxFuture<'a, Result<()>> {
        *self.configured.lock().unwrap() = Some(config.value.clone());
        self.play("configure")
    }

    fn start(&self) -> BoxFuture<'_, Result<()>> {
        self.play("start")
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        self.play("stop")
    }

    fn health_check(&self) -> BoxFuture<'_, Result<HealthAnswer>> {
        let played = self.play("health_check");
        Box::pin(async move {
            played.await?;
            Ok(self.health.lock().unwrap().clone())
        })
    }
}

pub fn answer(verdict: Verdict, message: &str) -> HealthAnswer {
    HealthAnswer::new(verdict).with_message(message)
}

/// The calls of `hooks` in `log`, in order.
pub fn calls(log: &Log, hooks: &[&str]) -> Vec<String> {
    let log = log.lock().unwrap();
    let wanted = |entry: &&String| hooks.iter().any(|hook| entry.split(' ').nth(1) == Some(*hook));
    log.iter().filter(wanted).cloned().collect()
}

/// Keeps every event of a pattern.
#[derive(Clone, Debug, Default)]
pub struct Ear(pub Arc<Mutex<Vec<(String, Value)>>>);

impl Executor for Ear {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        let heard = (event.topic.to_string(), event.payload.to_json_value());
        self.0.lock().unwrap().push(heard);
        subscription.handled_inline(event);
    }

    fn describe(&self) -> &'static str {
        "test"
    }
}

impl Ear {
    pub fn on(bus: &Bus, pattern: &str) -> Ear {
        let ear = Ear::default();
        bus.subscribe(pattern, options("ear", None), Arc::new(ear.clone())).unwrap();
        ear
    }

    pub fn all(&self) -> Vec<(String, Value)> {
        self.0.lock().unwrap().clone()
    }

    pub fn of(&self, topic: &str) -> Vec<Value> {
        self.all().into_iter().filter(|(t, _)| t == topic).map(|(_, payload)| payload).collect()
    }

    /// The states one component went through: `from>to`.
    pub fn path(&self, component: &str) -> Vec<String> {
        let all = self.all();
        let own = all.iter().filter(|(topic, payload)| {
            topic.starts_with("system.component.") && payload["component"] == component
        });
        own.map(|(topic, payload)| {
            let (from, to) = (payload["from"].as_str().unwrap(), payload["to"].as_str().unwrap());
            assert_eq!(topic, &format!("system.component.{to}"));
            format!("{from}>{to}")
        })
        .collect()
    }
}

pub fn options(name: &str, component: Option<&str>) -> Options {
    Options { component: component.map(Into::into), capacity: 100, ..Options::named(name) }
}

/// A configuration of defaults with `tree` over them.
pub fn config(tree: Value) -> Config {
    let Value::Object(tree) = tree else { panic!("a map, please") };
    Loader::new().values("test", tree).load().unwrap()
}

pub fn defaults() -> Config {
    config(json!({}))
}
