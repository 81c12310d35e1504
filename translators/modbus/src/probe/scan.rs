//! Which addresses of a table can be read: what to ask next, and what follows from the answer.
//!
//! First the range is asked in blocks. Then each run that was found is extended at both ends, by
//! bisection, until the first address that is refused. Last, what is still unknown is asked one by
//! one, always in the middle of the largest gap: long runs are found early, and a search that ends
//! before its time knows the most that it could.
//!
//! # Invariants
//! - An address is called readable only when an answer held it, and absent only when it was refused
//!   on its own or together with readable ones alone.
//! - At most as many requests as the budget allows. A search that is not cut short takes at most
//!   two for each block of the range, one for each absent address, and for each run as many as its
//!   two ends take to be bisected.
//! - No address is asked again once it is known.
//! - One request without an answer is repeated once; the second silence ends the search.

/// Addresses in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Run {
    /// How many, 1–65536.
    #[must_use]
    pub const fn len(self) -> u32 {
        (self.last.saturating_sub(self.first)) as u32 + 1
    }

    /// Never: a run has at least one address.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Answered with as many cells as were asked for.
    Answered,
    /// Refused with this exception.
    Refused(u8),
    /// No answer that can be used.
    Silent,
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every address of the range is known.
    Complete,
    /// As many requests as are allowed were made.
    Budget,
    /// The device does not have this table (exception 1).
    NoTable,
    /// The unit, or the gateway on its behalf, no longer answers; the request that it left
    /// unanswered.
    Silent(Run),
    /// The unit is busy all the time (exceptions 5 and 6).
    Busy,
}

/// How often a busy unit is asked again before the search is given up.
const MAX_BUSY: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Unknown,
    Readable,
    Absent,
}

/// What is being done.
#[derive(Debug, Clone, Copy)]
enum Doing {
    /// Asking in blocks; the next begins here.
    Sweep { at: usize },
    /// Extending a run from a readable cell: `good` cells beyond it are readable, among the first
    /// `bad` one is absent.
    Extend { from: usize, up: bool, good: usize, bad: Option<usize>, room: usize },
    /// Asking one cell.
    Seed { at: usize },
}

/// A search through one range of one table.
#[derive(Debug, Clone)]
pub struct Scan {
    first: u16,
    cells: Box<[Cell]>,
    /// The largest block that is asked.
    block: usize,
    /// The largest block that was answered.
    answered: usize,
    doing: Doing,
    asked: Option<(usize, usize)>,
    left: u32,
    requests: u32,
    silent: bool,
    busy: u8,
    end: Option<End>,
}

impl Scan {
    /// A search through `range` in blocks of at most `block`, with at most `budget` requests.
    #[must_use]
    pub fn new(range: Run, block: u16, budget: u32) -> Self {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
        Self {
            first: range.first,
            cells: vec![Cell::Unknown; length].into(),
            block: usize::from(block.max(1)),
            answered: 0,
            doing: Doing::Sweep { at: 0 },
            asked: None,
            left: budget,
            requests: 0,
            silent: false,
            busy: 0,
            end: None,
        }
    }

    /// What to ask now: first address and count. `None` once the search has ended.
    pub fn request(&mut self) -> Option<(u16, u16)> {
        if self.end.is_some() {
            return None;
        }
        let Some((start, end)) = self.choose() else {
            self.end = Some(End::Complete);
            return None;
        };
        if self.left == 0 {
            self.end = Some(End::Budget);
            return None;
        }
        self.left -= 1;
        self.requests += 1;
        self.asked = Some((start, end));
        let count = u16::try_from(end - start).ok()?;
        Some((self.address(start), count))
    }

    /// What became of the request that [`Self::request`] gave last.
    pub fn told(&mut self, told: Told) {
        let Some((start, end)) = self.asked.take() else { return };
        let count = end - start;
        let was_silent = std::mem::replace(&mut self.silent, told == Told::Silent);
        match told {
            Told::Answered => {
                self.busy = 0;
                self.answered = self.answered.max(count);
                self.mark(start, end, Cell::Readable);
                self.advance(start, end, true);
            }
            Told::Refused(1) => self.end = Some(End::NoTable),
            Told::Refused(5 | 6) => {
                self.busy += 1;
                if self.busy > MAX_BUSY {
                    self.end = Some(End::Busy);
                }
            }
            Told::Refused(0x0A | 0x0B) | Told::Silent => {
                if was_silent || told != Told::Silent {
                    self.end = Some(End::Silent(self.run(start, end)));
                }
            }
            // "Illegal data value" is what devices say that take fewer at once; but not of a
            // block that is no larger than one they took.
            Told::Refused(3) if count > self.answered.max(1) => self.block = count.div_ceil(2),
            Told::Refused(_) => {
                self.busy = 0;
                if count == 1 {
                    self.mark(start, end, Cell::Absent);
                }
                self.advance(start, end, false);
            }
        }
    }

