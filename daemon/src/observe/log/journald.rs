//! Lines to journald, in its native protocol.
//!
//! The ready-made layer puts only the bare message into `MESSAGE`, so that `journalctl` without
//! further options shows "silent for 3 s" and not whose silence; here the text is complete and the
//! fields are there as well.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::Level;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to journald.
#[derive(Debug)]
pub(super) struct Journald(UnixDatagram);

impl Journald {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    pub(super) fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.0.send(entry).map(drop)
    }
}

/// One entry: priority, text, and each field under a name of its own.
pub(super) fn entry(level: Level, text: &str, fields: &[(&'static str, String)]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(text.len() * 2 + 64);
    // sd-daemon(3): 3 error, 4 warning, 6 informational, 7 debug.
    let priority = match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    };
    put(&mut entry, "PRIORITY", priority);
    put(&mut entry, "SYSLOG_IDENTIFIER", "tidegate");
    put(&mut entry, "MESSAGE", text);
    for (name, value) in fields {
        put(&mut entry, &field_name(name), value);
    }
    entry
}

/// Capital letters, digits and underscores, at most 64: what journald takes.
fn field_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "TIDEGATE_".chars().chain(name.chars().map(legal)).take(64).collect()
}

/// Text of one line as `NAME=value`, else with its length in front.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        entry.extend_from_slice(&length.to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_priority_text_and_fields() {
        let fields = [("device", "press-1".to_owned()), ("wait.ms", "5".to_owned())];
        let entry = entry(Level::WARN, "silent device=press-1", &fields);
        assert_eq!(
            String::from_utf8(entry).unwrap(),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=tidegate\nMESSAGE=silent device=press-1\n\
             TIDEGATE_DEVICE=press-1\nTIDEGATE_WAIT_MS=5\n"
        );
    }

    #[test]
    fn a_value_of_two_lines_cannot_begin_a_field_of_its_own() {
        let mut entry = Vec::new();
        put(&mut entry, "X", "a\nPRIORITY=0");
        assert_eq!(entry, b"X\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n");
    }
}
