//! The path of a tag in the unified namespace, such as `PlantA/Line3/Press1/temperature`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest path, in bytes. NATS accepts subjects of a few hundred bytes without trouble; an
/// escaped path can be three times as long, and a protocol line holds 4096 bytes by default.
pub const MAX_BYTES: usize = 512;

/// A checked path: one to many segments joined by `/`, none empty, no control character.
///
/// A clone shares the text: configuration, catalog, driver and status each name every tag, and at
/// 50,000 tags each copy of the texts would cost three megabytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagPath(Arc<str>);

/// Why a text is not a tag path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing, or nothing between two slashes.
    #[error("path {path:?} has an empty segment; write it like \"PlantA/Line3/temperature\"")]
    EmptySegment {
        /// The text that was given.
        path: String,
    },
    /// A tab, a line feed or the like.
    #[error("path {path:?} holds a control character; remove it")]
    Control {
        /// The text that was given.
        path: String,
    },
    /// Longer than [`MAX_BYTES`].
    #[error("path of {length} bytes is longer than {MAX_BYTES}; shorten it")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl TagPath {
    /// Checks a text.
    ///
    /// # Errors
    /// When a segment is empty, a control character stands in it, or it is too long.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        if path.len() > MAX_BYTES {
            return Err(PathError::TooLong { length: path.len() });
        }
        if path.split('/').any(str::is_empty) {
            return Err(PathError::EmptySegment { path });
        }
        if path.chars().any(char::is_control) {
            return Err(PathError::Control { path });
        }
        Ok(Self(path.into()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The segments between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for TagPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TagPath {
    type Error = PathError;
    fn try_from(path: String) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl From<TagPath> for String {
    fn from(path: TagPath) -> Self {
        path.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_an_empty_segment_is_refused() {
        for path in ["", "/a", "a/", "a//b"] {
            assert!(matches!(TagPath::new(path), Err(PathError::EmptySegment { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_path_with_a_line_feed_is_refused() {
        assert!(matches!(TagPath::new("a\nb"), Err(PathError::Control { .. })));
    }

    #[test]
    fn a_path_keeps_spaces_dots_and_umlauts() {
        assert_eq!(
            TagPath::new("Werk 1/Öl.Druck").map(|p| p.to_string()),
            Ok("Werk 1/Öl.Druck".into())
        );
    }
}
