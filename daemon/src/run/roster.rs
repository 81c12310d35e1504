//! Which tags there are: those of the configuration, the gateway's own, and those that drivers
//! found. Status, live plane and recorder are told of them all, at each change.
//!
//! # Invariants
//! - A tag has its number before its first sample, and its number is in the record before that.
//! - Drivers are neither started nor ended while this is locked, so that a driver that defines its
//!   tags can always be ended.
//! - What a driver of a former configuration finds changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidegate_opcua::{Collect, FoundTag, Learned};
use tidegate_record::catalog::{CatalogError, Definition};
use tidegate_translator::{TagId, TagPath, ValueKind};
use tokio::sync::Mutex;

use super::found::{self, Found};
use crate::by_tag::Counted;
use crate::config::{Config, Deadband, Device, Driver, Manner, RecordMode, Tag};
use crate::live::{LiveQueue, LiveTag};
use crate::names::GatewayId;
use crate::observe::health::{self, HealthTag};
use crate::observe::state::{Alive, Board, DeviceMeta, TagMeta};
use crate::recorder::{Handle, Ingress, RecorderGone};
use crate::shared::Recent;

/// The alarm for more tags than the catalog takes.
const CATALOG_FULL: &str = "catalog-full";
/// The alarm for found tags whose paths others have.
const PATHS_TAKEN: &str = "found-paths-taken";

/// Twice an unanswered keep-alive read and the wait before it (2 s), and then some: the driver of a
/// device that speaks only when something changes says at each of them that it lives.
const KEEP_ALIVES: Duration = Duration::from_secs(7);

/// A device and the numbers of its tags.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    pub(super) device: Device,
    pub(super) ids: Arc<[TagId]>,
}

/// What can be read.
#[derive(Debug)]
pub(super) struct Readable {
    pub(super) devices: Vec<Numbered>,
    /// Those whose drivers must find their tags again, though nothing of them changed.
    pub(super) again: BTreeSet<Arc<str>>,
}

/// All tags; shared by whoever changes them.
pub(super) struct Roster {
    ingress: Arc<Ingress>,
    live: Arc<LiveQueue>,
    recorder: Handle,
    board: Arc<Board>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    devices: Vec<Numbered>,
    health: Vec<(TagId, TagPath)>,
    found: BTreeMap<Arc<str>, Found>,
    /// Why some of a device's found tags are left out.
    left_out: BTreeMap<Arc<str>, String>,
    /// What a device's server said of its configured tags.
    kinds: BTreeMap<Arc<str>, HashMap<TagId, ValueKind>>,
}

impl Roster {
    pub(super) fn new(
        ingress: Arc<Ingress>,
        live: Arc<LiveQueue>,
        recorder: Handle,
        board: Arc<Board>,
    ) -> Self {
        Self { ingress, live, recorder, board, known: Mutex::default() }
    }

    /// Gives the gateway's own tags their numbers, before anything is told of any tag.
    pub(super) async fn number_health(&self, gateway: &GatewayId) -> Result<(), RecorderGone> {
        let Ok(paths) = health::paths(gateway) else { return Ok(()) };
        let definitions = paths.iter().zip(health::TAGS).map(|(path, tag)| Definition {
            path: path.clone(),
            kind: tag.kind,
            unit: tag.unit.map(Arc::from),
            device: health::DEVICE.into(),
            address: tag.name.into(),
            source: health::DEVICE.into(),
        });
        let numbers = self.recorder.define(definitions.collect::<Vec<_>>()).await?;
        let Ok(ids) = numbers.into_iter().collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        self.recorder.set_quiet_tags(ids.iter().copied().collect()).await;
        self.known.lock().await.health = ids.into_iter().zip(paths).collect();
        Ok(())
    }

    /// The numbers of the gateway's own tags.
    pub(super) async fn health(&self) -> Vec<TagId> {
        self.known.lock().await.health.iter().map(|(id, _)| *id).collect()
    }

