//! A device's tags by their poll interval.
//!
//! # Invariants
//! - Every tag is in exactly one group, and a group's tags keep their order.
//! - Where all tags have one interval, the only group is the device as it is: no tag is copied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::TagId;

use crate::spec::DeviceSpec;

/// The tags of one interval, as a device of their own.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The device with these tags and their interval only.
    pub(crate) spec: Arc<DeviceSpec>,
    /// The numbers of its tags.
    pub(crate) ids: Arc<[TagId]>,
}

/// The groups of a device, the shortest interval first; one where there are no tags.
pub(crate) fn groups(spec: &Arc<DeviceSpec>, ids: &Arc<[TagId]>) -> Vec<Group> {
    let interval = |tag: usize| spec.tags.get(tag).and_then(|tag| tag.poll_every());
    let interval = |tag: usize| interval(tag).unwrap_or(spec.poll_every);
    let first = interval(0);
    if (0..spec.tags.len()).all(|tag| interval(tag) == first) {
        let spec = if first == spec.poll_every {
            Arc::clone(spec)
        } else {
            Arc::new(DeviceSpec { poll_every: first, ..DeviceSpec::clone(spec) })
        };
        return vec![Group { spec, ids: Arc::clone(ids) }];
    }
    let mut by_interval: BTreeMap<Duration, Vec<usize>> = BTreeMap::new();
    for tag in 0..spec.tags.len() {
        by_interval.entry(interval(tag)).or_default().push(tag);
    }
    let group = |(poll_every, tags): (Duration, Vec<usize>)| {
        let ids = tags.iter().filter_map(|tag| ids.get(*tag).copied()).collect();
        let tags = tags.iter().filter_map(|tag| spec.tags.get(*tag).cloned()).collect();
        Group { spec: Arc::new(DeviceSpec { poll_every, tags, ..DeviceSpec::clone(spec) }), ids }
    };
    by_interval.into_iter().map(group).collect()
}

/// A device once for each poll interval of its tags, with the tags of that interval: what is
/// planned and polled together.
#[must_use]
pub fn poll_groups(spec: &Arc<DeviceSpec>) -> Vec<Arc<DeviceSpec>> {
    groups(spec, &Arc::from([])).into_iter().map(|group| group.spec).collect()
}
