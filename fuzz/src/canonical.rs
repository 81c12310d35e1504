//! A checked configuration written out whole: what was understood, as a file that says the same.

mod nats;
mod opcua;

use std::fmt::Write as _;
use std::path::Path;

use tidegate::config::{
    Config, Deadband, Device, Driver, IdentityConfig, LeafMode, LocalQuestions, RecordMode, Tag,
    WhenCrlStale, WhenFull,
};
use tidegate_modbus::{
    DataType, DeviceSpec, NanPolicy, Order, Outside, Parity, StopBits, TagSpec, Transport,
};

/// The file. Addresses are counted from 0, whatever the file they came from counted from.
pub(crate) fn write(config: &Config) -> String {
    let mut out = String::new();
    section(&mut out, "[gateway]");
    text(&mut out, "plant", config.gateway.plant.as_str());
    text(&mut out, "name", config.gateway.name.as_str());
    if let Some(hub) = &config.hub {
        section(&mut out, "[hub]");
        let urls: Vec<_> = hub.urls.iter().map(|url| quoted(&url.to_string())).collect();
        line(&mut out, "urls", &format!("[{}]", urls.join(", ")));
        text(&mut out, "stream", &hub.stream);
        text(&mut out, "domain", &hub.domain);
        line(&mut out, "allow-plaintext", "true");
        if let Some(proxy) = &hub.proxy {
            text(&mut out, "proxy", &proxy.to_string());
            if let Some(user) = &proxy.user {
                text(&mut out, "proxy-user", &user.name);
                path(&mut out, "proxy-password-file", &user.password_file);
            }
        }
        if let Some(after) = hub.fail_back_after {
            line(&mut out, "fail-back-after-ms", &after.as_millis().to_string());
        }
        if let Some(tls) = &hub.tls {
            section(&mut out, "[hub.tls]");
            path(&mut out, "ca", &tls.ca);
            path(&mut out, "cert", &tls.cert);
            path(&mut out, "key", &tls.key);
        }
    }
    section(&mut out, "[leaf]");
    let mode = match config.leaf.mode {
        LeafMode::Managed => "managed",
        LeafMode::External => "external",
    };
    text(&mut out, "mode", mode);
    text(&mut out, "listen", &config.leaf.listen.to_string());
    line(&mut out, "allow-remote", "true");
    if let Some(server) = &config.leaf.nats_server {
        path(&mut out, "nats-server", server);
    }
    path(&mut out, "dir", &config.leaf.dir);
    let local = &config.leaf.local;
    for (key, subjects) in
        [("local-publish", &local.publish), ("local-subscribe", &local.subscribe)]
    {
        if !subjects.is_empty() {
            let subjects: Vec<_> = subjects.iter().map(|subject| quoted(subject)).collect();
            line(&mut out, key, &format!("[{}]", subjects.join(", ")));
        }
    }
    if let Some(jetstream) = &local.jetstream {
        text(&mut out, "jetstream-domain", &jetstream.domain);
        text(&mut out, "jetstream-max-bytes", &format!("{} B", jetstream.max_bytes));
    }
    section(&mut out, "[journal]");
    path(&mut out, "dir", &config.journal.dir);
    text(&mut out, "max-bytes", &format!("{} B", config.journal.max_bytes));
    line(&mut out, "commit-every-ms", &config.journal.commit_every.as_millis().to_string());
    let when_full = match config.journal.when_full {
        WhenFull::DropOldest => "drop-oldest",
        WhenFull::StopRecording => "stop-recording",
    };
    text(&mut out, "when-full", when_full);
    section(&mut out, "[uplink]");
    line(&mut out, "send-every-ms", &config.uplink.send_every.as_millis().to_string());
    text(&mut out, "max-message", &format!("{} B", config.uplink.max_message));
    if let Some(limit) = config.uplink.backfill_limit {
        text(&mut out, "backfill-limit-per-s", &format!("{limit} B"));
    }
    if let Some(limit) = config.uplink.limit {
        text(&mut out, "limit-per-s", &format!("{limit} B"));
    }
    section(&mut out, "[query]");
    line(&mut out, "enabled", &config.query.enabled.to_string());
    let local = match config.query.local {
        LocalQuestions::None => "none",
        LocalQuestions::Gateway => "gateway",
        LocalQuestions::Fleet => "fleet",
    };
    text(&mut out, "local", local);
    line(&mut out, "max-concurrent", &config.query.max_concurrent.to_string());
    line(&mut out, "max-waiting", &config.query.max_waiting.to_string());
    line(&mut out, "max-rows", &config.query.max_rows.to_string());
    line(&mut out, "max-seconds", &config.query.max_time.as_secs().to_string());
    text(&mut out, "max-part-bytes", &format!("{} B", config.query.max_part_bytes));
    if let Some(metrics) = &config.metrics {
        section(&mut out, "[metrics]");
        text(&mut out, "listen", &metrics.listen.to_string());
        line(&mut out, "allow-remote", "true");
    }
    section(&mut out, "[control]");
    path(&mut out, "socket", &config.control_socket);
    opcua::write_section(&mut out, &config.opcua);
    if let Some(identity) = &config.identity {
        write_identity(&mut out, identity);
    }
    for device in &config.devices {
        match &device.driver {
            Driver::Modbus(spec) => write_device(&mut out, device, spec),
            Driver::OpcUa(spec) => opcua::write_device(&mut out, device, spec),
            Driver::Nats(spec) => nats::write_device(&mut out, spec),
        }
    }
    out
}

