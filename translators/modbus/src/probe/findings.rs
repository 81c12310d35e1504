//! What was learnt.

use std::time::Duration;

use super::limit::Largest;
use super::scan::{End, Run};
use crate::spec::{Table, UnitId};

/// Everything that was learnt so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Requests that were sent.
    pub requests: u32,
    /// What is being done, for a person who waits.
    pub doing: String,
    /// Units that were asked and gave no answer.
    pub silent: Vec<UnitId>,
    /// Units that answered, in the order in which they did.
    pub units: Vec<UnitFindings>,
    /// Whether the device answers every unit number alike; only the first is looked at then.
    pub any_unit: bool,
}

/// How a unit showed that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It gave a value.
    Value,
    /// It refused with this exception; that is an answer, too.
    Exception(u8),
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFindings {
    /// Its number.
    pub unit: UnitId,
    /// How it showed that it is there.
    pub evidence: Evidence,
    /// Its identification; `None` before it was asked.
    pub identity: Option<Identity>,
    /// The tables that were looked at.
    pub tables: Vec<TableFindings>,
}

/// The identification of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Objects by number: 0 vendor, 1 product code, 2 revision, 3 URL, 4 product, 5 model, 6
    /// application, 128 and up the vendor's own.
    Objects(Vec<(u8, Vec<u8>)>),
    /// The unit does not support function 43/14.
    NotSupported,
    /// The unit refused with another exception.
    Refused(u8),
    /// No answer, or none that can be used; in words.
    NoAnswer(String),
}

/// One table of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFindings {
    /// Which.
    pub table: Table,
    /// The range that was searched.
    pub searched: Run,
    /// The runs that can be read.
    pub readable: Vec<Run>,
    /// What is not known.
    pub unknown: Vec<Run>,
    /// Why the search ended; `None` while it goes on.
    pub end: Option<End>,
    /// Requests that the search took.
    pub requests: u32,
    /// The largest block.
    pub largest: Option<Largest>,
    /// How long one cell took.
    pub one: Option<Times>,
    /// How long the largest block took.
    pub block: Option<Times>,
    /// Whether a block may hold addresses that cannot be read alone.
    pub merged: Merged,
}

/// Response times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The shortest.
    pub min: Duration,
    /// The one in the middle.
    pub median: Duration,
    /// The longest.
    pub max: Duration,
    /// How many were measured.
    pub count: u8,
}

impl Times {
    /// Of these; `None` of none.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let (min, max) = (*times.first()?, *times.last()?);
        let median = *times.get(times.len() / 2)?;
        Some(Self { min, median, max, count: u8::try_from(times.len()).unwrap_or(u8::MAX) })
    }
}

/// What a device does with a block over addresses that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merged {
    /// There was none to try.
    #[default]
    Untried,
    /// It gives something for them: gaps may be bridged.
    Answered,
    /// It refuses the whole block with this exception.
    Refused(u8),
    /// It does not answer.
    Silent,
}
