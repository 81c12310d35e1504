//! From addresses to the node ids of one session.
//!
//! # Invariants
//! - A name that leads to two nodes is refused with both named, never guessed.
//! - The beginning that paths share is browsed once, and all paths advance together: there are as
//!   many rounds as the longest path has names.

use std::collections::{BTreeSet, HashMap, HashSet};

use opcua::types::{BrowseResult, NodeClassMask, NodeId, ObjectId, StatusCode};

use crate::line::ServiceError;
use crate::namespaces::{Namespaces, NoNamespace};
use crate::node::{Namespace, NodeAddress, Step};
use crate::services::{Services, below};
use crate::status::Status;

/// Why an address leads to no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// Its namespace is none of the server's.
    #[error(transparent)]
    Namespace(#[from] NoNamespace),
    /// A name of the path is not there.
    #[error("there is no {name:?} below {parent:?}; {near}")]
    Missing {
        /// The browse name, as it was written.
        name: String,
        /// The path before it.
        parent: String,
        /// What is there instead.
        near: String,
    },
    /// A name of the path is there twice.
    #[error("{name:?} below {parent:?} is the name of several nodes; write one of {candidates}")]
    Ambiguous {
        /// The browse name, as it was written.
        name: String,
        /// The path before it.
        parent: String,
        /// What tells them apart.
        candidates: String,
    },
    /// The server does not tell what is below a node.
    #[error("the server does not tell what is below {parent:?}: {}", Status::from(*.status))]
    Refused {
        /// The path.
        parent: String,
        /// What it says.
        status: StatusCode,
    },
}

impl ResolveError {
    /// The status code that stands for it in a sample.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Namespace(_) => StatusCode::BadNodeIdUnknown,
            Self::Missing { .. } => StatusCode::BadNoMatch,
            Self::Ambiguous { .. } => StatusCode::BadTooManyMatches,
            Self::Refused { status, .. } => *status,
        }
    }
}

type Resolved = Result<NodeId, ResolveError>;

/// The node of each address, in order.
///
/// # Errors
/// When the server does not answer.
pub(crate) async fn resolve(
    services: &impl Services,
    namespaces: &Namespaces,
    addresses: &[&NodeAddress],
) -> Result<Vec<Resolved>, ServiceError> {
    let mut prefixes: HashMap<&[Step], Resolved> = HashMap::new();
    prefixes.insert(&[], Ok(ObjectId::RootFolder.into()));
    let paths: Vec<&[Step]> = addresses
        .iter()
        .filter_map(|address| match address {
            NodeAddress::Path(steps) => Some(&**steps),
            NodeAddress::Id(..) => None,
        })
        .collect();
    let longest = paths.iter().map(|path| path.len()).max().unwrap_or(0);
    for length in 1..=longest {
        let wanted: HashSet<&[Step]> = paths.iter().filter_map(|path| path.get(..length)).collect();
        advance(services, namespaces, &wanted, &mut prefixes).await?;
    }
    let resolved = addresses.iter().map(|address| match address {
        NodeAddress::Id(namespace, identifier) => Ok(namespaces.id(namespace, identifier)?),
        NodeAddress::Path(steps) => prefixes.get(&**steps).cloned().unwrap_or_else(|| {
            let (parent, status) = (address.to_string(), StatusCode::BadNoMatch);
            Err(ResolveError::Refused { parent, status })
        }),
    });
    Ok(resolved.collect())
}

/// One name further on all paths.
async fn advance<'a>(
    services: &impl Services,
    namespaces: &Namespaces,
    wanted: &HashSet<&'a [Step]>,
    prefixes: &mut HashMap<&'a [Step], Resolved>,
) -> Result<(), ServiceError> {
    let parent_of = |path: &&'a [Step]| path.split_last();
    let parents: HashSet<NodeId> = wanted
        .iter()
        .filter_map(parent_of)
        .filter_map(|(_, parent)| prefixes.get(parent).and_then(|found| found.as_ref().ok()))
        .cloned()
        .collect();
    let parents: Vec<NodeId> = parents.into_iter().collect();
    let asked = parents.iter().map(|id| below(id.clone(), NodeClassMask::empty())).collect();
    let answers: HashMap<NodeId, BrowseResult> =
        parents.into_iter().zip(services.browse(asked).await?).collect();
    for path in wanted {
        let Some((step, parent)) = parent_of(path) else { continue };
        let found = match prefixes.get(parent) {
            Some(Ok(id)) => match answers.get(id) {
                Some(answer) => child(namespaces, step, parent, answer),
                None => continue,
            },
            Some(Err(error)) => Err(error.clone()),
            None => continue,
        };
        prefixes.insert(path, found);
    }
    Ok(())
}

/// The one node of a name.
fn child(namespaces: &Namespaces, step: &Step, parent: &[Step], answer: &BrowseResult) -> Resolved {
    let parent = || match parent {
        [] => "/".to_owned(),
        steps => NodeAddress::Path(steps.into()).to_string(),
    };
    let index = step.namespace.as_ref().map(|namespace| namespaces.index(namespace)).transpose()?;
    let references = answer.references.as_deref().unwrap_or_default();
    // Several references may lead to one node.
    let mut found: Vec<(NodeId, u16)> = Vec::new();
    for reference in references {
        let name = &reference.browse_name;
        if name.name.as_ref() != &*step.name
            || index.is_some_and(|index| index != name.namespace_index)
        {
            continue;
        }
        let Some(id) = namespaces.local(&reference.node_id) else { continue };
        if found.iter().all(|(other, _)| *other != id) {
            found.push((id, name.namespace_index));
        }
    }
    match found.as_slice() {
        [(id, _)] => Ok(id.clone()),
        [] if answer.status_code.is_bad() => {
            Err(ResolveError::Refused { parent: parent(), status: answer.status_code })
        }
        [] => {
            let names: BTreeSet<&str> =
                references.iter().map(|reference| reference.browse_name.name.as_ref()).collect();
            let near = near(&step.name, names.iter().copied());
            Err(ResolveError::Missing { name: step.to_string(), parent: parent(), near })
        }
        several => {
            let spaces: BTreeSet<u16> = several.iter().map(|(_, space)| *space).collect();
            let told = several.iter().take(4).map(|(id, space)| {
                if spaces.len() < several.len() {
                    // The names are wholly equal: only the ids tell them apart.
                    return namespaces.address(id).to_string();
                }
                let namespace: Option<Namespace> = Some(namespaces.namespace(*space));
                Step { namespace, name: step.name.clone() }.to_string()
            });
            let candidates = told.map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
            Err(ResolveError::Ambiguous { name: step.to_string(), parent: parent(), candidates })
        }
    }
}

/// What a person may have meant: the same name in another case, or what there is.
fn near<'a>(name: &str, there: impl Iterator<Item = &'a str> + Clone) -> String {
    const SHOWN: usize = 5;
    let folded = |text: &str| text.trim().to_lowercase();
    if let Some(same) = there.clone().find(|other| folded(other) == folded(name)) {
        return format!("there is {same:?}");
    }
    let count = there.clone().count();
    let shown: Vec<_> = there.take(SHOWN).map(|name| format!("{name:?}")).collect();
    match count {
        0 => "there is nothing".to_owned(),
        count if count > SHOWN => {
            format!("there are {} and {} more", shown.join(", "), count - SHOWN)
        }
        _ => format!("there is {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
