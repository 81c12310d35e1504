//! The one thing that a probe needs of a link.

use std::future::Future;

use crate::link::LinkError;
use crate::spec::{Table, UnitId};

/// A question to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A run of one table.
    Read {
        /// Which table.
        table: Table,
        /// The first address, 0-based.
        start: u16,
        /// How many registers or bits.
        count: u16,
    },
    /// Function 43/14.
    Identify {
        /// Which objects: 1 basic, 2 regular, 3 extended.
        code: u8,
        /// The object to begin with.
        object: u8,
    },
}

/// A verified answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// As many bits as were asked for.
    Bits(Vec<bool>),
    /// As many registers as were asked for.
    Registers(Vec<u16>),
    /// Some objects of the identification.
    Identification(Identification),
}

/// One part of a device's identification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification {
    /// The object to ask for next, where there are more.
    pub next: Option<u8>,
    /// Objects by number.
    pub objects: Vec<(u8, Vec<u8>)>,
}

/// A way to ask.
pub trait Ask {
    /// Asks once and returns the verified answer.
    ///
    /// # Errors
    /// When there is no answer that can be used.
    fn ask(
        &mut self,
        unit: UnitId,
        request: Request,
    ) -> impl Future<Output = Result<Reply, LinkError>>;
}
