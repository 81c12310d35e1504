//! A server in memory: nodes with attributes and references, and a count of what was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use opcua::types::{
    AttributeId, BrowseDescription, BrowseDirection, BrowseResult, DataValue, ExpandedNodeId,
    LocalizedText, NodeClass, NodeId, QualifiedName, ReadValueId, ReferenceDescription,
    ReferenceTypeId, StatusCode, Variant,
};

use super::Services;
use crate::line::ServiceError;

#[derive(Default)]
pub(crate) struct Fake {
    attributes: HashMap<(NodeId, u32), Variant>,
    references: HashMap<NodeId, Vec<(bool, ReferenceDescription)>>,
    /// What a node answers to a browse instead of good.
    pub(crate) refused: HashMap<NodeId, StatusCode>,
    pub(crate) browses: AtomicUsize,
    pub(crate) reads: AtomicUsize,
}

impl Fake {
    pub(crate) fn set(&mut self, node: &NodeId, of: AttributeId, value: impl Into<Variant>) {
        self.attributes.insert((node.clone(), of as u32), value.into());
    }

    /// Puts a node below another one, by a reference of this type.
    pub(crate) fn put(
        &mut self,
        parent: &NodeId,
        of: ReferenceTypeId,
        node: &NodeId,
        (namespace, name): (u16, &str),
        class: NodeClass,
    ) {
        let reference = |to: &NodeId, forward, class| ReferenceDescription {
            reference_type_id: of.into(),
            is_forward: forward,
            node_id: ExpandedNodeId::new(to.clone()),
            browse_name: QualifiedName::new(namespace, name),
            display_name: LocalizedText::from(name),
            node_class: class,
            type_definition: ExpandedNodeId::null(),
        };
        let forward = (true, reference(node, true, class));
        self.references.entry(parent.clone()).or_default().push(forward);
        let above = if of == ReferenceTypeId::HasEncoding { NodeClass::DataType } else { class };
        let back = (false, reference(parent, false, above));
        self.references.entry(node.clone()).or_default().push(back);
    }
}

/// The types of reference that a fake server knows to be hierarchical.
const HIERARCHICAL: [ReferenceTypeId; 4] = [
    ReferenceTypeId::Organizes,
    ReferenceTypeId::HasComponent,
    ReferenceTypeId::HasProperty,
    ReferenceTypeId::HasNotifier,
];

impl Services for Fake {
    async fn read(&self, nodes: Vec<ReadValueId>) -> Result<Vec<DataValue>, ServiceError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let answer = |asked: ReadValueId| match self
            .attributes
            .get(&(asked.node_id.clone(), asked.attribute_id))
        {
            Some(value) => DataValue { value: Some(value.clone()), ..DataValue::null() },
            None => {
                let is_there = self.attributes.keys().any(|(node, _)| *node == asked.node_id);
                let status = if is_there {
                    StatusCode::BadAttributeIdInvalid
                } else {
                    StatusCode::BadNodeIdUnknown
                };
                DataValue { status: Some(status), ..DataValue::null() }
            }
        };
        Ok(nodes.into_iter().map(answer).collect())
    }

    async fn browse(
        &self,
        nodes: Vec<BrowseDescription>,
    ) -> Result<Vec<BrowseResult>, ServiceError> {
        self.browses.fetch_add(1, Ordering::Relaxed);
        let answer = |asked: BrowseDescription| {
            let forward = asked.browse_direction == BrowseDirection::Forward;
            let wanted = |reference: &ReferenceDescription| {
                if asked.reference_type_id == ReferenceTypeId::HierarchicalReferences {
                    HIERARCHICAL.iter().any(|of| reference.reference_type_id == *of)
                } else {
                    reference.reference_type_id == asked.reference_type_id
                }
            };
            let of_class = |reference: &ReferenceDescription| {
                asked.node_class_mask == 0
                    || asked.node_class_mask & reference.node_class as u32 != 0
            };
            let all = self.references.get(&asked.node_id).into_iter().flatten();
            let references = all
                .filter(|(is_forward, reference)| {
                    *is_forward == forward && wanted(reference) && of_class(reference)
                })
                .map(|(_, reference)| reference.clone());
            BrowseResult {
                status_code: self.refused.get(&asked.node_id).copied().unwrap_or_default(),
                references: Some(references.collect()),
                ..Default::default()
            }
        };
        Ok(nodes.into_iter().map(answer).collect())
    }
}
