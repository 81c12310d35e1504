//! Checks one tag, from the file, from a profile or from a tag list.
//!
//! # Invariants
//! - Whatever a tag comes from, the same rows and the same rules say what it may be.
//! - What follows from the device (its base path, its interval, its limits) is judged for the
//!   device that reads the tag.

use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{
    Address, DataType, LegalRange, NanPolicy, Order, Outside, Special, States, TagSpec,
};
use tidegate_opcua::{SubtreeSpec, TagSpec as NodeSpec};
use tidegate_translator::TagPath;

use super::address::{self, AddressError};
use super::device::Begun;
use super::fields::{Checker, Fields, Table};
use super::keys::{Family, Section};
use super::mistake::shorten;
use super::model::{Deadband, Manner, RecordMode, Tag};

/// Live values are repeated after this, unless polls are rarer.
pub(crate) const MAX_SILENCE: Duration = Duration::from_secs(60);

/// A tag as far as it could be read.
pub(crate) struct ReadTag {
    pub(crate) fields: Fields,
    pub(crate) allow_overlap: bool,
    pub(crate) tag: Option<(Understood, Tag)>,
    /// Where the address was understood, even when other things were not.
    pub(crate) path: Option<TagPath>,
}

impl ReadTag {
    /// What the Modbus translator reads.
    pub(crate) const fn register(&self) -> Option<&TagSpec> {
        match &self.tag {
            Some((Understood::Register(spec), _)) => Some(spec),
            _ => None,
        }
    }
}

/// What a translator reads.
#[derive(Clone)]
pub(crate) enum Understood {
    /// Registers, or bits.
    Register(TagSpec),
    /// A node.
    Node(NodeSpec),
    /// Everything below a node.
    Subtree(Box<SubtreeSpec>),
}

/// What any tag says of itself, whatever reads it.
struct Common {
    full: Option<TagPath>,
    /// Its own interval, where it is legal.
    own: Option<Duration>,
    device_every: Option<Duration>,
    /// `None` after a mistake.
    manner: Option<Arc<Manner>>,
}

