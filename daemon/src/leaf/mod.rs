//! The gateway's own NATS server, a leaf of the hub's.
//!
//! # Invariants
//! - Two accounts, LIVE and RECORD, each with a link of its own to the same hub: live traffic on a
//!   thin line cannot starve the record.
//! - Only the daemon's two users may publish in them. Local applications connect without credentials
//!   and listen; where they may do more, they have an account of their own, APPS.
//! - A managed child never outlives the daemon, however the daemon ends; a service of its own always
//!   does. Both are told the same, by the same code (`told`), and what is seen of both is the same.
//! - The configuration is generated; nothing in it is read back.

mod apps;
mod config;
mod connect;
mod copies;
mod credentials;
mod handle;
mod launch;
mod log;
mod papers;
mod process;
mod request;
mod server;
mod service;
mod throttle;
mod told;

pub use config::{HubLink, LeafPlan, LeafPlanError, generate};
pub(crate) use config::{ingest_subjects, preferred};
pub use connect::{ConnectError, LocalAccess, LocalRole};
pub use credentials::{Credentials, FileError};
pub use handle::{LeafHandle, LeafState};
pub use launch::{EXEC_LEAF, ExecError, Launcher, Spawner, exec_leaf};
pub use papers::ShowError;
pub use process::{LeafError, LeafProcess, LeafSettings};
pub use server::{MINIMUM, NatsServer, Search, ServerError, Unsuitable, Version, find_server};
pub use service::{LeafService, ServiceSettings};
