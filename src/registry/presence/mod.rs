//! Who else is there: processes tell each other what runs in them, for as long as they say so.
//!
//! Every process that a broker connects with others announces its components: at its start, at
//! each change, and at an interval. What it says holds for the lease that it names, counted from
//! when it was heard by the clock of whoever heard it; clocks of other machines play no part. A
//! process alone in memory announces nothing: nobody could hear it.
//!
//! | file | idea |
//! | --- | --- |
//! | `announcement` | what a process says of itself, and what is refused of that |
//! | `table` | who is there, decided from what was heard and when: pure |
//! | `others` | the table as it is asked, and waited for |
//! | `messenger` | from the start to the goodbye: when it is told, and when it is looked |
//! | `telling`, `watching` | what is told of us; what is heard of others, and what follows |
//! | `inquiry` | asking one process: ping, info, stats |

mod announcement;
mod inquiry;
mod messenger;
mod others;
mod table;
mod telling;
mod watching;

pub use announcement::{Announcement, Told};
pub use inquiry::Question;
pub use messenger::{Identity, Presence};
pub use others::{Others, Service};
pub use table::{Heard, Table};