    /// Makes the tags what the configuration says, and tells of them.
    pub(super) async fn configure(&self, config: &Config) -> Result<Readable, RecorderGone> {
        let mut known = self.known.lock().await;
        let devices = self.number(config).await?;
        let again = known.change_to(devices.clone());
        self.tell(&known);
        self.tell_left_out(&known);
        Ok(Readable { devices, again })
    }

    async fn number(&self, config: &Config) -> Result<Vec<Numbered>, RecorderGone> {
        let count = config.devices.iter().map(|device| device.tags.len()).sum();
        let definitions = config.devices.clone().into_iter().flat_map(definitions);
        let definitions = Counted::new(definitions, count);
        let mut numbers = self.recorder.define(definitions).await?.into_iter();
        let mut out = Vec::with_capacity(config.devices.len());
        for device in &config.devices {
            let ids: Vec<_> = numbers.by_ref().take(device.tags.len()).collect();
            match ids.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(ids) => out.push(Numbered { device: device.clone(), ids: ids.into() }),
                Err(error) => {
                    tracing::error!(device = device.name(), "not polled: {error}");
                    self.board.raise(CATALOG_FULL, error.to_string());
                }
            }
        }
        Ok(out)
    }

    /// Gives what a driver found its numbers, in place of what it found before.
    pub(super) async fn define(
        &self,
        name: &Arc<str>,
        driver: &Driver,
        tags: Vec<FoundTag>,
    ) -> Vec<Option<TagId>> {
        let mut known = self.known.lock().await;
        let nothing = vec![None; tags.len()];
        let Some(device) = known.of_driver(name, driver).map(|it| it.device.clone()) else {
            return nothing;
        };
        if let Some(ids) = known.found.get(name).and_then(|found| found.known(&tags)) {
            return ids;
        }
        let (taken, conflicts) = found::accepted(&device, &tags, known.paths_beside(name));
        let chosen = tags.iter().zip(&taken).filter(|(_, taken)| **taken);
        let definitions: Vec<_> =
            chosen.filter_map(|(tag, _)| found_definition(name, &device, tag)).collect();
        let Ok(numbers) = self.recorder.define(definitions).await else { return nothing };
        let mut numbers = numbers.into_iter();
        let mut failed = None;
        let number = |taken: &bool| match taken.then(|| numbers.next()).flatten()? {
            Ok(id) => Some(id),
            Err(error) => {
                failed = Some(error);
                None
            }
        };
        let ids: Vec<Option<TagId>> = taken.iter().map(number).collect();
        if let Some(error) = &failed {
            self.tell_unnumbered(name, error);
        }
        match found::told(name, &conflicts) {
            Some(text) => {
                if known.left_out.insert(Arc::clone(name), text.clone()).as_ref() != Some(&text) {
                    tracing::warn!(device = %name, alarm = PATHS_TAKEN, "{text}");
                }
            }
            None => {
                known.left_out.remove(name);
            }
        }
        known.found.insert(Arc::clone(name), Found::defined(tags, ids.clone(), failed.is_some()));
        self.tell(&known);
        self.tell_left_out(&known);
        ids
    }

    /// Keeps in the catalog what a server said of configured tags, where that is new.
    pub(super) async fn learn(&self, name: &Arc<str>, driver: &Driver, learned: Vec<Learned>) {
        let mut known = self.known.lock().await;
        let Some(Numbered { device, ids }) = known.of_driver(name, driver).cloned() else { return };
        let before = known.kinds.entry(Arc::clone(name)).or_default();
        let is_new = |it: &Learned| before.get(&it.tag) != Some(&it.kind);
        let kinds: HashMap<TagId, ValueKind> =
            learned.into_iter().filter(is_new).map(|it| (it.tag, it.kind)).collect();
        let changed: Vec<_> = (0..)
            .zip(ids.iter())
            .filter_map(|(index, id)| {
                let kind = *kinds.get(id)?;
                Some((*id, Definition { kind, ..definition(name, &device, index)? }))
            })
            .collect();
        if changed.is_empty() {
            return;
        }
        let tags: Vec<TagId> = changed.iter().map(|(id, _)| *id).collect();
        let definitions: Vec<_> = changed.into_iter().map(|(_, definition)| definition).collect();
        // Where the recorder has ended, so has the daemon.
        let Ok(numbers) = self.recorder.define(definitions).await else { return };
        for (tag, number) in tags.into_iter().zip(numbers) {
            match (number, kinds.get(&tag)) {
                (Ok(_), Some(kind)) => {
                    before.insert(tag, *kind);
                }
                (Err(error), _) => self.tell_unnumbered(name, &error),
                (Ok(_), None) => {}
            }
        }
    }

    fn tell_unnumbered(&self, name: &str, error: &CatalogError) {
        tracing::error!(device = name, alarm = CATALOG_FULL, "a found tag is left out: {error}");
        self.board.raise(CATALOG_FULL, error.to_string());
    }

    fn tell_left_out(&self, known: &Known) {
        if known.left_out.is_empty() {
            self.board.clear(PATHS_TAKEN);
        } else {
            let texts: Vec<&str> = known.left_out.values().map(String::as_str).collect();
            self.board.raise(PATHS_TAKEN, texts.join("; "));
        }
    }

    /// Tells status, live plane and recorder of every tag, before the first sample comes.
    fn tell(&self, known: &Known) {
        let metas = known
            .devices
            .iter()
            .map(|n| DeviceMeta { name: n.device.name().into(), alive: alive(&n.device) });
        let mut manners = Recent::default();
        let below: Vec<_> = known.below().map(|it| (it.manner(&mut manners), it)).collect();
        // One after the other and nothing in lists of their own: there may be 50,000.
        let found = || below.iter().map(|(manner, it)| it.told(manner));
        let tags = || known.configured().chain(found());
        let of_tags = tags().map(|tag| TagMeta {
            id: tag.id,
            path: tag.path.clone(),
            unit: tag.manner.unit.clone(),
            device: tag.device,
            fresh_for: tag.fresh_for,
        });
        let live = tags().map(|tag| LiveTag {
            id: tag.id,
            path: tag.path.clone(),
            device: tag.device,
            manner: Arc::clone(tag.manner),
            // Without an end to its freshness it is told only when it changes.
            on_change: tag.fresh_for.is_none(),
        });
        let own = || known.health.iter().zip(health::TAGS);
        let own_metas = own().map(|((id, path), tag)| own_meta(*id, path, tag));
        let own_live = own().map(|((id, path), tag)| own_live(*id, path, tag));
        // The gateway itself is no device that could be down: it has tags, and no row. Its tags
        // have the lower numbers.
        let configured = known.devices.iter().map(|n| n.ids.len()).sum::<usize>();
        let count = known.health.len() + configured + below.len();
        self.board.configure(metas, Counted::new(own_metas.chain(of_tags), count));
        self.live.set_tags(Counted::new(own_live.chain(live), count));
        let on_change = tags().filter(|tag| tag.manner.record == RecordMode::Changes);
        self.ingress.record_on_change(on_change.map(|tag| tag.id));
        self.ingress.set_owners(tags().map(|tag| (tag.id, tag.device)));
    }
}

