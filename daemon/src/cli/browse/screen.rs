//! What a server holds, as a tree on a terminal.

use std::io::{self, Write};

use tidegate_opcua::probe::{Class, Holding, Holdings};
use tidegate_record::json::value_tree;
use tidegate_translator::{Quality, Value};

use super::list::kind;
use crate::cli::terminal::{self, Align, Table, Tone, count, tame};

/// The longest value that is shown; of a longer one the beginning.
const MAX_VALUE: usize = 32;

/// Writes the tree.
pub(super) fn show(
    out: &mut dyn Write,
    holdings: &Holdings,
    values: bool,
    colour: bool,
) -> io::Result<()> {
    let (name, address) = &holdings.root;
    let name = Tone::Strong.paint(&tame(name), colour);
    writeln!(out, "{name}  {}", Tone::Faint.paint(&tame(address), colour))?;
    let nodes = &holdings.nodes;
    if nodes.is_empty() {
        return writeln!(out, "nothing is below it that fits");
    }
    let mut columns = vec![("NAME", Align::Left), ("TYPE", Align::Left)];
    if values {
        columns.push(("VALUE", Align::Right));
    }
    columns.extend([("UNIT", Align::Left), ("ADDRESS", Align::Left)]);
    let mut table = Table::new(&columns);
    for (node, branch) in nodes.iter().zip(branches(nodes)) {
        let variable = node.variable.as_ref();
        let (kind, tone) = match variable {
            Some(variable) if variable.trouble.is_some() => {
                (format!("{}, not collectable", variable.data_type), Tone::Wrong)
            }
            Some(variable) => (kind(variable), Tone::Plain),
            None => (node.class.word().to_owned(), Tone::Faint),
        };
        let name_tone = if node.class == Class::Variable { Tone::Plain } else { Tone::Strong };
        let mut row = vec![(format!("{branch}{}", node.name), name_tone), (kind, tone)];
        if values {
            let value = variable.and_then(|variable| variable.value.as_ref());
            row.push(value.map_or_else(|| (String::new(), Tone::Plain), shown));
        }
        let unit = variable.and_then(|variable| variable.unit.clone()).unwrap_or_default();
        row.push((unit, Tone::Plain));
        row.push((node.address.clone(), Tone::Faint));
        table.row(row);
    }
    table.write(out, 0, colour)?;
    let variables = nodes.iter().filter(|node| node.variable.is_some()).count();
    let variables = count(u64::try_from(variables).unwrap_or(u64::MAX), "variable");
    writeln!(out, "\n{variables}; --csv FILE writes a tag list of them")
}

/// A value as it fits into a line.
fn shown((value, quality): &(Value, Quality)) -> (String, Tone) {
    let (text, tone) = match quality {
        Quality::Good => (terminal::value(&value_tree(value).0), Tone::Plain),
        other => {
            terminal::quality(other.word(), other.reason().map(tidegate_translator::Reason::word))
        }
    };
    if text.chars().count() <= MAX_VALUE {
        return (text, tone);
    }
    let begin: String = text.chars().take(MAX_VALUE - 1).collect();
    (format!("{begin}…"), tone)
}

/// The lines in front of each name.
fn branches(nodes: &[Holding]) -> Vec<String> {
    // From behind: whether something of this level follows before its parent ends.
    let mut open: Vec<bool> = Vec::new();
    let mut branches: Vec<String> = Vec::with_capacity(nodes.len());
    for node in nodes.iter().rev() {
        let depth = usize::try_from(node.depth).unwrap_or(usize::MAX).max(1);
        open.truncate(depth);
        let follows = open.len() == depth && open.last() == Some(&true);
        open.resize(depth, false);
        let mut branch = String::new();
        for open in open.iter().take(depth - 1) {
            branch.push_str(if *open { "│ " } else { "  " });
        }
        branch.push_str(if follows { "├ " } else { "└ " });
        if let Some(last) = open.last_mut() {
            *last = true;
        }
        branches.push(branch);
    }
    branches.reverse();
    branches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_join_what_stands_together() {
        let node = |depth, name: &str| Holding {
            depth,
            name: name.to_owned(),
            class: Class::Object,
            address: String::new(),
            variable: None,
        };
        let nodes =
            [node(1, "a"), node(2, "b"), node(3, "c"), node(2, "d"), node(1, "e"), node(2, "f")];
        assert_eq!(branches(&nodes), ["├ ", "│ ├ ", "│ │ └ ", "│ └ ", "└ ", "  └ "]);
        let holdings = Holdings { nodes: nodes.to_vec(), ..Holdings::default() };
        let mut out = Vec::new();
        show(&mut out, &holdings, false, false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("│ │ └ c"), "{text}");
    }

    #[test]
    fn a_long_value_shows_its_beginning_and_a_bad_one_its_reason() {
        let long = shown(&(Value::Text("x".repeat(100).into()), Quality::Good)).0;
        assert_eq!(long.chars().count(), MAX_VALUE);
        let bad = shown(&(Value::None, Quality::Bad(tidegate_translator::Reason::Timeout)));
        assert_eq!(bad, ("bad (timeout)".to_owned(), Tone::Wrong));
    }
}
