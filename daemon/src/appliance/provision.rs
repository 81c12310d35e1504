//! Going through the media: read, check, decide, put in place, tell.
//!
//! # Invariants
//! - The token is safe in the identity's folder before the configuration changes, and the
//!   configuration in place before anything is destroyed on the medium: wherever the power is cut,
//!   the next boot does the rest from the same medium.
//! - Whoever plugged the medium in finds one line on it that says what happened, and below it what
//!   is wrong and what helps.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tidegate_identity::{IdentityFolder, Validity};

use super::decide::{Configured, Machine, Refusal, TokenUse, Verdict, Wish, decide};
use super::folder::Folder;
use super::offer::{self, Offer, RESET, Source, Unfit};
use super::place::{self, Whose};
use super::record::Record;
use crate::causes::chain;
use crate::config::{self, Config};

/// The file that says on a medium what happened.
pub const RESULT: &str = "tidegate-result.txt";

/// The gateway's places.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its configuration's file.
    pub config: PathBuf,
    /// What is remembered.
    pub record: Record,
    /// What time it is.
    pub now: SystemTime,
}

/// How one medium ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub from: PathBuf,
    /// How.
    pub ending: Ending,
    /// What happened, in one line.
    pub line: String,
    /// What else a person should know, each in a line or more.
    pub details: Vec<String>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The gateway has a new configuration.
    Applied,
    /// It has a new token.
    TokenTaken,
    /// There was nothing to do.
    Known,
    /// The next boot resets it.
    ResetRequested,
    /// The policy forbids it.
    Refused,
    /// The medium has mistakes.
    Mistaken,
    /// The disk, or the medium.
    Failed,
    /// The system does not let us.
    Denied,
}

impl Ending {
    /// The word for people and programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::TokenTaken => "token taken",
            Self::Known => "nothing to do",
            Self::ResetRequested => "reset requested",
            Self::Refused => "refused",
            Self::Mistaken => "mistakes",
            Self::Failed => "failed",
            Self::Denied => "denied",
        }
    }

    /// Whether the daemon has something new to read.
    #[must_use]
    pub const fn changed(self) -> bool {
        matches!(self, Self::Applied | Self::TokenTaken)
    }
}

impl Outcome {
    fn new(from: &Path, ending: Ending, line: impl Into<String>) -> Self {
        Self { from: from.to_owned(), ending, line: line.into(), details: Vec::new() }
    }

    /// What stands on the medium.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.ending.word(), self.line);
        for detail in &self.details {
            text.push('\n');
            text.push_str(detail.trim_end());
            text.push('\n');
        }
        text.push_str(concat!("\ntidegate ", env!("CARGO_PKG_VERSION"), "\n"));
        text
    }
}

/// One place that was looked into.
struct Found {
    source: Source,
    folder: Folder,
    offer: Result<Offer, Unfit>,
}

/// Goes through all of them, in their order; those that only bring a token come last, because they
/// need a configuration. A place that is not there or holds nothing for a gateway has no outcome.
#[must_use]
pub fn provision(gateway: &Gateway, sources: &[Source]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut found = Vec::new();
    for source in sources {
        match Folder::open(source.path()) {
            Ok(None) => {}
            Ok(Some(folder)) => match offer::read(source, &folder, &gateway.config) {
                Ok(None) => {}
                Ok(Some(offer)) => {
                    found.push(Found { source: source.clone(), folder, offer: Ok(offer) });
                }
                Err(unfit) => {
                    found.push(Found { source: source.clone(), folder, offer: Err(unfit) });
                }
            },
            Err(error) => {
                let line = format!("{} cannot be opened: {error}", source.path().display());
                outcomes.push(Outcome::new(source.path(), ending_of(&error), line));
            }
        }
    }
    found.sort_by_key(|found| {
        found.offer.as_ref().is_ok_and(|o| o.configuration.is_none() && o.reset.is_none())
    });
    for Found { source, folder, offer } in found {
        let mut outcome = match offer {
            Ok(offer) => gateway.judged(&folder, &source, &offer),
            Err(unfit) => mistaken(&folder, &unfit),
        };
        if let Source::Folder(_) = source {
            tell(&folder, &mut outcome);
        }
        outcomes.push(outcome);
    }
    outcomes
}

fn mistaken(folder: &Folder, unfit: &Unfit) -> Outcome {
    let mut outcome = Outcome::new(folder.path(), Ending::Mistaken, "");
    match unfit {
        Unfit::Mistakes(mistakes) => {
            outcome.line = format!(
                "the configuration does not check, nothing was changed; correct what stands below \
                 and use this medium again ({} in all)",
                mistakes.count()
            );
            outcome.details.push(mistakes.to_string());
        }
        Unfit::Unreadable { source, .. } => {
            outcome.ending = ending_of(source);
            outcome.line = chain(unfit);
        }
        _ => outcome.line = format!("{}; nothing was changed", chain(unfit)),
    }
    outcome
}

