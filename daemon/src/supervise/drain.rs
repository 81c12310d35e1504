//! The drain: drivers, then recorder, then delivery, then observation, each with its deadline.

use std::time::Duration;

use tokio::time::{Instant, Interval, sleep_until};
use tracing::error;

use super::drivers::Run;
use super::supervisor::{Failed, Supervisor, Task};
use super::{Outcome, Signal, Signals, Stage};

/// A second signal came during the drain.
pub(super) struct Forced;

impl Supervisor {
    /// Ends every task in order. `failed` is the core task because of which this happens.
    pub(super) async fn drain(
        &mut self,
        signals: &mut Signals,
        look: &mut Interval,
        mut failed: Option<Failed>,
    ) -> Result<Outcome, Forced> {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            drop(command);
        }
        let mut late = Vec::new();
        let mut fail = |other: Option<Failed>| {
            if failed.is_none() {
                failed = other;
            }
        };
        for driver in std::mem::take(&mut self.drivers).into_values() {
            if let Run::Running { stop, .. } = driver.run {
                stop.cancel();
            }
        }
        let of_drivers = |task: &Task| matches!(task, Task::Driver(_) | Task::Reload);
        let limit = self.settings.drain.drivers;
        self.wait_for(of_drivers, limit, signals, look, &mut late, &mut fail).await?;
        for stage in [Stage::Record, Stage::Deliver, Stage::Observe] {
            if let Some(stop) = self.stages.get(&stage) {
                stop.cancel();
            }
            let limit = self.settings.drain.of(stage);
            let of_stage = |task: &Task| matches!(task, Task::Core { stage: s, .. } if *s == stage);
            self.wait_for(of_stage, limit, signals, look, &mut late, &mut fail).await?;
        }
        Ok(match failed {
            Some(Failed { part, why }) => Outcome::CoreFailed { part, why },
            None if late.is_empty() => Outcome::Stopped,
            None => Outcome::Late(late),
        })
    }

    /// Waits for the tasks that `these` picks; what has not ended within `limit` is aborted and
    /// named in `late`.
    async fn wait_for(
        &mut self,
        these: impl Fn(&Task) -> bool,
        limit: Duration,
        signals: &mut Signals,
        look: &mut Interval,
        late: &mut Vec<String>,
        fail: &mut impl FnMut(Option<Failed>),
    ) -> Result<(), Forced> {
        let until = Instant::now() + limit;
        while self.running.values().any(|(task, _)| these(task)) {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if signal == Signal::Stop {
                        return Err(Forced);
                    }
                }
                Some(ended) = self.tasks.join_next_with_id() => fail(self.ended(ended)),
                () = sleep_until(until) => {
                    let left = self.running.extract_if(|_, (task, _)| these(task));
                    for (task, handle) in left.map(|(_, entry)| entry) {
                        let name = task.name();
                        error!(part = name, "did not end within {limit:?} and is cut off");
                        handle.abort();
                        late.push(name);
                    }
                }
                _ = look.tick() => self.look(),
            }
        }
        Ok(())
    }
}
