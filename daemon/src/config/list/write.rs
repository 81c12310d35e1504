//! Tag lists written out: commas, UTF-8, the columns in the order of the table of keys, and a
//! column only where something stands in it.
//!
//! # Invariants
//! - A list that is written and read again gives the same tags.

use std::time::Duration;

use csv::{StringRecord, WriterBuilder};
use tidegate_modbus::{DataType, NanPolicy, Order, Outside, TagSpec};
use tidegate_opcua::{
    DeviceSpec as OpcUaSpec, Discard, ItemSpec, ServerDeadband, SubtreeSpec, Trigger,
};
use tidegate_translator::TagPath;

use super::{Item, List, legal_names};
use crate::config::keys::{self, Default, Kind, Section};
use crate::config::model::{Deadband, Device, Driver, RecordMode, Tag};
use crate::config::tag::MAX_SILENCE;
use crate::config::{overlap, value};

/// The cells of a row: column and text.
type Cells = Vec<(&'static str, String)>;

impl List {
    /// The list as this program writes one: the same cells under the names of the keys.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut rows: Vec<Cells> = Vec::new();
        self.each(|item| {
            let Item::Row(row) = item else { return true };
            let cells = legal_names().filter_map(|name| {
                let cell = row.cell(name)?;
                Some((name, tidy(name, cell, self.separator != b',')))
            });
            rows.push(cells.collect());
            true
        });
        print(&rows)
    }

    /// How many rows there are below the header.
    pub(crate) fn rows(&self) -> usize {
        let mut count = 0;
        self.each(|item| {
            count += usize::from(matches!(item, Item::Row(_)));
            true
        });
        count
    }
}

fn tidy(name: &str, cell: &str, comma: bool) -> String {
    match keys::of(Section::Tag).find(|key| key.name == name).map(|key| key.kind) {
        Some(Kind::Number(_)) if comma => value::decimal(cell).into_owned(),
        Some(Kind::Flag) => cell.to_ascii_lowercase(),
        _ => cell.to_owned(),
    }
}

/// All tags of a device whose paths begin with `base`, as a tag list in CSV.
#[must_use]
pub fn write(device: &Device, base: &TagPath) -> Vec<u8> {
    let spec = match &device.driver {
        Driver::Modbus(spec) => spec,
        Driver::OpcUa(spec) => return nodes(spec, device, base),
        // Whatever comes makes its tags.
        Driver::Nats(_) => return b"path,address\n".to_vec(),
    };
    let mut allowed = vec![false; device.tags.len()];
    // Which tags were allowed to overlap is not kept; those that do must have been.
    loop {
        let each = spec.tags.iter().zip(&allowed).enumerate();
        let later = overlap::meetings(each.map(|(index, (spec, may))| (index, spec, *may)));
        let mut changed = false;
        for meeting in later {
            if let Some(may) = allowed.get_mut(meeting.later())
                && !*may
            {
                (*may, changed) = (true, true);
            }
        }
        if !changed {
            break;
        }
    }
    let every = spec.poll_every;
    let pairs = spec.tags.iter().zip(device.tags.iter()).zip(allowed);
    let rows: Vec<Cells> =
        pairs.map(|((spec, tag), overlaps)| cells(spec, tag, base, every, overlaps)).collect();
    print(&rows)
}

/// The single tags of a server, then its subtrees.
fn nodes(spec: &OpcUaSpec, device: &Device, base: &TagPath) -> Vec<u8> {
    let tags = spec.tags.iter().zip(device.tags.iter());
    let tags = tags.map(|(node, tag)| of_node(tag, &node.item, None, base, spec.sample_every));
    let trees = spec.subtrees.iter().zip(device.subtrees.iter());
    let trees =
        trees.map(|(tree, tag)| of_node(tag, &tree.item, Some(tree), base, spec.sample_every));
    print(&tags.chain(trees).collect::<Vec<_>>())
}

