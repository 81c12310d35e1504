//! From an event to a line: its message, then the fields of its spans and its own.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::journald::{self, Journald};
use crate::causes::chain;
use crate::observe::state::Counter;

/// The longest value in a line, in bytes. A datagram to journald then always fits.
const MAX_VALUE: usize = 4096;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Out {
    Journald(Journald),
    Stderr { colour: bool },
}

/// The layer that writes them.
#[derive(Debug)]
pub(super) struct Lines {
    out: Out,
    lost: Counter,
}

/// The fields of a span or an event. A later one of the same name replaces the earlier.
#[derive(Debug, Clone, Default, PartialEq)]
struct Fields {
    message: String,
    named: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, name: &'static str, value: String) {
        if name == "message" {
            self.message = value;
        } else if let Some(field) = self.named.iter_mut().find(|(known, _)| *known == name) {
            field.1 = value;
        } else {
            self.named.push((name, value));
        }
    }

    /// The message and the fields, as one line without control characters.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.named {
            let quoted = value.is_empty() || value.contains([' ', '"', '=']);
            // Writing to a String cannot fail.
            let _ = if quoted {
                write!(text, " {name}=\"{}\"", value.replace('"', "\\\""))
            } else {
                write!(text, " {name}={value}")
            };
        }
        text
    }
}

/// Escapes control characters and cuts at [`MAX_VALUE`].
fn tame(value: &str) -> String {
    let mut tamed = String::with_capacity(value.len().min(MAX_VALUE));
    for c in value.chars() {
        if tamed.len() >= MAX_VALUE {
            tamed.push('…');
            break;
        }
        if c.is_control() {
            tamed.extend(c.escape_default());
        } else {
            tamed.push(c);
        }
    }
    tamed
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), tame(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field.name(), tame(&chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), tame(&format!("{value:?}")));
    }
}

impl Lines {
    pub(super) const fn new(out: Out, lost: Counter) -> Self {
        Self { out, lost }
    }

    fn write(&self, level: Level, fields: &Fields) {
        let text = fields.text();
        let written = match &self.out {
            Out::Journald(journald) => journald.send(&journald::entry(level, &text, &fields.named)),
            Out::Stderr { colour } => {
                let now = jiff::Timestamp::now();
                let line = console(&now, level, &text, *colour);
                std::io::stderr().lock().write_all(line.as_bytes())
            }
        };
        if written.is_err() {
            self.lost.one();
        }
    }
}

/// One line for a person, with the time to the millisecond.
fn console(now: &jiff::Timestamp, level: Level, text: &str, colour: bool) -> String {
    let (before, after) = match (colour, level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
    };
    format!("{now:.3} {before}{level:5}{after} {text}\n")
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for (name, value) in &of_span.named {
                    fields.put(name, value.clone());
                }
            }
        }
        event.record(&mut fields);
        self.write(*event.metadata().level(), &fields);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Logs into a socket of our own and returns the entries.
    fn logged(log: impl FnOnce()) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let out = Out::Journald(Journald::connect(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(Lines::new(out, Counter::default()));
        tracing::subscriber::with_default(subscriber, || {
            log();
            tracing::info!("the end");
        });
        let mut entries = Vec::new();
        loop {
            let mut buffer = [0; 65536];
            let n = journal.recv(&mut buffer).unwrap();
            let entry = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if entry.contains("MESSAGE=the end") {
                return entries;
            }
            entries.push(entry);
        }
    }

    #[test]
    fn a_line_names_the_device_of_its_span_in_text_and_field() {
        let entries = logged(|| {
            tracing::error_span!("driver", device = "press-1").in_scope(|| {
                tracing::warn!(tag = "A/temperature", "silent for {} s", 3);
            });
        });
        let text = "MESSAGE=silent for 3 s device=press-1 tag=A/temperature\n";
        assert!(entries[0].contains(text), "{}", entries[0]);
        assert!(entries[0].contains("\nTIDEGATE_DEVICE=press-1\n"), "{}", entries[0]);
        assert!(entries[0].starts_with("PRIORITY=4\n"));
    }

    #[test]
    fn a_field_of_the_event_replaces_the_one_of_its_span() {
        let entries = logged(|| {
            tracing::error_span!("a", device = "outer").in_scope(|| {
                tracing::info!(device = "inner", "x");
            });
        });
        assert!(entries[0].contains("MESSAGE=x device=inner\n"), "{}", entries[0]);
        assert!(!entries[0].contains("outer"));
    }

    #[test]
    fn an_error_is_told_with_its_sources_and_text_from_outside_stays_on_its_line() {
        let entries = logged(|| {
            let error = std::io::Error::other("disk\nPRIORITY=0\x1b[2J");
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, answer = "two words", "not written");
        });
        let text = r#"MESSAGE=not written error="disk\nPRIORITY=0\u{1b}[2J" answer="two words""#;
        assert!(entries[0].contains(text), "{}", entries[0]);
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let entries = logged(|| tracing::info!(answer = "x".repeat(1 << 20), "long"));
        assert!(entries[0].len() < 3 * MAX_VALUE);
    }

    #[test]
    fn a_line_that_nobody_takes_is_counted_and_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let lost = Counter::default();
        let out = Out::Journald(Journald::connect(&path).unwrap());
        let lines = Lines::new(out, lost.clone());
        for _ in 0..10_000 {
            lines.write(Level::INFO, &Fields::default());
        }
        assert!(lost.read() > 0 && lost.read() < 10_000);
        drop(journal);
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let plain = console(&now, Level::WARN, "x", false);
        assert_eq!(plain, "1970-01-01T00:00:00.000Z WARN  x\n");
        assert!(console(&now, Level::WARN, "x", true).contains("\x1b[33mWARN \x1b[0m"));
    }
}
