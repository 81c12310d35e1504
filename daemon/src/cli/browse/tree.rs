//! What a server holds, for programs.

use serde_json::{Value as Json, json};
use tidegate_opcua::probe::{Holding, Holdings};
use tidegate_record::json::value_tree;
use tidegate_translator::Reason;

/// Everything.
pub(super) fn tree(url: &str, holdings: &Holdings) -> Json {
    let nodes: Vec<Json> = holdings.nodes.iter().map(node).collect();
    json!({
        "url": url,
        "root": {"name": holdings.root.0, "address": holdings.root.1},
        "nodes": nodes,
        "notes": holdings.notes,
    })
}

fn node(node: &Holding) -> Json {
    let mut out = json!({
        "depth": node.depth,
        "name": node.name,
        "class": node.class.word(),
        "address": node.address,
    });
    let (Some(variable), Some(fields)) = (&node.variable, out.as_object_mut()) else { return out };
    fields.insert("path".to_owned(), json!(variable.path));
    fields.insert("type".to_owned(), json!(variable.data_type));
    fields.insert("scalar".to_owned(), json!(variable.scalar));
    fields.insert("unit".to_owned(), json!(variable.unit));
    fields.insert("why".to_owned(), json!(variable.trouble));
    if let Some((value, quality)) = &variable.value {
        fields.insert("value".to_owned(), value_tree(value).0);
        fields.insert("quality".to_owned(), json!(quality.word()));
        fields.insert("reason".to_owned(), json!(quality.reason().map(Reason::word)));
    }
    out
}
