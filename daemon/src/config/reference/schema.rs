//! `docs/tidegate.schema.json`: JSON Schema, draft 2020-12.
//!
//! It tells an editor what the check would say, as far as single values go; what several values
//! have to do with each other only the check knows.

use serde_json::{Map, Value, json};

use super::super::keys::{self, Default, Family, Key, Kind, NumberRule, Section};

pub(super) fn print() -> String {
    let mut root = object(Section::Gateway);
    root.remove("required");
    root.remove("description");
    let mut properties = Map::new();
    for section in Section::ALL.into_iter().filter(|section| !section.path().contains('.')) {
        let inner = match section {
            Section::Hub => with_child(object(section), "tls", object(Section::HubTls)),
            Section::Device => list(section, device(section, Section::Tag, Section::DeviceTls)),
            Section::Profile => {
                list(section, device(section, Section::ProfileTag, Section::ProfileTls))
            }
            _ => object(section),
        };
        properties.insert(section.path().to_owned(), Value::Object(inner));
    }
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("Tidegate configuration"));
    root.insert(
        "description".to_owned(),
        json!("Printed from the table of keys; `tidegate check` knows more."),
    );
    root.insert("properties".to_owned(), Value::Object(properties));
    root.insert("required".to_owned(), json!(["gateway"]));
    // Maps of strings and numbers: this cannot fail.
    let mut text = serde_json::to_string_pretty(&Value::Object(root)).unwrap_or_default();
    text.push('\n');
    text
}

/// A device or a profile, with its tags and its certificates.
fn device(section: Section, tag: Section, tls: Section) -> Map<String, Value> {
    let mut out = with_child(object(section), "tag", list(tag, object(tag)));
    out = with_child(out, "tls", object(tls));
    if section == Section::Device {
        // Each may come from the profile.
        let either = |names: &[&str]| -> Value {
            names.iter().map(|name| json!({ "required": [name] })).collect()
        };
        let mut all = vec![json!({ "anyOf": either(&["protocol", "profile"]) })];
        all.extend(Family::ALL.into_iter().map(only_own_keys));
        out.insert("allOf".to_owned(), Value::Array(all));
    }
    out.remove("description");
    out
}

/// No key of another family, where the device itself says what it speaks.
fn only_own_keys(family: Family) -> Value {
    let protocols = keys::of(Section::Device).filter_map(|key| match key.kind {
        Kind::Word(words) if key.name == "protocol" => Some(words),
        _ => None,
    });
    let protocols: Vec<&str> = protocols
        .flatten()
        .map(|word| word.name)
        .filter(|name| Family::of(name) == Some(family))
        .collect();
    let foreign = |section: Section| -> Map<String, Value> {
        let others = keys::of(section).filter(|key| !key.families.contains(&family));
        others.map(|key| (key.name.to_owned(), Value::Bool(false))).collect()
    };
    let mut none = foreign(Section::Device);
    if foreign(Section::DeviceTls).len() == keys::of(Section::DeviceTls).count() {
        none.insert("tls".to_owned(), Value::Bool(false));
    }
    let tag = match family {
        Family::Nats => Value::Bool(false),
        Family::Modbus | Family::OpcUa => {
            json!({ "items": { "properties": foreign(Section::Tag) } })
        }
    };
    none.insert("tag".to_owned(), tag);
    let is_own = |key: &&Key| key.default == Default::Required && key.families.contains(&family);
    let own: Vec<&str> = keys::of(Section::Device)
        .filter(|key| key.families != Family::ALL)
        .filter(is_own)
        .map(|key| key.name)
        .collect();
    let mut then = json!({ "properties": none, "required": own });
    if let (Value::Object(then), true) = (&mut then, Family::ASKED.contains(&family)) {
        let tags = json!([
            { "required": ["tag"] }, { "required": ["tag-list"] }, { "required": ["profile"] }
        ]);
        then.insert("anyOf".to_owned(), tags);
    }
    json!({
        "if": { "properties": { "protocol": { "enum": protocols } }, "required": ["protocol"] },
        "then": then,
    })
}

fn object(section: Section) -> Map<String, Value> {
    let properties: Map<String, Value> =
        keys::of(section).map(|key| (key.name.to_owned(), property(key))).collect();
    let by_a_device = |key: &Key| {
        key.section == Section::Device && (key.name == "protocol" || key.families != Family::ALL)
    };
    let required: Vec<&str> = keys::of(section)
        .filter(|key| key.default == Default::Required && !by_a_device(key))
        .map(|key| key.name)
        .collect();
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("object"));
    out.insert("description".to_owned(), json!(section.doc().replace('`', "")));
    out.insert("additionalProperties".to_owned(), json!(false));
    out.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        out.insert("required".to_owned(), json!(required));
    }
    if section.rows_of() == Section::Tag {
        out.insert("not".to_owned(), json!({ "required": ["deadband", "deadband-percent"] }));
    }
    out
}

