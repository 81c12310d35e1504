//! How the commands find a hub's folder, and its servers while they run.
//!
//! # Invariants
//! - Each question goes by the person who may ask it: the operator's certificate for servers and
//!   connections, a reader's for streams. Nothing is asked with more rights than it needs.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use futures_util::future::select_ok;
use tidegate_identity::StoreError;
use tidegate_identity::authority_store::AuthorityStore;
use zeroize::Zeroizing;

use super::super::exit::{DISK, Failure, NO, PEER, USAGE};
use super::FolderArgs;
use crate::causes::chain;
use crate::hub::operate::roll::Signed;
use crate::hub::operate::{Taken, digest, take_over, users};
use crate::hub::{HubFile, HubFolder, HubNode, HubText, Role};
use crate::hubread::{Access, Login};
use crate::names::Name;
use crate::system_account::{OperateError, System};

/// How the hub's servers are reached.
#[derive(Debug, Clone, clap::Args)]
pub struct ReachArgs {
    /// Where its files are.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// A server's client address, such as tls://hub-1.example.com:4222; all of hub.toml otherwise
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,
    /// Certificate authority to trust (PEM); ca.pem of the folder otherwise
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate of the operator (PEM); the one in users/ otherwise
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// A hub's folder that was read, and how its servers are reached.
pub(super) struct Reach<'a> {
    args: &'a ReachArgs,
    pub(super) folder: HubFolder,
    pub(super) text: HubText,
}

#[cfg(test)]
impl ReachArgs {
    pub(super) const fn at(dir: PathBuf) -> Self {
        let folder = FolderArgs { dir };
        Self { folder, server: Vec::new(), ca: None, cert: None, key: None }
    }
}

impl From<OperateError> for Failure {
    fn from(error: OperateError) -> Self {
        Self::new(PEER, chain(&error))
    }
}

impl<'a> Reach<'a> {
    pub(super) fn of(args: &'a ReachArgs) -> Result<Self, Failure> {
        let folder = HubFolder::at(&args.folder.dir);
        let text = folder.load()?;
        Ok(Self { args, folder, text })
    }

    pub(super) fn file(&self) -> &HubFile {
        &self.text.file
    }

    /// The names of all servers.
    pub(super) fn nodes(&self) -> Vec<String> {
        self.file().nodes.iter().map(|node| node.name.to_string()).collect()
    }

    /// The hub's own authority, where it has one.
    pub(super) fn authority(&self) -> Result<Option<AuthorityStore>, Failure> {
        let dir = self.folder.authority();
        if !dir.join("ca.key").exists() {
            return Ok(None);
        }
        let opened = AuthorityStore::open(dir);
        opened.map(Some).map_err(|error| Failure::new(DISK, chain(&error)))
    }

    /// What that authority signed for gateways.
    pub(super) fn signed(&self) -> Result<Vec<Signed>, Failure> {
        let Some(authority) = self.authority()? else { return Ok(Vec::new()) };
        let failed = |error: StoreError| Failure::new(DISK, chain(&error));
        let revoked = authority.revoked_serials().map_err(failed)?;
        let revoked: HashSet<_> = revoked.into_iter().collect();
        let issued = authority.issued().map_err(failed)?;
        let signed = issued.into_iter().filter_map(|entry| {
            let until = i64::try_from(entry.until).ok()?;
            Some(Signed {
                gateway: entry.gateway()?.to_owned(),
                is_revoked: revoked.contains(&entry.serial),
                until: jiff::Timestamp::from_second(until).ok()?,
                serial: entry.serial,
                sha256: entry.sha256,
            })
        });
        Ok(signed.collect())
    }

    /// The system account, by the operator.
    pub(super) async fn system(&self) -> Result<System, Failure> {
        let files = match (&self.args.cert, &self.args.key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => self.files_of(Role::System)?,
        };
        Ok(System::new(self.connected(files).await?))
    }

