//! Checks devices, each by itself; [`super::tag`] checks their tags, [`super::link`] the way to
//! them, and [`super::overlap`] compares.

use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{DeviceSpec, Forbidden, LinkSpec, TagSpec, UnitId};
use tidegate_opcua::{DeviceSpec as OpcUaSpec, SubtreeSpec, TagSpec as NodeSpec};
use tidegate_translator::TagPath;
use toml_span::Value as Toml;

use super::address;
use super::check::Origin;
use super::fields::{Checker, Fields, Table};
use super::keys::{Family, Section};
use super::link::{Protocol, Way};
use super::mistake::{Mistake, Place, shorten};
use super::model::{Device, Driver, Tag};
use super::profile::Profile;
use super::suggest;
use super::tag::{ReadTag, Understood};

/// Bounds of the time-out that follows from the poll interval.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A device as far as it could be read, with the places that later comparisons name.
pub(crate) struct Read {
    pub(crate) fields: Fields,
    /// `None` when a mistake of its own keeps it from being a device. Its link is not yet known.
    pub(crate) device: Option<Device>,
    /// Its tags: its own, those of its list, those of its profile.
    pub(crate) tags: Vec<ReadTag>,
}

/// A device whose own keys were read, and whose tags are still to come.
pub(super) struct Begun {
    fields: Fields,
    tls: Option<Fields>,
    base_path: Option<TagPath>,
    forbidden: Vec<(Forbidden, Place)>,
    profile: Option<usize>,
    /// What it speaks, where that is legally written.
    certain: Option<Family>,
    /// What it speaks, as far as that can be told.
    family: Option<Family>,
    /// Whether numbers may count from 0 or 1: a profile that no device uses.
    any_base: bool,
}

impl Begun {
    /// A profile that no device uses, to be checked all the same.
    pub(super) fn unused(fields: Fields, forbidden: Vec<(Forbidden, Place)>) -> Self {
        let base_path = TagPath::new("?").ok();
        let any_base = !fields.written("address-base");
        let certain = fields.text("protocol").and_then(Family::of);
        let family = certain.or_else(|| guess(&fields, Section::Profile));
        Self { fields, tls: None, base_path, forbidden, profile: None, certain, family, any_base }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.fields.text("name")
    }

    pub(super) const fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) const fn profile(&self) -> Option<usize> {
        self.profile
    }

    /// What it speaks, where that is legally written.
    pub(super) const fn certain_family(&self) -> Option<Family> {
        self.certain
    }

    /// What it speaks, as far as that can be told.
    pub(super) const fn family(&self) -> Option<Family> {
        self.family
    }

    pub(super) const fn base_path(&self) -> Option<&TagPath> {
        self.base_path.as_ref()
    }

    pub(super) fn forbidden(&self) -> &[(Forbidden, Place)] {
        &self.forbidden
    }

    pub(super) const fn takes_any_base(&self) -> bool {
        self.any_base
    }
}

/// The shortest interval of a device's tags, and where it is written.
pub(super) type Fastest = Option<(Duration, Place)>;

/// The shorter one.
pub(super) fn faster(known: Fastest, read: &ReadTag) -> Fastest {
    let own = match &read.tag {
        Some((Understood::Register(spec), _)) => spec.poll_every(),
        Some((Understood::Node(_) | Understood::Subtree(_), _)) | None => None,
    };
    match (known, own) {
        (Some(known), Some(own)) if own >= known.0 => Some(known),
        (_, Some(own)) => Some((own, read.fields.place("poll-every-ms"))),
        (known, None) => known,
    }
}

/// What a table says that it speaks, or else what its profile says.
fn family_of(table: Table<'_>, profile: Option<&Fields>) -> Option<Family> {
    match table.get("protocol") {
        Some(_) => table.text("protocol").and_then(Family::of),
        None => Family::of(profile?.text("protocol")?),
    }
}

/// What a table without a legal protocol is about, as far as its keys tell.
fn guess(fields: &Fields, section: Section) -> Option<Family> {
    let address = fields.text("address").unwrap_or_default();
    if address.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("opc.")) {
        return Some(Family::OpcUa);
    }
    fields.families(section).next()
}

/// The tags of a device while they are read.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) registers: Vec<TagSpec>,
    nodes: Vec<NodeSpec>,
    subtrees: Vec<SubtreeSpec>,
    tags: Vec<Tag>,
    of_subtrees: Vec<Tag>,
}

