//! The one place that spawns, restarts, and ends tasks.
//!
//! # Invariants
//! - Every task runs under a span with its configured name, in one `JoinSet`; none is detached.
//! - A *driver* that ends or panics is started again, for ever: within its budget by growing
//!   back-off, beyond it at the longest back-off. It never takes another one down.
//! - A *core* task that ends unasked or panics ends the process with an error, after the others
//!   were drained; one that hangs stops ticking its [`Pulse`], and systemd ends the process.
//! - Draining has an order ([`Stage`]) and a deadline per stage; a second signal ends it at once.
//! - READY says that the tasks run. It never waits for a PLC, a hub, or any network.

mod drain;
mod drivers;
mod pulse;
mod restart;
mod settings;
mod signals;
mod supervisor;
mod systemd;
mod witness;

pub use drivers::{DriverBuild, DriverId, DriverKind, Drivers, SupervisorGone};
pub use pulse::{Pulse, Pulses};
pub use restart::{Next, RestartPolicy, Restarts};
pub use settings::{DrainPolicy, Outcome, Settings, Stage};
pub use signals::{Signal, Signals};
pub use supervisor::{CoreResult, ReloadFuture, Supervisor};
pub use systemd::{Notice, ServiceManager, Systemd, watchdog_period};
pub use witness::Witness;
