//! From the configuration to running drivers, at the start and at each reload.
//!
//! # Invariants
//! - A device that did not change is not touched, nor is its connection when others that share it
//!   come or go.
//! - A tag has its number before its first sample, and its number is in the record before that.

use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{Buses, ModbusDevice};
use tidegate_record::catalog::Definition;
use tidegate_translator::{Clock, Device as _, TagId, TagPath};
use tokio::sync::Mutex;

use crate::by_tag::Counted;
use crate::config::{Config, Deadband, Device, Driver, Manner, RecordMode};
use crate::live::{LiveQueue, LiveTag};
use crate::names::GatewayId;
use crate::observe::health::{self, GatewayHealth, HealthTag};
use crate::observe::state::{Board, DeviceMeta, HealthLimits, TagMeta};
use crate::recorder::{Handle, Ingress, RecorderGone};
use crate::run::modbus_tls::TlsFromFiles;
use crate::supervise::{DriverBuild, DriverId, Drivers, SupervisorGone};

/// Why devices could not be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Recorder(#[from] RecorderGone),
    #[error(transparent)]
    Supervisor(#[from] SupervisorGone),
}

/// The devices that run, the gateway's own health among them.
pub(super) struct Devices {
    ingress: Arc<Ingress>,
    live: Arc<LiveQueue>,
    recorder: Handle,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    buses: Arc<Buses>,
    running: Mutex<Vec<Device>>,
    health: Mutex<Vec<(TagId, TagPath)>>,
}

/// A device and the numbers of its tags.
struct Numbered<'c> {
    device: &'c Device,
    ids: Vec<TagId>,
}

