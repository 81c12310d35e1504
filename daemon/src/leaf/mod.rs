//! The gateway's own NATS server, a leaf of the hub's.
//!
//! # Invariants
//! - Two accounts, LIVE and RECORD, each with a link of its own to the same hub: live traffic on a
//!   thin line cannot starve the record.
//! - Only the daemon's two users may publish in them. Local applications connect without credentials
//!   and listen; where they may do more, they have an account of their own, APPS.
//! - A managed child never outlives the daemon, however the daemon ends.
//! - The configuration is generated; nothing in it is read back.

mod apps;
mod config;
mod connect;
mod credentials;
mod handle;
mod launch;
mod log;
mod papers;
mod process;
mod server;
mod throttle;

pub use config::{HubLink, LeafPlan, LeafPlanError, generate};
pub(crate) use config::{ingest_subjects, preferred};
pub use connect::{ConnectError, LocalAccess, LocalRole};
pub use credentials::{Credentials, FileError, write_external};
pub use handle::{LeafHandle, LeafState};
pub use launch::{EXEC_LEAF, ExecError, Launcher, Spawner, exec_leaf};
pub use papers::ShowError;
pub use process::{LeafError, LeafProcess, LeafSettings};
pub use server::{MINIMUM, NatsServer, Search, ServerError, Unsuitable, Version, find_server};
