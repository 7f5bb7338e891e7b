//! Random sequences of everything, against the books.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::super::*;
use crate::resilience::{BreakerSettings, CircuitBreaker};

#[derive(Clone, Debug)]
enum Step {
    Publish { topic: usize, priority: usize, key: Option<u8>, deadline: Option<u16> },
    Later { topic: usize, delay: u16 },
    Request { timeout: u16 },
    GiveUp(usize),
    Work,
    WorkOnce,
    Release,
    Advance(u16),
    Script(u8),
    Subscribe { pattern: usize, overflow: usize, concurrency: usize, sort: Sort },
    Cancel(usize),
    Orphan(usize),
    Replay,
    Decide(usize, u8),
}

/// What else there is to a subscription.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Plain,
    /// Handled inside `publish`.
    Inline,
    /// For one event.
    Once,
    /// A member of a group that shares its events.
    Member,
    /// Somebody decides, at some time.
    Manual,
}

const TOPICS: [&str; 3] = ["a.b", "a.c", "b"];
const PATTERNS: [&str; 4] = ["a.*", "#", "b", "a.b"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..3usize, 0..4usize, proptest::option::of(0..3u8), proptest::option::of(1..400u16))
            .prop_map(|(topic, priority, key, deadline)| Step::Publish {
                topic, priority, key, deadline
            }),
        1 => (0..3usize, 0..300u16).prop_map(|(topic, delay)| Step::Later { topic, delay }),
        2 => (1..300u16).prop_map(|timeout| Step::Request { timeout }),
        2 => any::<usize>().prop_map(Step::GiveUp),
        3 => Just(Step::Work),
        4 => Just(Step::WorkOnce),
        2 => Just(Step::Release),
        3 => (1..500u16).prop_map(Step::Advance),
        3 => any::<u8>().prop_map(Step::Script),
        2 => (0..4usize, 0..6usize, 1..4usize, sort()).prop_map(
            |(pattern, overflow, concurrency, sort)| {
                Step::Subscribe { pattern, overflow, concurrency, sort }
            }
        ),
        3 => (any::<usize>(), 0..4u8).prop_map(|(which, how)| Step::Decide(which, how)),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Orphan),
        1 => Just(Step::Replay),
    ]
}

fn sort() -> impl Strategy<Value = Sort> {
    prop_oneof![
        4 => Just(Sort::Plain),
        1 => Just(Sort::Inline),
        1 => Just(Sort::Once),
        2 => Just(Sort::Member),
        2 => Just(Sort::Manual),
    ]
}

struct World {
    bus: Bus,
    clock: Clock,
    desk: Arc<Desk>,
    mood: Arc<Mutex<u8>>,
    subscriptions: Vec<Arc<Subscription>>,
    admissions: Vec<Admission>,
    replies: Vec<PendingReply>,
    /// By number: lane, key and topic, for the check of order.
    published: HashMap<i64, (usize, Option<u8>, usize)>,
    last: i64,
}

impl World {
    fn new(batch: usize) -> World {
        let (bus, clock) = bus();
        let mood = Arc::new(Mutex::new(0));
        let script = mood.clone();
        // What happens depends on the mood of the moment, and on the event.
        let desk = Desk::with(batch, move |call| match *script.lock() as i64 {
            mood if mood < 80 => Outcome::Done,
            mood if mood < 150 && (call.n + mood) % 3 == 0 => Outcome::Fail(Category::Transient),
            mood if mood < 180 && (call.n + mood) % 4 == 0 => Outcome::Fail(Category::Permanent),
            mood if mood < 230 && (call.n + mood) % 3 == 1 => Outcome::Hold,
            mood if mood < 246 && (call.n + mood) % 3 == 2 => Outcome::Refused(120),
            mood if mood > 245 => Outcome::Fail(Category::Transient),
            _ => Outcome::Done,
        });
        let responder = Options { role: Role::Responder, capacity: 2, ..options("responder") };
        bus.subscribe("ask", responder, desk.clone()).expect("valid");
        World {
            bus,
            clock,
            desk,
            mood,
            subscriptions: Vec::new(),
            admissions: Vec::new(),
            replies: Vec::new(),
            published: HashMap::new(),
            last: 0,
        }
    }