impl Devices {
    pub(super) fn new(
        ingress: Arc<Ingress>,
        live: Arc<LiveQueue>,
        recorder: Handle,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            ingress,
            live,
            recorder,
            board,
            clock,
            buses: Arc::new(Buses::new(Arc::new(TlsFromFiles))),
            running: Mutex::default(),
            health: Mutex::default(),
        }
    }

    /// Makes what runs what the configuration says.
    pub(super) async fn apply(&self, config: &Config, drivers: &Drivers) -> Result<(), ApplyError> {
        let mut running = self.running.lock().await;
        let numbered = self.number(config).await?;
        let gone =
            running.iter().filter(|old| !config.devices.iter().any(|new| new.name() == old.name()));
        for device in gone {
            drivers.remove(DriverId::device(device.name())).await?;
        }
        self.tell(&numbered, &self.health.lock().await);
        for Numbered { device, ids } in numbered {
            let before = running.iter().find(|old| old.name() == device.name());
            if before.is_some_and(|before| before.driver == device.driver) {
                continue;
            }
            let id = DriverId::device(device.name());
            drivers.put(id, self.build(device, ids)).await?;
        }
        running.clone_from(&config.devices);
        Ok(())
    }

    /// Gives the gateway's own tags their numbers, before anything is told of any tag.
    pub(super) async fn number_health(&self, gateway: &GatewayId) -> Result<(), ApplyError> {
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
        *self.health.lock().await = ids.into_iter().zip(paths).collect();
        Ok(())
    }

    /// Starts to sample the gateway's own tags.
    pub(super) async fn start_health(
        &self,
        limits: HealthLimits,
        drivers: &Drivers,
    ) -> Result<(), ApplyError> {
        let ids: Vec<_> = self.health.lock().await.iter().map(|(id, _)| *id).collect();
        let (board, sink) = (Arc::clone(&self.board), Arc::clone(&self.ingress));
        let build: DriverBuild = Box::new(move |stop| {
            let health = GatewayHealth::new(Arc::clone(&board), limits, ids.clone());
            Box::new(health).run(Arc::clone(&sink) as _, stop)
        });
        drivers.put(DriverId::service(health::DEVICE), build).await?;
        Ok(())
    }

    async fn number<'c>(&self, config: &'c Config) -> Result<Vec<Numbered<'c>>, ApplyError> {
        let count = config.devices.iter().map(|device| device.tags.len()).sum();
        let definitions = config.devices.clone().into_iter().flat_map(definitions);
        let definitions = Counted::new(definitions, count);
        let mut numbers = self.recorder.define(definitions).await?.into_iter();
        let mut out = Vec::with_capacity(config.devices.len());
        for device in &config.devices {
            let ids: Vec<_> = numbers.by_ref().take(device.tags.len()).collect();
            match ids.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(ids) => out.push(Numbered { device, ids }),
                Err(error) => {
                    tracing::error!(device = device.name(), "not polled: {error}");
                    self.board.raise("catalog-full", error.to_string());
                }
            }
        }
        Ok(out)
    }

    /// Tells status, live plane and recorder of every tag, before the first sample comes.
    fn tell(&self, numbered: &[Numbered<'_>], health: &[(TagId, TagPath)]) {
        let metas = numbered.iter().map(|n| DeviceMeta {
            name: n.device.name().into(),
            fresh_for: Some(fresh_for(n.device, shortest_interval(n.device))),
        });
        // One after the other and nothing in lists of its own: there may be 50,000.
        let tags = || {
            numbered.iter().flat_map(|n| {
                let device: Arc<str> = n.device.name().into();
                let each = n.ids.iter().zip(n.device.tags.iter()).enumerate();
                each.map(move |(index, (id, tag))| {
                    let fresh_for = fresh_for(n.device, n.device.interval(index));
                    (*id, fresh_for, tag, Arc::clone(&device))
                })
            })
        };
        let of_tags = tags().map(|(id, fresh_for, tag, device)| TagMeta {
            id,
            path: tag.path.clone(),
            unit: tag.manner.unit.clone(),
            device,
            fresh_for: Some(fresh_for),
        });
        let live = tags().map(|(id, _, tag, device)| LiveTag {
            id,
            path: tag.path.clone(),
            device,
            manner: Arc::clone(&tag.manner),
        });
        let own = || health.iter().zip(health::TAGS);
        let own_metas = own().map(|((id, path), tag)| own_meta(*id, path, tag));
        let own_live = own().map(|((id, path), tag)| own_live(*id, path, tag));
        // The gateway itself is no device that could be down: it has tags, and no row. Its tags
        // have the lower numbers.
        let count = health.len() + numbered.iter().map(|n| n.ids.len()).sum::<usize>();
        self.board.configure(metas, Counted::new(own_metas.chain(of_tags), count));
        self.live.set_tags(Counted::new(own_live.chain(live), count));
        let on_change = tags().filter(|(_, _, tag, _)| tag.manner.record == RecordMode::Changes);
        self.ingress.record_on_change(on_change.map(|(id, ..)| id));
        self.ingress.set_owners(tags().map(|(id, _, _, device)| (id, device)));
    }

    fn build(&self, device: &Device, ids: Vec<TagId>) -> DriverBuild {
        let Driver::Modbus(spec) = &device.driver else {
            tracing::error!(device = device.name(), "opcua is not yet read");
            return Box::new(|stop| Box::pin(async move { stop.cancelled().await }));
        };
        let (spec, ids) = (Arc::clone(spec), Arc::<[TagId]>::from(ids));
        let sink = Arc::clone(&self.ingress);
        let (clock, buses) = (Arc::clone(&self.clock), Arc::clone(&self.buses));
        Box::new(move |stop| {
            let clock = Arc::clone(&clock);
            match ModbusDevice::new(Arc::clone(&spec), Arc::clone(&ids), clock, &buses) {
                Ok(device) => Box::new(device).run(Arc::clone(&sink) as _, stop),
                Err(error) => {
                    tracing::error!(device = spec.name, "{}", crate::causes::chain(&error));
                    Box::pin(async move { stop.cancelled().await })
                }
            }
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
    LiveTag { id, path: path.clone(), device: health::DEVICE.into(), manner }
}

/// The interval at which anything is heard of a device.
fn shortest_interval(device: &Device) -> Duration {
    let of_tags = (0..device.tags.len()).map(|tag| device.interval(tag));
    of_tags.min().unwrap_or_else(|| device.poll_every())
}

/// Two poll intervals and the time that one answer may take.
fn fresh_for(device: &Device, interval: Duration) -> Duration {
    interval.saturating_mul(2).saturating_add(device.timeout())
}

fn definitions(device: Device) -> impl Iterator<Item = Definition> {
    let name: Arc<str> = device.name().into();
    (0..device.tags.len()).filter_map(move |index| {
        let tag = device.tags.get(index)?;
        Some(Definition {
            path: tag.path.clone(),
            kind: device.value_kind(index),
            unit: tag.manner.unit.clone(),
            device: Arc::clone(&name),
            address: Arc::clone(&tag.address),
            source: Arc::clone(&name),
        })
    })
}
