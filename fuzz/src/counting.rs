//! An allocator that knows how much each thread holds.
//!
//! # Invariants
//! - It only counts: every request goes to the system's allocator as it came.
//! - Counters are per thread, so that tests side by side do not count each other's memory. What
//!   one thread takes and another gives back is counted at neither end of the way truly; targets
//!   run on one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

fn count(bytes: usize, taken: bool) {
    if taken {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
    }
    let bytes = isize::try_from(bytes).unwrap_or(isize::MAX);
    // A thread that is ending has no counters any more, and nobody who asks for them.
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add(if taken { bytes } else { -bytes }));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "the trait is unsafe; each method hands its arguments on unchanged")]
// SAFETY: `System` keeps the contract, and counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), true);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), true);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), false);
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, true);
        count(layout.size(), false);
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What some work took at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes held at one time.
    pub held: usize,
    /// Bytes asked for in one piece: what a length that is merely claimed would show in.
    pub largest: usize,
}

/// What this thread took during `work`, beyond what it held before. Zero where [`Counting`] is
/// not the allocator.
pub fn taken_by(work: impl FnOnce()) -> Memory {
    let before = HELD.get();
    PEAK.set(before);
    LARGEST.set(0);
    work();
    let held = usize::try_from(PEAK.get() - before).unwrap_or(0);
    Memory { held, largest: LARGEST.get() }
}
