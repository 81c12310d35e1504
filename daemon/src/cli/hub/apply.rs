//! `tidegate hub apply`: prints anew what follows from `hub.toml`, and makes the streams.

use std::io;
use std::path::PathBuf;

use super::super::exit::{self, CONFIG, Failure, NO, OK, PEER, USAGE};
use super::{FolderArgs, Surroundings, papers};
use crate::causes::chain;
use crate::hub::{
    HubFile, HubFolder, HubFolderError, Role, drift, ensure_stream, publish_directory,
};
use crate::hubread::{Access, Login};

/// Print the servers' files anew from hub.toml, and bring the streams to what it says.
#[derive(Debug, Clone, clap::Args)]
pub struct ApplyArgs {
    /// The hub's folder.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Make the streams, or bring their limits to what hub.toml says; the servers have to run
    #[arg(long)]
    pub streams: bool,
    /// A server's client address, instead of those in hub.toml
    #[arg(long, value_name = "URL", requires = "streams")]
    pub server: Option<String>,
    /// The admin's certificate (PEM), instead of the one in the folder
    #[arg(long, value_name = "FILE", requires_all = ["streams", "key"])]
    pub cert: Option<PathBuf>,
    /// The admin's key (PEM), instead of the one in the folder
    #[arg(long, value_name = "FILE", requires_all = ["streams", "cert"])]
    pub key: Option<PathBuf>,
}

pub(super) fn run(args: &ApplyArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let folder = HubFolder::at(&args.folder.dir);
    let read = match folder.load() {
        Ok(read) => read,
        Err(HubFolderError::Mistakes(mistakes)) => {
            writeln!(with.err, "{mistakes}")?;
            return Ok(CONFIG);
        }
        Err(error) => return Failure::from(error).tell(with.err),
    };
    // Servers and people who were added since.
    if let Err(failure) = papers::complete(&folder, &read.file, with.now) {
        return failure.tell(with.err);
    }
    let changed = match folder.print(&read.file) {
        Ok(changed) => changed,
        Err(error) => return Failure::from(error).tell(with.err),
    };
    for path in &changed {
        writeln!(with.out, "wrote {}", path.display())?;
    }
    if changed.is_empty() {
        writeln!(with.out, "the servers' files say what hub.toml says")?;
    }
    let missing = tell_missing(&folder, &read.file, with)?;
    if args.streams {
        return match exit::block_on(streams(args, &folder, &read.file)) {
            Ok(told) => {
                told.iter().try_for_each(|line| writeln!(with.out, "{line}"))?;
                Ok(if missing { NO } else { OK })
            }
            Err(failure) => failure.tell(with.err),
        };
    }
    if changed.iter().any(|path| path.extension().is_some_and(|it| it == "conf")) {
        writeln!(with.out, "next: bring each server's folder to its machine, then reload it")?;
    }
    Ok(if missing { NO } else { OK })
}

/// Says which certificates are not there, and whether any is not.
pub(super) fn tell_missing(
    folder: &HubFolder,
    file: &HubFile,
    with: &mut Surroundings<'_>,
) -> io::Result<bool> {
    let mut missing = Vec::new();
    for node in &file.nodes {
        let own = folder.node(&node.name);
        let hosts = node.certified_hosts().join(", ");
        for (file, what) in [
            ("ca.pem", "the root certificate of the gateways' authority".to_owned()),
            ("cert.pem", format!("a certificate for {hosts}, as server and as client")),
            ("key.pem", "its key".to_owned()),
        ] {
            let path = own.join(file);
            if !path.exists() {
                missing.push((path, what));
            }
        }
    }
    for site in &file.sites {
        let own = folder.site(&site.name);
        for (file, what) in [
            ("ca.pem", "the root certificate of the hub's and the gateways' authority".to_owned()),
            (
                "cert.pem",
                format!("a certificate for {}, as server and as client", site.hosts.join(", ")),
            ),
            ("key.pem", "its key".to_owned()),
        ] {
            let path = own.join(file);
            if !path.exists() {
                missing.push((path, what));
            }
        }
    }
    for (node, region) in
        file.nodes.iter().flat_map(|it| file.regions.iter().map(move |to| (it, to)))
    {
        let own = folder.node(&node.name).join("regions").join(region.name.as_str());
        for (file, what) in [
            ("ca.pem", "the root certificate of the region's hub".to_owned()),
            ("cert.pem", format!("the certificate by which region {} knows this hub", region.name)),
            ("key.pem", "its key".to_owned()),
        ] {
            let path = own.join(file);
            if !path.exists() {
                missing.push((path, what));
            }
        }
    }
    for (path, what) in &missing {
        writeln!(with.err, "warning: {} is missing: {what}", path.display())?;
    }
    Ok(!missing.is_empty())
}

