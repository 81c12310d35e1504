//! What went over the wire around the last faults of a device: its black box.
//!
//! # Invariants
//! - At most [`MAX_FAULTS`] faults and [`MAX_FAULT_BYTES`] of memory for each device; the oldest give way
//!   and are counted.
//! - A fault that alone is larger loses its earliest exchanges first, and never its last.
//! - A later report of the same fault replaces the earlier one. A driver that was started again
//!   counts from 0 again, and its faults are not those of the driver before.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_translator::{Exchange, FaultReport, Timestamp};

use super::cut;
use super::parts::millis_always;

/// Faults kept for each device: more are no news.
pub const MAX_FAULTS: usize = 16;
/// Memory for the faults of one device, in bytes: 16 faults of 6 exchanges of 260 bytes each way
/// take 50 KiB.
pub const MAX_FAULT_BYTES: usize = 64 * 1024;
/// What an exchange takes besides its bytes and words.
const EXCHANGE: usize = size_of::<Exchange>();

/// The faults of one device.
#[derive(Debug, Default)]
pub(super) struct Faults {
    kept: VecDeque<FaultReport>,
    bytes: usize,
    dropped: u64,
}

impl Faults {
    pub(super) fn note(&mut self, mut fault: FaultReport) {
        shrink(&mut fault);
        let same = |kept: &FaultReport| kept.number == fault.number && kept.at == fault.at;
        if let Some(place) = self.kept.iter().position(same) {
            // It stays where it is: faults are in the order in which they happened.
            if let Some(kept) = self.kept.get_mut(place) {
                self.bytes = self.bytes - size(kept) + size(&fault);
                *kept = fault;
            }
        } else {
            self.bytes += size(&fault);
            self.kept.push_back(fault);
        }
        while self.kept.len() > MAX_FAULTS || self.bytes > MAX_FAULT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= size(&oldest);
            self.dropped += 1;
        }
    }

    pub(super) fn report(&self) -> (Vec<FaultShown>, u64) {
        (self.kept.iter().map(FaultShown::from).collect(), self.dropped)
    }
}

fn size(fault: &FaultReport) -> usize {
    size_of::<FaultReport>() + fault.what.len() + fault.exchanges.iter().map(weight).sum::<usize>()
}

fn weight(exchange: &Exchange) -> usize {
    EXCHANGE + exchange.sent.len() + exchange.received.len() + exchange.outcome.len()
}

/// Makes a report fit into the memory of one device.
fn shrink(fault: &mut FaultReport) {
    fault.what = cut(std::mem::take(&mut fault.what));
    let mut total = size(fault);
    let mut first = 0;
    while total > MAX_FAULT_BYTES && first + 1 < fault.exchanges.len() {
        total -= fault.exchanges.get(first).map_or(0, weight);
        first += 1;
    }
    fault.exchanges.drain(..first);
    if total <= MAX_FAULT_BYTES {
        return;
    }
    if let Some(last) = fault.exchanges.last_mut() {
        let quarter = MAX_FAULT_BYTES / 4;
        last.sent = start_of(&last.sent, quarter);
        last.received = start_of(&last.received, quarter);
        last.outcome = cut(std::mem::take(&mut last.outcome));
    }
}

fn start_of(bytes: &[u8], most: usize) -> Box<[u8]> {
    bytes.get(..most).unwrap_or(bytes).into()
}

/// The last faults of a device and how old the data of its tags are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeviceFaults {
    /// The device.
    pub device: String,
    /// Its tags by how long they stay fresh, which follows from their poll interval.
    #[serde(default)]
    pub groups: Vec<GroupReport>,
    /// The last faults, oldest first.
    pub faults: Vec<FaultShown>,
    /// Older ones that were dropped.
    #[serde(default)]
    pub dropped: u64,
}

/// The tags of a device that are polled alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// How long a reading of theirs stays fresh, in milliseconds; `None` where it does not age.
    pub fresh_for_ms: Option<u64>,
    /// How many.
    pub tags: usize,
    /// How many of them are good now.
    pub good: usize,
    /// The age of the youngest reading, in milliseconds; `None` before the first.
    pub data_age_ms: Option<u64>,
    /// The age of the oldest reading, in milliseconds.
    pub oldest_ms: Option<u64>,
}

/// One fault, as it goes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultShown {
    /// Counts the faults of a driver from 0.
    pub number: u64,
    /// When it happened.
    #[serde(rename = "at_ms", with = "millis_always")]
    pub at: Timestamp,
    /// What happened.
    pub what: String,
    /// The exchanges around it, oldest first.
    pub exchanges: Vec<ExchangeShown>,
}

/// One request and what came back, as it goes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExchangeShown {
    /// When the request was sent.
    #[serde(rename = "at_ms", with = "millis_always")]
    pub at: Timestamp,
    /// Until the outcome was known, in milliseconds.
    pub took_ms: f64,
    /// The request, in hexadecimal.
    #[serde(with = "hex")]
    pub sent: Box<[u8]>,
    /// What arrived meanwhile, in hexadecimal.
    #[serde(with = "hex")]
    pub received: Box<[u8]>,
    /// What became of it.
    pub outcome: String,
}

