//! `tidegate hub revoke`: shuts a gateway out, and sees that it is gone.
//!
//! # Invariants
//! - The order is: out of `hub.toml`, out of the servers, then its connections are cut. The other
//!   way round it would come back.
//! - Gone means that every server answered that it holds no connection of it, twice in a row. A
//!   server that said nothing, or still runs another configuration, is named, and the exit code
//!   is not 0.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use super::super::exit::{self, DISK, Failure, NO, OK};
use super::Surroundings;
use super::reach::{Reach, ReachArgs};
use crate::causes::chain;
use crate::hub::operate::{Cut, Taken, cut};
use crate::hub::{HubGateway, publish_directory};
use crate::names::GatewayId;

/// How long it may take until no server holds a connection any more.
const WITHIN: Duration = Duration::from_secs(5);

/// Shut a gateway out: take it from every server, cut its connections, see that it is gone
#[derive(Debug, Clone, clap::Args)]
pub struct RevokeArgs {
    /// How the servers are reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// The gateway
    #[arg(value_name = "PLANT/NAME")]
    pub gateway: GatewayId,
}

pub(super) fn run(args: &RevokeArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let begun = Instant::now();
    let Done { was_admitted, reach, serials, live, directory } =
        match exit::block_on(revoke(args, with.now)) {
            Ok(done) => done,
            Err(failure) => return failure.tell(with.err),
        };
    let took = begun.elapsed().as_secs_f64();
    let id = &args.gateway;
    let toml = reach.folder.hub_toml();
    if was_admitted {
        writeln!(with.out, "{id} is no longer in {}", toml.display())?;
    } else {
        writeln!(with.out, "{id} was not in {}", toml.display())?;
    }
    let serials_done = serials.is_ok();
    match serials {
        Ok(None) => writeln!(
            with.out,
            "its certificate is good until it ends; have your authority revoke it"
        )?,
        Ok(Some(serials)) if serials.is_empty() => {
            writeln!(with.out, "the hub's authority has no certificate of it to revoke")?;
        }
        Ok(Some(serials)) => writeln!(with.out, "revoked certificates: {}", serials.join(", "))?,
        Err(failure) => drop(failure.tell(with.err)?),
    }
    if let Err(why) = directory {
        writeln!(
            with.err,
            "warning: the directory still names it: {why}; run tidegate hub apply --streams"
        )?;
    }
    let (taken, cut) = match live {
        Ok(live) => live,
        Err(failure) => {
            let code = failure.tell(with.err)?;
            writeln!(
                with.err,
                "{id} is NOT known to be gone; run this again once a server answers"
            )?;
            return Ok(code);
        }
    };
    let all = reach.tell(&taken, with.out)?;
    for link in &cut.kicked {
        writeln!(
            with.out,
            "cut its connection {} from {} to {}",
            link.cid, link.from, link.server
        )?;
    }
    for link in &cut.standing {
        writeln!(
            with.err,
            "error: its connection {} from {} to {} still stands",
            link.cid, link.from, link.server
        )?;
    }
    for server in &cut.silent {
        writeln!(with.err, "error: {server} did not say whom it holds; it may hold {id}")?;
    }
    for said in &cut.refused {
        writeln!(with.err, "error: {said}")?;
    }
    if all && cut.is_gone() && serials_done {
        writeln!(with.out, "{id} is gone from all servers, after {took:.1} s")?;
        writeln!(
            with.out,
            "its record and its budget stay in the stream; tidegate hub apply --streams takes the budget back, and lets the oldest records go for it"
        )?;
        return Ok(OK);
    }
    writeln!(with.err, "error: {id} is NOT known to be gone; run this again")?;
    Ok(NO)
}

struct Done<'a> {
    was_admitted: bool,
    reach: Reach<'a>,
    /// The certificates that were revoked; `None` where the hub has no authority of its own.
    serials: Result<Option<Vec<String>>, Failure>,
    live: Result<(Vec<Taken>, Cut), Failure>,
    /// Whether the hub's directory was written without it.
    directory: Result<(), String>,
}

async fn revoke(args: &RevokeArgs, now: SystemTime) -> Result<Done<'_>, Failure> {
    let mut reach = Reach::of(&args.reach)?;
    let known = reach.file().gateway(&args.gateway).cloned();
    let was_admitted = known.is_some();
    // Also one that is not in the file: an earlier revocation may not have reached every server.
    let gateway = known.unwrap_or_else(|| HubGateway::new(args.gateway.clone(), Vec::new()));
    let mut wanted = reach.file().clone();
    wanted.gateways.retain(|one| one.id != args.gateway);
    reach.write(&wanted)?;
    // Before its connections are cut: a device that has time left must not renew its certificate.
    let serials = serials(&reach, &args.gateway, now);
    let live = live(&reach, &gateway.subject()).await;
    let directory = match &live {
        Ok(_) => directory(&reach).await,
        // Told already.
        Err(_) => Ok(()),
    };
    Ok(Done { was_admitted, reach, serials, live, directory })
}

/// Revokes what the hub's own authority signed for it, and its tokens.
pub(super) fn serials(
    reach: &Reach<'_>,
    gateway: &GatewayId,
    now: SystemTime,
) -> Result<Option<Vec<String>>, Failure> {
    let Some(authority) = reach.authority()? else { return Ok(None) };
    let revoked = authority.revoke_gateway(&gateway.to_string(), now);
    revoked.map(Some).map_err(|error| Failure::new(DISK, chain(&error)))
}

async fn directory(reach: &Reach<'_>) -> Result<(), String> {
    let admin = reach.admin().await.map_err(|failure| failure.to_string())?;
    let written = publish_directory(&async_nats::jetstream::new(admin), reach.file()).await;
    written.map(drop).map_err(|error| chain(&error))
}

async fn live(reach: &Reach<'_>, user: &str) -> Result<(Vec<Taken>, Cut), Failure> {
    let system = reach.system().await?;
    let taken = reach.take_over(&system).await?;
    // A server that refuses its configuration lets it in again; the others are rid of it.
    let cut = cut(&system, &reach.nodes(), user, WITHIN).await?;
    Ok((taken, cut))
}
