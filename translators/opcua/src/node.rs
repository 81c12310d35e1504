//! Addresses of nodes as a person writes them, independent of any session.
//!
//! ```text
//! nsu=urn:press;s=Axis1.Position     by namespace URI; also i=, g=, b= (Base64)
//! ns=2;i=1017                        by namespace index: taken, with a warning
//! i=2258                             in the OPC UA namespace itself
//! /Objects/Press 1/{urn:press}Axis   by browse path from the root; `{uri}` or `2:` where the
//!                                    name alone is ambiguous; `&` escapes `/ & : { }`
//! ```
//!
//! In a namespace URI `%3B` stands for `;` and `%25` for `%`, as OPC UA Part 6, 5.1.12 has it; any
//! other percent sign is itself.
//!
//! # Invariants
//! - What is printed reads back as the same address.
//! - A namespace index is never resolved here: it is of one session. Only the OPC UA namespace has
//!   the same index everywhere, 0, and what is read never has it by URI.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use opcua::types::{ByteString, Guid};

mod path;

/// The namespace of the specification, index 0 at every server.
pub(crate) const UA: &str = "http://opcfoundation.org/UA/";

/// Where a server has a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddress {
    /// By its node id.
    Id(Namespace, Identifier),
    /// By browse names from the root folder.
    Path(Arc<[Step]>),
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// By index, which may change whenever the server starts.
    Index(u16),
    /// By URI.
    Uri(Arc<str>),
}

/// A node within its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// `i=`
    Number(u32),
    /// `s=`
    Text(Arc<str>),
    /// `g=`, in the order in which the digits are written.
    Guid([u8; 16]),
    /// `b=`
    Bytes(Arc<[u8]>),
}

/// One browse name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Its namespace; any when `None`, as long as one child has the name.
    pub namespace: Option<Namespace>,
    /// The name.
    pub name: Arc<str>,
}

/// Why a text is no node address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It begins like none of them.
    #[error(
        "{text:?} is no node address; write it like \"nsu=urn:press;s=Axis1.Position\" or \"/Objects/Press 1/Axis\""
    )]
    Form {
        /// The text that was given.
        text: String,
    },
    /// The namespace index is none.
    #[error(
        "{index:?} in {text:?} is no namespace index from 0 to 65535; better name the namespace, like \"nsu=urn:press;s=Axis1\""
    )]
    Index {
        /// The text that was given.
        text: String,
        /// What stands where the index should be.
        index: String,
    },
    /// There is nothing between `nsu=` and the next semicolon, or between two braces.
    #[error("the namespace URI in {text:?} is empty; write it like \"nsu=urn:press;s=Axis1\"")]
    EmptyUri {
        /// The text that was given.
        text: String,
    },
    /// The namespace is not followed by `;` and an identifier.
    #[error(
        "{text:?} names a namespace and no node in it; go on with \";s=\" and a name, or \";i=\", \";g=\" or \";b=\""
    )]
    NoIdentifier {
        /// The text that was given.
        text: String,
    },
    /// It names a node of another server.
    #[error(
        "{text:?} names a node of another server by \"svr=\"; leave that out and configure the other server as a device"
    )]
    OtherServer {
        /// The text that was given.
        text: String,
    },
    /// `i=` is not followed by a number.
    #[error("{identifier:?} in {text:?} is no number from 0 to 4294967295; names go behind \"s=\"")]
    Number {
        /// The text that was given.
        text: String,
        /// What stands behind `i=`.
        identifier: String,
    },
    /// `g=` is not followed by a GUID.
    #[error(
        "{identifier:?} in {text:?} is no GUID; write it like \"g=09087e75-8e5e-499b-954f-f2a9603db28a\""
    )]
    Guid {
        /// The text that was given.
        text: String,
        /// What stands behind `g=`.
        identifier: String,
    },
    /// `b=` is not followed by Base64.
    #[error(
        "{identifier:?} in {text:?} is no Base64; write it like \"b=M/RbKBsRVkePCePcx24oRA==\""
    )]
    Base64 {
        /// The text that was given.
        text: String,
        /// What stands behind `b=`.
        identifier: String,
    },
    /// `s=` or `b=` is followed by nothing.
    #[error("the identifier in {text:?} is empty; write it like \"nsu=urn:press;s=Axis1\"")]
    EmptyIdentifier {
        /// The text that was given.
        text: String,
    },
    /// There is nothing between two slashes.
    #[error(
        "browse name {number} in {text:?} is empty; write the path like \"/Objects/Press 1/Axis\", and \"&/\" for a slash within a name"
    )]
    EmptyStep {
        /// The text that was given.
        text: String,
        /// Which browse name, counted from 1.
        number: usize,
    },
    /// `&` stands before something that needs no escape.
    #[error("the \"&\" in browse name {number} of {text:?} escapes nothing; write \"&&\" for it")]
    Escape {
        /// The text that was given.
        text: String,
        /// Which browse name, counted from 1.
        number: usize,
    },
    /// `{` without `}`.
    #[error(
        "the namespace URI in browse name {number} of {text:?} has no end; write it like \"{{urn:press}}Axis\", and \"&{{\" for a brace within a name"
    )]
    OpenBrace {
        /// The text that was given.
        text: String,
        /// Which browse name, counted from 1.
        number: usize,
    },
}

