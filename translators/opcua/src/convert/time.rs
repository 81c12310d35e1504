//! Times: OPC UA counts 100 ns since 1601 (Part 6, 5.2.2.5).
//!
//! # Invariants
//! - Not a digit is lost or invented: as many are written as the source sent, without zeros at the
//!   end.
//! - Before 1601 and after 9999 there is nothing: those are the "no time" and "end of time" of the
//!   specification, written as the first and the last second.

use std::fmt;

use opcua::types::DateTime;
use tidegate_translator::Timestamp;

/// From 1601 to 1970.
const EPOCH_TICKS: i64 = 116_444_736_000_000_000;
const TICKS_PER_SECOND: i64 = 10_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z.
const LAST_TICKS: i64 = 2_650_467_743_990_000_000;

/// A time of a sample; `None` when there is none, or outside of the years 1677 to 2262 that a
/// timestamp can hold. `tens` counts 10 picoseconds.
pub(super) fn timestamp(time: Option<DateTime>, tens: Option<u16>) -> Option<Timestamp> {
    let ticks = time?.ticks();
    if ticks <= 0 {
        return None;
    }
    // From 10,000 on the count is illegal and shall be taken for 9,999 (Part 6, 5.2.2.17).
    let nanos = i64::from(tens.unwrap_or(0).min(9_999) / 100);
    let since = ticks.checked_sub(EPOCH_TICKS)?.checked_mul(100)?;
    since.checked_add(nanos).map(Timestamp)
}

/// A time as RFC 3339 writes it.
pub(super) struct Rfc3339 {
    pub(super) ticks: i64,
}

impl Rfc3339 {
    pub(super) fn of(time: DateTime) -> Self {
        Self { ticks: time.ticks() }
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ticks = self.ticks.clamp(0, LAST_TICKS);
        let (seconds, fraction) = (ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND);
        let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if fraction != 0 {
            let digits = format!("{fraction:07}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// The date so many days after 1601-01-01, the first day of a 400-year cycle: years begin in March
/// for the sum, so that the leap day is the last one.
fn date(days: i64) -> (i64, i64, i64) {
    // From 1600-03-01.
    let days = days + 306;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 1600 + era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(ticks: i64) -> String {
        Rfc3339 { ticks }.to_string()
    }

    #[test]
    fn a_time_has_the_digits_that_the_source_sent() {
        for (ticks, text) in [
            (0, "1601-01-01T00:00:00Z"),
            (i64::MIN, "1601-01-01T00:00:00Z"),
            (1, "1601-01-01T00:00:00.0000001Z"),
            (EPOCH_TICKS, "1970-01-01T00:00:00Z"),
            (EPOCH_TICKS + 12_345_000, "1970-01-01T00:00:01.2345Z"),
            (133_536_383_990_000_000, "2024-02-28T23:59:59Z"),
            (133_536_384_000_000_000, "2024-02-29T00:00:00Z"),
            (LAST_TICKS, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(shown(ticks), text);
        }
    }

    #[test]
    fn a_sample_has_a_time_only_where_the_source_sent_one() {
        let time = |ticks: i64| timestamp(Some(DateTime::from(ticks)), None);
        assert_eq!(timestamp(None, Some(5)), None);
        assert_eq!(time(0), None, "the null time");
        assert_eq!(time(EPOCH_TICKS), Some(Timestamp(0)));
        assert_eq!(time(EPOCH_TICKS + 7), Some(Timestamp(700)));
        assert_eq!(time(i64::MAX), None, "the end of time");
        let fine = timestamp(Some(DateTime::from(EPOCH_TICKS)), Some(1_234));
        assert_eq!(fine, Some(Timestamp(12)));
        let illegal = timestamp(Some(DateTime::from(EPOCH_TICKS)), Some(u16::MAX));
        assert_eq!(illegal, Some(Timestamp(99)));
    }

    proptest! {
        #[test]
        fn a_time_is_the_one_that_the_crate_below_writes(ticks in 0..LAST_TICKS) {
            let theirs = DateTime::from(ticks).to_rfc3339();
            // Theirs has milliseconds; ours is cut to them.
            let whole = ticks - ticks % 10_000;
            let ours = shown(whole);
            let millis = (whole / 10_000) % 1_000;
            let ours = ours.split(['.', 'Z']).next().unwrap().to_owned();
            prop_assert_eq!(format!("{ours}.{millis:03}Z"), theirs);
        }

        #[test]
        fn every_tick_has_a_time(ticks: i64) {
            prop_assert!(shown(ticks).ends_with('Z'));
            let _ = timestamp(Some(DateTime::from(ticks)), None);
        }
    }
}
