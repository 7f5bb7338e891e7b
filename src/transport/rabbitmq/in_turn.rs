//! Reading a queue that gives to one reader of its group at a time, so that the order of keys holds
//! for all of them.
//!
//! The broker makes another one the active reader as soon as this one ends its subscription, and
//! not only when all is acknowledged that it had. So that is never ended as long as something is at
//! work: the reader keeps it, and in the end closes the channel, by which the broker puts back what
//! is left in its old order before it gives it to the next one.

use lapin::Channel;
use lapin::message::Delivery;

use super::fault::Cause;
use super::names::short;
use super::reader::{Reader, counted};

/// How often the first of several in a row that were given out before had been; 0 where the last
/// one was new.
#[derive(Default)]
pub(super) struct Row(u64);

impl Row {
    /// As how often given out the next one of a row counts. What ends its readers is at the head
    /// of the queue, and all that these were given with it, or may have got to, stand behind: it is
    /// the first that is judged.
    fn count(&mut self, deliveries: u64) -> u64 {
        let behind = deliveries <= self.0;
        self.0 = self.0.max(deliveries);
        if behind { 2 } else { deliveries }
    }
}

impl Reader {
    /// Brings messages in their order. What was given out before may be what ended those who had
    /// it: it comes by itself, after all before it.
    pub(super) async fn bring_in_turn(&self, found: Vec<Delivery>, session: u64, row: &mut Row) {
        let mut new = Vec::new();
        for (delivery, deliveries) in found.into_iter().map(counted) {
            if deliveries == 1 {
                *row = Row::default();
                new.push((delivery, deliveries));
                continue;
            }
            self.bring(std::mem::take(&mut new).into_iter(), session).await;
            self.holding.all_told(session).await;
            let alone = (delivery, row.count(deliveries));
            self.bring(std::iter::once(alone), session).await;
        }
        self.bring(new.into_iter(), session).await;
    }

    /// Tells the broker what was settled once nothing is at work any more, and closes the channel:
    /// until then, the broker gives no more than it has, and nobody else anything.
    pub(super) async fn leave_in_turn(&self, channel: &Channel, session: u64) -> Result<(), Cause> {
        loop {
            let ended = self.holding.something_ended();
            self.put_all_aside().await;
            if self.holding.is_handled(session) {
                break;
            }
            ended.await;
        }
        self.tell(channel, session).await?;
        channel.close(200, short("OK")?).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_in_a_row_is_judged_by_how_often_it_was_given_out() {
        let mut row = Row::default();
        assert_eq!([5, 5, 3, 2].map(|count| row.count(count)), [5, 2, 2, 2]);
        assert_eq!(row.count(6), 6, "it was given out without the first one, too");
        row = Row::default();
        assert_eq!(row.count(4), 4, "something new stood between them");
    }
}
