//! Looking below a node, level by level.
//!
//! # Invariants
//! - A node is looked at once, however many references lead to it, so that no cycle is followed.
//! - It ends: by depth, by the number of variables, or by [`MAX_NODES`].
//! - No two variables get the same path.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use opcua::types::{
    AttributeId, NodeClass, NodeClassMask, NodeId, ObjectId, ReferenceTypeId, StatusCode, Variant,
};
use tidegate_translator::{Quality, Reason, TagId, TagPath, Timestamp, Value, ValueKind};

use super::holdings::{Class, Holding, Holdings, Variable};
use crate::line::{Line, ServiceError, attribute};
use crate::namespaces::Namespaces;
use crate::node::NodeAddress;
use crate::pattern::Pattern;
use crate::resolve::resolve;
use crate::services::{Services, below};
use crate::status::Status;
use crate::tree::{is, segment, unit};
use crate::types::{DataTypes, Described, TypeError};

/// The most nodes that are looked at.
const MAX_NODES: usize = 200_000;
/// How many are asked for before what came is counted.
const AT_ONCE: usize = 200;
/// The most sentences about what was left out.
const MAX_NOTES: usize = 20;
/// Room that a path leaves for the device's own in front of it.
const MAX_PATH: usize = tidegate_translator::MAX_PATH_BYTES - 128;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Below {
    /// Below which node; the folder of all objects without it.
    pub node: Option<NodeAddress>,
    /// Variables that are taken; all without any.
    pub include: Vec<Pattern>,
    /// Variables that are not.
    pub exclude: Vec<Pattern>,
    /// How many levels.
    pub max_depth: u32,
    /// How many variables.
    pub max_variables: usize,
    /// Whether values are read, too.
    pub values: bool,
}

/// A node on the way.
struct Seen {
    id: NodeId,
    name: String,
    class: Class,
    depth: u32,
    parent: Option<usize>,
    names: Arc<[Box<str>]>,
    unit_at: Option<NodeId>,
    wanted: bool,
}

struct Walk<'a> {
    below: &'a Below,
    namespaces: Arc<Namespaces>,
    holdings: &'a RefCell<Holdings>,
    seen: Vec<Seen>,
    ids: HashSet<NodeId>,
    wanted: usize,
}

/// Looks below a node.
pub(super) async fn walk(
    line: &Line,
    below: &Below,
    holdings: &RefCell<Holdings>,
) -> Result<(), String> {
    let said = |error: ServiceError| error.to_string();
    holdings.borrow_mut().doing = "reading the namespaces".to_owned();
    let namespaces = Arc::new(Namespaces::new(line.namespaces().await.map_err(said)?));
    let root = root(line, &namespaces, below.node.as_ref()).await?;
    let names = vec![attribute(root.clone(), AttributeId::BrowseName)];
    let name = Services::read(line, names).await.map_err(said)?.into_iter().next();
    let name = match name.and_then(|value| value.value) {
        Some(Variant::QualifiedName(name)) => name.name.as_ref().to_owned(),
        _ => {
            let address = namespaces.address(&root);
            return Err(format!(
                "the server has no node {address}; look for it from above: tidegate browse without \
                 --subtree"
            ));
        }
    };
    holdings.borrow_mut().root = (name, namespaces.address(&root).to_string());
    let mut walk = Walk {
        below,
        namespaces,
        holdings,
        seen: Vec::new(),
        ids: HashSet::from([root.clone()]),
        wanted: 0,
    };
    if below.node.is_none() {
        // Hundreds of diagnostic variables that every server has, and nobody looks for first.
        walk.ids.insert(ObjectId::Server.into());
        walk.note("the Server object is left out; --subtree i=2253 shows it".to_owned());
    }
    walk.levels(line, root).await.map_err(said)?;
    walk.describe(line).await.map_err(said)
}

async fn root(
    line: &Line,
    namespaces: &Namespaces,
    address: Option<&NodeAddress>,
) -> Result<NodeId, String> {
    let Some(address) = address else { return Ok(ObjectId::ObjectsFolder.into()) };
    let found = resolve(line, namespaces, &[address]).await.map_err(|error| error.to_string())?;
    match found.into_iter().next() {
        Some(Ok(node)) => Ok(node),
        Some(Err(error)) => Err(format!("{address}: {error}")),
        None => Err(format!("{address} leads nowhere")),
    }
}

