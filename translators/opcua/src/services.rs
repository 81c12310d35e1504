//! What is asked of a server to find nodes and their types, so that tests can answer instead.

use std::future::Future;

use opcua::types::{
    BrowseDescription, BrowseDirection, BrowseResult, BrowseResultMask, DataValue, NodeClassMask,
    NodeId, ReadValueId, ReferenceTypeId, TimestampsToReturn,
};

use crate::line::{Line, ServiceError};

#[cfg(test)]
pub(crate) mod fake;

/// Reading and browsing.
pub(crate) trait Services: Sync {
    /// One result per node and attribute, in order.
    fn read(
        &self,
        nodes: Vec<ReadValueId>,
    ) -> impl Future<Output = Result<Vec<DataValue>, ServiceError>> + Send;

    /// One result per node, in order, with all of its references. A node with too many has the
    /// status `BadTooManyMatches`.
    fn browse(
        &self,
        nodes: Vec<BrowseDescription>,
    ) -> impl Future<Output = Result<Vec<BrowseResult>, ServiceError>> + Send;
}

impl Services for Line {
    async fn read(&self, nodes: Vec<ReadValueId>) -> Result<Vec<DataValue>, ServiceError> {
        Self::read(self, nodes, TimestampsToReturn::Neither).await
    }

    async fn browse(
        &self,
        nodes: Vec<BrowseDescription>,
    ) -> Result<Vec<BrowseResult>, ServiceError> {
        Self::browse(self, nodes).await
    }
}

/// Asks for the references of a type, or of its subtypes, to or from a node.
pub(crate) fn references(
    node: NodeId,
    of: ReferenceTypeId,
    direction: BrowseDirection,
    classes: NodeClassMask,
) -> BrowseDescription {
    BrowseDescription {
        node_id: node,
        browse_direction: direction,
        reference_type_id: of.into(),
        include_subtypes: true,
        node_class_mask: classes.bits(),
        result_mask: BrowseResultMask::All as u32,
    }
}

/// Asks for everything below a node.
pub(crate) fn below(node: NodeId, classes: NodeClassMask) -> BrowseDescription {
    let of = ReferenceTypeId::HierarchicalReferences;
    references(node, of, BrowseDirection::Forward, classes)
}
