//! `tidegate identity enrol`: a certificate from the authority, or from a file.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tidegate_identity::examine::{Expected, Finding, examine_signed};
use tidegate_identity::{
    Authority, CertificateFacts, CertificateRequest, Enrolled, IdentityFolder, Token, Warrant,
};

use super::super::super::exit::{self, OK};
use super::super::super::terminal::tame;
use super::super::{Surroundings, time};
use super::init::{read, token_from};
use super::report::facts_json;
use super::{GatewayArgs, Site, Stop, sentence};
use crate::causes::chain;

/// Get the gateway's certificate: from the authority by a token, or from a file
#[derive(Debug, Clone, clap::Args)]
pub struct EnrolArgs {
    /// The file with the token, - for standard input; it is destroyed once it was used. Without it
    /// the token that waits in the folder is used, or [identity] token-file, or a bootstrap
    /// certificate
    #[arg(long, value_name = "FILE", conflicts_with = "certificate")]
    pub token_file: Option<PathBuf>,
    /// A certificate that was signed for the waiting request, in PEM, those between it and the root
    /// behind it
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// A host name or address of this gateway that the certificate should bear; can be repeated
    #[arg(long = "host", value_name = "NAME", conflicts_with = "certificate")]
    pub hosts: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Whose.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What became of it.
pub(super) struct Got {
    pub(super) facts: CertificateFacts,
    /// The generation that counts now; `None` while the daemon has to try it on the hub.
    pub(super) generation: Option<u64>,
    /// What else to tell.
    pub(super) remarks: Vec<String>,
}

/// Exit code 0 done, 1 refused or no use, 2 nothing that opens the door, 64 no authority, 69 the
/// authority cannot be reached or is not the pinned one, 73 or 77 a folder that cannot be written.
pub(in super::super) fn enrol(args: &EnrolArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let site = match args.gateway.site(with)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let got = match &args.certificate {
        Some(file) => from_file(&site, file),
        None => by_authority(args, &site),
    };
    match got {
        Ok(got) => tell(&got, args.json, with),
        Err(stop) => stop.told(with),
    }
}

pub(super) fn tell(got: &Got, json: bool, with: &mut Surroundings<'_>) -> io::Result<u8> {
    for remark in &got.remarks {
        writeln!(with.err, "note: {}", tame(remark))?;
    }
    if json {
        let mut tree = facts_json(&got.facts);
        tree["generation"] = json!(got.generation);
        writeln!(with.out, "{tree}")?;
        return Ok(OK);
    }
    let facts = &got.facts;
    writeln!(with.out, "certificate of {} from {}", tame(&facts.subject), tame(&facts.issuer))?;
    writeln!(with.out, "serial {}, valid until {}", facts.serial, time(facts.not_after))?;
    match got.generation {
        Some(generation) => writeln!(with.out, "it counts now, as gen-{generation}")?,
        None => writeln!(
            with.out,
            "the daemon tries it on the hub and then installs it; at once with: systemctl reload \
             tidegate"
        )?,
    }
    Ok(OK)
}

/// What opens the authority's door.
pub(super) enum Opener {
    /// The token, and the file that it came from.
    Token(Token, Option<PathBuf>),
    Bootstrap(tidegate_identity::Identity),
}

impl Opener {
    fn find(args: &EnrolArgs, site: &Site) -> Result<Self, Stop> {
        if let Some(file) = &args.token_file {
            let from = (file != Path::new("-")).then(|| file.clone());
            return Ok(Self::Token(token_from(file)?, from));
        }
        if let Some(token) = site.folder.token()? {
            return Ok(Self::Token(token, None));
        }
        if let Some(file) = site.identity.token_file.as_ref().filter(|file| file.exists()) {
            return Ok(Self::Token(token_from(file)?, Some(file.clone())));
        }
        if let Some(identity) = site.folder.bootstrap()? {
            return Ok(Self::Bootstrap(identity));
        }
        let text = "there is no token: use --token-file FILE (never an argument, which everybody \
                    on this machine can read)";
        Err(Stop::usage(text))
    }

    const fn warrant(&self) -> Warrant<'_> {
        match self {
            Self::Token(token, _) => Warrant::Token(token),
            Self::Bootstrap(identity) => Warrant::Bootstrap(identity),
        }
    }
}

fn by_authority(args: &EnrolArgs, site: &Site) -> Result<Got, Stop> {
    let opener = Opener::find(args, site)?;
    let authority = site.authority()?;
    blocking(enrol_at(site, &authority, &opener, &args.hosts))
}

/// Runs a command's future to its end.
pub(super) fn blocking<T>(work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    exit::block_on(async { Ok(work.await) })
        .unwrap_or_else(|_| Err(Stop::no("the system gives no thread")))
}

