//! What a Modbus device is configured to be. Holding a spec proves it is legal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::TagPath;

/// The address of a unit behind an endpoint, 0–247; 255 is used by devices that ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u8);

/// One of the four Modbus tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Read with function 1.
    Coil,
    /// Read with function 2.
    DiscreteInput,
    /// Read with function 4.
    InputRegister,
    /// Read with function 3.
    HoldingRegister,
}

impl Table {
    /// Whether its cells are single bits rather than registers.
    #[must_use]
    pub const fn holds_bits(self) -> bool {
        matches!(self, Self::Coil | Self::DiscreteInput)
    }

    /// The word that stands before the colon of an address, such as `holding`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::DiscreteInput => "discrete",
            Self::InputRegister => "input",
            Self::HoldingRegister => "holding",
        }
    }
}

/// Where a tag begins: table, 0-based offset, and a bit (0 = least significant) in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Which table.
    pub table: Table,
    /// Protocol address, 0-based.
    pub offset: u16,
    /// A single bit of a register, 0–15.
    pub bit: Option<u8>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.word(), self.offset)?;
        self.bit.map_or(Ok(()), |bit| write!(f, ".{bit}"))
    }
}

/// What the bits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One bit.
    Bool,
    /// Two's complement, one register.
    Int16,
    /// One register.
    Uint16,
    /// Two's complement, two registers.
    Int32,
    /// Two registers.
    Uint32,
    /// Two's complement, four registers.
    Int64,
    /// Four registers.
    Uint64,
    /// IEEE 754, two registers.
    Float32,
    /// IEEE 754, four registers.
    Float64,
}

impl DataType {
    /// How many registers a value takes; one cell for a bool.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::Int16 | Self::Uint16 => 1,
            Self::Int32 | Self::Uint32 | Self::Float32 => 2,
            Self::Int64 | Self::Uint64 | Self::Float64 => 4,
        }
    }
}

/// The order in which a value's bytes travel, after the field's letters: `A` is the most
/// significant byte. Two independent swaps make the four: the words of the value, and the two
/// bytes inside each word.
///
/// | order | words | bytes in a word | 16 bits | 32 bits | 64 bits |
/// |---|---|---|---|---|---|
/// | `abcd` | high first | high first | `AB` | `AB CD` | `AB CD EF GH` |
/// | `cdab` | low first | high first | `AB` | `CD AB` | `GH EF CD AB` |
/// | `badc` | high first | low first | `BA` | `BA DC` | `BA DC FE HG` |
/// | `dcba` | low first | low first | `BA` | `DC BA` | `HG FE DC BA` |
///
/// A 64-bit value has four words, and `cdab` and `dcba` reverse all four. A single bit is counted
/// in the register after its bytes were put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Modbus' own: big-endian words, big-endian bytes.
    Abcd,
    /// Words swapped.
    Cdab,
    /// Bytes swapped in each word.
    Badc,
    /// Both: little-endian throughout.
    Dcba,
}

impl Order {
    /// Whether the least significant word travels first.
    #[must_use]
    pub const fn swaps_words(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    /// Whether the less significant byte of each word travels first.
    #[must_use]
    pub const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }
}

/// One tag of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct TagSpec {
    /// The whole path, base path included.
    pub path: TagPath,
    /// Where it begins.
    pub address: Address,
    /// What the bits mean.
    pub kind: DataType,
    /// Byte and word order.
    pub order: Order,
    /// Multiplied with the raw number; 1 leaves integers integers.
    pub scale: f64,
    /// Added after scaling.
    pub offset: f64,
}

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// The configured name.
    pub name: String,
    /// Host name or address; resolved again at each connection attempt.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Which unit behind it.
    pub unit: UnitId,
    /// The poll interval.
    pub poll_every: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// Unused registers or bits that a block may bridge.
    pub max_gap: u16,
    /// Registers per request, 1–125.
    pub max_registers: u16,
    /// Coils or discrete inputs per request, 1–2000.
    pub max_bits: u16,
    /// Back-off between connection attempts: first and largest.
    pub backoff: (Duration, Duration),
    /// Its tags, shared with whoever has the same ones.
    pub tags: Arc<[TagSpec]>,
}
