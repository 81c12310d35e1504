//! The latest value of each tag, and how each device is doing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_record::json::{Inexact, value_tree};
use tidegate_translator::{
    DeviceState, FaultReport, LossCause, Missed, Quality, Reason, Sample, TagId, TagPath,
    Timestamp, Value,
};
use tokio::time::Instant;

use super::Pattern;
use super::faults::{DeviceFaults, Faults, GroupReport};
use super::parts::{millis, millis_always};
use crate::bulk::text_bytes;
use crate::by_tag::ByTag;
use crate::observe::health;
use crate::shared::Recent;

/// The most tags in one page.
pub const MAX_PAGE: usize = 5000;

/// The longest value that is kept and shown, in bytes; a longer one is named.
const MAX_SHOWN_VALUE: usize = 16 * 1024;

/// A configured device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMeta {
    /// Its name.
    pub name: Arc<str>,
    /// How it is known to be alive.
    pub alive: Alive,
}

/// How a device is known to be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// By its data: without any for so long it counts as down.
    ByData(Duration),
    /// By what its driver says, at least this often: the device speaks only when something
    /// changes. When the driver falls silent the device counts as down, and nobody vouches for its
    /// values any more.
    ByDriver(Duration),
}

/// A configured tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagMeta {
    /// Its number.
    pub id: TagId,
    /// Its path.
    pub path: TagPath,
    /// Its engineering unit.
    pub unit: Option<Arc<str>>,
    /// The device that it belongs to.
    pub device: Arc<str>,
    /// How long a reading stays what it was: two poll intervals and the time one answer may take.
    /// `None` for a tag that is told only when it changes: its reading stays what it was as long as
    /// its device is alive.
    pub fresh_for: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Readings {
    devices: BTreeMap<Arc<str>, Device>,
    tags: ByTag<Tag>,
    /// The places of the tags, in the order of their paths.
    by_path: Box<[u32]>,
    /// What the ages of readings are counted from.
    origin: Option<Instant>,
    is_configured: bool,
}

#[derive(Debug)]
struct Device {
    meta: DeviceMeta,
    tags: usize,
    state: DeviceState,
    why: Option<String>,
    since: Timestamp,
    configured_at: Instant,
    /// When its driver last said anything.
    heard_at: Option<Instant>,
    data: Option<(Timestamp, Instant)>,
    missed: BTreeMap<LossCause, MissedCount>,
    restarts: u64,
    faults: Faults,
}

/// A tag, as many at a time as there are.
#[derive(Debug)]
struct Tag {
    path: TagPath,
    kin: Arc<Kin>,
    latest: Option<Latest>,
}

/// What the tags of one device have in common, or most of them.
#[derive(Debug, PartialEq)]
struct Kin {
    device: Arc<str>,
    unit: Option<Arc<str>>,
    fresh_for: Option<Duration>,
}

#[derive(Debug)]
struct Latest {
    /// `None` for one that is too long to be shown.
    value: Option<Value>,
    quality: Quality,
    /// When the value arose.
    time: Timestamp,
    /// Nanoseconds after the origin: half of what an `Instant` takes.
    at: u64,
}

/// Slots that passed without a reading, of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MissedCount {
    /// Samples that are missing.
    pub slots: u64,
    /// Reports that could not say how many samples are missing.
    pub uncounted: u64,
}

/// How a device is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// What its driver says.
    pub state: DeviceState,
    /// Why, for a person.
    pub why: Option<String>,
    /// Since when the driver says so.
    #[serde(rename = "since_ms", with = "millis_always")]
    pub since: Timestamp,
    /// When the last usable value was acquired.
    #[serde(rename = "last_data_ms", with = "millis")]
    pub last_data: Option<Timestamp>,
    /// How long ago that was by the monotonic clock, in milliseconds; `None` before the first.
    pub data_age_ms: Option<u64>,
    /// After how long without data the device counts as down, in milliseconds; `None` for one that
    /// speaks only when something changes.
    pub fresh_for_ms: Option<u64>,
    /// How long ago the driver of such a device last said anything, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_age_ms: Option<u64>,
    /// After how long without a word of its driver such a device counts as down, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_within_ms: Option<u64>,
    /// Time since it was configured, in milliseconds.
    pub configured_for_ms: u64,
    /// Its tags.
    pub tags: usize,
    /// What was missed, by cause.
    pub missed: BTreeMap<LossCause, MissedCount>,
    /// How often its driver had to be started again.
    pub restarts: u64,
}

