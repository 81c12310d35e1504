//! What a medium offers: read whole, and checked by the daemon's own check, before anything is
//! decided.
//!
//! # Invariants
//! - Reading changes nothing, neither here nor on the medium.
//! - The check sees the files of the medium where they would be put, so that what passes it is what
//!   the daemon will read.

use std::fmt::Write as _;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tidegate_identity::Token;
use tidegate_identity::opcua::Thumbprint;
use zeroize::Zeroizing;

use super::folder::Folder;
use super::short::{Gateway, LaterMedia, Short};
use crate::config::{self, Config, MAX_FILE_BYTES, MAX_LIST_BYTES, Mistakes};
use crate::upkeep::belongings::{self, Kind};

/// A whole configuration.
pub const WHOLE: &str = "tidegate.toml";
/// One in short.
pub const SHORT: &str = "provision.toml";
/// What opens the authority's door once.
pub const TOKEN: &str = "tidegate.token";
/// Whom to trust as hub and authority.
pub const ROOTS: &str = "roots.pem";
/// The wish to be as new: `PLANT/NAME` of the gateway that is meant, or `any`.
pub const RESET: &str = "factory-reset";

/// The longest file beside a configuration that is not a list, in bytes: keys and certificates.
const MAX_SMALL: u64 = 1 << 20;
/// The longest token, in bytes; what the identity's folder takes.
const MAX_TOKEN: u64 = 4 << 10;

/// A folder to look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What systemd gave to the service; read only, and gone with it.
    Credentials(PathBuf),
    /// A partition or a stick.
    Folder(PathBuf),
}

impl Source {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Credentials(path) | Self::Folder(path) => path,
        }
    }
}

/// What is offered.
#[derive(Debug, Default)]
pub struct Offer {
    /// A configuration, checked.
    pub configuration: Option<Configuration>,
    /// What opens the door once.
    pub token: Option<Token>,
    /// Whom to trust.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Whether it may take the place of another configuration.
    pub replace: bool,
    /// Whether others may do so later.
    pub later_media: Option<LaterMedia>,
    /// Whose reset is wanted.
    pub reset: Option<String>,
}

/// A configuration and the files that belong to it.
#[derive(Debug)]
pub struct Configuration {
    /// Its text.
    pub text: String,
    /// The file that it comes from.
    pub from: &'static str,
    /// What the check made of it.
    pub config: Box<Config>,
    /// The files that it names below its own folder, as far as the medium has them.
    pub companions: Vec<Companion>,
    /// What it names and neither the medium nor this machine has.
    pub missing: Vec<PathBuf>,
    /// Tells it from every other, secrets left out.
    pub digest: String,
}

/// A file beside the configuration.
#[derive(Debug)]
pub struct Companion {
    /// Its name, on the medium and below the configuration's folder.
    pub name: PathBuf,
    /// Its bytes.
    pub content: Zeroizing<Vec<u8>>,
    /// Whether it is destroyed on the medium once it is here.
    pub secret: bool,
}

/// Why an offer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file cannot be read.
    #[error("{name} cannot be read; write it anew as a plain file")]
    Unreadable {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no text.
    #[error("{name} is not UTF-8 text; save it as UTF-8 in the editor")]
    NotText {
        /// Which.
        name: String,
    },
    /// A file has a second ending, which some systems do not show.
    #[error("{found} is not looked at; name it {wanted}")]
    Misnamed {
        /// What is there.
        found: String,
        /// What is looked for.
        wanted: &'static str,
    },
    /// Two configurations.
    #[error(
        "both {WHOLE} and a gateway in {SHORT} are there; remove one, or leave only id, replace and \
         later-media in {SHORT}"
    )]
    Both,
    /// Nothing can be made of what is there.
    #[error("{SHORT} names no gateway and there is no {WHOLE}; write plant and name into {SHORT}")]
    Nothing,
    /// The rest of the configuration is not there.
    #[error("{SHORT} names devices = {name:?}, which is not there; put it beside {SHORT}")]
    NoDevices {
        /// Its name.
        name: PathBuf,
    },
    /// A credential that cannot be meant.
    #[error("the credential {name} holds {value:?}; write {legal}")]
    Credential {
        /// Which.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        legal: &'static str,
    },
    /// Mistakes of a configuration.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// The token's file holds something else.
    #[error("{TOKEN} holds no token; write the token alone into it, one line without blanks")]
    NoToken,
    /// The roots' file holds something else.
    #[error("{ROOTS} holds no certificate; it must be PEM, as the authority's people give it")]
    NoRoots,
    /// A root that nobody vouches for.
    #[error(
        "{ROOTS} holds a certificate with the SHA-256 {thumbprint}, which is not in ca-pins; compare \
         both with what the authority's people say"
    )]
    Unpinned {
        /// Its hash.
        thumbprint: Thumbprint,
    },
}

