//! One value of one column, from a JSON row or from a sample.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidegate_record::json::write_value;
use tidegate_record::{Moment, Reading};
use tidegate_translator::{Timestamp, Value};

use super::columns::{Column, Kind};

/// One value. Not every kind of column has every variant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    None,
    Bool(bool),
    Int(i64),
    Count(u64),
    Single(f32),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    /// An array or a structure.
    Json(Cow<'a, str>),
    Time(i64),
}

impl Cell<'_> {
    /// Appends it for people and for CSV: nothing for no value.
    pub(super) fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::None => Ok(()),
            Self::Bool(v) => write!(out, "{v}"),
            Self::Int(v) => write!(out, "{v}"),
            Self::Count(v) => write!(out, "{v}"),
            // Debug is the shortest text that gives the bits back.
            Self::Single(v) => write!(out, "{v:?}"),
            Self::Double(v) => write!(out, "{v:?}"),
            Self::Text(v) | Self::Json(v) => out.write_str(v),
            Self::Bytes(v) => {
                let begin = out.len();
                write_value(out, &Value::Bytes((*v).into()));
                // Base64 without its quotes.
                out.pop();
                out.remove(begin);
                Ok(())
            }
            Self::Time(at) => out.write_str(&Moment(*at).rfc3339()),
        };
    }

    /// Whether it stands to the right in a table.
    pub(super) const fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Count(_) | Self::Single(_) | Self::Double(_))
    }
}

/// What a sample has in a column.
pub(super) fn of_reading<'a>(
    column: &Column,
    gateway: Option<&'a str>,
    reading: &'a Reading<'_>,
    corrected: Option<Timestamp>,
) -> Cell<'a> {
    let sample = &reading.sample;
    let text = |text: Option<&'a str>| text.map_or(Cell::None, |text| Cell::Text(text.into()));
    let time = |time: Option<Timestamp>| time.map_or(Cell::None, |time| Cell::Time(time.0));
    match column.key.as_ref() {
        "gateway" => text(gateway),
        "ts" => Cell::Time(sample.time().0),
        "corrected" => time(corrected),
        "path" => text(reading.path().map(tidegate_translator::TagPath::as_str)),
        "v" => of_value(&sample.value),
        "u" => text(reading.entry.and_then(|entry| entry.unit.as_deref())),
        "q" => Cell::Text(sample.quality.word().into()),
        "why" => text(sample.quality.reason().map(tidegate_translator::Reason::word)),
        "status" if sample.status != 0 => Cell::Count(sample.status.into()),
        "note" => text(note(&sample.value)),
        "source" => time(sample.source),
        "server" => time(sample.server),
        "acquired" => Cell::Time(sample.acquired.0),
        "epoch" => Cell::Text(reading.epoch.to_string().into()),
        "seq" => Cell::Count(reading.seq),
        "tag" if reading.entry.is_none() => Cell::Count(sample.tag.0.into()),
        _ => Cell::None,
    }
}

fn of_value(value: &Value) -> Cell<'_> {
    match value {
        Value::None => Cell::None,
        Value::Bool(v) => Cell::Bool(*v),
        Value::I64(v) => Cell::Int(*v),
        Value::U64(v) => Cell::Count(*v),
        Value::F32(v) => Cell::Single(*v),
        Value::F64(v) => Cell::Double(*v),
        Value::Text(v) => Cell::Text(v.as_ref().into()),
        Value::Bytes(v) => Cell::Bytes(v),
        Value::Json(v) => Cell::Json(v.as_ref().into()),
    }
}

/// What JSON would have lost; only floats and structures may lose anything.
fn note(value: &Value) -> Option<&'static str> {
    match value {
        Value::F32(v) if v.is_finite() => None,
        Value::F64(v) if v.is_finite() => None,
        Value::F32(_) | Value::F64(_) | Value::Json(_) => {
            write_value(&mut String::new(), value).map(tidegate_record::json::Inexact::word)
        }
        _ => None,
    }
}

