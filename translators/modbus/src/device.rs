//! A configured Modbus TCP device.

use std::sync::Arc;

use tidegate_translator::{
    CancellationToken, Clock, Device, DeviceFuture, Reading, ReadingFuture, Sink, TagId,
};
use tokio::time::Instant;

use crate::blocks::Blocks;
use crate::book::Book;
use crate::dial::{Dialer, TcpDialer};
use crate::grid::{Backoff, Grid, hash};
use crate::link::TcpConnector;
use crate::once::read_once;
use crate::plan::{Plan, PlanError};
use crate::poller::{Line, Poller};
use crate::spec::{DeviceSpec, Transport};
use crate::voice::Voice;

/// One Modbus TCP device, ready to be polled.
#[derive(Clone)]
pub struct ModbusDevice {
    name: Arc<str>,
    spec: Arc<DeviceSpec>,
    ids: Arc<[TagId]>,
    plan: Plan,
    dialer: Arc<dyn Dialer>,
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
    /// A device behind TCP. `ids` are the catalog numbers of `spec.tags`, in their order.
    ///
    /// # Errors
    /// When a tag cannot be read as it is described, or the numbers are not as many as the tags.
    pub fn new(
        spec: impl Into<Arc<DeviceSpec>>,
        ids: impl Into<Arc<[TagId]>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DeviceError> {
        let spec = spec.into();
        let dialer = match &spec.link.transport {
            Transport::Tcp(to) | Transport::Tls(to, _) | Transport::RtuOverTcp(to) => {
                Arc::new(TcpDialer::new(to.host.clone(), to.port))
            }
            Transport::Rtu(_) => Arc::new(TcpDialer::new(String::new(), 0)),
        };
        Self::with_dialer(spec, ids, clock, dialer)
    }

    /// A device behind any byte stream that speaks Modbus TCP.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_dialer(
        spec: impl Into<Arc<DeviceSpec>>,
        ids: impl Into<Arc<[TagId]>>,
        clock: Arc<dyn Clock>,
        dialer: Arc<dyn Dialer>,
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
        Ok(Self { name, spec, ids, plan, dialer, clock })
    }

    /// The requests of one poll.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    fn poller(&self, sink: Arc<dyn Sink>) -> Poller<TcpConnector> {
        let now = Instant::now();
        let grid = Grid::new(now, self.spec.poll_every, &self.spec.name);
        let (first, largest) = self.spec.backoff;
        let seed = hash(&self.spec.name) ^ getrandom::u64().unwrap_or_default();
        Poller {
            spec: Arc::clone(&self.spec),
            connector: TcpConnector::new(Arc::clone(&self.dialer)),
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
            line: Line::closed(),
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
        let connector = TcpConnector::new(Arc::clone(&self.dialer));
        let blocks = Blocks::new(&self.plan, Instant::now());
        let (spec, ids) = (Arc::clone(&self.spec), Arc::clone(&self.ids));
        Box::pin(async move {
            let outcomes = read_once(&connector, &spec, blocks).await;
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
