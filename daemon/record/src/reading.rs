//! Samples of a frame with everything that a reader wants to know of them.

use std::fmt::{self, Write as _};

use tidegate_journal::{Epoch, Frame, Header};
use tidegate_translator::{Sample, TagPath, Timestamp};

use crate::json::{write_text, write_value};
use crate::samples::{self, DecodeError};
use crate::{Catalog, CatalogEntry, ClockBook};

/// One sample in its place in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<'c> {
    /// The journal it comes from.
    pub epoch: Epoch,
    /// Its sequence number within the epoch.
    pub seq: u64,
    /// What its number stands for; `None` when the catalog frame was not read, for instance
    /// because it has aged out at the hub.
    pub entry: Option<&'c CatalogEntry>,
    /// The sample.
    pub sample: Sample,
}

impl Reading<'_> {
    /// The tag's path, where the catalog is known.
    #[must_use]
    pub fn path(&self) -> Option<&TagPath> {
        self.entry.map(|entry| &entry.path)
    }

    /// One line of JSON without the line feed:
    /// `path` (or `tag`, the number, where the path is unknown), `epoch`, `seq`, `ts` (when the
    /// value arose: by the device, else by its server, else by the gateway; RFC 3339), `acquired`,
    /// `v`, `q`, and where there is something to say `source`, `server`, `why` (the quality's
    /// reason), `status`, `u` (the unit) and `note` (what JSON could not say).
    #[must_use]
    pub fn json_line(&self) -> String {
        let mut line = String::with_capacity(256);
        self.write_json(&mut line, None, None);
        line
    }

    /// [`Reading::json_line`] with `corrected` beside `ts`: what `ts` would be had the gateway's
    /// clock been right. Times of the device and its server are theirs, and stay.
    #[must_use]
    pub fn corrected_json_line(&self, clocks: &ClockBook, header: &Header) -> String {
        let mut line = String::with_capacity(256);
        self.write_json(&mut line, None, Some(self.corrected(clocks, header)));
        line
    }

    /// What `ts` would be had the gateway's clock been right.
    #[must_use]
    pub fn corrected(&self, clocks: &ClockBook, header: &Header) -> Timestamp {
        let Sample { acquired, source, server, .. } = &self.sample;
        let corrected = || Timestamp(clocks.corrected(acquired.0, &header.stamp()));
        source.or(*server).unwrap_or_else(corrected)
    }

    /// Appends [`Reading::json_line`], with the gateway in front and `corrected` beside `ts` where
    /// they are given.
    pub fn write_json(
        &self,
        out: &mut String,
        gateway: Option<&str>,
        corrected: Option<Timestamp>,
    ) {
        let Sample { tag, acquired, source, server, status, quality, value } = &self.sample;
        let mut line = Line::begin(out);
        if let Some(gateway) = gateway {
            line.text("gateway", gateway);
        }
        match self.path() {
            Some(path) => line.text("path", path.as_str()),
            None => line.shown("tag", &tag.0),
        }
        line.word("epoch", &self.epoch);
        line.shown("seq", &self.seq);
        line.word("ts", &Time(self.sample.time()));
        if let Some(corrected) = corrected {
            line.word("corrected", &Time(corrected));
        }
        line.word("acquired", &Time(*acquired));
        let inexact = write_value(line.key("v"), value);
        line.text("q", quality.word());
        for (key, time) in [("source", source), ("server", server)] {
            if let Some(time) = time {
                line.word(key, &Time(*time));
            }
        }
        if let Some(reason) = quality.reason() {
            line.text("why", reason.word());
        }
        if *status != 0 {
            line.shown("status", status);
        }
        if let Some(unit) = self.entry.and_then(|e| e.unit.as_deref()) {
            line.text("u", unit);
        }
        if let Some(inexact) = inexact {
            line.text("note", inexact.word());
        }
        line.end();
    }
}

struct Time(Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::Moment(self.0.0).exact(f)
    }
}

/// A line in the making. Writing to a `String` cannot fail.
struct Line<'o> {
    out: &'o mut String,
    begun: bool,
}

impl<'o> Line<'o> {
    fn begin(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, begun: false }
    }

    /// The name of what comes next; none has a character that JSON escapes.
    fn key(&mut self, key: &str) -> &mut String {
        if std::mem::replace(&mut self.begun, true) {
            self.out.push(',');
        }
        let _ = write!(self.out, "\"{key}\":");
        self.out
    }

    fn text(&mut self, key: &str, text: &str) {
        write_text(self.key(key), text);
    }

    /// A word without a character that JSON escapes.
    fn word(&mut self, key: &str, word: &impl fmt::Display) {
        let _ = write!(self.key(key), "\"{word}\"");
    }

    fn shown(&mut self, key: &str, number: &impl fmt::Display) {
        let _ = write!(self.key(key), "{number}");
    }

    fn end(self) {
        self.out.push('}');
    }
}

/// The samples of a frame in the order of their sequence numbers. Tags whose catalog frame comes
/// later are given without their entry: the caller may keep the frame and try again.
///
/// # Errors
/// When the body does not hold what the header says.
pub fn readings<'c>(
    frame: &Frame<'_>,
    catalog: &'c Catalog,
) -> Result<Vec<Reading<'c>>, DecodeError> {
    let epoch = frame.header.epoch;
    Ok(samples::decode_frame(frame)?
        .into_iter()
        .map(|(seq, sample)| Reading { epoch, seq, entry: catalog.resolve(sample.tag), sample })
        .collect())
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{Quality, Reason, TagId, Value, ValueKind};

    use super::*;
    use crate::catalog::Definition;

    #[test]
    fn a_line_of_tap_says_where_when_and_what() {
        let mut catalog = Catalog::new();
        let tag = catalog
            .define(Definition {
                path: TagPath::new("P/t").unwrap(),
                kind: ValueKind::F32,
                unit: Some("degC".into()),
                device: "d".into(),
                address: "a".into(),
                source: "s".into(),
            })
            .unwrap()
            .id();
        let mut sample = Sample::good(tag, Timestamp(1_790_000_000_000_000_000), Value::F32(0.1));
        sample.source = Some(Timestamp(1_789_999_999_500_000_000));
        let epoch = Epoch([0xab; 16]);
        let reading = Reading { epoch, seq: 7, entry: catalog.resolve(tag), sample };
        assert_eq!(
            reading.json_line(),
            format!(
                r#"{{"path":"P/t","epoch":"{epoch}","seq":7,"ts":"2026-09-21T14:13:19.5Z","acquired":"2026-09-21T14:13:20Z","v":0.1,"q":"good","source":"2026-09-21T14:13:19.5Z","u":"degC"}}"#
            )
        );
    }

    #[test]
    fn a_line_without_catalog_names_the_number_and_the_reason() {
        let mut sample = Sample::bad(TagId(9), Timestamp(i64::MAX), Reason::Timeout, 0x8000_0000);
        sample.value = Value::F64(f64::NAN);
        assert_eq!(sample.quality, Quality::Bad(Reason::Timeout));
        let reading = Reading { epoch: Epoch([0; 16]), seq: u64::MAX, entry: None, sample };
        let line: serde_json::Value = serde_json::from_str(&reading.json_line()).unwrap();
        assert_eq!(line["tag"], 9);
        assert_eq!(line["v"], serde_json::Value::Null);
        assert_eq!(line["why"], "timeout");
        assert_eq!(line["status"], 0x8000_0000_u32);
        assert_eq!(line["note"], "not-a-number");
        assert_eq!(line["acquired"], "2262-04-11T23:47:16.854775807Z");
    }
}
