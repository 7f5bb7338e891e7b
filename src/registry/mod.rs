//! Which components there are, in what order they start and stop, and who restarts them.
//!
//! [`graph`] and [`supervision`] decide; everything else here does. A [`Registry`] owns one
//! [`Slot`] per component; its operations on one component run one after the other, those on
//! independent components at the same time.

mod blame;
mod component;
mod directory;
mod ear;
mod elsewhere;
pub mod graph;
mod hook;
mod losses;
mod meters;
mod monitor;
mod needs;
pub mod presence;
pub mod record;
mod slot;
mod start;
mod stop;
mod supervise;
pub mod supervision;
mod why;

pub use component::{Component, ComponentConfig, Descriptor, HealthAnswer};
pub use directory::{PolicyBreaker, Registry, RegistryOptions, Spawn, Special};
pub use losses::{Loss, Return};
pub use meters::{LastError, Meters};
pub use monitor::{
    Look, Monitor, Place, ProcessHealth, PromiseHealth, RemoteHealth, SystemHealth, WeakMonitor,
    health_thresholds,
};
pub use slot::{Slot, Status};
pub use start::StartReport;
pub use stop::StopReport;
pub use why::{Affected, Link, Why};
