//! Which device a tag belongs to: what concerns a batch concerns its device.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidegate_translator::{Sample, TagId, Timestamp};

/// The devices' tags. Bounded by configuration.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// In ascending order. The tags of a device were numbered one after the other, mostly.
    runs: Vec<Run>,
    /// When a device's last sample was acquired.
    last: HashMap<Arc<str>, Timestamp>,
}

/// Tags of one device whose numbers follow each other.
#[derive(Debug)]
struct Run {
    first: u32,
    last: u32,
    device: Arc<str>,
}

impl Run {
    /// Takes `next` in where it goes on from here.
    fn takes(&mut self, next: &Self) -> bool {
        let goes_on = self.last.checked_add(1) == Some(next.first) && self.device == next.device;
        if goes_on {
            self.last = next.last;
        }
        goes_on
    }
}

/// Joins neighbours.
fn joined(runs: impl IntoIterator<Item = Run>) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    for run in runs {
        if !out.last_mut().is_some_and(|before| before.takes(&run)) {
            out.push(run);
        }
    }
    out
}

impl Owners {
    /// Sets whose the tags are, each tag once. What is known of a device that stays is kept.
    pub(super) fn set(&mut self, tags: impl IntoIterator<Item = (TagId, Arc<str>)>) {
        let single = |(tag, device): (TagId, _)| Run { first: tag.0, last: tag.0, device };
        let mut runs = joined(tags.into_iter().map(single));
        if !runs.is_sorted_by_key(|run| run.first) {
            runs.sort_unstable_by_key(|run| run.first);
            runs = joined(runs);
        }
        runs.shrink_to_fit();
        self.runs = runs;
        let devices: HashSet<&Arc<str>> = self.runs.iter().map(|run| &run.device).collect();
        self.last.retain(|device, _| devices.contains(device));
    }

    fn owner(&self, tag: TagId) -> Option<&Arc<str>> {
        let after = self.runs.partition_point(|run| run.first <= tag.0);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (tag.0 <= run.last).then_some(&run.device)
    }

    /// Notes a batch, which is one device's, and returns whose it is.
    pub(super) fn note(&mut self, batch: &[Sample]) -> Option<Arc<str>> {
        let device = Arc::clone(self.owner(batch.first()?.tag)?);
        let acquired = batch.last()?.acquired;
        match self.last.get_mut(&device) {
            Some(last) => *last = acquired,
            None => {
                self.last.insert(Arc::clone(&device), acquired);
            }
        }
        Some(device)
    }

    /// A device's tags in the order of their numbers, and when its last sample was acquired.
    pub(super) fn of_device(&self, device: &str) -> (Vec<TagId>, Option<Timestamp>) {
        let own = self.runs.iter().filter(|run| &*run.device == device);
        let tags = own.flat_map(|run| run.first..=run.last).map(TagId).collect();
        (tags, self.last.get(device).copied())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_translator::Value;

    use super::*;

    #[test]
    fn every_tag_has_its_device_in_whatever_order_they_are_told() {
        let of = |tag: u32| Arc::from(if tag.is_multiple_of(7) { "a" } else { "b" });
        let rising: Vec<u32> = (1..40).filter(|tag| *tag != 20).collect();
        let falling = rising.iter().rev().copied().collect();
        for tags in [rising, falling] {
            let mut owners = Owners::default();
            owners.set(tags.into_iter().map(|tag| (TagId(tag), of(tag))));
            for tag in 0..45 {
                let sample = Sample::good(TagId(tag), Timestamp(1), Value::None);
                let known = (1..40).contains(&tag) && tag != 20;
                assert_eq!(owners.note(&[sample]), known.then(|| of(tag)), "{tag}");
            }
            assert_eq!(owners.of_device("a").0, [7, 14, 21, 28, 35].map(TagId));
            assert_eq!(owners.of_device("b").0.len(), 33);
            assert!(owners.runs.len() <= 12, "{:?}", owners.runs);
        }
    }
}
