//! `tidegate mcp`: what can be asked, as tools for agents (Model Context Protocol).
//!
//! # Invariants
//! - Read-only: no tool changes anything, at a device, a gateway or the hub.
//! - Over standard streams stdout carries the protocol alone; whatever is said goes to stderr.
//! - An answer says first whether it is complete.

mod desk;
mod everywhere;
mod http;
mod said;
mod tools;
mod wishes;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use rmcp::ServiceExt as _;
use rmcp::transport::io::stdio_pipes;
use tokio_util::sync::CancellationToken;

use crate::asker::ReachArgs;
use crate::cli::exit;
use everywhere::Everywhere;
use tools::Tools;

/// Serve what can be asked to agents, as tools of the Model Context Protocol.
///
/// Over standard input and output, as agents start their servers; with --listen over streamable HTTP
/// for whoever is on this machine. Everything is read-only.
#[derive(Debug, Clone, clap::Args)]
pub struct McpArgs {
    /// Where questions are asked.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Serve streamable HTTP here, on loopback, instead of standard input and output
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
}

/// Runs it: 0 the agent has ended, 2 an address that cannot be listened on, 69 the agent cannot be
/// served.
#[must_use]
pub fn mcp(args: &McpArgs) -> ExitCode {
    match exit::block_on(serve(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

async fn serve(args: &McpArgs) -> Result<(), exit::Failure> {
    let tools = Tools::new(Arc::new(Everywhere { reach: args.reach.clone() }));
    let Some(listen) = args.listen else {
        let said = |error: &dyn std::error::Error| {
            exit::Failure::new(exit::PEER, format!("the agent cannot be served: {error}"))
        };
        let serving = tools.serve(stdio_pipes()).await.map_err(|error| said(&error))?;
        return serving.waiting().await.map(drop).map_err(|error| said(&error));
    };
    let failed = |error: std::io::Error| {
        exit::Failure::new(exit::USAGE, format!("--listen {listen}: {error}"))
    };
    let listener = http::bind(listen).await.map_err(failed)?;
    let address = listener.address().map_err(failed)?;
    // Nobody needs the line when stderr is gone.
    let _ = writeln!(std::io::stderr(), "serving agents at http://{address}/mcp until Ctrl-C");
    listener.serve(tools, CancellationToken::new()).await;
    Ok(())
}
