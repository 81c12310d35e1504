//! `tidegate sim`: a simulated PLC in the terminal.

use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_translator::CancellationToken;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::sim::{Behaviour, Profile, serve};

/// Answer Modbus TCP like a PLC whose values move, until interrupted.
#[derive(Debug, Clone, clap::Args)]
pub struct SimArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1502")]
    pub listen: SocketAddr,
    /// What kind of PLC to simulate.
    #[arg(long, value_enum, default_value_t = Profile::Press)]
    pub profile: Profile,
    /// Milliseconds from one count of the counters to the next.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub step_ms: u64,
    /// Milliseconds to think before each answer.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// Close the connection instead of answering every N-th request on it.
    #[arg(long, value_name = "N")]
    pub drop_every: Option<NonZeroU32>,
    /// Print the bound address as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// The line that `tidegate sim --json` prints once it listens.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SimListening {
    /// The bound address, the port that was taken included.
    pub listen: SocketAddr,
}

/// Why there is no simulated PLC.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}; choose another --listen, port 0 takes a free one")]
    Listen {
        /// The address that was asked for.
        listen: SocketAddr,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Nobody could be told where it listens, or signals cannot be awaited.
    #[error("the terminal or its signals cannot be used")]
    Terminal(#[source] std::io::Error),
}

/// Runs until SIGINT or SIGTERM. Tells on stdout where it listens, in one line, before the first
/// client can be served.
///
/// # Errors
/// When the address cannot be listened on, stdout is closed, or signals cannot be awaited.
pub async fn run(args: SimArgs) -> Result<(), SimError> {
    let refused = |source| SimError::Listen { listen: args.listen, source };
    let listener = TcpListener::bind(args.listen).await.map_err(refused)?;
    let listen = listener.local_addr().map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(SimError::Terminal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SimError::Terminal)?;

    let line = if args.json {
        serde_json::to_string(&SimListening { listen }).map_err(|e| SimError::Terminal(e.into()))?
    } else {
        format!("simulated PLC listens on {listen}")
    };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(SimError::Terminal)?;
    drop(stdout);

    let behaviour = Behaviour {
        profile: args.profile,
        step: Duration::from_millis(args.step_ms),
        delay: Duration::from_millis(args.delay_ms),
        drop_every: args.drop_every,
    };
    tokio::select! {
        () = serve(listener, behaviour, CancellationToken::new()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sim: SimArgs,
    }

    #[test]
    fn the_options_are_those_of_the_documentation() {
        let sim = Line::try_parse_from(["tidegate"]).unwrap().sim;
        assert_eq!(sim.listen, "127.0.0.1:1502".parse().unwrap());
        assert_eq!((sim.profile, sim.step_ms, sim.delay_ms), (Profile::Press, 100, 0));
        let page = include_str!("../../../docs/sim.md");
        for option in ["--listen", "--profile", "--step-ms", "--delay-ms", "--drop-every", "--json"]
        {
            assert!(page.contains(&format!("| `{option}")), "docs/sim.md lacks {option}");
        }
        for wrong in [["--step-ms", "0"], ["--drop-every", "0"], ["--profile", "mill"]] {
            assert!(Line::try_parse_from(["tidegate", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let listening = SimListening { listen: "127.0.0.1:40001".parse().unwrap() };
        let line = serde_json::to_string(&listening).unwrap();
        assert_eq!(line, r#"{"listen":"127.0.0.1:40001"}"#);
        assert_eq!(serde_json::from_str::<SimListening>(&line).unwrap(), listening);
    }
}
