//! How a server is reached, as arguments or a configured device say it: for every command that
//! looks at an OPC UA server.
//!
//! # Invariants
//! - Without protection only where somebody wrote so.
//! - What an argument says goes before what the configuration says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_opcua::probe::wording::{Ours, Whence};
use tidegate_opcua::{
    Collect, DeviceSpec, EndpointUrl, Mode, Policy, Security, Thumbprint, TrustSpec, UserSpec,
};

use super::credentials::Files;
use crate::causes::chain;
use crate::cli::check::SetArgs;
use crate::cli::exit::{self, Failure};
use crate::config::{self, Config};

/// Where the server is and how it is spoken to.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct AccessArgs {
    /// opc.tcp://HOST[:PORT][/PATH], or HOST[:PORT]; port 4840 when left out. With --device, that
    /// of the device
    #[arg(value_name = "URL", required_unless_present = "device")]
    pub(in crate::cli) url: Option<String>,
    /// A configuration, whose certificate and trust folders are used
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// A device of the configuration, whose settings are used
    #[arg(long, value_name = "NAME", requires = "config")]
    pub(in crate::cli) device: Option<String>,
    /// How messages are protected. Without it the strongest that the server offers
    #[arg(long, value_enum, value_name = "POLICY")]
    security: Option<SecurityWord>,
    /// What is done with each message. Without it both
    #[arg(long, value_enum, value_name = "MODE")]
    message_mode: Option<ModeWord>,
    /// Who logs on. Without it nobody in particular
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file that holds the user's password alone; asked for without it
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// The certificate of a user who has one instead of a password, PEM
    #[arg(long, value_name = "FILE", requires = "user_key", conflicts_with = "user")]
    user_cert: Option<PathBuf>,
    /// The key to it, PEM
    #[arg(long, value_name = "FILE", requires = "user_cert")]
    user_key: Option<PathBuf>,
    /// Accept the server certificate with this SHA-256; can be repeated
    #[arg(long, value_name = "THUMBPRINT", value_parser = thumbprint)]
    trust: Vec<Thumbprint>,
    /// Accept a server certificate that does not name the host
    #[arg(long)]
    any_host: bool,
    /// Dial the URL that the server advertises, instead of the one that was given
    #[arg(long)]
    follow_advertised: bool,
    /// A folder with our certificate and the trust folders, made when there is none; without it
    /// and without --config a certificate is made for this command alone
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    identity: Option<PathBuf>,
    /// How long one answer may take. Without it 4000
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=120_000))]
    timeout_ms: Option<u64>,
    /// Settings that go before the configuration's
    #[command(flatten)]
    set: SetArgs,
}

/// A security policy, as the configuration writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SecurityWord {
    /// The strongest that the server offers
    Best,
    /// Aes256_Sha256_RsaPss
    #[value(name = "aes256-sha256-rsapss")]
    Aes256Sha256RsaPss,
    /// Aes128_Sha256_RsaOaep
    #[value(name = "aes128-sha256-rsaoaep")]
    Aes128Sha256RsaOaep,
    /// Basic256Sha256
    #[value(name = "basic256sha256")]
    Basic256Sha256,
    /// None: anybody on the way can read and change everything
    None,
}

/// A message mode, as the configuration writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeWord {
    /// Nobody can change or read it
    SignAndEncrypt,
    /// Nobody can change it
    Sign,
}

fn thumbprint(text: &str) -> Result<Thumbprint, String> {
    Thumbprint::parse(text).ok_or_else(|| "a SHA-256 thumbprint has 64 hexadecimal digits".into())
}

/// A server and everything that is needed to speak to it.
pub(in crate::cli) struct Access {
    pub(in crate::cli) spec: DeviceSpec,
    pub(in crate::cli) credentials: Files,
    pub(in crate::cli) ours: Ours,
    /// The configuration, for commands that a sentence proposes.
    pub(in crate::cli) config: Option<String>,
}

impl AccessArgs {
    /// Finds everything that is needed.
    ///
    /// # Errors
    /// When an argument or the configuration is wrong, or a folder cannot be used.
    pub(in crate::cli) fn access(&self) -> Result<Access, Failure> {
        let config = self.config.as_deref().map(|file| self.load(file)).transpose()?;
        let mut spec = self.spec(config.as_ref())?;
        self.overlay(&mut spec)?;
        let (mut credentials, whence) = match (&config, &self.identity) {
            (Some(config), _) => (Files::of(config), Whence::Gateway),
            (None, Some(dir)) => {
                (Files::folder(dir), Whence::Folder(dir.join("own").display().to_string()))
            }
            (None, None) => {
                let made = Files::throw_away().map_err(|error| {
                    Failure::new(exit::DISK, format!("no temporary folder can be made: {error}"))
                })?;
                (made, Whence::ThrowAway)
            }
        };
        if let (UserSpec::Password { name, .. }, None) =
            (&spec.user, self.user.as_ref().and(self.password_file.as_ref()))
            && self.user.is_some()
        {
            credentials.ask(name)?;
        }
        let ours = Ours { uri: credentials.uri().to_owned(), whence };
        let config = self.config.as_ref().map(|file| file.display().to_string());
        Ok(Access { spec, credentials, ours, config })
    }