fn with_child(
    mut parent: Map<String, Value>,
    name: &str,
    child: Map<String, Value>,
) -> Map<String, Value> {
    if let Some(Value::Object(properties)) = parent.get_mut("properties") {
        properties.insert(name.to_owned(), Value::Object(child));
    }
    parent
}

fn list(section: Section, mut items: Map<String, Value>) -> Map<String, Value> {
    items.remove("description");
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("array"));
    out.insert("description".to_owned(), json!(section.doc().replace('`', "")));
    out.insert("items".to_owned(), Value::Object(items));
    if section == Section::Tag {
        out.insert("minItems".to_owned(), json!(1));
    }
    out
}

fn property(key: &Key) -> Value {
    let mut out = kind(&key.kind);
    if let Value::Object(map) = &mut out {
        map.insert("description".to_owned(), json!(super::doc_words(key).replace('`', "")));
        let default = match key.default {
            Default::Required | Default::Unset(_) | Default::Derived(_) => None,
            Default::Integer(n) => Some(json!(n)),
            Default::Number(n) => Some(json!(n)),
            Default::Text(text) => Some(json!(text)),
            Default::Flag(flag) => Some(json!(flag)),
        };
        if let Some(default) = default {
            map.insert("default".to_owned(), default);
        }
    }
    out
}

fn kind(kind: &Kind) -> Value {
    match *kind {
        Kind::Name { max } => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "maxLength": max })
        }
        Kind::Text { max } => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        Kind::Word(words) => {
            let built: Vec<&str> =
                words.iter().filter(|word| word.built).map(|word| word.name).collect();
            json!({ "type": "string", "enum": built })
        }
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer { min, max } | Kind::Millis { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Kind::IntegerIn(ranges) => {
            let any: Vec<Value> = ranges
                .iter()
                .map(|(min, max)| json!({ "type": "integer", "minimum": min, "maximum": max }))
                .collect();
            json!({ "anyOf": any })
        }
        Kind::Size { min, max } => json!({ "anyOf": [
            {
                "type": "string",
                "pattern": "^ *[0-9][0-9_]*(\\.[0-9_]+)? *([KkMmGgTt]?[Ii]?[Bb])? *$",
            },
            { "type": "integer", "minimum": min, "maximum": max },
        ] }),
        Kind::Number(NumberRule::Finite) => json!({ "type": "number" }),
        Kind::Number(NumberRule::NotZero) => json!({ "type": "number", "not": { "const": 0 } }),
        Kind::Number(NumberRule::NotNegative) => json!({ "type": "number", "minimum": 0 }),
        Kind::Number(NumberRule::Percent) => {
            json!({ "type": "number", "minimum": 0, "maximum": 100 })
        }
        Kind::Path | Kind::File | Kind::DeviceAddress | Kind::Host => {
            json!({ "type": "string", "minLength": 1 })
        }
        Kind::Listen => json!({ "type": "string", "pattern": ":[0-9]{1,5}$" }),
        Kind::Urls => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": 16,
            "items": { "type": "string", "pattern": "^(tls|wss|nats|nats-leaf)://[^@]+$" },
        }),
        Kind::Proxy => json!({ "type": "string", "pattern": "^http://[^@/]+:[0-9]{1,5}/?$" }),
        Kind::Subjects => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": 64,
            "items": { "type": "string", "pattern": "^[^$_*>. ][^ ]*$" },
        }),
        Kind::Ranges => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": 256,
            "items": {
                "type": "string",
                "pattern": "^ *((coil|discrete|input|holding) *: *[0-9]+|[0134][0-9]{4,5})( *- *[0-9]+)? *$",
            },
        }),
        Kind::States => json!({
            "type": "string",
            "pattern": "^ *[+-]?[0-9]+ *=[^,;]+([,;] *[+-]?[0-9]+ *=[^,;]+)*$",
        }),
        Kind::TagPath => json!({ "type": "string", "pattern": "^[^/]+(/[^/]+)*$" }),
        Kind::Uri => json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$" }),
        Kind::HttpsUrl => json!({ "type": "string", "pattern": "^https://[^@?#]+$" }),
        Kind::Thumbprints => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": 64,
            "items": { "type": "string", "pattern": "^([: ]*[0-9A-Fa-f]){64}[: ]*$" },
        }),
        Kind::Patterns => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": 256,
            "items": { "type": "string", "pattern": "^[^/;]+(/[^/;]+)*$" },
        }),
        Kind::IndexRange => json!({
            "type": "string",
            "pattern": "^[0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*$",
        }),
        Kind::Address => json!({
            "type": "string",
            "pattern": "^ *((coil|discrete) *: *[0-9]+|(input|holding) *: *[0-9]+(\\.[0-9]{1,2})?|[01][0-9]{4,5}|[34][0-9]{4,5}(\\.[0-9]{1,2})?) *$|^ *(nsu=[^;]+;|ns=[0-9]+;)?[isgb]=.+$|^ */.+$",
        }),
    }
}
