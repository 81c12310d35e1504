//! The Tidegate daemon: configuration, supervision, recorder, live plane, uplink, leaf, and the
//! command line over them. `ARCHITECTURE.md` has the map.

pub mod causes;
pub mod cli;
pub mod config;
pub mod hub;
pub mod names;
mod nats_conf;
pub mod subjects;
