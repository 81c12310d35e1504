//! What a server holds, as a tree of names.

use tidegate_translator::{Quality, TagPath, Value};

/// What is below one node of a server, complete up to what is being done.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// What is being done.
    pub doing: String,
    /// The node that was looked below: its name and its address.
    pub root: (String, String),
    /// Everything below it: a parent before its children, and children together.
    pub nodes: Vec<Holding>,
    /// What was left out and why, for a person.
    pub notes: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// How far below the root: 1 for its children.
    pub depth: u32,
    /// Its browse name.
    pub name: String,
    /// What it is.
    pub class: Class,
    /// Its address, good for every session.
    pub address: String,
    /// Of a variable: what is known of it.
    pub variable: Option<Variable>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It groups others.
    Object,
    /// It has a value.
    Variable,
    /// It can be called, which this gateway does not.
    Method,
}

impl Class {
    /// In a list.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Variable => "variable",
            Self::Method => "method",
        }
    }
}

/// A node with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its place below the root as a path that no other variable has; `None` where it would be too
    /// long for one.
    pub path: Option<TagPath>,
    /// Its data type: a name of the specification, or an address.
    pub data_type: String,
    /// Whether its values are single.
    pub scalar: bool,
    /// Its engineering unit.
    pub unit: Option<String>,
    /// Why its values cannot be collected.
    pub trouble: Option<String>,
    /// Its present value, where it was asked for.
    pub value: Option<(Value, Quality)>,
}