impl Checker<'_> {
    /// Reads one tag; `path` is its key path, `profile` the name of the profile it stands in.
    pub(super) fn tag(
        &mut self,
        path: String,
        table: Table<'_>,
        begun: &Begun,
        profile: Option<&str>,
    ) -> ReadTag {
        let device = begun.fields();
        let context = context(device, table.text("path"), profile);
        let mut fields =
            self.fields(Section::Tag, path, table, context, None, begun.certain_family());
        let allow_overlap = fields.flag("allow-overlap");
        let full = self.full_path(&fields, begun.base_path());
        let deadband = self.deadband(&fields);
        let own = fields.duration("poll-every-ms");
        let device_every = device.duration("poll-every-ms");
        let illegal = own.is_none() && fields.attempted("poll-every-ms");
        let every = own.or(device_every.filter(|_| !illegal));
        let max_silence = self.max_silence(&fields, every);
        let manner = max_silence.zip(fields.text("record")).map(|(max_silence, record)| {
            self.manners.one_of(Manner {
                unit: fields.text("unit").map(Arc::from),
                deadband,
                max_silence,
                record: match record {
                    "changes" => RecordMode::Changes,
                    _ => RecordMode::All,
                },
            })
        });
        let common = Common { full, own, device_every, manner };
        let understood = match begun.family().unwrap_or_else(|| looks_like(&fields)) {
            Family::Modbus => self.register(&fields, begun, &common).map(Understood::Register),
            Family::OpcUa => self.node(&fields, device, &common),
            // Refused as a whole.
            Family::Nats => None,
        };
        let tag = understood.and_then(|understood| {
            let address = fields.text("address")?.trim().into();
            Some((understood, Tag { path: common.full.clone()?, address, manner: common.manner? }))
        });
        fields.keep_only(&["path", "address", "poll-every-ms"]);
        let read = ReadTag { fields, allow_overlap, tag, path: common.full };
        self.fits_a_request(&read, device);
        self.is_not_forbidden(&read, begun);
        read
    }

    /// What the Modbus translator reads.
    fn register(&mut self, fields: &Fields, begun: &Begun, common: &Common) -> Option<TagSpec> {
        // With an illegal base no number can be judged.
        let base = begun.fields().integer("address-base");
        let address = base.and_then(|base| self.address(fields, base, begun.takes_any_base()));
        let kind = address.and_then(|address| self.kind(fields, address));
        let states = self.states(fields, kind);
        let meaning = kind.map(|kind| Meaning { kind, states: states.is_some() });
        self.what_has_no_numbers(fields, meaning);
        let range = self.range(fields);
        let special = Special {
            poll_every: common.own.filter(|own| Some(*own) != common.device_every),
            range,
            nan: match fields.text("nan")? {
                "bad" => NanPolicy::Bad,
                _ => NanPolicy::Mark,
            },
            states,
        };
        Some(TagSpec {
            path: common.full.clone()?,
            address: address?,
            kind: kind?,
            order: Order::parse(fields.text("order")?)?,
            scale: fields.number("scale")?,
            offset: fields.number("offset")?,
            special: (special != Special::default()).then(|| self.specials.one_of(special)),
        })
    }

    /// What the OPC UA translator reads.
    fn node(&mut self, fields: &Fields, device: &Fields, common: &Common) -> Option<Understood> {
        let node = self.node_address(fields);
        let item =
            self.item(fields, device, common.own.filter(|own| Some(*own) != common.device_every));
        let below = self.below(fields);
        let (path, node, item) = (common.full.clone()?, node?, item?);
        Some(match below? {
            None => Understood::Node(NodeSpec { path, node, item }),
            Some(below) => Understood::Subtree(Box::new(SubtreeSpec {
                path,
                node,
                item,
                include: below.include,
                exclude: below.exclude,
                max_tags: below.max_tags,
                max_depth: below.max_depth,
            })),
        })
    }

    fn full_path(&mut self, fields: &Fields, base: Option<&TagPath>) -> Option<TagPath> {
        let (base, own) = (base?, fields.path("path")?);
        match TagPath::new(format!("{base}/{own}")) {
            Ok(path) => Some(path),
            Err(error) => {
                let message = format!("with the device's base-path: {error}");
                self.refuse(fields, "path", message, "a shorter path or base-path");
                None
            }
        }
    }

    fn address(&mut self, fields: &Fields, base: u16, any_base: bool) -> Option<Address> {
        let text = fields.text("address")?;
        match address::parse(text, base) {
            Ok(address) => Some(address),
            Err(AddressError::Range { .. }) if any_base && address::parse(text, 1).is_ok() => None,
            Err(error) => {
                let mistake = fields
                    .mistake("address", error.to_string())
                    .legal(error.legal())
                    .suggest(error.suggestion());
                self.mistakes.push(mistake);
                None
            }
        }
    }

    /// The type, checked against the table and the end of the address space.
    fn kind(&mut self, fields: &Fields, address: Address) -> Option<DataType> {
        let one_bit = address.table.holds_bits() || address.bit.is_some();
        let kind = match fields.text("type") {
            Some("text") => DataType::Text(self.length(fields)?),
            Some(word) => DataType::parse(word, 0)?,
            None if fields.attempted("type") => return None,
            None if one_bit => DataType::Bool,
            None => DataType::Uint16,
        };
        if fields.written("length") && !matches!(kind, DataType::Text(_)) {
            let message = format!("a {} has its length by itself", kind.word());
            self.refuse(fields, "length", message, "nothing, or type = \"text\"");
        }
        let word = kind.word();
        if one_bit && kind != DataType::Bool {
            let what = match address.bit {
                Some(_) => "a bit of a register".to_owned(),
                None => format!("a {}", address.table.word()),
            };
            self.refuse(fields, "type", format!("{what} is no {word}"), "\"bool\", or nothing");
            return None;
        }
        if !one_bit && kind == DataType::Bool {
            let message = "a whole register is no bool".to_owned();
            let written = fields.text("address").unwrap_or_default();
            let legal =
                format!("a bit of it, such as address = \"{written}.0\", or a type of 16 bits");
            self.refuse(fields, "type", message, &legal);
            return None;
        }
        let extent = kind.registers();
        if address.offset.checked_add(extent - 1).is_none() {
            let message = format!("a value of {extent} registers reaches beyond the last one");
            self.refuse(
                fields,
                "address",
                message,
                &format!(
                    "a first register of at most {} on the wire (0-based)",
                    u16::MAX - (extent - 1)
                ),
            );
            return None;
        }
        Some(kind)
    }

    fn length(&mut self, fields: &Fields) -> Option<u16> {
        let length = fields.integer("length");
        if length.is_none() && !fields.attempted("length") {
            let message = "a text needs its length in bytes".to_owned();
            let legal = format!("length = 1 to {}", tidegate_modbus::MAX_TEXT);
            self.refuse(fields, "type", message, &legal);
        }
        length
    }

    /// The names, where the raw value is a whole number that can be each of the numbers.
    fn states(&mut self, fields: &Fields, kind: Option<DataType>) -> Option<Arc<States>> {
        let (states, kind) = (fields.states("states")?, kind?);
        let Some((min, max)) = whole_numbers(kind) else {
            let message = format!("a {} has no states", kind.word());
            self.refuse(fields, "states", message, "nothing, or a type of whole numbers");
            return None;
        };
        if let Some((number, name)) = states.iter().find(|(n, _)| !(min..=max).contains(n)) {
            let message = format!("{number} ({:?}) is no {}", shorten(name), kind.word());
            self.refuse(fields, "states", message, &format!("numbers from {min} to {max}"));
        }
        Some(Arc::clone(states))
    }

    /// Bits, texts and states have no order, no scale, no range and no deadband: each written one
    /// is a misunderstanding.
    fn what_has_no_numbers(&mut self, fields: &Fields, meaning: Option<Meaning>) {
        const NUMBERS: [&str; 7] =
            ["scale", "offset", "min", "max", "outside", "deadband", "deadband-percent"];
        let Some(meaning) = meaning else { return };
        if let Some((what, legal)) = meaning.without_numbers() {
            for key in NUMBERS.into_iter().filter(|key| fields.written(key)) {
                self.refuse(fields, key, format!("{what} has no {key}"), legal);
            }
        }
        if fields.written("nan") && !meaning.can_be_no_number() {
            let message = match meaning.without_numbers() {
                Some((what, _)) => format!("{what} is no number"),
                None => format!("a {} is always a number", meaning.kind.word()),
            };
            self.refuse(fields, "nan", message, "nothing, or a float");
        }
        if matches!(meaning.kind, DataType::Text(_))
            && matches!(fields.text("order"), Some("cdab" | "dcba"))
        {
            let message = "a text has no words to swap".to_owned();
            self.refuse(fields, "order", message, "\"abcd\", or \"badc\" to swap bytes");
        }
    }

    fn range(&mut self, fields: &Fields) -> Option<LegalRange> {
        let (min, max) = (fields.number("min"), fields.number("max"));
        let neither = !fields.attempted("min") && !fields.attempted("max");
        if neither && fields.written("outside") {
            let message = "nothing is outside: there is neither min nor max".to_owned();
            self.refuse(fields, "outside", message, "min, max or both beside it");
        }
        if let (Some(low), Some(high)) = (min, max)
            && low > high
        {
            let mistake = fields
                .mistake("max", format!("the highest legal value {high} is below the lowest {low}"))
                .legal("min not above max")
                .other(fields.place("min"), "the lowest");
            self.mistakes.push(mistake);
        }
        if min.is_none() && max.is_none() {
            return None;
        }
        Some(LegalRange {
            min: min.unwrap_or(f64::NEG_INFINITY),
            max: max.unwrap_or(f64::INFINITY),
            outside: match fields.text("outside") {
                Some("clamp") => Outside::Clamp,
                Some("bad") => Outside::Bad,
                _ => Outside::Mark,
            },
        })
    }

    fn deadband(&mut self, fields: &Fields) -> Deadband {
        match (fields.number("deadband"), fields.number("deadband-percent")) {
            (Some(_), Some(_)) => {
                let mistake = fields
                    .mistake("deadband-percent", "there is a deadband already")
                    .legal("deadband or deadband-percent")
                    .other(fields.place("deadband"), "the other one");
                self.mistakes.push(mistake);
                Deadband::None
            }
            (Some(zero), None) | (None, Some(zero)) if zero == 0.0 => Deadband::None,
            (Some(absolute), None) => Deadband::Absolute(absolute),
            (None, Some(percent)) => Deadband::Percent(percent),
            (None, None) => Deadband::None,
        }
    }

    fn max_silence(&mut self, fields: &Fields, every: Option<Duration>) -> Option<Duration> {
        let Some(written) = fields.duration("max-silence-ms") else {
            return every.map(|every| every.max(MAX_SILENCE));
        };
        if let Some(every) = every.filter(|every| *every > written) {
            let message = format!(
                "{} ms is shorter than the poll interval of {} ms",
                written.as_millis(),
                every.as_millis()
            );
            let whose = if fields.written("poll-every-ms") { "tag" } else { "device" };
            let legal = format!("{} milliseconds and more for this {whose}", every.as_millis());
            self.refuse(fields, "max-silence-ms", message, &legal);
        }
        Some(written)
    }

    fn fits_a_request(&mut self, read: &ReadTag, device: &Fields) {
        let Some(spec) = read.register() else { return };
        let Some(max_registers) = device.integer::<u16>("max-registers") else { return };
        let extent = spec.kind.registers();
        if extent > max_registers && !spec.address.table.holds_bits() {
            let message = format!(
                "the value takes {extent} registers, and max-registers allows {max_registers} per request"
            );
            let mistake = read
                .fields
                .mistake("address", message)
                .legal(format!(
                    "types of at most {max_registers} registers, or a larger max-registers"
                ))
                .other(device.place("max-registers"), "the limit stands here");
            self.mistakes.push(mistake);
        }
    }

    fn is_not_forbidden(&mut self, read: &ReadTag, begun: &Begun) {
        let Some(spec) = read.register() else { return };
        let first = spec.address.offset;
        let last = first.saturating_add(spec.kind.registers().saturating_sub(1));
        let meets = begun.forbidden().iter().find(|(range, _)| {
            range.table == spec.address.table && first <= range.last && range.first <= last
        });
        if let Some((range, place)) = meets {
            let message = "the value lies where nothing may be read";
            let mistake = read
                .fields
                .mistake("address", message)
                .legal(format!(
                    "addresses outside of {}:{}-{} on the wire (0-based)",
                    range.table.word(),
                    range.first,
                    range.last
                ))
                .other(place.clone(), "forbidden here");
            self.mistakes.push(mistake);
        }
    }
}

