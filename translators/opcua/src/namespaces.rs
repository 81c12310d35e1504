//! The namespaces of one session: which index stands for which URI.
//!
//! # Invariants
//! - It is thrown away with the session: an index means nothing in the next one.
//! - What is not among them stays by index, and is never guessed.

use std::collections::HashMap;
use std::sync::Arc;

use opcua::types::{ByteString, ExpandedNodeId, Guid, NodeId, QualifiedName, UAString};

use crate::node::{Identifier, Namespace, NodeAddress, UA, turned};

/// A server's namespace array.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Namespaces {
    uris: Vec<Arc<str>>,
    by_uri: HashMap<Arc<str>, u16>,
}

/// A namespace that the server does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server has no namespace {uri:?}; it has {has}")]
pub(crate) struct NoNamespace {
    /// The URI that was looked for.
    pub(crate) uri: Arc<str>,
    /// Those that it has, for a person, as far as they are not too many.
    pub(crate) has: String,
}

impl Namespaces {
    /// From the namespace array, in order. Index 0 is the specification's own, whatever stands
    /// there; of a URI that stands there twice the first counts.
    pub(crate) fn new(array: impl IntoIterator<Item = String>) -> Self {
        let mut array: Vec<Arc<str>> =
            array.into_iter().take(usize::from(u16::MAX) + 1).map(Arc::from).collect();
        match array.first_mut() {
            Some(first) => *first = UA.into(),
            None => array.push(UA.into()),
        }
        let mut by_uri = HashMap::with_capacity(array.len());
        for (index, uri) in (0..=u16::MAX).zip(&array) {
            by_uri.entry(Arc::clone(uri)).or_insert(index);
        }
        Self { uris: array, by_uri }
    }

    /// The index of a namespace.
    pub(crate) fn index(&self, namespace: &Namespace) -> Result<u16, NoNamespace> {
        match namespace {
            Namespace::Index(index) => Ok(*index),
            Namespace::Uri(uri) => self
                .by_uri
                .get(uri)
                .copied()
                .ok_or_else(|| NoNamespace { uri: Arc::clone(uri), has: self.told() }),
        }
    }

    /// The node's id in this session.
    pub(crate) fn id(
        &self,
        namespace: &Namespace,
        identifier: &Identifier,
    ) -> Result<NodeId, NoNamespace> {
        let index = self.index(namespace)?;
        Ok(match identifier {
            Identifier::Number(number) => NodeId::new(index, *number),
            Identifier::Text(text) => NodeId::new(index, UAString::from(&**text)),
            Identifier::Guid(guid) => NodeId::new(index, Guid::from_bytes(turned(*guid))),
            Identifier::Bytes(bytes) => NodeId::new(index, ByteString::from(bytes.to_vec())),
        })
    }

    /// The namespace with this index, by its URI as far as it has one.
    pub(crate) fn namespace(&self, index: u16) -> Namespace {
        match self.uris.get(usize::from(index)).filter(|uri| !uri.is_empty()) {
            // A URI that stands there twice would lead to the first of them.
            Some(uri) if self.by_uri.get(uri) == Some(&index) => Namespace::from_uri(uri),
            _ => Namespace::Index(index),
        }
    }

    /// The address of a node, good for every session.
    pub(crate) fn address(&self, id: &NodeId) -> NodeAddress {
        NodeAddress::Id(self.namespace(id.namespace), identifier(id))
    }

    /// The address of a node, which is only another server's when the text begins with `svr=`.
    pub(crate) fn expanded(&self, id: &ExpandedNodeId) -> String {
        let namespace = match id.namespace_uri.value() {
            Some(uri) if !uri.is_empty() => Namespace::from_uri(uri),
            _ => self.namespace(id.node_id.namespace),
        };
        let address = NodeAddress::Id(namespace, identifier(&id.node_id));
        match id.server_index {
            0 => address.to_string(),
            server => format!("svr={server};{address}"),
        }
    }

    /// The id of a node of this server; `None` for another server's, or in an unknown namespace.
    pub(crate) fn local(&self, id: &ExpandedNodeId) -> Option<NodeId> {
        if id.server_index != 0 {
            return None;
        }
        match id.namespace_uri.value() {
            Some(uri) if !uri.is_empty() => {
                let index = self.by_uri.get(uri.as_str())?;
                Some(NodeId { namespace: *index, identifier: id.node_id.identifier.clone() })
            }
            _ => Some(id.node_id.clone()),
        }
    }

