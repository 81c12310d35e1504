//! `tidegate hub rotate`: new certificates for the hub's own servers, one server after the other.
//!
//! # Invariants
//! - A certificate counts once every listener of the server shows it to somebody who verifies it as
//!   a gateway does.
//! - The next server is touched only once the one before shows its new certificate: whatever goes
//!   wrong, the others of a cluster go on.
//! - A server that refuses gets its former certificate back.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tidegate_identity::{CertificateFacts, Identity, load_trust};
use zeroize::Zeroizing;

use super::super::exit::{self, Failure, NO, OK, PEER, USAGE};
use super::super::terminal::{Align, Table, Tone};
use super::Surroundings;
use super::reach::{Reach, ReachArgs};
use crate::causes::chain;
use crate::hub::operate::findings::{days_until, ends};
use crate::hub::operate::{Server, shown};
use crate::hub::{HubNode, Secrecy};
use crate::names::Name;
use crate::system_account::{OperateError, System};

const A_DAY: Duration = Duration::from_secs(86_400);

/// Give the hub's servers new certificates, and see that every port shows them
#[derive(Debug, Clone, clap::Args)]
pub struct RotateArgs {
    /// How the servers are reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Only these servers
    #[arg(value_name = "NODE", value_parser = |name: &str| Name::new(name))]
    pub nodes: Vec<Name>,
    /// Only look at what each port shows: exit code 1 when a certificate ends within --alarm-days
    #[arg(long, conflicts_with_all = ["new_cert", "days"])]
    pub check: bool,
    /// How many days before its end a certificate is an alarm
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub alarm_days: u32,
    /// For how many days a certificate of the hub's own authority is valid
    #[arg(long, value_name = "DAYS", default_value_t = 366, value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    /// A certificate of your own authority, with those above it (PEM); for one server
    #[arg(long, value_name = "FILE", requires = "new_key")]
    pub new_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "new_cert")]
    pub new_key: Option<PathBuf>,
}

/// What a listener shows.
#[derive(Debug)]
struct Listener {
    node: String,
    port: &'static str,
    address: String,
    result: Result<Seen, String>,
}

#[derive(Debug)]
struct Seen {
    facts: CertificateFacts,
    /// Whether it is the one that it should be.
    is_wanted: bool,
}

/// What became of a server.
struct Turned {
    listeners: Vec<Listener>,
    /// What went wrong.
    wrong: Option<String>,
}

pub(super) fn run(args: &RotateArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let now = with.now;
    let turned = match exit::block_on(rotate(args, now)) {
        Ok(turned) => turned,
        Err(failure) => return failure.tell(with.err),
    };
    let alarms = tell(&turned, args, now, with)?;
    let wrong = turned.iter().filter_map(|one| one.wrong.as_ref());
    let mut code = if alarms { NO } else { OK };
    for text in wrong {
        writeln!(with.err, "error: {text}")?;
        code = PEER;
    }
    Ok(code)
}

