//! What is legal and should be known: shown by `check` and in the log at `run`.
//!
//! # Invariants
//! - No file is looked at: the same configuration gives the same warnings on every machine.
//! - One sentence for each device and matter, however many tags it has.

use std::path::Path;

use tidegate_opcua::{DeviceSpec, NodeAddress, Security, UserSpec};

use super::{Config, Tag};

/// The warnings of a configuration.
#[must_use]
pub fn of(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    for device in &config.devices {
        let Some(spec) = device.opcua() else { continue };
        out.extend(unprotected(spec));
        let nodes = spec.tags.iter().map(|tag| &tag.node).zip(device.tags.iter());
        let below = spec.subtrees.iter().map(|tree| &tree.node).zip(device.subtrees.iter());
        out.extend(by_index(&spec.name, nodes.chain(below)));
    }
    out
}

fn unprotected(spec: &DeviceSpec) -> Option<String> {
    if spec.security != Security::None {
        return None;
    }
    let what = match spec.user {
        UserSpec::Password { .. } => {
            "anyone on the way can read and change everything, and perhaps read the password"
        }
        UserSpec::Anonymous | UserSpec::Certificate { .. } => {
            "anyone on the way can read and change everything"
        }
    };
    Some(format!("{}: security is \"none\": {what}", spec.name))
}

fn by_index<'c>(
    device: &str,
    nodes: impl Iterator<Item = (&'c NodeAddress, &'c Tag)>,
) -> Option<String> {
    let mut moving = nodes.filter(|(node, _)| node.is_by_index());
    let (_, first) = moving.next()?;
    let more = moving.count();
    let others = if more == 0 { String::new() } else { format!(", and {more} more by index") };
    Some(format!(
        "{device}: {} is addressed by a namespace index, {:?}{others}: it may mean another namespace \
         after the server's next start; write the URI, like \"nsu=URI;s=NAME\"",
        first.path, &*first.address
    ))
}

/// The files that an OPC UA device needs, each with its key.
pub(crate) fn files(spec: &DeviceSpec) -> Vec<(&'static str, &Path)> {
    match &spec.user {
        UserSpec::Anonymous => Vec::new(),
        UserSpec::Password { file, .. } => vec![("password-file", file)],
        UserSpec::Certificate { cert, key } => vec![("user-cert", cert), ("user-key", key)],
    }
}
