//! How a driver tells the daemon of tags that only the server knows.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_translator::{TagId, TagPath, ValueKind};

/// A tag that was found below a configured subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTag {
    /// Where it stands in the unified namespace: the subtree's path and the browse names below.
    pub path: TagPath,
    /// What values it has.
    pub kind: ValueKind,
    /// The engineering unit, where the server names one.
    pub unit: Option<Arc<str>>,
    /// Its address, as a person would write it.
    pub address: Arc<str>,
    /// The index of the subtree in `DeviceSpec::subtrees` that it was found by.
    pub subtree: usize,
}

/// What a server says of a configured tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Which tag.
    pub tag: TagId,
    /// What values it has.
    pub kind: ValueKind,
}

/// Where tags get their numbers while the daemon runs.
pub trait TagBook: Send + Sync {
    /// Gives each tag its number, durable before the first sample that uses it. A tag whose path
    /// belongs to another device, or for which there is no room, gets `None`; the implementation
    /// says why.
    ///
    /// The found tags of a device replace those that were defined for it before.
    fn define(&self, device: Arc<str>, found: Vec<FoundTag>) -> BoxFuture<'_, Vec<Option<TagId>>>;

    /// Keeps what was learned of configured tags.
    fn learn(&self, device: Arc<str>, learned: Vec<Learned>) -> BoxFuture<'_, ()>;
}
