//! `tidegate identity init | enrol | show | renew | rehearse | wipe`: the certificate that the
//! gateway shows to its hub.
//!
//! # Invariants
//! - Whoever writes into the folder holds its lock, so that the daemon and the command line do not
//!   write at once.
//! - Where the daemon runs and has a certificate, a new one is laid beside its key for the daemon
//!   to try on the hub and install; nothing is swapped under a link that stands.
//! - A token comes from a file or standard input, and is destroyed once it was used.

mod enrol;
mod init;
mod renew;
mod report;
mod show;
#[cfg(test)]
mod tests;
mod wipe;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidegate_identity::crl::{Crl, CrlRule, Revocation, WhenStale};
use tidegate_identity::est::{EstClient, EstLimits, EstPlan, EstUrl};
use tidegate_identity::examine::Finding;
use tidegate_identity::floor::{FloorClock, TimeFloor};
use tidegate_identity::opcua::Thumbprint;
use tidegate_identity::policy::RenewalPolicy;
use tidegate_identity::{
    Authority, AuthorityError, CertificateRequest, IdentityFolder, InstallError, StoreError,
};

use super::super::check::SetArgs;
use super::super::exit::{CONFIG, DISK, NO, PEER, PERMISSION, USAGE};
use super::super::terminal::tame;
use super::{Surroundings, load};
use crate::causes::chain;
use crate::config::{self, Argument, Config, IdentityConfig, WhenCrlStale};
use crate::identity::BUILT;
use crate::observe::control::Client;

pub use enrol::EnrolArgs;
pub use init::InitArgs;
pub use renew::{RehearseArgs, RenewArgs};
pub(crate) use report::{facts_json, gateway_json};
pub use show::ShowArgs;
pub use wipe::WipeArgs;

pub(super) use enrol::enrol;
pub(super) use init::init;
pub(super) use renew::{rehearse, renew};
pub(super) use show::show;
pub(super) use wipe::wipe;

/// Which gateway's identity.
#[derive(Debug, Clone, clap::Args)]
pub struct GatewayArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// The folder of the identity, instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
}

/// A gateway, as its configuration and its folder say.
pub(super) struct Site {
    config: Config,
    identity: IdentityConfig,
    folder: IdentityFolder,
    now: SystemTime,
    since: Instant,
}

/// Why a command ended early: the exit code, and what to tell.
#[derive(Debug)]
pub(super) struct Stop {
    code: u8,
    text: String,
}

impl Stop {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    fn no(text: impl Into<String>) -> Self {
        Self::new(NO, text)
    }

    fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }

    fn told(&self, with: &mut Surroundings<'_>) -> io::Result<u8> {
        writeln!(with.err, "error: {}", tame(&self.text))?;
        Ok(self.code)
    }
}

/// The system's refusal among the causes of an error, as an exit code.
fn disk_code(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            return Some(if denied { PERMISSION } else { DISK });
        }
        cause = error.source();
    }
    None
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::new(disk_code(&error).unwrap_or(NO), chain(&error))
    }
}

impl From<InstallError> for Stop {
    fn from(error: InstallError) -> Self {
        Self::new(disk_code(&error).unwrap_or(NO), chain(&error))
    }
}

impl From<AuthorityError> for Stop {
    fn from(error: AuthorityError) -> Self {
        let (code, remedy) = match &error {
            AuthorityError::Unreachable { .. } => (PEER, "look at [identity] est and the network"),
            AuthorityError::Untrusted { .. } => {
                (PEER, "compare [identity] ca-pins with what the authority's people tell you")
            }
            AuthorityError::Refused { .. } => {
                (NO, "ask there for a new token, or whether the gateway is admitted")
            }
            AuthorityError::Later { .. } => (NO, "a person has to agree there; try again then"),
            AuthorityError::Unusable { .. } => (PEER, "tell the authority's people"),
        };
        Self::new(code, format!("{}; {remedy}", chain(&error)))
    }
}

impl GatewayArgs {
    /// Reads the configuration and looks at the folder.
    fn site(&self, with: &mut Surroundings<'_>) -> io::Result<Result<Site, u8>> {
        let mut settings = self.set.set.clone();
        if let Some(dir) = &self.dir {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            match Argument::from_set(&format!("identity.dir={}", dir.display())) {
                Ok(setting) => settings.push(setting),
                Err(text) => return Ok(Err(Stop::usage(text).told(with)?)),
            }
        }
        let config = match load(&self.config, &settings, with)? {
            Ok(config) => config,
            Err(code) => return Ok(Err(code)),
        };
        let Some(identity) = config.identity.clone() else {
            let text = format!(
                "there is no [identity] in {}; write one, or name the folder with --dir",
                self.config.display()
            );
            return Ok(Err(Stop::new(CONFIG, text).told(with)?));
        };
        let folder = IdentityFolder::at(&identity.dir);
        let (now, since) = (with.now, Instant::now());
        Ok(Ok(Site { config, identity, folder, now, since }))
    }
}

