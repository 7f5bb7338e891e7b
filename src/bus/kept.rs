//! Dead letters wherever their events were given up: a broker keeps those of all processes. In
//! memory they are the ones on the shelf of this bus.

use std::collections::HashSet;
use std::sync::Arc;

use super::dead_letters::DeadLetter;
use super::failure::Failure;
use super::handle::Bus;
use crate::error::{Category, Error, Kind, Result};
use crate::event::Event;
use crate::sync::Mutex;
use crate::transport::Letters;
use crate::transport::letters::{Again, Kept};

/// A dead letter, and where it is kept.
#[derive(Clone, Debug)]
pub struct KeptLetter {
    /// What was given up, and why.
    pub letter: DeadLetter,
    /// What the broker calls it; empty in memory.
    id: String,
    /// Where it was read before; empty in memory.
    place: String,
}

/// Which ones are meant.
pub type Picks = Box<dyn Fn(&KeptLetter) -> bool + Send>;

impl Bus {
    /// Those that `picks` picks, the oldest first, and at most so many.
    ///
    /// # Errors
    /// What the broker said, or `Kind::Dependency` where it does not answer; `Kind::Lifecycle`
    /// for a transport that keeps none.
    pub async fn kept_letters(&self, picks: Picks, most: usize) -> Result<Vec<KeptLetter>> {
        let Some(remote) = self.0.remote() else {
            let letters = self.0.dead_letters.list().into_iter().map(KeptLetter::here);
            return Ok(letters.filter(|letter| picks(letter)).take(most).collect());
        };
        let found = Arc::new(Mutex::new(Vec::new()));
        let finding = found.clone();
        let take = move |kept| {
            let mut finding = finding.lock();
            match KeptLetter::read(kept) {
                Ok(letter) if finding.len() < most && picks(&letter) => finding.push(letter),
                Ok(_) => {}
                Err((id, why)) => tracing::warn!(
                    target: "tiebeam::bus", id, "among the dead letters is one that cannot be read: {why}"
                ),
            }
            finding.len() < most
        };
        kept_by(remote.letters())?.each(Box::new(take)).await?;
        let found = std::mem::take(&mut *found.lock());
        Ok(found)
    }

    /// Has those that `picks` picks handled again by the group that gave each up, wherever it
    /// runs; how many. Those stay for which there is no group, and whose deadline is over.
    ///
    /// # Errors
    /// As [`Bus::kept_letters`].
    pub async fn replay_kept(&self, picks: Picks) -> Result<usize> {
        let Some(remote) = self.0.remote() else {
            return Ok(self.replay_dead_letters(|letter| picks(&KeptLetter::here(letter.clone()))));
        };
        let mut letters = self.kept_letters(picks, usize::MAX).await?;
        let now = self.clock().unix_ms();
        letters.retain(|kept| !kept.letter.event.is_expired(now));
        let again = letters.iter().map(|kept| Again {
            id: kept.id.clone(),
            event: kept.letter.event.clone(),
            place: kept.place.clone(),
            group: kept.letter.group.clone(),
        });
        let sent = kept_by(remote.letters())?.send_again(again.collect()).await?;
        let sent: HashSet<String> = sent.into_iter().collect();
        self.let_go(letters.iter().filter(|kept| sent.contains(&kept.id)));
        Ok(sent.len())
    }

    /// Throws those away that `picks` picks; how many.
    ///
    /// # Errors
    /// As [`Bus::kept_letters`].
    pub async fn purge_kept(&self, picks: Picks) -> Result<usize> {
        let Some(remote) = self.0.remote() else {
            let picks = |letter: &DeadLetter| picks(&KeptLetter::here(letter.clone()));
            return Ok(self.0.dead_letters.take(picks).len());
        };
        let letters = self.kept_letters(picks, usize::MAX).await?;
        let ids = letters.iter().map(|kept| kept.id.clone()).collect();
        let gone = kept_by(remote.letters())?.forget(ids).await?;
        self.let_go(letters.iter());
        Ok(gone)
    }

    /// What is gone from the broker is gone from our shelf.
    fn let_go<'a>(&self, letters: impl Iterator<Item = &'a KeptLetter>) {
        let names: HashSet<&str> = letters.map(|kept| &*kept.letter.name).collect();
        self.0.dead_letters.take(|letter| names.contains(&*letter.name));
    }
}

fn kept_by(letters: Option<&dyn Letters>) -> Result<&dyn Letters> {
    letters.ok_or_else(|| {
        let said = "this transport keeps no dead letters";
        Error::new(Kind::Lifecycle, "read dead letters", said)
    })
}

impl KeptLetter {
    /// One on the shelf of this bus.
    fn here(letter: DeadLetter) -> KeptLetter {
        KeptLetter { letter, id: String::new(), place: String::new() }
    }

    fn read(kept: Kept) -> Result<KeptLetter, (String, String)> {
        let Kept { id, text, place, reason } = kept;
        let letter = match reason {
            None => DeadLetter::from_text(&text),
            Some(reason) => by_the_broker(&text, &place, reason),
        };
        match letter {
            Ok(mut letter) => {
                if letter.name.is_empty() {
                    letter.name = id.as_str().into();
                }
                Ok(KeptLetter { letter, id, place })
            }
            Err(why) => Err((id, why)),
        }
    }
}

/// The broker has nothing but the event, and why it gave it up.
fn by_the_broker(text: &str, place: &str, reason: String) -> Result<DeadLetter, String> {
    let event = Event::from_json(text).map_err(|error| error.to_string())?;
    Ok(DeadLetter {
        id: 0,
        name: "".into(),
        subscription: place.into(),
        subscription_id: 0,
        component: None,
        group: None,
        failure: Failure::new(
            Category::Dependency,
            "GivenUpByBroker",
            format!("the broker gave it up: {reason}"),
        ),
        reason: reason.into(),
        attempts: event.metadata.retry_count,
        timestamp: event.timestamp,
        event: Arc::new(event),
    })
}