fn write_identity(out: &mut String, identity: &IdentityConfig) {
    section(out, "[identity]");
    path(out, "dir", &identity.dir);
    if let Some(est) = &identity.est {
        text(out, "est", &est.to_string());
    }
    if !identity.ca_pins.is_empty() {
        let pins: Vec<_> = identity.ca_pins.iter().map(|pin| quoted(&pin.to_string())).collect();
        line(out, "ca-pins", &format!("[{}]", pins.join(", ")));
    }
    if let Some(file) = &identity.token_file {
        path(out, "token-file", file);
    }
    let days = identity.longest_offline.as_secs() / 86_400;
    line(out, "longest-offline-days", &days.to_string());
    if let Some(file) = &identity.crl {
        path(out, "crl", file);
    }
    line(out, "crl-max-age-hours", &(identity.crl_max_age.as_secs() / 3_600).to_string());
    let stale = match identity.when_crl_stale {
        WhenCrlStale::Accept => "accept",
        WhenCrlStale::Refuse => "refuse",
    };
    text(out, "when-crl-stale", stale);
    line(out, "checkpoint-every-ms", &identity.checkpoint_every.as_millis().to_string());
}

fn write_device(out: &mut String, device: &Device, spec: &DeviceSpec) {
    section(out, "[[device]]");
    text(out, "name", &spec.name);
    write_link(out, spec);
    line(out, "unit", &spec.unit.0.to_string());
    line(out, "poll-every-ms", &spec.poll_every.as_millis().to_string());
    line(out, "timeout-ms", &spec.timeout.as_millis().to_string());
    line(out, "retry-after-ms", &spec.backoff.0.as_millis().to_string());
    line(out, "retry-at-most-ms", &spec.backoff.1.as_millis().to_string());
    line(out, "max-gap", &spec.max_gap.to_string());
    line(out, "max-registers", &spec.max_registers.to_string());
    line(out, "max-bits", &spec.max_bits.to_string());
    line(out, "pause-between-ms", &spec.pause_between.as_millis().to_string());
    if !spec.forbidden.is_empty() {
        let ranges = spec
            .forbidden
            .iter()
            .map(|range| format!("\"{}:{}-{}\"", range.table.word(), range.first, range.last));
        line(out, "forbidden", &format!("[{}]", ranges.collect::<Vec<_>>().join(", ")));
    }
    let base = write_base(out, device);
    for (spec, tag) in spec.tags.iter().zip(device.tags.iter()) {
        write_tag(out, &base, spec, tag);
    }
}

/// Any split of the whole path does, as long as all tags share the front.
fn write_base(out: &mut String, device: &Device) -> String {
    let front = |tag: &Tag| tag.path.segments().next().unwrap_or_default().to_owned();
    let base = device.tags.iter().chain(&*device.subtrees).next().map(front).unwrap_or_default();
    text(out, "base-path", &base);
    base
}

/// What all devices of an endpoint share is written at each of them.
fn write_link(out: &mut String, spec: &DeviceSpec) {
    let link = &spec.link;
    let protocol = match link.transport {
        Transport::Tcp(_) => "modbus-tcp",
        Transport::Tls(..) => "modbus-tls",
        Transport::RtuOverTcp(_) => "modbus-rtu-over-tcp",
        Transport::Rtu(_) => "modbus-rtu",
    };
    text(out, "protocol", protocol);
    text(out, "address", &link.transport.to_string());
    line(out, "turnaround-ms", &link.turnaround.as_millis().to_string());
    line(out, "pause-after-connect-ms", &link.pause_after_connect.as_millis().to_string());
    line(out, "close-after-poll", &link.close_after_poll.to_string());
    line(out, "max-connections", &link.max_connections.to_string());
    match &link.transport {
        Transport::Tcp(_) | Transport::RtuOverTcp(_) => {}
        Transport::Tls(_, tls) => {
            let file = |path: &Path| quoted(path.to_str().expect("paths come from UTF-8 text"));
            let mut keys = vec![format!("ca = {}", file(&tls.ca))];
            if let Some((cert, key)) = &tls.identity {
                keys.push(format!("cert = {}, key = {}", file(cert), file(key)));
            }
            keys.extend(tls.server_name.as_ref().map(|it| format!("server-name = {}", quoted(it))));
            line(out, "tls", &format!("{{ {} }}", keys.join(", ")));
        }
        Transport::Rtu(serial) => {
            line(out, "baud-rate", &serial.baud.to_string());
            let parity = match serial.parity {
                Parity::Even => "even",
                Parity::Odd => "odd",
                Parity::None => "none",
            };
            text(out, "parity", parity);
            line(out, "stop-bits", if serial.stop_bits == StopBits::Two { "2" } else { "1" });
            if let Some(rs485) = serial.rs485 {
                text(out, "rs485", if rs485.rts_high_on_send { "rts-high" } else { "rts-low" });
                let (before, after) = (rs485.delay_before_send, rs485.delay_after_send);
                line(out, "rs485-delay-before-ms", &before.as_millis().to_string());
                line(out, "rs485-delay-after-ms", &after.as_millis().to_string());
            }
        }
    }
}

