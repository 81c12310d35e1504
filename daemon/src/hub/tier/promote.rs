//! A mirror becomes the stream that it mirrored.
//!
//! # Invariants
//! - It is told to, never by itself: two streams that both take frames of one gateway would each
//!   hold a part.
//! - A region that is there still is not replaced, unless it is said that it shall be.
//! - What the mirror had not got yet is not lost: to a gateway it is a hub that went back. It sends
//!   again from there, and each frame is stored once.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{GetStreamError, UpdateStreamError};
use async_nats::jetstream::stream::Config;

use super::super::stream::{Keeps, StreamPlan};
use crate::names::Name;

/// A region that was heard so recently is there: it speaks once a second.
const RECENTLY: Duration = Duration::from_secs(30);

/// What the promoted stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// How many messages.
    pub messages: u64,
    /// The sequence of the last one: the region's.
    pub last_seq: u64,
    /// How many messages the region was known to have beyond that.
    pub lag: u64,
}

/// Why a mirror is not promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The hub did not say what the stream is.
    #[error("cannot look for stream {stream}; log in as the hub's admin")]
    Look {
        /// The stream.
        stream: Name,
        /// What the hub said.
        #[source]
        source: GetStreamError,
    },
    /// It is none.
    #[error("stream {stream} is no mirror; it takes frames already")]
    NoMirror {
        /// The stream.
        stream: Name,
    },
    /// It is planned as one.
    #[error("hub.toml says that stream {stream} is a mirror; remove its key mirrors first")]
    Planned {
        /// The stream.
        stream: Name,
    },
    /// The region answers.
    #[error(
        "the region of stream {stream} was heard {heard:?} ago; stop its servers or cut them off first, for two hubs that take frames would hold a part each"
    )]
    RegionLives {
        /// The stream.
        stream: Name,
        /// How long ago.
        heard: Duration,
    },
    /// The hub would not.
    #[error("cannot promote stream {stream}")]
    Update {
        /// The stream.
        stream: Name,
        /// What the hub said.
        #[source]
        source: UpdateStreamError,
    },
}

/// Has the mirror take the frames that the plan says. `context` belongs to an admin of the stream's
/// account.
///
/// # Errors
/// When the stream is no mirror or is planned as one, its region is there and `although_it_lives` is
/// not set, or the hub refuses.
pub async fn promote(
    context: &Context,
    plan: &StreamPlan,
    although_it_lives: bool,
) -> Result<Promoted, PromoteError> {
    let stream = || plan.stream.clone();
    let Keeps::Frames(subjects) = &plan.keeps else {
        return Err(PromoteError::Planned { stream: stream() });
    };
    let found = context.get_stream(plan.stream.as_str()).await;
    let found = found.map_err(|source| PromoteError::Look { stream: stream(), source })?;
    let info = found.cached_info();
    if info.config.mirror.is_none() {
        return Err(PromoteError::NoMirror { stream: stream() });
    }
    let heard = info.mirror.as_ref().and_then(|mirror| mirror.active);
    if let Some(heard) = heard.filter(|heard| *heard < RECENTLY && !although_it_lives) {
        return Err(PromoteError::RegionLives { stream: stream(), heard });
    }
    let lag = info.mirror.as_ref().map_or(0, |mirror| mirror.lag);
    let subjects = subjects.clone();
    let wanted = Config { mirror: None, subjects, ..info.config.clone() };
    let updated = context.update_stream(wanted).await;
    let updated = updated.map_err(|source| PromoteError::Update { stream: stream(), source })?;
    let state = &updated.state;
    Ok(Promoted { messages: state.messages, last_seq: state.last_sequence, lag })
}
