//! The Tidegate daemon: configuration, supervision, recorder, live plane, uplink, leaf, and the
//! command line over them. `ARCHITECTURE.md` has the map.

pub mod appliance;
pub mod asker;
mod bulk;
mod by_tag;
pub mod causes;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
mod discretion;
#[cfg(feature = "hub")]
pub mod hub;
pub mod hubread;
pub mod identity;
mod ingest;
pub mod leaf;
pub mod live;
#[cfg(feature = "analysis")]
pub mod mcp;
pub mod names;
mod nats_conf;
mod notary;
pub mod observe;
pub mod query;
pub mod recorder;
pub mod run;
mod shared;
pub mod sheet;
#[cfg(feature = "sim")]
pub mod sim;
pub mod subjects;
pub mod supervise;
pub mod system_account;
pub mod tap;
mod toml_text;
mod upkeep;
pub mod uplink;
pub mod wan;
