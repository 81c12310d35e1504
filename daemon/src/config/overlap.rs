//! Tags that meet: the same path, the same registers, or registers in part.
//!
//! # Invariants
//! - Each tag is reported once, against the first one that it meets.
//! - The work grows with n log n: at most 25 different readings begin at one register, and the
//!   widest value takes four.

use std::collections::{BTreeMap, HashMap};

use tidegate_modbus::{DataType, Table, TagSpec};

use super::device::Read;
use super::fields::Checker;
use super::tag::ReadTag;
use crate::subjects;

/// Two tags of one device that read the same registers, by their places in the device's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meeting {
    /// The one that is reported.
    later: usize,
    earlier: usize,
    how: How,
}

impl Meeting {
    pub(super) const fn later(self) -> usize {
        self.later
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Both always show the same value.
    Alias,
    /// The same registers, read in two ways.
    SameRegisters,
    /// Some registers.
    InPart,
}

impl Checker<'_> {
    /// Paths whose live values would meet on one subject, over all devices.
    pub(crate) fn duplicate_paths(&mut self, devices: &[Read]) {
        let mut first = BTreeMap::<String, &ReadTag>::new();
        for read in devices.iter().flat_map(|device| &device.tags) {
            let Some(path) = &read.path else { continue };
            let subject = subjects::live(path);
            if let Some(other) = first.get(&subject) {
                let mistake = read
                    .fields
                    .mistake(
                        "path",
                        format!("another tag has the path {:?} already", path.as_str()),
                    )
                    .value(format!("{:?}", path.as_str()))
                    .legal("a path that no other tag of this file has, base-path included")
                    .other(other.fields.place("path"), "first written here");
                self.mistakes.push(mistake);
            } else {
                first.insert(subject, read);
            }
        }
    }

    /// Tags of one device that read the same registers.
    pub(crate) fn overlaps(&mut self, device: &Read) {
        let tags = device.tags.iter().enumerate();
        let specs = tags.filter_map(|(index, read)| {
            read.register().map(|spec| (index, spec, read.allow_overlap))
        });
        for meeting in meetings(specs) {
            let tags = (device.tags.get(meeting.later), device.tags.get(meeting.earlier));
            if let (Some(later), Some(earlier)) = tags {
                self.meeting(meeting.how, later, earlier);
            }
        }
    }

    fn meeting(&mut self, how: How, read: &ReadTag, other: &ReadTag) {
        let bits = read.register().is_some_and(|spec| spec.address.table.holds_bits());
        let (message, legal, there) = match (how, bits) {
            (How::Alias, _) => (
                "another tag of this device reads the same address",
                "one tag for each value",
                "first read here",
            ),
            (How::SameRegisters, _) => (
                "another tag of this device reads the same address",
                "another address, or allow-overlap = true to read it both ways",
                "first read here",
            ),
            (How::InPart, true) => (
                "the value shares bits with another tag's",
                "addresses that do not meet, or allow-overlap = true on one of the two",
                "read here as something else",
            ),
            (How::InPart, false) => (
                "the value shares registers with another tag's",
                "addresses that do not meet, or allow-overlap = true on one of the two",
                "read here as something else",
            ),
        };
        let mistake = read.fields.mistake("address", message).legal(legal);
        self.mistakes.push(mistake.other(other.fields.place("address"), there));
    }
}

/// The tags of one device that read the same registers without being allowed to. Each tag comes
/// with its place in the device's list and whether it may overlap.
pub(super) fn meetings<'t>(tags: impl Iterator<Item = (usize, &'t TagSpec, bool)>) -> Vec<Meeting> {
    let mut found = Vec::new();
    let mut seen = HashMap::new();
    let mut different = Vec::new();
    for (index, spec, allowed) in tags {
        let reading = (spec.address, spec.kind);
        let Some(&(first, other, also_allowed)) = seen.get(&reading) else {
            seen.insert(reading, (index, spec, allowed));
            different.push((index, spec, allowed));
            continue;
        };
        let alias = same_value(other, spec);
        if alias || !(allowed || also_allowed) {
            let how = if alias { How::Alias } else { How::SameRegisters };
            found.push(Meeting { later: index, earlier: first, how });
        }
    }
    different.sort_by_key(|(_, spec, _)| (spec.address.table, spec.address.offset));
    let mut reaching: Vec<(usize, &TagSpec, bool)> = Vec::new();
    for (index, spec, allowed) in different {
        reaching.retain(|(_, other, _)| meets(other, spec));
        let other = reaching.iter().find(|(_, other, also_allowed)| {
            !goes_together(other, spec) && !also_allowed && !allowed
        });
        if let Some(&(other, ..)) = other {
            // The later one in the file is the one to look at.
            let (later, earlier) = (index.max(other), index.min(other));
            found.push(Meeting { later, earlier, how: How::InPart });
        }
        reaching.push((index, spec, allowed));
    }
    found
}

/// Whether an earlier-or-equal reading reaches into this one.
fn meets(earlier: &TagSpec, later: &TagSpec) -> bool {
    let end = u32::from(earlier.address.offset) + u32::from(earlier.kind.registers());
    earlier.address.table == later.address.table && u32::from(later.address.offset) < end
}

/// Bits of one register, side by side or beside the register's 16-bit integer.
fn goes_together(a: &TagSpec, b: &TagSpec) -> bool {
    let part = |spec: &TagSpec| match spec.address.table {
        Table::Coil | Table::DiscreteInput => false,
        _ => spec.address.bit.is_some(),
    };
    let integer = |spec: &TagSpec| matches!(spec.kind, DataType::Int16 | DataType::Uint16);
    match (part(a), part(b)) {
        (true, true) => true,
        (true, false) => integer(b),
        (false, true) => integer(a),
        (false, false) => false,
    }
}

/// Whether both tags would always show the same value.
fn same_value(a: &TagSpec, b: &TagSpec) -> bool {
    let bits = |spec: &TagSpec| (spec.scale.to_bits(), spec.offset.to_bits());
    a.order == b.order && bits(a) == bits(b)
}
