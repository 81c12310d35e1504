//! What a new session needs before the first value can be asked for: namespaces, node ids, types,
//! and the tags below subtrees.
//!
//! # Invariants
//! - A tag that cannot be found, or whose values have no form, fails by itself; only a session
//!   that breaks fails all.
//! - A found tag has a number before it is asked for, and none without one is.

use std::collections::HashSet;
use std::sync::Arc;

use opcua::types::{NodeId, StatusCode};
use tidegate_translator::{Reason, TagId, ValueKind};

use crate::book::{FoundTag, Learned, TagBook};
use crate::convert::{Converter, Meaning};
use crate::items::Wanted;
use crate::line::{Line, ServiceError};
use crate::namespaces::Namespaces;
use crate::node::NodeAddress;
use crate::resolve::resolve;
use crate::spec::DeviceSpec;
use crate::status::Status;
use crate::tree::{Found, TreeError, expand};
use crate::types::{DataTypes, Described, TypeError};

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
    /// Lent to whoever learns more of them.
    pub(crate) types: Option<DataTypes>,
    /// What a person may want to know.
    pub(crate) notes: Vec<String>,
    /// Subtrees that were not taken, and why.
    pub(crate) troubles: Vec<String>,
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

/// Where a node is and what its values are.
pub(crate) type Place = Result<(NodeId, Meaning), Failure>;

/// Prepares everything that is wanted.
pub(crate) async fn prepare(
    line: &Line,
    spec: &DeviceSpec,
    configured: Arc<[Wanted]>,
    book: &dyn TagBook,
) -> Result<Prepared, ServiceError> {
    let namespaces = Arc::new(Namespaces::new(line.namespaces().await?));
    let mut types = DataTypes::new(Arc::clone(&namespaces));
    let device: Arc<str> = spec.name.as_str().into();

    let addresses: Vec<_> = configured.iter().map(|wanted| &wanted.node).collect();
    let mut kinds = Vec::new();
    let mut places = find(line, &namespaces, &mut types, &addresses, &mut kinds).await?;
    let learned = configured.iter().zip(kinds);
    let learned = learned.filter_map(|(w, kind)| Some(Learned { tag: w.tag, kind: kind? }));
    let learned: Vec<_> = learned.collect();
    if !learned.is_empty() {
        book.learn(Arc::clone(&device), learned).await;
    }

    let (mut notes, mut troubles) = (Vec::new(), Vec::new());
    let mut wanted = configured.to_vec();
    if !spec.subtrees.is_empty() {
        let found = subtrees(line, &namespaces, spec, &mut notes, &mut troubles).await?;
        let taken: HashSet<_> = configured.iter().map(|wanted| wanted.path.clone()).collect();
        let found: Vec<_> =
            found.into_iter().filter(|(_, found)| !taken.contains(&found.path)).collect();
        let nodes: Vec<NodeId> = found.iter().map(|(_, found)| found.id.clone()).collect();
        let described = types.describe(line, &nodes).await?;
        let tags = found.iter().zip(&described).map(|((subtree, found), described)| FoundTag {
            path: found.path.clone(),
            kind: described.as_ref().map_or(ValueKind::None, |described| described.kind),
            unit: found.unit.clone(),
            address: Arc::clone(&found.address),
            subtree: *subtree,
        });
        let ids = book.define(device, tags.collect()).await;
        for (((subtree, found), described), id) in found.into_iter().zip(described).zip(ids) {
            let (Some(tag), Some(from)) = (id, spec.subtrees.get(subtree)) else { continue };
            places.push(place(found.id.clone(), described));
            wanted.push(Wanted {
                tag,
                path: found.path,
                node: namespaces.address(&found.id),
                item: Arc::clone(&from.item),
            });
        }
    }
    let converter = types.converter();
    let meaning = |place: &Place| place.as_ref().map(|(_, m)| m.clone()).unwrap_or_default();
    let meanings = places.iter().map(meaning).collect();
    let nodes = places.into_iter().map(|place| place.map(|(node, _)| node)).collect();
    let (wanted, types) = (wanted.into(), Some(types));
    Ok(Prepared { wanted, nodes, meanings, converter, types, notes, troubles })
}

/// Looks again for addresses that were not found before.
pub(crate) async fn find_again(
    line: &Line,
    addresses: &[NodeAddress],
) -> Result<Vec<Place>, ServiceError> {
    let namespaces = Arc::new(Namespaces::new(line.namespaces().await?));
    let mut types = DataTypes::new(Arc::clone(&namespaces));
    let addresses: Vec<_> = addresses.iter().collect();
    find(line, &namespaces, &mut types, &addresses, &mut Vec::new()).await
}

/// Finds nodes, and what their values are.
async fn find(
    line: &Line,
    namespaces: &Namespaces,
    types: &mut DataTypes,
    addresses: &[&NodeAddress],
    kinds: &mut Vec<Option<ValueKind>>,
) -> Result<Vec<Place>, ServiceError> {
    let resolved = resolve(line, namespaces, addresses).await?;
    let nodes: Vec<NodeId> =
        resolved.iter().filter_map(|node| node.as_ref().ok().cloned()).collect();
    let mut described = types.describe(line, &nodes).await?.into_iter();
    let mut places = Vec::with_capacity(resolved.len());
    for node in resolved {
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                kinds.push(None);
                places.push(Err(Failure::misfit(error.status(), error.to_string())));
                continue;
            }
        };
        let Some(described) = described.next() else { break };
        kinds.push(described.as_ref().ok().map(|described| described.kind));
        places.push(place(node, described));
    }
    Ok(places)
}

fn place(node: NodeId, described: Result<Described, TypeError>) -> Place {
    match described {
        Ok(described) => Ok((node, described.meaning)),
        // It may still tell its values, or say itself what is wrong.
        Err(TypeError::Refused { .. }) => Ok((node, Meaning::default())),
        Err(error) => Err(Failure::misfit(error.status(), error.to_string())),
    }
}

/// Everything that is found below the subtrees, with the place of each subtree.
async fn subtrees(
    line: &Line,
    namespaces: &Namespaces,
    spec: &DeviceSpec,
    notes: &mut Vec<String>,
    troubles: &mut Vec<String>,
) -> Result<Vec<(usize, Found)>, ServiceError> {
    let addresses: Vec<_> = spec.subtrees.iter().map(|subtree| &subtree.node).collect();
    let roots = resolve(line, namespaces, &addresses).await?;
    let mut all = Vec::new();
    for (at, (subtree, root)) in spec.subtrees.iter().zip(roots).enumerate() {
        let mut trouble = |why: String| troubles.push(format!("subtree {}: {why}", subtree.path));
        let root = match root {
            Ok(root) => root,
            Err(error) => {
                trouble(error.to_string());
                continue;
            }
        };
        match expand(line, namespaces, subtree, &root).await {
            Ok(expansion) => {
                notes.extend(expansion.notes);
                all.extend(expansion.found.into_iter().map(|found| (at, found)));
            }
            Err(TreeError::Service(error)) if error.is_of_session() || !error.answered => {
                return Err(error);
            }
            Err(error) => trouble(error.to_string()),
        }
    }
    Ok(all)
}
