//! What nats-server writes to its standard error, as records of our own log.
//!
//! # Invariants
//! - A line is at most [`MAX_LINE`] bytes; [`super::throttle`] bounds how many are passed on.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest line that is kept, in bytes; the rest of a longer one is dropped.
const MAX_LINE: usize = 2_048;

/// How much a line matters, as nats-server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Fatal,
    Error,
    Warning,
    Information,
    Debug,
    Trace,
}

/// A line of nats-server's log: `[pid] [INF] text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
}

impl Line {
    /// Splits a line. One of another shape, such as a crash's stack trace, is an error as it is.
    pub(super) fn parse(line: &str) -> Self {
        let mut rest = line.trim_end();
        // Process id and, where it is switched on, the time stand before the level.
        while let Some(at) = rest.find('[') {
            let tag = rest.get(at + 1..at + 5);
            let level = match tag {
                Some("FTL]") => Level::Fatal,
                Some("ERR]") => Level::Error,
                Some("WRN]") => Level::Warning,
                Some("INF]") => Level::Information,
                Some("DBG]") => Level::Debug,
                Some("TRC]") => Level::Trace,
                _ => match rest.find(']') {
                    Some(end) if end > at => {
                        rest = &rest[end + 1..];
                        continue;
                    }
                    _ => break,
                },
            };
            let text = rest.get(at + 5..).unwrap_or_default().trim_start().to_owned();
            return Self {
                level: if is_routine(level, &text) { Level::Debug } else { level },
                text,
            };
        }
        // Fatal mistakes of the command line and the configuration have no level.
        Self { level: Level::Error, text: line.trim_end().to_owned() }
    }

    /// What it says is wrong. A hub that refuses a certificate just closes the link, and TLS 1.3
    /// lets the leaf believe until then that it stood: nats-server logs that as information. Other
    /// ends of a link come after an error that says more.
    pub(super) fn complaint(&self) -> Option<String> {
        let text = &self.text;
        match self.level {
            // Follows one that says why.
            _ if text.ends_with("Error soliciting websocket connection: connection closed") => None,
            Level::Fatal | Level::Error => Some(text.clone()),
            _ if text.contains("Leafnode connection closed: Read Error") => Some(format!(
                "{text} (again and again: the hub refuses this gateway's certificate, and its log \
                 says why)"
            )),
            _ => None,
        }
    }

    /// A link that was just made: where to, as `host:port` or `host:port(address)`, and the account
    /// on this side.
    pub(super) fn link_made(&self) -> Option<(&str, &str)> {
        let (remote, rest) =
            self.text.split_once(" - lid:").or_else(|| self.text.split_once(" - lid_ws:"))?;
        let (_, account) = rest.split_once("Leafnode connection created for account: ")?;
        Some((remote, account.trim()))
    }

    /// What became of a reload, where the line tells: nothing else does.
    pub(super) fn reload(&self) -> Option<Result<(), String>> {
        if self.text.starts_with("Reloaded server configuration") {
            return Some(Ok(()));
        }
        let why = self.text.strip_prefix("Failed to reload server configuration: ")?;
        Some(Err(why.to_owned()))
    }

    /// Passes it on. nats-server's errors lose nothing of ours and it goes on by itself, so they
    /// are warnings here; when it ends, its supervisor says so.
    pub(super) fn forward(&self) {
        let text = &self.text;
        match self.level {
            _ if repeats(text) => tracing::debug!(target: "tidegate::leaf::nats", "{text}"),
            Level::Fatal => tracing::error!(target: "tidegate::leaf::nats", "{text}"),
            Level::Error | Level::Warning => {
                tracing::warn!(target: "tidegate::leaf::nats", "{text}")
            }
            Level::Information => tracing::info!(target: "tidegate::leaf::nats", "{text}"),
            Level::Debug => tracing::debug!(target: "tidegate::leaf::nats", "{text}"),
            Level::Trace => tracing::trace!(target: "tidegate::leaf::nats", "{text}"),
        }
    }
}

/// Whether a line tells an operator nothing: banner, signals and the like, which the leaf's
/// supervisor tells in the daemon's own words. Links that come and go are worth a line.
fn is_routine(level: Level, text: &str) -> bool {
    // The passwords are random, ours, and in a file that nobody else reads.
    if text.starts_with("Plaintext passwords detected") {
        return true;
    }
    level == Level::Information
        && (!text.contains("Leafnode connection") || text.contains("Server Shutdown"))
}

/// Whether it is one of the attempts to reach the hub that are not worth a line. nats-server tells
/// each of them, which is more than one a second for as long as an outage lasts; the first, the
/// tenth, the hundredth and so on are enough.
fn repeats(text: &str) -> bool {
    let number = text.split_once("(attempt ").and_then(|(_, rest)| rest.split_once(')'));
    let attempt: Option<u64> = number.and_then(|(number, _)| number.parse().ok());
    attempt.is_some_and(|n| n.checked_ilog10().is_some_and(|digits| 10_u64.pow(digits) != n))
}

