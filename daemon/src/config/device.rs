//! Checks devices and their tags, each by itself; [`super::overlap`] compares them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{Address, DataType, DeviceSpec, LinkSpec, Order, TagSpec, UnitId};
use tidegate_translator::TagPath;
use toml_span::Value as Toml;

use super::address;
use super::fields::{Checker, Fields};
use super::keys::Section;
use super::mistake::{Mistake, Place, shorten};
use super::model::{Deadband, Device, Manner, RecordMode, Tag};

/// Live values are repeated after this, unless polls are rarer.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Bounds of the time-out that follows from the poll interval.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A device as far as it could be read, with the places that later comparisons name.
pub(crate) struct Read {
    pub(crate) fields: Fields,
    /// `None` when a mistake of its own keeps it from being a device.
    pub(crate) device: Option<Device>,
    /// Its tags, in the order of the file.
    pub(crate) tags: Vec<ReadTag>,
}

/// A tag as far as it could be read.
pub(crate) struct ReadTag {
    pub(crate) fields: Fields,
    pub(crate) allow_overlap: bool,
    pub(crate) tag: Option<(TagSpec, Tag)>,
    /// Where the address was understood, even when other things were not.
    pub(crate) path: Option<TagPath>,
}

/// A device whose own keys were read, and whose tags are still to come.
pub(super) struct Begun {
    fields: Fields,
    poll_every: Option<Duration>,
    base_path: Option<TagPath>,
}

impl Begun {
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.text("name")
    }

    pub(super) const fn fields(&self) -> &Fields {
        &self.fields
    }
}

