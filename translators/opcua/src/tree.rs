//! What stands below an object.
//!
//! Properties (units, ranges, names of states) are what a variable is described by, not values of
//! their own: they are not taken. Variables below variables are.
//!
//! # Invariants
//! - A node is looked at once, however many references lead to it, so that no cycle is followed;
//!   its path is one of the shortest.
//! - A subtree is taken whole or not at all: with more variables than allowed none is taken, and
//!   the numbers are named.
//! - Each level is one round of requests; there are at most `max_depth` of them, over at most
//!   [`MAX_NODES`] nodes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use opcua::types::{
    AttributeId, DataValue, EUInformation, NodeClass, NodeClassMask, NodeId, ReferenceDescription,
    ReferenceTypeId, StatusCode, Variant,
};
use tidegate_translator::TagPath;

use crate::line::{ServiceError, attribute};
use crate::namespaces::Namespaces;
use crate::pattern::Pattern;
use crate::services::{Services, below};
use crate::spec::SubtreeSpec;
use crate::status::Status;

/// The most nodes that are looked at for one subtree: ten times what a large controller has.
const MAX_NODES: usize = 200_000;
/// How many nodes are asked for before what came is counted.
const AT_ONCE: usize = 200;
/// The most sentences about what was left out.
const MAX_NOTES: usize = 20;
/// The longest unit that is kept; longer ones are no units.
const MAX_UNIT: usize = 32;

/// A variable below an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: TagPath,
    pub(crate) id: NodeId,
    /// As a person would write it, good for every session.
    pub(crate) address: Arc<str>,
    pub(crate) unit: Option<Arc<str>>,
}

/// What a subtree holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Expansion {
    /// By path.
    pub(crate) found: Vec<Found>,
    /// What was left out and why, for a person; no more than a few.
    pub(crate) notes: Vec<String>,
}

/// Why a subtree is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TreeError {
    /// Nobody answers.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The object cannot be browsed.
    #[error("the server does not tell what is below {node}: {}", Status::from(*.status))]
    Refused {
        /// Its address.
        node: String,
        /// What the server says.
        status: StatusCode,
    },
    /// More variables than allowed.
    #[error(
        "there are more than {max} variables below {node}, {found} on the first {levels} levels; narrow include and exclude, or raise max-tags"
    )]
    TooMany {
        /// The address of the object.
        node: String,
        /// What is allowed.
        max: u32,
        /// How many there were when it was given up.
        found: usize,
        /// On how many levels.
        levels: u32,
    },
    /// More nodes than anybody wants to browse.
    #[error(
        "there are more than {MAX_NODES} nodes on the first {levels} levels below {node}; configure objects further down, or lower max-depth"
    )]
    TooWide {
        /// The address of the object.
        node: String,
        /// On how many levels.
        levels: u32,
    },
    /// A node whose references do not end.
    #[error("the server does not come to an end of the references of {node} after {taken}")]
    Endless {
        /// The address of the node.
        node: String,
        /// How many were taken.
        taken: usize,
    },
    /// A pattern is none.
    #[error("{0}")]
    Pattern(#[from] crate::pattern::PatternError),
}

/// A node that is looked at next, and the names that lead to it.
struct Next {
    id: NodeId,
    names: Arc<[Box<str>]>,
}

/// A variable as it was found.
struct Variable {
    id: NodeId,
    unit_at: Option<NodeId>,
}

struct Expanding<'a> {
    namespaces: &'a Namespaces,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    spec: &'a SubtreeSpec,
    seen: HashSet<NodeId>,
    /// By path.
    variables: BTreeMap<TagPath, Variable>,
    by_id: HashMap<NodeId, TagPath>,
    notes: Vec<String>,
    left_out: usize,
}