/// Lines of bounded length from a byte stream.
pub(super) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    taken: usize,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: Vec::with_capacity(4_096), taken: 0, line: Vec::new() }
    }

    /// The next line; `None` at the end of the stream or when it broke. Cancel safe: what was
    /// read stays for the next call.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            let unread = self.buffer.get(self.taken..).unwrap_or_default();
            let end = unread.iter().position(|byte| *byte == b'\n');
            let part = &unread[..end.unwrap_or(unread.len())];
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.taken += part.len();
            if end.is_some() {
                self.taken += 1;
                return Some(self.take_line());
            }
            self.buffer.clear();
            self.taken = 0;
            match self.from.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ if self.line.is_empty() => return None,
                _ => return Some(self.take_line()),
            }
        }
    }

    fn take_line(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_found_with_and_without_a_time() {
        let text = "127.0.0.1:7422 - lid:7 - Leafnode connection created for account: RECORD";
        let parsed = Line::parse(&format!("[4711] [INF] {text}"));
        assert_eq!(parsed, Line { level: Level::Information, text: text.into() });
        let parsed =
            Line::parse("[4711] 2026/01/02 03:04:05.000000 [ERR] 127.0.0.1:1 - lid:5 - [x]");
        assert_eq!(parsed, Line { level: Level::Error, text: "127.0.0.1:1 - lid:5 - [x]".into() });
        assert_eq!(Line::parse("[1] [FTL] no").level, Level::Fatal);
        assert_eq!(Line::parse("[1] [WRN]").text, "");
    }

    #[test]
    fn what_tells_an_operator_nothing_is_for_debugging() {
        for line in [
            "[1] [INF] Server is ready",
            "[1] [INF] Version:  2.15.1",
            "[1] [INF] x - lid:7 - Leafnode connection closed: Server Shutdown - Remote: hub-1",
            "[1] [WRN] Plaintext passwords detected, use nkeys or bcrypt",
        ] {
            assert_eq!(Line::parse(line).level, Level::Debug, "{line}");
        }
        assert_eq!(Line::parse("[1] [WRN] slow consumer").level, Level::Warning);
    }

    #[test]
    fn attempts_of_a_long_outage_are_told_ever_more_rarely() {
        let attempt = |n: u32| format!("Error trying to connect to \"hub\" (attempt {n}): refused");
        let told: Vec<_> = (1..=1000).filter(|n| !repeats(&attempt(*n))).collect();
        assert_eq!(told, [1, 10, 100, 1000]);
        assert!(!repeats("(attempt") && !repeats("(attempt x)") && !repeats("(attempt 0)"));
    }

    #[test]
    fn a_link_that_the_hub_closes_is_a_complaint_with_a_hint() {
        let complaint = |line| Line::parse(line).complaint();
        let closed =
            complaint("[1] [INF] 127.0.0.1:1 - lid:2 - Leafnode connection closed: Read Error");
        assert!(closed.is_some_and(|text| text.contains("refuses this gateway's certificate")));
        assert_eq!(complaint("[1] [INF] Server is ready"), None);
        let after = "[1] [ERR] 127.0.0.1:1 - lid_ws:2 - Error soliciting websocket connection: ";
        let websocket = |what: &str| Line::parse(&format!("{after}{what}")).complaint();
        assert_eq!(websocket("connection closed"), None);
        assert!(websocket("invalid websocket connection").is_some());
        assert_eq!(complaint("[1] [ERR] x"), Some("x".into()));
    }

    #[test]
    fn the_link_that_was_made_is_known_with_its_account() {
        let line = "[1] [INF] 127.0.0.1:7422 - lid:7 - Leafnode connection created for account: ";
        let made = Line::parse(&format!("{line}RECORD "));
        assert_eq!(made.link_made(), Some(("127.0.0.1:7422", "RECORD")));
        let websocket = line.replace("lid:7", "lid_ws:7").replace("7422", "443");
        let made = Line::parse(&format!("{websocket}LIVE "));
        assert_eq!(made.link_made(), Some(("127.0.0.1:443", "LIVE")));
        assert_eq!(Line::parse("[1] [INF] Server is ready").link_made(), None);
    }

    #[test]
    fn what_became_of_a_reload_is_known() {
        let reload = |line| Line::parse(line).reload();
        assert_eq!(reload("[1] [INF] Reloaded server configuration"), Some(Ok(())));
        let refused =
            "[1] [ERR] Failed to reload server configuration: config reload not supported";
        assert_eq!(reload(refused), Some(Err("config reload not supported".into())));
        assert_eq!(reload("[1] [INF] Reloaded: tls"), None);
    }

    #[test]
    fn a_line_of_another_shape_is_kept_whole() {
        for line in ["nats-server: open x.conf: no such file", "[", "[1", "[1] [", "] [ERR", "é["]
        {
            assert_eq!(Line::parse(line), Line { level: Level::Error, text: line.into() });
        }
    }

    #[tokio::test]
    async fn lines_are_cut_at_their_bound_and_none_is_glued_to_the_next() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("a\n{long}\nb\n\nlast");
        let mut lines = Lines::new(text.as_bytes());
        assert_eq!(lines.next().await.unwrap(), "a");
        assert_eq!(lines.next().await.unwrap().len(), MAX_LINE);
        assert_eq!(lines.next().await.unwrap(), "b");
        assert_eq!(lines.next().await.unwrap(), "");
        assert_eq!(lines.next().await.unwrap(), "last");
        assert_eq!(lines.next().await, None);
    }
}