impl From<&FaultReport> for FaultShown {
    fn from(fault: &FaultReport) -> Self {
        let exchange = |e: &Exchange| ExchangeShown {
            at: e.at,
            took_ms: e.took.as_secs_f64() * 1000.0,
            sent: e.sent.clone(),
            received: e.received.clone(),
            outcome: e.outcome.clone(),
        };
        let exchanges = fault.exchanges.iter().map(exchange).collect();
        Self { number: fault.number, at: fault.at, what: fault.what.clone(), exchanges }
    }
}

impl From<&ExchangeShown> for Exchange {
    fn from(shown: &ExchangeShown) -> Self {
        let took = Duration::try_from_secs_f64(shown.took_ms / 1000.0).unwrap_or_default();
        let (sent, received) = (shown.sent.clone(), shown.received.clone());
        Self { at: shown.at, took, sent, received, outcome: shown.outcome.clone() }
    }
}

/// Bytes as hexadecimal digits.
pub mod hex {
    use std::fmt::Write as _;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    /// The digits, two for each byte.
    #[must_use]
    pub fn digits(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The bytes; `None` when the text is no pairs of digits.
    #[must_use]
    pub fn bytes(text: &str) -> Option<Box<[u8]>> {
        let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
        text.as_bytes().chunks(2).map(pair).collect()
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        digits(bytes).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Box<[u8]>, D::Error> {
        let text = String::deserialize(input)?;
        bytes(&text).ok_or_else(|| serde::de::Error::custom("not pairs of hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(number: u64, at: i64, exchanges: usize, bytes: usize) -> FaultReport {
        let exchange = |i| Exchange {
            at: Timestamp(i64::try_from(i).unwrap()),
            took: Duration::from_millis(5),
            sent: vec![0; 12].into(),
            received: vec![1; bytes].into(),
            outcome: "answered".to_owned(),
        };
        let exchanges = (0..exchanges).map(exchange).collect();
        FaultReport { number, at: Timestamp(at), what: "silent".to_owned(), exchanges }
    }

    fn numbers(faults: &Faults) -> Vec<u64> {
        faults.report().0.iter().map(|fault| fault.number).collect()
    }

    #[test]
    fn the_last_faults_are_kept_and_the_older_counted() {
        let mut faults = Faults::default();
        (0..20).for_each(|n| faults.note(fault(n, 0, 3, 10)));
        assert_eq!(numbers(&faults), (4..20).collect::<Vec<_>>());
        assert_eq!(faults.report().1, 4);
    }

    #[test]
    fn a_later_report_of_a_fault_replaces_the_earlier_one_in_its_place() {
        let mut faults = Faults::default();
        (0..3).for_each(|n| faults.note(fault(n, 7, 1, 10)));
        faults.note(fault(1, 7, 3, 10));
        assert_eq!(numbers(&faults), [0, 1, 2]);
        assert_eq!(faults.report().0[1].exchanges.len(), 3);
    }

    #[test]
    fn a_driver_that_was_started_again_does_not_overwrite_the_faults_before() {
        let mut faults = Faults::default();
        faults.note(fault(0, 7, 1, 10));
        faults.note(fault(0, 8, 1, 10));
        assert_eq!(numbers(&faults), [0, 0]);
    }

    #[test]
    fn memory_is_bounded_whatever_is_reported() {
        let mut faults = Faults::default();
        for (number, bytes) in [10, 30_000, 70_000, 200_000, 3, 64 * 1024].into_iter().enumerate() {
            faults.note(fault(u64::try_from(number).unwrap(), 0, 4, bytes));
            assert!(faults.bytes <= MAX_FAULT_BYTES);
            assert_eq!(faults.bytes, faults.kept.iter().map(size).sum::<usize>());
            // The newest is always there, its last exchange included.
            let newest = faults.kept.back().unwrap();
            assert!(
                newest.number == u64::try_from(number).unwrap() && !newest.exchanges.is_empty()
            );
        }
    }

    #[test]
    fn bytes_survive_the_wire_as_digits() {
        let mut faults = Faults::default();
        faults.note(fault(0, 5_000_000, 1, 3));
        let (shown, dropped) = faults.report();
        let page = DeviceFaults { device: "d".into(), groups: vec![], faults: shown, dropped };
        let text = serde_json::to_string(&page).unwrap();
        assert!(text.contains(r#""at_ms":5,"what":"silent""#), "{text}");
        assert!(text.contains(r#""received":"010101""#), "{text}");
        assert_eq!(serde_json::from_str::<DeviceFaults>(&text).unwrap(), page);
        for wrong in ["0", "0g", "ä", "+1"] {
            assert_eq!(hex::bytes(wrong), None, "{wrong}");
        }
    }
}