/// What the rest of the daemon is told of one tag.
struct Told<'k> {
    id: TagId,
    path: &'k TagPath,
    manner: &'k Arc<Manner>,
    device: Arc<str>,
    fresh_for: Option<Duration>,
}

/// A tag that was found, and what is configured of its subtree.
struct Below<'k> {
    id: TagId,
    tag: &'k FoundTag,
    subtree: &'k Tag,
    device: &'k Arc<str>,
    fresh_for: Option<Duration>,
}

impl Below<'_> {
    /// As its subtree is treated; where that has no unit, with the server's.
    fn manner(&self, manners: &mut Recent<Manner>) -> Arc<Manner> {
        let manner = &self.subtree.manner;
        if manner.unit == unit(self.tag, self.subtree) {
            return Arc::clone(manner);
        }
        manners.one_of(Manner { unit: unit(self.tag, self.subtree), ..(**manner).clone() })
    }

    fn told<'t>(&'t self, manner: &'t Arc<Manner>) -> Told<'t> {
        let Self { id, tag, fresh_for, .. } = *self;
        Told { id, path: &tag.path, manner, device: Arc::clone(self.device), fresh_for }
    }
}

impl Known {
    /// Returns the devices whose drivers must find their tags again.
    fn change_to(&mut self, numbered: Vec<Numbered>) -> BTreeSet<Arc<str>> {
        let before = std::mem::replace(&mut self.devices, numbered);
        let find = |name: &str| before.iter().find(|n| n.device.name() == name);
        let kept = std::mem::take(&mut self.found);
        for (name, found) in kept {
            if let (Some(old), Some(new)) = (find(&name), self.named(&name)) {
                let found = found.carried(&old.device, &new.device);
                self.found.insert(name, found);
            }
        }
        // Another address is another value: what was said of the one before does not count.
        let mut kinds = std::mem::take(&mut self.kinds);
        kinds.retain(|name, _| {
            let driver = |n: Option<&Numbered>| n.map(|n| n.device.driver.clone());
            self.named(name).is_some() && driver(find(name)) == driver(self.named(name))
        });
        self.kinds = kinds;
        self.left_out.clear();
        let mut again = BTreeSet::new();
        let names: Vec<Arc<str>> = self.found.keys().map(Arc::clone).collect();
        for name in names {
            let Some((device, found)) = self.named(&name).zip(self.found.get(&name)) else {
                continue;
            };
            let others = self.paths_beside(&name);
            let (taken, conflicts) = found::accepted(&device.device, found.tags(), others);
            self.left_out
                .extend(found::told(&name, &conflicts).map(|text| (Arc::clone(&name), text)));
            if self.found.get_mut(&name).is_some_and(|found| found.leave_out(&taken)) {
                again.insert(name);
            }
        }
        again
    }