/// How many tags of devices there are, by present quality; the gateway's own are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TagTotals {
    /// Vouched for and fresh.
    pub good: usize,
    /// Stale or inexact.
    pub uncertain: usize,
    /// No trustworthy value.
    pub bad: usize,
}

/// The latest of one tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagReport {
    /// Its path.
    pub path: String,
    /// Its device.
    pub device: String,
    /// Its engineering unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The value, as the live plane writes it.
    pub v: serde_json::Value,
    /// `good`, `uncertain` or `bad`: now, not when it was read.
    pub q: String,
    /// Why it is not good, or why the value is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When the value arose: by the device, else by its server, else by the gateway.
    #[serde(rename = "ts", with = "millis")]
    pub time: Option<Timestamp>,
    /// Age of the reading by the monotonic clock, in milliseconds.
    pub age_ms: Option<u64>,
}

/// Some of the tags.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TagPage {
    /// In the order of their paths.
    pub tags: Vec<TagReport>,
    /// The path to continue after; `None` when there are no more.
    pub next: Option<String>,
    /// Whether the daemon has only just started and does not know its tags yet.
    #[serde(default)]
    pub starting: bool,
}

fn as_millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

impl Readings {
    pub(super) fn configure(
        &mut self,
        devices: impl IntoIterator<Item = DeviceMeta>,
        tags: impl IntoIterator<Item = TagMeta>,
        now: Timestamp,
        at: Instant,
    ) {
        self.is_configured = true;
        let mut old_devices = std::mem::take(&mut self.devices);
        for meta in devices {
            let kept = old_devices.remove(&meta.name).map(|old| Device {
                meta: meta.clone(),
                tags: 0,
                ..old
            });
            let device = kept.unwrap_or_else(|| Device {
                meta: meta.clone(),
                tags: 0,
                state: DeviceState::Connecting,
                why: None,
                since: now,
                configured_at: at,
                heard_at: None,
                data: None,
                missed: BTreeMap::new(),
                restarts: 0,
                faults: Faults::default(),
            });
            self.devices.insert(meta.name, device);
        }
        let mut old = std::mem::take(&mut self.tags);
        let (mut kins, mut place) = (Recent::default(), 0);
        let fresh = tags.into_iter().map(|TagMeta { id, path, unit, device, fresh_for }| {
            if let Some(device) = self.devices.get_mut(&device) {
                device.tags += 1;
            }
            let known = old.place(id, place).inspect(|known| place = known + 1);
            // A path that moved to another device starts anew: its last value is not that one's.
            let latest = known
                .and_then(|known| old.at_mut(known))
                .filter(|old| old.kin.device == device && old.path == path)
                .and_then(|old| old.latest.take());
            (id, Tag { path, kin: kins.one_of(Kin { device, unit, fresh_for }), latest })
        });
        self.tags = fresh.collect();
        let mut by_path: Box<[u32]> = (0..).take(self.tags.len()).collect();
        by_path.sort_by(|a, b| self.path(*a).cmp(&self.path(*b)));
        self.by_path = by_path;
    }

    fn tag(&self, place: u32) -> Option<&Tag> {
        self.tags.at(usize::try_from(place).ok()?)
    }

    fn path(&self, place: u32) -> Option<&TagPath> {
        self.tag(place).map(|tag| &tag.path)
    }

