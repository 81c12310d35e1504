//! When a value arose, as applications write it.

use jiff::Timestamp as Instant;
use tidegate_translator::Timestamp;

/// Nanoseconds of a millisecond.
const MS: i64 = 1_000_000;

/// A text with a zone (`2026-11-30T07:00:00Z`, `2026-11-30T08:00:00.25+01:00`), or milliseconds
/// since 1970 in UTC; `None` for anything else, and for what lies beyond the years 1678 to 2261.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(ms) = text.parse::<i64>() {
        return ms.checked_mul(MS).map(Timestamp);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(['T', 't', ' ']) {
        let ns = text.parse::<Instant>().ok()?.as_nanosecond();
        return i64::try_from(ns).ok().map(Timestamp);
    }
    let (whole, part) = text.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(part) || !digits(whole.strip_prefix('-').unwrap_or(whole)) {
        return None;
    }
    // Milliseconds with a fraction, exactly.
    let part: String = part.chars().chain("000000".chars()).take(6).collect();
    let (ms, ns) = (whole.parse::<i64>().ok()?.checked_mul(MS)?, part.parse::<i64>().ok()?);
    if whole.starts_with('-') { ms.checked_sub(ns) } else { ms.checked_add(ns) }.map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_a_zone_and_milliseconds_are_times() {
        let parse = |text| parse(text).map(|at| at.0);
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(parse("1970-01-01T01:00:01.5+01:00"), Some(1_500_000_000));
        assert_eq!(parse("1739462400000"), Some(1_739_462_400_000_000_000));
        assert_eq!(parse("1.25"), Some(1_250_000));
        assert_eq!(parse("-1.25"), Some(-1_250_000));
        assert_eq!(parse("0.0000019"), Some(1));
    }

    #[test]
    fn what_has_no_zone_or_lies_too_far_away_is_none() {
        for text in [
            "",
            "soon",
            "2026-11-30",
            "2026-11-30T07:00:00",
            "9223372036854775807",
            "9999-12-31T00:00:00Z",
            "1e3",
            "1.",
            ".5",
            "--1.5",
            "1.2.3",
            "NaN",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