/// The cells of a JSON object; `None` when it is none.
pub(super) fn of_json<'a>(json: &'a str, columns: &[Column]) -> Option<Vec<Cell<'a>>> {
    let mut cells = vec![Cell::None; columns.len()];
    let mut no_number = None;
    each(json, |key, raw| {
        if let Some(at) = columns.iter().position(|column| column.is(&key)) {
            cells[at] = of_raw(columns[at].kind, raw.get());
            if key == "note" {
                no_number = special(&cells[at]);
            }
        }
    })?;
    // A number that JSON cannot say has its word beside it.
    let value = columns.iter().position(|column| column.key == "v");
    if let (Some(no_number), Some(at)) = (no_number, value)
        && cells[at] == Cell::None
    {
        cells[at] = Cell::Double(no_number);
    }
    Some(cells)
}

fn special(note: &Cell<'_>) -> Option<f64> {
    let Cell::Text(note) = note else { return None };
    match note.as_ref() {
        "not-a-number" => Some(f64::NAN),
        "positive-infinity" => Some(f64::INFINITY),
        "negative-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The keys of a JSON object and what their values look like.
pub(super) fn kinds(json: &str) -> Option<Vec<(String, Kind)>> {
    let mut found: Vec<(String, Kind)> = Vec::new();
    each(json, |key, raw| {
        let kind = match of_raw(Kind::Value, raw.get()) {
            Cell::Bool(_) => Kind::Bool,
            Cell::Count(_) | Cell::Int(_) | Cell::Double(_) => Kind::Float,
            _ => Kind::Text,
        };
        // The gateway has a column of its own where there may be several.
        if key != "gateway" && found.iter().all(|(known, _)| *known != key) {
            found.push((key.into_owned(), kind));
        }
    })?;
    Some(found)
}

fn of_raw(kind: Kind, raw: &str) -> Cell<'_> {
    let text = || -> Option<Cow<'_, str>> {
        match serde_json::from_str::<&str>(raw) {
            Ok(text) => Some(Cow::Borrowed(text)),
            Err(_) => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
        }
    };
    let found = match raw.as_bytes().first() {
        Some(b'"') => text().map_or(Cell::None, Cell::Text),
        Some(b'{' | b'[') => Cell::Json(raw.into()),
        Some(b't') => Cell::Bool(true),
        Some(b'f') => Cell::Bool(false),
        Some(b'n') | None => Cell::None,
        Some(_) => number(raw),
    };
    match (kind, found) {
        (Kind::Time, Cell::Text(text)) => time(&text).map_or(Cell::Text(text), Cell::Time),
        // The live plane's times are milliseconds since 1970.
        (Kind::Time, Cell::Count(millis)) => {
            let nanos = i64::try_from(millis).ok().and_then(|ms| ms.checked_mul(1_000_000));
            nanos.map_or(Cell::Count(millis), Cell::Time)
        }
        // Integers that a double would change are texts in JSON.
        (Kind::Number | Kind::Count, Cell::Text(text)) => match number(&text) {
            Cell::None => Cell::Text(text),
            Cell::Int(v) => Cell::Int(v),
            Cell::Count(v) => Cell::Count(v),
            Cell::Double(v) => Cell::Double(v),
            _ => Cell::None,
        },
        (_, found) => found,
    }
}

fn number<'a>(text: &str) -> Cell<'a> {
    if let Ok(v) = text.parse() {
        return Cell::Count(v);
    }
    match (text.parse(), text.parse::<f64>()) {
        (Ok(v), _) => Cell::Int(v),
        (_, Ok(v)) => Cell::Double(v),
        _ => Cell::None,
    }
}

fn time(text: &str) -> Option<i64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok()
}

/// Goes through an object without building a tree of it.
fn each<'a>(json: &'a str, visit: impl FnMut(Cow<'a, str>, &'a RawValue)) -> Option<()> {
    struct Object<F>(F);
    impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Object<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Key(key)) = map.next_key()? {
                (self.0)(key, map.next_value()?);
            }
            Ok(())
        }
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Object(visit)).ok()?;
    reader.end().ok()
}

/// A key, borrowed where nothing in it is escaped.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
