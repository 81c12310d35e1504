//! How much of a range is really there.
//!
//! # Invariants
//! - Gaps may overlap; the share is of their union, tag by tag, never of a sum.
//! - What a device did not give is missing of its tags alone; what the gateway lost, of all.

use std::collections::{BTreeMap, HashMap};

use tidegate_journal::BridgeCause;
use tidegate_record::Moment;

use super::book::Book;
use super::plan::Range;
use super::walk::Damage;
use crate::{Coverage, Gap};

/// The most gaps that are listed: about 30 KiB. The longest are.
const MAX_GAPS: usize = 200;

/// The subject of what concerns the whole gateway.
pub(super) const GATEWAY: &str = "gateway";

/// A time of which something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub range: Range,
    pub who: String,
    pub cause: String,
    pub count: Option<u64>,
    pub open: bool,
}

/// A tag that is meant, by path and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meant<'a> {
    pub path: &'a str,
    pub device: &'a str,
}

/// Everything of the book that may be missing in a range, and what lies before and behind the
/// record. `met` is damage that was met while reading; `kept` is the time of the oldest and of the newest frame, `None` for an empty record.
pub(super) fn missing(
    book: &Book,
    met: &[Damage],
    range: Range,
    kept: Option<(i64, i64)>,
) -> Vec<Missing> {
    let of_gateway = |from, to, cause: &str, count| Missing {
        range: Range { from, to },
        who: GATEWAY.to_owned(),
        cause: cause.to_owned(),
        count,
        open: false,
    };
    let mut all = Vec::new();
    for known in book.missed.values() {
        let loss = &known.loss;
        all.push(Missing {
            // The end is the last moment that is known to be missing.
            range: Range { from: loss.from, to: loss.to.saturating_add(1) },
            who: loss.subject.clone(),
            cause: loss.cause.clone(),
            count: loss.count,
            open: loss.open,
        });
    }
    for hole in &book.holes {
        let bridge = &hole.bridge;
        let count = bridge.end_seq.checked_sub(bridge.first_seq);
        let cause = cause_word(bridge.cause);
        all.push(of_gateway(bridge.wall.0, bridge.wall.1.saturating_add(1), cause, count));
    }
    for damage in book.unnamed(met) {
        let (from, to) = damage.wall;
        all.push(of_gateway(from, to.saturating_add(1), "damaged", None));
    }
    for (_, event) in &book.steps {
        if event.wall_after > event.wall_before {
            // No sample can bear a time that the clock never showed.
            all.push(of_gateway(event.wall_before, event.wall_after, "clock-set", None));
        }
    }
    let (begins, newest) = kept.unwrap_or((range.to, i64::MAX));
    all.push(of_gateway(i64::MIN, begins, "before-record", None));
    all.push(of_gateway(newest.saturating_add(1), i64::MAX, "not-yet-durable", None));
    all.retain_mut(|missing| {
        missing.range.from = missing.range.from.max(range.from);
        missing.range.to = missing.range.to.min(range.to);
        !missing.range.is_empty()
    });
    all.sort_by(|a, b| (a.range.from, a.range.to, &a.who).cmp(&(b.range.from, b.range.to, &b.who)));
    all
}

pub(super) const fn cause_word(cause: BridgeCause) -> &'static str {
    match cause {
        BridgeCause::DroppedOldest => "dropped-oldest",
        BridgeCause::Damaged => "damaged",
        BridgeCause::LostAtHub => "lost-at-hub",
    }
}

