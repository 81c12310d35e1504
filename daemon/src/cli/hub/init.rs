//! `tidegate hub init`: writes a hub's files.
//!
//! # Invariants
//! - `hub.toml` is written last: a folder that has one was written to its end.
//! - Nothing is replaced. A hub that is there is changed in `hub.toml`, then `tidegate hub apply`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::super::exit::{Failure, OK, USAGE};
use super::{FolderArgs, Surroundings, apply, papers};
use crate::hub::{
    HubFile, HubFolder, HubNode, HubSettings, HubStream, Mistakes, Ocsp, Person, Role, Secrecy,
    Takes, default_conf_dir, default_store_dir,
};
use crate::names::Name;

/// Write a hub's files: one server, or three in a cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// Where to.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The names and addresses of a server, as gateways reach it; once for each server, of which
    /// there are one or three
    #[arg(long, value_name = "HOST[,HOST...]", required = true)]
    pub host: Vec<String>,
    /// The hub's name; its servers are NAME-1, NAME-2, and so on
    #[arg(long, value_name = "NAME", default_value = "hub", value_parser = name)]
    pub name: Name,
    /// The JetStream domain
    #[arg(long, value_name = "NAME", default_value = "hub", value_parser = name)]
    pub domain: Name,
    /// Where servers listen
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen: IpAddr,
    /// The port for people and programs; servers with the same hosts count up from it, and from the
    /// other ports
    #[arg(long, value_name = "PORT", default_value_t = 4222, value_parser = port())]
    pub client_port: u16,
    /// The port for gateways
    #[arg(long, value_name = "PORT", default_value_t = 7422, value_parser = port())]
    pub leaf_port: u16,
    /// A port for gateways behind proxies, by wss, such as 443
    #[arg(long, value_name = "PORT", value_parser = port())]
    pub websocket_port: Option<u16>,
    /// The port between servers
    #[arg(long, value_name = "PORT", default_value_t = 6222, value_parser = port())]
    pub cluster_port: u16,
    /// A stream, with the plants whose frames it collects when there are several streams
    #[arg(long, value_name = "NAME[=PLANT,...]", default_value = "TIDE", value_parser = stream)]
    pub stream: Vec<HubStream>,
    /// The most that JetStream may store on each server
    #[arg(long, value_name = "SIZE", default_value = "64 GiB", value_parser = size)]
    pub max_store: u64,
    /// Memory on each server for the last value of each tag; none is kept without it
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub last_values: Option<u64>,
    /// Whether servers ask an OCSP responder about gateways' certificates: off, lenient or strict
    #[arg(long, value_name = "WORD", default_value = "off", value_parser = ocsp)]
    pub ocsp: Ocsp,
    /// Somebody who reads; can be repeated
    #[arg(long, value_name = "NAME", default_value = "reader", value_parser = name)]
    pub reader: Vec<Name>,
    /// Where a server keeps its streams on its machine
    #[arg(long, value_name = "DIR", default_value_os_t = default_store_dir())]
    pub store_dir: PathBuf,
    /// Where a server finds its configuration on its machine
    #[arg(long, value_name = "DIR", default_value_os_t = default_conf_dir())]
    pub conf_dir: PathBuf,
    /// The root certificate of an authority of your own, instead of a lab authority made here
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

fn name(text: &str) -> Result<Name, crate::names::NameError> {
    Name::new(text)
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn size(text: &str) -> Result<u64, &'static str> {
    let bytes = crate::config::size::parse(text).filter(|bytes| *bytes > 0);
    bytes.ok_or("a size such as \"50 GiB\"")
}

fn ocsp(text: &str) -> Result<Ocsp, &'static str> {
    let all = [Ocsp::Off, Ocsp::Lenient, Ocsp::Strict];
    all.into_iter().find(|it| it.word() == text).ok_or("off, lenient or strict")
}

fn stream(text: &str) -> Result<HubStream, crate::names::NameError> {
    let (name, plants) = text.split_once('=').map_or((text, None), |(name, it)| (name, Some(it)));
    let takes = match plants {
        None => Takes::Every,
        Some(plants) => {
            let plants = plants.split(',').map(|plant| Name::new(plant.trim()));
            Takes::Plants(plants.collect::<Result<_, _>>()?)
        }
    };
    Ok(HubStream { name: Name::new(name)?, takes, max_bytes: None, max_age: None, mirrors: None })
}

pub(super) fn run(args: &InitArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let folder = HubFolder::at(&args.folder.dir);
    match made(args, &folder, with.now) {
        Ok(file) => told(args, &folder, &file, with),
        Err(failure) => failure.tell(with.err),
    }
}

