//! Which device a tag belongs to: what concerns a batch concerns its device.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidegate_translator::{Sample, TagId, Timestamp};

/// The devices' tags. Bounded by configuration.
#[derive(Debug, Default)]
pub(super) struct Owners {
    of: HashMap<TagId, Arc<str>>,
    /// When a device's last sample was acquired.
    last: HashMap<Arc<str>, Timestamp>,
}

impl Owners {
    /// Sets whose the tags are. What is known of a device that stays is kept.
    pub(super) fn set(&mut self, tags: impl IntoIterator<Item = (TagId, Arc<str>)>) {
        self.of = tags.into_iter().collect();
        let devices: HashSet<&Arc<str>> = self.of.values().collect();
        self.last.retain(|device, _| devices.contains(device));
    }

    /// Notes a batch, which is one device's, and returns whose it is.
    pub(super) fn note(&mut self, batch: &[Sample]) -> Option<Arc<str>> {
        let device = self.of.get(&batch.first()?.tag)?;
        let acquired = batch.last()?.acquired;
        match self.last.get_mut(device) {
            Some(last) => *last = acquired,
            None => {
                self.last.insert(Arc::clone(device), acquired);
            }
        }
        Some(Arc::clone(device))
    }

    /// A device's tags in the order of their numbers, and when its last sample was acquired.
    pub(super) fn of_device(&self, device: &str) -> (Vec<TagId>, Option<Timestamp>) {
        let own = self.of.iter().filter(|(_, owner)| &***owner == device);
        let mut tags: Vec<_> = own.map(|(tag, _)| *tag).collect();
        tags.sort_unstable();
        (tags, self.last.get(device).copied())
    }
}
