//! A configured Modbus device.

use std::sync::Arc;

use tidegate_translator::{
    CancellationToken, Clock, Device, DeviceFuture, Reading, ReadingFuture, Sink, TagId,
};
use tokio::time::Instant;

use crate::blocks::Blocks;
use crate::book::Book;
use crate::bus::Bus;
use crate::buses::Buses;
use crate::dial::Dialer;
use crate::grid::{Backoff, Grid, hash};
use crate::once::read_once;
use crate::plan::{Plan, PlanError};
use crate::poller::Poller;
use crate::spec::DeviceSpec;
use crate::voice::Voice;

/// One Modbus device, ready to be polled.
#[derive(Clone)]
pub struct ModbusDevice {
    name: Arc<str>,
    spec: Arc<DeviceSpec>,
    ids: Arc<[TagId]>,
    plan: Plan,
    bus: Arc<Bus>,
    clock: Arc<dyn Clock>,
}

/// Why a device cannot be polled as it is described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Tags that no request can read.
    #[error("device {device}: {} tags cannot be read, the first: {first}", .more + 1)]
    UnreadableTags {
        /// Whose tags.
        device: String,
        /// What is wrong with the first one.
        first: PlanError,
        /// How many more there are.
        more: usize,
    },
    /// The catalog numbers are not as many as the tags.
    #[error("device {device} has {tags} tags and {ids} catalog numbers; each tag needs one")]
    TagIds {
        /// Whose tags.
        device: String,
        /// How many tags.
        tags: usize,
        /// How many numbers.
        ids: usize,
    },
}

impl ModbusDevice {
    /// A device on the bus that its link names. `ids` are the catalog numbers of `spec.tags`, in
    /// their order.
    ///
    /// # Errors
    /// When a tag cannot be read as it is described, or the numbers are not as many as the tags.
    pub fn new(
        spec: impl Into<Arc<DeviceSpec>>,
        ids: impl Into<Arc<[TagId]>>,
        clock: Arc<dyn Clock>,
        buses: &Buses,
    ) -> Result<Self, DeviceError> {
        let (spec, ids) = (spec.into(), ids.into());
        let device = || spec.name.clone();
        if ids.len() != spec.tags.len() {
            let (tags, ids) = (spec.tags.len(), ids.len());
            return Err(DeviceError::TagIds { device: device(), tags, ids });
        }
        let plan = match Plan::new(&spec) {
            Ok(plan) => plan,
            Err(errors) => {
                let more = errors.len().saturating_sub(1);
                let Some(first) = errors.into_iter().next() else {
                    return Err(DeviceError::TagIds { device: device(), tags: 0, ids: 0 });
                };
                return Err(DeviceError::UnreadableTags { device: device(), first, more });
            }
        };
        let name = spec.name.as_str().into();
        let bus = buses.bus(&spec.link);
        Ok(Self { name, spec, ids, plan, bus, clock })
    }

    /// A device on a bus of its own, over any byte streams that speak its protocol.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_dialer(
        spec: impl Into<Arc<DeviceSpec>>,
        ids: impl Into<Arc<[TagId]>>,
        clock: Arc<dyn Clock>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, DeviceError> {
        Self::new(spec, ids, clock, &Buses::with_dialer(dialer))
    }

    /// The requests of one poll.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    fn poller(&self, sink: Arc<dyn Sink>) -> Poller {
        let now = Instant::now();
        let grid = Grid::new(now, self.spec.poll_every, &self.spec.name);
        let (first, largest) = self.spec.backoff;
        let seed = hash(&self.spec.name) ^ getrandom::u64().unwrap_or_default();
        Poller {
            spec: Arc::clone(&self.spec),
            bus: Arc::clone(&self.bus),
            blocks: Blocks::new(&self.plan, now),
            book: Book::new(
                Arc::clone(&self.name),
                Arc::clone(&self.spec),
                &self.ids,
                grid,
                Arc::clone(&self.clock),
                Arc::clone(&sink),
            ),
            voice: Voice::new(Arc::clone(&self.name), sink, now),
            backoff: Backoff::new(first, largest, seed),
            retry_at: None,
            away: false,
            overran: false,
        }
    }
}

impl Device for ModbusDevice {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn run(self: Box<Self>, sink: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture {
        Box::pin(async move {
            let mut poller = self.poller(sink);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = poller.poll_forever() => {}
            }
            poller.book.close(Instant::now());
        })
    }

    fn read_once(&self) -> ReadingFuture {
        let bus = Arc::clone(&self.bus);
        let blocks = Blocks::new(&self.plan, Instant::now());
        let (spec, ids) = (Arc::clone(&self.spec), Arc::clone(&self.ids));
        Box::pin(async move {
            let outcomes = read_once(&bus, &spec, blocks).await;
            let readings = ids.iter().zip(outcomes).map(|(tag, outcome)| Reading {
                tag: *tag,
                value: outcome.value,
                quality: outcome.quality,
                error: outcome.error,
            });
            readings.collect()
        })
    }
}
