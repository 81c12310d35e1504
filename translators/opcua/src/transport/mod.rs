//! The bytes between the gateway and a server: dialling, greeting, chunks, and responses that
//! are decoded without trust.
//!
//! # Invariants
//! - A response costs what its own bytes are worth: its frames, its chunks, the stack and the
//!   steps of its decoding and the lengths that it claims are bounded before memory is taken.
//! - A response that cannot be decoded fails the request that asked for it; what breaks the rules
//!   of the channel ends the connection; neither ends the process.
//! - What proves the server is compared with what was judged: an answer that opens or renews the
//!   channel is of the chosen policy and the judged certificate, or is not taken.
//! - The clock of the server never decides when a token is renewed: its age counts from when it
//!   came in.
//! - What the other side said, or how the connection broke, is kept for a person.

mod channel;
mod decode;
mod dial;
mod frame;
mod greet;
mod guard;
mod pending;
mod seal;

pub(crate) use channel::Channel;
pub(crate) use dial::dial;
pub(crate) use frame::LastWords;
pub(crate) use greet::{Greeted, greet};

#[cfg(test)]
mod tests;

/// The largest chunk that is asked for, and what the field's servers send at most.
pub(crate) const CHUNK: usize = 65_536;
/// The largest message, in all its chunks: a publish response of 100,000 values has 3 MiB.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// The most chunks of one message: servers with the smallest legal chunks of 8 KiB included.
pub(crate) const MAX_CHUNKS: usize = MAX_MESSAGE / 8_192;

/// Where a channel leaves what was said last before it closed.
pub(crate) type Words = std::sync::Arc<std::sync::Mutex<Option<LastWords>>>;

/// Takes a lock that nobody holds for long.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