    /// A name as Part 6, 5.1.13 writes it: `nsu=urn:press;Axis`, without the specification's own
    /// namespace.
    pub(crate) fn name(&self, name: &QualifiedName) -> String {
        let text = name.name.as_ref();
        match self.namespace(name.namespace_index) {
            Namespace::Index(0) => text.to_owned(),
            Namespace::Index(index) => format!("{index}:{text}"),
            Namespace::Uri(uri) => {
                let uri = uri.replace('%', "%25").replace(';', "%3B");
                format!("nsu={uri};{text}")
            }
        }
    }

    /// Those that a person may have meant: the specification's own left out, eight at most.
    fn told(&self) -> String {
        const AT_MOST: usize = 8;
        let own: Vec<_> = self.uris.iter().skip(1).collect();
        let shown: Vec<_> = own.iter().take(AT_MOST).map(|uri| format!("{uri:?}")).collect();
        match own.len() {
            0 => "none of its own".to_owned(),
            count if count > AT_MOST => {
                format!("{} and {} more", shown.join(", "), count - AT_MOST)
            }
            _ => shown.join(", "),
        }
    }
}

/// An identifier as a person would write it.
fn identifier(id: &NodeId) -> Identifier {
    match &id.identifier {
        opcua::types::Identifier::Numeric(number) => Identifier::Number(*number),
        opcua::types::Identifier::String(text) => Identifier::Text(text.as_ref().into()),
        opcua::types::Identifier::Guid(guid) => Identifier::Guid(turned(guid.to_bytes())),
        opcua::types::Identifier::ByteString(bytes) => {
            Identifier::Bytes(bytes.value.as_deref().unwrap_or_default().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces() -> Namespaces {
        Namespaces::new([UA, "urn:server", "urn:press", "urn:press", ""].map(str::to_owned))
    }

    #[test]
    fn an_address_by_uri_has_the_index_of_this_session() {
        let namespaces = namespaces();
        for address in [
            "i=85",
            "nsu=urn:press;s=Axis 1",
            "nsu=urn:server;i=7",
            "nsu=urn:press;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            "nsu=urn:press;b=AP8=",
            "ns=3;i=1",
            "ns=4;i=1",
            "ns=9;i=1",
        ] {
            let parsed = NodeAddress::parse(address).unwrap();
            let NodeAddress::Id(namespace, identifier) = &parsed else { panic!() };
            let id = namespaces.id(namespace, identifier).unwrap();
            assert_eq!(namespaces.address(&id).to_string(), address);
        }
        let press = namespaces.index(&Namespace::Uri("urn:press".into()));
        assert_eq!(press, Ok(2), "the first of two equal ones");
    }

    #[test]
    fn a_missing_namespace_is_named_beside_those_that_are_there() {
        let missing = namespaces().index(&Namespace::Uri("urn:pres".into())).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the server has no namespace \"urn:pres\"; it has \"urn:server\", \"urn:press\", \"urn:press\", \"\""
        );
        let many = Namespaces::new((0..20).map(|n| format!("urn:{n}")));
        assert!(many.told().ends_with("and 11 more"), "{}", many.told());
    }

    #[test]
    fn a_node_of_another_server_is_none_of_this_one() {
        let namespaces = namespaces();
        let mut id = ExpandedNodeId::new(NodeId::new(0, 7u32));
        id.namespace_uri = "urn:press".into();
        assert_eq!(namespaces.local(&id), Some(NodeId::new(2, 7u32)));
        assert_eq!(namespaces.expanded(&id), "nsu=urn:press;i=7");
        id.server_index = 1;
        assert_eq!(namespaces.local(&id), None);
        assert_eq!(namespaces.expanded(&id), "svr=1;nsu=urn:press;i=7");
        id.server_index = 0;
        id.namespace_uri = "urn:other".into();
        assert_eq!(namespaces.local(&id), None);
    }

    #[test]
    fn a_guid_is_the_one_whose_digits_were_written() {
        let text = "09087e75-8e5e-499b-954f-f2a9603db28a";
        let NodeAddress::Id(namespace, identifier) =
            NodeAddress::parse(&format!("g={text}")).unwrap()
        else {
            panic!()
        };
        let id = Namespaces::new([]).id(&namespace, &identifier).unwrap();
        assert_eq!(id.identifier, opcua::types::Identifier::Guid(text.parse().unwrap()));
    }
}
