//! The stream that collects frames.
//!
//! # Invariants
//! - What exactly-once delivery and its proof stand on is never changed in place: a stream that
//!   differs there is refused and named. Limits are brought to the plan.
//! - When the stream is full the **oldest messages expire** (`discard: old`). A gateway tells
//!   that from loss by the stream's first sequence: beyond its own last acknowledged message,
//!   with the same creation time, its record is old news, and a proof begins where the hub's copy
//!   begins. `discard: new` would refuse the newest instead, and one full hub would fill the
//!   journals of the whole fleet until they have to drop.

use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamError, GetStreamError, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use crate::names::Name;
use crate::subjects;

/// The stream as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan {
    /// Its name.
    pub stream: Name,
    /// Copies: 1, or 3 on a cluster across power domains.
    pub replicas: usize,
    /// The most that it keeps, in bytes; `None` leaves the limit to the server's store.
    pub max_bytes: Option<u64>,
    /// The longest that it keeps a message; `None` is for ever.
    pub max_age: Option<Duration>,
}

/// Why the stream is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The hub did not say whether there is one.
    #[error(
        "cannot look for stream {stream}; log in as the hub's admin, and see that JetStream is enabled"
    )]
    Look {
        /// The stream.
        stream: Name,
        /// What the hub said.
        #[source]
        source: GetStreamError,
    },
    /// The hub would not make it.
    #[error("cannot create stream {stream}")]
    Create {
        /// The stream.
        stream: Name,
        /// What the hub said.
        #[source]
        source: CreateStreamError,
    },
    /// The hub would not change its limits.
    #[error("cannot change the limits of stream {stream}")]
    Update {
        /// The stream.
        stream: Name,
        /// What the hub said.
        #[source]
        source: UpdateStreamError,
    },
    /// It exists with other foundations.
    #[error("stream {stream} exists with another {differs}; move it aside, or name another stream", differs = differs.join(", "))]
    Differs {
        /// The stream.
        stream: Name,
        /// The settings that differ.
        differs: Vec<&'static str>,
    },
}

/// Makes the stream, or brings the limits of an existing one to the plan, and returns its INFO.
/// `context` belongs to an admin of the stream's account.
///
/// # Errors
/// When the hub refuses, or the existing stream differs in what delivery stands on.
pub async fn ensure_stream(context: &Context, plan: &StreamPlan) -> Result<Info, StreamError> {
    let stream = || plan.stream.clone();
    let wanted = config(plan);
    let existing = match context.get_stream(plan.stream.as_str()).await {
        Ok(existing) => existing.cached_info().clone(),
        Err(error) if is_not_found(&error) => {
            let made = context.create_stream(wanted).await;
            let made = made.map_err(|source| StreamError::Create { stream: stream(), source })?;
            return Ok(made.cached_info().clone());
        }
        Err(source) => return Err(StreamError::Look { stream: stream(), source }),
    };
    let differs = differences(&existing.config, &wanted);
    if !differs.is_empty() {
        return Err(StreamError::Differs { stream: stream(), differs });
    }
    let limits = |c: &Config| (c.max_bytes, c.max_age, c.num_replicas);
    if limits(&existing.config) == limits(&wanted) {
        return Ok(existing);
    }
    let (max_bytes, max_age, num_replicas) = limits(&wanted);
    let changed = Config { max_bytes, max_age, num_replicas, ..existing.config };
    let updated = context.update_stream(changed).await;
    updated.map_err(|source| StreamError::Update { stream: stream(), source })
}

fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn config(plan: &StreamPlan) -> Config {
    let bytes = plan.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    Config {
        name: plan.stream.as_str().to_owned(),
        description: Some("The record of the gateways, as frames.".to_owned()),
        subjects: vec![subjects::EVERY_FRAMES.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_bytes: bytes,
        max_age: plan.max_age.unwrap_or_default(),
        max_messages: -1,
        max_messages_per_subject: -1,
        // Bounded by the server's max_payload, which gateways read when they connect.
        max_message_size: -1,
        max_consumers: -1,
        num_replicas: plan.replicas,
        // Exactly once comes from expected sequences; the window only spares a read.
        duplicate_window: Duration::from_secs(120),
        allow_direct: true,
        deny_delete: true,
        deny_purge: true,
        // A roll-up header would let a publisher purge its subject.
        allow_rollup: false,
        ..Config::default()
    }
}

/// What delivery and proof stand on.
fn differences(existing: &Config, wanted: &Config) -> Vec<&'static str> {
    let mut differs = Vec::new();
    let mut same = |what: &'static str, same: bool| {
        if !same {
            differs.push(what);
        }
    };
    same("subjects", existing.subjects == wanted.subjects);
    same("retention", existing.retention == wanted.retention);
    same("storage", existing.storage == wanted.storage);
    same("discard", existing.discard == wanted.discard);
    same("max_msgs", existing.max_messages < 0);
    same("max_msgs_per_subject", existing.max_messages_per_subject < 0);
    same("no_ack", !existing.no_ack);
    same("sealed", !existing.sealed);
    same("allow_direct", existing.allow_direct);
    same("deny_delete", existing.deny_delete);
    same("deny_purge", existing.deny_purge);
    same("allow_rollup_hdrs", !existing.allow_rollup);
    same("mirror", existing.mirror.is_none());
    same("sources", existing.sources.as_ref().is_none_or(Vec::is_empty));
    same("subject_transform", existing.subject_transform.is_none());
    differs
}
