//! From tags to requests: the block planner.
//!
//! # Invariants
//! - Every tag lies in exactly one block, whole: a value of several registers never straddles two.
//! - No block holds more than the device's limit, and none reaches past address 65535.
//! - No block bridges more than `max_gap` addresses that no tag of it needs.
//! - No block, nor any part that it is halved into, reads a forbidden address: a tag that needs one
//!   is refused, a gap that has one is never bridged, and a part lies within its block ([`hull`]).
//! - Blocks are as few as these rules allow, over every way to share the tags out.
//! - The same device always gives the same plan, whatever the order of its tags.
//!
//! # Why the blocks are the fewest
//! Spans are taken by table, start and width, and a block `G` closes only when the next span `n`
//! cannot join. Any other plan can be changed, without more blocks, into one that has `G`; what
//! remains is a smaller device, and so on.
//! - `n` is too far off, or something forbidden lies before it. No later span begins before `n`, so
//!   none shares a block with one of `G`: the other plan spends at least one block on `G` alone.
//! - `n` makes the block too long. Then all of `G` ends before `n` does, and so does all that
//!   shares a block with the first span of `G`. Move every later span that lies inside `n` to the
//!   block of `n`, which costs it nothing, and all of `G` into one block in place of the one that
//!   had its first span. What is left elsewhere ends after `n`, so it bridges nothing that it did
//!   not bridge before.
//!
//! Forbidden ranges only add reasons for the first case, and a block that loses spans at its
//! beginning reads nothing new.

use std::ops::Range;
use std::sync::Arc;

use crate::spec::{DataType, DeviceSpec, Forbidden, LegalRange, Order, Table, TagSpec};

/// Addresses in one table: 0–65535.
const TABLE_SIZE: u32 = 65_536;
/// Registers per request: what fits into a protocol data unit of 253 bytes.
pub const MAX_REGISTERS: u16 = 125;
/// Coils or discrete inputs per request, by the protocol.
pub const MAX_BITS: u16 = 2000;

/// The requests that read a device's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    blocks: Vec<Block>,
    spans: Arc<[Span]>,
}

/// One request: a run of addresses in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which table, and so which function.
    pub table: Table,
    /// The first address, 0-based.
    pub start: u16,
    /// Registers or bits, 1–125 or 1–2000.
    pub count: u16,
    /// What it reads: a range of [`Plan::spans`].
    pub spans: Range<usize>,
}

impl Block {
    /// The block in words, such as `holding:100 to 119`.
    #[must_use]
    pub fn words(&self) -> String {
        let end = u32::from(self.start) + u32::from(self.count);
        addresses(self.table, self.start, end)
    }
}

/// A run of addresses in words; `end` is the one after the last.
fn addresses(table: Table, start: u16, end: u32) -> String {
    format!("{}:{start} to {}", table.word(), end.saturating_sub(1))
}

/// Where one tag lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which table.
    pub table: Table,
    /// Its first address.
    pub start: u16,
    /// How many registers or bits it takes.
    pub width: u16,
    /// Which tag: an index into [`DeviceSpec::tags`]. Half a `usize`: there is a span for each tag.
    tag: u32,
}

impl Span {
    /// Which tag: an index into [`DeviceSpec::tags`].
    #[must_use]
    pub fn tag(&self) -> usize {
        usize::try_from(self.tag).unwrap_or(usize::MAX)
    }

    /// The address after its last one, at most 65536.
    pub(crate) fn end(&self) -> u32 {
        u32::from(self.start) + u32::from(self.width)
    }

    /// Whether both read the same addresses: two bits of one register do.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (self.table, self.start, self.width) == (other.table, other.start, other.width)
    }
}

