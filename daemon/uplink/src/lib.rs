//! The exactly-once delivery state machine. Pure: no I/O, no clock of its own.
//!
//! A thin shell feeds [`Uplink::handle`] with what happened and the time, and does what it
//! returns, in order.
//!
//! # Invariants
//! - At most one message is unresolved. It is repeated unchanged, under the same expected last
//!   sequence and message id, until it is known what became of it. Only when it is too large for
//!   the link or the hub, or the journal cannot read it any more, is it formed anew: under the
//!   same expectation, so at most one of both can be stored, and under another id.
//! - A message is stored when our stream in our domain acknowledged it, or when the leader named
//!   message N as the subject's last and N holds a frame with the hash that our journal knows, or
//!   knew when it was sent. A refusal alone never means "stored".
//! - A loss at the hub is put on record only after the stream's leader accepted a publish with the
//!   lower expectation.
//! - Nothing here spins: after a refusal or a failure every further request waits for a back-off
//!   that is capped and spread by the gateway's name.
//!
//! # Why a late copy does no harm
//! Every copy carries the expectation under which it was formed. Once anything was stored on the
//! subject, that expectation never matches again within one life of the stream's log. A hub that
//! went back to an older log gives out the same sequences again; it was restarted for that, which
//! closed the link and discarded what was on it, and copies of one link arrive in the order in
//! which they were sent, so none of before can follow one of after.

mod alarm;
mod backoff;
mod chain;
mod drain;
mod event;
mod machine;
mod memory;
mod pace;
mod reconcile;
mod settings;
mod status;

pub use alarm::{Alarm, AlarmKind};
pub use chain::{Amount, Chain, Run};
pub use event::{
    Action, Event, HeadAnswer, HeadContent, Outcome, Publish, RequestFailure, RewindReason,
    StreamInfo,
};
pub use machine::Uplink;
pub use memory::{Memory, MessageEnd};
pub use settings::{Cursor, HubId, Settings, Suspicion};
pub use status::{Counters, State, Status};

/// How many epochs of one gateway are watched at the hub. An epoch begins only with a fork or a
/// lost journal; more than this many in one stream's life is itself a finding.
pub const MAX_EPOCHS: usize = 64;

/// What our headers add to a message: two names and their values are about 230 bytes; the rest is
/// room for what the shell adds.
pub const HEADER_ALLOWANCE: usize = 512;
