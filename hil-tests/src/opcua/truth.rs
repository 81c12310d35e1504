//! What an OPC UA tag must hold, by its name alone, and whether anything is missing that nobody
//! has admitted.
//!
//! # Invariants
//! - Pure, and nothing of the product's decoding is used.
//! - A tag named `nN` is the counter `cN` or one below `Lines`, whose value is `N` more than a whole
//!   number of strides.

use serde_json::Value;

use super::STRIDE;
use crate::field::truth::Reading;
use crate::oracle::NamedLoss;

/// One write of all counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Its number.
    pub k: u64,
    /// The source time of its values, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// The number of a counter, from its tag's name.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    name.strip_prefix('n')?.parse().ok()
}

/// Which write a value of the counter of that number comes from; `None` for a value that this
/// counter never has.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
pub fn write_of(number: u64, value: &Value) -> Option<u64> {
    let value =
        value.as_f64().filter(|value| value.fract() == 0.0 && (0.0..9e15).contains(value))?;
    let value = value as u64;
    (value % STRIDE == number).then_some(value / STRIDE)
}

/// Whether a reading is what its counter held at its source time.
#[must_use]
pub fn was_served(reading: &Reading, number: u64, ticks: &[Tick]) -> bool {
    let Some(k) = write_of(number, &reading.value) else { return false };
    // What a server starts with has the time of its start.
    k == 0 || ticks.iter().any(|tick| tick.k == k && (tick.at_ms - reading.at_ms).abs() <= 1)
}

/// A write of a counter that the record does not hold and no loss names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The tag.
    pub path: String,
    /// The write.
    pub tick: Tick,
}

/// Every write between the first and the last that the record holds of a tag, which it does not hold
/// and that no loss of the tag or its device covers. A loss is believed to reach `slack_ms` beyond
/// its ends: it is told in the gateway's time, and writes in the server's.
#[must_use]
pub fn holes(
    path: &str,
    device: &str,
    record: &[Reading],
    ticks: &[Tick],
    losses: &[NamedLoss],
    slack_ms: i64,
) -> Vec<Hole> {
    let Some(number) = path.rsplit('/').next().and_then(number) else { return Vec::new() };
    let mut held: Vec<u64> = record
        .iter()
        .filter(|one| one.path == path)
        .filter_map(|one| write_of(number, &one.value))
        .collect();
    held.sort_unstable();
    let (Some(first), Some(last)) = (held.first(), held.last()) else { return Vec::new() };
    let covers = |loss: &NamedLoss, tick: &Tick| {
        let subject = loss.subject.as_str();
        let meant = ["", "gateway", device, path].contains(&subject) || subject.ends_with(path);
        let within = (loss.from_ns / 1_000_000 - slack_ms)..=(loss.to_ns / 1_000_000 + slack_ms);
        meant && within.contains(&tick.at_ms)
    };
    ticks
        .iter()
        .filter(|tick| (*first..=*last).contains(&tick.k))
        .filter(|tick| held.binary_search(&tick.k).is_err())
        .filter(|tick| !losses.iter().any(|loss| covers(loss, tick)))
        .map(|tick| Hole { path: path.to_owned(), tick: *tick })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(value: Value, at_ms: i64) -> Reading {
        let (path, quality) = ("P/d/n5".to_owned(), "good".to_owned());
        Reading { path, value, quality, why: None, at_ms }
    }

    fn ticks() -> Vec<Tick> {
        (1..=5).map(|k| Tick { k, at_ms: i64::try_from(k).unwrap() * 100 }).collect()
    }

    #[test]
    fn a_counter_is_known_by_its_rest() {
        assert_eq!(write_of(5, &json!(300_005.0)), Some(3));
        assert_eq!(write_of(5, &json!(5)), Some(0));
        assert_eq!(write_of(5, &json!(300_006.0)), None);
        assert_eq!(write_of(5, &json!(300_005.5)), None);
        assert_eq!(write_of(5, &json!("300005")), None);
    }

    #[test]
    fn a_value_counts_at_its_own_source_time_alone() {
        assert!(was_served(&reading(json!(200_005), 200), 5, &ticks()));
        assert!(!was_served(&reading(json!(200_005), 300), 5, &ticks()));
        assert!(!was_served(&reading(json!(900_005), 900), 5, &ticks()));
        assert!(was_served(&reading(json!(5), 1), 5, &ticks()));
    }

    #[test]
    fn a_hole_needs_a_loss_of_its_tag_or_device_at_its_time() {
        let record: Vec<_> =
            [1, 2, 4, 5].map(|k: i64| reading(json!(k * 100_000 + 5), k * 100)).to_vec();
        let found = |losses: &[NamedLoss]| holes("P/d/n5", "d", &record, &ticks(), losses, 20);
        let hole = Hole { path: "P/d/n5".to_owned(), tick: Tick { k: 3, at_ms: 300 } };
        assert_eq!(found(&[]), std::slice::from_ref(&hole));
        let loss = |subject: &str, from_ms: i64, to_ms: i64| NamedLoss {
            subject: subject.to_owned(),
            cause: "device-silent".to_owned(),
            from_ns: from_ms * 1_000_000,
            to_ns: to_ms * 1_000_000,
        };
        assert_eq!(found(&[loss("d", 250, 350)]), []);
        assert_eq!(found(&[loss("P/d/n5", 310, 320)]), []);
        assert_eq!(found(&[loss("other", 250, 350)]), std::slice::from_ref(&hole));
        assert_eq!(found(&[loss("d", 350, 450)]), [hole]);
    }
}
