//! A simulated Modbus TCP PLC for the demo and for a first try without a machine.
//!
//! # Invariants
//! - It only reads and answers; nothing a client sends changes what it holds.
//! - A client can hold at most one request of 260 bytes in memory, and there are at most
//!   [`MAX_CLIENTS`] of them; what breaks the protocol loses its connection.
//! - What it holds depends on time alone, never on how often it is read.

mod profile;

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{MAX_BITS, MAX_REGISTERS};
use tidegate_translator::CancellationToken;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use profile::{Cells, Entry, Memory, PRESS_MAP, Profile};

/// Clients at one time; a PLC has fewer.
pub const MAX_CLIENTS: usize = 64;
/// The pause after the operating system refused a connection, so that a lack of descriptors does
/// not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;

/// How the simulated PLC behaves.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// What it holds.
    pub profile: Profile,
    /// The pace of its counters.
    pub step: Duration,
    /// How long it thinks before each answer.
    pub delay: Duration,
    /// Closes a connection instead of answering each so-many-th request on it.
    pub drop_every: Option<NonZeroU32>,
}

impl Default for Behaviour {
    fn default() -> Self {
        let (step, delay) = (Duration::from_millis(100), Duration::ZERO);
        Self { profile: Profile::Press, step, delay, drop_every: None }
    }
}

/// Answers clients until `stop`. Times count from the call.
///
/// Cancel safety: dropping the future closes every connection.
pub async fn serve(listener: TcpListener, behaviour: Behaviour, stop: CancellationToken) {
    let since = Instant::now();
    let behaviour = Arc::new(behaviour);
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                Ok((stream, _)) => {
                    let behaviour = Arc::clone(&behaviour);
                    clients.spawn(async move {
                        // A client that goes away is no news for a PLC.
                        let _ = client(stream, &behaviour, since).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "simulated PLC cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn client(mut stream: TcpStream, behaviour: &Behaviour, since: Instant) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut frame = [0; 260];
    let mut requests = 0_u32;
    loop {
        stream.read_exact(&mut frame[..7]).await?;
        let [t0, t1, p0, p1, l0, l1, unit, ..] = frame;
        let length = u16::from_be_bytes([l0, l1]);
        if (p0, p1) != (0, 0) || !(2..=254).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let end = 6 + usize::from(length);
        stream.read_exact(&mut frame[7..end]).await?;
        requests = requests.wrapping_add(1);
        if behaviour.drop_every.is_some_and(|every| requests.is_multiple_of(every.get())) {
            return Ok(());
        }
        sleep(behaviour.delay).await;
        let memory = Memory::at(behaviour.profile, since.elapsed(), behaviour.step);
        let pdu = answer(&frame[7..end], &memory);
        let mut reply = vec![t0, t1, 0, 0];
        let length = u16::try_from(pdu.len() + 1).unwrap_or_default();
        reply.extend_from_slice(&length.to_be_bytes());
        reply.push(unit);
        reply.extend_from_slice(&pdu);
        stream.write_all(&reply).await?;
    }
}

/// The answer to one protocol data unit.
fn answer(request: &[u8], memory: &Memory) -> Vec<u8> {
    let function = request.first().copied().unwrap_or_default();
    let outcome = match (function, request.get(1..)) {
        (1 | 2, Some(range)) => read(range, Cells::Bits, memory),
        (3 | 4, Some(range)) => read(range, Cells::Registers, memory),
        _ => Err(ILLEGAL_FUNCTION),
    };
    match outcome.and_then(|body| Ok((u8::try_from(body.len()).map_err(|_| ILLEGAL_VALUE)?, body)))
    {
        Ok((count, body)) => [&[function, count], &body[..]].concat(),
        Err(exception) => vec![function | 0x80, exception],
    }
}

fn read(range: &[u8], cells: Cells, memory: &Memory) -> Result<Vec<u8>, u8> {
    let &[s0, s1, c0, c1] = range else {
        return Err(ILLEGAL_VALUE);
    };
    let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
    let limit = match cells {
        Cells::Bits => MAX_BITS,
        Cells::Registers => MAX_REGISTERS,
    };
    if count == 0 || count > limit {
        return Err(ILLEGAL_VALUE);
    }
    let last = start.checked_add(count - 1).ok_or(ILLEGAL_ADDRESS)?;
    let mut body = Vec::with_capacity(usize::from(count) * 2);
    match cells {
        Cells::Registers => {
            for address in start..=last {
                let register = memory.register(address).ok_or(ILLEGAL_ADDRESS)?;
                body.extend_from_slice(&register.to_be_bytes());
            }
        }
        Cells::Bits => {
            for (at, address) in (start..=last).enumerate() {
                let bit = memory.bit(address).ok_or(ILLEGAL_ADDRESS)?;
                if at % 8 == 0 {
                    body.push(0);
                }
                if let Some(byte) = body.last_mut() {
                    *byte |= u8::from(bit) << (at % 8);
                }
            }
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