impl Checker<'_> {
    /// Reads one `[[device]]`.
    pub(crate) fn device(&mut self, index: usize, table: &Toml<'_>, plant: &str) -> Read {
        let begun = self.begin_device(index, table, plant);
        let table_start = table.span.start;
        let mut tags = Vec::new();
        let tables = self.tables(Section::Tag, &begun.fields, table);
        for (index, table) in tables.into_iter().enumerate() {
            let above = table_start..table.span.start;
            let index = index + self.repaired.lost_headers("device.tag", above);
            tags.push(self.tag(index, table, &begun));
        }
        let fields = &begun.fields;
        if tags.is_empty() && !self.repaired.lost_section(Section::Tag.path()) {
            self.mistakes.push(
                Mistake::new(fields.path.clone(), fields.header.clone(), "the device has no tag")
                    .legal("at least one [[device.tag]] with path and address")
                    .context(fields.context.clone()),
            );
        }
        let spec = self.device_spec(&begun);
        for read in &tags {
            self.fits_a_request(read, &begun.fields);
        }
        let device = spec.map(|spec| {
            let (specs, tags) = tags.iter().filter_map(|read| read.tag.clone()).unzip();
            device_of(spec, specs, tags)
        });
        Read { fields: begun.fields, device, tags }
    }

    /// Reads the keys of a device that are its own.
    pub(super) fn begin_device(&mut self, index: usize, table: &Toml<'_>, plant: &str) -> Begun {
        let name = table.as_table().and_then(|t| t.get("name")).and_then(Toml::as_str);
        let context = name.map(|name| format!("device {:?}", shorten(name)));
        let fields = self.fields(Section::Device, format!("device[{index}]"), Some(table), context);
        let poll_every = fields.duration("poll-every-ms");
        let base_path = match fields.path("base-path") {
            Some(path) => Some(path.clone()),
            // Compared under a stand-in of its own.
            None if fields.attempted("base-path") => TagPath::new(format!("?{index}")).ok(),
            None => {
                let name = fields.text("name").map_or_else(|| format!("?{index}"), str::to_owned);
                TagPath::new(format!("{plant}/{name}")).ok()
            }
        };
        Begun { fields, poll_every, base_path }
    }

    /// The tables of an array; a single table counts as one, with a mistake.
    pub(crate) fn tables<'t>(
        &mut self,
        section: Section,
        parent: &Fields,
        table: &'t Toml<'t>,
    ) -> Vec<&'t Toml<'t>> {
        let name = section.path().rsplit('.').next().unwrap_or_default();
        let Some(value) = table.as_table().and_then(|t| t.get(name)) else { return Vec::new() };
        if let Some(list) = value.as_array() {
            return list.iter().collect();
        }
        let path = if parent.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", parent.path)
        };
        let orphans = value.as_table().is_some_and(|table| {
            section == Section::Device && table.keys().all(|key| key.name == "tag")
        });
        let message = if orphans {
            "a tag stands before the first [[device]]".to_owned()
        } else {
            format!("there can be many: the header takes double brackets, {}", section.header())
        };
        self.mistakes.push(Mistake::new(path, self.header(value), message).legal(section.header()));
        if orphans { Vec::new() } else { vec![value] }
    }

    /// The device without its tags.
    pub(super) fn device_spec(&mut self, begun: &Begun) -> Option<DeviceSpec> {
        let Begun { fields, poll_every, .. } = begun;
        let poll_every = *poll_every;
        let timeout = match (fields.duration("timeout-ms"), poll_every) {
            (Some(timeout), Some(poll)) => {
                let longest = poll.max(TIMEOUT.1);
                if timeout > longest {
                    let message = format!(
                        "{} ms is longer than the poll interval of {} ms",
                        timeout.as_millis(),
                        poll.as_millis()
                    );
                    let legal =
                        format!("at most {} milliseconds for this device", longest.as_millis());
                    self.refuse(fields, "timeout-ms", message, &legal);
                }
                Some(timeout)
            }
            (Some(timeout), None) => Some(timeout),
            (None, Some(poll)) => Some(poll.clamp(TIMEOUT.0, TIMEOUT.1)),
            (None, None) => None,
        };
        let backoff = (fields.duration("retry-after-ms")?, fields.duration("retry-at-most-ms")?);
        if backoff.0 > backoff.1 {
            let key = if fields.written("retry-at-most-ms") {
                "retry-at-most-ms"
            } else {
                "retry-after-ms"
            };
            let message = format!(
                "the first wait of {} ms is longer than the longest of {} ms",
                backoff.0.as_millis(),
                backoff.1.as_millis()
            );
            self.refuse(fields, key, message, "retry-after-ms not above retry-at-most-ms");
        }
        let (host, port) = fields.endpoint("address")?;
        fields.text("protocol")?;
        Some(DeviceSpec {
            name: fields.text("name")?.to_owned(),
            link: Arc::new(LinkSpec::tcp(host.into(), port)),
            unit: UnitId(fields.integer("unit")?),
            poll_every: poll_every?,
            timeout: timeout?,
            pause_between: Duration::ZERO,
            max_gap: fields.integer("max-gap")?,
            max_registers: fields.integer("max-registers")?,
            max_bits: fields.integer("max-bits")?,
            forbidden: Arc::default(),
            backoff,
            tags: Arc::default(),
        })
    }

    pub(super) fn fits_a_request(&mut self, read: &ReadTag, device: &Fields) {
        let Some((spec, _)) = &read.tag else { return };
        let Some(max_registers) = device.integer::<u16>("max-registers") else { return };
        let extent = address::extent(spec.kind);
        if extent > max_registers && !address::is_bit_table(spec.address.table) {
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

    /// Reads one `[[device.tag]]`.
    pub(super) fn tag(&mut self, index: usize, table: &Toml<'_>, begun: &Begun) -> ReadTag {
        let Begun { fields: device, base_path, .. } = begun;
        let name = table.as_table().and_then(|t| t.get("path")).and_then(Toml::as_str);
        let context = match (&device.context, name) {
            (Some(device), Some(name)) => Some(format!("{device}, tag {:?}", shorten(name))),
            (Some(device), None) => Some(device.clone()),
            (None, Some(name)) => Some(format!("tag {:?}", shorten(name))),
            (None, None) => None,
        };
        let path = format!("{}.tag[{index}]", device.path);
        let mut fields = self.fields(Section::Tag, path, Some(table), context);
        let allow_overlap = fields.flag("allow-overlap");
        let full = self.full_path(&fields, base_path.as_ref());
        // With an illegal base no number can be judged.
        let base = device.integer("address-base");
        let address = base.and_then(|base| self.address(&fields, base));
        let kind = address.and_then(|address| self.kind(&fields, address));
        self.numbers_of_a_bit(&fields, kind);
        let deadband = self.deadband(&fields);
        let max_silence = self.max_silence(&fields, device.duration("poll-every-ms"));
        let tag = full.clone().zip(address.zip(kind)).and_then(|(path, (address, kind))| {
            let spec = TagSpec {
                path: path.clone(),
                address,
                kind,
                order: order(fields.text("order")?)?,
                scale: fields.number("scale")?,
                offset: fields.number("offset")?,
                special: None,
            };
            let tag = Tag {
                path,
                address: fields.text("address")?.into(),
                manner: self.manners.one_of(Manner {
                    unit: fields.text("unit").map(Arc::from),
                    deadband,
                    max_silence: max_silence?,
                    record: match fields.text("record")? {
                        "changes" => RecordMode::Changes,
                        _ => RecordMode::All,
                    },
                }),
            };
            Some((spec, tag))
        });
        fields.keep_only(&["path", "address"]);
        ReadTag { fields, allow_overlap, tag, path: full }
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

    fn address(&mut self, fields: &Fields, base: u16) -> Option<Address> {
        let text = fields.text("address")?;
        match address::parse(text, base) {
            Ok(address) => Some(address),
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
        let one_bit = address::is_bit_table(address.table) || address.bit.is_some();
        let kind = match fields.text("type") {
            Some(word) => data_type(word)?,
            None if fields.attempted("type") => return None,
            None if one_bit => DataType::Bool,
            None => DataType::Uint16,
        };
        let word = fields.text("type").unwrap_or_default();
        if one_bit && kind != DataType::Bool {
            let what = match address.bit {
                Some(_) => "a bit of a register".to_owned(),
                None => format!("a {}", address::word(address.table)),
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
        let extent = address::extent(kind);
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

    /// One bit has no order, no scale and no deadband: each written one is a misunderstanding.
    fn numbers_of_a_bit(&mut self, fields: &Fields, kind: Option<DataType>) {
        if kind != Some(DataType::Bool) {
            return;
        }
        for key in ["scale", "offset", "deadband", "deadband-percent"] {
            if fields.written(key) {
                self.refuse(fields, key, format!("a bool has no {key}"), "nothing for a bool");
            }
        }
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

    fn max_silence(&mut self, fields: &Fields, poll_every: Option<Duration>) -> Option<Duration> {
        let Some(written) = fields.duration("max-silence-ms") else {
            return poll_every.map(|poll| poll.max(MAX_SILENCE));
        };
        if let Some(poll) = poll_every.filter(|poll| *poll > written) {
            let message = format!(
                "{} ms is shorter than the poll interval of {} ms",
                written.as_millis(),
                poll.as_millis()
            );
            let legal = format!("{} milliseconds and more for this device", poll.as_millis());
            self.refuse(fields, "max-silence-ms", message, &legal);
        }
        Some(written)
    }

    /// Names that two devices share.
    pub(crate) fn duplicate_names(&mut self, devices: &[Read]) {
        let mut first = std::collections::BTreeMap::<&str, Place>::new();
        for read in devices {
            let Some(name) = read.fields.text("name") else { continue };
            let place = read.fields.place("name");
            if let Some(other) = first.get(name) {
                self.mistakes.push(
                    read.fields
                        .mistake("name", format!("another device is called {name:?} already"))
                        .legal("a name that no other device of this file has")
                        .other(other.clone(), "first written here"),
                );
            } else {
                first.insert(name, place);
            }
        }
    }
}

/// A device with its tags, which are as many in both lists.
pub(super) fn device_of(spec: DeviceSpec, specs: Vec<TagSpec>, tags: Vec<Tag>) -> Device {
    Device { spec: Arc::new(DeviceSpec { tags: specs.into(), ..spec }), tags: tags.into() }
}

fn data_type(word: &str) -> Option<DataType> {
    Some(match word {
        "bool" => DataType::Bool,
        "int16" => DataType::Int16,
        "uint16" => DataType::Uint16,
        "int32" => DataType::Int32,
        "uint32" => DataType::Uint32,
        "int64" => DataType::Int64,
        "uint64" => DataType::Uint64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        _ => return None,
    })
}

fn order(word: &str) -> Option<Order> {
    Some(match word {
        "abcd" => Order::Abcd,
        "cdab" => Order::Cdab,
        "badc" => Order::Badc,
        "dcba" => Order::Dcba,
        _ => return None,
    })
}