fn of_node(
    tag: &Tag,
    item: &ItemSpec,
    below: Option<&SubtreeSpec>,
    base: &TagPath,
    device_every: Duration,
) -> Cells {
    let mut out = named(tag, base);
    out.extend(in_common(tag, item.sample_every, device_every));
    let mut put = |name: &'static str, text: String| out.push((name, text));
    if let Some(queue) = item.queue {
        put("queue-size", queue.to_string());
    }
    if item.discard == Discard::Newest {
        put("discard", "newest".to_owned());
    }
    match item.trigger {
        Trigger::StatusValue => {}
        Trigger::Status => put("trigger", "status".to_owned()),
        Trigger::StatusValueTimestamp => put("trigger", "status-value-timestamp".to_owned()),
    }
    match item.deadband {
        ServerDeadband::None => {}
        ServerDeadband::Absolute(by) => put("server-deadband", decimal(by)),
        ServerDeadband::Percent(by) => put("server-deadband-percent", decimal(by)),
    }
    if let Some(range) = &item.index_range {
        put("index-range", range.to_string());
    }
    let Some(below) = below else { return out };
    put("subtree", "true".to_owned());
    for (name, patterns) in [("include", &below.include), ("exclude", &below.exclude)] {
        if !patterns.is_empty() {
            put(name, patterns.join("; "));
        }
    }
    for (name, most) in [("max-tags", below.max_tags), ("max-depth", below.max_depth)] {
        if keys::of(Section::Tag)
            .any(|key| key.name == name && key.default != Default::Integer(i64::from(most)))
        {
            put(name, most.to_string());
        }
    }
    out
}

/// Path and address.
fn named(tag: &Tag, base: &TagPath) -> Cells {
    let path = tag.path.as_str();
    let own = path.strip_prefix(base.as_str()).and_then(|rest| rest.strip_prefix('/'));
    vec![("path", own.unwrap_or(path).to_owned()), ("address", tag.address.to_string())]
}

/// What a tag of any device can have.
fn in_common(tag: &Tag, own_every: Option<Duration>, device_every: Duration) -> Cells {
    let mut out = Cells::new();
    let mut put = |name: &'static str, text: String| out.push((name, text));
    if let Some(unit) = &tag.manner.unit {
        put("unit", unit.to_string());
    }
    if let Some(every) = own_every {
        put("poll-every-ms", every.as_millis().to_string());
    }
    match tag.manner.deadband {
        Deadband::None => {}
        Deadband::Absolute(by) => put("deadband", format!("{by:?}")),
        Deadband::Percent(by) => put("deadband-percent", format!("{by:?}")),
    }
    if tag.manner.max_silence != own_every.unwrap_or(device_every).max(MAX_SILENCE) {
        put("max-silence-ms", tag.manner.max_silence.as_millis().to_string());
    }
    if tag.manner.record == RecordMode::Changes {
        put("record", "changes".to_owned());
    }
    out
}

fn cells(
    spec: &TagSpec,
    tag: &Tag,
    base: &TagPath,
    device_every: Duration,
    overlaps: bool,
) -> Cells {
    let special = spec.special.as_deref().cloned().unwrap_or_default();
    let mut out = named(tag, base);
    out.extend(in_common(tag, special.poll_every, device_every));
    let mut put = |name: &'static str, text: String| out.push((name, text));
    put("type", spec.kind.word().to_owned());
    if let DataType::Text(length) = spec.kind {
        put("length", length.to_string());
    }
    if spec.order != Order::Abcd {
        put("order", spec.order.word().to_owned());
    }
    for (name, number, default) in [("scale", spec.scale, 1.0), ("offset", spec.offset, 0.0)] {
        if number.to_bits() != f64::to_bits(default) {
            put(name, decimal(number));
        }
    }
    if let Some(range) = special.range {
        if range.min.is_finite() {
            put("min", decimal(range.min));
        }
        if range.max.is_finite() {
            put("max", decimal(range.max));
        }
        match range.outside {
            Outside::Mark => {}
            Outside::Clamp => put("outside", "clamp".to_owned()),
            Outside::Bad => put("outside", "bad".to_owned()),
        }
    }
    if special.nan == NanPolicy::Bad {
        put("nan", "bad".to_owned());
    }
    if let Some(states) = &special.states {
        let each: Vec<String> = states.iter().map(|(n, name)| format!("{n}={name}")).collect();
        put("states", each.join(", "));
    }
    if overlaps {
        put("allow-overlap", "true".to_owned());
    }
    out
}

/// The shortest text that is read as this number again.
fn decimal(number: f64) -> String {
    let text = format!("{number:?}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

fn print(rows: &[Cells]) -> Vec<u8> {
    let used = |name: &&str| {
        let always = matches!(*name, "path" | "address");
        always || rows.iter().flatten().any(|(other, _)| other == name)
    };
    let columns: Vec<&str> = legal_names().filter(used).collect();
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    // Writing rows of one length to memory cannot fail.
    let _ = writer.write_record(&columns);
    for row in rows {
        let cell = |name: &&str| {
            let found = row.iter().find(|(other, _)| other == name);
            found.map_or("", |(_, text)| text.as_str())
        };
        let record: StringRecord = columns.iter().map(cell).collect();
        let _ = writer.write_record(&record);
    }
    writer.into_inner().unwrap_or_default()
}
