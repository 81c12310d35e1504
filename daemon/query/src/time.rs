//! Times as questions name them.
//!
//! # Invariants
//! - A time without a zone is refused, never guessed.
//! - What lies outside 1677 to 2262 cannot be recorded, and is refused with those years.

use serde::{Deserialize, Serialize};

/// The longest relative time, in days.
pub const MAX_SPAN_DAYS: i64 = 36_500;

/// A time that a question names: absolute, or relative to the answerer's present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Nanoseconds since 1970 UTC.
    At(i64),
    /// Nanoseconds before (negative) or after the present.
    Relative(i64),
}

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Neither form.
    #[error(
        "{text:?} is no time; write 2026-09-21T14:00:00Z, with another zone 2026-09-21T16:00:00+02:00, or -12h"
    )]
    Text {
        /// What was written.
        text: String,
    },
    /// A wall-clock time that several instants could be.
    #[error("{text:?} has no time zone; write {text}Z or {text}+02:00")]
    NoZone {
        /// What was written.
        text: String,
    },
    /// Beyond what a record can hold.
    #[error("{text:?} lies outside the years 1677 to 2262")]
    Beyond {
        /// What was written.
        text: String,
    },
}

impl Wish {
    /// The instant, seen from `now` (nanoseconds since 1970 UTC).
    #[must_use]
    pub const fn seen_from(self, now: i64) -> i64 {
        match self {
            Self::At(at) => at,
            Self::Relative(by) => now.saturating_add(by),
        }
    }
}

impl std::str::FromStr for Wish {
    type Err = TimeError;

    /// Reads RFC 3339 with a zone, `now`, or a signed span such as `-12h`, `-90m`, `-7d`, `-1h30m`.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let owned = || text.chars().take(64).collect::<String>();
        if text == "now" {
            return Ok(Self::Relative(0));
        }
        if let Some(rest) = text.strip_prefix(['-', '+'])
            && let Some(span) = parse_span(rest)
        {
            return Ok(Self::Relative(if text.starts_with('-') { -span } else { span }));
        }
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            let beyond = || TimeError::Beyond { text: owned() };
            return i64::try_from(at.as_nanosecond()).map(Self::At).map_err(|_| beyond());
        }
        if text.parse::<jiff::civil::DateTime>().is_ok() {
            return Err(TimeError::NoZone { text: owned() });
        }
        Err(TimeError::Text { text: owned() })
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => tidegate_record::Moment(*at).exact(f),
            Self::Relative(0) => f.write_str("now"),
            Self::Relative(by) => {
                let sign = if *by < 0 { '-' } else { '+' };
                let by = by.unsigned_abs();
                if by.is_multiple_of(1_000_000) {
                    write!(f, "{sign}{}ms", by / 1_000_000)
                } else {
                    write!(f, "{sign}{by}ns")
                }
            }
        }
    }
}

impl Serialize for Wish {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A span without sign in nanoseconds: numbers with `ns`, `us`, `ms`, `s`, `m`, `h`, `d` or `w`, the
/// larger unit first. `None` for anything else and beyond [`MAX_SPAN_DAYS`].
#[must_use]
pub fn parse_span(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 8] = [
        ("w", 604_800_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let (mut rest, mut total, mut smallest) = (text, 0_i64, i64::MAX);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (_, unit) = *UNITS.iter().find(|(name, _)| rest.get(..letters) == Some(name))?;
        rest = &rest[letters..];
        if unit >= smallest {
            return None;
        }
        smallest = unit;
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    (total <= MAX_SPAN_DAYS * 86_400_000_000_000).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_documented() {
        let hour = 3_600_000_000_000;
        assert_eq!("-12h".parse(), Ok(Wish::Relative(-12 * hour)));
        assert_eq!("-1h30m".parse(), Ok(Wish::Relative(-hour * 3 / 2)));
        assert_eq!("now".parse(), Ok(Wish::Relative(0)));
        assert_eq!("1970-01-01T01:00:00+01:00".parse(), Ok(Wish::At(0)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Wish::At(1_000_000_000)));
    }

    #[test]
    fn a_time_without_a_zone_or_beyond_the_record_is_refused_by_name() {
        let refused = |text: &str| text.parse::<Wish>().unwrap_err().to_string();
        assert!(refused("2026-09-21T14:00:00").contains("no time zone"));
        assert!(refused("9999-01-01T00:00:00Z").contains("1677 to 2262"));
        for text in ["", "12h", "-", "-h", "-5x", "-1m1h", "yesterday", "-99999999999999999999d"] {
            assert!(refused(text).contains("is no time"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_wish_survives_its_text(at: i64, relative: bool) {
            let limit = MAX_SPAN_DAYS * 86_400_000_000_000;
            let wish = if relative { Wish::Relative(at % limit) } else { Wish::At(at) };
            prop_assert_eq!(wish.to_string().parse(), Ok(wish));
        }

        #[test]
        fn any_text_is_a_time_or_refused(text: String) {
            let _ = text.parse::<Wish>();
        }
    }
}