/// How a hub's admin logs in.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AdminArgs {
    /// A server's client address, instead of those in hub.toml
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The admin's certificate (PEM), instead of the one in the folder
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The admin's key (PEM), instead of the one in the folder
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// The hub's JetStream by whichever server is there, as its admin.
pub(super) async fn as_admin(
    args: &AdminArgs,
    folder: &HubFolder,
    file: &HubFile,
) -> Result<async_nats::jetstream::Context, Failure> {
    let admin = file.people_of(Role::Admin).next();
    let admin = admin.ok_or_else(|| Failure::new(CONFIG, "hub.toml has no admin".to_owned()))?;
    let cert = args.cert.clone().unwrap_or_else(|| folder.user_cert(&admin.name));
    let key = args.key.clone().unwrap_or_else(|| folder.user_key(&admin.name));
    let servers = match &args.server {
        Some(server) => vec![server.clone()],
        None => file.nodes.iter().map(crate::hub::HubNode::client_url).collect(),
    };
    let mut failures = Vec::new();
    for server in servers {
        let access = Access {
            server: Some(server),
            login: Login::by_certificate(folder.ca(), cert.clone(), key.clone()),
            stream: admin.name.clone(),
        };
        match access.connect().await {
            Ok(client) => return Ok(async_nats::jetstream::new(client)),
            Err(error) => failures.push(chain(&error)),
        }
    }
    Err(Failure::new(PEER, failures.join("\n       ")))
}

/// Makes the streams.
async fn streams(
    args: &ApplyArgs,
    folder: &HubFolder,
    file: &HubFile,
) -> Result<Vec<String>, Failure> {
    let (server, cert, key) = (args.server.clone(), args.cert.clone(), args.key.clone());
    let context = as_admin(&AdminArgs { server, cert, key }, folder, file).await?;
    let mut told = Vec::new();
    for plan in file.stream_plans() {
        let before = context.get_stream(plan.stream.as_str()).await.ok();
        let differed = before.as_ref().map(|it| drift(&it.cached_info().config, &plan));
        let refused = |error| Failure::new(PEER, chain(&error));
        ensure_stream(&context, &plan).await.map_err(refused)?;
        let stream = &plan.stream;
        told.push(match differed {
            None => format!("made stream {stream}, {} on {}", copies(plan.replicas), file.hub.name),
            Some(what) if what.is_empty() => format!("stream {stream} is as it should be"),
            Some(what) => format!("changed {} of stream {stream}", what.join(", ")),
        });
    }
    let written = publish_directory(&context, file).await;
    if written.map_err(|error| Failure::new(PEER, chain(&error)))? {
        told.push(format!("wrote the directory of {} gateways", file.gateways.len()));
    }
    Ok(told)
}

fn copies(replicas: usize) -> String {
    if replicas == 1 { "one copy".to_owned() } else { format!("{replicas} copies") }
}

impl From<HubFolderError> for Failure {
    fn from(error: HubFolderError) -> Self {
        let code = match error {
            HubFolderError::Mistakes(_) | HubFolderError::NoHub { .. } => CONFIG,
            HubFolderError::Unreadable { .. } | HubFolderError::TooLarge { .. } => USAGE,
            _ => exit::DISK,
        };
        Self::new(code, chain(&error))
    }
}