/// Asks an authority by what opens its door, and keeps what it signs.
pub(super) async fn enrol_at(
    site: &Site,
    authority: &dyn Authority,
    opener: &Opener,
    hosts: &[String],
) -> Result<Got, Stop> {
    let folder = IdentityFolder::open(site.folder.dir())?;
    let _lock = folder.lock()?;
    // Kept before the token is spent: were the power cut after that, the key would be gone with it.
    let request = site.request(&folder, hosts)?;
    // Checks the pins, too.
    site.keep_roots(authority).await?;
    let signed = authority.enrol(&request, opener.warrant()).await?;
    let mut got = keep(site, &folder, &request, &signed)?;
    got.remarks.extend(spend(&folder, opener));
    Ok(got)
}

/// Installs what was signed, or lays it where the daemon looks, once it is good for anything.
pub(super) fn keep(
    site: &Site,
    folder: &IdentityFolder,
    request: &CertificateRequest,
    signed: &Enrolled,
) -> Result<Got, Stop> {
    let roots = folder.roots()?;
    let (revocation, mut remarks) = site.revocation()?;
    let subject = site.subject();
    let now = site.judged_at();
    let expected = Expected { subject: &subject, roots: &roots, revocation: &revocation, now };
    let (identity, findings) = examine_signed(request, signed, &expected);
    let (forbidding, others): (Vec<Finding>, Vec<Finding>) =
        findings.into_iter().partition(Finding::forbids_installing);
    let Some(identity) = identity.filter(|_| forbidding.is_empty()) else {
        let text = format!("the certificate was not taken: {}", sentence(&forbidding));
        return Err(Stop::no(text));
    };
    remarks.extend(others.iter().map(|one| format!("{one}; {}", one.remedy())));
    if roots.is_empty() {
        let text = "nobody is trusted yet: the hub's root certificate is missing; tidegate \
                    identity init --roots FILE";
        remarks.push(text.to_owned());
    }
    let has_one = folder.generations().load().is_ok();
    let generation = if has_one && site.daemon_runs() {
        folder.store_pending_certificate(signed)?;
        None
    } else {
        Some(folder.install(request, signed)?.0)
    };
    Ok(Got { facts: identity.facts().clone(), generation, remarks })
}

/// Destroys what opened the door, wherever it lay.
fn spend(folder: &IdentityFolder, opener: &Opener) -> Vec<String> {
    let mut remarks = Vec::new();
    match opener {
        Opener::Token(_, from) => {
            if let Err(error) = folder.remove_token() {
                remarks.push(format!("the used token stays: {}", chain(&error)));
            }
            if let Some(file) = from {
                match destroy(file) {
                    Ok(()) => {
                        remarks.push(format!("{} was used up and removed", file.display()));
                    }
                    Err(error) => remarks.push(format!(
                        "{} was used up and cannot be removed: {error}",
                        file.display()
                    )),
                }
            }
        }
        Opener::Bootstrap(_) => {
            if let Err(error) = folder.remove_bootstrap() {
                remarks.push(format!("the used bootstrap certificate stays: {}", chain(&error)));
            }
        }
    }
    remarks
}

/// Overwrites and removes a file.
fn destroy(file: &Path) -> io::Result<()> {
    use std::io::Write as _;
    let mut opened = std::fs::OpenOptions::new().write(true).open(file)?;
    let length = usize::try_from(opened.metadata()?.len().min(64 << 10)).unwrap_or_default();
    opened.write_all(&vec![0; length])?;
    opened.sync_all()?;
    std::fs::remove_file(file)
}

/// Takes the certificate that was signed for the request that waits.
fn from_file(site: &Site, file: &Path) -> Result<Got, Stop> {
    let text = read(file)?;
    let all: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&text).collect();
    let mut all = all.unwrap_or_default().into_iter();
    let Some(certificate) = all.next() else {
        return Err(Stop::usage(format!("{} holds no certificate in PEM", file.display())));
    };
    let folder = IdentityFolder::open(site.folder.dir())?;
    let _lock = folder.lock()?;
    let Some(pending) = folder.pending()? else {
        let text = "no key waits for a certificate; make one with: tidegate identity init";
        return Err(Stop::no(text));
    };
    let request = pending.request(&site.gateway(), &[]).map_err(|error| Stop::no(chain(&error)))?;
    // Roots are trusted because a person handed them over as such, never because they came along.
    let chain = all.filter(|one| !is_root(one)).collect();
    keep(site, &folder, &request, &Enrolled { certificate, chain })
}

fn is_root(certificate: &CertificateDer<'_>) -> bool {
    CertificateFacts::of(certificate).is_ok_and(|facts| facts.subject == facts.issuer)
}
