//! `tidegate hub admit`: lets a gateway in, with the least rights that it needs.
//!
//! # Invariants
//! - Done means that every server runs the configuration with it in; what is not done is named, and
//!   the same command again does the rest.

use std::io;

use tidegate_translator::TagPath;

use super::super::exit::{self, Failure, NO, OK};
use super::reach::{Reach, ReachArgs};
use super::{Surroundings, token};
use crate::causes::chain;
use crate::config::size::{format as format_size, parse as parse_size};
use crate::hub::operate::{Taken, Which};
use crate::hub::{HubGateway, ensure_stream, publish_directory};
use crate::names::{GatewayId, Share};

/// Let a gateway deliver: its name, where its live values may stand, and its budget
#[derive(Debug, Clone, clap::Args)]
pub struct AdmitArgs {
    /// How the servers are reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// The gateway
    #[arg(value_name = "PLANT/NAME")]
    pub gateway: GatewayId,
    /// Where its live values may stand, such as PlantA/Line3; can be repeated
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub prefix: Vec<TagPath>,
    /// Its budget in the stream, such as "5 GiB"
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub bytes: Option<u64>,
    /// Whom it may ask, PLANT/NAME or PLANT/*; can be repeated
    #[arg(long, value_name = "PLANT/NAME")]
    pub share: Vec<Share>,
    /// Print a token of a single use, with which it enrols at the hub's own authority
    #[arg(long)]
    pub token: bool,
    /// Write the files only; no server is asked
    #[arg(long)]
    pub offline: bool,
}

fn path(text: &str) -> Result<TagPath, String> {
    TagPath::new(text).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write a size such as \"5 GiB\"".to_owned())
}

/// What was done with running servers.
struct Live {
    taken: Vec<Taken>,
    reconnects: usize,
    streams: Result<(), String>,
}

pub(super) fn run(args: &AdmitArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let done = exit::block_on(admit(args));
    let (was, reach, live) = match done {
        Ok(done) => done,
        Err(failure) => return failure.tell(with.err),
    };
    let id = &args.gateway;
    let conf = reach.folder.hub_toml();
    match was {
        Was::New => writeln!(with.out, "{id} is admitted in {}", conf.display())?,
        Was::Other => writeln!(with.out, "{id} has its new rights in {}", conf.display())?,
        Was::Same => writeln!(with.out, "{id} was admitted already")?,
    }
    if args.token
        && let Err(failure) = token::tell(&reach, id, with)?
    {
        return failure.tell(with.err);
    }
    let Some(live) = live else {
        writeln!(with.out, "next: bring each server's folder to its machine, then reload it")?;
        return Ok(OK);
    };
    let live = match live {
        Ok(live) => live,
        Err(failure) => {
            let code = failure.tell(with.err)?;
            writeln!(with.err, "the files are written; run this again once a server answers")?;
            return Ok(code);
        }
    };
    let all = reach.tell(&live.taken, with.out)?;
    if live.reconnects > 0 {
        writeln!(
            with.out,
            "its {} links were cut, to come back with its new rights",
            live.reconnects
        )?;
    }
    if let Err(why) = &live.streams {
        writeln!(
            with.err,
            "warning: the budget of its stream or the directory was not set: {why}; run tidegate hub apply --streams"
        )?;
    }
    Ok(if all { OK } else { NO })
}

/// What the gateway was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    New,
    Other,
    Same,
}

type Done<'a> = (Was, Reach<'a>, Option<Result<Live, Failure>>);

async fn admit(args: &AdmitArgs) -> Result<Done<'_>, Failure> {
    let mut reach = Reach::of(&args.reach)?;
    let mut wanted = reach.file().clone();
    let before = reach.file().gateway(&args.gateway).cloned();
    let gateway = entry(args, before.as_ref());
    let was = match &before {
        None => Was::New,
        Some(before) if *before != gateway => Was::Other,
        Some(_) => Was::Same,
    };
    wanted.gateways.retain(|one| one.id != args.gateway);
    wanted.gateways.push(gateway);
    if was == Was::Same {
        wanted = reach.file().clone();
    }
    reach.write(&wanted)?;
    if args.offline {
        return Ok((was, reach, None));
    }
    let live = live(&reach, args, was).await;
    Ok((was, reach, Some(live)))
}

/// What `hub.toml` is to say of it: what is asked for, else what it says.
fn entry(args: &AdmitArgs, before: Option<&HubGateway>) -> HubGateway {
    let fresh = || HubGateway::new(args.gateway.clone(), Vec::new());
    let mut gateway = before.cloned().unwrap_or_else(fresh);
    if !args.prefix.is_empty() {
        gateway.prefixes.clone_from(&args.prefix);
    }
    if args.bytes.is_some() {
        gateway.bytes = args.bytes;
    }
    if !args.share.is_empty() {
        gateway.shares.clone_from(&args.share);
    }
    gateway
}

async fn live(reach: &Reach<'_>, args: &AdmitArgs, was: Was) -> Result<Live, Failure> {
    let system = reach.system().await?;
    let taken = reach.take_over(&system).await?;
    let mut reconnects = 0;
    if was == Was::Other && taken.iter().all(Taken::is_done) {
        // A link keeps the rights that it was made with.
        let user = reach.file().gateway(&args.gateway).map(HubGateway::subject);
        let links = system.connections(&reach.nodes(), Which::Open, user.as_deref()).await?;
        for link in &links.answers {
            system.kick(link).await?;
            reconnects += 1;
        }
    }
    let streams = streams(reach).await.map_err(|failure| failure.to_string());
    Ok(Live { taken, reconnects, streams })
}

/// Brings the streams' limits to the budgets, as long as nothing that is stored has to go for it.
async fn streams(reach: &Reach<'_>) -> Result<(), Failure> {
    let context = async_nats::jetstream::new(reach.admin().await?);
    for plan in reach.file().stream_plans() {
        let existing = context.get_stream(plan.stream.as_str()).await;
        let holds = existing.map_or(0, |stream| stream.cached_info().state.bytes);
        if let Some(most) = plan.max_bytes.filter(|most| holds > *most) {
            let text = format!(
                "stream {} holds {}, and the budgets come to {}, so that its oldest records would go",
                plan.stream,
                format_size(holds),
                format_size(most)
            );
            return Err(Failure::new(NO, text));
        }
        let done = ensure_stream(&context, &plan).await;
        done.map_err(|error| Failure::new(exit::PEER, chain(&error)))?;
    }
    let written = publish_directory(&context, reach.file()).await;
    written.map(drop).map_err(|error| Failure::new(exit::PEER, chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(prefix: &[&str], bytes: Option<u64>) -> AdmitArgs {
        AdmitArgs {
            reach: ReachArgs::at(".".into()),
            gateway: "P/g".parse().unwrap(),
            prefix: prefix.iter().map(|path| TagPath::new(*path).unwrap()).collect(),
            bytes,
            share: Vec::new(),
            token: false,
            offline: true,
        }
    }

    #[test]
    fn what_is_not_asked_for_stays_as_it_was() {
        let first = entry(&args(&["P/a", "P/b"], Some(7)), None);
        assert_eq!((first.prefixes.len(), first.bytes), (2, Some(7)));
        let again = entry(&args(&[], None), Some(&first));
        assert_eq!(again, first);
        let moved = entry(&args(&["P/c"], None), Some(&first));
        assert_eq!((moved.prefixes.len(), moved.bytes), (1, Some(7)));
    }
}