impl Site {
    /// `PLANT/NAME`.
    fn gateway(&self) -> String {
        self.config.gateway.to_string()
    }

    /// The subject that its certificate must bear.
    fn subject(&self) -> String {
        tidegate_identity::lab::gateway_subject(&self.gateway())
    }

    fn floor(&self) -> TimeFloor {
        // A file that cannot be read is no reason to believe an earlier time; it is told by `show`.
        TimeFloor::new(
            SystemTime::UNIX_EPOCH + Duration::from_secs(BUILT),
            self.folder.last_time().ok().flatten(),
        )
    }

    /// The time that certificates are judged by.
    fn judged_at(&self) -> SystemTime {
        self.floor().at_least(self.now)
    }

    fn policy(&self) -> RenewalPolicy {
        let seen = self.folder.state().map(|state| state.longest_offline_s).unwrap_or_default();
        let longest = self.identity.longest_offline.max(Duration::from_secs(seen));
        RenewalPolicy::of(&self.gateway(), longest)
    }

    fn rule(&self) -> CrlRule {
        let when_stale = match self.identity.when_crl_stale {
            WhenCrlStale::Accept => WhenStale::Accept,
            WhenCrlStale::Refuse => WhenStale::Refuse,
        };
        CrlRule { max_age: self.identity.crl_max_age, when_stale }
    }

    /// The lists that count, and what is to be said of others.
    fn revocation(&self) -> Result<(Revocation, Vec<String>), StoreError> {
        let text = match &self.identity.crl {
            None => self.folder.crl()?,
            Some(file) => std::fs::read(file).ok(),
        };
        let Some(text) = text else {
            return Ok((Revocation::new(Vec::new(), &[], self.rule()).0, Vec::new()));
        };
        let roots = self.folder.roots()?;
        match Crl::read(&text) {
            Ok(lists) => Ok(Revocation::new(lists, &roots, self.rule())),
            Err(error) => {
                let none = Revocation::new(Vec::new(), &[], self.rule()).0;
                Ok((none, vec![format!("the revocation list cannot be used: {error}")]))
            }
        }
    }

    /// The configured authority.
    fn authority(&self) -> Result<EstClient, Stop> {
        let Some(est) = &self.identity.est else {
            let text = "no authority is configured; write [identity] est and ca-pins, or have the \
                        request signed by hand: tidegate identity init, then enrol --certificate";
            return Err(Stop::new(CONFIG, text));
        };
        let url = est.to_string();
        let url: EstUrl =
            url.parse().map_err(|error| Stop::new(CONFIG, format!("[identity] est: {error}")))?;
        let (now, since) = (self.now, self.since);
        let clock = move || now + since.elapsed();
        Ok(EstClient::new(EstPlan {
            url,
            roots: self.folder.roots()?,
            pins: self.identity.ca_pins.iter().map(|pin| Thumbprint(pin.0)).collect(),
            time: Arc::new(FloorClock::new(clock, self.floor().shared())),
            limits: EstLimits::default(),
        }))
    }

    /// The key that waits, or a new one for these hosts, kept until its certificate comes. The daemon
    /// does the same, so that what either of them gets signed fits.
    fn request(
        &self,
        folder: &IdentityFolder,
        hosts: &[String],
    ) -> Result<CertificateRequest, Stop> {
        if let Some(pending) = folder.pending()?
            && let Ok(request) = pending.request(&self.gateway(), hosts)
        {
            return Ok(request);
        }
        let request = CertificateRequest::new(&self.gateway(), hosts)
            .map_err(|error| Stop::usage(chain(&error)))?;
        folder.store_pending(&request)?;
        Ok(request)
    }

    /// Whether the daemon of this configuration runs.
    fn daemon_runs(&self) -> bool {
        Client::connect(&self.config.control_socket).is_ok()
    }

    /// Takes note of the roots that an authority sent and that count.
    async fn keep_roots(&self, authority: &dyn Authority) -> Result<(), Stop> {
        let roots = authority.roots().await?;
        if self.folder.roots().ok().as_ref() != Some(&roots) {
            self.folder.store_roots(&roots)?;
        }
        Ok(())
    }
}

/// What is wrong, each with what helps.
fn sentence(findings: &[Finding]) -> String {
    let each = findings.iter().map(|finding| format!("{finding}; {}", finding.remedy()));
    each.collect::<Vec<_>>().join("; and ")
}
