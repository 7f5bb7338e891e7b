//! What is called how on the broker.

use lapin::types::ShortString;

use super::delay;
use super::fault::Cause;
use crate::transport::To;

/// The names of exchanges and queues.
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.to_owned() }
    }

    /// The exchange of all events.
    pub fn topic(&self) -> String {
        self.prefix.clone()
    }

    /// The exchange of what goes to one reader: commands, requests and replies.
    pub fn direct(&self) -> String {
        format!("{}.direct", self.prefix)
    }

    /// The exchange for what was given up.
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The queue in which it is kept.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead.letters", self.prefix)
    }

    /// Whether a queue stands under this prefix, and is one that somebody reads: none in which
    /// events only wait.
    pub fn is_ours(&self, queue: &str) -> bool {
        let rest = queue.strip_prefix(&*self.prefix).unwrap_or_default();
        rest.starts_with('.') && !rest.starts_with(".delay.")
    }

    /// The queue of what is no event.
    pub fn quarantine(&self) -> String {
        format!("{}.quarantine", self.prefix)
    }

    /// The exchange, and the queue, where events wait for as long as `level` says.
    pub fn delay(&self, level: u32) -> String {
        format!("{}.delay.{level}", self.prefix)
    }

    /// The exchange of delayed events that are due.
    pub fn due(&self) -> String {
        format!("{}.due", self.prefix)
    }

    /// The exchange, and the queue, of delayed events that nobody read when they were due.
    pub fn unread(&self) -> String {
        format!("{}.unread", self.prefix)
    }

    /// The queue of a group. Groups have a word of their own: one may be called as anything else.
    pub fn group(&self, group: &str) -> String {
        format!("{}.group.{group}", self.prefix)
    }

    /// The queue of this process alone.
    pub fn broadcast(&self, address: &str) -> String {
        format!("{}.broadcast.{address}", self.prefix)
    }

    /// The queue behind a key of the direct exchange.
    pub fn behind(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// The exchange that an event is published to, and its routing key there.
    pub fn of(&self, topic: &str, to: To<'_>) -> (String, String) {
        match to {
            To::Topic => (self.topic(), topic.to_owned()),
            To::Command => (self.direct(), command(topic)),
            To::Request => (self.direct(), request(topic)),
            To::Reply(address) => (self.direct(), reply(address)),
        }
    }

    /// The key of the same event among those that are delayed: behind the time that it waits.
    pub fn kept_key(&self, exchange: &str, key: &str) -> String {
        if exchange == self.prefix { format!("topic.{key}") } else { format!("direct.{key}") }
    }

    /// What a queue that is bound to an exchange by a key is bound to the exchange of due events
    /// by.
    pub fn due_key(&self, exchange: &str, key: &str) -> String {
        format!("{}{}", delay::any(), self.kept_key(exchange, key))
    }
}

/// The key of the commands of a type.
pub(super) fn command(topic: &str) -> String {
    format!("command.{topic}")
}

/// The key of the requests of a type.
pub(super) fn request(topic: &str) -> String {
    format!("request.{topic}")
}

/// The key of the replies to a process.
pub(super) fn reply(address: &str) -> String {
    format!("reply.{address}")
}

/// A name as the protocol has it, which is no longer than 255 bytes.
pub(super) fn short(name: &str) -> Result<ShortString, Cause> {
    ShortString::try_new(name).map_err(|_| Cause::LongName(name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_be_called_as_anything_else() {
        let names = Names::new("t");
        let own = [names.dead_letters(), names.quarantine(), names.behind(&command("a.b"))];
        for group in ["dead.letters", "quarantine", "command.a.b"] {
            assert!(!own.contains(&names.group(group)), "{group}");
        }
    }

    #[test]
    fn the_longest_topic_has_room_behind_the_time_that_it_waits() {
        let names = Names::new(&"p".repeat(64));
        let topic = "t".repeat(128);
        let (exchange, key) = names.of(&topic, To::Command);
        assert!(short(&names.due_key(&exchange, &key)).is_ok());
        assert!(short(&names.behind(&key)).is_ok());
        assert!(short(&"x".repeat(256)).is_err());
    }
}
