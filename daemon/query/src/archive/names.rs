//! Which tags a question means, in every epoch that is kept.
//!
//! # Invariants
//! - A tag is its path; its number is another one in each epoch.
//! - A pattern that means nothing is named, and an epoch whose names are not kept as well.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_journal::Epoch;
use tidegate_record::catalog::MAX_TAGS;
use tidegate_record::samples::TagSet;
use tidegate_record::{Catalog, CatalogEntry};
use tidegate_translator::{TagId, TagPath};

use super::book::{Book, over};
use super::coverage::Meant;
use super::plan::refuse;
use super::walk::{Picked, Walk};
use super::{Archive, Bounds};
use crate::sidecar::{Damaged, Digest};
use crate::{Code, Pattern, Refusal};

/// How many patterns without a tag are named.
const MAX_NAMED: usize = 10;
/// Of more tags than this the sidecars are not asked which frames hold them.
const MAX_PICKED: usize = 64;

/// A tag that is meant.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    /// As it was described last.
    pub entry: CatalogEntry,
}

/// The tags that a question means.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By path.
    pub tags: Vec<Tag>,
    epochs: HashMap<Epoch, Numbers>,
    pub notes: Vec<String>,
}

/// The numbers of one epoch that are meant.
#[derive(Debug)]
pub(super) struct Numbers {
    pub set: TagSet,
    /// The numbers in ascending order.
    pub ids: Vec<TagId>,
    /// Of each its place in [`Names::tags`].
    places: Vec<u32>,
    /// From a number to its place in the two, as long as numbers are small; `u32::MAX` is none.
    dense: Vec<u32>,
}

impl Numbers {
    fn of(places: &[(TagId, u32)]) -> Self {
        let ids: Vec<TagId> = places.iter().map(|(id, _)| *id).collect();
        let last = ids.last().map_or(0, |id| id.0);
        // A gateway gives its numbers from 1 on; what is made up elsewhere takes no memory.
        let room = usize::try_from(last).ok().filter(|room| *room < MAX_TAGS);
        let mut dense = room.map_or_else(Vec::new, |room| vec![u32::MAX; room + 1]);
        for (id, place) in places {
            if let Some(slot) = usize::try_from(id.0).ok().and_then(|id| dense.get_mut(id)) {
                *slot = *place;
            }
        }
        let set = ids.iter().copied().collect();
        Self { set, ids, places: places.iter().map(|(_, place)| *place).collect(), dense }
    }

    pub(super) fn place(&self, tag: TagId) -> Option<u32> {
        if let Some(place) = self.dense.get(usize::try_from(tag.0).ok()?) {
            return Some(*place).filter(|place| *place != u32::MAX);
        }
        self.ids.binary_search(&tag).ok().and_then(|at| self.places.get(at)).copied()
    }
}

impl Names {
    /// The numbers of an epoch that are meant; `None` when it has none of them.
    pub(super) fn numbers(&self, epoch: Epoch) -> Option<&Numbers> {
        self.epochs.get(&epoch)
    }

    pub(super) fn entry(&self, place: u32) -> Option<&CatalogEntry> {
        self.tags.get(usize::try_from(place).ok()?).map(|tag| &tag.entry)
    }

    /// The frames of a segment that may hold one of the tags.
    pub(super) fn pick(&self) -> impl Fn(&Digest, Epoch) -> Result<Picked, Damaged> + '_ {
        move |digest, epoch| match self.numbers(epoch) {
            None => Ok(Picked::Some(Vec::new())),
            // Of so many, about every frame holds one.
            Some(numbers) if numbers.ids.len() > MAX_PICKED => Ok(Picked::All),
            Some(numbers) => {
                let digests = digest.tags(&numbers.ids)?;
                Ok(Picked::union(digests.into_iter().flat_map(|(_, it)| it.frames)))
            }
        }
    }

    /// The tags by path and device.
    pub(super) fn meant(&self) -> Vec<Meant<'_>> {
        let entries = self.tags.iter().map(|tag| &tag.entry);
        entries.map(|it| Meant { path: it.path.as_str(), device: &it.device }).collect()
    }

    /// The place of the first tag whose path is not before this one.
    pub(super) fn first_from(&self, path: &str) -> usize {
        self.tags.partition_point(|tag| tag.entry.path.as_str() < path)
    }
}