/// Writes the result onto the medium; of one that is known, only where it has none.
fn tell(folder: &Folder, outcome: &mut Outcome) {
    let before = folder.read(Path::new(RESULT), 1 << 20).ok().flatten();
    let text = outcome.text();
    let same = before.as_ref().is_some_and(|before| before.as_slice() == text.as_bytes());
    if same || (outcome.ending == Ending::Known && before.is_some()) {
        return;
    }
    if let Err(error) = folder.write(RESULT, text.as_bytes()) {
        outcome.details.push(format!("{RESULT} cannot be written onto the medium: {error}"));
    }
}

fn ending_of(error: &io::Error) -> Ending {
    if error.kind() == io::ErrorKind::PermissionDenied { Ending::Denied } else { Ending::Failed }
}

/// Why it could not be put in place.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    #[error("{} cannot be written; nothing of the configuration was changed", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the identity's folder {} does not take it", path.display())]
    Identity {
        path: PathBuf,
        #[source]
        source: tidegate_identity::StoreError,
    },
}

impl PlaceError {
    fn ending(&self) -> Ending {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return ending_of(error);
            }
            cause = error.source();
        }
        Ending::Failed
    }
}

impl Gateway {
    fn judged(&self, folder: &Folder, source: &Source, offer: &Offer) -> Outcome {
        let (machine, present) = self.machine(offer);
        let name = offer.configuration.as_ref().map(|made| made.config.gateway.to_string());
        let wish = Wish {
            configuration: name
                .as_deref()
                .zip(offer.configuration.as_ref().map(|made| made.digest.as_str())),
            token: offer.token.is_some(),
            replace: offer.replace,
            reset: offer.reset.as_deref(),
        };
        match decide(&machine, &wish) {
            Verdict::Refuse(refusal) => refused(folder, &refusal),
            Verdict::Reset => self.ask_for_reset(folder),
            Verdict::Apply(token) => self.apply(folder, source, offer, token),
            Verdict::Known(token) => self.known(folder, source, offer, token, present.as_ref()),
        }
    }

    /// The gateway as it is, and its configuration where it checks.
    fn machine(&self, offer: &Offer) -> (Machine, Option<Config>) {
        let text = std::fs::read_to_string(&self.config).ok();
        let present = text.as_ref().and_then(|_| config::load(&self.config, Vec::new(), &[]).ok());
        let kept = self.record.provisioned();
        let configured = self.config.exists().then(|| Configured {
            gateway: present
                .as_ref()
                .map(|config| config.gateway.to_string())
                .or(kept.gateway.clone()),
            is_the_offered: offer.configuration.as_ref().is_some_and(|made| {
                text.as_deref() == Some(&made.text)
                    && made.companions.iter().all(|one| self.has(&one.name, &one.content))
            }),
        });
        let identity = offer.configuration.as_ref().map(|made| &*made.config).or(present.as_ref());
        let machine = Machine {
            configured,
            later_media: kept.later_media(),
            applied: kept.applied,
            has_certificate: identity.is_some_and(|config| self.has_certificate(config)),
        };
        (machine, present)
    }