/// Why a tag cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The value would reach past the table's end.
    #[error(
        "tag {path} begins at {start} and takes {width} addresses; the last address is 65535, \
         move it or choose a shorter type"
    )]
    PastEnd {
        /// Whose tag.
        path: String,
        /// Its first address.
        start: u16,
        /// How many it takes.
        width: u16,
    },
    /// One value alone is larger than a request may be.
    #[error(
        "tag {path} takes {width} registers, more than the {limit} that a request may read; raise \
         max-registers to at least {width}"
    )]
    WiderThanBlock {
        /// Whose tag.
        path: String,
        /// How many registers it takes.
        width: u16,
        /// The device's limit.
        limit: u16,
    },
    /// Coils and discrete inputs hold bools, nothing else.
    #[error(
        "tag {path} reads a coil or discrete input as a number or a text; its type can only be bool"
    )]
    NumberInBits {
        /// Whose tag.
        path: String,
    },
    /// A bit of a coil, or the 17th bit of a register, or a bit of a number.
    #[error("tag {path} names a bit; only bool tags in registers have one, from 0 to 15")]
    StrayBit {
        /// Whose tag.
        path: String,
    },
    /// A bool in a register needs to know which bit.
    #[error("tag {path} is a bool in a register and names no bit; write its address like 100.0")]
    MissingBit {
        /// Whose tag.
        path: String,
    },
    /// Something of the value must never be read.
    #[error(
        "tag {path} reads {reads}, and {forbidden} is forbidden; give the tag another address or a \
         shorter type, or take its addresses out of forbidden"
    )]
    Forbidden {
        /// Whose tag.
        path: String,
        /// What it reads, in words.
        reads: String,
        /// The first range that it touches.
        forbidden: Forbidden,
    },
    /// The registers of a text come in their order; only the two bytes in each can be swapped.
    #[error(
        "tag {path} is a text in order {}; a text is read register by register, choose abcd, or \
         badc when its bytes come in swapped pairs", .order.word()
    )]
    TextOrder {
        /// Whose tag.
        path: String,
        /// The order that a text cannot have.
        order: Order,
    },
    /// A text of no bytes.
    #[error("tag {path} is a text of 0 bytes; give it a length of 1 to 250")]
    EmptyText {
        /// Whose tag.
        path: String,
    },
    /// Only whole numbers have names.
    #[error(
        "tag {path} has states and is a {kind}; states name whole numbers, choose an integer, bcd \
         or bool type, or leave them out"
    )]
    StatesOfNoInteger {
        /// Whose tag.
        path: String,
        /// Its type.
        kind: DataType,
    },
    /// No value could ever be legal.
    #[error("tag {path} has the range {range}, which no value lies in; min must not be above max")]
    EmptyRange {
        /// Whose tag.
        path: String,
        /// The range in words.
        range: String,
    },
}