impl Archive {
    pub(super) fn names(
        &self,
        patterns: &[(String, Pattern)],
        bounds: &Bounds,
        walk: &mut Walk<'_>,
        book: &Book,
    ) -> Result<Names, Refusal> {
        let current = self.catalogs.current();
        find(patterns, &current, bounds, walk, book)
    }
}

fn find(
    patterns: &[(String, Pattern)],
    current: &Arc<Catalog>,
    bounds: &Bounds,
    walk: &mut Walk<'_>,
    book: &Book,
) -> Result<Names, Refusal> {
    let Some(written) = walk.epochs.last().map(|span| span.epoch) else {
        return refuse(Code::NotReady, "journal is not open yet; ask again in a moment");
    };
    let mut used = vec![false; patterns.len()];
    let mut names = Names::default();
    let mut found: HashMap<TagPath, CatalogEntry> = HashMap::new();
    let mut numbers: Vec<(Epoch, TagId, TagPath)> = Vec::new();
    let spans = walk.epochs.clone();
    // The newest description of a tag counts, so the newest epoch comes first.
    for span in spans.iter().rev() {
        let catalog: &Catalog = if span.epoch == written {
            current
        } else if let Some(known) = book.catalogs.get(&span.epoch) {
            known
        } else {
            if span.end_seq > span.first_seq {
                names.notes.push(format!(
                    "the names of epoch {} are not kept: its {} samples cannot be found by path",
                    span.epoch,
                    span.end_seq - span.first_seq
                ));
            }
            continue;
        };
        for (at, entry) in catalog.entries().enumerate() {
            if at.is_multiple_of(256) && walk.is_over() {
                return Err(over(walk.ended));
            }
            let mut meant = false;
            for ((_, pattern), used) in patterns.iter().zip(&mut used) {
                if (!meant || !*used) && pattern.matches(entry.path.as_str()) {
                    *used = true;
                    meant = true;
                }
            }
            if !meant {
                continue;
            }
            if !found.contains_key(&entry.path) {
                if found.len() >= bounds.max_tags {
                    let text = format!(
                        "tags: the patterns mean more than {} tags; ask for fewer",
                        bounds.max_tags
                    );
                    return refuse(Code::TooMuch, text);
                }
                found.insert(entry.path.clone(), entry.clone());
            }
            numbers.push((span.epoch, entry.id, entry.path.clone()));
        }
    }
    if found.is_empty() {
        let shown: String = patterns.first().map_or_else(String::new, |(text, _)| text.clone());
        let more = patterns.len().saturating_sub(1);
        let others = if more == 0 { String::new() } else { format!(" and {more} others") };
        let text = format!(
            "no tag of this gateway is meant by {:?}{others}; ask tags for those that there are",
            shown.chars().take(128).collect::<String>()
        );
        return refuse(Code::UnknownTag, text);
    }
    let unused = patterns.iter().zip(&used).filter(|(_, used)| !**used);
    for ((text, _), _) in unused.take(MAX_NAMED) {
        let shown: String = text.chars().take(128).collect();
        names.notes.push(format!("no tag of this gateway is meant by {shown:?}"));
    }
    names.tags = found.into_values().map(|entry| Tag { entry }).collect();
    names.tags.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    let mut places: HashMap<Epoch, Vec<(TagId, u32)>> = HashMap::new();
    for (epoch, id, path) in numbers {
        let place = names.tags.partition_point(|tag| tag.entry.path < path);
        if let Ok(place) = u32::try_from(place) {
            places.entry(epoch).or_default().push((id, place));
        }
    }
    for (epoch, mut places) in places {
        places.sort_unstable();
        names.epochs.insert(epoch, Numbers::of(&places));
    }
    Ok(names)
}