    fn named(&self, name: &str) -> Option<&Numbered> {
        self.devices.iter().find(|n| n.device.name() == name)
    }

    /// A device as long as this is what its driver was made of.
    fn of_driver(&self, name: &str, driver: &Driver) -> Option<&Numbered> {
        self.named(name).filter(|n| n.device.driver == *driver)
    }

    /// Every path with its owner but those that `name` found.
    fn paths_beside(&self, name: &str) -> impl Iterator<Item = (&TagPath, &str)> {
        let configured = self
            .devices
            .iter()
            .flat_map(|n| n.device.tags.iter().map(|tag| (&tag.path, n.device.name())));
        let own = self.health.iter().map(|(_, path)| (path, health::DEVICE));
        let others = self.found.iter().filter(move |(other, _)| &***other != name);
        let found = others
            .flat_map(|(other, found)| found.taken().map(move |(_, tag)| (&tag.path, &**other)));
        own.chain(configured).chain(found)
    }

    fn configured(&self) -> impl Iterator<Item = Told<'_>> {
        self.devices.iter().flat_map(|n| {
            let device: Arc<str> = n.device.name().into();
            let each = n.ids.iter().zip(n.device.tags.iter()).enumerate();
            each.map(move |(index, (id, tag))| Told {
                id: *id,
                path: &tag.path,
                manner: &tag.manner,
                device: Arc::clone(&device),
                fresh_for: fresh_for(&n.device, n.device.interval(index)),
            })
        })
    }

    fn below(&self) -> impl Iterator<Item = Below<'_>> {
        self.found.iter().flat_map(|(name, found)| {
            let device = self.named(name).map(|n| &n.device);
            found.taken().filter_map(move |(id, tag)| {
                let subtree = device?.subtrees.get(tag.subtree)?;
                let fresh_for = fresh_for(device?, subtree_interval(device?, tag.subtree));
                Some(Below { id, tag, subtree, device: name, fresh_for })
            })
        })
    }
}

