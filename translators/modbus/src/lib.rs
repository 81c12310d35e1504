//! Modbus translator: a pure planner and decoder under a guarded link.
//!
//! ```text
//! spec ─► plan ─► blocks ─► poller ─► bus ─► link ─► gate ─► dial ─► device
//!                             │
//!                   decode ◄──┴──► book ─► sink
//! ```
//!
//! # Invariants
//! - Never a wrong value: an answer counts only when its transaction, unit, function and length are
//!   those of the request, and everything else costs the connection (`link`, `gate`).
//! - One request is in flight per connection, and devices with one way share it (`buses`, `bus`).
//! - Every slot of every tag ends as one sample or one missed reading (`book`).
//! - `plan`, `decode`, `blocks`, `grid`, `unit` and `budget` do no I/O and have no clock of their own.
//! - Only reading functions (1 to 4) exist here.

mod blocks;
mod book;
mod budget;
mod bus;
mod buses;
mod decode;
mod device;
mod dial;
mod fault;
mod fresh;
mod gate;
mod groups;
mod link;
mod once;
mod plan;
mod poller;
pub mod probe;
mod replay;
mod rtu;
mod serial;
mod settle;
mod spec;
mod tap;
mod tls;
mod unit;
mod voice;
mod words;

pub use buses::Buses;
pub use decode::{Decoded, Interpretation, decode_bit, decode_registers, interpretations};
pub use device::{DeviceError, ModbusDevice};
pub use dial::{ByteStream, DialError, DialFuture, Dialer, TcpDialer};
pub use groups::poll_groups;
pub use link::{ConnectError, LinkError, exception_word};
pub use plan::{Block, MAX_BITS, MAX_REGISTERS, Plan, PlanError, Span};
pub use replay::{Framing, Given, Question, Replayed, replay};
pub use serial::{SerialDialer, SerialError};
pub use spec::{
    Address, DataType, DeviceSpec, Endpoint, Forbidden, LegalRange, LinkSpec, MAX_TEXT, NanPolicy,
    Order, Outside, Parity, Rs485, SerialSpec, Special, States, StopBits, Table, TagSpec, TlsSpec,
    Transport, UnitId,
};
pub use tls::{TlsDialer, TlsError, TlsSource};