impl Parts {
    pub(super) fn push(&mut self, understood: Understood, tag: Tag) {
        match understood {
            Understood::Register(spec) => {
                self.registers.push(spec);
                self.tags.push(tag);
            }
            Understood::Node(spec) => {
                self.nodes.push(spec);
                self.tags.push(tag);
            }
            Understood::Subtree(spec) => {
                self.subtrees.push(*spec);
                self.of_subtrees.push(tag);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.tags.len() + self.of_subtrees.len()
    }
}

impl Checker<'_> {
    /// Reads one `[[device]]`, and what it says about its link.
    pub(crate) fn device(
        &mut self,
        index: usize,
        table: &Toml<'_>,
        plant: &str,
        profiles: &[Profile<'_>],
    ) -> (Read, Option<Way>) {
        let before = self.mistakes.len();
        let begun = self.begin_device(index, table, plant, profiles);
        let table_start = table.span.start;
        let mut tags = Vec::new();
        let is_fed = begun.family == Some(Family::Nats);
        if is_fed {
            self.no_tags_of_messages(&begun, table);
        }
        let tables = match is_fed {
            true => Vec::new(),
            false => self.tables(Section::Tag, &begun.fields, table),
        };
        for (index, table) in tables.into_iter().enumerate() {
            let above = table_start..table.span.start;
            let index = index + self.repaired.lost_headers("device.tag", above);
            let path = format!("{}.tag[{index}]", begun.fields.path);
            tags.push(self.tag(path, Table::Toml(table), &begun, None));
        }
        let known = !is_fed && self.more_tags(&begun, profiles, &mut |_, tag| tags.push(tag));
        let fields = &begun.fields;
        if tags.is_empty() && known && !self.repaired.lost_section(Section::Tag.path()) {
            self.mistakes.push(
                Mistake::new(fields.path.clone(), fields.header.clone(), "the device has no tag")
                    .legal(
                        "at least one [[device.tag]] with path and address, a tag-list, or a \
                         profile with tags",
                    )
                    .context(fields.context.clone()),
            );
        }
        let fastest = tags.iter().fold(None, faster);
        let spec = self.device_spec(&begun, fastest);
        let way = self.way_of(&begun);
        self.tell_once(before);
        let device = spec.map(|driver| {
            let mut parts = Parts::default();
            for (understood, tag) in tags.iter().filter_map(|read| read.tag.clone()) {
                parts.push(understood, tag);
            }
            device_of(driver, parts)
        });
        (Read { fields: begun.fields, device, tags }, way)
    }

    /// Takes away what was said of a profile before, for another device.
    pub(super) fn tell_once(&mut self, before: usize) {
        for mistake in self.mistakes.split_off(before) {
            let said = (mistake.place.clone(), mistake.message.clone());
            if !mistake.path.starts_with("profile[") || self.told.insert(said) {
                self.mistakes.push(mistake);
            }
        }
    }

    /// Reads the keys of a device that are its own or its profile's.
    pub(super) fn begin_device(
        &mut self,
        index: usize,
        table: &Toml<'_>,
        plant: &str,
        profiles: &[Profile<'_>],
    ) -> Begun {
        let text = |key: &str| table.as_table().and_then(|t| t.get(key)).and_then(Toml::as_str);
        let context = text("name").map(|name| format!("device {:?}", shorten(name)));
        let wanted = text("profile");
        let profile = profiles.iter().position(|p| wanted.is_some() && p.name() == wanted);
        let taken = profile.and_then(|index| profiles.get(index));
        let path = format!("device[{index}]");
        let own_tls = table.as_table().and_then(|table| table.get("tls"));
        let from = taken.map(|profile| &profile.fields);
        let certain = family_of(Table::Toml(table), from);
        let tls = match own_tls {
            Some(tls) => {
                let (path, context) = (format!("{path}.tls"), context.clone());
                self.tls_of(certain, Section::DeviceTls, path, tls, context)
            }
            None => taken.and_then(|profile| profile.tls.clone()),
        };
        let fields = self.fields(Section::Device, path, Table::Toml(table), context, from, certain);
        let family = certain.or_else(|| guess(&fields, Section::Device));
        match (profile, fields.text("profile")) {
            (Some(index), _) => {
                if let Some(profile) = profiles.get(index) {
                    profile.used.set(true);
                }
            }
            (None, Some(name)) if !self.repaired.lost_section("profile") => {
                let names = || profiles.iter().filter_map(Profile::name);
                let known: Vec<_> = names().map(|name| format!("{name:?}")).collect();
                let legal = match known.as_slice() {
                    [] => "the name of a [[profile]], of which this file has none".to_owned(),
                    known => format!("the name of a [[profile]]: {}", known.join(", ")),
                };
                let mistake = fields
                    .mistake("profile", format!("there is no profile {name:?}"))
                    .legal(legal)
                    .suggest(suggest::nearest(name, names()));
                self.mistakes.push(mistake);
            }
            _ => {}
        }
        let base_path = match fields.path("base-path") {
            Some(path) => Some(path.clone()),
            // Compared under a stand-in of its own.
            None if fields.attempted("base-path") => TagPath::new(format!("?{index}")).ok(),
            None => {
                let name = fields.text("name").map_or_else(|| format!("?{index}"), str::to_owned);
                TagPath::new(format!("{plant}/{name}")).ok()
            }
        };
        let forbidden = self.forbidden(&fields);
        if let (Some(name), Some(base_path)) = (fields.text("name"), base_path.clone()) {
            let list = fields.file("tag-list").map(|file| self.directory.join(file));
            self.origins.push(Origin { device: name.to_owned(), base_path, list });
        }
        Begun { fields, tls, base_path, forbidden, profile, certain, family, any_base: false }
    }

    /// The certificates of Modbus; other devices have none of this kind.
    pub(super) fn tls_of(
        &mut self,
        family: Option<Family>,
        section: Section,
        path: String,
        tls: &Toml<'_>,
        context: Option<String>,
    ) -> Option<Fields> {
        let Some(other) = family.filter(|family| *family != Family::Modbus) else {
            return Some(self.fields(section, path, Table::Toml(tls), context, None, family));
        };
        let message = format!("tls is for Modbus devices, and this one speaks {}", other.noun());
        let mistake = Mistake::new(path, self.header(tls), message);
        self.mistakes.push(mistake.legal(other.instead_of("tls")).context(context));
        None
    }

    /// What a device says about its link, where its link is shared with others.
    pub(super) fn way_of(&mut self, begun: &Begun) -> Option<Way> {
        match begun.family {
            Some(Family::OpcUa | Family::Nats) => None,
            Some(Family::Modbus) | None => self.way(&begun.fields, begun.tls.as_ref()),
        }
    }

    /// What must not be read, with the place of each entry; sorted.
    pub(super) fn forbidden(&mut self, fields: &Fields) -> Vec<(Forbidden, Place)> {
        // With an illegal base no number can be judged.
        let Some(base) = fields.integer("address-base") else { return Vec::new() };
        let mut out = Vec::new();
        for (index, (text, place)) in fields.texts("forbidden").iter().enumerate() {
            match address::parse_range(text, base) {
                Ok(range) => out.push((range, place.clone())),
                Err(error) => {
                    let mut mistake = fields
                        .mistake("forbidden", error.to_string())
                        .value(format!("{:?}", shorten(text)))
                        .legal(error.legal())
                        .suggest(error.suggestion());
                    mistake.path += &format!("[{index}]");
                    mistake.place = place.clone();
                    self.mistakes.push(mistake);
                }
            }
        }
        out.sort_by_key(|(range, _)| *range);
        out
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
            matches!(section, Section::Device | Section::Profile)
                && table.keys().all(|key| key.name == "tag")
        });
        let message = if orphans {
            format!("a tag stands before the first {}", section.header())
        } else {
            format!("there can be many: the header takes double brackets, {}", section.header())
        };
        self.mistakes.push(Mistake::new(path, self.header(value), message).legal(section.header()));
        if orphans { Vec::new() } else { vec![value] }
    }

    /// The device without its tags and its link.
    pub(super) fn device_spec(&mut self, begun: &Begun, fastest: Fastest) -> Option<Driver> {
        match begun.family {
            Some(Family::OpcUa) => {
                self.opcua_spec(&begun.fields).map(|spec| Driver::OpcUa(Arc::new(spec)))
            }
            Some(Family::Nats) => self.ingest_spec(begun).map(|spec| Driver::Nats(Arc::new(spec))),
            Some(Family::Modbus) | None => {
                let spec = self.modbus_spec(begun, fastest);
                spec.map(|spec| Driver::Modbus(Arc::new(spec)))
            }
        }
    }

    /// The first and the longest wait between attempts to connect.
    pub(super) fn backoff(&mut self, fields: &Fields) -> Option<(Duration, Duration)> {
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
        Some(backoff)
    }

    fn modbus_spec(&mut self, begun: &Begun, fastest: Fastest) -> Option<DeviceSpec> {
        let fields = &begun.fields;
        let poll_every = fields.duration("poll-every-ms");
        let timeout = self.timeout(fields, poll_every, fastest);
        let backoff = self.backoff(fields)?;
        let unit = fields.integer("unit");
        if let Some(protocol) = Protocol::of(fields).filter(|protocol| protocol.frames_rtu()) {
            let message = match unit {
                Some(0) => "unit 0 is the broadcast, which no unit answers".to_owned(),
                Some(255) => format!("{} has no unit 255", protocol.word()),
                _ => String::new(),
            };
            if !message.is_empty() {
                self.refuse(fields, "unit", message, "1 to 247");
            }
        }
        Some(DeviceSpec {
            name: fields.text("name")?.to_owned(),
            // What it is follows from all devices of the endpoint.
            link: Arc::new(LinkSpec::tcp(String::new(), 0)),
            unit: UnitId(unit?),
            poll_every: poll_every?,
            timeout: timeout?,
            pause_between: fields.duration("pause-between-ms")?,
            max_gap: fields.integer("max-gap")?,
            max_registers: fields.integer("max-registers")?,
            max_bits: fields.integer("max-bits")?,
            forbidden: begun.forbidden.iter().map(|(range, _)| *range).collect(),
            backoff,
            tags: Arc::default(),
        })
    }

    /// The time-out: no longer than the interval of any tag, unless that is short anyway.
    fn timeout(
        &mut self,
        fields: &Fields,
        poll_every: Option<Duration>,
        fastest: Fastest,
    ) -> Option<Duration> {
        let Some(timeout) = fields.duration("timeout-ms") else {
            return poll_every.map(|poll| poll.clamp(TIMEOUT.0, TIMEOUT.1));
        };
        let poll = poll_every?;
        let faster = fastest.filter(|(every, _)| *every < poll);
        let shortest = faster.as_ref().map_or(poll, |(every, _)| *every);
        let longest = shortest.max(TIMEOUT.1);
        if timeout > longest {
            let message = format!(
                "{} ms is longer than the poll interval of {} ms",
                timeout.as_millis(),
                shortest.as_millis()
            );
            let legal = format!("at most {} milliseconds for this device", longest.as_millis());
            let mut mistake = fields.mistake("timeout-ms", message).legal(legal);
            if let Some((_, place)) = faster {
                mistake = mistake.other(place, "the interval of this tag");
            }
            self.mistakes.push(mistake);
        }
        Some(timeout)
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

/// A device with its tags. Those of another family stand beside a mistake, and are left out.
pub(super) fn device_of(driver: Driver, mut parts: Parts) -> Device {
    let driver = match driver {
        Driver::Modbus(spec) => {
            let spec = Arc::unwrap_or_clone(spec);
            Driver::Modbus(Arc::new(DeviceSpec { tags: parts.registers.into(), ..spec }))
        }
        Driver::OpcUa(spec) => Driver::OpcUa(Arc::new(OpcUaSpec {
            tags: parts.nodes.into(),
            subtrees: parts.subtrees.into(),
            ..Arc::unwrap_or_clone(spec)
        })),
        Driver::Nats(spec) => {
            (parts.tags, parts.of_subtrees) = (Vec::new(), vec![super::ingest::below(&spec)]);
            Driver::Nats(spec)
        }
    };
    Device { driver, tags: parts.tags.into(), subtrees: parts.of_subtrees.into() }
}

/// Gives each device its link. `None` when one of them has none.
pub(super) fn linked(
    mut devices: Vec<Device>,
    links: Vec<Option<Arc<LinkSpec>>>,
) -> Option<Vec<Device>> {
    for (device, link) in devices.iter_mut().zip(links) {
        if let Driver::Modbus(spec) = &mut device.driver {
            // Nobody else has it yet.
            Arc::get_mut(spec)?.link = link?;
        }
    }
    Some(devices)
}
