//! What a device that is fed by messages is configured to be.

use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::TagPath;

/// What is done with a message that there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Whoever asked for an answer keeps it and tries again; what nobody waits for is lost, and
    /// told.
    Refuse,
    /// It is lost and told, answer or not.
    Drop,
}

/// What is read of payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// JSON where it is JSON, else opaque bytes.
    Auto,
    /// Opaque bytes, always.
    Bytes,
}

/// One `[[device]]` with `protocol = "nats"`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// The configured name.
    pub name: String,
    /// Where its applications publish, with wildcards.
    pub subjects: Arc<[Box<str>]>,
    /// What the path of each tag begins with.
    pub base_path: TagPath,
    /// How many parts at the beginning of a subject are left out of the path.
    pub skip_parts: usize,
    /// What is read of payloads.
    pub payload: Payload,
    /// Whether each member of a JSON object is a tag of its own.
    pub split: bool,
    /// The member that identifies a message.
    pub id_field: Option<Box<str>>,
    /// The member that says when the value arose.
    pub time_field: Option<Box<str>>,
    /// The member that is the value.
    pub value_field: Option<Box<str>>,
    /// The largest payload, in bytes, at most [`crate::MAX_PAYLOAD_BYTES`].
    pub max_payload: usize,
    /// The most tags.
    pub max_tags: usize,
    /// The most messages that wait for the disk.
    pub max_waiting: usize,
    /// What is done with more.
    pub when_full: WhenFull,
    /// How many identifiers are remembered.
    pub remember_ids: usize,
    /// How far back in the record identifiers are looked for at a start.
    pub remember_for: Duration,
    /// The longest wait for the disk of a message that is to be answered.
    pub answer_within: Duration,
}
