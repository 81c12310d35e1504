//! What stands between a Modbus TCP byte stream and the protocol crate: nothing passes that is not
//! one whole answer to the request in flight.
//!
//! The crate buffers as much as an answer's length field claims, begins every connection with
//! transaction 0, and tells the end of a stream as a bogus operating-system error. The gate checks
//! each header as soon as it is there and hands over complete answers only.
//!
//! # Invariants
//! - At most one request is in flight; a second write waits until the first one was flushed.
//! - No more than [`MAX_ADU`] bytes are held, whatever a header claims.
//! - Transaction numbers on the wire begin at a random place, so that an answer meant for an
//!   earlier connection, delivered by a gateway into this one, does not fit.
//! - An answer to an earlier request of this connection is thrown away (some servers answer
//!   twice), at most [`MAX_STALE`] per request; anything else that does not fit is an error.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes before the protocol data unit: transaction, protocol, length, unit.
const HEADER: usize = 7;
/// The largest frame: 7 header bytes and 253 of data, by the specification.
const MAX_ADU: usize = 260;
/// Earlier answers that one request may meet before the peer counts as broken.
const MAX_STALE: u16 = 8;

/// See the module's description.
pub(crate) struct Gate<T> {
    inner: T,
    next: u16,
    issued: u16,
    asked: Option<Asked>,
    stale: u16,
    outgoing: Vec<u8>,
    sent: usize,
    incoming: [u8; MAX_ADU],
    have: usize,
    /// Bytes of a checked answer at the front of `incoming`, and how many were handed over.
    whole: usize,
    given: usize,
}

/// The request in flight.
#[derive(Clone, Copy)]
struct Asked {
    transaction: u16,
    /// What the crate above believes the transaction to be.
    above: [u8; 2],
    unit: u8,
}

impl<T> Gate<T> {
    /// A gate in front of `inner` whose first transaction has the number `first`.
    pub(crate) const fn new(inner: T, first: u16) -> Self {
        Self {
            inner,
            next: first,
            issued: 0,
            asked: None,
            stale: 0,
            outgoing: Vec::new(),
            sent: 0,
            incoming: [0; MAX_ADU],
            have: 0,
            whole: 0,
            given: 0,
        }
    }

    /// Looks at what has arrived; afterwards `whole` tells whether an answer may pass.
    fn check(&mut self) -> io::Result<()> {
        while self.whole == 0 && self.have >= HEADER {
            let [t0, t1, p0, p1, l0, l1, unit, ..] = self.incoming;
            let protocol = u16::from_be_bytes([p0, p1]);
            if protocol != 0 {
                return Err(broken(format!("protocol {protocol} in an answer's header, not 0")));
            }
            let length = u16::from_be_bytes([l0, l1]);
            let total = usize::from(length) + 6;
            // The unit, a function code, and at least one byte.
            if length < 3 || total > MAX_ADU {
                return Err(broken(format!("length {length} in an answer's header, not 3 to 254")));
            }
            let transaction = u16::from_be_bytes([t0, t1]);
            let Some(asked) = self.asked else {
                return Err(broken(format!("answer {transaction} to no request")));
            };
            if transaction == asked.transaction {
                if unit != asked.unit {
                    return Err(broken(format!("answer from unit {unit}, not {}", asked.unit)));
                }
            } else if !self.was_issued(asked.transaction.wrapping_sub(transaction)) {
                return Err(broken(format!(
                    "answer to transaction {transaction}, not {}",
                    asked.transaction
                )));
            }
            if self.have < total {
                return Ok(());
            }
            if transaction == asked.transaction {
                [self.incoming[0], self.incoming[1]] = asked.above;
                self.asked = None;
                self.whole = total;
            } else {
                self.stale += 1;
                if self.stale > MAX_STALE {
                    return Err(broken(format!("more than {MAX_STALE} answers to old requests")));
                }
                self.discard(total);
            }
        }
        Ok(())
    }

    /// Whether a request so many transactions back was sent on this connection.
    const fn was_issued(&self, back: u16) -> bool {
        back >= 1 && back < self.issued
    }

    fn discard(&mut self, bytes: usize) {
        self.incoming.copy_within(bytes..self.have, 0);
        self.have -= bytes;
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.check()?;
            if this.whole > 0 {
                let take = buf.remaining().min(this.whole - this.given);
                buf.put_slice(&this.incoming[this.given..this.given + take]);
                this.given += take;
                if this.given == this.whole {
                    this.discard(this.whole);
                    (this.whole, this.given) = (0, 0);
                }
                return Poll::Ready(Ok(()));
            }
            let mut free = ReadBuf::new(&mut this.incoming[this.have..]);
            let read = match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut free)) {
                Ok(()) => free.filled().len(),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if read == 0 {
                // Not `UnexpectedEof`: that is what the crate's parser says of a short answer.
                let what = format!("closed by the peer after {} bytes of an answer", this.have);
                return Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, what)));
            }
            this.have += read;
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.sent < self.outgoing.len() {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let this = self.get_mut();
        let [t0, t1, _, _, _, _, unit, ..] = *buf else {
            return Poll::Ready(Err(broken("a request shorter than its header".to_owned())));
        };
        let transaction = this.next;
        this.next = transaction.wrapping_add(1);
        this.issued = this.issued.saturating_add(1);
        this.asked = Some(Asked { transaction, above: [t0, t1], unit });
        this.stale = 0;
        this.sent = 0;
        this.outgoing.clear();
        this.outgoing.extend_from_slice(&transaction.to_be_bytes());
        this.outgoing.extend_from_slice(&buf[2..]);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.sent < this.outgoing.len() {
            let rest = &this.outgoing[this.sent..];
            let wrote = ready!(Pin::new(&mut this.inner).poll_write(cx, rest))?;
            if wrote == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            this.sent += wrote;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T> std::fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("next", &self.next).finish_non_exhaustive()
    }
}
