//! What a Modbus device is configured to be. Holding a spec proves it is legal.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{TagPath, ValueKind};

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

    /// The function that reads it.
    pub(crate) const fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::DiscreteInput => 2,
            Self::HoldingRegister => 3,
            Self::InputRegister => 4,
        }
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
    /// Binary-coded decimal, four digits in one register.
    Bcd16,
    /// Binary-coded decimal, eight digits in two registers.
    Bcd32,
    /// Binary-coded decimal, sixteen digits in four registers.
    Bcd64,
    /// Text of this many bytes, two in each register, 1–250.
    Text(u16),
}

/// The longest text in bytes: what one request of [`crate::MAX_REGISTERS`] registers holds.
pub const MAX_TEXT: u16 = 250;

impl DataType {
    /// How many registers a value takes; one cell for a bool.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::Int16 | Self::Uint16 | Self::Bcd16 => 1,
            Self::Int32 | Self::Uint32 | Self::Float32 | Self::Bcd32 => 2,
            Self::Int64 | Self::Uint64 | Self::Float64 | Self::Bcd64 => 4,
            Self::Text(bytes) => bytes.div_ceil(2),
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
    /// What only some tags have, shared by those that have the same; `None` for all defaults.
    pub special: Option<Arc<Special>>,
}

impl TagSpec {
    /// The kind that its values have after scaling and naming.
    #[must_use]
    pub fn value_kind(&self) -> ValueKind {
        if self.special.as_ref().is_some_and(|special| special.states.is_some()) {
            return ValueKind::Text;
        }
        match self.kind {
            DataType::Bool => ValueKind::Bool,
            DataType::Text(_) => ValueKind::Text,
            _ if !self.is_unscaled() => ValueKind::F64,
            DataType::Int16 | DataType::Int32 | DataType::Int64 => ValueKind::I64,
            DataType::Uint16
            | DataType::Uint32
            | DataType::Uint64
            | DataType::Bcd16
            | DataType::Bcd32
            | DataType::Bcd64 => ValueKind::U64,
            DataType::Float32 => ValueKind::F32,
            DataType::Float64 => ValueKind::F64,
        }
    }

    /// Whether scaling would change nothing; exact, because only the literal 1 and 0 promise that.
    #[must_use]
    #[expect(
        clippy::float_cmp,
        reason = "the configured literals 1 and 0 are meant, not nearby values"
    )]
    pub fn is_unscaled(&self) -> bool {
        self.scale == 1.0 && self.offset == 0.0
    }

    /// The interval of its own, where it has one.
    #[must_use]
    pub fn poll_every(&self) -> Option<Duration> {
        self.special.as_ref().and_then(|special| special.poll_every)
    }
}

/// What only some tags have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Special {
    /// An interval other than the device's.
    pub poll_every: Option<Duration>,
    /// The legal range after scaling.
    pub range: Option<LegalRange>,
    /// What becomes of a value that is not a number.
    pub nan: NanPolicy,
    /// Names of the raw integers.
    pub states: Option<Arc<States>>,
}

/// The legal range of a scaled number, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LegalRange {
    /// The lowest legal value.
    pub min: f64,
    /// The highest legal value.
    pub max: f64,
    /// What becomes of a value outside.
    pub outside: Outside,
}

/// What becomes of a number outside of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outside {
    /// Kept as it is, and uncertain (`out-of-range`).
    #[default]
    Mark,
    /// The nearer end of the range, and uncertain (`out-of-range`).
    Clamp,
    /// No value, and bad (`out-of-range`).
    Bad,
}

/// What becomes of a value that is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NanPolicy {
    /// Kept bit for bit, and uncertain (`not-a-number`).
    #[default]
    Mark,
    /// No value, and bad (`not-a-number`).
    Bad,
}

/// Names of raw integers, such as `0=stopped, 1=running`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct States(Vec<(i64, Box<str>)>);

impl States {
    /// Names by number; of two names for one number the later one counts.
    #[must_use]
    pub fn new(mut names: Vec<(i64, Box<str>)>) -> Self {
        names.reverse();
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        Self(names)
    }

    /// The name of a number.
    #[must_use]
    pub fn name(&self, number: i64) -> Option<&str> {
        let at = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.0.get(at).map(|(_, name)| &**name)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &str)> {
        self.0.iter().map(|(number, name)| (*number, &**name))
    }
}