    /// The runs that can be read, in order.
    #[must_use]
    pub fn readable(&self) -> Vec<Run> {
        self.runs(Cell::Readable)
    }

    /// What is not known yet, in order.
    #[must_use]
    pub fn unknown(&self) -> Vec<Run> {
        self.runs(Cell::Unknown)
    }

    /// Whether an address between two that can be read is absent.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        let readable = |cell: &Cell| *cell == Cell::Readable;
        let (first, last) =
            (self.cells.iter().position(readable), self.cells.iter().rposition(readable));
        first.zip(last).is_some_and(|(first, last)| {
            self.cells.get(first..last).unwrap_or_default().contains(&Cell::Absent)
        })
    }

    /// Why it ended; `None` while it goes on.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Requests so far.
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// The largest block that was answered.
    #[must_use]
    pub fn largest_answered(&self) -> u16 {
        u16::try_from(self.answered).unwrap_or(u16::MAX)
    }

    /// How many addresses are known already, and of how many.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        let unknown = self.cells.iter().filter(|cell| **cell == Cell::Unknown).count();
        (self.cells.len() - unknown, self.cells.len())
    }

    /// The cells to ask now, first and beyond the last; `None` when everything is known.
    fn choose(&mut self) -> Option<(usize, usize)> {
        if let Doing::Sweep { at } = self.doing {
            if at < self.cells.len() {
                return Some((at, self.cells.len().min(at + self.block)));
            }
            self.doing = self.pick()?;
        }
        loop {
            match self.doing {
                Doing::Extend { from, up, good, bad, room } => {
                    if good >= room || bad == Some(good + 1) {
                        self.doing = self.pick()?;
                        continue;
                    }
                    let ahead = bad.map_or(room, |bad| usize::midpoint(good, bad));
                    let ahead = ahead.min(good + self.block);
                    return Some(if up {
                        (from + 1 + good, from + 1 + ahead)
                    } else {
                        (from - ahead, from - good)
                    });
                }
                Doing::Seed { at } if self.cells.get(at) == Some(&Cell::Unknown) => {
                    return Some((at, at + 1));
                }
                Doing::Seed { .. } | Doing::Sweep { .. } => self.doing = self.pick()?,
            }
        }
    }

    /// The next thing to do: a run's open end, or else the middle of the largest gap.
    fn pick(&self) -> Option<Doing> {
        let mut largest = (0, 0);
        let mut at = 0;
        while at < self.cells.len() {
            if self.cells[at] != Cell::Unknown {
                at += 1;
                continue;
            }
            let rest = &self.cells[at..];
            let room = rest.iter().take_while(|cell| **cell == Cell::Unknown).count();
            let readable = |at: usize| self.cells.get(at) == Some(&Cell::Readable);
            let (good, bad) = (0, None);
            if at > 0 && readable(at - 1) {
                return Some(Doing::Extend { from: at - 1, up: true, good, bad, room });
            }
            if readable(at + room) {
                return Some(Doing::Extend { from: at + room, up: false, good, bad, room });
            }
            if room > largest.1 {
                largest = (at, room);
            }
            at += room;
        }
        let (start, room) = largest;
        (room > 0).then_some(Doing::Seed { at: start + room / 2 })
    }

    /// Takes the outcome of what was asked into what is being done.
    fn advance(&mut self, start: usize, end: usize, answered: bool) {
        let absent = match &mut self.doing {
            Doing::Sweep { at } => {
                *at = end;
                None
            }
            Doing::Seed { .. } => None,
            Doing::Extend { from, up, good, bad, .. } => {
                let ahead = if *up { end - *from - 1 } else { *from - start };
                if answered {
                    *good = ahead;
                } else {
                    *bad = Some(ahead);
                }
                // All before it are readable, and together with it they were refused.
                let alone = *bad == Some(*good + 1);
                alone.then(|| if *up { *from + *good + 1 } else { *from - *good - 1 })
            }
        };
        if let Some(absent) = absent {
            self.mark(absent, absent + 1, Cell::Absent);
        }
    }

    fn mark(&mut self, start: usize, end: usize, cell: Cell) {
        if let Some(cells) = self.cells.get_mut(start..end) {
            cells.fill(cell);
        }
    }

    fn runs(&self, wanted: Cell) -> Vec<Run> {
        let mut at = 0;
        let chunks = self.cells.chunk_by(|a, b| a == b).filter_map(|chunk| {
            let start = at;
            at += chunk.len();
            (chunk.first() == Some(&wanted)).then(|| self.run(start, at))
        });
        chunks.collect()
    }

    fn run(&self, start: usize, end: usize) -> Run {
        Run { first: self.address(start), last: self.address(end.saturating_sub(1)) }
    }

    fn address(&self, at: usize) -> u16 {
        // A range ends at 65535, so this never saturates.
        self.first.saturating_add(u16::try_from(at).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
