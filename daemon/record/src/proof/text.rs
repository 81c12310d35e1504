//! The report for a person: what counts first, then each finding in words.

use std::fmt;

use super::report::{
    Disorder, Duplicate, EpochReport, Gap, Listed, Report, SequencedLoss, Tail, UnsequencedLoss,
};

/// How many of one sort a person gets to read; `--json` has all that are listed.
const SHOWN: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}/{}: {}", self.plant, self.gateway, self.verdict.word())?;
        if self.epochs.is_empty() {
            for why in &self.because {
                writeln!(f, "  {why}")?;
            }
        }
        for epoch in &self.epochs {
            epoch.write(f)?;
        }
        write_list(f, "foreign", &self.foreign, |f, foreign| {
            write!(f, "message {}: {}", foreign.stream_seq, foreign.what)
        })?;
        if self.listed_from.is_some() || self.listed_to.is_some() {
            writeln!(f, "listed only a part of the time; the chain was verified whole")?;
        }
        Ok(())
    }
}

impl EpochReport {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nepoch {}", self.epoch)?;
        writeln!(f, "  {:<14} {}", "verdict", self.verdict.word())?;
        for why in &self.because {
            writeln!(f, "  {:<14} {why}", "because")?;
        }
        if let Some(from) = &self.complete_from {
            let note = if from.is_beginning { "" } else { "  (earlier frames have aged out)" };
            let (frame, seq) = (from.frame, from.seq);
            writeln!(
                f,
                "  {:<14} frame {frame}, sample {seq}, {}{note}",
                "complete from", from.at
            )?;
        }
        if let Some(to) = &self.watermark {
            let (frame, seq) = (to.frame, to.next_seq);
            writeln!(
                f,
                "  {:<14} frame {frame}, sample {seq}, {} ({} ago)",
                "watermark", to.at, to.age
            )?;
        }
        if let Some(tail) = &self.tail {
            let words = match tail {
                Tail::Agrees => "ends at the watermark".to_owned(),
                Tail::Ahead { frames, samples } => {
                    let (frames, samples) = (count(*frames, "frame"), count(*samples, "sample"));
                    format!("{frames}, {samples} not at the hub yet")
                }
                Tail::Conflicts => "is not the one that the hub's copy is of".to_owned(),
            };
            writeln!(f, "  {:<14} {words}", "local journal")?;
        }
        if let Some(seam) = &self.seam {
            writeln!(f, "  {:<14} {}", "beginning", seam.words)?;
        }
        let (frames, samples) = (count(self.frames, "frame"), count(self.samples, "sample"));
        writeln!(f, "  {:<14} {frames}, {samples}, {} bytes", "held", self.bytes)?;
        self.write_signatures(f)?;
        self.write_losses(f)?;
        write_list(f, "gaps", &self.gaps, write_gap)?;
        write_list(f, "duplicates", &self.duplicates, write_duplicate)?;
        write_list(f, "out of order", &self.inversions, write_disorder)?;
        write_list(f, "chain breaks", &self.chain_breaks, write_disorder)?;
        write_list(f, "bodies", &self.bodies, write_disorder)?;
        write_list(f, "misfits", &self.misfits, |f, m| {
            write!(
                f,
                "bridge in frame {} over frames {} to {}: {}",
                m.frame, m.first_frame, m.last_frame, m.why
            )
        })
    }

    fn write_signatures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = &self.signatures;
        match &signed.up_to {
            Some(to) => {
                let (frame, seq, by) = (to.frame, to.next_seq, &to.by);
                writeln!(
                    f,
                    "  {:<14} up to frame {frame}, sample {seq}, {} by {}, serial {}",
                    "signed", to.at, by.subject, by.serial
                )?;
                if let Some(why) = &by.not_vouched_for {
                    writeln!(f, "  {:<14} {why}", "but")?;
                }
            }
            None if signed.judged => writeln!(f, "  {:<14} nothing", "signed")?,
            None => {}
        }
        write_list(f, "signatures", &signed.refused, |f, refused| {
            write!(f, "frame {}: {}", refused.frame, refused.why)
        })
    }

    fn write_losses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = &self.sequenced;
        if lost.losses.count == 0 {
            writeln!(f, "  {:<14} none", "lost")?;
        } else {
            let (frames, samples) = (count(lost.frames, "frame"), count(lost.samples, "sample"));
            writeln!(f, "  {:<14} {samples} in {frames}, each named:", "lost")?;
            write_items(f, &lost.losses, write_sequenced)?;
        }
        let missed = &self.unsequenced;
        if missed.losses.count == 0 {
            return writeln!(f, "  {:<14} none", "not captured");
        }
        let samples = count(missed.samples, "sample");
        let words = match (missed.samples, missed.uncounted) {
            (_, 0) => samples,
            (0, 1) => "a number of samples that nobody knows".to_owned(),
            (0, n) => format!("numbers of samples that nobody knows, {n} times"),
            (_, 1) => format!("{samples}, and a number that nobody knows"),
            (_, n) => format!("{samples}, and numbers that nobody knows, {n} times"),
        };
        writeln!(f, "  {:<14} {words}:", "not captured")?;
        write_items(f, &missed.losses, write_unsequenced)
    }
}