/// What of a range is there, of these tags.
pub(super) fn of(range: Range, tags: &[Meant<'_>], mut missing: Vec<Missing>) -> Coverage {
    let mut devices: HashMap<&str, u64> = HashMap::new();
    let mut paths: HashMap<&str, &str> = HashMap::new();
    for tag in tags {
        *devices.entry(tag.device).or_default() += 1;
        paths.insert(tag.path, tag.device);
    }
    missing.retain(|missing| {
        let who = missing.who.as_str();
        who == GATEWAY || devices.contains_key(who) || paths.contains_key(who)
    });
    let share = share(range, &devices, &paths, &missing);
    let left_off = missing.len().saturating_sub(MAX_GAPS);
    if left_off > 0 {
        missing.sort_by_key(|missing| {
            std::cmp::Reverse(missing.range.to.saturating_sub(missing.range.from))
        });
        missing.truncate(MAX_GAPS);
        missing.sort_by_key(|missing| (missing.range.from, missing.range.to));
    }
    let gap = |missing: Missing| Gap {
        from: Moment(missing.range.from).rfc3339(),
        to: Moment(missing.range.to).rfc3339(),
        who: missing.who,
        cause: missing.cause,
        count: missing.count,
        open: missing.open,
    };
    Coverage {
        from: Moment(range.from).rfc3339(),
        to: Moment(range.to).rfc3339(),
        tags: tags.len() as u64,
        share,
        gaps: missing.into_iter().map(gap).collect(),
        gaps_left_off: left_off as u64,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for a reader")]
fn share(
    range: Range,
    devices: &HashMap<&str, u64>,
    paths: &HashMap<&str, &str>,
    missing: &[Missing],
) -> f64 {
    let tags: u64 = devices.values().sum();
    let length = i128::from(range.to) - i128::from(range.from);
    if length <= 0 || tags == 0 {
        return 0.0;
    }
    let mut by_who: BTreeMap<&str, Vec<Range>> = BTreeMap::new();
    for missing in missing {
        by_who.entry(&missing.who).or_default().push(missing.range);
    }
    let of = |who: &str| by_who.get(who).map_or(&[][..], Vec::as_slice);
    let gone =
        |of_device: &[Range], of_tag: &[Range]| union([of(GATEWAY), of_device, of_tag].concat());
    let mut lost = 0.0;
    for (device, count) in devices {
        lost += gone(of(device), &[]) as f64 * *count as f64;
    }
    // Tags with gaps of their own lose more than their devices.
    for (path, device) in paths {
        if !of(path).is_empty() {
            lost += gone(of(device), of(path)) as f64 - gone(of(device), &[]) as f64;
        }
    }
    (1.0 - lost / (length as f64 * tags as f64)).clamp(0.0, 1.0)
}

/// How long ranges are together, each moment counted once.
fn union(mut ranges: Vec<Range>) -> i128 {
    ranges.sort_by_key(|range| range.from);
    let (mut total, mut end) = (0_i128, i128::from(i64::MIN));
    for range in ranges {
        let from = i128::from(range.from).max(end);
        let to = i128::from(range.to);
        if to > from {
            total += to - from;
            end = to;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(who: &str, from: i64, to: i64) -> Missing {
        Missing {
            range: Range { from, to },
            who: who.into(),
            cause: "device-silent".into(),
            count: None,
            open: false,
        }
    }

    const TAGS: [Meant<'static>; 2] =
        [Meant { path: "P/a", device: "press" }, Meant { path: "P/b", device: "oven" }];

    #[test]
    fn what_a_device_did_not_give_is_missing_of_its_tags_alone() {
        let range = Range { from: 0, to: 100 };
        let of_press = of(range, &TAGS, vec![missing("press", 0, 50), missing("mill", 0, 100)]);
        assert!((of_press.share - 0.75).abs() < 1e-9);
        assert_eq!(of_press.gaps.len(), 1, "another device's gap concerns nobody here");
        let of_all = of(range, &TAGS, vec![missing(GATEWAY, 0, 50)]);
        assert!((of_all.share - 0.5).abs() < 1e-9);
        let of_tag = of(range, &TAGS, vec![missing("P/b", 0, 20)]);
        assert!((of_tag.share - 0.9).abs() < 1e-9);
    }

    #[test]
    fn gaps_that_overlap_count_once() {
        let range = Range { from: 0, to: 100 };
        let gaps = vec![missing("press", 0, 50), missing("P/a", 40, 60), missing(GATEWAY, 10, 60)];
        let covered = of(range, &TAGS, gaps);
        // a lacks 0..60, b lacks 10..60.
        assert!((covered.share - 0.45).abs() < 1e-9, "{}", covered.share);
    }

    #[test]
    fn of_too_many_gaps_the_longest_are_listed_in_order() {
        let gaps = (0..300).map(|n| missing("press", n * 1000, n * 1000 + n)).collect();
        let covered = of(Range { from: 0, to: 1_000_000 }, &TAGS, gaps);
        assert_eq!((covered.gaps.len(), covered.gaps_left_off), (MAX_GAPS, 100));
        assert_eq!(covered.gaps[0].from, Moment(100_000).rfc3339());
        assert_eq!(covered.gaps[199].from, Moment(299_000).rfc3339());
    }

    #[test]
    fn nothing_of_an_empty_range_is_covered_and_the_whole_of_time_does_not_overflow() {
        assert_eq!(of(Range { from: 5, to: 5 }, &TAGS, Vec::new()).share.to_bits(), 0);
        let all = Range { from: i64::MIN, to: i64::MAX };
        let covered = of(all, &TAGS, vec![missing(GATEWAY, i64::MIN, i64::MAX)]);
        assert_eq!(covered.share.to_bits(), 0);
    }
}
