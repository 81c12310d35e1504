//! What the supervisor sees, told to status and record alike.

use std::sync::Arc;

use crate::observe::state::Board;
use crate::recorder::Ingress;
use crate::supervise::{DriverId, DriverKind, Next, Witness};

/// A driver that ended shows in the status, and its tags are bad in the record and live.
pub(super) struct Watch {
    pub(super) board: Arc<Board>,
    pub(super) ingress: Arc<Ingress>,
}

impl Witness for Watch {
    fn driver_ended(&self, driver: &DriverId, why: &str, next: &Next) {
        self.board.driver_ended(driver, why, next);
        if driver.kind == DriverKind::Device {
            self.ingress.driver_ended(&driver.name, next.wait);
        }
    }

    fn driver_steady(&self, driver: &DriverId) {
        self.board.driver_steady(driver);
    }

    fn late(&self, parts: &[String]) {
        self.board.late(parts);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{Sample, Sink as _, TagId, Timestamp, Value};
    use tokio::sync::mpsc;

    use super::*;
    use crate::live::LiveQueue;
    use crate::observe::state::Pattern;
    use crate::recorder::{Losses, SystemClock};
    use crate::supervise::{DriverBuild, Settings, Signal, Signals, Supervisor, Systemd};

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_panics_leaves_no_good_tag_behind() {
        let board = Arc::new(crate::observe::state::tests::board());
        let clock = Arc::new(SystemClock);
        let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
        let losses = Arc::new(Losses::new(clock.clone()));
        let (ingress, mut queue) = Ingress::new(Arc::clone(&board), live, losses, clock);
        let ingress = Arc::new(ingress);
        ingress.set_owners([(TagId(1), "press-1".into())]);
        let witness = Watch { board: Arc::clone(&board), ingress: Arc::clone(&ingress) };
        let mut supervisor =
            Supervisor::new(Settings::default(), Arc::new(witness), Arc::new(Systemd));
        let sink = Arc::clone(&ingress);
        let build: DriverBuild = Box::new(move |_| {
            let sink = Arc::clone(&sink);
            Box::pin(async move {
                sink.samples(vec![Sample::good(TagId(1), Timestamp(1), Value::I64(7))]);
                panic!("the answer was 43");
            })
        });
        supervisor.driver(DriverId::device("press-1"), build);
        let (stop, source) = mpsc::channel(1);
        let running = tokio::spawn(supervisor.run(Signals::scripted(source)));
        let good = queue.next().await.unwrap();
        let bad = queue.next().await.unwrap();
        assert!(good[0].quality.is_good() && !bad[0].quality.is_good());
        let tags = board.tags(&Pattern::all(), None, 10).tags;
        assert!(tags.iter().all(|tag| tag.q == "bad"), "{tags:?}");
        stop.send(Signal::Stop).await.unwrap();
        running.await.unwrap();
    }
}