impl NodeAddress {
    /// Reads an address in one of the forms above.
    ///
    /// # Errors
    /// When it is none; the message says what is wrong where and how it is written.
    pub fn parse(text: &str) -> Result<Self, NodeError> {
        if text.starts_with('/') {
            return path::parse(text).map(Self::Path);
        }
        let whole = || text.to_owned();
        let (namespace, identifier) = if let Some(rest) = text.strip_prefix("nsu=") {
            let (uri, identifier) =
                rest.split_once(';').ok_or_else(|| NodeError::NoIdentifier { text: whole() })?;
            if uri.is_empty() {
                return Err(NodeError::EmptyUri { text: whole() });
            }
            let uri = uri.replace("%3B", ";").replace("%3b", ";").replace("%25", "%");
            (Namespace::from_uri(&uri), identifier)
        } else if let Some(rest) = text.strip_prefix("ns=") {
            let (index, identifier) =
                rest.split_once(';').ok_or_else(|| NodeError::NoIdentifier { text: whole() })?;
            let index = decimal(index)
                .ok_or_else(|| NodeError::Index { text: whole(), index: index.to_owned() })?;
            (Namespace::Index(index), identifier)
        } else if text.starts_with("svr=") {
            return Err(NodeError::OtherServer { text: whole() });
        } else {
            (Namespace::Index(0), text)
        };
        match Identifier::parse(text, identifier)? {
            Some(identifier) => Ok(Self::Id(namespace, identifier)),
            None if identifier.len() == text.len() => Err(NodeError::Form { text: whole() }),
            None => Err(NodeError::NoIdentifier { text: whole() }),
        }
    }

    /// Whether it counts on a namespace index that the server may change whenever it starts.
    #[must_use]
    pub fn is_by_index(&self) -> bool {
        match self {
            Self::Id(namespace, _) => namespace.may_move(),
            Self::Path(steps) => {
                steps.iter().any(|step| step.namespace.as_ref().is_some_and(Namespace::may_move))
            }
        }
    }
}

impl Namespace {
    /// The namespace with this URI.
    #[must_use]
    pub fn from_uri(uri: &str) -> Self {
        if uri == UA { Self::Index(0) } else { Self::Uri(uri.into()) }
    }

    /// Whether another namespace may stand there after the server's next start.
    const fn may_move(&self) -> bool {
        matches!(self, Self::Index(1..))
    }
}

impl Identifier {
    /// Reads `i=…`, `s=…`, `g=…` or `b=…`; `None` when it begins like none of them. `whole` is the
    /// address that it is part of, for messages.
    fn parse(whole: &str, text: &str) -> Result<Option<Self>, NodeError> {
        let whole = || whole.to_owned();
        let Some((kind, text)) = text.split_once('=') else { return Ok(None) };
        let identifier = || text.to_owned();
        let parsed = match kind {
            "i" => Self::Number(
                decimal(text)
                    .ok_or_else(|| NodeError::Number { text: whole(), identifier: identifier() })?,
            ),
            "g" => Self::Guid(
                guid(text)
                    .ok_or_else(|| NodeError::Guid { text: whole(), identifier: identifier() })?,
            ),
            "s" | "b" if text.is_empty() => {
                return Err(NodeError::EmptyIdentifier { text: whole() });
            }
            "s" => Self::Text(text.into()),
            "b" => Self::Bytes(
                ByteString::from_base64(text)
                    .and_then(|bytes| bytes.value)
                    .ok_or_else(|| NodeError::Base64 { text: whole(), identifier: identifier() })?
                    .into(),
            ),
            _ => return Ok(None),
        };
        Ok(Some(parsed))
    }
}

/// A whole number in digits alone: `FromStr` would also take a plus sign.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A GUID in its hyphened form, and no other.
fn guid(text: &str) -> Option<[u8; 16]> {
    let guid = Guid::from_str(text).ok().filter(|_| text.len() == 36)?;
    Some(turned(guid.to_bytes()))
}

/// From the order in which a GUID's digits are written to that in which its bytes travel, and back:
/// the first three groups are little-endian there (Part 6, 5.2.2.6).
pub(crate) const fn turned(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

impl FromStr for NodeAddress {
    type Err = NodeError;
    fn from_str(text: &str) -> Result<Self, NodeError> {
        Self::parse(text)
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(Namespace::Index(0), identifier) => identifier.fmt(f),
            Self::Id(Namespace::Index(index), identifier) => write!(f, "ns={index};{identifier}"),
            Self::Id(Namespace::Uri(uri), identifier) => {
                let uri = uri.replace('%', "%25").replace(';', "%3B");
                write!(f, "nsu={uri};{identifier}")
            }
            Self::Path(steps) => steps.iter().try_for_each(|step| write!(f, "/{step}")),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "i={number}"),
            Self::Text(text) => write!(f, "s={text}"),
            Self::Guid(bytes) => write!(f, "g={}", Guid::from_bytes(turned(*bytes))),
            Self::Bytes(bytes) => write!(f, "b={}", ByteString::from(bytes.to_vec()).as_base64()),
        }
    }
}

#[cfg(test)]
mod tests;
