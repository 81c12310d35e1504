//! Addresses of nodes as a person writes them, independent of any session.
//!
//! ```text
//! nsu=urn:press;s=Axis1.Position     by namespace URI; also i=, g=, b= (Base64)
//! ns=2;i=1017                        by namespace index: taken, with a warning
//! i=2258                             in the OPC UA namespace itself
//! /Objects/Press 1/{urn:press}Axis   by browse path from the root; `{uri}` or `2:` where the
//!                                    name alone is ambiguous; `&` escapes `/ & : {`
//! ```
//!
//! # Invariants
//! - What is printed reads back as the same address.
//! - A namespace index is never resolved here: it is of one session.

use std::sync::Arc;

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
}
