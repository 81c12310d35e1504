//! What the service manager is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// A message to the service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The tasks run.
    Ready,
    /// A reload begins; [`Notice::Ready`] ends it.
    Reloading,
    /// Draining begins.
    Stopping,
    /// Every critical loop has ticked.
    Alive,
    /// One line for `systemctl status`.
    Status(String),
}

/// Who is told.
pub trait ServiceManager: Send + Sync {
    /// Tells it. A message that cannot be delivered is logged, nothing else depends on it.
    fn notify(&self, notice: &Notice);
}

/// systemd, through `NOTIFY_SOCKET`; nobody, when that is not set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Systemd;

impl ServiceManager for Systemd {
    fn notify(&self, notice: &Notice) {
        let sent = match notice {
            Notice::Ready => sd_notify::notify(&[NotifyState::Ready]),
            // Since version 253 the reload fails without the time at which it began.
            Notice::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Notice::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Notice::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Notice::Status(line) => {
                // A line feed would begin another assignment.
                let line = line.replace(['\n', '\r'], " ");
                sd_notify::notify(&[NotifyState::Status(&line)])
            }
        };
        if let Err(error) = sent {
            tracing::warn!(?notice, %error, "service manager not reached");
        }
    }
}

/// How often systemd wants to hear that the daemon is alive; `None` without a watchdog.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Runs as a child of the test below, because the environment belongs to the whole process.
    #[test]
    #[ignore = "the other half of what_systemd_hears_is_what_its_protocol_says"]
    fn says_everything_to_the_socket_in_its_environment() {
        for notice in [
            Notice::Ready,
            Notice::Alive,
            Notice::Reloading,
            Notice::Status("two\nlines".into()),
            Notice::Stopping,
        ] {
            Systemd.notify(&notice);
        }
        assert_eq!(watchdog_period(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_systemd_hears_is_what_its_protocol_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let test = "supervise::systemd::tests::says_everything_to_the_socket_in_its_environment";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", test])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let next = || {
            let mut buffer = [0; 256];
            let n = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).trim_end().to_owned()
        };
        assert_eq!(next(), "READY=1");
        assert_eq!(next(), "WATCHDOG=1");
        let reloading = next();
        let monotonic = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(monotonic.parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "STATUS=two lines");
        assert_eq!(next(), "STOPPING=1");
    }
}
