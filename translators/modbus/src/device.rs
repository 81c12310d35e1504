//! A configured Modbus device.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_translator::{
    CancellationToken, Clock, Device, DeviceFuture, Questions, ReadNow, Reading, ReadingFuture,
    Sink, TagId, fresh_desk,
};
use tokio::time::{Instant, sleep, sleep_until};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::blocks::Blocks;
use crate::book::Book;
use crate::bus::{Bus, Seat};
use crate::buses::Buses;
use crate::dial::Dialer;
use crate::fault::Fault;
use crate::fresh::Desks;
use crate::groups::{Group, groups};
use crate::once::read_once;
use crate::plan::{Plan, PlanError};
use crate::poller::{Between, Poller};
use crate::spec::DeviceSpec;
use crate::voice::Voice;
use tidegate_translator::grid::{Backoff, Grid, hash};

/// How long a stop waits for the poll that is under way: most units answer long before, and one
/// that is silent must not hold a restart up.
const LAST_POLL: Duration = Duration::from_secs(1);

/// One Modbus device, ready to be polled.
#[derive(Clone)]
pub struct ModbusDevice {
    name: Arc<str>,
    spec: Arc<DeviceSpec>,
    ids: Arc<[TagId]>,
    /// The tags by their interval, with the requests of one poll.
    groups: Vec<(Group, Plan)>,
    bus: Arc<Bus>,
    clock: Arc<dyn Clock>,
    /// Where each group is asked to read now, and what it is asked until it runs.
    desks: Arc<Desks>,
    questions: Arc<Mutex<Vec<Questions>>>,
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
        let mut planned = Vec::new();
        let mut wrong = Vec::new();
        for group in groups(&spec, &ids) {
            match Plan::new(&group.spec) {
                Ok(plan) => planned.push((group, plan)),
                Err(errors) => wrong.extend(errors),
            }
        }
        let more = wrong.len().saturating_sub(1);
        if let Some(first) = wrong.into_iter().next() {
            return Err(DeviceError::UnreadableTags { device: device(), first, more });
        }
        let name = spec.name.as_str().into();
        let bus = buses.bus(&spec.link);
        let (desks, questions) = planned
            .iter()
            .map(|(group, _): &(Group, Plan)| {
                let (desk, questions) = fresh_desk();
                ((Arc::clone(&group.ids), desk), questions)
            })
            .unzip();
        let (desks, questions) = (Arc::new(Desks(desks)), Arc::new(Mutex::new(questions)));
        Ok(Self { name, spec, ids, groups: planned, bus, clock, desks, questions })
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

    fn pollers(&self, sink: &Arc<dyn Sink>) -> Vec<Poller> {
        let now = Instant::now();
        let (name, count) = (&self.name, self.groups.len());
        let voice = Voice::new(Arc::clone(name), Arc::clone(sink), count, now);
        let voice = Arc::new(Mutex::new(voice));
        let questions = &mut *self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut questions = std::mem::take(questions).into_iter();
        let mut poller = |(at, (group, plan)): (usize, &(Group, Plan))| {
            let spec = &group.spec;
            // The groups of one device do not poll in step either.
            let phase = if count == 1 { name.to_string() } else { format!("{name}/{at}") };
            let grid = Grid::new(now, spec.poll_every, &phase);
            let (first, largest) = spec.backoff;
            let seed = hash(&phase) ^ getrandom::u64().unwrap_or_default();
            Poller {
                group: at,
                spec: Arc::clone(spec),
                seat: Seat::new(Arc::clone(&self.bus), spec.unit, Arc::clone(&self.clock)),
                blocks: Blocks::new(plan, now),
                book: Book::new(
                    Arc::clone(name),
                    Arc::clone(spec),
                    &group.ids,
                    grid,
                    Arc::clone(&self.clock),
                    Arc::clone(sink),
                ),
                voice: Arc::clone(&voice),
                watch: Box::pin(sleep_until(now)),
                backoff: Backoff::new(first, largest, seed),
                retry_at: None,
                returns: 0,
                away: false,
                overran: false,
                device: Arc::clone(name),
                sink: Arc::clone(sink),
                fault: Fault::default(),
                loss_told: false,
                questions: questions.next().unwrap_or_else(Questions::none),
                between: Between::new(Backoff::new(first, largest, seed)),
            }
        };
        self.groups.iter().enumerate().map(&mut poller).collect()
    }
}

impl Device for ModbusDevice {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn fresh(&self) -> Option<Arc<dyn ReadNow>> {
        Some(Arc::clone(&self.desks) as _)
    }

    fn run(self: Box<Self>, sink: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture {
        Box::pin(async move {
            let mut pollers = self.pollers(&sink);
            tokio::select! {
                () = poll_all(&mut pollers, &stop) => {}
                () = async { stop.cancelled().await; sleep(LAST_POLL).await } => {}
            }
            for poller in &mut pollers {
                poller.book.close(Instant::now());
            }
        })
    }

    fn read_once(&self) -> ReadingFuture {
        let bus = Arc::clone(&self.bus);
        // A person does not wait for intervals: all groups together take fewer requests.
        let blocks = Plan::new(&self.spec).map(|plan| Blocks::new(&plan, Instant::now()));
        let (spec, ids) = (Arc::clone(&self.spec), Arc::clone(&self.ids));
        Box::pin(async move {
            let Ok(blocks) = blocks else { return Vec::new() };
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

/// Polls every group side by side until `stop`.
async fn poll_all(pollers: &mut [Poller], stop: &CancellationToken) {
    if let [only] = pollers {
        return only.poll_until(stop).await;
    }
    let mut all: FuturesUnordered<_> = pollers.iter_mut().map(|one| one.poll_until(stop)).collect();
    while all.next().await.is_some() {}
}
