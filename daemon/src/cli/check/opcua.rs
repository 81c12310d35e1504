//! What `check` shows of OPC UA servers.
//!
//! # Invariants
//! - Nothing is shown as if it were known that only the server knows: how often a value changes,
//!   and what is below an object.

use std::io::{self, Write};

use serde_json::{Value as Json, json};
use tidegate_opcua::{DeviceSpec, Mode, Policy, Security, SubtreeSpec, UserSpec};

use super::super::terminal::{self, Align, Tone};
use super::{bytes, millis, seconds};
use crate::config::estimate::OnChange;
use crate::config::polls::{Publication, publications};
use crate::config::{Config, Device};

/// The servers, and what is asked of them.
pub(super) fn write_devices(out: &mut dyn Write, config: &Config, colour: bool) -> io::Result<()> {
    let servers =
        || config.devices.iter().filter_map(|device| Some((device, device.opcua()?.as_ref())));
    if servers().next().is_none() {
        return Ok(());
    }
    let mut table = terminal::Table::new(&[
        ("SERVER", Align::Left),
        ("URL", Align::Left),
        ("SECURITY", Align::Left),
        ("USER", Align::Left),
        ("SAMPLED", Align::Right),
        ("PUBLISHED", Align::Right),
        ("TAGS", Align::Right),
        ("SUBTREES", Align::Right),
    ]);
    for (_, spec) in servers() {
        for (index, part) in publications(spec).iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let published = part
                .publish_every
                .map_or_else(|| "polled".to_owned(), |every| seconds(every.as_secs_f64()));
            let cells = [
                first(spec.name.clone()),
                first(spec.url.to_string()),
                first(security(spec.security)),
                first(user(&spec.user)),
                seconds(part.sample_every.as_secs_f64()),
                published,
                part.tags.to_string(),
                part.subtrees.to_string(),
            ];
            table.row(cells.map(|text| (text, Tone::Plain)));
        }
    }
    writeln!(out)?;
    table.write(out, 2, colour)?;
    let trees =
        || servers().flat_map(|(device, spec)| spec.subtrees.iter().zip(device.subtrees.iter()));
    if trees().next().is_some() {
        writeln!(out)?;
    }
    for (tree, tag) in trees() {
        writeln!(out, "  {}: {}", tag.path, below(tree, &tag.address))?;
    }
    Ok(())
}

/// What is taken below an object.
fn below(tree: &SubtreeSpec, address: &str) -> String {
    let list = |patterns: &[Box<str>]| patterns.join(", ");
    let mut text = match tree.include.len() {
        0 => format!("everything below {address}"),
        _ => format!("{} below {address}", list(&tree.include)),
    };
    if !tree.exclude.is_empty() {
        text += &format!(", without {}", list(&tree.exclude));
    }
    format!("{text}; at most {} tags, {} levels", tree.max_tags, tree.max_depth)
}

/// What of the estimate is not known.
pub(super) fn write_estimate(out: &mut dyn Write, beside: &OnChange) -> io::Result<()> {
    let tags = match beside.tags {
        0 => None,
        1 => Some("1 tag".to_owned()),
        n => Some(format!("{n} tags")),
    };
    let most = bytes(beside.journal_bytes_per_day_at_most);
    let rate = beside.samples_per_s_at_most;
    let tags = tags.map(|tags| format!("{tags}, at most {rate:.1} samples/s and {most} /day"));
    let trees = match beside.subtrees {
        0 => None,
        1 => Some("what is below 1 subtree".to_owned()),
        n => Some(format!("what is below {n} subtrees")),
    };
    let both: Vec<String> = tags.into_iter().chain(trees).collect();
    writeln!(
        out,
        "\nnot in these figures, because only the servers know how often values change:"
    )?;
    writeln!(out, "  on change        {}", both.join("; and "))
}

/// The lines of an import.
pub(in crate::cli) fn publication_line(part: &Publication) -> String {
    let every = part.sample_every.as_millis();
    let tags = if part.tags == 1 { "tag" } else { "tags" };
    let trees = match part.subtrees {
        0 => String::new(),
        1 => " and 1 subtree".to_owned(),
        n => format!(" and {n} subtrees"),
    };
    let how = part.publish_every.map_or_else(
        || "polled".to_owned(),
        |every| format!("published every {} ms", every.as_millis()),
    );
    format!("{every} ms: {} {tags}{trees}, {how}", part.tags)
}

fn security(security: Security) -> String {
    match security {
        Security::None => "none".to_owned(),
        Security::Protected { policy, mode } => {
            format!("{}, {}", policy_word(policy), mode_word(mode))
        }
    }
}

/// As it stands in the file.
const fn policy_word(policy: Option<Policy>) -> &'static str {
    match policy {
        None => "best",
        Some(Policy::Basic256Sha256) => "basic256sha256",
        Some(Policy::Aes128Sha256RsaOaep) => "aes128-sha256-rsaoaep",
        Some(Policy::Aes256Sha256RsaPss) => "aes256-sha256-rsapss",
    }
}

const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Sign => "sign",
        Mode::SignAndEncrypt => "sign-and-encrypt",
    }
}

fn user(user: &UserSpec) -> String {
    match user {
        UserSpec::Anonymous => "anonymous".to_owned(),
        UserSpec::Password { name, .. } => format!("user {name:?}"),
        UserSpec::Certificate { .. } => "certificate".to_owned(),
    }
}

/// One server for programs.
pub(super) fn json(spec: &DeviceSpec, device: &Device) -> Json {
    let (policy, mode) = match spec.security {
        Security::None => ("none", None),
        Security::Protected { policy, mode } => (policy_word(policy), Some(mode_word(mode))),
    };
    let (kind, name) = match &spec.user {
        UserSpec::Anonymous => ("anonymous", None),
        UserSpec::Password { name, .. } => ("password", Some(name)),
        UserSpec::Certificate { .. } => ("certificate", None),
    };
    let groups: Vec<Json> = publications(spec)
        .iter()
        .map(|part| {
            json!({
                "every_ms": millis(part.sample_every),
                "publish_every_ms": part.publish_every.map(millis),
                "tags": part.tags,
                "subtrees": part.subtrees,
            })
        })
        .collect();
    let trees = spec.subtrees.iter().zip(device.subtrees.iter());
    let trees: Vec<Json> = trees
        .map(|(tree, tag)| {
            json!({
                "path": tag.path.as_str(),
                "address": tag.address,
                "include": tree.include.iter().collect::<Vec<_>>(),
                "exclude": tree.exclude.iter().collect::<Vec<_>>(),
                "max_tags": tree.max_tags,
                "max_depth": tree.max_depth,
            })
        })
        .collect();
    json!({
        "name": spec.name,
        "protocol": "opcua",
        "endpoint": spec.url.to_string(),
        "security": policy,
        "message_mode": mode,
        "user": { "kind": kind, "name": name },
        "poll_every_ms": millis(spec.sample_every),
        "tags": device.tags.len(),
        "subtrees": trees,
        "groups": groups,
    })
}
