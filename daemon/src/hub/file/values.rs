//! From what stands behind a key of `hub.toml` to values, mistakes collected.

use std::path::Path;

use toml_span::Value as Toml;
use toml_span::value::ValueInner;

use crate::config::mistake::shorten;
use crate::config::{Mistake, Mistakes, Place, Repaired, nearest};

/// A text that is being read.
pub(super) struct Reader<'a> {
    repaired: &'a Repaired,
    mistakes: Vec<Mistake>,
}

/// One table of it.
#[derive(Clone)]
pub(super) struct Section<'a> {
    path: String,
    value: &'a Toml<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(repaired: &'a Repaired, mistakes: Vec<Mistake>) -> Self {
        Self { repaired, mistakes }
    }

    pub(super) fn finish(self, file: &Path, text: &str) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        Err(Mistakes::new(file.to_owned(), text.to_owned(), self.mistakes))
    }

    pub(super) fn refuse(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The table at the root of the file.
    pub(super) fn root(&mut self, value: &'a Toml<'a>, sections: &[&str]) {
        let Some(table) = value.as_table() else { return };
        for (key, value) in table {
            if !sections.contains(&key.name.as_ref()) {
                let message = format!("there is no section {}", shorten(&key.name));
                let mistake = Mistake::new(key.name.to_string(), value.span.into(), message)
                    .legal(sections.join(", "))
                    .suggest(nearest(&key.name, sections.iter().copied()));
                self.refuse(mistake);
            }
        }
    }

    /// The one table of that name.
    pub(super) fn table(
        &mut self,
        root: &'a Toml<'a>,
        name: &str,
        keys: &[&str],
    ) -> Option<Section<'a>> {
        let Some(value) = root.as_table().and_then(|table| table.get(name)) else {
            if !self.repaired.lost_section(name) {
                let message = format!("section [{name}] is missing");
                self.refuse(Mistake::new(name, Place::WholeFile, message));
            }
            return None;
        };
        self.section(name.to_owned(), value, keys)
    }

    /// Refuses a file that lacks any table of that name.
    pub(super) fn at_least_one(&mut self, root: &'a Toml<'a>, name: &str) {
        if !root.has_key(name) && !self.repaired.lost_section(name) {
            let message = format!("there is no {name}");
            self.refuse(Mistake::new(name, Place::WholeFile, message).legal(format!("[[{name}]]")));
        }
    }

    /// All tables of that name.
    pub(super) fn tables(
        &mut self,
        root: &'a Toml<'a>,
        name: &str,
        keys: &[&str],
    ) -> Vec<Section<'a>> {
        let Some(value) = root.as_table().and_then(|table| table.get(name)) else {
            return Vec::new();
        };
        let Some(list) = value.as_array() else {
            let mistake = Mistake::new(name, value.span.into(), "expected sections, found a value");
            self.refuse(mistake.legal(format!("[[{name}]]")));
            return Vec::new();
        };
        let each = list.iter().enumerate();
        each.filter_map(|(at, value)| self.section(format!("{name}[{at}]"), value, keys)).collect()
    }

    fn section(&mut self, path: String, value: &'a Toml<'a>, keys: &[&str]) -> Option<Section<'a>> {
        let Some(table) = value.as_table() else {
            let message = "expected a section, found a value";
            self.refuse(Mistake::new(path, value.span.into(), message));
            return None;
        };
        for (key, value) in table {
            if !keys.contains(&key.name.as_ref()) {
                let message = "there is no such key";
                let mistake =
                    Mistake::new(format!("{path}.{}", key.name), key.span.into(), message)
                        .value(shown(value))
                        .legal(keys.join(", "))
                        .suggest(nearest(&key.name, keys.iter().copied()));
                self.refuse(mistake);
            }
        }
        Some(Section { path, value })
    }

    /// A text that `convert` takes; `None` where it is not written or not legal.
    pub(super) fn text<T>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        legal: &str,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = section.get(key)?;
        let converted = match value.as_str() {
            Some(text) => convert(text),
            None => Err("expected text in quotes".to_owned()),
        };
        self.kept(section, key, value, legal, converted)
    }

    /// The same of a key that has to be there.
    pub(super) fn required<T>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        legal: &str,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if section.get(key).is_none() {
            self.missing(section, key, legal);
        }
        self.text(section, key, legal, convert)
    }

    pub(super) fn missing(&mut self, section: &Section<'a>, key: &str, legal: &str) {
        if !self.repaired.lost_key(section.value.span.start, key) {
            let mistake =
                Mistake::new(section.path_of(key), section.place(), format!("{key} is missing"));
            self.refuse(mistake.legal(legal));
        }
    }

    /// A list of texts, each of which `convert` takes; `None` where it is not written.
    pub(super) fn list<T>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        legal: &str,
        convert: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = section.get(key)?;
        let Some(list) = value.as_array() else {
            let found = Err::<Vec<T>, _>("expected a list of texts".to_owned());
            return self.kept(section, key, value, legal, found);
        };
        let mut kept = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let converted = match value.as_str() {
                Some(text) => convert(text),
                None => Err("expected text in quotes".to_owned()),
            };
            let path = format!("{key}[{at}]");
            kept.extend(self.kept(section, &path, value, legal, converted));
        }
        Some(kept)
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        section: &Section<'a>,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = section.get(key)?;
        let number = value.as_integer().filter(|number| range.contains(number));
        let legal = format!("a whole number from {} to {}", range.start(), range.end());
        let found = number.ok_or_else(|| "it is out of range".to_owned());
        self.kept(section, key, value, &legal, found)
    }

    fn kept<T>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        value: &Toml<'_>,
        legal: &str,
        converted: Result<T, String>,
    ) -> Option<T> {
        let refused = |message: String| {
            Mistake::new(section.path_of(key), value.span.into(), message)
                .value(shown(value))
                .legal(legal)
        };
        converted.map_err(|message| self.refuse(refused(message))).ok()
    }
}

impl<'a> Section<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Toml<'a>> {
        self.value.as_table()?.get(key)
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Where the key stands, else the section.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place(), |value| value.span.into())
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> Place {
        Place::File { start: self.value.span.start, end: self.value.span.start + 1 }
    }
}

fn shown(value: &Toml<'_>) -> String {
    match value.as_ref() {
        ValueInner::String(text) => format!("{:?}", shorten(text)),
        ValueInner::Integer(n) => n.to_string(),
        ValueInner::Float(n) => n.to_string(),
        ValueInner::Boolean(b) => b.to_string(),
        ValueInner::Array(_) => "[…]".to_owned(),
        ValueInner::Table(_) => "{…}".to_owned(),
    }
}
