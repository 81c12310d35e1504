//! `tidegate identity init`: a key and a request, whom to trust, and what opens the door once.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tidegate_identity::opcua::Thumbprint;
use tidegate_identity::{CertificateFacts, CertificateRequest, IdentityFolder, Token};
use zeroize::Zeroizing;

use super::super::super::ask;
use super::super::super::exit::{DISK, OK};
use super::super::super::terminal::tame;
use super::super::{Surroundings, shown};
use super::{GatewayArgs, Site, Stop};
use crate::causes::chain;

/// The largest file of certificates.
const MAX_PEM: u64 = 1 << 20;

/// Make a key and a request for a certificate, and say whom to trust
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// Whom to trust as hub and authority: root certificates in PEM. Where ca-pins are configured,
    /// each must be pinned
    #[arg(long, value_name = "FILE")]
    pub roots: Option<PathBuf>,
    /// The file with a token for the daemon's first enrolment, - for standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A certificate for the first enrolment, in PEM
    #[arg(long, value_name = "FILE", requires = "bootstrap_key")]
    pub bootstrap_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "bootstrap_cert")]
    pub bootstrap_key: Option<PathBuf>,
    /// A host name or address of this gateway that the certificate should bear; can be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Make a new key although one waits for its certificate
    #[arg(long)]
    pub new_key: bool,
    /// Whose.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Exit code 0 done, 1 a key waits already, 2 a file that cannot be meant, 73 or 77 a folder that
/// cannot be written.
pub(in super::super) fn init(args: &InitArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let site = match args.gateway.site(with)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let lines = match prepare(args, &site) {
        Ok(lines) => lines,
        Err(stop) => return stop.told(with),
    };
    for line in lines {
        writeln!(with.out, "{}", tame(&line))?;
    }
    Ok(OK)
}

fn prepare(args: &InitArgs, site: &Site) -> Result<Vec<String>, Stop> {
    // Everything is read before anything is written.
    let roots = args.roots.as_deref().map(|file| roots_of(file, site)).transpose()?;
    let token = args.token_file.as_deref().map(token_from).transpose()?;
    let bootstrap = match (&args.bootstrap_key, &args.bootstrap_cert) {
        (Some(key), Some(cert)) => Some((read(key)?, read(cert)?)),
        _ => None,
    };
    let folder = IdentityFolder::open(site.folder.dir())?;
    let _lock = folder.lock()?;
    let mut lines = Vec::new();
    if let Some(roots) = roots {
        folder.store_roots(&roots)?;
        for root in &roots {
            let subject = CertificateFacts::of(root).map(|facts| facts.subject).unwrap_or_default();
            lines.push(format!("trusted       {subject} ({})", Thumbprint::of(root)));
        }
    }
    if let Some(token) = token {
        folder.store_token(&token)?;
        lines.push("token         kept until it is used".to_owned());
    }
    if let Some((key, cert)) = bootstrap {
        tidegate_identity::Identity::from_pem(&key, &cert).map_err(|error| {
            Stop::usage(format!("the bootstrap certificate: {}", chain(&error)))
        })?;
        folder.store_bootstrap(&key, &cert)?;
        lines.push("bootstrap     kept until it is used".to_owned());
    }
    // Where an authority is asked, the daemon makes a key of its own for each attempt.
    let by_hand = site.identity.est.is_none();
    if by_hand || args.new_key {
        lines.extend(request(args, site, &folder)?);
    } else if lines.is_empty() {
        let text = "nothing to do: with [identity] est the key is made when the certificate is \
                    asked for; use: tidegate identity enrol --token-file FILE";
        lines.push(text.to_owned());
    }
    Ok(lines)
}

fn request(args: &InitArgs, site: &Site, folder: &IdentityFolder) -> Result<Vec<String>, Stop> {
    let path = folder.pending_path().join("request.pem");
    if folder.pending()?.is_some() && !args.new_key {
        let text = format!(
            "a key waits for its certificate already; have {} signed, or say --new-key",
            path.display()
        );
        return Err(Stop::no(text));
    }
    let request = CertificateRequest::new(&site.gateway(), &args.hosts)
        .map_err(|error| Stop::usage(chain(&error)))?;
    folder.store_pending(&request)?;
    Ok(vec![
        format!("key           made; it stays in {}", shown(&folder.pending_path())),
        format!("request       {}", shown(&path)),
        format!("for           {}", request.subject()),
        "next          have it signed for clientAuth, then: tidegate identity enrol --certificate \
         FILE (with the certificates between it and the root in the same file)"
            .to_owned(),
    ])
}

/// The root certificates of a file, each of them pinned where anything is.
fn roots_of(file: &Path, site: &Site) -> Result<Vec<CertificateDer<'static>>, Stop> {
    let text = read(file)?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let roots = roots.ok().filter(|roots| !roots.is_empty());
    let Some(roots) = roots else {
        return Err(Stop::usage(format!("{} holds no certificate in PEM", file.display())));
    };
    let pins = &site.identity.ca_pins;
    for root in &roots {
        CertificateFacts::of(root)
            .map_err(|error| Stop::usage(format!("{}: {}", file.display(), chain(&error))))?;
        let thumbprint = Thumbprint::of(root);
        if !pins.is_empty() && !pins.iter().any(|pin| pin.0 == thumbprint.0) {
            let text = format!(
                "{} holds a certificate with the thumbprint {thumbprint}, which is not in \
                 [identity] ca-pins; nothing was written",
                file.display()
            );
            return Err(Stop::no(text));
        }
    }
    Ok(roots)
}

pub(super) fn token_from(file: &Path) -> Result<Token, Stop> {
    let what = |why: String| Stop::usage(format!("no token in {}: {why}", file.display()));
    let text = ask::secret_from(file).map_err(|error| what(error.to_string()))?;
    Token::new(&text).ok_or_else(|| what("it must be printable, without blanks".to_owned()))
}

pub(super) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Stop> {
    let failed =
        |error: io::Error| Stop::new(DISK, format!("{} cannot be read: {error}", file.display()));
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > MAX_PEM {
        return Err(Stop::usage(format!("{} is too large for certificates", file.display())));
    }
    std::fs::read(file).map(Zeroizing::new).map_err(failed)
}
