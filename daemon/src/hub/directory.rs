//! The hub's directory of owners: which gateways it admitted, and what is theirs.
//!
//! # Invariants
//! - One retained JSON document, written by the hub's admin alone. Readers have it by an import of
//!   that one message; gateways only where they may ask somebody.
//! - It is printed from `hub.toml`, so it says nothing that is not there.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{GetStreamError, PublishError};

use super::{HubFile, OWNERS};
use crate::asker::{Directory, Owner};
use crate::subjects;

/// The version that is written.
const VERSION: u8 = 1;
/// The largest document, in bytes: below what a message may have, with room for its headers.
const MAX_BYTES: usize = 1_000_000;

impl Directory {
    /// What `hub.toml` says.
    #[must_use]
    pub fn of(file: &HubFile) -> Self {
        let texts = |paths: &[tidegate_translator::TagPath]| {
            paths.iter().map(|path| path.as_str().to_owned()).collect()
        };
        let mut gateways: Vec<_> = file
            .gateways
            .iter()
            .map(|gateway| Owner {
                id: gateway.id.to_string(),
                prefixes: texts(&gateway.prefixes),
                asks: gateway.shares.iter().map(ToString::to_string).collect(),
            })
            .collect();
        gateways.sort_by(|a, b| a.id.cmp(&b.id));
        Self { v: VERSION, hub: file.hub.name.to_string(), gateways, prefixes_left_out: false }
    }

    /// The document; without prefixes where it would be too large with them, `None` where it is even
    /// then.
    #[must_use]
    pub fn document(mut self) -> Option<Vec<u8>> {
        let bytes = serde_json::to_vec(&self).ok()?;
        if bytes.len() <= MAX_BYTES {
            return Some(bytes);
        }
        self.gateways.iter_mut().for_each(|owner| owner.prefixes.clear());
        self.prefixes_left_out = true;
        serde_json::to_vec(&self).ok().filter(|bytes| bytes.len() <= MAX_BYTES)
    }
}

/// Why the directory is not at the hub as it should be.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// More gateways than one message holds.
    #[error("{count} gateways are more than one directory holds; a hub takes some ten thousand")]
    TooLarge {
        /// How many.
        count: usize,
    },
    /// There is no stream for it.
    #[error("cannot look for stream {OWNERS}; run tidegate hub apply --streams")]
    Look(#[source] GetStreamError),
    /// The hub did not take it.
    #[error("cannot write the directory of owners into stream {OWNERS}")]
    Publish(#[source] PublishError),
}

/// Brings the directory at the hub to what `hub.toml` says, as its admin; whether it was another one.
///
/// # Errors
/// When there is no stream for it, or the hub refuses.
pub async fn publish_directory(context: &Context, file: &HubFile) -> Result<bool, DirectoryError> {
    let document = Directory::of(file).document();
    let document = document.ok_or(DirectoryError::TooLarge { count: file.gateways.len() })?;
    let stream = context.get_stream(OWNERS).await.map_err(DirectoryError::Look)?;
    let there = stream.get_last_raw_message_by_subject(subjects::OWNERS).await;
    if there.is_ok_and(|there| there.payload == document) {
        return Ok(false);
    }
    let sent = context.publish(subjects::OWNERS, document.into()).await;
    sent.map_err(DirectoryError::Publish)?.await.map_err(DirectoryError::Publish)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(count: usize, prefix: usize) -> Directory {
        let owner = |at: usize| Owner {
            id: format!("P/gw-{at:05}"),
            prefixes: vec!["x".repeat(prefix)],
            asks: vec!["Q/*".to_owned(), "R/a".to_owned()],
        };
        Directory {
            v: 1,
            hub: "h".into(),
            gateways: (0..count).map(owner).collect(),
            ..Directory::default()
        }
    }

    #[test]
    fn a_document_that_is_too_large_goes_without_prefixes_and_says_so() {
        let whole = directory(3, 20);
        let read = Directory::read(&whole.clone().document().unwrap()).unwrap();
        assert_eq!(read, whole);
        let large = Directory::read(&directory(5_000, 400).document().unwrap()).unwrap();
        assert!(large.prefixes_left_out && large.gateways.len() == 5_000);
        assert!(large.gateways.iter().all(|owner| owner.prefixes.is_empty()));
        assert_eq!(directory(100_000, 1).document(), None);
    }
}