/// What a tag of an unknown device is, by what its address looks like.
fn looks_like(fields: &Fields) -> Family {
    let address = fields.text("address").unwrap_or_default();
    if address.starts_with('/') || address.contains('=') { Family::OpcUa } else { Family::Modbus }
}

/// Whose tag it is, for a person who does not count tables.
fn context(device: &Fields, name: Option<&str>, profile: Option<&str>) -> Option<String> {
    let tag = name.map(|name| format!("tag {:?}", shorten(name)));
    match (profile, &device.context, tag) {
        (None, Some(device), Some(tag)) => Some(format!("{device}, {tag}")),
        (None, Some(device), None) => Some(device.clone()),
        (None, None, tag) => tag,
        (Some(profile), device, tag) => {
            let mut out = format!("profile {:?}", shorten(profile));
            if let Some(tag) = tag {
                out += &format!(", {tag}");
            }
            if let Some(device) = device.as_ref().filter(|device| device.starts_with("device")) {
                out += &format!(", as {device} uses it");
            }
            Some(out)
        }
    }
}

/// What a value is after naming.
#[derive(Clone, Copy)]
struct Meaning {
    kind: DataType,
    states: bool,
}

impl Meaning {
    /// What it is called where it is no number, and what would be legal instead of a number's key.
    const fn without_numbers(self) -> Option<(&'static str, &'static str)> {
        match self.kind {
            _ if self.states => Some(("a value with states", "nothing beside states")),
            DataType::Bool => Some(("a bool", "nothing for a bool")),
            DataType::Text(_) => Some(("a text", "nothing for a text")),
            _ => None,
        }
    }

    /// Floats, and digits that are none.
    const fn can_be_no_number(self) -> bool {
        !self.states
            && matches!(
                self.kind,
                DataType::Float32
                    | DataType::Float64
                    | DataType::Bcd16
                    | DataType::Bcd32
                    | DataType::Bcd64
            )
    }
}

/// The whole numbers of a type, as far as a state can be one; `None` for what is none.
const fn whole_numbers(kind: DataType) -> Option<(i64, i64)> {
    Some(match kind {
        DataType::Bool => (0, 1),
        DataType::Int16 => (i16::MIN as i64, i16::MAX as i64),
        DataType::Uint16 => (0, u16::MAX as i64),
        DataType::Int32 => (i32::MIN as i64, i32::MAX as i64),
        DataType::Uint32 => (0, u32::MAX as i64),
        DataType::Int64 => (i64::MIN, i64::MAX),
        DataType::Uint64 => (0, i64::MAX),
        DataType::Bcd16 => (0, 9_999),
        DataType::Bcd32 => (0, 99_999_999),
        DataType::Bcd64 => (0, 9_999_999_999_999_999),
        DataType::Float32 | DataType::Float64 | DataType::Text(_) => return None,
    })
}
