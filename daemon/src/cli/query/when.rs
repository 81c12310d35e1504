//! Times as people type them.
//!
//! # Invariants
//! - A wall-clock time without a zone is refused, never guessed, and so is one that the zone has twice
//!   or not at all.

use std::time::SystemTime;

use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Disambiguation;
use tidegate_query::{TimeError, Wish};

use super::exit::{self, Failure};

/// The present, in nanoseconds since 1970 UTC.
pub(super) fn now(now: SystemTime) -> Result<i64, Failure> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).ok();
    let nanos = since.and_then(|since| i64::try_from(since.as_nanos()).ok());
    nanos.ok_or_else(|| Failure::new(exit::NO, "this machine's clock is before 1970".to_owned()))
}

/// Reads a time; what is relative becomes absolute.
pub(super) fn read(text: &str, now: i64) -> Result<Wish, String> {
    if let Some(zone) = text.split_once('[').and_then(|(_, zone)| zone.strip_suffix(']')) {
        return zoned(text, zone).map(Wish::At);
    }
    match text.parse::<Wish>() {
        Ok(wish) => Ok(Wish::At(wish.seen_from(now))),
        Err(TimeError::NoZone { .. }) => {
            let time = if text.contains(['T', 't', ' ']) { "" } else { "T00:00" };
            Err(format!(
                "{text:?} has no time zone; write {text}{time}Z, {text}{time}+02:00 or '{text}{time}[Europe/Berlin]'"
            ))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn zoned(text: &str, zone: &str) -> Result<i64, String> {
    static PARSER: DateTimeParser = DateTimeParser::new().disambiguation(Disambiguation::Reject);
    let zoned = PARSER.parse_zoned(text).map_err(|error| {
        if jiff::tz::TimeZone::get(zone).is_err() {
            format!("time zone {zone:?} is not known to this machine; write one such as Europe/Berlin, or a time such as 2026-09-21T14:00+02:00")
        } else {
            format!("{text:?} is no time ({error}); where clocks are changed, write an offset such as +02:00 instead of the zone")
        }
    })?;
    i64::try_from(zoned.timestamp().as_nanosecond())
        .map_err(|_| TimeError::Beyond { text: text.to_owned() }.to_string())
}