impl Walk<'_> {
    fn note(&self, note: String) {
        let notes = &mut self.holdings.borrow_mut().notes;
        if notes.len() < MAX_NOTES {
            notes.push(note);
        }
    }

    async fn levels(&mut self, line: &Line, root: NodeId) -> Result<(), ServiceError> {
        let mut level: Vec<(Option<usize>, NodeId)> = vec![(None, root)];
        // The round after the last level only asks for the units of what stands on it.
        for depth in 1..=self.below.max_depth.saturating_add(1) {
            if depth > self.below.max_depth {
                self.tell_the_end(&level);
                level.retain(|(at, _)| self.class(*at) == Some(Class::Variable));
            }
            let mut deeper = Vec::new();
            for some in level.chunks(AT_ONCE) {
                self.tell(depth);
                self.look(line, some, depth, &mut deeper).await?;
                if self.wanted > self.below.max_variables || self.seen.len() > MAX_NODES {
                    let max = self.below.max_variables;
                    self.note(format!(
                        "there are more than {max} variables; these are the first: look further \
                         down with --subtree, narrow with --include and --exclude, or raise --max"
                    ));
                    return Ok(());
                }
            }
            level = deeper;
            if level.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn tell_the_end(&self, level: &[(Option<usize>, NodeId)]) {
        let objects = level.iter().filter(|(at, _)| self.class(*at) == Some(Class::Object));
        let (count, depth) = (objects.count(), self.below.max_depth);
        if count > 0 {
            self.note(format!(
                "{count} objects on level {depth} were not looked into; --depth goes further"
            ));
        }
    }

    fn tell(&self, depth: u32) {
        self.holdings.borrow_mut().doing =
            format!("level {depth}: {} nodes so far, {} variables", self.seen.len(), self.wanted);
    }

    fn class(&self, at: Option<usize>) -> Option<Class> {
        at.and_then(|at| self.seen.get(at)).map(|seen| seen.class)
    }

    async fn look(
        &mut self,
        line: &Line,
        level: &[(Option<usize>, NodeId)],
        depth: u32,
        deeper: &mut Vec<(Option<usize>, NodeId)>,
    ) -> Result<(), ServiceError> {
        let classes = NodeClassMask::OBJECT | NodeClassMask::VARIABLE | NodeClassMask::METHOD;
        let asked = level.iter().map(|(_, id)| below(id.clone(), classes)).collect();
        for ((parent, id), answer) in level.iter().zip(Services::browse(line, asked).await?) {
            if answer.status_code.is_bad() {
                let (address, status) = (self.namespaces.address(id), answer.status_code);
                let why = if status == StatusCode::BadTooManyMatches {
                    "has more than can be told".to_owned()
                } else {
                    format!("does not tell what is below it: {}", Status::from(status))
                };
                self.note(format!("{address} {why}"));
            }
            for reference in answer.references.unwrap_or_default() {
                let Some(id) = self.namespaces.local(&reference.node_id) else { continue };
                let name = reference.browse_name.name.as_ref();
                if is(&reference, ReferenceTypeId::HasProperty) {
                    let parent = parent.and_then(|parent| self.seen.get_mut(parent));
                    if let (Some(parent), "EngineeringUnits") = (parent, name) {
                        parent.unit_at = Some(id);
                    }
                    continue;
                }
                if depth > self.below.max_depth {
                    continue;
                }
                let class = match reference.node_class {
                    NodeClass::Object => Class::Object,
                    NodeClass::Variable => Class::Variable,
                    NodeClass::Method => Class::Method,
                    _ => continue,
                };
                if is(&reference, ReferenceTypeId::HasEventSource)
                    || is(&reference, ReferenceTypeId::HasNotifier)
                    || !self.ids.insert(id.clone())
                {
                    continue;
                }
                let at = self.add(*parent, id.clone(), name, class, depth);
                if class != Class::Method {
                    deeper.push((Some(at), id));
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        parent: Option<usize>,
        id: NodeId,
        name: &str,
        class: Class,
        depth: u32,
    ) -> usize {
        let above = parent.and_then(|parent| self.seen.get(parent));
        let above = above.map(|above| Arc::clone(&above.names)).unwrap_or_default();
        let segment = segment(name).unwrap_or_else(|| "%".to_owned());
        let names: Arc<[Box<str>]> =
            above.iter().cloned().chain([segment.into_boxed_str()]).collect();
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&names));
        let below = self.below;
        let all = below.include.is_empty();
        let wanted = match class {
            Class::Variable => (all || fits(&below.include)) && !fits(&below.exclude),
            // Without filters everything is shown; with them only what leads to a variable.
            Class::Object | Class::Method => all && below.exclude.is_empty(),
        };
        self.wanted += usize::from(wanted && class == Class::Variable);
        let name = name.to_owned();
        self.seen.push(Seen { id, name, class, depth, parent, names, unit_at: None, wanted });
        self.seen.len() - 1
    }

    /// Asks for types, units and values, and puts everything together.
    async fn describe(mut self, line: &Line) -> Result<(), ServiceError> {
        self.keep_ancestors();
        let mut types = DataTypes::new(Arc::clone(&self.namespaces));
        let variables: Vec<usize> = (0..self.seen.len())
            .filter(|at| self.seen.get(*at).is_some_and(|s| s.wanted && s.class == Class::Variable))
            .take(self.below.max_variables)
            .collect();
        let mut paths = Paths::default();
        let mut told: HashMap<usize, Variable> = HashMap::new();
        for some in variables.chunks(AT_ONCE) {
            self.holdings.borrow_mut().doing =
                format!("reading types: {} of {} variables", told.len(), variables.len());
            let seen: Vec<&Seen> = some.iter().filter_map(|at| self.seen.get(*at)).collect();
            let ids: Vec<NodeId> = seen.iter().map(|seen| seen.id.clone()).collect();
            let described = types.describe(line, &ids).await?;
            let units = self.units(line, &seen).await?;
            let values = self.values(line, &types, &ids, &described).await?;
            for ((((at, seen), described), unit), value) in
                some.iter().zip(&seen).zip(described).zip(units).zip(values)
            {
                told.insert(*at, variable(paths.path(&seen.names), described, unit, value));
            }
        }
        let shown: Vec<bool> = self
            .seen
            .iter()
            .enumerate()
            .map(|(at, seen)| {
                seen.wanted && (seen.class != Class::Variable || told.contains_key(&at))
            })
            .collect();
        for note in paths.notes {
            self.note(note);
        }
        let nodes = in_order(&self.seen).into_iter().filter(|at| shown.get(*at) == Some(&true));
        let nodes = nodes.filter_map(|at| {
            let seen = self.seen.get(at)?;
            Some(Holding {
                depth: seen.depth,
                name: seen.name.clone(),
                class: seen.class,
                address: self.namespaces.address(&seen.id).to_string(),
                variable: told.remove(&at),
            })
        });
        let nodes: Vec<Holding> = nodes.collect();
        self.holdings.borrow_mut().nodes = nodes;
        Ok(())
    }

    /// What leads to something that is shown is shown.
    fn keep_ancestors(&mut self) {
        for at in (0..self.seen.len()).rev() {
            let Some(seen) = self.seen.get(at).filter(|seen| seen.wanted) else { continue };
            if let Some(parent) = seen.parent.and_then(|parent| self.seen.get_mut(parent)) {
                // A variable that is there for what is below it is not taken for its own value.
                if parent.class != Class::Variable {
                    parent.wanted = true;
                }
            }
        }
    }

    async fn units(
        &self,
        line: &Line,
        seen: &[&Seen],
    ) -> Result<Vec<Option<Arc<str>>>, ServiceError> {
        let asked: Vec<_> = seen
            .iter()
            .filter_map(|seen| Some(attribute(seen.unit_at.clone()?, AttributeId::Value)))
            .collect();
        let mut values = if asked.is_empty() {
            Vec::new().into_iter()
        } else {
            Services::read(line, asked).await?.into_iter()
        };
        let each = seen.iter().map(|seen| {
            seen.unit_at.as_ref()?;
            values.next().and_then(unit)
        });
        Ok(each.collect())
    }

    async fn values(
        &self,
        line: &Line,
        types: &DataTypes,
        ids: &[NodeId],
        described: &[Result<Described, TypeError>],
    ) -> Result<Vec<Option<(Value, Quality)>>, ServiceError> {
        if !self.below.values {
            return Ok(vec![None; ids.len()]);
        }
        let converter = types.converter();
        let read = line.read_values(ids.iter().cloned()).await?;
        let each = read.into_iter().zip(described).map(|(value, described)| {
            let Ok(described) = described else {
                return Some((Value::None, Quality::Bad(Reason::Configuration)));
            };
            let sample = converter.sample(TagId(0), &described.meaning, value, Timestamp(0));
            let sample = sample.unwrap_or_else(|flawed| flawed.sample);
            Some((sample.value, sample.quality))
        });
        Ok(each.collect())
    }
}

fn variable(
    path: Option<TagPath>,
    described: Result<Described, TypeError>,
    unit: Option<Arc<str>>,
    value: Option<(Value, Quality)>,
) -> Variable {
    let unit = unit.map(|unit| unit.to_string());
    match described {
        Ok(described) => Variable {
            path,
            data_type: described.data_type.to_string(),
            scalar: described.kind != ValueKind::Json,
            unit,
            trouble: None,
            value,
        },
        Err(error) => Variable {
            path,
            data_type: match &error {
                TypeError::Unrepresentable { data_type, .. } => data_type.to_string(),
                _ => "?".to_owned(),
            },
            scalar: true,
            unit,
            trouble: Some(error.to_string()),
            value,
        },
    }
}

/// Paths that were given.
#[derive(Default)]
struct Paths {
    given: HashSet<String>,
    notes: Vec<String>,
}

impl Paths {
    /// The path of these names, with a number behind it where another variable has it.
    fn path(&mut self, names: &[Box<str>]) -> Option<TagPath> {
        let plain = names.join("/");
        if plain.len() > MAX_PATH {
            self.notes.push(format!(
                "{plain} is left out of the list: it has {} bytes, and at most {MAX_PATH} can be \
                 used",
                plain.len()
            ));
            return None;
        }
        let mut path = plain.clone();
        let mut number = 2;
        // A path is prefixed by another variable's in the tree, which is no collision.
        while !self.given.insert(path.clone()) {
            path = format!("{plain}-{number}");
            number += 1;
        }
        TagPath::new(path).ok()
    }
}

/// Indexes so that a parent stands before its children, and these together.
fn in_order(seen: &[Seen]) -> Vec<usize> {
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (at, seen) in seen.iter().enumerate() {
        children.entry(seen.parent).or_default().push(at);
    }
    let mut order = Vec::with_capacity(seen.len());
    let mut stack: Vec<usize> = children.remove(&None).unwrap_or_default();
    stack.reverse();
    while let Some(at) = stack.pop() {
        order.push(at);
        stack.extend(children.remove(&Some(at)).unwrap_or_default().into_iter().rev());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<Box<str>> {
        path.split('/').map(Box::from).collect()
    }

    #[test]
    fn two_variables_of_one_name_get_two_paths() {
        let mut paths = Paths::default();
        let mut path = |text| paths.path(&names(text)).map(|path| path.to_string());
        assert_eq!(path("Axis/Speed").as_deref(), Some("Axis/Speed"));
        assert_eq!(path("Axis/Speed").as_deref(), Some("Axis/Speed-2"));
        assert_eq!(path("Axis/Speed-2").as_deref(), Some("Axis/Speed-2-2"));
        assert_eq!(path("Axis/Speed").as_deref(), Some("Axis/Speed-3"));
    }

    #[test]
    fn a_path_that_is_too_long_is_left_out_and_named() {
        let mut paths = Paths::default();
        assert_eq!(paths.path(&names(&"x/".repeat(300))), None);
        assert!(paths.notes[0].contains("at most 384"), "{:?}", paths.notes);
    }

    #[test]
    fn a_parent_stands_before_its_children_and_these_in_the_servers_order() {
        let seen = |parent| Seen {
            id: NodeId::null(),
            name: String::new(),
            class: Class::Object,
            depth: 1,
            parent,
            names: Arc::default(),
            unit_at: None,
            wanted: true,
        };
        let tree = [seen(None), seen(None), seen(Some(0)), seen(Some(1)), seen(Some(0))];
        assert_eq!(in_order(&tree), [0, 2, 4, 1, 3]);
    }
}