    fn load(&self, file: &Path) -> Result<Config, Failure> {
        config::load(file, std::env::vars_os(), &self.set.set)
            .map_err(|error| Failure::new(exit::CONFIG, chain(&error)))
    }

    fn spec(&self, config: Option<&Config>) -> Result<DeviceSpec, Failure> {
        let url = self.url.as_deref().map(url).transpose();
        let url = url.map_err(|why| Failure::new(exit::USAGE, why))?;
        let Some(name) = &self.device else {
            let Some(url) = url else {
                return Err(Failure::new(exit::USAGE, "no URL was given".to_owned()));
            };
            return Ok(plain(url));
        };
        let devices = config.map(|config| config.devices.as_slice()).unwrap_or_default();
        let Some(device) = devices.iter().find(|device| device.name() == name) else {
            let names: Vec<&str> =
                devices.iter().filter(|d| d.opcua().is_some()).map(config::Device::name).collect();
            let legal = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let why = format!("there is no device {name:?}; those of OPC UA are: {legal}");
            return Err(Failure::new(exit::USAGE, why));
        };
        let Some(spec) = device.opcua() else {
            let why = format!("device {name:?} is not of OPC UA; use tidegate probe modbus");
            return Err(Failure::new(exit::USAGE, why));
        };
        let mut spec = DeviceSpec::clone(spec);
        if let Some(url) = url {
            spec.url = url;
        }
        Ok(spec)
    }

    fn overlay(&self, spec: &mut DeviceSpec) -> Result<(), Failure> {
        let (policy, mode) = match spec.security {
            Security::None => (None, Mode::SignAndEncrypt),
            Security::Protected { policy, mode } => (policy, mode),
        };
        let mode = match self.message_mode {
            Some(ModeWord::Sign) => Mode::Sign,
            Some(ModeWord::SignAndEncrypt) => Mode::SignAndEncrypt,
            None => mode,
        };
        let protected = |policy| Security::Protected { policy, mode };
        spec.security = match self.security {
            Some(SecurityWord::None) if self.message_mode.is_some() => {
                let why = "--message-mode says how messages are protected, --security none that \
                           they are not; leave one out";
                return Err(Failure::new(exit::USAGE, why.to_owned()));
            }
            Some(SecurityWord::None) => Security::None,
            Some(SecurityWord::Best) => protected(None),
            Some(SecurityWord::Basic256Sha256) => protected(Some(Policy::Basic256Sha256)),
            Some(SecurityWord::Aes128Sha256RsaOaep) => protected(Some(Policy::Aes128Sha256RsaOaep)),
            Some(SecurityWord::Aes256Sha256RsaPss) => protected(Some(Policy::Aes256Sha256RsaPss)),
            None if self.message_mode.is_some() => protected(policy),
            None => spec.security,
        };
        if let Some(name) = &self.user {
            let file = self.password_file.clone().unwrap_or_default();
            spec.user = UserSpec::Password { name: name.clone(), file };
        }
        if let (Some(cert), Some(key)) = (&self.user_cert, &self.user_key) {
            spec.user = UserSpec::Certificate { cert: cert.clone(), key: key.clone() };
        }
        if !self.trust.is_empty() {
            let all = spec.trust.thumbprints.iter().copied().chain(self.trust.iter().copied());
            spec.trust.thumbprints = all.collect();
        }
        spec.trust.any_host |= self.any_host;
        spec.follow_advertised |= self.follow_advertised;
        if let Some(ms) = self.timeout_ms {
            spec.timeout = Duration::from_millis(ms);
        }
        Ok(())
    }
}

/// A URL as a person writes it: without the scheme it is still one.
pub(in crate::cli) fn url(text: &str) -> Result<EndpointUrl, String> {
    let text = text.trim();
    let whole = if text.contains("://") { text.to_owned() } else { format!("opc.tcp://{text}") };
    EndpointUrl::parse(&whole).map_err(|error| error.to_string())
}

/// What is not said is as the configuration's defaults are.
fn plain(url: EndpointUrl) -> DeviceSpec {
    DeviceSpec {
        name: url.host.clone(),
        url,
        follow_advertised: false,
        security: Security::Protected { policy: None, mode: Mode::SignAndEncrypt },
        user: UserSpec::Anonymous,
        trust: TrustSpec::default(),
        collect: Collect::Subscribe,
        sample_every: Duration::from_secs(1),
        publish_every: None,
        timeout: Duration::from_secs(4),
        backoff: (Duration::from_secs(1), Duration::from_secs(30)),
        backfill: true,
        max_items: 1000,
        tags: Arc::new([]),
        subtrees: Arc::new([]),
    }
}

/// A folder for this process alone, removed when this is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!("tidegate-opcua-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's temporary folder, readable to its owner only.
        let _ = fs::remove_dir_all(&self.0);
    }
}