fn write_path(out: &mut String, base: &str, tag: &Tag) {
    section(out, "[[device.tag]]");
    let rest = tag.path.as_str().strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    text(out, "path", rest.expect("every tag of a device is below its base path"));
}

fn write_tag(out: &mut String, base: &str, spec: &TagSpec, tag: &Tag) {
    write_path(out, base, tag);
    text(out, "address", &spec.address.to_string());
    let kind = match spec.kind {
        DataType::Bool => "bool",
        DataType::Int16 => "int16",
        DataType::Uint16 => "uint16",
        DataType::Int32 => "int32",
        DataType::Uint32 => "uint32",
        DataType::Int64 => "int64",
        DataType::Uint64 => "uint64",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Bcd16 => "bcd16",
        DataType::Bcd32 => "bcd32",
        DataType::Bcd64 => "bcd64",
        DataType::Text(_) => "text",
    };
    text(out, "type", kind);
    if let DataType::Text(length) = spec.kind {
        line(out, "length", &length.to_string());
    }
    write_special(out, spec);
    let order = match spec.order {
        Order::Abcd => "abcd",
        Order::Cdab => "cdab",
        Order::Badc => "badc",
        Order::Dcba => "dcba",
    };
    text(out, "order", order);
    let named = spec.special.as_ref().is_some_and(|special| special.states.is_some());
    if !named && !matches!(spec.kind, DataType::Bool | DataType::Text(_)) {
        line(out, "scale", &format!("{:?}", spec.scale));
        line(out, "offset", &format!("{:?}", spec.offset));
        write_deadband(out, tag);
    }
    write_manner(out, tag);
    line(out, "allow-overlap", "true");
}

fn write_deadband(out: &mut String, tag: &Tag) {
    match tag.manner.deadband {
        Deadband::None => {}
        Deadband::Absolute(by) => line(out, "deadband", &format!("{by:?}")),
        Deadband::Percent(by) => line(out, "deadband-percent", &format!("{by:?}")),
    }
}

fn write_manner(out: &mut String, tag: &Tag) {
    if let Some(unit) = &tag.manner.unit {
        text(out, "unit", unit);
    }
    line(out, "max-silence-ms", &tag.manner.max_silence.as_millis().to_string());
    let record = match tag.manner.record {
        RecordMode::All => "all",
        RecordMode::Changes => "changes",
    };
    text(out, "record", record);
}

fn write_special(out: &mut String, spec: &TagSpec) {
    let Some(special) = &spec.special else { return };
    if let Some(every) = special.poll_every {
        line(out, "poll-every-ms", &every.as_millis().to_string());
    }
    if let Some(range) = special.range {
        for (key, end) in [("min", range.min), ("max", range.max)] {
            if end.is_finite() {
                line(out, key, &format!("{end:?}"));
            }
        }
        let outside = match range.outside {
            Outside::Mark => "mark",
            Outside::Clamp => "clamp",
            Outside::Bad => "bad",
        };
        text(out, "outside", outside);
    }
    if special.nan == NanPolicy::Bad {
        text(out, "nan", "bad");
    }
    if let Some(states) = &special.states {
        let names: Vec<_> = states.iter().map(|(n, name)| format!("{n}={name}")).collect();
        text(out, "states", &names.join(", "));
    }
}

fn section(out: &mut String, header: &str) {
    writeln!(out, "\n{header}").unwrap();
}

fn line(out: &mut String, key: &str, value: &str) {
    writeln!(out, "{key} = {value}").unwrap();
}

fn text(out: &mut String, key: &str, value: &str) {
    line(out, key, &quoted(value));
}

fn path(out: &mut String, key: &str, value: &Path) {
    text(out, key, value.to_str().expect("paths come from UTF-8 text"));
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\U{:08X}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