/// What a folder holds.
///
/// `target` is the file that the configuration would become. `None` when nothing in the folder is
/// meant for a gateway.
///
/// # Errors
/// When something is, and cannot be used.
pub fn read(source: &Source, folder: &Folder, target: &Path) -> Result<Option<Offer>, Unfit> {
    let medium = Medium { folder, target };
    match source {
        Source::Folder(_) => medium.of_folder(),
        Source::Credentials(_) => medium.of_credentials(),
    }
}

/// What both kinds of sources say in their own words.
struct Said {
    whole: Option<String>,
    short: Option<Short>,
    token: Option<Token>,
    roots: Option<Vec<CertificateDer<'static>>>,
    reset: Option<String>,
}

struct Medium<'a> {
    folder: &'a Folder,
    target: &'a Path,
}

impl Medium<'_> {
    fn of_folder(&self) -> Result<Option<Offer>, Unfit> {
        let said = Said {
            whole: self.text(WHOLE, MAX_FILE_BYTES)?,
            short: self.short(SHORT)?,
            token: self.token()?,
            roots: self.roots()?,
            reset: self.text(RESET, MAX_TOKEN)?.map(|text| text.trim().to_owned()),
        };
        if said.is_nothing() {
            return self.misnamed().map_or(Ok(None), Err);
        }
        self.offer(said).map(Some)
    }

    fn of_credentials(&self) -> Result<Option<Offer>, Unfit> {
        let mut short = self.short("tidegate.provision")?;
        if let Some(hub) = self.text("tidegate.hub", MAX_TOKEN)? {
            let urls = hub.split([',', ' ', '\n']).map(str::trim).filter(|url| !url.is_empty());
            let gateway = short.get_or_insert_default().gateway.get_or_insert_default();
            gateway.hub = urls.map(str::to_owned).collect();
        }
        if let Some(name) = self.text("tidegate.name", MAX_TOKEN)? {
            let Some((plant, name)) = name.trim().split_once('/') else {
                let (value, legal) = (name, "PLANT/NAME");
                return Err(Unfit::Credential { name: "tidegate.name", value, legal });
            };
            let gateway = short.get_or_insert_default().gateway.get_or_insert_default();
            (gateway.plant, gateway.name) = (plant.to_owned(), name.to_owned());
        }
        let said = Said {
            whole: self.text(WHOLE, MAX_FILE_BYTES)?,
            short,
            token: self.token()?,
            roots: None,
            reset: None,
        };
        if said.is_nothing() { Ok(None) } else { self.offer(said).map(Some) }
    }

    fn offer(&self, said: Said) -> Result<Offer, Unfit> {
        let Said { whole, short, token, roots, reset } = said;
        let only_says_how = whole.is_none() && short.is_some();
        let short = short.unwrap_or_default();
        let made = match (whole, short.gateway) {
            (Some(_), Some(_)) => return Err(Unfit::Both),
            (Some(text), None) => Some((text, WHOLE)),
            (None, Some(gateway)) => Some((self.made(&gateway)?, SHORT)),
            (None, None) if only_says_how => return Err(Unfit::Nothing),
            (None, None) => None,
        };
        let configuration = made
            .map(|(text, from)| self.configuration(text, from, short.id.as_deref()))
            .transpose()?;
        if let (Some(roots), Some(made)) = (&roots, &configuration) {
            pinned(roots, &made.config)?;
        }
        Ok(Offer {
            configuration,
            token,
            roots,
            replace: short.replace,
            later_media: short.later_media,
            reset,
        })
    }

    /// The configuration of the short form.
    fn made(&self, gateway: &Gateway) -> Result<String, Unfit> {
        let devices = match &gateway.devices {
            None => String::new(),
            Some(name) => self
                .text(&name.to_string_lossy(), MAX_FILE_BYTES)?
                .ok_or_else(|| Unfit::NoDevices { name: name.clone() })?,
        };
        Ok(gateway.whole(&devices))
    }

    fn configuration(
        &self,
        text: String,
        from: &'static str,
        id: Option<&str>,
    ) -> Result<Configuration, Unfit> {
        let home = self.target.parent().unwrap_or(Path::new("/"));
        let read = |path: &Path| -> io::Result<Vec<u8>> {
            if let Some(name) = below(home, path)
                && let Some(bytes) = self.folder.read(name, MAX_LIST_BYTES)?
            {
                return Ok(bytes.to_vec());
            }
            std::fs::read(path)
        };
        let (config, lists) = config::parse_with_lists(self.target, &text, &read)
            .map_err(|mistakes| mistakes.named(PathBuf::from(from)))?;
        let (companions, missing) = self.companions(home, &config, &lists)?;
        let digest = digest(id, &text, &companions);
        Ok(Configuration { text, from, config: Box::new(config), companions, missing, digest })
    }

    fn companions(
        &self,
        home: &Path,
        config: &Config,
        lists: &[PathBuf],
    ) -> Result<(Vec<Companion>, Vec<PathBuf>), Unfit> {
        let (mut companions, mut missing) = (Vec::new(), Vec::new());
        for belonging in belongings::of(config, self.target, lists) {
            if belonging.path == self.target || belonging.kind == Kind::Folder {
                continue;
            }
            let content = match below(home, &belonging.path) {
                Some(name) => {
                    let most =
                        if belonging.kind == Kind::Text { MAX_LIST_BYTES } else { MAX_SMALL };
                    let content = self.folder.read(name, most);
                    content.map_err(|source| unreadable(&name.display().to_string(), source))?
                }
                None => None,
            };
            match (content, below(home, &belonging.path)) {
                (Some(content), Some(name)) => {
                    let secret = belonging.kind == Kind::Secret;
                    companions.push(Companion { name: name.to_owned(), content, secret });
                }
                _ if belonging.path.exists() => {}
                _ => missing.push(belonging.path),
            }
        }
        Ok((companions, missing))
    }

    fn short(&self, name: &str) -> Result<Option<Short>, Unfit> {
        let Some(text) = self.text(name, MAX_SMALL)? else { return Ok(None) };
        Ok(Some(Short::parse(Path::new(name), &text)?))
    }

    fn token(&self) -> Result<Option<Token>, Unfit> {
        let read = self.folder.read(Path::new(TOKEN), MAX_TOKEN);
        let Some(bytes) = read.map_err(|source| unreadable(TOKEN, source))? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes).ok().map(|text| text.trim_start_matches('\u{feff}'));
        text.and_then(Token::new).map(Some).ok_or(Unfit::NoToken)
    }

    fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Unfit> {
        let Some(text) = self.text(ROOTS, MAX_SMALL)? else { return Ok(None) };
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        roots.ok().filter(|roots| !roots.is_empty()).map(Some).ok_or(Unfit::NoRoots)
    }

    /// A text, without the mark that some editors put before it.
    fn text(&self, name: &str, most: u64) -> Result<Option<String>, Unfit> {
        let read = self.folder.read(Path::new(name), most);
        let Some(bytes) = read.map_err(|source| unreadable(name, source))? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| Unfit::NotText { name: name.to_owned() })?;
        Ok(Some(text.trim_start_matches('\u{feff}').to_owned()))
    }

    /// Something that was meant, and is not looked at.
    fn misnamed(&self) -> Option<Unfit> {
        let names = self.folder.names().unwrap_or_default();
        [SHORT, WHOLE, TOKEN, ROOTS, RESET].into_iter().find_map(|wanted| {
            let found = names.iter().find(|name| {
                let rest = name.to_ascii_lowercase();
                rest.strip_prefix(wanted) == Some(".txt") || (rest == wanted && *name != wanted)
            })?;
            Some(Unfit::Misnamed { found: found.clone(), wanted })
        })
    }
}

