//! A day of record, as a gateway with a thousand tags writes it.

use tidegate_translator::{Sample, TagId, Timestamp};

use crate::signals::{mixed, noise};

/// Where a day begins when nobody says: the samples of a scan are acquired at most 2 ms later.
pub(crate) const START: i64 = 1_790_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Appends one scan of all tags: blocks of 50 registers are answered at once.
pub(crate) fn scan_of(tags: u32, scan: i64, out: &mut Vec<Sample>) {
    out.extend((0..tags).map(|tag| {
        let late = (noise(tag / 50, scan + 7) % 2_000_000).cast_signed();
        Sample::good(TagId(tag), Timestamp(START + scan * SECOND + late), mixed(tag, scan))
    }));
}