    /// Returns how many samples were of unknown tags.
    pub(super) fn note(&mut self, samples: &[Sample], at: Instant) -> usize {
        let origin = *self.origin.get_or_insert(at);
        let since = nanos(at.saturating_duration_since(origin));
        let mut unknown = 0;
        let mut place = 0;
        let mut with_data: Option<Arc<str>> = None;
        for sample in samples {
            let found = self.tags.place(sample.tag, place);
            let Some(tag) = found.and_then(|found| self.tags.at_mut(found)) else {
                unknown += 1;
                continue;
            };
            place = found.map_or(0, |found| found + 1);
            tag.latest = Some(Latest {
                value: (text_bytes(&sample.value) <= MAX_SHOWN_VALUE).then(|| sample.value.clone()),
                quality: sample.quality,
                time: sample.time(),
                at: since,
            });
            // A batch is one device's poll, so this look-up happens about once.
            let is_data = !matches!(sample.quality, Quality::Bad(_));
            if is_data && with_data.as_ref() != Some(&tag.kin.device) {
                if let Some(device) = self.devices.get_mut(&tag.kin.device) {
                    device.data = Some((sample.acquired, at));
                }
                with_data = Some(Arc::clone(&tag.kin.device));
            }
        }
        unknown
    }

    pub(super) fn note_missed(&mut self, missed: &Missed) {
        let Some(device) = self.devices.get_mut(&missed.device) else { return };
        let count = device.missed.entry(missed.cause).or_default();
        match missed.count {
            Some(slots) => count.slots = count.slots.saturating_add(slots),
            None => count.uncounted = count.uncounted.saturating_add(1),
        }
    }

    pub(super) fn note_state(
        &mut self,
        device: &str,
        state: DeviceState,
        why: Option<String>,
        now: Timestamp,
        at: Instant,
    ) {
        let Some(device) = self.devices.get_mut(device) else { return };
        device.heard_at = Some(at);
        if device.state != state {
            device.since = now;
        }
        device.state = state;
        device.why = why;
    }

