//! One value for each of many tags, without the room that a hash table leaves free.
//!
//! # Invariants
//! - The numbers are in ascending order, each once; value and number stand at the same place.

use tidegate_translator::TagId;

/// Values by tag number. Made once, then looked up.
#[derive(Debug)]
pub(crate) struct ByTag<T> {
    ids: Box<[TagId]>,
    values: Box<[T]>,
}

impl<T> Default for ByTag<T> {
    fn default() -> Self {
        Self { ids: Box::default(), values: Box::default() }
    }
}

impl<T> FromIterator<(TagId, T)> for ByTag<T> {
    /// Of several values of one tag the first is kept.
    fn from_iter<I: IntoIterator<Item = (TagId, T)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        // A list of megabytes that grows leaves as much behind; who can, says how many there are.
        let count = pairs.size_hint().0;
        let (mut ids, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (id, value) in pairs {
            ids.push(id);
            values.push(value);
        }
        if !ids.is_sorted_by(|a, b| a < b) {
            let mut pairs: Vec<_> = ids.into_iter().zip(values).collect();
            pairs.sort_by_key(|(id, _)| *id);
            pairs.dedup_by_key(|(id, _)| *id);
            (ids, values) = pairs.into_iter().unzip();
        }
        Self { ids: ids.into_boxed_slice(), values: values.into_boxed_slice() }
    }
}

/// An iterator whose length is known although its parts do not tell.
#[derive(Debug)]
pub(crate) struct Counted<I> {
    items: I,
    left: usize,
}

impl<I: Iterator> Counted<I> {
    /// `items` give `count` items.
    pub(crate) fn new(items: I, count: usize) -> Self {
        Self { items, left: count }
    }
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.left = self.left.saturating_sub(1);
        self.items.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, None)
    }
}

impl<T> ByTag<T> {
    /// The place of a tag, looked for at `near` first: the tags of a poll follow each other.
    pub(crate) fn place(&self, id: TagId, near: usize) -> Option<usize> {
        if self.ids.get(near) == Some(&id) {
            return Some(near);
        }
        self.ids.binary_search(&id).ok()
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.values.len()
    }

    /// The value at a place.
    pub(crate) fn at(&self, place: usize) -> Option<&T> {
        self.values.get(place)
    }

    /// The value at a place, to be changed.
    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut T> {
        self.values.get_mut(place)
    }

    /// The number of the tag at a place.
    pub(crate) fn id_at(&self, place: usize) -> Option<TagId> {
        self.ids.get(place).copied()
    }

    /// All tags with their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TagId, &T)> {
        self.ids.iter().copied().zip(&self.values)
    }

    /// All tags with their values, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (TagId, &mut T)> {
        self.ids.iter().copied().zip(&mut self.values)
    }

    /// All values, by tag number.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    /// All values, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ByTag<char> {
        [(7, 'c'), (2, 'a'), (5, 'b'), (2, 'x')]
            .map(|(id, value)| (TagId(id), value))
            .into_iter()
            .collect()
    }

    #[test]
    fn a_tag_is_found_wherever_it_is_looked_for_first() {
        let table = table();
        for near in 0..5 {
            let at = |id| table.place(TagId(id), near).and_then(|place| table.at(place)).copied();
            assert_eq!([2, 5, 7].map(at), [Some('a'), Some('b'), Some('c')]);
            assert_eq!([0, 3, 8].map(at), [None; 3]);
        }
    }

    #[test]
    fn of_several_values_of_a_tag_the_first_is_kept() {
        assert_eq!(table().len(), 3);
    }

    #[test]
    fn a_value_can_be_changed_at_its_place() {
        let mut table = table();
        let place = table.place(TagId(5), 0).unwrap();
        *table.at_mut(place).unwrap() = 'B';
        assert!(table.at_mut(3).is_none());
        assert!(table.values().copied().eq(['a', 'B', 'c']));
    }
}
