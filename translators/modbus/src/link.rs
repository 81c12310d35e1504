//! One connection: requests go out one at a time, and only verified answers come back.
//!
//! # Invariants
//! - An answer is returned only when its transaction, unit, function and length are those of the
//!   request. Anything else, silence included, makes the connection suspect.
//! - A suspect connection is dropped before the error is returned, so that a late answer cannot be
//!   taken for the next one. Dropping the future of a request has the same effect.
//! - An exception is an answer: the connection stays.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tidegate_translator::Reason;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_modbus::client::{Client as _, Context, tcp};
use tokio_modbus::prelude::{ReadCode, ReadDeviceIdentificationResponse};
use tokio_modbus::slave::SlaveContext as _;
use tokio_modbus::{Error as CrateError, Request as CrateRequest, Response, Slave};

use crate::dial::{ByteStream, DialError};
use crate::gate::Gate;
use crate::spec::{Table, UnitId};

/// What is asked of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the probe identifies")]
pub(crate) enum Request {
    /// A run of one table, with the function that reads it.
    Read { table: Table, start: u16, count: u16 },
    /// Device identification, function 43/14: the objects of a category from `object` on, or
    /// `object` alone.
    Identify { code: IdCode, object: u8 },
}

/// How much of a device's identification is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "asked for by the probe")]
pub(crate) enum IdCode {
    /// Vendor, product and revision.
    Basic,
    /// The other objects that the specification names.
    Regular,
    /// What the vendor added.
    Extended,
    /// One object.
    Specific,
}

/// What a unit answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// As many coils or discrete inputs as were asked for.
    Bits(Vec<bool>),
    /// As many registers as were asked for.
    Registers(Vec<u16>),
    /// Part of the identification.
    Identity(Identity),
}

/// Part of a device's identification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(dead_code, reason = "read by the probe")]
pub(crate) struct Identity {
    /// Numbers and contents of the objects.
    pub(crate) objects: Vec<(u8, Box<[u8]>)>,
    /// The object to ask for next, when there are more.
    pub(crate) next: Option<u8>,
}

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// There is no connection: the attempt failed just now, or the last one did and it is too
    /// early for another.
    #[error(transparent)]
    Down(Arc<ConnectError>),
    /// Nobody answered. A late answer may still be on its way.
    #[error("unit {unit} silent for {waited:?}")]
    Silent { unit: u8, waited: Duration },
    /// The connection broke while the answer was awaited.
    #[error("connection lost")]
    Closed {
        #[source]
        source: io::Error,
    },
    /// An answer came that is not the answer to this request.
    #[error("answer thrown away: {what}")]
    Malformed { what: String },
    /// The unit, or the gateway in front of it, answered "no".
    #[error("exception {code} ({})", exception_word(*.code))]
    Refused { code: u8 },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody took the connection.
    #[error("device cannot be reached")]
    Unreachable {
        #[source]
        source: DialError,
    },
    /// Nobody answered the attempt to connect.
    #[error("no connection within {waited:?}")]
    TimedOut { waited: Duration },
}

impl LinkError {
    /// Whether the way to the units failed and none of them was asked.
    pub(crate) const fn is_of_link(&self) -> bool {
        matches!(self, Self::Down(_))
    }

    /// What the samples say.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Down(_) | Self::Closed { .. } => Reason::NotConnected,
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
    pub(crate) fn line(&self) -> String {
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
/// The device has no time for the request at present.
pub(crate) const BUSY: u8 = 6;
/// A gateway has no path to the unit.
pub(crate) const GATEWAY_PATH: u8 = 0x0A;
/// A gateway got no answer from the unit.
pub(crate) const GATEWAY_TARGET: u8 = 0x0B;

/// The specification's name of an exception.
pub(crate) const fn exception_word(code: u8) -> &'static str {
    match code {
        ILLEGAL_FUNCTION => "illegal function",
        ILLEGAL_ADDRESS => "illegal data address",
        ILLEGAL_VALUE => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        BUSY => "server device busy",
        8 => "memory parity error",
        GATEWAY_PATH => "gateway path unavailable",
        GATEWAY_TARGET => "gateway target device failed to respond",
        _ => "not in the specification",
    }
}

/// The guard around the protocol crate.
pub(crate) struct Connection {
    /// `None` once the connection became suspect.
    context: Option<Context>,
    /// Wakes at the end of a request's time. One timer for all requests: moving it on costs much
    /// less than making one.
    alarm: Pin<Box<Sleep>>,
    proven: bool,
}

impl Connection {
    /// A connection that speaks Modbus TCP.
    pub(crate) fn over(stream: Box<dyn ByteStream>) -> Self {
        let first = u16::try_from(getrandom::u32().unwrap_or_default() >> 16);
        let gate = Gate::new(stream, first.unwrap_or_default());
        let alarm = Box::pin(sleep_until(Instant::now()));
        Self { context: Some(tcp::attach(gate)), alarm, proven: false }
    }

