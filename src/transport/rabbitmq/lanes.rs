//! The channels that events are sent over: one for those whose publisher need not know whether
//! somebody reads them, one for those that come back where nobody does.

use std::sync::Arc;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;

use super::Inner;
use super::delay;
use super::fault::Cause;
use super::link::Wire;
use super::pulse;
use super::topology::Declaring;

/// The channels, each made when it is needed.
pub(super) struct Lanes {
    inner: Arc<Inner>,
    plain: Option<Lane>,
    asked: Option<Lane>,
    declared: Declared,
}

struct Lane {
    wire: Arc<Wire>,
    channel: Arc<Channel>,
}

/// What is declared of the ways of delayed events.
#[derive(Default)]
struct Declared {
    /// How many levels from the lowest on.
    exchanges: u32,
    /// Which levels, as digits.
    queues: u32,
}

/// What a batch of events needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    pub plain: bool,
    pub asked: bool,
    /// The levels at which some of them wait, as digits.
    pub steps: u32,
}

impl Lanes {
    pub fn new(inner: &Arc<Inner>) -> Lanes {
        Lanes { inner: inner.clone(), plain: None, asked: None, declared: Declared::default() }
    }

    /// Makes what is needed and not there.
    pub async fn ready(&mut self, needs: Needs) -> Result<(), Cause> {
        if needs.plain && !holds(&self.plain) {
            self.plain = Some(self.open().await?);
        }
        if needs.asked && !holds(&self.asked) {
            self.declared = Declared::default();
            self.asked = Some(self.open().await?);
        }
        let Declared { exchanges, queues } = self.declared;
        if needs.steps != 0
            && (needs.steps & !queues != 0 || delay::highest(needs.steps) >= exchanges)
        {
            let declaring = Declaring::on(&self.inner.publishing, &self.inner.names).await?;
            declaring.delays(needs.steps).await?;
            self.declared = Declared {
                exchanges: exchanges.max(delay::highest(needs.steps) + 1),
                queues: queues | needs.steps,
            };
        }
        Ok(())
    }

    async fn open(&self) -> Result<Lane, Cause> {
        let link = &self.inner.publishing;
        // Each time: what they are published to may have been deleted.
        make_exchanges(&self.inner).await?;
        let (wire, channel) = link.channel().await?;
        link.answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Lane { wire, channel: Arc::new(channel) })
    }

    /// The channel for events that come back where nobody reads them, or for others.
    pub fn channel(&self, asked: bool) -> Option<Arc<Channel>> {
        let lane = if asked { &self.asked } else { &self.plain };
        lane.as_ref().map(|lane| lane.channel.clone())
    }

    /// Gives up the channel of events that come back: something is still under way there of which
    /// nobody waits for the answer.
    pub fn leave_asked(&mut self) {
        self.asked = None;
    }

    /// What is declared may not be there any more.
    pub fn declare_again(&mut self) {
        self.declared = Declared::default();
    }

    /// Sees whether the broker still answers over the connections that are in use.
    pub fn feel_pulse(&self) {
        let mut wires: Vec<&Arc<Wire>> = Vec::new();
        for Lane { wire, .. } in self.plain.iter().chain(&self.asked) {
            if !wires.iter().any(|other| Arc::ptr_eq(other, wire)) {
                wires.push(wire);
            }
        }
        for wire in wires {
            let asking = pulse::ask(self.inner.clone(), wire.clone());
            self.inner.tasks.spawn_on(asking, &self.inner.runtime);
        }
    }

    /// Whether the broker takes nothing just now.
    pub fn are_blocked(&self) -> bool {
        let mut lanes = self.plain.iter().chain(&self.asked);
        lanes.any(|lane| lane.wire.is_blocked() && lane.channel.status().connected())
    }
}

/// Sees to it that what events are published to is there.
pub(super) async fn make_exchanges(inner: &Inner) -> Result<(), Cause> {
    Declaring::on(&inner.publishing, &inner.names).await?.exchanges().await
}

fn holds(lane: &Option<Lane>) -> bool {
    lane.as_ref().is_some_and(|lane| lane.channel.status().connected())
}
