//! The one thing that a probe needs of a link.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;

use crate::bus::Bus;
use crate::buses::Buses;
use crate::link::{LinkError, Reply, Request};
use crate::spec::{LinkSpec, UnitId};

/// The connect back-off: a probe gives up by itself, so there is nobody to be spared.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(100));

/// Rests after which an earlier answer no longer counts as one that may come: one is enough, unless
/// somebody else asks the same unit.
const MAX_RESTS: u8 = 3;

/// A way to ask.
pub trait Ask {
    /// Asks once and returns the verified answer.
    ///
    /// # Errors
    /// When there is no answer that can be used.
    fn ask(
        &mut self,
        unit: UnitId,
        request: Request,
    ) -> impl Future<Output = Result<Reply, LinkError>>;
}

/// The way over a bus.
pub struct Way {
    bus: Arc<Bus>,
    timeout: Duration,
}

impl Way {
    /// A way over the bus of this link; a request, and a connection, may take `timeout`.
    #[must_use]
    pub fn new(buses: &Buses, link: &Arc<LinkSpec>, timeout: Duration) -> Self {
        Self { bus: buses.bus(link), timeout }
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Ask for Way {
    async fn ask(&mut self, unit: UnitId, request: Request) -> Result<Reply, LinkError> {
        for _ in 0..MAX_RESTS {
            let mut turn = self.bus.turn().await.with_backoff(BACKOFF);
            match turn.ask(unit, request, self.timeout).await {
                Err(LinkError::Unsettled { until, .. }) => {
                    drop(turn);
                    sleep_until(until).await;
                }
                outcome => return outcome,
            }
        }
        Err(LinkError::Silent { unit: unit.0, waited: self.timeout })
    }
}
