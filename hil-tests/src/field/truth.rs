//! What a tag must hold, by its name alone: every register of the rig's devices holds its own
//! address, so a value from another place shows.
//!
//! # Invariants
//! - Pure, and nothing of the product's decoding is used.
//! - A tag's name says where it is read: the table's letter (`c`, `d`, `h`, `i`), the address, and
//!   the type where it is not the table's own, such as `h100`, `i7-uint32` or `c5`; `n5` is counter 5
//!   of an OPC UA server.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::opcua::truth as opcua;

/// A value of a tag as it was seen somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The tag's path, of which the last segment is its name.
    pub path: String,
    /// The value, `null` where there is none.
    pub value: Value,
    /// The quality word.
    pub quality: String,
    /// Its reason, where it has one.
    pub why: Option<String>,
    /// When it was read, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

impl Reading {
    /// Whether it claims to be good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.quality == "good"
    }
}

/// Where a tag is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'a> {
    table: char,
    address: u16,
    kind: &'a str,
}

impl<'a> Place<'a> {
    fn of(name: &'a str) -> anyhow::Result<Self> {
        let parse = || {
            let table = name.chars().next().filter(|table| "cdhi".contains(*table))?;
            let bits = "cd".contains(table);
            let (address, kind) = match name[1..].split_once('-') {
                Some((address, kind)) => (address, kind),
                None => (&name[1..], if bits { "bool" } else { "uint16" }),
            };
            Some(Self { table, address: address.parse().ok()?, kind })
        };
        parse().with_context(|| format!("tag {name} is not named after its place"))
    }

    fn expected(self) -> anyhow::Result<Value> {
        let registers = |count: u16| {
            (0..count)
                .fold(0_u64, |value, at| value << 16 | u64::from(self.address.wrapping_add(at)))
        };
        Ok(match self.kind {
            "bool" => bit(self.address).into(),
            "uint16" => registers(1).into(),
            "uint32" => registers(2).into(),
            // What JSON readers round is written as text.
            "uint64" if registers(4) > 1 << 53 => registers(4).to_string().into(),
            "uint64" => registers(4).into(),
            kind => bail!("no tag that is named after its place is of type {kind}"),
        })
    }
}

/// The coil or discrete input at an address.
#[must_use]
pub const fn bit(address: u16) -> bool {
    (address ^ address >> 3) & 1 == 1
}

/// The configuration of a tag that is named after its place.
///
/// # Errors
/// When it is not.
pub fn configuration(name: &str) -> anyhow::Result<String> {
    let Place { table, address, kind } = Place::of(name)?;
    let table = match table {
        'c' => "coil",
        'd' => "discrete",
        'h' => "holding",
        _ => "input",
    };
    Ok(format!(
        "\n[[device.tag]]\npath = \"{name}\"\naddress = \"{table}:{address}\"\ntype = \"{kind}\"\n"
    ))
}

/// What tags must hold that are not named after their place, by path.
pub type Exceptions = BTreeMap<String, Must>;

/// What one tag must hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Must {
    /// This alone.
    Be(Value),
    /// One of these.
    BeOneOf(Vec<Value>),
    /// What the OPC UA counter of this number counts.
    Count(u64),
    /// Whatever it is, because a scenario judges it by itself.
    Anything,
}

impl From<Value> for Must {
    fn from(value: Value) -> Self {
        Self::Be(value)
    }
}

impl Must {
    fn of(name: &str) -> anyhow::Result<Self> {
        match opcua::number(name) {
            Some(number) => Ok(Self::Count(number)),
            None => Ok(Self::Be(Place::of(name)?.expected()?)),
        }
    }

    fn allows(&self, value: &Value) -> bool {
        match self {
            Self::Be(expected) => value == expected,
            Self::BeOneOf(expected) => expected.contains(value),
            Self::Count(number) => opcua::write_of(*number, value).is_some(),
            Self::Anything => true,
        }
    }
}

/// Every reading that is not what its place holds and has a value nevertheless. Not good is no
/// excuse for a value from elsewhere.
///
/// # Errors
/// When a tag is not named after its place.
pub fn wrong<'a>(
    readings: impl IntoIterator<Item = &'a Reading>,
    exceptions: &Exceptions,
) -> anyhow::Result<Vec<&'a Reading>> {
    let mut wrong = Vec::new();
    for reading in readings {
        let expected = match exceptions.get(&reading.path) {
            Some(expected) => expected.clone(),
            None => Must::of(reading.path.rsplit('/').next().unwrap_or_default())?,
        };
        let is_right =
            expected.allows(&reading.value) || (reading.value.is_null() && !reading.is_good());
        if !is_right {
            wrong.push(reading);
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(path: &str, value: Value, quality: &str) -> Reading {
        let quality = quality.to_owned();
        Reading { path: path.to_owned(), value, quality, why: None, at_ms: 0 }
    }

    #[test]
    fn a_register_holds_its_address_and_a_wide_value_those_of_all_its_registers() {
        let expected = |name| Place::of(name).unwrap().expected().unwrap();
        assert_eq!(expected("h100"), json!(100));
        assert_eq!(expected("i1-uint32"), json!(0x0001_0002));
        assert_eq!(expected("h0-uint64"), json!(0x0001_0002_0003_u64));
        assert_eq!(expected("h32-uint64"), json!("9007340990890019"));
        assert_eq!((expected("c1"), expected("d8")), (json!(true), json!(true)));
        assert_eq!(expected("c9"), json!(false));
    }

    #[test]
    fn a_value_from_elsewhere_is_wrong_whatever_its_quality() {
        let readings = [
            reading("P/d/h100", json!(100), "good"),
            reading("P/d/h100", json!(101), "good"),
            reading("P/d/h100", json!(200), "bad"),
            reading("P/d/h100", json!(null), "bad"),
            reading("P/d/h100", json!(null), "good"),
        ];
        let found = wrong(&readings, &Exceptions::new()).unwrap();
        assert_eq!(found, [&readings[1], &readings[2], &readings[4]]);
    }

    #[test]
    fn a_tag_whose_value_nobody_can_know_is_a_mistake_of_the_scenario() {
        let readings = [reading("P/d/speed", json!(1), "good")];
        assert!(wrong(&readings, &Exceptions::new()).is_err());
        let told = Exceptions::from([("P/d/speed".to_owned(), json!(2).into())]);
        assert_eq!(wrong(&readings, &told).unwrap().len(), 1);
        let told = Must::BeOneOf(vec![json!(2), json!(1)]);
        let told = Exceptions::from([("P/d/speed".to_owned(), told)]);
        assert!(wrong(&readings, &told).unwrap().is_empty());
    }

    #[test]
    fn a_tag_is_configured_where_its_name_says() {
        let text = configuration("i7-uint32").unwrap();
        assert!(text.contains("address = \"input:7\"") && text.contains("type = \"uint32\""));
        assert!(configuration("speed").is_err());
    }
}
