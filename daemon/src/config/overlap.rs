//! Tags that meet: the same path, the same registers, or registers in part.
//!
//! # Invariants
//! - Each tag is reported once, against the first one that it meets.
//! - The work grows with n log n: at most 25 different readings begin at one register, and the
//!   widest value takes four.

use std::collections::{BTreeMap, HashMap};

use tidegate_modbus::{DataType, Table, TagSpec};

use super::address;
use super::device::{Read, ReadTag};
use super::fields::Checker;
use crate::subjects;

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
        let mut seen = HashMap::new();
        let mut different = Vec::new();
        for read in &device.tags {
            let Some((spec, _)) = &read.tag else { continue };
            let reading = (spec.address, spec.kind);
            let Some((first, other)) = seen.get(&reading) else {
                seen.insert(reading, (read, spec));
                different.push((read, spec));
                continue;
            };
            let alias = same_value(other, spec);
            if alias || !(read.allow_overlap || first.allow_overlap) {
                self.mistakes.push(
                    read.fields
                        .mistake("address", "another tag of this device reads the same address")
                        .legal(if alias {
                            "one tag for each value"
                        } else {
                            "another address, or allow-overlap = true to read it both ways"
                        })
                        .other(first.fields.place("address"), "first read here"),
                );
            }
        }
        different.sort_by_key(|(_, spec)| (spec.address.table, spec.address.offset));
        let mut reaching: Vec<(&ReadTag, &TagSpec)> = Vec::new();
        for (read, spec) in different {
            reaching.retain(|(_, other)| meets(other, spec));
            let other = reaching.iter().find(|(other, s)| {
                !goes_together(s, spec) && !other.allow_overlap && !read.allow_overlap
            });
            if let Some((other, _)) = other {
                self.overlap(other, read, spec);
            }
            reaching.push((read, spec));
        }
    }

    fn overlap(&mut self, other: &ReadTag, read: &ReadTag, spec: &TagSpec) {
        // The later one in the file is the one to look at.
        let (read, other) = if read.fields.place("address") < other.fields.place("address") {
            (other, read)
        } else {
            (read, other)
        };
        let what = if address::is_bit_table(spec.address.table) { "bits" } else { "registers" };
        self.mistakes.push(
            read.fields
                .mistake("address", format!("the value shares {what} with another tag's"))
                .legal("addresses that do not meet, or allow-overlap = true on one of the two")
                .other(other.fields.place("address"), "read here as something else"),
        );
    }
}

/// Whether an earlier-or-equal reading reaches into this one.
fn meets(earlier: &TagSpec, later: &TagSpec) -> bool {
    let end = u32::from(earlier.address.offset) + u32::from(address::extent(earlier.kind));
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
