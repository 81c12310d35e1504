//! Tags that only servers know: which of those that a driver found are taken, and what becomes of
//! them at a reload.
//!
//! # Invariants
//! - A path is one tag's: what is configured goes before what is found, and what was found first
//!   before what is found later. Who is refused is named.
//! - What was found stays as long as its subtree is configured, also while the server is away or
//!   its driver is replaced.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_opcua::FoundTag;
use tidegate_translator::{TagId, TagPath};

use crate::config::{Device, RESERVED_SEGMENT, Tag};

/// Paths that a message names; of more it gives the number.
const NAMED: usize = 3;

/// What a driver found last, in its order, with the numbers of what was taken.
#[derive(Debug, Default)]
pub(super) struct Found {
    tags: Vec<FoundTag>,
    ids: Vec<Option<TagId>>,
    /// Whether another attempt would give other numbers.
    is_stale: bool,
}

/// A path that is another tag's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    path: TagPath,
    owner: Arc<str>,
}

impl Found {
    /// What was defined: numbers in the order of the tags. `is_stale` when some should have got one
    /// and did not.
    pub(super) const fn defined(
        tags: Vec<FoundTag>,
        ids: Vec<Option<TagId>>,
        is_stale: bool,
    ) -> Self {
        Self { tags, ids, is_stale }
    }

    /// Everything that was found.
    pub(super) fn tags(&self) -> &[FoundTag] {
        &self.tags
    }

    /// The numbers, if exactly this is known already.
    pub(super) fn known(&self, tags: &[FoundTag]) -> Option<Vec<Option<TagId>>> {
        (!self.is_stale && self.tags == tags).then(|| self.ids.clone())
    }

    /// What was taken, with its number.
    pub(super) fn taken(&self) -> impl Iterator<Item = (TagId, &FoundTag)> {
        self.ids.iter().zip(&self.tags).filter_map(|(id, tag)| Some(((*id)?, tag)))
    }

    /// What stays when `before` becomes `after`: what lies below a subtree that both have.
    pub(super) fn carried(self, before: &Device, after: &Device) -> Self {
        let is_same = |a: &Tag, b: &Tag| a.path == b.path && a.address == b.address;
        let place = |old: &Tag| after.subtrees.iter().position(|new| is_same(old, new));
        let places: Vec<Option<usize>> = before.subtrees.iter().map(place).collect();
        let stays = |(mut tag, id): (FoundTag, _)| {
            tag.subtree = places.get(tag.subtree).copied().flatten()?;
            Some((tag, id))
        };
        let (tags, ids) = self.tags.into_iter().zip(self.ids).filter_map(stays).unzip();
        Self { tags, ids, is_stale: self.is_stale }
    }

    /// Leaves out what is not taken any more. Returns whether the driver must find its tags again:
    /// one of them is another's now, or is free.
    pub(super) fn leave_out(&mut self, taken: &[bool]) -> bool {
        let mut differs = false;
        for (id, taken) in self.ids.iter_mut().zip(taken) {
            differs |= id.is_some() != *taken;
            *id = id.filter(|_| *taken);
        }
        self.is_stale |= differs;
        differs
    }
}

/// For each tag of `found` whether it is taken; `others` are the paths that have an owner already.
pub(super) fn accepted<'a>(
    device: &Device,
    found: &[FoundTag],
    others: impl Iterator<Item = (&'a TagPath, &'a str)>,
) -> (Vec<bool>, Vec<Conflict>) {
    let mut places: HashMap<&TagPath, usize> = HashMap::with_capacity(found.len());
    let mut taken = vec![false; found.len()];
    let mut conflicts = Vec::new();
    let own = device.name();
    for (place, tag) in found.iter().enumerate() {
        let conflict = |owner: &str| Conflict { path: tag.path.clone(), owner: owner.into() };
        if tag.path.segments().any(|segment| segment == RESERVED_SEGMENT) {
            conflicts.push(conflict(crate::observe::health::DEVICE));
        } else if places.contains_key(&tag.path) {
            conflicts.push(conflict(own));
        } else if let Some(taken) = taken.get_mut(place) {
            places.insert(&tag.path, place);
            *taken = tag.subtree < device.subtrees.len();
        }
    }
    for (path, owner) in others {
        let Some(taken) = places.get(path).and_then(|place| taken.get_mut(*place)) else {
            continue;
        };
        *taken = false;
        // What a device has in its own list is configured there instead, and nobody's mistake.
        if owner != own {
            conflicts.push(Conflict { path: path.clone(), owner: owner.into() });
        }
    }
    (taken, conflicts)
}

/// The conflicts in a sentence; `None` without any.
pub(super) fn told(device: &str, conflicts: &[Conflict]) -> Option<String> {
    let count = conflicts.len();
    let named = conflicts.iter().take(NAMED);
    let named: Vec<_> =
        named.map(|it| format!("{:?} is a tag of {:?}", it.path.as_str(), it.owner)).collect();
    let more = match count.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (count > 0).then(|| {
        format!(
            "{count} of the tags found at device {device:?} are left out, because their paths are \
             taken: {}{more}; give the subtree another path, or exclude them",
            named.join(", ")
        )
    })
}
