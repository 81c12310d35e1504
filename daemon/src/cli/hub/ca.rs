//! `tidegate hub ca`: the lab authority of a hub.
//!
//! # Invariants
//! - A token is the only secret that is printed, alone on standard output, when it was asked for.
//! - The authority's key is never printed and never leaves its folder.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_identity::authority_store::{AuthorityStore, AuthorityStoreError};
use tidegate_identity::opcua::Thumbprint;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::super::exit::{self, DISK, Failure, NO, OK, PEER, USAGE};
use super::super::span::span;
use super::{FolderArgs, Surroundings};
use crate::causes::chain;
use crate::hub::HubFolder;
use crate::hub::est::{EstServer, EstServerError, EstSettings};
use crate::names::GatewayId;
use crate::observe::log::{self, LogArgs};

/// The hub's own authority, for labs and pilots: give out certificates by EST, and take them back
#[derive(Debug, Clone, clap::Args)]
pub struct CaArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// What can be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CaCommand {
    /// Serve EST: gateways enrol with a token and renew with their certificate
    Serve(ServeArgs),
    /// Print a token: the named gateway enrols with it, once
    Token(TokenArgs),
    /// Revoke the certificates of a gateway, or one by its serial number
    Revoke(RevokeArgs),
    /// Make the list of revoked certificates anew
    Crl(CrlArgs),
}

/// `tidegate hub ca serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where the hub's files are.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// A name or address by which gateways reach this server (repeatable); 127.0.0.1 and localhost
    /// are always among them
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// How long a gateway's certificate is valid: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = span)]
    pub lasts: Duration,
    /// Print address and thumbprint as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// `tidegate hub ca token`.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// Which gateway, PLANT/NAME
    pub gateway: GatewayId,
    /// Where the hub's files are.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// How long the token is good: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    pub lasts: Duration,
}

/// `tidegate hub ca revoke`.
#[derive(Debug, Clone, clap::Args)]
pub struct RevokeArgs {
    /// Which gateway, PLANT/NAME: all of its certificates and tokens
    #[arg(required_unless_present = "serial", conflicts_with = "serial")]
    pub gateway: Option<GatewayId>,
    /// The serial number of one certificate, hexadecimal
    #[arg(long, value_name = "HEX")]
    pub serial: Option<String>,
    /// Where the hub's files are.
    #[command(flatten)]
    pub folder: FolderArgs,
}

/// `tidegate hub ca crl`.
#[derive(Debug, Clone, clap::Args)]
pub struct CrlArgs {
    /// Where the hub's files are.
    #[command(flatten)]
    pub folder: FolderArgs,
}

/// What `tidegate hub ca serve --json` prints once it listens.
#[derive(serde::Serialize)]
struct Serving {
    /// The address of `[identity] est`.
    est: String,
    /// The thumbprint of `[identity] ca-pins`.
    pin: String,
}

/// Runs it and returns the exit code.
pub(super) fn run(args: &CaArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let done = match &args.command {
        CaCommand::Serve(args) => serve(args, with),
        CaCommand::Token(args) => token(args, with),
        CaCommand::Revoke(args) => revoke(args, with),
        CaCommand::Crl(args) => crl(args, with),
    };
    match done {
        Ok(code) => Ok(code),
        Err(Problem::Failure(failure)) => failure.tell(with.err),
        Err(Problem::Terminal(error)) => Err(error),
    }
}