    /// A connection of a reader.
    pub(super) async fn reader(&self) -> Result<async_nats::Client, Failure> {
        let files = self.files_of(Role::Reader).or_else(|_| self.files_of(Role::Admin))?;
        self.connected(files).await
    }

    /// A connection of an admin.
    pub(super) async fn admin(&self) -> Result<async_nats::Client, Failure> {
        self.connected(self.files_of(Role::Admin)?).await
    }

    /// Certificate and key of somebody with this role.
    fn files_of(&self, role: Role) -> Result<(PathBuf, PathBuf), Failure> {
        let files = self.file().people_of(role).map(|person| {
            (self.folder.user_cert(&person.name), self.folder.user_key(&person.name))
        });
        files.into_iter().find(|(_, key)| key.exists()).ok_or_else(|| {
            let text = format!(
                "no key of a user with role {:?} is in {}; put it there",
                role.word(),
                self.folder.dir().join("users").display()
            );
            Failure::new(USAGE, text)
        })
    }

    /// The first server that lets us in.
    async fn connected(
        &self,
        (cert, key): (PathBuf, PathBuf),
    ) -> Result<async_nats::Client, Failure> {
        let own = self.file().nodes.iter().map(HubNode::client_url);
        let servers =
            if self.args.server.is_empty() { own.collect() } else { self.args.server.clone() };
        let ca = self.args.ca.clone().unwrap_or_else(|| self.folder.ca());
        let accesses: Vec<_> = servers
            .into_iter()
            .map(|server| {
                let login = Login::by_certificate(ca.clone(), cert.clone(), key.clone());
                Access { server: Some(server), login, stream: self.file().hub.name.clone() }
            })
            .collect();
        let tries = accesses.iter().map(|access| Box::pin(access.connect()));
        Ok(select_ok(tries).await?.0)
    }

    /// Writes `wanted` into `hub.toml`, and prints what follows from it for the servers.
    pub(super) fn write(&mut self, wanted: &HubFile) -> Result<(), Failure> {
        self.text = self.folder.save(&self.text, wanted)?;
        self.folder.print(wanted)?;
        Ok(())
    }

    /// Has all servers take over what `hub.toml` says.
    pub(super) async fn take_over(&self, system: &System) -> Result<Vec<Taken>, Failure> {
        Ok(take_over(system, &self.digests()?).await?)
    }

    /// The digest of what each server should run.
    pub(super) fn digests(&self) -> Result<Vec<(String, String)>, Failure> {
        let digests = self.confs()?.into_iter().map(|(node, conf)| {
            let digest = digest(&conf).map_err(|error| Failure::new(NO, error.to_string()))?;
            Ok((node, digest))
        });
        digests.collect()
    }

    /// Whom the servers should let in.
    pub(super) fn users(&self) -> Result<HashSet<String>, Failure> {
        Ok(self.confs()?.iter().flat_map(|(_, conf)| users(conf)).collect())
    }

    /// The configuration of each server, as it was printed.
    fn confs(&self) -> Result<Vec<(String, Zeroizing<String>)>, Failure> {
        let confs = self.file().nodes.iter().map(|node| {
            let path = self.folder.conf(&node.name);
            let conf = fs::read_to_string(&path).map_err(|error| {
                let text =
                    format!("{} cannot be read: {error}; run tidegate hub apply", path.display());
                Failure::new(DISK, text)
            })?;
            Ok((node.name.to_string(), Zeroizing::new(conf)))
        });
        confs.collect()
    }

    /// What to tell of the servers, one line each; whether all of them run what they should.
    pub(super) fn tell(
        &self,
        taken: &[Taken],
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<bool> {
        for one in taken {
            let server = Name::new(one.server()).ok();
            let conf = server.map(|server| self.folder.conf(&server)).unwrap_or_default();
            writeln!(out, "{}", one.sentence(&conf.display().to_string()))?;
        }
        Ok(taken.iter().all(Taken::is_done))
    }
}
