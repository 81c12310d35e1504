//! Recorded bytes once more through the gate and the guard, without a device.
//!
//! # Invariants
//! - The very code that judged the bytes when they came judges them again.
//! - Two things that the bytes do not hold are left out: the pauses between them, and what the
//!   line had shown before. So a frame of a line that equals the request is taken for its echo.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::gate::Gate;
use crate::link::{Connection, IdCode, LinkError, Reply, Request};
use crate::rtu::{self, Asked};
use crate::spec::{Table, Transport, UnitId};

/// Nothing is waited for; the guard wants a deadline nevertheless.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// How requests and answers are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP, with TLS around it or without.
    Tcp,
    /// RTU, on a line or over TCP.
    Rtu,
}

impl Framing {
    /// The framing of a transport.
    #[must_use]
    pub const fn of(transport: &Transport) -> Self {
        match transport {
            Transport::Tcp(_) | Transport::Tls(..) => Self::Tcp,
            Transport::RtuOverTcp(_) | Transport::Rtu(_) => Self::Rtu,
        }
    }
}

/// What a recorded exchange was about, and what is made of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Who was asked.
    pub unit: UnitId,
    /// What.
    pub question: Question,
    /// The answer, or why there is none.
    pub outcome: Result<Given, String>,
}

/// A recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A run of one table.
    Read {
        /// Which table.
        table: Table,
        /// The first address, 0-based.
        start: u16,
        /// How many cells.
        count: u16,
    },
    /// Device identification, function 43/14.
    Identification,
}

/// A recorded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Coils or discrete inputs.
    Bits(Vec<bool>),
    /// Registers.
    Registers(Vec<u16>),
    /// Numbers and contents of identification objects.
    Objects(Vec<(u8, Box<[u8]>)>),
}

/// Judges recorded bytes as if they came now. Needs a runtime with time.
///
/// # Errors
/// When `sent` is no request that this translator sends: the recording is of another framing, or
/// was cut.
pub async fn replay(framing: Framing, sent: &[u8], received: &[u8]) -> Result<Replayed, String> {
    let stream = Recorded { bytes: received.to_vec(), given: 0, asked: false };
    let (unit, request, mut connection) = match framing {
        Framing::Tcp => {
            let &[t0, t1, 0, 0, 0, length, unit, ref pdu @ ..] = sent else {
                return Err(no_request(framing, sent));
            };
            if usize::from(length) != pdu.len() + 1 {
                return Err(no_request(framing, sent));
            }
            let gate = Gate::new(stream, u16::from_be_bytes([t0, t1]));
            (unit, request(pdu), Connection::through(gate))
        }
        Framing::Rtu => {
            let asked = Asked::of_frame(sent).map_err(|_| no_request(framing, sent))?;
            let gate = rtu::Gate::new(stream, rtu::Timing::recorded(), rtu::Witness::default());
            (asked.unit(), request(asked.pdu()), Connection::through(gate))
        }
    };
    let request = request.ok_or_else(|| no_request(framing, sent))?;
    let question = match request {
        Request::Read { table, start, count } => Question::Read { table, start, count },
        Request::Identify { .. } => Question::Identification,
    };
    let deadline = Instant::now() + LONG_ENOUGH;
    let outcome = match connection.ask(UnitId(unit), request, deadline).await {
        Ok(Reply::Bits(bits)) => Ok(Given::Bits(bits)),
        Ok(Reply::Registers(registers)) => Ok(Given::Registers(registers)),
        Ok(Reply::Identity(identity)) => Ok(Given::Objects(identity.objects)),
        Err(LinkError::Closed { .. }) => {
            Err(format!("no whole answer among the {} bytes received", received.len()))
        }
        Err(error) => Err(error.line()),
    };
    Ok(Replayed { unit: UnitId(unit), question, outcome })
}

fn no_request(framing: Framing, sent: &[u8]) -> String {
    let of = match framing {
        Framing::Tcp => "Modbus TCP",
        Framing::Rtu => "RTU",
    };
    format!("the {} bytes sent are no reading {of} request; is it the right device?", sent.len())
}