fn own_meta(id: TagId, path: &TagPath, tag: &HealthTag) -> TagMeta {
    let unit = tag.unit.map(Arc::from);
    TagMeta { id, path: path.clone(), unit, device: health::DEVICE.into(), fresh_for: None }
}

/// One of the gateway's own tags. It is offered only when it moved, so nothing is held back.
fn own_live(id: TagId, path: &TagPath, tag: &HealthTag) -> LiveTag {
    let manner = Arc::new(Manner {
        unit: tag.unit.map(Arc::from),
        deadband: Deadband::None,
        max_silence: health::MAX_SILENCE,
        record: RecordMode::All,
    });
    let device = health::DEVICE.into();
    LiveTag { id, path: path.clone(), device, manner, on_change: true }
}

/// Whether the device tells only what changes.
fn is_subscribed(device: &Device) -> bool {
    match &device.driver {
        Driver::OpcUa(spec) => spec.collect == Collect::Subscribe,
        Driver::Nats(_) => true,
        Driver::Modbus(_) => false,
    }
}

fn alive(device: &Device) -> Alive {
    if is_subscribed(device) {
        return Alive::ByDriver(device.timeout().saturating_mul(2).saturating_add(KEEP_ALIVES));
    }
    Alive::ByData(polled_for(device, shortest_interval(device)))
}

/// How long a reading stays what it was; `None` where an unchanged value is not told again.
fn fresh_for(device: &Device, interval: Duration) -> Option<Duration> {
    (!is_subscribed(device)).then(|| polled_for(device, interval))
}

/// Two poll intervals and the time that one answer may take.
fn polled_for(device: &Device, interval: Duration) -> Duration {
    interval.saturating_mul(2).saturating_add(device.timeout())
}

/// The interval at which anything is heard of a device.
fn shortest_interval(device: &Device) -> Duration {
    let of_tags = (0..device.tags.len()).map(|tag| device.interval(tag));
    let of_subtrees = (0..device.subtrees.len()).map(|at| subtree_interval(device, at));
    of_tags.chain(of_subtrees).min().unwrap_or_else(|| device.poll_every())
}

/// The interval at which what is found below a subtree is read.
fn subtree_interval(device: &Device, subtree: usize) -> Duration {
    let subtree = device.opcua().and_then(|spec| spec.subtrees.get(subtree));
    subtree.and_then(|it| it.item.sample_every).unwrap_or_else(|| device.poll_every())
}

/// The unit that is configured, else the server's.
fn unit(tag: &FoundTag, subtree: &Tag) -> Option<Arc<str>> {
    subtree.manner.unit.clone().or_else(|| tag.unit.clone())
}

fn definitions(device: Device) -> impl Iterator<Item = Definition> {
    let name: Arc<str> = device.name().into();
    (0..device.tags.len()).filter_map(move |index| definition(&name, &device, index))
}

/// A configured tag for the catalog.
fn definition(name: &Arc<str>, device: &Device, index: usize) -> Option<Definition> {
    let tag = device.tags.get(index)?;
    Some(Definition {
        path: tag.path.clone(),
        kind: device.value_kind(index),
        unit: tag.manner.unit.clone(),
        device: Arc::clone(name),
        address: Arc::clone(&tag.address),
        source: Arc::clone(name),
    })
}

/// A tag that was found, for the catalog.
fn found_definition(name: &Arc<str>, device: &Device, tag: &FoundTag) -> Option<Definition> {
    Some(Definition {
        path: tag.path.clone(),
        kind: tag.kind,
        unit: unit(tag, device.subtrees.get(tag.subtree)?),
        device: Arc::clone(name),
        address: Arc::clone(&tag.address),
        source: Arc::clone(name),
    })
}
