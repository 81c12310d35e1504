//! The hashes of the last frames at the hub.

use std::collections::VecDeque;

use tidegate_journal::FrameHash;

/// How many frames back a repetition can be compared with what it repeats: 2.5 MiB per epoch,
/// and fifty times what one message of the largest size holds.
const FRAMES: usize = 64 * 1024;

/// The hashes of the last [`FRAMES`] numbers; `None` where no frame is.
#[derive(Debug, Default)]
pub(super) struct Window {
    hashes: VecDeque<Option<FrameHash>>,
    /// The number of the first.
    from: u64,
}

impl Window {
    /// The hash of a frame, while it is remembered.
    pub(super) fn of(&self, number: u64) -> Option<FrameHash> {
        let at = usize::try_from(number.checked_sub(self.from)?).ok()?;
        *self.hashes.get(at)?
    }

    /// Remembers a frame beyond all others.
    pub(super) fn push(&mut self, number: u64, hash: FrameHash) {
        let end = self.from.saturating_add(self.hashes.len() as u64);
        let skipped = usize::try_from(number.saturating_sub(end)).unwrap_or(usize::MAX);
        if self.hashes.is_empty() || skipped >= FRAMES {
            self.hashes.clear();
            self.from = number;
        } else {
            self.hashes.extend(std::iter::repeat_n(None, skipped));
        }
        self.hashes.push_back(Some(hash));
        while self.hashes.len() > FRAMES {
            self.hashes.pop_front();
            self.from += 1;
        }
    }

    /// Remembers a frame that comes behind later ones.
    pub(super) fn put_late(&mut self, number: u64, hash: FrameHash) {
        let at = number.checked_sub(self.from).and_then(|at| usize::try_from(at).ok());
        if let Some(slot) = at.and_then(|at| self.hashes.get_mut(at)) {
            *slot = Some(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> FrameHash {
        FrameHash([n; 32])
    }

    #[test]
    fn a_hole_is_remembered_as_one_and_can_be_filled_later() {
        let mut window = Window::default();
        window.push(10, hash(1));
        window.push(13, hash(2));
        assert_eq!(
            (window.of(10), window.of(11), window.of(13)),
            (Some(hash(1)), None, Some(hash(2)))
        );
        window.put_late(11, hash(3));
        window.put_late(9, hash(4));
        assert_eq!((window.of(9), window.of(11), window.of(14)), (None, Some(hash(3)), None));
    }

    #[test]
    fn only_the_last_frames_are_remembered() {
        let mut window = Window::default();
        let end = FRAMES as u64 + 5;
        for number in 0..end {
            window.push(number, hash(1));
        }
        assert_eq!(window.of(4), None);
        assert_eq!(window.of(5), Some(hash(1)));
        assert_eq!(window.hashes.len(), FRAMES);
        window.push(u64::MAX, hash(2));
        assert_eq!((window.of(end - 1), window.of(u64::MAX)), (None, Some(hash(2))));
    }
}
