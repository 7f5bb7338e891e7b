//! Where exits are handed in: one desk for each supervisor, which decides on one after the other.
//!
//! What was decided is carried out beside the desk, so that nobody waits while another is stopped
//! or sits out its backoff. Only what concerns the same children comes one after the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Instant;
use crate::registry::Registry;
use crate::registry::record::{Id, SYSTEM};
use crate::registry::slot::Slot;
use crate::registry::supervision::{Cause, Policy, Strategy, Supervisor, Verdict};

/// Whom a supervisor stands over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::registry) enum Seat {
    /// One component: it has a budget of its own.
    Alone(String),
    /// One group, for the system: the same, one level above the group's own supervisor.
    Above(String),
    /// The members of a group.
    Group(String),
    /// Everybody.
    System,
}

/// What is handed in.
#[derive(Debug)]
pub(super) struct Exit {
    /// What ended: a component, or a group whose supervisor gave up.
    pub(super) child: String,
    /// The component that ended.
    pub(super) component: String,
    /// Which of its lives.
    pub(super) life: u64,
    pub(super) cause: Cause,
    pub(super) kind: ExitKind,
    /// Where it stands in the record.
    pub(super) id: Option<Id>,
    /// For a group: which time it is that its supervisor gave up.
    pub(super) defeat: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExitKind {
    /// A decision.
    Ended,
    /// Nothing but giving up.
    Hopeless,
    /// The cooldown is over.
    Again,
}

/// One supervisor with its inbox.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) seat: Seat,
    /// Whose budget it is, for people: a component, a group, `system` or `system:<group>`.
    pub(super) name: String,
    /// Whether its children go down and come up with each other.
    together: bool,
    decide: Mutex<Supervisor>,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: VecDeque<Exit>,
    /// Whether somebody decides.
    busy: bool,
    under_way: Vec<UnderWay>,
    last: Ticket,
}

/// What names a decision that is carried out.
pub(super) type Ticket = u64;

/// A decision that is carried out.
#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    /// The children that it stops.
    concerns: Vec<String>,
    /// Those of them that it starts then.
    back: Vec<String>,
    /// Whether it starts them already; until then another decision may take its place.
    starts: bool,
}

impl Inbox {
    /// Whether `exit` has to wait for what is carried out: of whom is stopped anyway, and comes
    /// back as somebody new, the end is no news then.
    fn must_wait(&self, exit: &Exit, together: bool) -> bool {
        let concerned = |work: &UnderWay| work.concerns.contains(&exit.child);
        self.under_way.iter().any(|work| concerned(work) || (together && work.starts))
    }
}

impl Desk {
    pub(super) fn decide<T>(&self, ask: impl FnOnce(&mut Supervisor) -> T) -> T {
        ask(&mut self.decide.lock())
    }

    pub(super) fn try_again(&self, now: Instant, order: &[&str]) -> Verdict {
        self.decide(|supervisor| supervisor.try_again(now, order))
    }