    pub(super) fn note_restart(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.restarts = device.restarts.saturating_add(1);
        }
    }

    pub(super) fn note_fault(&mut self, device: &str, fault: FaultReport) {
        if let Some(device) = self.devices.get_mut(device) {
            device.faults.note(fault);
        }
    }

    /// The black box of a device; `None` when no such device is configured.
    pub(super) fn faults(&self, device: &str, at: Instant) -> Option<DeviceFaults> {
        let (faults, dropped) = self.devices.get(device)?.faults.report();
        let now = Now { since_origin: self.since_origin(at), at };
        let mut groups: BTreeMap<Option<u64>, GroupReport> = BTreeMap::new();
        for tag in self.tags.values().filter(|tag| &*tag.kin.device == device) {
            let fresh_for_ms = tag.kin.fresh_for.map(as_millis);
            let group = groups.entry(fresh_for_ms).or_insert(GroupReport {
                fresh_for_ms,
                tags: 0,
                good: 0,
                data_age_ms: None,
                oldest_ms: None,
            });
            group.tags += 1;
            group.good += usize::from(self.quality(tag, now).is_good());
            if let Some(age) = tag.age_ms(now) {
                let youngest = group.data_age_ms.map_or(age, |known| known.min(age));
                group.data_age_ms = Some(youngest);
                group.oldest_ms = Some(group.oldest_ms.map_or(age, |known| known.max(age)));
            }
        }
        let groups = groups.into_values().collect();
        Some(DeviceFaults { device: device.to_owned(), groups, faults, dropped })
    }

    pub(super) fn devices(&self, at: Instant) -> Vec<DeviceReport> {
        self.devices.values().map(|device| device.report(at)).collect()
    }

    pub(super) fn totals(&self, at: Instant) -> TagTotals {
        let mut totals = TagTotals::default();
        let now = Now { since_origin: self.since_origin(at), at };
        for tag in self.tags.values().filter(|tag| !tag.is_own()) {
            match self.quality(tag, now) {
                Quality::Good => totals.good += 1,
                Quality::Uncertain(_) => totals.uncertain += 1,
                Quality::Bad(_) => totals.bad += 1,
            }
        }
        totals
    }

    pub(super) fn page(
        &self,
        pattern: &Pattern,
        after: Option<&str>,
        limit: usize,
        at: Instant,
    ) -> TagPage {
        let limit = limit.clamp(1, MAX_PAGE);
        // A cursor that is no path stands before every path.
        let after = after.and_then(|path| TagPath::new(path).ok());
        let start = self.by_path.partition_point(|place| self.path(*place) <= after.as_ref());
        let now = Now { since_origin: self.since_origin(at), at };
        let rest = self.by_path.get(start..).unwrap_or_default();
        let mut matching = rest
            .iter()
            .filter_map(|place| self.tag(*place))
            .filter(|tag| pattern.matches(tag.path.as_str()))
            .filter(|tag| !tag.is_own() || tag.latest.is_some());
        let report = |tag: &Tag| tag.report(self.quality(tag, now), now);
        let tags: Vec<TagReport> = matching.by_ref().take(limit).map(report).collect();
        let next = matching.next().and(tags.last()).map(|last| last.path.clone());
        TagPage { tags, next, starting: !self.is_configured }
    }

    /// See [`super::Board::paths`].
    pub(super) fn paths(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(TagId, TagPath)> {
        let is_before = |place: &u32| {
            let path = self.path(*place).map_or("", TagPath::as_str);
            path < prefix || after.is_some_and(|after| path <= after)
        };
        let start = self.by_path.partition_point(is_before);
        let rest = self.by_path.get(start..).unwrap_or_default();
        let listed = |place: &u32| {
            let place = usize::try_from(*place).ok()?;
            let tag = self.tags.at(place)?;
            tag.path.as_str().starts_with(prefix).then_some(())?;
            Some((self.tags.id_at(place)?, tag))
        };
        rest.iter()
            .map_while(listed)
            .filter(|(_, tag)| !tag.is_own() || tag.latest.is_some())
            .map(|(id, tag)| (id, tag.path.clone()))
            .take(limit)
            .collect()
    }

    /// See [`super::Board::reports_of`].
    pub(super) fn reports_of(&self, tags: &[TagId], at: Instant) -> Vec<TagReport> {
        let now = Now { since_origin: self.since_origin(at), at };
        let mut near = 0;
        let report = |id: &TagId| {
            let place = self.tags.place(*id, near)?;
            near = place + 1;
            let tag = self.tags.at(place)?;
            Some(tag.report(self.quality(tag, now), now))
        };
        tags.iter().filter_map(report).collect()
    }

    pub(super) const fn is_configured(&self) -> bool {
        self.is_configured
    }

    /// The quality now: a reading that should have been renewed long ago is stale, and so is one
    /// of a device whose driver fell silent.
    fn quality(&self, tag: &Tag, now: Now) -> Quality {
        let Some(latest) = &tag.latest else { return Quality::Bad(Reason::NotConnected) };
        if matches!(latest.quality, Quality::Bad(_)) {
            return latest.quality;
        }
        let is_stale = match tag.kin.fresh_for {
            Some(fresh_for) => latest.age(now) > fresh_for,
            None => self.devices.get(&tag.kin.device).is_some_and(|device| device.is_mute(now.at)),
        };
        if is_stale { Quality::Bad(Reason::Stale) } else { latest.quality }
    }

    pub(super) fn latest(&self, tags: impl IntoIterator<Item = TagId>, at: Instant) -> Vec<Sample> {
        let now = Now { since_origin: self.since_origin(at), at };
        let mut near = 0;
        let sample = |id| {
            let place = self.tags.place(id, near)?;
            near = place + 1;
            let tag = self.tags.at(place)?;
            let latest = tag.latest.as_ref()?;
            Some(Sample {
                tag: id,
                acquired: latest.time,
                source: None,
                server: None,
                status: 0,
                quality: self.quality(tag, now),
                value: latest.value.clone()?,
            })
        };
        tags.into_iter().filter_map(sample).collect()
    }

    pub(super) fn owners(&self, tags: impl IntoIterator<Item = TagId>) -> Vec<Option<Arc<str>>> {
        let mut near = 0;
        let owner = |id| {
            let place = self.tags.place(id, near)?;
            near = place + 1;
            Some(Arc::clone(&self.tags.at(place)?.kin.device))
        };
        tags.into_iter().map(owner).collect()
    }

    /// Nanoseconds; 0 before the first reading, when no tag has an age.
    fn since_origin(&self, at: Instant) -> u64 {
        self.origin.map_or(0, |origin| nanos(at.saturating_duration_since(origin)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The moment at which readings are looked at.
#[derive(Debug, Clone, Copy)]
struct Now {
    /// Nanoseconds.
    since_origin: u64,
    at: Instant,
}

impl Device {
    /// Since when nothing was heard of its driver.
    fn silent_since(&self) -> Instant {
        let data = self.data.map(|(_, at)| at);
        data.into_iter().chain(self.heard_at).max().unwrap_or(self.configured_at)
    }

    /// Whether its driver should have said something long ago.
    fn is_mute(&self, at: Instant) -> bool {
        match self.meta.alive {
            Alive::ByData(_) => false,
            Alive::ByDriver(within) => at.duration_since(self.silent_since()) > within,
        }
    }

    fn report(&self, at: Instant) -> DeviceReport {
        let (fresh_for, heard_within) = match self.meta.alive {
            Alive::ByData(fresh_for) => (Some(fresh_for), None),
            Alive::ByDriver(within) => (None, Some(within)),
        };
        let silent = as_millis(at.duration_since(self.silent_since()));
        DeviceReport {
            name: self.meta.name.to_string(),
            state: self.state,
            why: self.why.clone(),
            since: self.since,
            last_data: self.data.map(|(time, _)| time),
            data_age_ms: self.data.map(|(_, then)| as_millis(at.duration_since(then))),
            fresh_for_ms: fresh_for.map(as_millis),
            heard_age_ms: heard_within.map(|_| silent),
            heard_within_ms: heard_within.map(as_millis),
            configured_for_ms: as_millis(at.duration_since(self.configured_at)),
            tags: self.tags,
            missed: self.missed.clone(),
            restarts: self.restarts,
        }
    }
}

impl Tag {
    /// Whether it tells of the gateway itself. Such a tag is listed once it has a value: without
    /// a hub, for one, there is no backlog, and that is not bad.
    fn is_own(&self) -> bool {
        &*self.kin.device == health::DEVICE
    }

    fn age_ms(&self, now: Now) -> Option<u64> {
        self.latest.as_ref().map(|latest| as_millis(latest.age(now)))
    }

    fn report(&self, quality: Quality, now: Now) -> TagReport {
        let (v, oddity) = match &self.latest {
            Some(Latest { value: Some(value), .. }) => {
                let (tree, inexact) = value_tree(value);
                (tree, inexact.map(Inexact::word))
            }
            Some(Latest { value: None, .. }) => (serde_json::Value::Null, Some("too-long-to-show")),
            None => (serde_json::Value::Null, None),
        };
        let why = quality.reason().map(Reason::word).or(oddity);
        TagReport {
            path: self.path.to_string(),
            device: self.kin.device.to_string(),
            unit: self.kin.unit.as_ref().map(ToString::to_string),
            v,
            q: quality.word().to_owned(),
            why: why.map(str::to_owned),
            time: self.latest.as_ref().map(|latest| latest.time),
            age_ms: self.age_ms(now),
        }
    }
}

impl Latest {
    fn age(&self, now: Now) -> Duration {
        Duration::from_nanos(now.since_origin.saturating_sub(self.at))
    }
}