impl Plan {
    /// Plans the requests of a device.
    ///
    /// # Errors
    /// When a tag cannot be read as it is described; every such tag is named.
    pub fn new(spec: &DeviceSpec) -> Result<Self, Vec<PlanError>> {
        let limits = Limits::of(spec);
        let fences = Fences::of(&spec.forbidden);
        let mut spans = Vec::with_capacity(spec.tags.len());
        let mut errors = Vec::new();
        for (tag, it) in (0..).zip(spec.tags.iter()) {
            match span_of(tag, it, limits) {
                Ok(span) => match fences.within(span.table, span.start.into()..span.end()) {
                    None => spans.push(span),
                    Some(forbidden) => errors.push(PlanError::Forbidden {
                        path: it.path.to_string(),
                        reads: addresses(span.table, span.start, span.end()),
                        forbidden,
                    }),
                },
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        spans.sort_unstable();
        let blocks = coalesce(&spans, limits, &fences);
        Ok(Self { blocks, spans: spans.into() })
    }

    /// The requests, by table and address.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Where the tags lie, by table and address.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The same, to be kept beside the plan without a copy.
    pub(crate) fn shared_spans(&self) -> Arc<[Span]> {
        Arc::clone(&self.spans)
    }

    /// The tags that a block reads.
    #[must_use]
    pub fn spans_of(&self, block: &Block) -> &[Span] {
        self.spans.get(block.spans.clone()).unwrap_or_default()
    }
}

/// What one request may hold.
#[derive(Debug, Clone, Copy)]
struct Limits {
    gap: u32,
    registers: u16,
    bits: u16,
}

impl Limits {
    fn of(spec: &DeviceSpec) -> Self {
        Self {
            gap: u32::from(spec.max_gap),
            registers: spec.max_registers.clamp(1, MAX_REGISTERS),
            bits: spec.max_bits.clamp(1, MAX_BITS),
        }
    }

    const fn of_table(self, table: Table) -> u16 {
        match table {
            Table::Coil | Table::DiscreteInput => self.bits,
            Table::InputRegister | Table::HoldingRegister => self.registers,
        }
    }
}

/// What must never be read, for looking up.
#[derive(Debug)]
struct Fences {
    /// By table and first address; ranges may meet.
    ranges: Vec<Fence>,
}

#[derive(Debug)]
struct Fence {
    range: Forbidden,
    /// The furthest address of this range and of those before it in its table.
    reach: u16,
}

impl Fences {
    fn of(forbidden: &[Forbidden]) -> Self {
        let mut sorted = forbidden.to_vec();
        for range in &mut sorted {
            // One that is written backwards forbids what is between its ends all the same.
            (range.first, range.last) = (range.first.min(range.last), range.first.max(range.last));
        }
        sorted.sort_unstable();
        let mut ranges: Vec<Fence> = Vec::with_capacity(sorted.len());
        for range in sorted {
            let before = ranges.last().filter(|before| before.range.table == range.table);
            let reach = before.map_or(range.last, |before| before.reach.max(range.last));
            ranges.push(Fence { range, reach });
        }
        Self { ranges }
    }

    /// A forbidden range that has one of these addresses.
    fn within(&self, table: Table, addresses: Range<u32>) -> Option<Forbidden> {
        // The first one that reaches as far: those before it end too early, and those after it
        // begin later still.
        let at = self.ranges.partition_point(|fence| {
            (fence.range.table, u32::from(fence.reach)) < (table, addresses.start)
        });
        let range = self.ranges.get(at)?.range;
        (range.table == table && u32::from(range.first) < addresses.end).then_some(range)
    }
}

fn span_of(tag: u32, it: &TagSpec, limits: Limits) -> Result<Span, PlanError> {
    let path = || it.path.to_string();
    let is_bool = it.kind == DataType::Bool;
    match (it.address.table.holds_bits(), is_bool, it.address.bit) {
        (true, false, _) => return Err(PlanError::NumberInBits { path: path() }),
        (true, true, Some(_)) | (false, false, Some(_)) | (false, true, Some(16..)) => {
            return Err(PlanError::StrayBit { path: path() });
        }
        (false, true, None) => return Err(PlanError::MissingBit { path: path() }),
        (true, true, None) | (false, false, None) | (false, true, Some(_)) => {}
    }
    let width = it.kind.registers();
    let span = Span { table: it.address.table, start: it.address.offset, width, tag };
    if span.end() > TABLE_SIZE {
        return Err(PlanError::PastEnd { path: path(), start: span.start, width });
    }
    let limit = limits.of_table(span.table);
    if width > limit {
        return Err(PlanError::WiderThanBlock { path: path(), width, limit });
    }
    match decodes(it) {
        Some(error) => Err(error),
        None => Ok(span),
    }
}

/// What the decoder could not make sense of.
fn decodes(it: &TagSpec) -> Option<PlanError> {
    let path = || it.path.to_string();
    if it.kind == DataType::Text(0) {
        return Some(PlanError::EmptyText { path: path() });
    }
    if !it.kind.travels_in(it.order) {
        return Some(PlanError::TextOrder { path: path(), order: it.order });
    }
    let special = it.special.as_ref()?;
    if special.states.is_some() && !it.kind.is_whole() {
        return Some(PlanError::StatesOfNoInteger { path: path(), kind: it.kind });
    }
    match special.range {
        Some(LegalRange { min, max, .. }) if min.is_nan() || max.is_nan() || min > max => {
            Some(PlanError::EmptyRange { path: path(), range: format!("{min} to {max}") })
        }
        _ => None,
    }
}

/// Joins sorted spans from the left.
fn coalesce(spans: &[Span], limits: Limits, fences: &Fences) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut end = 0;
    for (at, span) in spans.iter().enumerate() {
        if let Some(block) = blocks.last_mut() {
            let joined = end.max(span.end()) - u32::from(block.start);
            let start = u32::from(span.start);
            let near = start <= end + limits.gap;
            let limit = limits.of_table(span.table);
            match u16::try_from(joined) {
                Ok(count)
                    if block.table == span.table
                        && near
                        && count <= limit
                        // Neither the block nor the span has a forbidden address; the gap may.
                        && (start <= end || fences.within(span.table, end..start).is_none()) =>
                {
                    block.count = count;
                    block.spans.end = at + 1;
                    end = end.max(span.end());
                    continue;
                }
                _ => {}
            }
        }
        blocks.push(Block {
            table: span.table,
            start: span.start,
            count: span.width,
            spans: at..at + 1,
        });
        end = span.end();
    }
    blocks
}

/// The smallest block over a run of spans of one table, for splitting; `None` when the run is
/// empty or not of one table. Over a part of a block's spans it lies within that block, so it
/// keeps every rule that the block keeps.
pub(crate) fn hull(spans: &[Span], range: Range<usize>) -> Option<Block> {
    let run = spans.get(range.clone())?;
    let first = run.first()?;
    let end = run.iter().map(Span::end).max()?;
    let count = u16::try_from(end.checked_sub(u32::from(first.start))?).ok()?;
    run.iter().all(|span| span.table == first.table).then_some(Block {
        table: first.table,
        start: first.start,
        count,
        spans: range,
    })
}

#[cfg(test)]
mod tests;