/// Prints what the listeners show; whether one of them is an alarm.
fn tell(
    turned: &[Turned],
    args: &RotateArgs,
    now: SystemTime,
    with: &mut Surroundings<'_>,
) -> io::Result<bool> {
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let columns = ["SERVER", "PORT", "ADDRESS", "SERIAL", "CERTIFICATE"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    let mut alarms = false;
    for listener in turned.iter().flat_map(|one| &one.listeners) {
        let (serial, text, tone) = match &listener.result {
            Err(why) => ("–".to_owned(), why.clone(), Tone::Wrong),
            Ok(seen) => {
                let until = Timestamp::try_from(seen.facts.not_after).unwrap_or(Timestamp::MAX);
                let days = days_until(until, now);
                let text = ends(days, until);
                if days < f64::from(args.alarm_days) {
                    (seen.facts.serial.clone(), text, Tone::Wrong)
                } else {
                    (seen.facts.serial.clone(), text, Tone::Good)
                }
            }
        };
        alarms |= tone == Tone::Wrong;
        table.row([
            (listener.node.clone(), Tone::Plain),
            (listener.port.to_owned(), Tone::Plain),
            (listener.address.clone(), Tone::Plain),
            (serial, Tone::Plain),
            (text, tone),
        ]);
    }
    table.write(with.out, 0, with.colour)?;
    Ok(alarms)
}

async fn rotate(args: &RotateArgs, now: SystemTime) -> Result<Vec<Turned>, Failure> {
    let reach = Reach::of(&args.reach)?;
    let strange = args.nodes.iter().find(|name| !reach.nodes().contains(&name.to_string()));
    if let Some(strange) = strange {
        let text = format!("hub.toml has no server {strange}; it has {}", reach.nodes().join(", "));
        return Err(Failure::new(USAGE, text));
    }
    let all = reach.file().nodes.iter();
    let nodes: Vec<_> =
        all.filter(|node| args.nodes.is_empty() || args.nodes.contains(&node.name)).collect();
    if args.new_cert.is_some() && nodes.len() != 1 {
        let text = "--new-cert is for one server; name it".to_owned();
        return Err(Failure::new(USAGE, text));
    }
    let mut turned = Vec::new();
    if args.check {
        for node in nodes {
            turned.push(Turned { listeners: listeners(&reach, node, None).await?, wrong: None });
        }
        return Ok(turned);
    }
    let system = reach.system().await?;
    let servers = system.servers(&reach.nodes()).await?;
    for node in nodes {
        let server = servers.answers.iter().find(|server| server.name == node.name.as_str());
        let papers = papers(args, &reach, node, now)?;
        let one = turn(&reach, &system, node, server, &papers).await?;
        let stop = one.wrong.is_some();
        turned.push(one);
        if stop {
            break;
        }
    }
    Ok(turned)
}

/// A certificate with its key, as they are written.
struct Papers {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    identity: Identity,
}

impl Papers {
    fn of(cert: Vec<u8>, key: Zeroizing<Vec<u8>>) -> Result<Self, Failure> {
        let identity = Identity::from_pem(&key, &cert)
            .map_err(|error| Failure::new(USAGE, format!("the new pair: {}", chain(&error))))?;
        Ok(Self { cert, key, identity })
    }
}

/// The new pair: an operator's, else one of the hub's own authority.
fn papers(
    args: &RotateArgs,
    reach: &Reach<'_>,
    node: &HubNode,
    now: SystemTime,
) -> Result<Papers, Failure> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|error| {
            Failure::new(USAGE, format!("{} cannot be read: {error}", path.display()))
        })
    };
    let papers = match (&args.new_cert, &args.new_key) {
        (Some(cert), Some(key)) => Papers::of(read(cert)?, Zeroizing::new(read(key)?))?,
        _ => {
            let authority = reach.authority()?.ok_or_else(|| {
                let text = format!(
                    "the hub has no authority of its own in {}; give --new-cert and --new-key",
                    reach.folder.authority().display()
                );
                Failure::new(USAGE, text)
            })?;
            let lasts = A_DAY * args.days;
            let issued = authority
                .server(node.name.as_str(), &node.certified_hosts(), lasts, now)
                .map_err(|error| Failure::new(exit::DISK, chain(&error)))?;
            let key = Zeroizing::new(issued.key_pem.as_bytes().to_vec());
            Papers::of(issued.certificate_pem.into_bytes(), key)?
        }
    };
    let names = &papers.identity.facts().names;
    if let Some(missing) = node.hosts.iter().find(|host| !names.contains(host)) {
        let text = format!("the new certificate of {} lacks the name {missing}", node.name);
        return Err(Failure::new(USAGE, text));
    }
    Ok(papers)
}

