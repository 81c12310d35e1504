//! From the configuration to running drivers, at the start and at each reload.
//!
//! # Invariants
//! - A device that did not change is not touched, nor is its connection when others that share it
//!   come or go.
//! - One change after the other: a reload waits for the one before.

use std::sync::Arc;

use tidegate_ingest::DeviceSpec as IngestSpec;
use tidegate_modbus::{Buses, ModbusDevice};
use tidegate_opcua::{DeviceSpec, TagBook};
use tidegate_translator::{Clock, Device as Translator, DeviceFuture, TagId};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::book::DeviceBook;
use super::fresh::FreshReads;
use super::modbus_tls::TlsFromFiles;
use super::roster::{Numbered, Readable, Roster};
use crate::config::{Config, Device, Driver};
use crate::names::GatewayId;
use crate::observe::health::{self, GatewayHealth};
use crate::observe::state::{Board, HealthLimits};
use crate::recorder::{Ingress, RecorderGone};
use crate::supervise::{DriverBuild, DriverId, Drivers, SupervisorGone};

/// Why devices could not be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Recorder(#[from] RecorderGone),
    #[error(transparent)]
    Supervisor(#[from] SupervisorGone),
}

/// Makes the OPC UA translator of one device: what it is told, the numbers of its tags, and where
/// those that it finds get theirs.
pub(super) type MakeOpcUa = Arc<
    dyn Fn(Arc<DeviceSpec>, Arc<[TagId]>, Arc<dyn TagBook>) -> Box<dyn Translator> + Send + Sync,
>;

/// Makes one run of a device that local applications feed, with the book of its tags.
pub(super) type MakeFeed =
    Arc<dyn Fn(Arc<IngestSpec>, Arc<dyn TagBook>, CancellationToken) -> DeviceFuture + Send + Sync>;

/// The devices that run, the gateway's own health among them.
pub(super) struct Devices {
    roster: Arc<Roster>,
    ingress: Arc<Ingress>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    buses: Arc<Buses>,
    opcua: MakeOpcUa,
    fresh: Arc<FreshReads>,
    feed: MakeFeed,
    running: Mutex<Vec<Device>>,
}

impl Devices {
    pub(super) fn new(
        roster: Roster,
        ingress: Arc<Ingress>,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
        opcua: MakeOpcUa,
        fresh: Arc<FreshReads>,
        feed: MakeFeed,
    ) -> Self {
        Self {
            roster: Arc::new(roster),
            ingress,
            board,
            clock,
            buses: Arc::new(Buses::new(Arc::new(TlsFromFiles))),
            opcua,
            fresh,
            feed,
            running: Mutex::default(),
        }
    }

    /// Makes what runs what the configuration says.
    pub(super) async fn apply(&self, config: &Config, drivers: &Drivers) -> Result<(), ApplyError> {
        let mut running = self.running.lock().await;
        let gone =
            running.iter().filter(|old| !config.devices.iter().any(|new| new.name() == old.name()));
        for device in gone {
            drivers.remove(DriverId::device(device.name())).await?;
            self.fresh.remove(device.name());
        }
        let Readable { devices, again } = self.roster.configure(config).await?;
        for Numbered { device, ids } in devices {
            let before = running.iter().find(|old| old.name() == device.name());
            let is_same = before.is_some_and(|before| before.driver == device.driver);
            if is_same && !again.contains(device.name()) {
                continue;
            }
            let id = DriverId::device(device.name());
            drivers.put(id, self.build(&device, ids)).await?;
        }
        running.clone_from(&config.devices);
        Ok(())
    }

    /// Gives the gateway's own tags their numbers, before anything is told of any tag.
    pub(super) async fn number_health(&self, gateway: &GatewayId) -> Result<(), ApplyError> {
        Ok(self.roster.number_health(gateway).await?)
    }

    /// Starts to sample the gateway's own tags.
    pub(super) async fn start_health(
        &self,
        limits: HealthLimits,
        drivers: &Drivers,
    ) -> Result<(), ApplyError> {
        let ids = self.roster.health().await;
        let (board, sink) = (Arc::clone(&self.board), Arc::clone(&self.ingress));
        let build: DriverBuild = Box::new(move |stop| {
            let health = GatewayHealth::new(Arc::clone(&board), limits, ids.clone());
            Box::new(health).run(Arc::clone(&sink) as _, stop)
        });
        drivers.put(DriverId::service(health::DEVICE), build).await?;
        Ok(())
    }

    fn build(&self, device: &Device, ids: Arc<[TagId]>) -> DriverBuild {
        let (sink, fresh) = (Arc::clone(&self.ingress), Arc::clone(&self.fresh));
        match &device.driver {
            Driver::Modbus(spec) => {
                let spec = Arc::clone(spec);
                let (clock, buses) = (Arc::clone(&self.clock), Arc::clone(&self.buses));
                Box::new(move |stop| {
                    let (spec, ids) = (Arc::clone(&spec), Arc::clone(&ids));
                    let name = spec.name.clone();
                    match ModbusDevice::new(spec, ids, Arc::clone(&clock), &buses) {
                        Ok(device) => {
                            fresh.put(device.name(), device.fresh());
                            Box::new(device).run(Arc::clone(&sink) as _, stop)
                        }
                        Err(error) => {
                            tracing::error!(device = name, "{}", crate::causes::chain(&error));
                            idle(stop)
                        }
                    }
                })
            }
            Driver::Nats(spec) => {
                // Nobody can be asked; a device of this name may have been of another kind before.
                fresh.remove(device.name());
                let (spec, make) = (Arc::clone(spec), Arc::clone(&self.feed));
                let book = DeviceBook::new(Arc::clone(&self.roster), device.driver.clone());
                let book: Arc<dyn TagBook> = Arc::new(book);
                Box::new(move |stop| make(Arc::clone(&spec), Arc::clone(&book), stop))
            }
            Driver::OpcUa(spec) => {
                let (spec, make) = (Arc::clone(spec), Arc::clone(&self.opcua));
                let book = DeviceBook::new(Arc::clone(&self.roster), device.driver.clone());
                let book: Arc<dyn TagBook> = Arc::new(book);
                Box::new(move |stop| {
                    let device = make(Arc::clone(&spec), Arc::clone(&ids), Arc::clone(&book));
                    fresh.put(device.name(), device.fresh());
                    device.run(Arc::clone(&sink) as _, stop)
                })
            }
        }
    }
}

fn idle(stop: CancellationToken) -> DeviceFuture {
    Box::pin(async move { stop.cancelled().await })
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
