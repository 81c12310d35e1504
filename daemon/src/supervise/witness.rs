//! Who learns what the supervisor sees.

use std::time::Duration;

use tidegate_translator::DeviceState;

use super::{DriverId, DriverKind, Next};
use crate::observe::state::Board;

/// Learns what happens to drivers. The log is written by the supervisor; this is for state.
/// No method may block.
pub trait Witness: Send + Sync {
    /// A driver ended unasked and will be started again.
    fn driver_ended(&self, driver: &DriverId, why: &str, next: &Next);

    /// A driver that had ended too often has now run for a whole window.
    fn driver_steady(&self, driver: &DriverId);

    /// The critical loops that have not ticked in time; empty when all have again.
    fn late(&self, parts: &[String]);
}

fn alarm_of(driver: &DriverId) -> String {
    format!("driver-unsteady:{}", driver.name)
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs().max(1)
}

impl Witness for Board {
    fn driver_ended(&self, driver: &DriverId, why: &str, next: &Next) {
        if driver.kind == DriverKind::Device {
            let why = format!("driver ended: {why}; next start in {} s", seconds(next.wait));
            self.note_device(&driver.name, DeviceState::Down, Some(why));
        }
        self.note_restart(&driver.name);
        if next.over_budget {
            self.raise(
                &alarm_of(driver),
                format!("{driver} ends again and again ({why}); please report this defect"),
            );
        }
    }

    fn driver_steady(&self, driver: &DriverId) {
        self.clear(&alarm_of(driver));
    }

    fn late(&self, parts: &[String]) {
        if parts.is_empty() {
            self.clear("part-hangs");
        } else {
            self.raise("part-hangs", format!("{} did not come round in time", parts.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::state::HealthLimits;
    use crate::observe::state::tests::board;

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_ends_shows_as_a_device_that_is_down_with_the_reason() {
        let board = board();
        let driver = DriverId::device("press-1");
        let next = Next { wait: Duration::from_secs(60), over_budget: true };
        board.driver_ended(&driver, "panicked: index out of bounds", &next);
        let report = board.report(&HealthLimits::default());
        let down = report.health.down().next().unwrap();
        assert_eq!(down.part, "device press-1");
        assert!(down.why.as_ref().unwrap().contains("index out of bounds"));
        assert_eq!(report.devices[0].restarts, 1);
        assert_eq!(report.alarms.len(), 1);
        board.driver_steady(&driver);
        assert!(board.report(&HealthLimits::default()).alarms.is_empty());
    }
}
