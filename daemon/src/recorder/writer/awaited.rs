//! Samples that somebody waits for.
//!
//! # Invariants
//! - What came together stands in one frame: after a power cut all of it is there, or nothing.
//! - A receipt is given after the commit that made its samples durable, never before.
//! - What is not recorded is told to whoever waits, and counted by them: they may try again.

use std::collections::{HashMap, VecDeque};

use tidegate_journal::Codec;
use tidegate_record::samples::{Body, MAX_COLUMN_BYTES, decode};
use tidegate_translator::{LossCause, Sample, TagId};

use super::{FRAME_SAMPLES, GUESSED_SAMPLE_BYTES, Writer};
use crate::bulk::text_bytes;
use crate::recorder::boot_time;
use crate::recorder::receipt::{Batch, Place, Receipt};

/// Text of one frame, before it is compressed: what compresses badly shall fit, too.
const FRAME_TEXT: usize = MAX_COLUMN_BYTES / 8;

/// Those on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct AwaitedSamples {
    pending: Vec<Batch>,
    samples: usize,
    text: usize,
    since: Option<std::time::Duration>,
    /// In frames that no commit has covered yet.
    owed: Vec<(Receipt, Place)>,
}

impl AwaitedSamples {
    /// Whether nobody waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.owed.is_empty()
    }

    /// A commit has covered every frame.
    pub(super) fn are_durable(&mut self) {
        for (receipt, place) in self.owed.drain(..) {
            receipt.give(Ok(place));
        }
    }
}

impl Writer {
    pub(super) fn take_awaited(&mut self, batch: Batch) {
        let now = self.origin.elapsed();
        let text: usize = batch.iter().map(|sample| text_bytes(&sample.value)).sum();
        self.pace.waiting(batch.len() * GUESSED_SAMPLE_BYTES + text, true, now);
        if let Some(within) = batch.awaited.as_ref().and_then(|it| it.within) {
            self.pace.awaited(now.saturating_add(within));
        }
        if self.awaited.text + text > FRAME_TEXT {
            self.pack_awaited();
        }
        let awaited = &mut self.awaited;
        awaited.since.get_or_insert_with(boot_time);
        awaited.samples += batch.len();
        awaited.text += text;
        awaited.pending.push(batch);
        if awaited.samples >= FRAME_SAMPLES {
            self.pack_awaited();
        }
    }

    /// Turns them into frames, as many of them into one as fit.
    pub(super) fn pack_awaited(&mut self) {
        let Some(since) = self.awaited.since.take() else { return };
        let mut rest = VecDeque::from(std::mem::take(&mut self.awaited.pending));
        (self.awaited.samples, self.awaited.text) = (0, 0);
        self.record_catalog();
        let mut count = rest.len();
        while !rest.is_empty() {
            count = count.min(rest.len()).max(1);
            let samples: Vec<Sample> =
                rest.iter().take(count).flat_map(|batch| batch.iter().cloned()).collect();
            let packing = self.packer.pack(&samples);
            let fits = packing.refused.is_empty() && packing.bodies.len() <= 1;
            if !fits && count > 1 {
                count /= 2;
                continue;
            }
            let batches: Vec<Batch> = rest.drain(..count).collect();
            match <[Body; 1]>::try_from(packing.bodies) {
                Ok([body]) if packing.refused.is_empty() => {
                    self.append_awaited(batches, &body, since)
                }
                _ => refuse(batches, LossCause::TooLarge),
            }
        }
    }

    fn append_awaited(&mut self, batches: Vec<Batch>, body: &Body, since: std::time::Duration) {
        match self.append_samples(body, (since, boot_time())) {
            Ok(appended) => {
                let epoch = self.journal.epoch();
                let places = last_places(&batches, body);
                for (batch, place) in batches.into_iter().zip(places) {
                    let Some(awaited) = batch.awaited else { continue };
                    let seq = appended.first_seq.saturating_add(place);
                    self.awaited.owed.push((awaited.receipt, Place { epoch, seq }));
                }
            }
            Err(cause) => refuse(batches, cause),
        }
    }
}

fn refuse(batches: Vec<Batch>, cause: LossCause) {
    for awaited in batches.into_iter().filter_map(|batch| batch.awaited) {
        awaited.receipt.give(Err(cause));
    }
}

/// The place in the body of the last sample of each batch: samples of one tag keep their order,
/// and different tags may change places.
fn last_places(batches: &[Batch], body: &Body) -> Vec<u64> {
    let end = u64::from(body.count.saturating_sub(1));
    if body.codec == Codec::Plain {
        let mut next = 0_u64;
        let each = batches.iter().map(|batch| {
            next = next.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            next.saturating_sub(1)
        });
        return each.collect();
    }
    let mut places: HashMap<TagId, VecDeque<u64>> = HashMap::new();
    // What was packed a moment ago can be read.
    for (place, sample) in
        (0..).zip(decode(body.codec, body.count, &body.bytes).unwrap_or_default())
    {
        places.entry(sample.tag).or_default().push_back(place);
    }
    let mut of = |sample: &Sample| places.get_mut(&sample.tag)?.pop_front();
    let last = |batch: &Batch| batch.iter().filter_map(&mut of).last().unwrap_or(end);
    batches.iter().map(last).collect()
}
