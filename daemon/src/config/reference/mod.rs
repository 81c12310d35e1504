//! The reference, the man page and the JSON Schema, printed from the table of keys.
//!
//! # Invariants
//! - The same table gives the same bytes: the files are kept in the repository and compared.

mod man;
mod markdown;
mod schema;

use super::keys::{Default, Key, Kind, Section};

/// A file that is printed from the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its path in the repository.
    pub path: String,
    /// Its whole content.
    pub content: String,
}

/// All of them.
#[must_use]
pub fn files() -> [Generated; 3] {
    [
        ("docs/configuration.md", markdown::print()),
        ("docs/man/tidegate.toml.5", man::print()),
        ("docs/tidegate.schema.json", schema::print()),
    ]
    .map(|(path, content)| Generated { path: path.to_owned(), content })
}

/// The default as a reader sees it; texts in quotes, as they stand in the file.
fn default_words(key: &Key) -> String {
    match key.default {
        Default::Required => "required".to_owned(),
        Default::Unset(words) | Default::Derived(words) => words.to_owned(),
        Default::Integer(_) | Default::Number(_) | Default::Text(_) | Default::Flag(_) => {
            literal(&key.default).unwrap_or_default()
        }
    }
}

/// The default as TOML, where there is one.
fn literal(default: &Default) -> Option<String> {
    match default {
        Default::Required | Default::Unset(_) | Default::Derived(_) => None,
        Default::Integer(n) => Some(n.to_string()),
        Default::Number(n) => Some(n.to_string()),
        Default::Text(text) => Some(format!("{text:?}")),
        Default::Flag(flag) => Some(flag.to_string()),
    }
}

/// What can stand behind the key; words are listed by themselves.
fn value_words(key: &Key) -> String {
    match key.kind {
        Kind::Word(_) => "one word".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Integer { .. } | Kind::IntegerIn(_) => format!("whole number, {}", key.kind.legal()),
        _ => key.kind.legal(),
    }
}

/// A section with every key, each with its example.
fn sample(section: Section) -> String {
    let mut out = format!("{}\n", section.header());
    for key in super::keys::of(section).filter(|key| !excluded_from_sample(key)) {
        out.push_str(&format!("{} = {}\n", key.name, key.example));
    }
    out
}

/// Of two keys that exclude each other the sample shows the first, and nothing that weakens.
fn excluded_from_sample(key: &Key) -> bool {
    key.name.starts_with("allow-") || key.name == "deadband-percent"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_key_stands_in_each_of_the_three() {
        let [markdown, man, schema] = files();
        let schema: serde_json::Value = serde_json::from_str(&schema.content).unwrap();
        for key in super::super::keys::KEYS {
            assert!(markdown.content.contains(&format!("| `{}` |", key.name)), "{}", key.path());
            assert!(man.content.contains(&man::escape(key.name)), "{}", key.path());
            let pointer = key
                .section
                .path()
                .split('.')
                .map(|s| match s {
                    "device" | "tag" => format!("/properties/{s}/items"),
                    s => format!("/properties/{s}"),
                })
                .collect::<String>();
            let found = schema.pointer(&format!("{pointer}/properties/{}", key.name));
            assert!(found.is_some_and(|v| v.get("description").is_some()), "{}", key.path());
        }
    }

    #[test]
    fn the_man_page_is_plain_ascii_for_every_formatter() {
        let [_, man, _] = files();
        assert!(man.content.is_ascii());
    }

    #[test]
    fn the_samples_together_are_a_legal_configuration() {
        let all: String = Section::ALL.into_iter().map(sample).collect();
        let result = crate::config::parse(Path::new("x.toml"), &all, Vec::new(), &[]);
        assert!(result.is_ok(), "{}", result.unwrap_err());
    }
}
