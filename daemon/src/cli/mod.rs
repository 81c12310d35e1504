//! The command line: arguments, and which function each command is.

mod absent;
pub mod appliance;
mod ask;
pub mod backup;
pub mod browse;
pub mod check;
#[cfg(feature = "analysis")]
pub mod completions;
mod device;
#[cfg(feature = "analysis")]
pub mod docs;
pub(crate) mod exit;
#[cfg(feature = "hub")]
pub mod hub;
pub mod identity;
pub mod init;
#[cfg(feature = "analysis")]
mod man;
mod once;
pub mod probe;
pub mod prove;
pub mod query;
#[cfg(feature = "sim")]
pub mod sim;
mod span;
pub mod status;
pub mod support;
pub mod tags;
pub mod tap;
pub mod terminal;
mod watch;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser as _, Subcommand};
use tidegate_modbus::{DeviceSpec, Table};

use crate::config::polls::Plan;
use crate::leaf::{EXEC_LEAF, exec_leaf};
use crate::{discretion, run};

/// Reads PLCs, publishes live values, keeps a crash-proof record and delivers it exactly once.
#[derive(Debug, clap::Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Init(init::InitArgs),
    Check(check::CheckArgs),
    Probe(probe::ProbeArgs),
    Browse(Box<browse::BrowseArgs>),
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
    #[cfg(feature = "sim")]
    Sim(sim::SimArgs),
    Status(status::StatusArgs),
    Tags(tags::TagsArgs),
    Prove(prove::ProveArgs),
    Tap(Box<tap::TapArgs>),
    Query(Box<query::QueryArgs>),
    Read(Box<query::ReadArgs>),
    #[cfg(feature = "analysis")]
    Mcp(Box<crate::mcp::McpArgs>),
    Identity(identity::IdentityArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    SupportBundle(support::SupportArgs),
    Appliance(appliance::ApplianceArgs),
    #[cfg(feature = "hub")]
    #[command(flatten)]
    Hub(hub::HubCommands),
    #[cfg(feature = "analysis")]
    #[command(hide = true)]
    InternalDocs(docs::DocsArgs),
    #[cfg(feature = "analysis")]
    #[command(hide = true)]
    InternalCompletions(completions::CompletionsArgs),
}

/// Runs the command line and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything else, and with as little as possible: this process becomes another program.
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_ref().is_some_and(|first| first == EXEC_LEAF) {
        return become_leaf(arguments);
    }
    if let Some(absent) = first.and_then(|first| absent::command(first.to_str()?)) {
        return absent.told();
    }
    // Any command may hold a key or a token.
    discretion::keep_memory_private();
    match Arguments::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Init(args) => {
            let host = host();
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            let mut ask = |access: &probe::opcua::access::Access, below: &_| {
                let look = async { Ok(browse::look(access, below).await) };
                exit::block_on(look).unwrap_or_default()
            };
            written(init::run(&args, Some(&host), &mut ask, &mut out, &mut err))
        }
        Command::Check(args) => check(&args),
        Command::Probe(args) => probe::probe(&args),
        Command::Browse(args) => browse::browse(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => crate::demo::run(&args),
        #[cfg(feature = "sim")]
        Command::Sim(args) => sim(args),
        Command::Status(args) => status::status(&args),
        Command::Tags(args) => tags(&args),
        Command::Prove(args) => prove::prove(&args),
        Command::Tap(args) => tap::tap(&args),
        Command::Query(args) => query::query(&args),
        Command::Read(args) => query::read(&args),
        #[cfg(feature = "analysis")]
        Command::Mcp(args) => crate::mcp::mcp(&args),
        Command::Identity(args) => manage(&args),
        Command::Backup(args) => written(with_surroundings(|with| backup::backup(&args, with))),
        Command::Restore(args) => written(with_surroundings(|with| backup::restore(&args, with))),
        Command::SupportBundle(args) => {
            written(with_surroundings(|with| support::support_bundle(&args, with)))
        }
        Command::Appliance(args) => written(with_surroundings(|with| appliance::run(&args, with))),
        #[cfg(feature = "hub")]
        Command::Hub(command) => hub::main(&command),
        #[cfg(feature = "analysis")]
        Command::InternalDocs(args) => {
            written(docs::run(&args, &mut std::io::stdout(), &mut std::io::stderr()))
        }
        #[cfg(feature = "analysis")]
        Command::InternalCompletions(args) => {
            written(completions::run(&args, &mut std::io::stdout(), &mut std::io::stderr()))
        }
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn manage(args: &identity::IdentityArgs) -> ExitCode {
    written(with_surroundings(|with| identity::run(args, with)))
}

fn with_surroundings<T>(run: impl FnOnce(identity::Surroundings<'_>) -> T) -> T {
    run(identity::Surroundings {
        environment: std::env::vars_os().collect(),
        now: std::time::SystemTime::now(),
        host: Some(host()),
        colour: terminal::colour(std::io::stdout().is_terminal()),
        out: &mut std::io::stdout(),
        err: &mut std::io::stderr(),
    })
}

fn become_leaf(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match exec_leaf(arguments) {
        Ok(never) => match never {},
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", crate::causes::chain(&error));
            ExitCode::from(exit::PEER)
        }
    }
}

fn written(code: std::io::Result<u8>) -> ExitCode {
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::DISK),
    }
}

#[cfg(feature = "sim")]
fn sim(args: sim::SimArgs) -> ExitCode {
    let ran = exit::block_on(async {
        let failed =
            |error: sim::SimError| exit::Failure::new(exit::PEER, crate::causes::chain(&error));
        sim::run(args).await.map_err(failed)
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

fn tags(args: &tags::TagsArgs) -> ExitCode {
    use tags::TagsCommand::{Export, Import};
    let environment = || std::env::vars_os().collect();
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    match &args.command {
        None => tags::tags(args),
        Some(Import(args)) => {
            written(tags::import::run(args, environment(), &plan, &mut out, &mut err))
        }
        Some(Export(args)) => written(tags::export::run(args, environment(), &mut out, &mut err)),
    }
}

/// The requests of one cycle.
fn plan(spec: &DeviceSpec) -> Plan {
    let plan = tidegate_modbus::Plan::new(spec);
    let blocks = plan.as_ref().map(tidegate_modbus::Plan::blocks).unwrap_or_default();
    blocks.iter().map(block).collect()
}

fn check(args: &check::CheckArgs) -> ExitCode {
    let surroundings = check::Surroundings {
        environment: std::env::vars_os().collect(),
        plan: &plan,
        read: &mut once::read_once,
        colour: terminal::colour(std::io::stdout().is_terminal()),
        out: &mut std::io::stdout(),
        err: &mut std::io::stderr(),
    };
    written(check::run(args, surroundings))
}

fn block(block: &tidegate_modbus::Block) -> (Table, u16, u16) {
    (block.table, block.start, block.count)
}
