//! Times and spans for people and for JSON.

use std::fmt;

use serde::{Serialize, Serializer};

/// A time in RFC 3339, UTC, with as many decimals as it needs.
pub(crate) fn rfc3339(nanoseconds: i64) -> String {
    // Every i64 of nanoseconds lies within 1677 to 2262, which jiff can hold.
    jiff::Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| nanoseconds.to_string(), |time| time.to_string())
}

/// Nanoseconds since 1970 UTC; JSON gets RFC 3339, because a number would not fit a double.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// Writes all of it, RFC 3339 with as many decimals as it needs: what JSON has.
    ///
    /// # Errors
    /// When the formatter cannot be written.
    pub fn exact(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every i64 of nanoseconds lies within 1677 to 2262, which jiff can hold.
        match jiff::Timestamp::from_nanosecond(self.0.into()) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }

    /// RFC 3339 with as many decimals as it needs: what JSON has.
    #[must_use]
    pub fn rfc3339(self) -> String {
        rfc3339(self.0)
    }
}

impl fmt::Display for Moment {
    /// Whole seconds: what a person compares with a clock on the wall.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&rfc3339(self.0.div_euclid(1_000_000_000).saturating_mul(1_000_000_000)))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// Nanoseconds between two moments; JSON gets seconds, people get the two largest units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

impl Span {
    /// From `earlier` to `later`; negative when the clock says that it lies ahead.
    #[must_use]
    pub const fn between(earlier: Moment, later: Moment) -> Self {
        Self(later.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.unsigned_abs() / 1_000_000;
        let seconds = millis / 1000;
        let text = match seconds {
            0 => format!("{millis} ms"),
            1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
            60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
            3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
            _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        };
        if self.0 < 0 { write!(f, "−{text}") } else { f.pad(&text) }
    }
}

impl Serialize for Span {
    #[expect(clippy::cast_precision_loss, reason = "seconds for a reader, not for arithmetic")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_the_two_units_that_matter() {
        for (nanos, text) in [
            (12_000_000, "12 ms"),
            (1_500_000_000, "1.5 s"),
            (62_000_000_000, "1 min 2 s"),
            (7_260_000_000_000, "2 h 1 min"),
            (180_000_000_000_000, "2 d 2 h"),
            (-2_000_000_000, "−2.0 s"),
        ] {
            assert_eq!(Span(nanos).to_string(), text);
        }
    }

    #[test]
    fn the_ends_of_the_range_are_times_too() {
        assert_eq!(rfc3339(i64::MIN), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(Moment(1_790_000_000_999_999_999).to_string(), "2026-09-21T14:13:20Z");
    }
}