/// Finds the variables below an object.
///
/// # Errors
/// When there are too many, or the server does not tell.
pub(crate) async fn expand(
    services: &impl Services,
    namespaces: &Namespaces,
    spec: &SubtreeSpec,
    object: &NodeId,
) -> Result<Expansion, TreeError> {
    let patterns = |texts: &[Box<str>]| {
        texts.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()
    };
    let mut expanding = Expanding {
        namespaces,
        include: patterns(&spec.include)?,
        exclude: patterns(&spec.exclude)?,
        spec,
        seen: HashSet::from([object.clone()]),
        variables: BTreeMap::new(),
        by_id: HashMap::new(),
        notes: Vec::new(),
        left_out: 0,
    };
    let mut level = vec![Next { id: object.clone(), names: [].into() }];
    for depth in 0..spec.max_depth {
        if level.is_empty() {
            break;
        }
        let mut deeper = Vec::new();
        for some in level.chunks(AT_ONCE) {
            expanding.look_into(services, some, &mut deeper).await?;
            expanding.check(object, depth + 1)?;
        }
        level = deeper;
    }
    // What stands on the last level has units, too, which only another round tells.
    expanding.last_units(services, &level).await?;
    if !level.is_empty() && level.iter().any(|next| !expanding.by_id.contains_key(&next.id)) {
        let (count, depth) = (level.len(), spec.max_depth);
        expanding.note(format!(
            "{count} nodes on level {depth} were not looked into; raise max-depth for what is below them"
        ));
    }
    expanding.finish(services).await
}

