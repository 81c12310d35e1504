//! The Tidegate daemon: configuration, supervision, recorder, live plane, uplink, leaf, and the
//! command line over them. `ARCHITECTURE.md` has the map.

pub mod cli;
pub mod config;
pub mod names;
pub mod subjects;
