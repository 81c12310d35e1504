//! What a new session needs before the first value can be asked for: namespaces, node ids, types,
//! and the tags below subtrees.
//!
//! # Invariants
//! - A tag that cannot be found fails by itself; only a session that breaks fails all.

use std::sync::Arc;

use opcua::types::{NodeId, StatusCode};
use tidegate_translator::{Reason, TagId};

use crate::book::TagBook;
use crate::convert::{Converter, Meaning, RawBodies, Types};
use crate::items::Wanted;
use crate::line::{Line, ServiceError};
use crate::namespaces::Namespaces;
use crate::node::NodeAddress;
use crate::spec::DeviceSpec;
use crate::status::Status;

/// Why a tag has no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The server's word for it, or the nearest there is.
    pub(crate) status: u32,
    pub(crate) reason: Reason,
    pub(crate) text: String,
}

impl Failure {
    /// The server refused the tag with this status.
    pub(crate) fn of(status: StatusCode) -> Self {
        let bits = status.bits();
        Self { status: bits, reason: Status(bits).reason(), text: Status(bits).to_string() }
    }

    /// The configuration of the tag does not fit the server.
    pub(crate) fn misfit(status: StatusCode, text: String) -> Self {
        Self { status: status.bits(), reason: Reason::Configuration, text }
    }
}

/// What is known of the wanted items in one session.
pub(crate) struct Prepared {
    /// Configured and found.
    pub(crate) wanted: Arc<[Wanted]>,
    /// Where each is.
    pub(crate) nodes: Vec<Result<NodeId, Failure>>,
    /// What the values of each are.
    pub(crate) meanings: Vec<Meaning>,
    pub(crate) converter: Converter,
}

/// The configured items.
pub(crate) fn configured(spec: &DeviceSpec, ids: &[TagId]) -> Arc<[Wanted]> {
    let wanted = |(tag, id): (&crate::spec::TagSpec, &TagId)| Wanted {
        tag: *id,
        path: tag.path.clone(),
        node: tag.node.clone(),
        item: Arc::clone(&tag.item),
    };
    spec.tags.iter().zip(ids).map(wanted).collect()
}

/// Prepares everything that is wanted.
pub(crate) async fn prepare(
    line: &Line,
    _spec: &DeviceSpec,
    configured: Arc<[Wanted]>,
    _book: &dyn TagBook,
) -> Result<Prepared, ServiceError> {
    line.encoding_context().write().loaders_mut().add_type_loader(RawBodies);
    let namespaces = Arc::new(Namespaces::new(line.namespaces().await?));
    let wanted = configured;
    let addresses: Vec<_> = wanted.iter().map(|wanted| &wanted.node).collect();
    let nodes = resolve(line, &namespaces, &addresses).await?;
    let meanings = vec![Meaning::default(); wanted.len()];
    let converter = Converter::new(namespaces, Arc::new(Types::known()));
    Ok(Prepared { wanted, nodes, meanings, converter })
}

/// Finds nodes in this session.
pub(crate) async fn resolve(
    _line: &Line,
    namespaces: &Namespaces,
    addresses: &[&NodeAddress],
) -> Result<Vec<Result<NodeId, Failure>>, ServiceError> {
    let one = |address: &&NodeAddress| match address {
        NodeAddress::Id(namespace, identifier) => namespaces
            .id(namespace, identifier)
            .map_err(|error| Failure::misfit(StatusCode::BadNodeIdUnknown, error.to_string())),
        NodeAddress::Path(_) => {
            let text = "browse paths are not resolved yet".to_owned();
            Err(Failure::misfit(StatusCode::BadNotSupported, text))
        }
    };
    Ok(addresses.iter().map(one).collect())
}