impl Expanding<'_> {
    fn refused(&self, id: &NodeId, status: StatusCode) -> TreeError {
        TreeError::Refused { node: self.namespaces.address(id).to_string(), status }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES { self.notes.push(note) } else { self.left_out += 1 }
    }

    /// Takes what is below some nodes of one level.
    async fn look_into(
        &mut self,
        services: &impl Services,
        level: &[Next],
        deeper: &mut Vec<Next>,
    ) -> Result<(), TreeError> {
        let classes = NodeClassMask::OBJECT | NodeClassMask::VARIABLE;
        let asked = level.iter().map(|next| below(next.id.clone(), classes)).collect();
        for (next, answer) in level.iter().zip(services.browse(asked).await?) {
            let references = answer.references.unwrap_or_default();
            match answer.status_code {
                StatusCode::BadTooManyMatches => {
                    let node = self.namespaces.address(&next.id).to_string();
                    return Err(TreeError::Endless { node, taken: references.len() });
                }
                status if status.is_bad() && next.names.is_empty() => {
                    return Err(self.refused(&next.id, status));
                }
                status if status.is_bad() => {
                    let why = self.refused(&next.id, status).to_string();
                    self.note(why);
                }
                _ => {}
            }
            self.take(next, &references, deeper);
        }
        Ok(())
    }

    /// Takes what is below one node.
    fn take(&mut self, parent: &Next, references: &[ReferenceDescription], deeper: &mut Vec<Next>) {
        for reference in references {
            let Some(id) = self.namespaces.local(&reference.node_id) else { continue };
            if is(reference, ReferenceTypeId::HasProperty) {
                self.property(&parent.id, reference, id);
                continue;
            }
            if is(reference, ReferenceTypeId::HasEventSource)
                || is(reference, ReferenceTypeId::HasNotifier)
                || is(reference, ReferenceTypeId::HasSubtype)
                || !self.seen.insert(id.clone())
            {
                continue;
            }
            let Some(name) = segment(reference.browse_name.name.as_ref()) else {
                let address = self.namespaces.address(&id);
                self.note(format!("{address} has no browse name and is left out"));
                continue;
            };
            let names: Arc<[Box<str>]> =
                parent.names.iter().cloned().chain([name.into_boxed_str()]).collect();
            if reference.node_class == NodeClass::Variable && self.is_wanted(&names) {
                self.variable(&names, &id);
            }
            deeper.push(Next { id, names });
        }
    }

    fn is_wanted(&self, names: &[Box<str>]) -> bool {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(names));
        (self.include.is_empty() || fits(&self.include)) && !fits(&self.exclude)
    }

    fn variable(&mut self, names: &[Box<str>], id: &NodeId) {
        let address = self.namespaces.address(id);
        let path = format!("{}/{}", self.spec.path, names.join("/"));
        let path = match TagPath::new(path) {
            Ok(path) => path,
            Err(why) => return self.note(format!("{address} is left out: {why}")),
        };
        if let Some(other) = self.variables.get(&path) {
            let (other_id, other) = (other.id.clone(), self.namespaces.address(&other.id));
            // Not the first that came: servers tell references in any order.
            let is_first = address.to_string() < other.to_string();
            let (kept, left) = if is_first { (&address, &other) } else { (&other, &address) };
            let path = path.as_str();
            self.note(format!(
                "{kept} and {left} would both be {path:?}; the second is left out, give it a tag of its own"
            ));
            if !is_first {
                return;
            }
            self.by_id.remove(&other_id);
        }
        self.by_id.insert(id.clone(), path.clone());
        self.variables.insert(path, Variable { id: id.clone(), unit_at: None });
    }

    fn property(&mut self, of: &NodeId, reference: &ReferenceDescription, id: NodeId) {
        let name = &reference.browse_name;
        if name.namespace_index != 0 || name.name.as_ref() != "EngineeringUnits" {
            return;
        }
        let variable = self.by_id.get(of).and_then(|path| self.variables.get_mut(path));
        if let Some(variable) = variable {
            variable.unit_at = Some(id);
        }
    }

    fn check(&self, object: &NodeId, levels: u32) -> Result<(), TreeError> {
        let (found, max) = (self.variables.len(), self.spec.max_tags);
        if u32::try_from(found).map_or(true, |found| found > max) {
            let node = self.namespaces.address(object).to_string();
            return Err(TreeError::TooMany { node, max, found, levels });
        }
        if self.seen.len() > MAX_NODES {
            let node = self.namespaces.address(object).to_string();
            return Err(TreeError::TooWide { node, levels });
        }
        Ok(())
    }

    async fn last_units(
        &mut self,
        services: &impl Services,
        level: &[Next],
    ) -> Result<(), ServiceError> {
        let last: Vec<&NodeId> =
            level.iter().map(|next| &next.id).filter(|id| self.by_id.contains_key(id)).collect();
        if last.is_empty() {
            return Ok(());
        }
        let asked = last.iter().map(|id| below((*id).clone(), NodeClassMask::VARIABLE)).collect();
        for (id, answer) in last.iter().zip(services.browse(asked).await?) {
            for reference in answer.references.unwrap_or_default() {
                if is(&reference, ReferenceTypeId::HasProperty)
                    && let Some(property) = self.namespaces.local(&reference.node_id)
                {
                    self.property(id, &reference, property);
                }
            }
        }
        Ok(())
    }

    /// Reads the units, and puts everything together.
    async fn finish(mut self, services: &impl Services) -> Result<Expansion, TreeError> {
        let with_unit = self.variables.values().filter_map(|variable| variable.unit_at.clone());
        let nodes: Vec<NodeId> = with_unit.collect();
        let mut units: HashMap<NodeId, Arc<str>> = HashMap::new();
        if !nodes.is_empty() {
            let asked = nodes.iter().map(|id| attribute(id.clone(), AttributeId::Value)).collect();
            let values = services.read(asked).await?;
            units = nodes
                .into_iter()
                .zip(values.into_iter().map(unit))
                .filter_map(|(id, unit)| Some((id, unit?)))
                .collect();
        }
        if self.left_out > 0 {
            self.notes.push(format!("{} more were left out", self.left_out));
        }
        let found = self.variables.into_iter().map(|(path, variable)| Found {
            path,
            address: self.namespaces.address(&variable.id).to_string().into(),
            unit: variable.unit_at.and_then(|id| units.get(&id).cloned()),
            id: variable.id,
        });
        Ok(Expansion { found: found.collect(), notes: self.notes })
    }
}

pub(crate) fn is(reference: &ReferenceDescription, of: ReferenceTypeId) -> bool {
    reference.reference_type_id == of
}

/// A browse name as one segment of a path; `None` when it is empty. A slash and what cannot be
/// printed become `%` and their number.
pub(crate) fn segment(name: &str) -> Option<String> {
    let mut segment = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '/' || c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(segment, "%{:02X}", u32::from(c));
        } else {
            segment.push(c);
        }
    }
    Some(segment).filter(|segment| !segment.is_empty())
}

/// The unit that the value of an EngineeringUnits property names.
pub(crate) fn unit(value: DataValue) -> Option<Arc<str>> {
    let Some(Variant::ExtensionObject(object)) = value.value else { return None };
    let unit = object.into_inner_as::<EUInformation>()?;
    let text = unit.display_name.text.as_ref().trim();
    let is_one = !text.is_empty() && text.len() <= MAX_UNIT && !text.chars().any(char::is_control);
    is_one.then(|| text.into())
}

#[cfg(test)]
mod tests;