/// Writes everything.
fn made(
    args: &InitArgs,
    folder: &HubFolder,
    now: std::time::SystemTime,
) -> Result<HubFile, Failure> {
    let toml = folder.hub_toml();
    if toml.exists() {
        let why = format!(
            "{} exists; edit it and run `tidegate hub apply`, or choose another --dir",
            toml.display()
        );
        return Err(Failure::new(USAGE, why));
    }
    let file = file_of(args)?;
    // Whatever the arguments led to, the file has to be legal.
    let file = HubFile::read(&toml, &file.print()).map_err(|mistakes| usage(&mistakes))?;
    match &args.ca {
        Some(ca) => {
            let failed = |error: io::Error| {
                Failure::new(USAGE, format!("--ca {} cannot be read: {error}", ca.display()))
            };
            let root = std::fs::read(ca).map_err(failed)?;
            tidegate_identity::load_trust(ca)
                .map_err(|error| Failure::new(USAGE, crate::causes::chain(&error)))?;
            folder.write(&folder.ca(), &root, Secrecy::Open)?;
        }
        None => papers::issue(folder, &file, now)?,
    }
    folder.print(&file)?;
    folder.create(&file)?;
    Ok(file)
}

fn usage(mistakes: &Mistakes) -> Failure {
    let lines: Vec<_> = mistakes.lines().collect();
    Failure::new(USAGE, format!("this would be no hub:\n  {}", lines.join("\n  ")))
}

/// The hub that the arguments describe.
fn file_of(args: &InitArgs) -> Result<HubFile, Failure> {
    let person = |name: &str, role| {
        let name = Name::new(name).map_err(|error| Failure::new(USAGE, error.to_string()))?;
        Ok::<_, Failure>(Person { name, role, subject: None })
    };
    let mut people = vec![person("admin", Role::Admin)?, person("operator", Role::System)?];
    people.extend(args.reader.iter().map(|name| Person {
        name: name.clone(),
        role: Role::Reader,
        subject: None,
    }));
    let several = args.host.len() > 1;
    let mut nodes: Vec<HubNode> = Vec::new();
    for (at, hosts) in args.host.iter().enumerate() {
        let hosts: Vec<_> = hosts.split(',').map(|host| host.trim().to_owned()).collect();
        // On one machine each needs ports of its own.
        let before = nodes.iter().filter(|other| other.hosts == hosts).count();
        let listen = |port: u16| {
            let port = u16::try_from(before).ok().and_then(|before| port.checked_add(before));
            let port = port.ok_or_else(|| Failure::new(USAGE, "there are too few ports".into()))?;
            Ok::<_, Failure>(SocketAddr::new(args.listen, port))
        };
        let name = Name::new(format!("{}-{}", args.name, at + 1));
        nodes.push(HubNode {
            name: name.map_err(|error| Failure::new(USAGE, format!("--name: {error}")))?,
            client: listen(args.client_port)?,
            leaf: listen(args.leaf_port)?,
            websocket: args.websocket_port.map(listen).transpose()?,
            cluster: several.then(|| listen(args.cluster_port)).transpose()?,
            hosts,
        });
    }
    Ok(HubFile {
        hub: HubSettings {
            name: args.name.clone(),
            domain: args.domain.clone(),
            store_dir: args.store_dir.clone(),
            max_store: args.max_store,
            conf_dir: args.conf_dir.clone(),
            last_values: args.last_values,
            ocsp: args.ocsp,
        },
        nodes,
        streams: args.stream.clone(),
        gateways: Vec::new(),
        sites: Vec::new(),
        mirrors: Vec::new(),
        regions: Vec::new(),
        people,
    })
}

fn told(
    args: &InitArgs,
    folder: &HubFolder,
    file: &HubFile,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    let dir = folder.dir().display();
    let lab = args.ca.is_none();
    writeln!(with.out, "wrote {dir}/hub.toml and what follows from it:")?;
    for node in &file.nodes {
        let (name, host) = (&node.name, node.hosts.first().map_or("", String::as_str));
        writeln!(with.out, "  {name}/  belongs to {} on {host}", file.hub.conf_dir.display())?;
    }
    writeln!(with.out, "  compose.yaml  all servers in containers")?;
    if lab {
        writeln!(with.out, "  users/  certificates of {}", names(&file.people))?;
        writeln!(with.out, "  ca/  the lab authority: whoever has its key can let anybody in")?;
    }
    apply::tell_missing(folder, file, with)?;
    writeln!(with.out, "next: start the servers, then")?;
    writeln!(with.out, "  tidegate hub apply --dir {dir} --streams")?;
    writeln!(with.out, "  tidegate hub admit --dir {dir} PLANT/NAME --prefix PLANT/AREA")?;
    Ok(OK)
}

fn names(people: &[Person]) -> String {
    let names: Vec<_> = people.iter().map(|it| it.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