    /// Takes an exit in; true if somebody has to begin to work.
    pub(super) fn push(&self, exit: Exit) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.waiting.push_back(exit);
        !std::mem::replace(&mut inbox.busy, true)
    }

    /// The next exit that need not wait; whoever gets none has ended his work.
    pub(super) fn pop(&self) -> Option<Exit> {
        let mut inbox = self.inbox.lock();
        let inbox = &mut *inbox;
        let at = inbox.waiting.iter().position(|exit| !inbox.must_wait(exit, self.together));
        inbox.busy = at.is_some();
        at.and_then(|at| inbox.waiting.remove(at))
    }

    /// Something is carried out from now on, until [`Desk::finish`].
    pub(super) fn begin(&self, concerns: Vec<String>, back: Vec<String>) -> Ticket {
        let mut inbox = self.inbox.lock();
        inbox.last += 1;
        let ticket = inbox.last;
        inbox.under_way.push(UnderWay { ticket, concerns, back, starts: false });
        ticket
    }

    /// Another decision about `children` takes the place of those that start nobody yet; whom
    /// they would have started is for that one to start.
    pub(super) fn supersede(&self, children: &[String]) -> Vec<String> {
        let mut inbox = self.inbox.lock();
        let meant = |work: &mut UnderWay| {
            !work.starts && work.concerns.iter().any(|child| children.contains(child))
        };
        inbox.under_way.extract_if(.., meant).flat_map(|work| work.back).collect()
    }

    /// Whether this is still to be.
    pub(super) fn is_on(&self, ticket: Ticket) -> bool {
        self.inbox.lock().under_way.iter().any(|work| work.ticket == ticket)
    }

    /// Whether something that is carried out concerns `child`.
    pub(super) fn concerns(&self, child: &str) -> bool {
        self.inbox.lock().under_way.iter().any(|work| work.concerns.iter().any(|c| c == child))
    }

    /// Whether this is still to be: it starts its children from now on.
    pub(super) fn starts(&self, ticket: Ticket) -> bool {
        let mut inbox = self.inbox.lock();
        let work = inbox.under_way.iter_mut().find(|work| work.ticket == ticket);
        work.map(|work| work.starts = true).is_some()
    }

    /// This has been carried out; true if somebody has to go on with what waited for it.
    pub(super) fn finish(&self, ticket: Ticket) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.under_way.retain(|work| work.ticket != ticket);
        let goes_on = !inbox.waiting.is_empty() && !inbox.busy;
        inbox.busy |= goes_on;
        goes_on
    }

    /// Nothing of what was decided is to be any more.
    pub(super) fn call_off(&self) {
        self.inbox.lock().under_way.clear();
    }

    /// Forgets the past, and what was decided: the supervisor above starts afresh.
    pub(super) fn reset(&self) {
        self.decide(Supervisor::reset);
        self.call_off();
    }
}

/// Every desk that was needed so far.
#[derive(Debug, Default)]
pub(in crate::registry) struct Desks(Mutex<HashMap<Seat, Arc<Desk>>>);

impl Desks {
    /// Forgets the past of a component that was unregistered.
    pub(in crate::registry) fn forget(&self, name: &str) {
        self.0.lock().remove(&Seat::Alone(name.to_owned()));
    }

    fn get(&self, seat: &Seat, make: impl FnOnce() -> Supervisor) -> Arc<Desk> {
        let mut desks = self.0.lock();
        let desk = desks.entry(seat.clone()).or_insert_with(|| {
            let supervisor = make();
            Arc::new(Desk {
                seat: seat.clone(),
                together: supervisor.policy().strategy != Strategy::OneForOne,
                name: match seat {
                    Seat::Alone(name) | Seat::Group(name) => name.clone(),
                    Seat::Above(group) => format!("{SYSTEM}:{group}"),
                    Seat::System => SYSTEM.to_owned(),
                },
                decide: Mutex::new(supervisor),
                inbox: Mutex::default(),
            })
        });
        desk.clone()
    }
}

impl Registry {
    /// The supervised groups around a component, outermost first.
    fn groups_around(&self, slot: &Slot) -> Vec<String> {
        let groups = slot.descriptor().groups.iter();
        groups.filter(|group| self.0.options.groups.contains_key(*group)).cloned().collect()
    }

    /// The supervisors over a component, innermost first, each with what it has for a child.
    pub(super) fn desks_over(&self, slot: &Slot) -> Vec<(Arc<Desk>, String)> {
        let mut child = slot.name().to_owned();
        let mut desks = Vec::new();
        for group in self.groups_around(slot).into_iter().rev() {
            let seat = Seat::Group(group.clone());
            desks.push((self.desk(&seat), std::mem::replace(&mut child, group)));
        }
        let seat = match self.0.options.supervision.strategy {
            Strategy::OneForOne if child == slot.name() => Seat::Alone(child.clone()),
            Strategy::OneForOne => Seat::Above(child.clone()),
            _ => Seat::System,
        };
        desks.push((self.desk(&seat), child));
        desks
    }