    /// Whether it can be asked again.
    pub(crate) const fn is_open(&self) -> bool {
        self.context.is_some()
    }

    /// Whether it has answered anything.
    pub(crate) const fn is_proven(&self) -> bool {
        self.proven
    }

    /// Sends one request and returns its verified answer.
    ///
    /// Cancel safety: dropping the future closes the connection.
    pub(crate) async fn ask(
        &mut self,
        unit: UnitId,
        request: Request,
        deadline: Instant,
    ) -> Result<Reply, LinkError> {
        // Taken out, and put back only after a verified answer: every other way out of here,
        // cancellation included, drops the connection.
        let Some(mut context) = self.context.take() else {
            return Err(LinkError::Closed { source: io::ErrorKind::NotConnected.into() });
        };
        let since = Instant::now();
        context.set_slave(Slave(unit.0));
        self.alarm.as_mut().reset(deadline);
        let answer = {
            let call = pin!(context.call(outgoing(request)));
            before(self.alarm.as_mut(), call).await
        };
        let outcome = match answer {
            Some(Ok(Ok(response))) => Ok(verify(request, response)?),
            Some(Ok(Err(exception))) => Err(LinkError::Refused { code: exception.into() }),
            Some(Err(error)) => return Err(failure(error)),
            None => return Err(LinkError::Silent { unit: unit.0, waited: since.elapsed() }),
        };
        self.context = Some(context);
        self.proven = true;
        outcome
    }
}

/// The future's output, unless the alarm comes before it.
async fn before<F: Future>(
    mut alarm: Pin<&mut Sleep>,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
    })
    .await
}

const fn outgoing(request: Request) -> CrateRequest<'static> {
    match request {
        Request::Read { table, start, count } => match table {
            Table::Coil => CrateRequest::ReadCoils(start, count),
            Table::DiscreteInput => CrateRequest::ReadDiscreteInputs(start, count),
            Table::InputRegister => CrateRequest::ReadInputRegisters(start, count),
            Table::HoldingRegister => CrateRequest::ReadHoldingRegisters(start, count),
        },
        Request::Identify { code, object } => {
            CrateRequest::ReadDeviceIdentification(read_code(code), object)
        }
    }
}

const fn read_code(code: IdCode) -> ReadCode {
    match code {
        IdCode::Basic => ReadCode::Basic,
        IdCode::Regular => ReadCode::Regular,
        IdCode::Extended => ReadCode::Extended,
        IdCode::Specific => ReadCode::Specific,
    }
}

/// The crate accepts any number of cells; only the number asked for is an answer.
fn verify(request: Request, response: Response) -> Result<Reply, LinkError> {
    match (request, response) {
        (Request::Read { table: Table::Coil, count, .. }, Response::ReadCoils(mut bits))
        | (
            Request::Read { table: Table::DiscreteInput, count, .. },
            Response::ReadDiscreteInputs(mut bits),
        ) => {
            // Bits travel in whole bytes.
            let count = usize::from(count);
            if bits.len() != count.next_multiple_of(8) {
                return Err(wrong_count(count.next_multiple_of(8), bits.len(), "bits"));
            }
            bits.truncate(count);
            Ok(Reply::Bits(bits))
        }
        (
            Request::Read { table: Table::InputRegister, count, .. },
            Response::ReadInputRegisters(registers),
        )
        | (
            Request::Read { table: Table::HoldingRegister, count, .. },
            Response::ReadHoldingRegisters(registers),
        ) => {
            let count = usize::from(count);
            if registers.len() != count {
                return Err(wrong_count(count, registers.len(), "registers"));
            }
            Ok(Reply::Registers(registers))
        }
        (Request::Identify { code, object }, Response::ReadDeviceIdentification(answer)) => {
            identity(code, object, answer)
        }
        (_, other) => {
            let what = format!("function {} was not asked for", other.function_code());
            Err(LinkError::Malformed { what })
        }
    }
}

fn identity(
    code: IdCode,
    object: u8,
    answer: ReadDeviceIdentificationResponse,
) -> Result<Reply, LinkError> {
    let malformed = |what: String| Err(LinkError::Malformed { what });
    if answer.read_code != read_code(code) {
        return malformed("an identification of another kind than asked for".to_owned());
    }
    let objects: Vec<_> =
        answer.device_id_objects.into_iter().map(|it| (it.id, Box::from(&*it.value))).collect();
    if code == IdCode::Specific && !matches!(&*objects, [(id, _)] if *id == object) {
        return malformed(format!("not the identification object {object} that was asked for"));
    }
    let next = answer.more_follows.then_some(answer.next_object_id);
    Ok(Reply::Identity(Identity { objects, next }))
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
