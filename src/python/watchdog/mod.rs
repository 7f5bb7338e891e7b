//! The watchdog: names what does not come back, and says what it is at.
//!
//! One timer looks now and then at everything that is under way, without the GIL and without a
//! word from what it watches: handlers leave traces anyway (the beats of a loop, time limits, what a
//! thread is at). What has stood still for too long is looked into
//! on another thread, with the GIL; where that is not to be had, whoever holds it is looked for by
//! what the system says of threads ([`crate::health::ThreadSample`]).
//!
//! | file | idea |
//! | --- | --- |
//! | `suspect` | who it is that stands still, and where; who looks for such |
//! | `rounds` | the looks, one after the other; who is stuck at this moment |
//! | `inquest` | looking into suspects: with the GIL, and without |
//! | `told` | what is said of one that is stuck, and when it comes back |
//! | `traces` | what threads are at: handlers inside `publish`, fallbacks |
//! | `under_way` | what one bus has under way: calls, suspensions, what left traces, hooks |
//! | `asker` | how often one wakes that asks for the GIL |
//! | `hook` | a hook of a component |

mod asker;
mod hook;
mod inquest;
mod rounds;
mod suspect;
mod told;
mod traces;
mod under_way;

pub(super) use hook::PyHookWatch;
pub(super) use inquest::elsewhere;
pub(super) use rounds::Watchdog;
pub(super) use suspect::{Look, Place, Source, Suspect, Who};
pub(super) use told::Stalled;
pub(super) use traces::{Part, Standing, event_at, traced};
pub(super) use under_way::UnderWay;
