//! From tags to requests: the block planner.
//!
//! # Invariants
//! - Every tag lies in exactly one block, whole: a value of several registers never straddles two.
//! - No block holds more than the device's limit, and none reaches past address 65535.
//! - No block bridges more than `max_gap` addresses that no tag of it needs.
//! - Blocks are as few as these rules allow: each one is closed only when the next tag cannot join.
//! - The same device always gives the same plan, whatever the order of its tags.

use std::ops::Range;
use std::sync::Arc;

use crate::spec::{DataType, DeviceSpec, Table, TagSpec};

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
        let last = u32::from(self.start) + u32::from(self.count).saturating_sub(1);
        format!("{}:{} to {last}", self.table.word(), self.start)
    }
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
    #[error("tag {path} reads a coil or discrete input as a number; its type can only be bool")]
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
}

impl Plan {
    /// Plans the requests of a device.
    ///
    /// # Errors
    /// When a tag cannot be read as it is described; every such tag is named.
    pub fn new(spec: &DeviceSpec) -> Result<Self, Vec<PlanError>> {
        let limits = Limits::of(spec);
        let mut spans = Vec::with_capacity(spec.tags.len());
        let mut errors = Vec::new();
        for (tag, it) in (0..).zip(spec.tags.iter()) {
            match span_of(tag, it, limits) {
                Ok(span) => spans.push(span),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        spans.sort_unstable();
        let blocks = coalesce(&spans, limits);
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
    Ok(span)
}

/// Joins sorted spans from the left. Closing a block only when the next span cannot join gives the
/// fewest blocks that keep the order.
fn coalesce(spans: &[Span], limits: Limits) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut end = 0;
    for (at, span) in spans.iter().enumerate() {
        if let Some(block) = blocks.last_mut() {
            let joined = end.max(span.end()) - u32::from(block.start);
            let near = u32::from(span.start) <= end + limits.gap;
            let limit = limits.of_table(span.table);
            match u16::try_from(joined) {
                Ok(count) if block.table == span.table && near && count <= limit => {
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
/// empty or not of one table.
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
