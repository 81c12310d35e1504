//! OPC UA servers, written out whole.

use tidegate::config::{Device, OpcUa, Tag};
use tidegate_opcua::{
    Collect, DeviceSpec, Discard, ItemSpec, Mode, NodeAddress, Policy, Security, ServerDeadband,
    Trigger, UserSpec,
};

use super::{
    line, path, quoted, section, text, write_base, write_deadband, write_manner, write_path,
};

pub(super) fn write_section(out: &mut String, opcua: &OpcUa) {
    section(out, "[opcua]");
    path(out, "dir", &opcua.dir);
    text(out, "application-uri", &opcua.application_uri);
    line(out, "key-bits", &opcua.key_bits.to_string());
}

pub(super) fn write_device(out: &mut String, device: &Device, spec: &DeviceSpec) {
    section(out, "[[device]]");
    text(out, "name", &spec.name);
    text(out, "protocol", "opcua");
    text(out, "address", &spec.url.to_string());
    text(out, "advertised-url", if spec.follow_advertised { "follow" } else { "ignore" });
    write_security(out, spec);
    write_user(out, &spec.user);
    if let Some(uri) = &spec.trust.application_uri {
        text(out, "server-uri", uri);
    }
    line(out, "check-host", if spec.trust.any_host { "false" } else { "true" });
    text(out, "collect", if spec.collect == Collect::Poll { "poll" } else { "subscribe" });
    line(out, "poll-every-ms", &spec.sample_every.as_millis().to_string());
    if let Some(every) = spec.publish_every {
        line(out, "publish-every-ms", &every.as_millis().to_string());
    }
    line(out, "timeout-ms", &spec.timeout.as_millis().to_string());
    line(out, "retry-after-ms", &spec.backoff.0.as_millis().to_string());
    line(out, "retry-at-most-ms", &spec.backoff.1.as_millis().to_string());
    line(out, "backfill", if spec.backfill { "true" } else { "false" });
    line(out, "max-items", &spec.max_items.to_string());
    let base = write_base(out, device);
    for (tag, of) in spec.tags.iter().zip(device.tags.iter()) {
        write_item(out, &base, &tag.node, &tag.item, of, spec.collect);
    }
    for (tree, of) in spec.subtrees.iter().zip(device.subtrees.iter()) {
        write_item(out, &base, &tree.node, &tree.item, of, spec.collect);
        line(out, "subtree", "true");
        for (key, patterns) in [("include", &tree.include), ("exclude", &tree.exclude)] {
            if !patterns.is_empty() {
                let patterns: Vec<_> = patterns.iter().map(|pattern| quoted(pattern)).collect();
                line(out, key, &format!("[{}]", patterns.join(", ")));
            }
        }
        line(out, "max-tags", &tree.max_tags.to_string());
        line(out, "max-depth", &tree.max_depth.to_string());
    }
}

fn write_security(out: &mut String, spec: &DeviceSpec) {
    let Security::Protected { policy, mode } = spec.security else {
        text(out, "security", "none");
        return;
    };
    let policy = match policy {
        None => "best",
        Some(Policy::Basic256Sha256) => "basic256sha256",
        Some(Policy::Aes128Sha256RsaOaep) => "aes128-sha256-rsaoaep",
        Some(Policy::Aes256Sha256RsaPss) => "aes256-sha256-rsapss",
    };
    text(out, "security", policy);
    text(out, "message-mode", if mode == Mode::Sign { "sign" } else { "sign-and-encrypt" });
    if !spec.trust.thumbprints.is_empty() {
        let each = spec.trust.thumbprints.iter().map(|it| quoted(&it.to_string()));
        line(out, "trust", &format!("[{}]", each.collect::<Vec<_>>().join(", ")));
    }
}

fn write_user(out: &mut String, user: &UserSpec) {
    match user {
        UserSpec::Anonymous => {}
        UserSpec::Password { name, file } => {
            text(out, "user", name);
            path(out, "password-file", file);
        }
        UserSpec::Certificate { cert, key } => {
            path(out, "user-cert", cert);
            path(out, "user-key", key);
        }
    }
}

fn write_item(
    out: &mut String,
    base: &str,
    node: &NodeAddress,
    item: &ItemSpec,
    tag: &Tag,
    collect: Collect,
) {
    write_path(out, base, tag);
    text(out, "address", &node.to_string());
    if let Some(every) = item.sample_every {
        line(out, "poll-every-ms", &every.as_millis().to_string());
    }
    if let Some(range) = &item.index_range {
        text(out, "index-range", range);
    }
    // Where values are polled there is none of these to be written.
    if collect == Collect::Subscribe {
        if let Some(queue) = item.queue {
            line(out, "queue-size", &queue.to_string());
        }
        text(out, "discard", if item.discard == Discard::Newest { "newest" } else { "oldest" });
        let trigger = match item.trigger {
            Trigger::Status => "status",
            Trigger::StatusValue => "status-value",
            Trigger::StatusValueTimestamp => "status-value-timestamp",
        };
        text(out, "trigger", trigger);
        match item.deadband {
            ServerDeadband::None => {}
            ServerDeadband::Absolute(by) => line(out, "server-deadband", &format!("{by:?}")),
            ServerDeadband::Percent(by) => line(out, "server-deadband-percent", &format!("{by:?}")),
        }
    }
    write_deadband(out, tag);
    write_manner(out, tag);
}