impl Said {
    const fn is_nothing(&self) -> bool {
        self.whole.is_none()
            && self.short.is_none()
            && self.token.is_none()
            && self.roots.is_none()
            && self.reset.is_none()
    }
}

fn unreadable(name: &str, source: io::Error) -> Unfit {
    Unfit::Unreadable { name: name.to_owned(), source }
}

/// What a path is called below a folder; `None` for one that is elsewhere, or that these commands
/// keep for themselves.
fn below<'a>(home: &Path, path: &'a Path) -> Option<&'a Path> {
    let name = path.strip_prefix(home).ok()?;
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let first = name.components().next()?;
    (plain && first.as_os_str() != super::record::FOLDER).then_some(name)
}

/// A root counts when a pin names it, where there are any.
fn pinned(roots: &[CertificateDer<'_>], config: &Config) -> Result<(), Unfit> {
    let pins = config.identity.as_ref().map(|identity| identity.ca_pins.as_slice());
    let pins = pins.unwrap_or_default();
    for root in roots {
        let thumbprint = Thumbprint::of(root);
        if !pins.is_empty() && !pins.iter().any(|pin| pin.0 == thumbprint.0) {
            return Err(Unfit::Unpinned { thumbprint });
        }
    }
    Ok(())
}

/// What tells a configuration from every other: 256 bits in hexadecimal digits.
#[must_use]
pub fn digest(id: Option<&str>, text: &str, companions: &[Companion]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    };
    add(id.unwrap_or_default().as_bytes());
    add(text.as_bytes());
    for companion in companions.iter().filter(|companion| !companion.secret) {
        add(companion.name.as_os_str().as_encoded_bytes());
        add(&companion.content);
    }
    let mut out = String::new();
    for byte in hasher.finalize().as_bytes() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}