    pub(super) fn desk(&self, seat: &Seat) -> Arc<Desk> {
        self.0.desks.get(seat, || {
            let policy = self.policy_of(seat);
            let name = match seat {
                Seat::Alone(name) | Seat::Group(name) | Seat::Above(name) => name,
                Seat::System => "",
            };
            // Different seeds, so that components do not wait in step.
            let seed = name.bytes().fold(self.0.options.seed, |seed, byte| {
                seed.wrapping_mul(31).wrapping_add(u64::from(byte))
            });
            let backoff = policy.wait.backoff(seed);
            Supervisor::new(policy, backoff)
        })
    }

    fn policy_of(&self, seat: &Seat) -> Policy {
        let options = &self.0.options;
        let mut policy = options.supervision.clone();
        match seat {
            Seat::System | Seat::Above(_) => {}
            Seat::Group(name) => {
                policy.strategy = Strategy::OneForOne;
                if let Some(said) = options.groups.get(name) {
                    policy = said.over(&policy);
                }
                policy.escalates = true;
            }
            Seat::Alone(name) => {
                if let Ok(slot) = self.get(name) {
                    policy = slot.descriptor().supervision.over(&policy);
                    if let Some(said) = options.components.get(name) {
                        policy = said.supervision.over(&policy);
                    }
                }
                policy.strategy = Strategy::OneForOne;
            }
        }
        for slot in self.slots() {
            if let Some(restart) = slot.descriptor().restart {
                policy.restart_of.entry(slot.name().to_owned()).or_insert(restart);
            }
        }
        policy
    }

    /// Whom a supervisor has for children, in start order: components, and groups in their midst.
    pub(super) fn children(&self, seat: &Seat, order: &[Arc<Slot>]) -> Vec<String> {
        let mut children: Vec<String> = Vec::new();
        for slot in order {
            let mut path = self.groups_around(slot);
            path.push(slot.name().to_owned());
            let child = match seat {
                Seat::System => path.first(),
                Seat::Alone(name) | Seat::Above(name) => {
                    path.first().filter(|first| *first == name)
                }
                Seat::Group(group) => {
                    let at = path[..path.len() - 1].iter().position(|other| other == group);
                    at.and_then(|at| path.get(at + 1))
                }
            };
            if let Some(child) = child
                && !children.contains(child)
            {
                children.push(child.clone());
            }
        }
        children
    }

    /// The components that children stand for, in the order of `order`.
    pub(super) fn expand(&self, children: &[String], order: &[Arc<Slot>]) -> Vec<Arc<Slot>> {
        let is_of = |slot: &&Arc<Slot>| {
            children.iter().any(|child| child == slot.name())
                || self.groups_around(slot).iter().any(|group| children.contains(group))
        };
        order.iter().filter(is_of).cloned().collect()
    }

    /// Groups among `children`, and those inside of them, start afresh.
    pub(super) fn reset_below(&self, children: &[String], order: &[Arc<Slot>]) {
        self.below(children, order, Desk::reset);
    }

    /// The same, but only those that have given up.
    pub(super) fn reset_given_up(&self, children: &[String], order: &[Arc<Slot>]) {
        self.below(children, order, |desk| {
            if desk.decide(|supervisor| supervisor.has_given_up()) {
                desk.reset();
            }
        });
    }

    fn below(&self, children: &[String], order: &[Arc<Slot>], tell: fn(&Desk)) {
        for slot in self.expand(children, order) {
            let groups = self.groups_around(&slot);
            let inside = groups.iter().skip_while(|group| !children.contains(group));
            for group in inside {
                tell(&self.desk(&Seat::Group(group.clone())));
            }
        }
    }
}
