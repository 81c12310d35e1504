//! `tidegate hub replace`: a new device under the name of one that is gone.
//!
//! # Invariants
//! - The name keeps its rights and its record; the new device begins a journal of its own, a new
//!   epoch of that record. What only the old device had is named as unknown by `prove`, not hidden.
//! - The old device's certificates and tokens are revoked before a new token is given out.
//! - What the servers do not look at is said: without OCSP an old certificate opens them until it
//!   ends.

use std::io;

use jiff::Timestamp;

use super::super::exit::{self, Failure, NO, OK, USAGE};
use super::list::heads;
use super::reach::{Reach, ReachArgs};
use super::{Surroundings, revoke, token};
use crate::hub::operate::{Connection, Which};
use crate::hub::{HubGateway, Ocsp};
use crate::names::GatewayId;

/// Let a new device take the place of a dead one: same name and rights, new certificate and journal
#[derive(Debug, Clone, clap::Args)]
pub struct ReplaceArgs {
    /// How the servers are reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// The gateway
    #[arg(value_name = "PLANT/NAME")]
    pub gateway: GatewayId,
}

/// What was done.
struct Done<'a> {
    reach: Reach<'a>,
    serials: Option<Vec<String>>,
    /// When the last certificate of the old device ends.
    until: Option<Timestamp>,
    epoch: Option<String>,
    cut: Result<Vec<Connection>, Failure>,
}

pub(super) fn run(args: &ReplaceArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let done = match exit::block_on(replace(args, with.now)) {
        Ok(done) => done,
        Err(failure) => return failure.tell(with.err),
    };
    let id = &args.gateway;
    match &done.epoch {
        Some(epoch) => writeln!(
            with.out,
            "the record of {id} ends in journal {epoch}; the new device begins another one"
        )?,
        None => writeln!(with.out, "the hub has no record of {id} yet")?,
    }
    match &done.serials {
        None => writeln!(with.out, "have your authority revoke the old device's certificate")?,
        Some(serials) if serials.is_empty() => {
            writeln!(with.out, "no certificate of the old device is left to revoke")?;
        }
        Some(serials) => writeln!(with.out, "revoked certificates: {}", serials.join(", "))?,
    }
    if done.reach.file().hub.ocsp == Ocsp::Off {
        let until = done.until.map(|until| format!(", until {until}")).unwrap_or_default();
        writeln!(
            with.err,
            "warning: the servers do not ask for revocations (ocsp in hub.toml): keep the old device away{until}; tidegate hub audit names it when it comes back"
        )?;
    }
    if done.serials.is_some()
        && let Err(failure) = token::tell(&done.reach, id, with)?
    {
        return failure.tell(with.err);
    }
    match &done.cut {
        Ok(cut) => {
            for link in cut {
                writeln!(with.out, "cut the old device's connection from {}", link.from)?;
            }
            Ok(OK)
        }
        Err(failure) => {
            failure.tell(with.err)?;
            writeln!(with.err, "the old device's connections were not cut")?;
            Ok(NO)
        }
    }
}

async fn replace(args: &ReplaceArgs, now: std::time::SystemTime) -> Result<Done<'_>, Failure> {
    let reach = Reach::of(&args.reach)?;
    let id = &args.gateway;
    let gateway = reach.file().gateway(id).cloned().ok_or_else(|| {
        let text = format!("{id} is not admitted; use tidegate hub admit {id}");
        Failure::new(USAGE, text)
    })?;
    let signed = reach.signed()?;
    let own = signed.iter().filter(|one| one.gateway == id.to_string());
    let until = own.map(|one| one.until).max();
    let serials = revoke::serials(&reach, id, now)?;
    let mut notes = Vec::new();
    let epoch = match reach.reader().await {
        Ok(client) => heads(&reach, &client, &mut notes).await.remove(id).map(|head| head.epoch),
        Err(_) => None,
    };
    let cut = cut(&reach, &gateway).await;
    Ok(Done { reach, serials, until, epoch, cut })
}

/// Once: the name stays admitted, so whoever comes back is let in.
async fn cut(reach: &Reach<'_>, gateway: &HubGateway) -> Result<Vec<Connection>, Failure> {
    let system = reach.system().await?;
    let user = gateway.subject();
    let links = system.connections(&reach.nodes(), Which::Open, Some(&user)).await?;
    for link in &links.answers {
        system.kick(link).await?;
    }
    Ok(links.answers)
}
