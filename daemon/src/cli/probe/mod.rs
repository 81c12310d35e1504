//! `tidegate probe`: what a device is and holds, before it is configured.

mod modbus;
pub(super) mod opcua;
mod reason;
mod replay;
mod screen;
mod section;
mod show;
mod target;
mod tree;

use std::process::ExitCode;

/// Find out what a device is and holds, before it is configured.
#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    /// What to probe.
    #[command(subcommand)]
    pub what: Probe,
}

/// What is probed.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Probe {
    /// Look at a Modbus device: units, identification, readable registers, limits, times
    Modbus(Box<modbus::ModbusArgs>),
    /// Look at an OPC UA server: endpoints, certificate, trust, clock, log-on, limits
    Opcua(Box<opcua::OpcuaArgs>),
    /// Judge and decode again what a device's black box holds, without the device
    Replay(replay::ReplayArgs),
}

/// Runs it.
#[must_use]
pub fn probe(args: &ProbeArgs) -> ExitCode {
    match &args.what {
        Probe::Modbus(args) => modbus::modbus(args),
        Probe::Opcua(args) => opcua::opcua(args),
        Probe::Replay(args) => replay::again(args),
    }
}
