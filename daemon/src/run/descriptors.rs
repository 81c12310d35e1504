//! Room for the files and connections that a configuration takes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::observe::state::Board;

/// The alarm's word.
const TOO_FEW: &str = "too-few-descriptors";

/// Beside the devices: the journal's files and its reserve (28), control socket and metrics with 16
/// connections each, the leaf's pipes, three connections to it, the runtime; and as much again.
const BASE: u64 = 192;

/// A device's connection, and the next one while that is closed.
const PER_DEVICE: u64 = 2;

/// Raises this process's own limit as far as the configuration needs and the system allows, and
/// raises an alarm where that is not enough.
pub(super) fn make_room(config: &Config, board: &Board) {
    let limit = getrlimit(Resource::Nofile);
    let devices = u64::try_from(config.devices.len()).unwrap_or(u64::MAX);
    let needed = needed(devices);
    let current = raised(limit, needed);
    if current != limit.current {
        // Refused or not, what the limit is now decides.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current < needed {
        let text = format!(
            "{devices} devices may take {needed} file descriptors and this process may have \
             {current}; raise LimitNOFILE= in its unit, or ulimit -Hn where it is started by hand"
        );
        tracing::warn!(alarm = TOO_FEW, "{text}");
        board.raise(TOO_FEW, text);
    }
}

const fn needed(devices: u64) -> u64 {
    devices.saturating_mul(PER_DEVICE).saturating_add(BASE)
}

/// The soft limit to set: never less than it is, never more than the hard one.
fn raised(limit: Rlimit, needed: u64) -> Option<u64> {
    let current = limit.current?;
    let most = limit.maximum.unwrap_or(u64::MAX);
    Some(current.max(needed.min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_needed_and_allowed_and_never_lowered() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(64), Some(4096)), 400), Some(400));
        assert_eq!(raised(limit(Some(64), Some(128)), 400), Some(128));
        assert_eq!(raised(limit(Some(64), None), 400), Some(400));
        assert_eq!(raised(limit(Some(1024), Some(4096)), 400), Some(1024));
        assert_eq!(raised(limit(None, None), 400), None);
        assert_eq!(needed(500), 1192);
    }
}