/// Registers or bits that must never be read, not even along with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forbidden {
    /// Which table.
    pub table: Table,
    /// The first address, 0-based.
    pub first: u16,
    /// The last address, 0-based.
    pub last: u16,
}

/// The way to one or several units: one endpoint or one serial port. Devices whose link specs are
/// equal share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkSpec {
    /// What carries the bytes.
    pub transport: Transport,
    /// Connections at the same time, at least 1; a serial port has one whatever stands here.
    pub max_connections: u16,
    /// The wait after a connection was made, before the first request.
    pub pause_after_connect: Duration,
    /// Silence after an answer before the next request to any unit. RTU keeps at least 3.5
    /// characters of silence whatever stands here.
    pub turnaround: Duration,
    /// Whether the connection is closed after each poll.
    pub close_after_poll: bool,
}

impl LinkSpec {
    /// Modbus TCP with all defaults.
    #[must_use]
    pub const fn tcp(host: String, port: u16) -> Self {
        Self {
            transport: Transport::Tcp(Endpoint { host, port }),
            max_connections: 1,
            pause_after_connect: Duration::ZERO,
            turnaround: Duration::ZERO,
            close_after_poll: false,
        }
    }
}

/// What carries the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Modbus TCP.
    Tcp(Endpoint),
    /// Modbus/TCP Security.
    Tls(Endpoint, TlsSpec),
    /// RTU frames over TCP, through a serial server.
    RtuOverTcp(Endpoint),
    /// RTU on a serial port.
    Rtu(SerialSpec),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) | Self::Tls(endpoint, _) | Self::RtuOverTcp(endpoint) => {
                endpoint.fmt(f)
            }
            Self::Rtu(serial) => write!(f, "{}", serial.port.display()),
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address; resolved again at each connection attempt.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// Whom a Modbus/TCP Security device is trusted by, and who we are. The files are read again at
/// each connection attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsSpec {
    /// The certificates that may have signed the device's, in PEM.
    pub ca: PathBuf,
    /// Our certificate with its chain, and its key; without them only the device proves itself.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the device's certificate must carry; the host when `None`.
    pub server_name: Option<String>,
}

/// A serial port and its settings; eight data bits always.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SerialSpec {
    /// Such as `/dev/ttyUSB0`.
    pub port: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// One or two stop bits.
    pub stop_bits: StopBits,
    /// Direction control by the kernel's driver; `None` leaves the line to the hardware.
    pub rs485: Option<Rs485>,
}

impl SerialSpec {
    /// The time that one character takes on the line: start bit, eight data bits, parity, stop.
    #[must_use]
    pub fn character(&self) -> Duration {
        let parity = u32::from(self.parity != Parity::None);
        let stop = if self.stop_bits == StopBits::Two { 2 } else { 1 };
        Duration::from_secs(1) * (1 + 8 + parity + stop) / self.baud.max(1)
    }
}

/// The parity bit of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parity {
    /// Modbus' own default.
    Even,
    /// The other one.
    Odd,
    /// None.
    None,
}

/// The stop bits of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopBits {
    /// One.
    One,
    /// Two.
    Two,
}

/// How the driver turns a half-duplex line round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rs485 {
    /// Whether RTS is high while we send.
    pub rts_high_on_send: bool,
    /// Between raising RTS and the first bit.
    pub delay_before_send: Duration,
    /// Between the last bit and releasing RTS.
    pub delay_after_send: Duration,
}

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// The configured name.
    pub name: String,
    /// The way to it.
    pub link: Arc<LinkSpec>,
    /// Which unit behind it.
    pub unit: UnitId,
    /// The poll interval of tags that have none of their own.
    pub poll_every: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// The least wait between an answer of this unit and the next request to it.
    pub pause_between: Duration,
    /// Unused registers or bits that a block may bridge.
    pub max_gap: u16,
    /// Registers per request, 1–125.
    pub max_registers: u16,
    /// Coils or discrete inputs per request, 1–2000.
    pub max_bits: u16,
    /// What must never be read; sorted.
    pub forbidden: Arc<[Forbidden]>,
    /// Back-off between attempts on a device that does not answer: first and largest.
    pub backoff: (Duration, Duration),
    /// Its tags, shared with whoever has the same ones.
    pub tags: Arc<[TagSpec]>,
}
