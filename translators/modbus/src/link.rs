//! One way to a bus: requests go out one at a time, and only verified answers come back.
//!
//! # Invariants
//! - An answer is returned only when its transaction, unit, function and length are those of the
//!   request. Anything else, silence included, makes the connection suspect.
//! - A suspect connection is dropped before the error is returned, so that a late answer cannot be
//!   taken for the next one. Dropping a `transact` future has the same effect.
//! - An exception is an answer: the connection stays.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::Reason;
use tokio::time::{Instant, timeout_at};
use tokio_modbus::client::{Client as _, Context, tcp};
use tokio_modbus::slave::SlaveContext as _;
use tokio_modbus::{Error as CrateError, Request, Response, Slave};

use crate::dial::{DialError, Dialer};
use crate::gate::Gate;
use crate::spec::{Table, UnitId};

/// A request for a run of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) table: Table,
    pub(crate) start: u16,
    pub(crate) count: u16,
}

/// As many cells as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Bits(Vec<bool>),
    Registers(Vec<u16>),
}

/// An open way to one or several units.
pub(crate) trait Link: Send {
    /// Sends one request and returns its verified answer.
    fn transact(
        &mut self,
        unit: UnitId,
        read: Read,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, LinkError>> + Send;
}

/// Opens links to one endpoint.
pub(crate) trait Connector: Send + Sync {
    type Link: Link;

    fn connect(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Link, LinkError>> + Send;
}

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no connection.
    #[error("device cannot be reached")]
    Unreachable {
        /// What is in the way.
        #[source]
        source: DialError,
    },
    /// Nobody answered the attempt to connect.
    #[error("no connection within {waited:?}")]
    ConnectTimeout {
        /// For how long.
        waited: Duration,
    },
    /// Nobody answered. A late answer may still be on its way.
    #[error("unit {unit} silent for {waited:?}")]
    Silent {
        /// Who was asked.
        unit: u8,
        /// For how long.
        waited: Duration,
    },
    /// The connection broke while the answer was awaited.
    #[error("connection lost")]
    Closed {
        /// How.
        #[source]
        source: io::Error,
    },
    /// An answer came that is not the answer to this request.
    #[error("answer thrown away: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// The unit, or the gateway in front of it, answered "no".
    #[error("exception {code} ({})", exception_word(*.code))]
    Refused {
        /// The exception.
        code: u8,
    },
}

impl LinkError {
    /// What the samples say.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::ConnectTimeout { .. } | Self::Closed { .. } => {
                Reason::NotConnected
            }
            Self::Silent { .. } => Reason::Timeout,
            Self::Malformed { .. } => Reason::Malformed,
            Self::Refused { code } => match *code {
                GATEWAY_PATH => Reason::NotConnected,
                GATEWAY_TARGET => Reason::Timeout,
                _ => Reason::Refused,
            },
        }
    }

    /// The exception code, 0 for everything else.
    pub(crate) const fn status(&self) -> u32 {
        match self {
            Self::Refused { code } => *code as u32,
            _ => 0,
        }
    }

    /// The error and its sources as one line for a person.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            line.push_str(": ");
            line.push_str(&error.to_string());
            source = error.source();
        }
        line
    }
}

/// Illegal function: the device does not know this table at all.
pub(crate) const ILLEGAL_FUNCTION: u8 = 1;
/// Illegal data address: at least one address of the request does not exist.
pub(crate) const ILLEGAL_ADDRESS: u8 = 2;
/// Illegal data value: what devices say that read fewer cells at once.
pub(crate) const ILLEGAL_VALUE: u8 = 3;
/// A gateway has no path to the unit.
pub(crate) const GATEWAY_PATH: u8 = 0x0A;
/// A gateway got no answer from the unit.
pub(crate) const GATEWAY_TARGET: u8 = 0x0B;

/// The specification's name of an exception.
#[must_use]
pub const fn exception_word(code: u8) -> &'static str {
    match code {
        ILLEGAL_FUNCTION => "illegal function",
        ILLEGAL_ADDRESS => "illegal data address",
        ILLEGAL_VALUE => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        6 => "server device busy",
        8 => "memory parity error",
        GATEWAY_PATH => "gateway path unavailable",
        GATEWAY_TARGET => "gateway target device failed to respond",
        _ => "not in the specification",
    }
}