    fn policy(&self, number: usize, sort: Sort) -> Policy {
        let mut policy = if number.is_multiple_of(3) { Policy::default() } else { retrying(3) };
        policy.fallback = number % 8 > 3 && sort != Sort::Manual;
        if !number.is_multiple_of(4) && sort != Sort::Manual {
            policy.retry = None; // by its way of settling
        }
        if number.is_multiple_of(2) {
            let settings = BreakerSettings::consecutive(2, ms(200));
            let breaker = CircuitBreaker::new("x", settings, self.clock.clone()).expect("valid");
            policy.guard = Some(Arc::new(Guard::new(breaker, 1)));
        }
        policy
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { topic, priority, key, deadline } => {
                self.last += 1;
                self.published.insert(self.last, (priority, key, topic));
                let draft = Draft {
                    priority: Priority::BY_URGENCY[priority],
                    key: key.map(|key| Arc::from(key.to_string())),
                    deadline: deadline.map(|after| self.clock.unix_ms() + i64::from(after)),
                    ..draft(TOPICS[topic], self.last)
                };
                if let Ok(published) = self.bus.publish(draft) {
                    self.admissions.extend(published.admission);
                }
            }
            Step::Later { topic, delay } => {
                // Without a number: they overtake and are overtaken.
                let draft = draft(TOPICS[topic], 0);
                let _ = self.bus.publish_later(draft, ms(delay.into())).expect("valid");
            }
            Step::Request { timeout } => {
                if let Ok(requested) = self.bus.request(draft("ask", 0), ms(timeout.into())) {
                    self.admissions.extend(requested.published.admission);
                    self.replies.push(requested.reply);
                }
            }
            Step::GiveUp(n) => {
                if !self.admissions.is_empty() {
                    drop(self.admissions.swap_remove(n % self.admissions.len()));
                }
                if !self.replies.is_empty() {
                    drop(self.replies.swap_remove(n % self.replies.len()));
                }
            }
            Step::Work => self.desk.work(),
            Step::WorkOnce => {
                self.desk.work_once();
            }
            Step::Release => self.desk.release(),
            Step::Advance(by) => self.clock.advance(ms(by.into())),
            Step::Script(mood) => *self.mood.lock() = mood,
            Step::Subscribe { pattern, overflow, concurrency, sort } => {
                let number = self.subscriptions.len();
                let options = Options {
                    capacity: 3,
                    overflow: Overflow::ALL[overflow],
                    sample_interval: (Overflow::ALL[overflow] == Overflow::Sample).then(|| ms(70)),
                    concurrency,
                    ack: match sort {
                        Sort::Manual => Ack::Manual,
                        _ => [Ack::NackOnError, Ack::Always, Ack::First, Ack::RejectOnError]
                            [number % 4],
                    },
                    manual: (sort == Sort::Manual).then(Arc::default),
                    group: (sort == Sort::Member).then(|| Arc::from("g")),
                    competing: sort == Sort::Member,
                    policy: self.policy(number, sort),
                    ..options(&number.to_string())
                };
                let (bus, pattern, desk) = (&self.bus, PATTERNS[pattern], self.desk.clone());
                let subscription = match sort {
                    Sort::Inline => bus.subscribe(pattern, options, Arc::new(Inside(desk))),
                    Sort::Once => bus.subscribe_once(pattern, options, desk),
                    _ => bus.subscribe(pattern, options, desk),
                };
                self.subscriptions.push(subscription.expect("valid"));
            }
            Step::Cancel(n) if !self.subscriptions.is_empty() => {
                self.subscriptions[n % self.subscriptions.len()].cancel();
            }
            Step::Orphan(n) if !self.subscriptions.is_empty() => {
                self.subscriptions[n % self.subscriptions.len()].orphan();
            }
            Step::Cancel(_) | Step::Orphan(_) => {}
            Step::Decide(which, how) => {
                let undecided = {
                    let mut opened = self.desk.opened.lock();
                    if opened.is_empty() {
                        return;
                    }
                    let which = which % opened.len();
                    opened.swap_remove(which)
                };
                match how {
                    0 => undecided.ack().expect("the first time"),
                    1 => undecided.nack().expect("the first time"),
                    2 => undecided.reject(None).expect("the first time"),
                    _ => drop(undecided), // thrown away
                }
            }
            Step::Replay => {
                self.bus.replay_dead_letters(|letter| letter.id % 2 == 0);
            }
        }
    }

    fn check(&self) {
        assert_balanced(&self.bus);
        for subscription in &self.subscriptions {
            let tally = subscription.tally();
            assert!(tally.balances(), "{subscription:?}: {tally:?}");
            // What was pulled and put back may stand beside what took its room; retries come
            // back beside it too.
            // A member of a group takes what others leave.
            let options = subscription.options();
            if options.policy.retry.is_none() && !options.competing {
                let most = 3 + self.desk.batch * options.concurrency;
                assert!(subscription.depth() <= most, "{subscription:?}");
            }
        }
        assert!(self.bus.books().pending_requests <= self.replies.len());
        let mut keys = HashSet::new();
        for (subscription, delivery) in &*self.desk.held.lock() {
            // What runs inside `publish` runs as often at once as there are publishers.
            if let Some(key) = delivery.event.key().filter(|_| !subscription.executor().is_inline())
            {
                assert!(
                    keys.insert((subscription.id(), key.clone())),
                    "two of {key} at a time: {subscription:?}"
                );
            }
        }
    }

    /// First attempts of one lane and key come in the order in which they were published: those
    /// of all keys with one handler at a time, those with a key with several. Where events
    /// conflate, this holds for each topic and key.
    fn check_order(&self) {
        let is_new = |call: &Call| call.attempt == 1 && call.waits == 0;
        let mut last: BTreeMap<(String, usize, Option<u8>), i64> = BTreeMap::new();
        for call in self.desk.calls.lock().iter().filter(|call| is_new(call) && call.n > 0) {
            let Ok(number) = call.handler.parse::<usize>() else { continue };
            let options = self.subscriptions[number].options();
            let (lane, key, topic) = self.published[&call.n];
            if options.group.is_some() {
                continue; // what a member that ends leaves to others is older than what they have
            }
            if options.concurrency == 1 || key.is_some() {
                let row = if options.overflow.conflates() { 4 + topic } else { lane };
                let before = last.insert((call.handler.clone(), row, key), call.n);
                assert!(before.is_none_or(|before| before < call.n), "{call:?} after {before:?}");
            }
        }
    }

    /// Everything ends: nothing stays in flight for ever.
    fn settle(&mut self) {
        *self.mood.lock() = 0;
        self.admissions.clear();
        for _ in 0..50 {
            let opened = std::mem::take(&mut *self.desk.opened.lock());
            opened.iter().for_each(|undecided| undecided.ack().expect("the first time"));
            self.desk.release();
            self.desk.work();
            self.clock.advance(ms(1000));
        }
        self.desk.work();
        let books = self.bus.books();
        assert_eq!(books.total.in_flight, 0, "{books:?}");
        assert_eq!(books.pending_requests, 0);
        assert_balanced(&self.bus);
    }
}

proptest! {
    #![proptest_config(super::cases(400))]

    #[test]
    fn the_books_balance_after_every_step(
        batch in prop_oneof![Just(1usize), Just(3), Just(100)],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        // Replays bring numbers back: order is checked where there are none.
        let replays = steps.iter().any(|step| matches!(step, Step::Replay));
        let mut world = World::new(batch);
        world.take(&Step::Subscribe { pattern: 1, overflow: 0, concurrency: 1, sort: Sort::Plain });
        for step in &steps {
            world.take(step);
            world.check();
        }
        if !replays {
            world.check_order();
        }
        world.settle();
    }
}