fn request(pdu: &[u8]) -> Option<Request> {
    let (table, rest) = match *pdu {
        [1, ref rest @ ..] => (Table::Coil, rest),
        [2, ref rest @ ..] => (Table::DiscreteInput, rest),
        [3, ref rest @ ..] => (Table::HoldingRegister, rest),
        [4, ref rest @ ..] => (Table::InputRegister, rest),
        [0x2B, 0x0E, code, object] => {
            let code = match code {
                1 => IdCode::Basic,
                2 => IdCode::Regular,
                3 => IdCode::Extended,
                4 => IdCode::Specific,
                _ => return None,
            };
            return Some(Request::Identify { code, object });
        }
        _ => return None,
    };
    let [s1, s0, c1, c0] = *rest else { return None };
    let (start, count) = (u16::from_be_bytes([s1, s0]), u16::from_be_bytes([c1, c0]));
    Some(Request::Read { table, start, count })
}

/// What was received, to be had once something was asked.
#[derive(Debug)]
struct Recorded {
    bytes: Vec<u8>,
    given: usize,
    asked: bool,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            return Poll::Pending;
        }
        let rest = self.bytes.get(self.given..).unwrap_or_default();
        let take = buf.remaining().min(rest.len());
        buf.put_slice(rest.get(..take).unwrap_or_default());
        self.given += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request for ten holding registers from 0 on, as every manual prints it.
    const SENT: [u8; 8] = [0x01, 0x03, 0x00, 0x00, 0x00, 0x0A, 0xC5, 0xCD];
    const READ: Question = Question::Read { table: Table::HoldingRegister, start: 0, count: 10 };

    fn rtu_answer() -> Vec<u8> {
        let body: Vec<u8> = [1, 3, 20].into_iter().chain(0..20).collect();
        let checksum = rtu::crc16(&body).to_le_bytes();
        [body.as_slice(), &checksum].concat()
    }

    fn registers() -> Given {
        Given::Registers((0..10).map(|at| u16::from_be_bytes([2 * at, 2 * at + 1])).collect())
    }

    #[tokio::test]
    async fn an_rtu_exchange_comes_out_as_it_did() {
        let received = [&SENT[..], &[0xFF], &rtu_answer()].concat();
        let again = replay(Framing::Rtu, &SENT, &received).await.unwrap();
        let unit = UnitId(1);
        assert_eq!(again, Replayed { unit, question: READ, outcome: Ok(registers()) });
    }

    #[tokio::test]
    async fn a_tcp_exchange_keeps_its_transaction() {
        let sent = [0xAB, 0xCD, 0, 0, 0, 6, 1, 3, 0, 0, 0, 10];
        let cells: Vec<u8> = (0..20).collect();
        let received = [&[0xAB, 0xCD, 0, 0, 0, 23, 1, 3, 20][..], &cells].concat();
        let again = replay(Framing::Tcp, &sent, &received).await.unwrap();
        assert_eq!(again.outcome, Ok(registers()));
        let other = [&[0xAB, 0xCE], &received[2..]].concat();
        let again = replay(Framing::Tcp, &sent, &other).await.unwrap();
        assert!(again.outcome.unwrap_err().contains("transaction 43982"));
    }

    #[tokio::test]
    async fn what_was_no_answer_is_none_again() {
        let mut broken = rtu_answer();
        broken[5] ^= 1;
        for received in [&broken[..], &broken[..9], &[]] {
            let again = replay(Framing::Rtu, &SENT, received).await.unwrap();
            let says = format!("no whole answer among the {} bytes received", received.len());
            assert_eq!(again.outcome, Err(says));
        }
        let no = [1, 0x83, 2, 0xC0, 0xF1];
        let again = replay(Framing::Rtu, &SENT, &no).await.unwrap();
        assert_eq!(again.outcome, Err("exception 2 (illegal data address)".into()));
    }

    #[tokio::test]
    async fn a_recording_of_another_framing_is_named() {
        let error = replay(Framing::Tcp, &SENT, &[]).await.unwrap_err();
        assert!(error.contains("8 bytes sent are no reading Modbus TCP request"), "{error}");
        let sent = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 10];
        assert!(replay(Framing::Rtu, &sent, &[]).await.unwrap_err().contains("RTU"));
        assert!(replay(Framing::Rtu, &[], &[]).await.is_err());
        let write = [0, 1, 0, 0, 0, 6, 1, 6, 0, 0, 0, 10];
        assert!(replay(Framing::Tcp, &write, &[]).await.is_err());
    }
}