/// `1 frame`, `2 frames`.
fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn write_list<T>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    listed: &Listed<T>,
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if listed.count == 0 {
        return Ok(());
    }
    writeln!(f, "  {name:<14} {}:", listed.count)?;
    write_items(f, listed, write)
}

fn write_items<T>(
    f: &mut fmt::Formatter<'_>,
    listed: &Listed<T>,
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for item in listed.list.iter().take(SHOWN) {
        write!(f, "    ")?;
        write(f, item)?;
        writeln!(f)?;
    }
    let shown = listed.list.len().min(SHOWN) as u64;
    match listed.count.saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}

fn write_sequenced(f: &mut fmt::Formatter<'_>, loss: &SequencedLoss) -> fmt::Result {
    let cause = match loss.cause {
        tidegate_journal::BridgeCause::DroppedOldest => "dropped, the journal was full",
        tidegate_journal::BridgeCause::Damaged => "damaged on the disk",
        tidegate_journal::BridgeCause::LostAtHub => "lost at the hub, no longer kept here",
    };
    let SequencedLoss { samples, first_frame, last_frame, from, to, .. } = loss;
    write!(f, "{from} to {to}  {samples} samples  frames {first_frame} to {last_frame}  {cause}")
}

fn write_unsequenced(f: &mut fmt::Formatter<'_>, loss: &UnsequencedLoss) -> fmt::Result {
    let UnsequencedLoss { subject, cause, count, open, .. } = loss;
    let (from, to) =
        (loss.corrected_from.unwrap_or(loss.from), loss.corrected_to.unwrap_or(loss.to));
    let by_clock =
        if loss.corrected_to.is_some() { ", by the clock as it was set later" } else { "" };
    let count = count.map_or_else(|| "unknown count".to_owned(), |n| self::count(n, "sample"));
    let open = if *open { ", still going on then" } else { "" };
    write!(f, "{from} to {to}  {subject}  {cause}  {count}{open}{by_clock}")
}

fn write_gap(f: &mut fmt::Formatter<'_>, gap: &Gap) -> fmt::Result {
    let Gap { first_frame, last_frame, samples, after, before, .. } = gap;
    write!(f, "{after} to {before}  {samples} samples  frames {first_frame} to {last_frame}")
}

fn write_duplicate(f: &mut fmt::Formatter<'_>, duplicate: &Duplicate) -> fmt::Result {
    let words = match duplicate.is_same {
        Some(true) => "the same bytes again",
        Some(false) => "other bytes under the same number",
        None => "too far from the first to compare",
    };
    write!(f, "frame {}: {words}", duplicate.frame)
}

fn write_disorder(f: &mut fmt::Formatter<'_>, disorder: &Disorder) -> fmt::Result {
    match disorder {
        Disorder::ChainBreak { frame } => {
            write!(f, "frame {frame} does not carry the hash of the frame before it")
        }
        Disorder::SeqGap { frame, expected, found } => {
            write!(f, "frame {frame} begins with sample {found} instead of {expected}: a gap")
        }
        Disorder::SeqOverlap { frame, expected, found } => {
            write!(f, "frame {frame} begins with sample {found} instead of {expected}: an overlap")
        }
        Disorder::Inversion { frame, after } => {
            write!(f, "frame {frame} stands behind frame {after}")
        }
        Disorder::Body { frame, what } => write!(f, "frame {frame}: {what}"),
    }
}