/// Opens Modbus TCP links.
#[derive(Clone)]
pub(crate) struct TcpConnector {
    dialer: Arc<dyn Dialer>,
}

impl TcpConnector {
    pub(crate) fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self { dialer }
    }
}

impl Connector for TcpConnector {
    type Link = TcpLink;

    async fn connect(&self, deadline: Instant) -> Result<TcpLink, LinkError> {
        let since = Instant::now();
        match timeout_at(deadline, self.dialer.dial(deadline)).await {
            Ok(Ok(stream)) => {
                let first = u16::try_from(getrandom::u32().unwrap_or_default() >> 16);
                let gate = Gate::new(stream, first.unwrap_or_default());
                Ok(TcpLink { context: Some(tcp::attach(gate)) })
            }
            Ok(Err(source)) => Err(LinkError::Unreachable { source }),
            Err(_) => Err(LinkError::ConnectTimeout { waited: since.elapsed() }),
        }
    }
}

/// The guard around the protocol crate.
pub(crate) struct TcpLink {
    /// `None` once the connection became suspect.
    context: Option<Context>,
}

impl Link for TcpLink {
    async fn transact(
        &mut self,
        unit: UnitId,
        read: Read,
        deadline: Instant,
    ) -> Result<Reply, LinkError> {
        // Taken out, and put back only after a verified answer: every other way out of here,
        // cancellation included, drops the connection.
        let Some(mut context) = self.context.take() else {
            return Err(LinkError::Closed { source: io::ErrorKind::NotConnected.into() });
        };
        let since = Instant::now();
        context.set_slave(Slave(unit.0));
        let response = match timeout_at(deadline, context.call(request(read))).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(exception))) => {
                self.context = Some(context);
                return Err(LinkError::Refused { code: exception.into() });
            }
            Ok(Err(error)) => return Err(failure(error)),
            Err(_) => return Err(LinkError::Silent { unit: unit.0, waited: since.elapsed() }),
        };
        let reply = verify(read, response)?;
        self.context = Some(context);
        Ok(reply)
    }
}

const fn request(read: Read) -> Request<'static> {
    match read.table {
        Table::Coil => Request::ReadCoils(read.start, read.count),
        Table::DiscreteInput => Request::ReadDiscreteInputs(read.start, read.count),
        Table::InputRegister => Request::ReadInputRegisters(read.start, read.count),
        Table::HoldingRegister => Request::ReadHoldingRegisters(read.start, read.count),
    }
}

/// The crate accepts any number of cells; only the number asked for is an answer.
fn verify(read: Read, response: Response) -> Result<Reply, LinkError> {
    let count = usize::from(read.count);
    match (read.table, response) {
        (Table::Coil, Response::ReadCoils(mut bits))
        | (Table::DiscreteInput, Response::ReadDiscreteInputs(mut bits)) => {
            // Bits travel in whole bytes.
            if bits.len() != count.next_multiple_of(8) {
                return Err(wrong_count(count.next_multiple_of(8), bits.len(), "bits"));
            }
            bits.truncate(count);
            Ok(Reply::Bits(bits))
        }
        (Table::InputRegister, Response::ReadInputRegisters(registers))
        | (Table::HoldingRegister, Response::ReadHoldingRegisters(registers)) => {
            if registers.len() != count {
                return Err(wrong_count(count, registers.len(), "registers"));
            }
            Ok(Reply::Registers(registers))
        }
        (_, other) => {
            let what = format!("function {} was not asked for", other.function_code());
            Err(LinkError::Malformed { what })
        }
    }
}

fn wrong_count(asked: usize, got: usize, unit: &str) -> LinkError {
    LinkError::Malformed { what: format!("{got} {unit}, not {asked}") }
}

fn failure(error: CrateError) -> LinkError {
    match error {
        CrateError::Transport(source) => match source.kind() {
            // The parser says `UnexpectedEof` of an answer shorter than its own count; the gate
            // never says it of a close.
            io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof => LinkError::Malformed { what: source.to_string() },
            _ => LinkError::Closed { source },
        },
        CrateError::Protocol(error) => LinkError::Malformed { what: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
