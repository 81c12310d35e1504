//! Rows → messages, none larger than it may be.
//!
//! # Invariants
//! - A row is in exactly one part, in the order in which it came.
//! - A message has room for its summary; gaps that do not fit are counted in it.

use serde_json::value::RawValue;
use tidegate_query::{Part, Row, Summary};

/// Rows of one part where parts are granted one by one.
pub(super) const PART_BYTES: usize = 64 * 1024;
/// What is kept free for the end of an answer.
pub(super) const SUMMARY_ROOM: usize = 32 * 1024;

/// What becomes of a row.
pub(super) enum Fit {
    /// It is in the part.
    Taken,
    /// The part has to be sent first.
    Full(Row),
    /// No message is large enough for it.
    Never,
}

/// Collects rows into the next part.
pub(super) struct Packer {
    id: String,
    /// Rows of one part, in bytes.
    target: usize,
    /// The longest row, in bytes.
    most: usize,
    rows: Vec<Box<RawValue>>,
    bytes: usize,
    sent: u64,
    /// Rows so far, those that wait among them.
    pub(super) taken: u64,
}

impl Packer {
    /// For answers whose messages have at most `max_bytes`.
    pub(super) fn new(id: String, parted: bool, max_bytes: usize) -> Self {
        let most = max_bytes.saturating_sub(SUMMARY_ROOM);
        let target = if parted { PART_BYTES.min(most) } else { most };
        Self { id, target, most, rows: Vec::new(), bytes: 0, sent: 0, taken: 0 }
    }

    pub(super) fn offer(&mut self, row: Row) -> Fit {
        // With its comma.
        let length = row.0.get().len() + 1;
        if length > self.most {
            return Fit::Never;
        }
        if !self.rows.is_empty() && self.bytes + length > self.target {
            return Fit::Full(row);
        }
        self.bytes += length;
        self.taken += 1;
        self.rows.push(row.0);
        Fit::Taken
    }

    /// The part as it is.
    pub(super) fn part(&mut self) -> Part {
        self.bytes = 0;
        let part = Part::rows(self.id.clone(), self.sent, std::mem::take(&mut self.rows));
        self.sent += 1;
        part
    }

    /// Leaves gaps out until the summary fits.
    pub(super) fn fit(summary: &mut Summary) {
        loop {
            let length = serde_json::to_string(summary).map_or(0, |text| text.len());
            let Some(coverage) = &mut summary.coverage else { return };
            if length <= SUMMARY_ROOM - 1024 || coverage.gaps.is_empty() {
                return;
            }
            let keep = coverage.gaps.len() / 2;
            let left = coverage.gaps.len() - keep;
            coverage.gaps.truncate(keep);
            coverage.gaps_left_off += u64::try_from(left).unwrap_or(u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_query::{Coverage, Gap};

    use super::*;

    fn row(bytes: usize) -> Row {
        Row(RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap())
    }

    #[test]
    fn rows_keep_their_order_and_no_part_is_larger_than_asked() {
        let mut packer = Packer::new("q".into(), true, 512 << 10);
        let mut parts = Vec::new();
        for bytes in [30_000, 30_000, 30_000, 100_000, 10] {
            if let Fit::Full(row) = packer.offer(row(bytes)) {
                parts.push(packer.part());
                assert!(matches!(packer.offer(row), Fit::Taken));
            }
        }
        parts.push(packer.part());
        let lengths: Vec<Vec<usize>> =
            parts.iter().map(|p| p.rows.iter().map(|row| row.get().len()).collect()).collect();
        // A row that alone is larger than a part has one of its own.
        assert_eq!(lengths, [vec![30_000, 30_000], vec![30_000], vec![100_000], vec![10]]);
        assert_eq!(parts.iter().map(|part| part.part).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(packer.taken, 5);
    }

    #[test]
    fn a_row_that_fits_no_message_is_never_taken() {
        let mut packer = Packer::new("q".into(), false, 128 << 10);
        assert!(matches!(packer.offer(row(96 << 10)), Fit::Never));
        assert!(matches!(packer.offer(row(90 << 10)), Fit::Taken));
        assert!(matches!(packer.offer(row(10 << 10)), Fit::Full(_)));
    }

    #[test]
    fn a_summary_with_ten_thousand_gaps_fits_and_counts_those_that_it_leaves_out() {
        let gap = Gap {
            from: "2026-01-01T00:00:00Z".into(),
            to: "2026-01-01T00:00:00Z".into(),
            who: "press-1".into(),
            cause: "device-silent".into(),
            count: None,
            open: false,
        };
        let coverage = Coverage {
            from: String::new(),
            to: String::new(),
            share: 0.5,
            gaps: vec![gap; 10_000],
            ..serde_json::from_str(r#"{"from":"","to":"","share":0.5}"#).unwrap()
        };
        let mut summary = Summary { coverage: Some(coverage), ..Summary::default() };
        Packer::fit(&mut summary);
        assert!(serde_json::to_string(&summary).unwrap().len() < SUMMARY_ROOM);
        let coverage = summary.coverage.unwrap();
        assert!(!coverage.gaps.is_empty());
        assert_eq!(coverage.gaps.len() as u64 + coverage.gaps_left_off, 10_000);
    }
}