async fn turn(
    reach: &Reach<'_>,
    system: &System,
    node: &HubNode,
    server: Option<&Server>,
    papers: &Papers,
) -> Result<Turned, Failure> {
    let before = (stored(reach, node, "cert.pem")?, stored(reach, node, "key.pem")?);
    put(reach, node, &papers.cert, &papers.key)?;
    let name = node.name.to_string();
    let folder = reach.folder.node(&node.name);
    let wrong = match server {
        None => Some(format!(
            "{name} does not answer; its new certificate is in {}, for its next start",
            folder.display()
        )),
        Some(server) => match system.reload(server).await {
            Ok(()) => None,
            Err(error @ OperateError::Refused { .. }) => {
                if let (Some(cert), Some(key)) = &before {
                    put(reach, node, cert, key)?;
                    // The server runs with what it had in any case.
                    let _ = system.reload(server).await;
                }
                Some(format!("{}; it has its former certificate again", chain(&error)))
            }
            Err(error) => Some(chain(&error)),
        },
    };
    let wanted = papers.identity.chain().first();
    let listeners = listeners(reach, node, wanted).await?;
    let other = listeners.iter().find(|listener| match &listener.result {
        Ok(seen) => !seen.is_wanted,
        Err(_) => true,
    });
    let wrong = wrong.or_else(|| {
        other.map(|listener| {
            format!(
                "{name} does not show its new certificate on its {} port; copy {} to its machine and run tidegate hub rotate --check",
                listener.port,
                folder.display()
            )
        })
    });
    Ok(Turned { listeners, wrong })
}

fn stored(
    reach: &Reach<'_>,
    node: &HubNode,
    name: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let path = reach.folder.node(&node.name).join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::new(exit::DISK, format!("{} cannot be read: {error}", path.display())))
        }
    }
}

/// A server that starts between the two files has a key too many and does not start; it is started
/// again by its unit.
fn put(reach: &Reach<'_>, node: &HubNode, cert: &[u8], key: &[u8]) -> Result<(), Failure> {
    let folder = reach.folder.node(&node.name);
    reach.folder.write(&folder.join("key.pem"), key, Secrecy::Secret)?;
    reach.folder.write(&folder.join("cert.pem"), cert, Secrecy::Open)?;
    Ok(())
}

/// Makes a handshake with every listener of a server.
async fn listeners(
    reach: &Reach<'_>,
    node: &HubNode,
    wanted: Option<&rustls::pki_types::CertificateDer<'static>>,
) -> Result<Vec<Listener>, Failure> {
    let roots = load_trust(&reach.folder.ca())
        .map_err(|error| Failure::new(USAGE, chain(&error)))?
        .certificates;
    let host = node.hosts.first().cloned().unwrap_or_default();
    let ports = [
        ("client", Some(node.client), true),
        ("leaf", Some(node.leaf), true),
        ("websocket", node.websocket, false),
        ("cluster", node.cluster, false),
    ];
    let mut all = Vec::new();
    for (port, listens, greets) in ports {
        let Some(listens) = listens else { continue };
        let (host, roots, dialled) = (host.clone(), roots.clone(), host.clone());
        let handshake = tokio::task::spawn_blocking(move || {
            let address = resolved(&host, listens)?;
            shown(address, &host, greets, &roots).map_err(|error| chain(&error))
        });
        let result = handshake.await.unwrap_or_else(|error| Err(error.to_string()));
        let result = result.and_then(|certificate| {
            let facts = CertificateFacts::of(&certificate).map_err(|error| chain(&error))?;
            Ok(Seen { facts, is_wanted: wanted.is_none_or(|wanted| *wanted == certificate) })
        });
        let address = format!("{dialled}:{}", listens.port());
        all.push(Listener { node: node.name.to_string(), port, address, result });
    }
    Ok(all)
}

fn resolved(host: &str, listens: SocketAddr) -> Result<SocketAddr, String> {
    let found = (host, listens.port()).to_socket_addrs();
    let mut found = found.map_err(|error| format!("{host} has no address: {error}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}