    fn home(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    fn has(&self, name: &Path, content: &[u8]) -> bool {
        std::fs::read(self.home().join(name)).is_ok_and(|kept| kept == content)
    }

    fn has_certificate(&self, config: &Config) -> bool {
        let Some(identity) = &config.identity else { return false };
        let loaded = IdentityFolder::at(&identity.dir).generations().load();
        loaded.is_ok_and(|loaded| {
            !matches!(loaded.identity.facts().validity(self.now), Validity::Expired { .. })
        })
    }

    fn apply(&self, folder: &Folder, source: &Source, offer: &Offer, token: TokenUse) -> Outcome {
        let Some(made) = &offer.configuration else {
            return Outcome::new(folder.path(), Ending::Known, "there is nothing to apply");
        };
        let mut outcome = Outcome::new(folder.path(), Ending::Applied, "");
        let placed = self
            .keep_secrets(offer, &made.config, token)
            .and_then(|words| self.put(made).map(|()| words));
        match placed {
            Ok(words) => outcome.details.extend(words),
            Err(error) => {
                return Outcome::new(folder.path(), error.ending(), chain(&error));
            }
        }
        let name = made.config.gateway.to_string();
        outcome.line = format!("{name} is configured from {}", made.from);
        let mut kept = self.record.provisioned();
        kept.note(name, made.digest.clone(), offer.later_media);
        if let Err(error) = self.record.keep_provisioned(&kept) {
            let dir = self.record.dir().display();
            outcome.details.push(format!("it is not remembered in {dir}: {error}"));
        }
        if token != TokenUse::None {
            outcome.details.push(destroyed(folder, source, Path::new(offer::TOKEN), "the token"));
        }
        for one in made.companions.iter().filter(|one| one.secret) {
            let shown = one.name.display().to_string();
            outcome.details.push(destroyed(folder, source, &one.name, &shown));
        }
        for path in &made.missing {
            outcome.details.push(format!(
                "{} is named in the configuration, and neither on the medium nor on this gateway",
                path.display()
            ));
        }
        outcome
    }

    fn known(
        &self,
        folder: &Folder,
        source: &Source,
        offer: &Offer,
        token: TokenUse,
        present: Option<&Config>,
    ) -> Outcome {
        let mut outcome = Outcome::new(folder.path(), Ending::Known, "");
        outcome.line = match &offer.configuration {
            Some(made) => format!("{} was taken from here before", made.config.gateway),
            None if offer.reset.is_some() => "this gateway is as new".to_owned(),
            None => "there is no configuration here".to_owned(),
        };
        let Some(config) = present else {
            if token != TokenUse::None {
                outcome.ending = Ending::Mistaken;
                outcome.line =
                    "the gateway's own configuration does not check, so that the token has \
                                no place; bring a correct one with replace = true"
                        .to_owned();
            }
            return outcome;
        };
        if token == TokenUse::Take {
            match self.keep_secrets(offer, config, token) {
                Ok(words) => {
                    outcome.ending = Ending::TokenTaken;
                    outcome.line = format!("{} asks for its certificate with it", config.gateway);
                    outcome.details.extend(words);
                }
                Err(error) => {
                    return Outcome::new(folder.path(), error.ending(), chain(&error));
                }
            }
        }
        if token != TokenUse::None {
            if token == TokenUse::Destroy {
                let text = "this gateway has a certificate in its time: the token was not needed";
                outcome.details.push(text.to_owned());
            }
            outcome.details.push(destroyed(folder, source, Path::new(offer::TOKEN), "the token"));
        }
        outcome
    }

    /// Token and roots, in the folder of the identity. Says what a person should know.
    fn keep_secrets(
        &self,
        offer: &Offer,
        config: &Config,
        token: TokenUse,
    ) -> Result<Vec<String>, PlaceError> {
        let wanted = offer.token.as_ref().filter(|_| token == TokenUse::Take);
        if wanted.is_none() && offer.roots.is_none() {
            return Ok(Vec::new());
        }
        let Some(identity) = &config.identity else {
            let text = "the configuration has no [identity]: token and roots were left out";
            return Ok(vec![text.to_owned()]);
        };
        let failed = |source| PlaceError::Identity { path: identity.dir.clone(), source };
        let folder = IdentityFolder::open(&identity.dir).map_err(failed)?;
        let _lock = folder.lock().map_err(failed)?;
        if let Some(roots) = &offer.roots {
            folder.store_roots(roots).map_err(failed)?;
        }
        if let Some(token) = wanted {
            folder.store_token(token).map_err(failed)?;
        }
        Ok(Vec::new())
    }

    /// The configuration's files, itself last.
    fn put(&self, made: &offer::Configuration) -> Result<(), PlaceError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| PlaceError::File { path, source }
        };
        for one in &made.companions {
            let path = self.home().join(&one.name);
            place::folders_of(&path, self.home()).map_err(at(&path))?;
            place::file(&path, &one.content, Whose::Daemon).map_err(at(&path))?;
        }
        if let Ok(former) = std::fs::read(&self.config) {
            let kept = self.former();
            place::file(&kept, &former, Whose::Daemon).map_err(at(&kept))?;
        }
        place::folders_of(&self.config, self.home()).map_err(at(&self.config))?;
        place::file(&self.config, made.text.as_bytes(), Whose::Daemon).map_err(at(&self.config))
    }

    /// Where the configuration goes that was there before.
    fn former(&self) -> PathBuf {
        let mut name = self.config.file_name().unwrap_or_default().to_owned();
        name.push(".previous");
        self.config.with_file_name(name)
    }

    fn ask_for_reset(&self, folder: &Folder) -> Outcome {
        if let Err(error) = self.record.request_reset() {
            let line = format!("{} cannot be written: {error}", self.record.dir().display());
            return Outcome::new(folder.path(), ending_of(&error), line);
        }
        let line = "the next start makes this gateway as new";
        let mut outcome = Outcome::new(folder.path(), Ending::ResetRequested, line);
        if let Err(error) = folder.rename(RESET, &format!("{RESET}.done")) {
            outcome.details.push(format!("{RESET} stays on the medium: {error}"));
        }
        outcome
    }
}

fn refused(folder: &Folder, refusal: &Refusal) -> Outcome {
    Outcome::new(folder.path(), Ending::Refused, refusal.to_string())
}

/// Destroys a secret on the medium, and says so.
fn destroyed(folder: &Folder, source: &Source, name: &Path, what: &str) -> String {
    if let Source::Credentials(_) = source {
        return format!("{what} came as a credential: take it out of where the system has it from");
    }
    match folder.destroy(name) {
        Ok(_) => format!("{what} was overwritten and removed on this medium"),
        Err(error) => {
            format!("{what} stays on this medium ({error}): destroy it, it is a secret")
        }
    }
}

#[cfg(test)]
mod tests;
