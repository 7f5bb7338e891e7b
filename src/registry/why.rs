//! Why a component is as it is: from its present state back to what began it.

use serde::Serialize;

use super::directory::Registry;
use super::record::{Entry, Id, What};
use super::slot::Reason;
use crate::clock::Instant;
use crate::error::Result;
use crate::lifecycle::State;

/// No chain is followed further.
const LONGEST: usize = 32;

/// What led to a component's present state.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The component.
    pub component: String,
    /// Its state.
    pub state: State,
    /// Why it is in it, in one line.
    pub cause: String,
    /// When it entered it, in Unix milliseconds.
    pub since: i64,
    /// For how many seconds it has been in it.
    pub for_seconds: f64,
    /// When this was asked, in Unix milliseconds.
    pub asked: i64,
    /// One chain for each reason, from the effect to what caused it.
    pub chains: Vec<Vec<Link>>,
    /// For one that is well: what it came through last, from the effect to what caused it.
    pub came_through: Vec<Link>,
    /// Whom its state concerns, at this moment.
    pub affects: Vec<Affected>,
}

/// One thing that happened, on the way from an effect to its cause.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// Its name in the record.
    pub id: Id,
    /// Whom it happened to.
    pub subject: String,
    /// What it was.
    pub what: What,
    /// The state that was entered, for changes of state.
    pub state: Option<State>,
    /// What it was, for a person.
    pub text: String,
    /// When, in Unix milliseconds; the last time if it happened repeatedly.
    pub at: i64,
    /// How many seconds ago.
    pub seconds_ago: f64,
    /// How often in a row.
    pub count: u64,
    /// What caused it, also where that is no longer in the record.
    pub because: Option<Id>,
}

/// A component that does not work, or not fully, because of another.
#[derive(Clone, Debug, Serialize)]
pub struct Affected {
    /// Its name.
    pub component: String,
    /// Its state.
    pub state: State,
    /// Why, for a person.
    pub cause: String,
}

impl Registry {
    /// Why the component of this name is as it is.
    ///
    /// # Errors
    /// [`crate::error::Kind::Configuration`] with a suggestion, for an unknown name.
    pub fn why(&self, name: &str) -> Result<Why> {
        let slot = self.get(name)?;
        let (status, record) = (slot.status(), &self.0.record);
        let (now, asked) = (self.0.clock.now(), self.0.clock.unix_ms());
        let in_state = now.saturating_since(status.since);
        let mut chains: Vec<Vec<Link>> = match status.state {
            State::Degraded => {
                let reasons: Vec<Reason> =
                    slot.with(|known| known.degradations.values().cloned().collect());
                reasons.iter().map(|reason| self.chain_of(name, reason, now)).collect()
            }
            _ => record.last_state(name).map(|root| self.chain(root, now)).into_iter().collect(),
        };
        // The newest cause first.
        chains.sort_by_key(|chain| std::cmp::Reverse(chain.first().map(|link| link.id)));
        let trouble = |entry: &Entry| {
            let told = [What::Failure, What::Degraded, What::Blocked, What::Finished];
            told.contains(&entry.what)
        };
        let came_through = match status.state {
            State::Running => record.last(name, trouble).map(|entry| self.chain(entry.id, now)),
            _ => None,
        };
        Ok(Why {
            component: name.to_owned(),
            state: status.state,
            cause: status.cause,
            since: asked - i64::try_from(in_state.as_millis()).unwrap_or(i64::MAX),
            for_seconds: in_state.as_secs_f64(),
            asked,
            chains,
            came_through: came_through.unwrap_or_default(),
            affects: self.affected(name),
        })
    }

    /// A reason goes on for as long as it does, and the record may have forgotten how it began.
    fn chain_of(&self, name: &str, reason: &Reason, now: Instant) -> Vec<Link> {
        let chain = self.chain(reason.id, now);
        if !chain.is_empty() {
            return chain;
        }
        vec![Link {
            id: reason.id,
            subject: name.to_owned(),
            what: What::Degraded,
            state: None,
            text: reason.text.clone(),
            at: reason.at.1,
            seconds_ago: now.saturating_since(reason.at.0).as_secs_f64(),
            count: 1,
            because: None,
        }]
    }

    fn chain(&self, root: Id, now: Instant) -> Vec<Link> {
        let mut chain: Vec<Link> = Vec::new();
        let mut next = Some(root);
        while let Some(entry) = next.and_then(|id| self.0.record.get(id)) {
            // A thing that repeats may be newer than what it caused; ids never lead in a circle.
            next = entry.because.filter(|because| *because < entry.id);
            chain.push(Link {
                id: entry.id,
                subject: entry.subject.to_string(),
                what: entry.what,
                state: entry.state,
                text: entry.text,
                at: entry.at_ms,
                seconds_ago: now.saturating_since(entry.at).as_secs_f64(),
                count: entry.count,
                because: entry.because,
            });
            if chain.len() >= LONGEST {
                break;
            }
        }
        chain
    }

    fn affected(&self, name: &str) -> Vec<Affected> {
        let key = format!("wants:{name}");
        let slots = self.slots();
        let others = slots.iter().filter(|slot| slot.name() != name);
        let hit = others.filter_map(|slot| {
            let status = slot.status();
            let blocked = status.blocked_by.as_deref() == Some(name);
            let cause = status.degradations.get(&key).cloned();
            let cause = cause.or_else(|| blocked.then(|| status.cause.clone()))?;
            Some(Affected { component: slot.name().to_owned(), state: status.state, cause })
        });
        hit.collect()
    }
}