enum Problem {
    Failure(Failure),
    Terminal(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<AuthorityStoreError> for Problem {
    fn from(error: AuthorityStoreError) -> Self {
        Self::Failure(Failure::new(DISK, chain(&error)))
    }
}

fn open(folder: &FolderArgs) -> Result<AuthorityStore, AuthorityStoreError> {
    AuthorityStore::open(HubFolder::at(&folder.dir).authority())
}

fn serve(args: &ServeArgs, with: &mut Surroundings<'_>) -> Result<u8, Problem> {
    let store = open(&args.folder)?;
    let pin = Thumbprint::of(&store.certificate()).to_string();
    let own = ["127.0.0.1", "localhost"].map(str::to_owned);
    let hosts: Vec<String> = own.into_iter().chain(args.hosts.iter().cloned()).collect();
    let reached_at = args.hosts.first().map_or("127.0.0.1", String::as_str).to_owned();
    let settings = EstSettings { hosts, lasts: args.lasts };
    let _log = log::begin(&args.log).map_err(|error| Failure::new(USAGE, chain(&error)))?;
    exit::block_on(async {
        let no_signals = |error: io::Error| Failure::new(NO, format!("no signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let server = EstServer::bind(args.listen, store, settings).await.map_err(|error| {
            let code = match error {
                EstServerError::Listen { .. } => PEER,
                EstServerError::Store(_) | EstServerError::Tls(_) => DISK,
            };
            Failure::new(code, chain(&error))
        })?;
        let host = if reached_at.contains(':') { format!("[{reached_at}]") } else { reached_at };
        let est = format!("https://{host}:{}", server.address().port());
        let serving = Serving { est, pin };
        tell(args.json, &serving, with)
            .map_err(|error| Failure::new(NO, format!("nobody to tell: {error}")))?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::select! {
            () = server.serve(stopped) => {}
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
        }
        Ok(OK)
    })
    .map_err(Problem::Failure)
}

fn tell(is_json: bool, serving: &Serving, with: &mut Surroundings<'_>) -> io::Result<()> {
    if is_json {
        writeln!(with.out, "{}", serde_json::to_string(serving)?)?;
    } else {
        writeln!(with.out, "EST is served; a gateway needs in its configuration:")?;
        writeln!(with.out)?;
        writeln!(with.out, "[identity]")?;
        writeln!(with.out, "est = \"{}\"", serving.est)?;
        writeln!(with.out, "ca-pins = [\"{}\"]", serving.pin)?;
    }
    with.out.flush()
}

fn token(args: &TokenArgs, with: &mut Surroundings<'_>) -> Result<u8, Problem> {
    let store = open(&args.folder)?;
    let token = store.token(&args.gateway.to_string(), args.lasts, with.now)?;
    writeln!(with.out, "{}", token.secret())?;
    if io::stderr().is_terminal() {
        writeln!(
            with.err,
            "for {}, once, within {}: tidegate identity enrol --token-file FILE",
            args.gateway,
            told(args.lasts)
        )?;
    }
    Ok(OK)
}

fn revoke(args: &RevokeArgs, with: &mut Surroundings<'_>) -> Result<u8, Problem> {
    let store = open(&args.folder)?;
    let (whose, revoked) = match (&args.gateway, &args.serial) {
        (Some(gateway), _) => {
            (gateway.to_string(), store.revoke_gateway(&gateway.to_string(), with.now)?)
        }
        (None, Some(serial)) => {
            let is_new = store.revoke_serial(serial, with.now)?;
            (serial.clone(), if is_new { vec![serial.clone()] } else { Vec::new() })
        }
        (None, None) => return Ok(USAGE),
    };
    if revoked.is_empty() {
        writeln!(
            with.err,
            "error: {whose} has no certificate of this authority that is not revoked already"
        )?;
        return Ok(NO);
    }
    for serial in &revoked {
        writeln!(with.out, "revoked {serial}")?;
    }
    writeln!(with.out, "the list is {}", store.crl_path().display())?;
    writeln!(
        with.out,
        "a hub goes on with links that stand; tidegate hub revoke cuts them and keeps them out"
    )?;
    Ok(OK)
}

fn crl(args: &CrlArgs, with: &mut Surroundings<'_>) -> Result<u8, Problem> {
    let store = open(&args.folder)?;
    let (number, revoked) = store.publish_crl(with.now)?;
    let path = store.crl_path();
    writeln!(with.out, "list {number} with {revoked} revoked certificates: {}", path.display())?;
    Ok(OK)
}

fn told(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        seconds if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    struct Hub(tempfile::TempDir);

    impl Hub {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ca = HubFolder::at(dir.path()).authority();
            AuthorityStore::create(ca, "lab", Duration::from_secs(86_400), SystemTime::now())
                .unwrap();
            Self(dir)
        }

        fn folder(&self) -> FolderArgs {
            FolderArgs { dir: self.0.path().to_owned() }
        }

        fn run(&self, command: CaCommand) -> (u8, String, String) {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut with = Surroundings {
                now: SystemTime::now(),
                colour: false,
                out: &mut out,
                err: &mut err,
            };
            let code = run(&CaArgs { command }, &mut with).unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (code, text(out), text(err))
        }
    }

    #[test]
    fn a_token_stands_alone_on_its_line() {
        let hub = Hub::new();
        let gateway = "P/g".parse().unwrap();
        let lasts = Duration::from_secs(3_600);
        let args = TokenArgs { gateway, folder: hub.folder(), lasts };
        let (code, out, _) = hub.run(CaCommand::Token(args));
        assert_eq!((code, out.lines().count(), out.trim().len()), (OK, 1, 32));
    }

    #[test]
    fn what_is_revoked_is_named_and_nothing_to_revoke_is_a_no() {
        let hub = Hub::new();
        let store = open(&hub.folder()).unwrap();
        let lasts = Duration::from_secs(3_600);
        store.gateway("P/g", lasts, SystemTime::now()).unwrap();
        let serial = store.issued().unwrap()[0].serial.clone();
        let args = RevokeArgs {
            gateway: Some("P/g".parse().unwrap()),
            serial: None,
            folder: hub.folder(),
        };
        let (code, out, _) = hub.run(CaCommand::Revoke(args.clone()));
        assert_eq!(code, OK);
        assert!(out.contains(&format!("revoked {serial}")), "{out}");
        let (code, _, err) = hub.run(CaCommand::Revoke(args));
        assert_eq!(code, NO);
        assert!(err.contains("P/g has no certificate"), "{err}");
        let (code, out, _) = hub.run(CaCommand::Crl(CrlArgs { folder: hub.folder() }));
        assert!(code == OK && out.contains("with 1 revoked"), "{out}");
    }

    #[test]
    fn a_folder_without_an_authority_says_what_to_do() {
        let hub = Hub::new();
        let folder = FolderArgs { dir: hub.0.path().join("elsewhere") };
        let (code, _, err) = hub.run(CaCommand::Crl(CrlArgs { folder }));
        assert_eq!(code, DISK);
        assert!(err.contains("tidegate hub init"), "{err}");
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(span("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(span("45s"), Ok(Duration::from_secs(45)));
        for wrong in ["", "90", "d", "-1d", "0s", "1w", "99999999999999999999d", "1000000d", "1é"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(told(Duration::from_secs(86_400)), "24 h");
    }
}
