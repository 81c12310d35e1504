//! Which files a gateway's configuration makes part of it.
//!
//! # Invariants
//! - Everything that the configuration names and that cannot be made anew stands in the list: the
//!   file itself, tag lists, certificates, keys, passwords, and the folders of identities. The
//!   journal does not: it is the record of this device, not of its name.
//! - Each says whether it is secret, so that what is shown to others can leave it out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{Config, Driver};
use tidegate_opcua::UserSpec;

/// A file or folder of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Belonging {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// What it is to whoever takes it along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The configuration and its lists.
    Text,
    /// Certificates that anybody may see.
    Certificate,
    /// A key or a password.
    Secret,
    /// A folder with keys in it.
    Folder,
}

/// Everything that belongs to it, each path once; absolute when the configuration was loaded from a
/// file. `lists` are the tag lists that were read.
pub(crate) fn of(config: &Config, file: &Path, lists: &[PathBuf]) -> Vec<Belonging> {
    let mut all = BTreeSet::new();
    let mut add = |path: &Path, kind| {
        all.insert(Belonging { path: path.to_owned(), kind });
    };
    add(file, Kind::Text);
    lists.iter().for_each(|list| add(list, Kind::Text));
    add(&config.opcua.dir, Kind::Folder);
    if let Some(tls) = config.hub.as_ref().and_then(|hub| hub.tls.as_ref()) {
        add(&tls.ca, Kind::Certificate);
        add(&tls.cert, Kind::Certificate);
        add(&tls.key, Kind::Secret);
    }
    let proxy = config.hub.as_ref().and_then(|hub| hub.proxy.as_ref());
    if let Some(user) = proxy.and_then(|proxy| proxy.user.as_ref()) {
        add(&user.password_file, Kind::Secret);
    }
    if let Some(identity) = &config.identity {
        add(&identity.dir, Kind::Folder);
        identity.token_file.iter().for_each(|file| add(file, Kind::Secret));
        identity.crl.iter().for_each(|file| add(file, Kind::Certificate));
    }
    for device in &config.devices {
        match &device.driver {
            Driver::Modbus(spec) => {
                let tidegate_modbus::Transport::Tls(_, tls) = &spec.link.transport else {
                    continue;
                };
                add(&tls.ca, Kind::Certificate);
                if let Some((cert, key)) = &tls.identity {
                    add(cert, Kind::Certificate);
                    add(key, Kind::Secret);
                }
            }
            Driver::Nats(_) => {}
            Driver::OpcUa(spec) => match &spec.user {
                UserSpec::Anonymous => {}
                UserSpec::Password { file, .. } => add(file, Kind::Secret),
                UserSpec::Certificate { cert, key } => {
                    add(cert, Kind::Certificate);
                    add(key, Kind::Secret);
                }
            },
        }
    }
    all.into_iter().collect()
}
