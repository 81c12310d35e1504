//! `tidegate identity renew` and `rehearse`.

use std::io;
use std::time::SystemTime;

use serde_json::json;
use tidegate_identity::examine::{Expected, examine_signed};
use tidegate_identity::{
    Authority, CertificateFacts, CertificateRequest, Identity, IdentityFolder, Warrant,
};

use super::super::super::exit::OK;
use super::super::super::terminal::{age, tame};
use super::super::{Surroundings, time};
use super::enrol::{Got, blocking, keep, tell};
use super::report::facts_json;
use super::{GatewayArgs, Site, Stop, sentence};
use crate::causes::chain;

/// Get a new certificate for a new key by the present one, now
#[derive(Debug, Clone, clap::Args)]
pub struct RenewArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Whose.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Renew against the authority and throw the result away: does it work, and until when?
#[derive(Debug, Clone, clap::Args)]
pub struct RehearseArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Whose.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Exit codes as of `enrol`.
pub(in super::super) fn renew(args: &RenewArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let site = match args.gateway.site(with)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let got = site.authority().and_then(|authority| blocking(renew_at(&site, &authority)));
    match got {
        Ok(got) => tell(&got, args.json, with),
        Err(stop) => stop.told(with),
    }
}

/// Asks an authority by the present certificate, and keeps what it signs.
pub(super) async fn renew_at(site: &Site, authority: &dyn Authority) -> Result<Got, Stop> {
    let folder = IdentityFolder::open(site.folder.dir())?;
    let _lock = folder.lock()?;
    let identity = present(&folder)?;
    let request = site.request(&folder, &identity.facts().names)?;
    let signed = authority.enrol(&request, Warrant::Renewal(&identity)).await?;
    site.keep_roots(authority).await?;
    let mut got = keep(site, &folder, &request, &signed)?;
    if got.facts.serial == identity.facts().serial {
        got.remarks.push("the authority gave the same serial number again".to_owned());
    }
    Ok(got)
}

/// Exit code 0 it would work, 1 it would not, 64 no authority, 69 the authority cannot be reached or
/// is not the pinned one.
pub(in super::super) fn rehearse(
    args: &RehearseArgs,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    let site = match args.gateway.site(with)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let rehearsed = site.authority().and_then(|it| blocking(rehearse_at(&site, &it)));
    let Rehearsal { facts, until, why, remarks } = match rehearsed {
        Ok(rehearsal) => rehearsal,
        Err(stop) => return stop.told(with),
    };
    if args.json {
        let tree = json!({
            "would_work_until": time(until), "because": why, "would_get": facts_json(&facts),
            "remarks": remarks,
        });
        writeln!(with.out, "{tree}")?;
        return Ok(OK);
    }
    let left = age(until.duration_since(site.judged_at()).unwrap_or_default());
    writeln!(
        with.out,
        "renewal would work until {}: {}, {left} from now",
        time(until),
        tame(&why)
    )?;
    writeln!(
        with.out,
        "it would give {} until {}, signed by {}; nothing was kept",
        tame(&facts.subject),
        time(facts.not_after),
        tame(&facts.issuer)
    )?;
    for remark in &remarks {
        writeln!(with.err, "note: {}", tame(remark))?;
    }
    Ok(OK)
}

/// What a rehearsal showed.
pub(super) struct Rehearsal {
    /// What would have been got.
    pub(super) facts: CertificateFacts,
    /// How long renewing in this way works.
    pub(super) until: SystemTime,
    /// What ends then.
    pub(super) why: String,
    pub(super) remarks: Vec<String>,
}

/// Goes through a renewal in memory. Nothing is written, so no lock is taken.
pub(super) async fn rehearse_at(site: &Site, authority: &dyn Authority) -> Result<Rehearsal, Stop> {
    let roots = authority.roots().await?;
    let identity = present(&site.folder)?;
    let request = CertificateRequest::new(&site.gateway(), &identity.facts().names)
        .map_err(|error| Stop::no(chain(&error)))?;
    let signed = authority.enrol(&request, Warrant::Renewal(&identity)).await?;
    let (revocation, mut remarks) = site.revocation()?;
    let (subject, now) = (site.subject(), site.judged_at());
    let expected = Expected { subject: &subject, roots: &roots, revocation: &revocation, now };
    let (taken, findings) = examine_signed(&request, &signed, &expected);
    let Some(taken) = taken.filter(|_| findings.is_empty()) else {
        let text = format!("a renewal would not work: {}", sentence(&findings));
        return Err(Stop::no(text));
    };
    let facts = taken.facts().clone();
    let mut until = identity.facts().not_after;
    let mut why = "the present certificate ends then".to_owned();
    for root in roots.iter().filter_map(|root| CertificateFacts::of(root).ok()) {
        let is_ours = taken
            .chain()
            .iter()
            .any(|one| CertificateFacts::of(one).is_ok_and(|it| it.issuer == root.subject));
        if is_ours && root.not_after < until {
            (until, why) = (root.not_after, format!("the root {} ends then", root.subject));
        }
    }
    let lifetime = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    if lifetime < site.identity.longest_offline * 3 {
        remarks.push(format!(
            "certificates live for {} here, less than three times longest-offline-days: an absence \
             of that length can outlast one",
            age(lifetime)
        ));
    }
    Ok(Rehearsal { facts, until, why, remarks })
}

/// The certificate that asks for the next one.
fn present(folder: &IdentityFolder) -> Result<Identity, Stop> {
    let none = "there is no certificate to renew; get one with: tidegate identity enrol \
                --token-file FILE";
    folder.generations().load().map(|loaded| loaded.identity).map_err(|_| Stop::no(none))
}
