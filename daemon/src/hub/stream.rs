//! The streams of a hub: those that collect frames, the one that keeps last values, and the one that
//! keeps the directory of owners.
//!
//! # Invariants
//! - What exactly-once delivery and its proof stand on is never changed in place: a stream that
//!   differs there is refused and named. Limits are brought to the plan.
//! - When the stream is full the **oldest messages expire** (`discard: old`). A gateway tells
//!   that from loss by the stream's first sequence: beyond its own last acknowledged message,
//!   with the same creation time, its record is old news, and a proof begins where the hub's copy
//!   begins. `discard: new` would refuse the newest instead, and one full hub would fill the
//!   journals of the whole fleet until they have to drop.
//! - The stream of last values acknowledges nothing: whoever publishes a live value chooses where
//!   the acknowledgement would go, and that could be another gateway's record.

use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamError, GetStreamError, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, External, Info, RetentionPolicy, Source, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};

use super::{HubFile, LAST_VALUES, OWNERS, tier};
use crate::names::Name;
use crate::subjects;

/// A stream as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan {
    /// Its name.
    pub stream: Name,
    /// What it keeps.
    pub keeps: Keeps,
    /// Copies: 1, or 3 on a cluster across power domains.
    pub replicas: usize,
    /// The most that it keeps, in bytes; `None` leaves the limit to the server's store.
    pub max_bytes: Option<u64>,
    /// The longest that it keeps a message; `None` is for ever.
    pub max_age: Option<Duration>,
}

/// What a stream keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeps {
    /// The frames on these subjects.
    Frames(Vec<String>),
    /// What the stream of the same name at another hub keeps, which is asked below one prefix and
    /// delivers below the other.
    Mirror {
        /// Of questions to the other hub.
        api: String,
        /// Of what it delivers.
        deliver: String,
    },
    /// The last value of each tag, in memory.
    LastValues,
    /// The directory of owners.
    Owners,
}

impl StreamPlan {
    /// A stream for the frames of every gateway, without limits.
    #[must_use]
    pub fn of_every_gateway(stream: Name, replicas: usize) -> Self {
        let keeps = Keeps::Frames(vec![subjects::EVERY_FRAMES.to_owned()]);
        Self { stream, keeps, replicas, max_bytes: None, max_age: None }
    }
}

impl HubFile {
    /// The streams as they should be.
    #[must_use]
    pub fn stream_plans(&self) -> Vec<StreamPlan> {
        let replicas = self.replicas();
        let frames = self.streams.iter().map(|stream| StreamPlan {
            stream: stream.name.clone(),
            keeps: match &stream.mirrors {
                None => Keeps::Frames(stream.takes.subjects()),
                Some(_) => tier::mirror_of(&stream.name, &self.hub.name),
            },
            replicas,
            max_bytes: self.bytes_of(stream),
            max_age: stream.max_age,
        });
        let last = self.hub.last_values.and_then(|bytes| {
            let stream = Name::new(LAST_VALUES).ok()?;
            let max_bytes = Some(bytes);
            Some(StreamPlan {
                stream,
                keeps: Keeps::LastValues,
                replicas,
                max_bytes,
                max_age: None,
            })
        });
        let owners = Name::new(OWNERS).ok().map(|stream| StreamPlan {
            stream,
            keeps: Keeps::Owners,
            replicas,
            // A limit in bytes would be taken from what frames may have.
            max_bytes: None,
            max_age: None,
        });
        frames.chain(last).chain(owners).collect()
    }
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
    if drift(&existing.config, plan).is_empty() {
        return Ok(existing);
    }
    let Config { subjects, max_bytes, max_age, num_replicas, .. } = wanted;
    let changed = Config { subjects, max_bytes, max_age, num_replicas, ..existing.config };
    let updated = context.update_stream(changed).await;
    updated.map_err(|source| StreamError::Update { stream: stream(), source })
}

fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// What differs from the plan, foundations and limits.
#[must_use]
pub fn drift(existing: &Config, plan: &StreamPlan) -> Vec<&'static str> {
    let wanted = config(plan);
    let mut drift = differences(existing, &wanted);
    let mut same = |what: &'static str, same: bool| {
        if !same && !drift.contains(&what) {
            drift.push(what);
        }
    };
    let sorted = |config: &Config| {
        let mut subjects = config.subjects.clone();
        subjects.sort();
        subjects
    };
    same("subjects", sorted(existing) == sorted(&wanted));
    same("max_bytes", existing.max_bytes == wanted.max_bytes);
    same("max_age", existing.max_age == wanted.max_age);
    same("num_replicas", existing.num_replicas == wanted.num_replicas);
    drift
}

fn config(plan: &StreamPlan) -> Config {
    let bytes = plan.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let common = Config {
        name: plan.stream.as_str().to_owned(),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_bytes: bytes,
        max_age: plan.max_age.unwrap_or_default(),
        max_messages: -1,
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
    };
    match &plan.keeps {
        Keeps::Frames(subjects) => Config {
            description: Some("The record of the gateways, as frames.".to_owned()),
            subjects: subjects.clone(),
            storage: StorageType::File,
            max_messages_per_subject: -1,
            ..common
        },
        Keeps::Mirror { api, deliver } => Config {
            description: Some("The record of the gateways, as another hub keeps it.".to_owned()),
            storage: StorageType::File,
            max_messages_per_subject: -1,
            mirror: Some(Source {
                name: plan.stream.as_str().to_owned(),
                external: Some(External {
                    api_prefix: api.clone(),
                    delivery_prefix: Some(deliver.clone()),
                }),
                ..Source::default()
            }),
            ..common
        },
        Keeps::Owners => Config {
            description: Some("Which gateways are admitted, and what is theirs.".to_owned()),
            subjects: vec![subjects::OWNERS.to_owned()],
            storage: StorageType::File,
            max_messages_per_subject: 1,
            ..common
        },
        Keeps::LastValues => Config {
            description: Some("The last value of each tag.".to_owned()),
            subjects: vec![subjects::EVERY_LIVE.to_owned()],
            storage: StorageType::Memory,
            max_messages_per_subject: 1,
            no_ack: true,
            ..common
        },
    }
}

/// What delivery and proof stand on. A plant more is no difference, one less is: who takes it over
/// knows nothing of what was delivered.
fn differences(existing: &Config, wanted: &Config) -> Vec<&'static str> {
    let mut differs = Vec::new();
    let mut same = |what: &'static str, same: bool| {
        if !same {
            differs.push(what);
        }
    };
    same("subjects", existing.subjects.iter().all(|it| wanted.subjects.contains(it)));
    same("retention", existing.retention == wanted.retention);
    same("storage", existing.storage == wanted.storage);
    same("discard", existing.discard == wanted.discard);
    same("max_msgs", existing.max_messages < 0);
    let per_subject = |config: &Config| config.max_messages_per_subject.max(-1);
    same("max_msgs_per_subject", per_subject(existing) == per_subject(wanted));
    same("no_ack", existing.no_ack == wanted.no_ack);
    same("sealed", !existing.sealed);
    same("allow_direct", existing.allow_direct);
    same("deny_delete", existing.deny_delete);
    same("deny_purge", existing.deny_purge);
    same("allow_rollup_hdrs", !existing.allow_rollup);
    let prefixes = |config: &Config| {
        let mirror = config.mirror.as_ref()?;
        Some((mirror.name.clone(), mirror.external.clone()))
    };
    same("mirror", prefixes(existing) == prefixes(wanted));
    same("sources", existing.sources.as_ref().is_none_or(Vec::is_empty));
    same("subject_transform", existing.subject_transform.is_none());
    differs
}
