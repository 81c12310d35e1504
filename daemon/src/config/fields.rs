//! Reads one table of the file by the rows of its section: types, ranges, defaults, unknown and
//! missing keys, and what variables and arguments put in the file's place.
//!
//! # Invariants
//! - The value in the file is checked even where a variable or an argument replaces it.
//! - What could not be read stands as the default with nothing `shown`, so that one mistake does
//!   not cause others.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{Special, States};
use tidegate_opcua::{ItemSpec, Thumbprint};
use tidegate_translator::TagPath;
use toml_span::Value as Toml;
use toml_span::value::Table as TomlTable;

use super::check::Origin;
use super::keys::{self, Default, Family, Key, Section};
use super::list::{self, Row};
use super::mistake::{Mistake, Place};
use super::model::Manner;
use super::settings::Settings;
use super::suggest;
use super::syntax::Repaired;
use super::value::{self, Raw, Value};
use super::{HttpsUrl, HubUrl, credential};
use crate::shared::Recent;

/// What all sections share while a file is checked.
pub(crate) struct Checker<'a> {
    pub(crate) repaired: &'a Repaired,
    pub(crate) settings: &'a Settings,
    /// Where tag lists come from.
    pub(crate) lists: &'a list::Source<'a>,
    /// Where relative paths start.
    pub(crate) directory: &'a Path,
    pub(crate) mistakes: Vec<Mistake>,
    /// Mistakes of tag lists that were counted and not kept.
    pub(crate) counted: Vec<(Arc<str>, usize)>,
    pub(crate) manners: Recent<Manner>,
    pub(crate) specials: Recent<Special>,
    pub(crate) items: Recent<ItemSpec>,
    /// What was said of a profile already.
    pub(crate) told: HashSet<(Place, String)>,
    /// Where the tags of each device come from.
    pub(crate) origins: Vec<Origin>,
    /// Whether the first mistake ends the check: another one then begins, and tells them all.
    pub(crate) stops: bool,
    /// Whether mistakes are counted only: enough of a list were told.
    pub(crate) brief: bool,
}

/// Where the values of a table come from.
#[derive(Clone, Copy)]
pub(crate) enum Table<'s> {
    /// It is not written.
    Missing,
    /// From the file.
    Toml(&'s Toml<'s>),
    /// From a tag list.
    Row(&'s Row<'s>),
}

impl<'s> Table<'s> {
    /// What is written behind a key, where it is text.
    pub(crate) fn text(self, key: &str) -> Option<&'s str> {
        match self {
            Self::Missing => None,
            Self::Toml(table) => table.as_table()?.get(key)?.as_str(),
            Self::Row(row) => match row.get(key)?.0 {
                Raw::Cell { text, .. } => Some(text),
                Raw::Toml(_) | Raw::Plain(_) => None,
            },
        }
    }

    pub(crate) fn get(self, key: &str) -> Option<(Raw<'s>, Place)> {
        match self {
            Self::Missing => None,
            Self::Toml(table) => {
                let toml = table.as_table()?.get(key)?;
                Some((Raw::Toml(toml), toml.span.into()))
            }
            Self::Row(row) => row.get(key),
        }
    }
}

/// The legal values of one table.
#[derive(Clone)]
pub(crate) struct Fields {
    /// Its key path, such as `device[0]`.
    pub(crate) path: String,
    /// Its header.
    pub(crate) header: Place,
    /// The names of device and tag.
    pub(crate) context: Option<String>,
    values: Vec<(&'static str, Field)>,
    /// Keys that were written, legal or not.
    attempted: Vec<&'static str>,
}

#[derive(Clone)]
struct Field {
    value: Value,
    place: Place,
    /// As it was written; `None` for a default.
    shown: Option<String>,
    /// The table it was taken over from, by its key path.
    from: Option<Arc<str>>,
}

impl<'a> Checker<'a> {
    /// A check that has found nothing yet.
    pub(crate) fn new(
        repaired: &'a Repaired,
        settings: &'a Settings,
        lists: &'a list::Source<'a>,
        directory: &'a Path,
    ) -> Self {
        Self {
            repaired,
            settings,
            lists,
            directory,
            mistakes: Vec::new(),
            counted: Vec::new(),
            manners: Recent::default(),
            specials: Recent::default(),
            items: Recent::default(),
            told: HashSet::new(),
            origins: Vec::new(),
            stops: false,
            brief: false,
        }
    }

    /// Reads the table `path`. What is not written in it is taken over from `profile`, and only
    /// then is it the default.
    ///
    /// Where it is known to which family the table belongs, keys of others are refused by name, and
    /// their values are not looked at.
    pub(crate) fn fields(
        &mut self,
        section: Section,
        path: String,
        table: Table<'_>,
        context: Option<String>,
        profile: Option<&Fields>,
        family: Option<Family>,
    ) -> Fields {
        let header = match table {
            Table::Missing => Place::WholeFile,
            Table::Toml(table) => self.header(table),
            Table::Row(row) => row.place(),
        };
        // Room for most keys of a tag: there may be a hundred thousand.
        let (values, attempted) = (Vec::with_capacity(20), Vec::with_capacity(8));
        let mut fields = Fields { path, header, context, values, attempted };
        if let Table::Toml(value) = table {
            match value.as_table() {
                Some(table) => self.refuse_unknown(section, &mut fields, table, family),
                None => {
                    let message = "expected a section, found a value";
                    let mistake = Mistake::new(fields.path.clone(), value.span.into(), message);
                    self.mistakes.push(mistake.legal(section.header()));
                    // What is missing follows from this mistake.
                    fields.attempted = keys::of(section).map(|key| key.name).collect();
                }
            }
        }
        for key in keys::of(section) {
            match family.filter(|family| !key.families.contains(family)) {
                None => self.read(section, key, table, &mut fields, profile, family),
                Some(family) => self.refuse_foreign(key, family, table, &mut fields, profile),
            }
        }
        fields
    }

    /// Refuses a key of other devices, where it is written.
    fn refuse_foreign(
        &mut self,
        key: &'static Key,
        family: Family,
        table: Table<'_>,
        fields: &mut Fields,
        profile: Option<&Fields>,
    ) {
        let only = key.nouns();
        let message =
            || format!("{} is for {only} devices, and this one speaks {}", key.name, family.noun());
        let mistake = if let Some((raw, place)) = table.get(key.name) {
            fields.attempted.push(key.name);
            Mistake::new(format!("{}.{}", fields.path, key.name), place, message())
                .value(raw.shown())
                .context(fields.context.clone())
        } else if let Some(profile) = profile.filter(|profile| profile.written(key.name)) {
            profile.mistake(key.name, message())
        } else {
            return;
        };
        self.mistakes.push(mistake.legal(family.instead_of(key.name)));
    }

    fn read(
        &mut self,
        section: Section,
        key: &'static Key,
        table: Table<'_>,
        fields: &mut Fields,
        profile: Option<&Fields>,
        family: Option<Family>,
    ) {
        let legal = || key.legal(family);
        let mut found = None;
        if let Some((raw, place)) = table.get(key.name) {
            fields.attempted.push(key.name);
            found = self.check(key, &legal, &fields.path, raw, place, &fields.context);
        }
        // Only what is written once can be set from elsewhere.
        let set = if section.is_of_many() { Vec::new() } else { self.settings.of(key) };
        for (value, place) in set {
            fields.attempted.push(key.name);
            found =
                self.check(key, &legal, &fields.path, Raw::Plain(&value), place, &None).or(found);
        }
        if let Some((value, place, shown)) = found {
            let field = Field { value, place, shown: Some(shown), from: None };
            fields.values.push((key.name, field));
            return;
        }
        // Two lists are joined; everything else is the one or the other.
        let profile = profile.filter(|_| key.name != "tag-list");
        if let Some(profile) = profile.filter(|profile| profile.attempted(key.name))
            && !fields.attempted.contains(&key.name)
        {
            fields.attempted.push(key.name);
            if let Some(field) = profile.field(key.name).filter(|field| field.shown.is_some()) {
                let field = Field { from: Some(profile.path.as_str().into()), ..field.clone() };
                fields.values.push((key.name, field));
                return;
            }
        }
        if let Some(value) = default(key) {
            // The header's place is the table's, and not worth a copy.
            let field = Field { value, place: Place::WholeFile, shown: None, from: None };
            fields.values.push((key.name, field));
        }
        // A profile need not say what each of its devices can say.
        let optional = section == Section::Profile && key.section == Section::Device;
        // A device that does not say what it speaks is taken for one that is asked.
        let is_fed = key.only() == Some(Family::Nats);
        let optional = optional || (family.is_none() && is_fed);
        if key.default != Default::Required || fields.attempted.contains(&key.name) || optional {
            return;
        }
        let lost = match fields.header {
            Place::File { start, .. } => self.repaired.lost_key(start, key.name),
            _ => self.repaired.lost_section(key.section.path()),
        };
        if !lost {
            let path = format!("{}.{}", fields.path, key.name);
            let message = format!("{:?} is missing", key.name);
            let legal =
                format!("{}, for example {} = {}", legal(), key.name, key.example_of(family));
            self.mistakes.push(
                Mistake::new(path, fields.header.clone(), message)
                    .legal(legal)
                    .context(fields.context.clone()),
            );
        }
    }

    fn check(
        &mut self,
        key: &Key,
        legal: &dyn Fn() -> String,
        table: &str,
        raw: Raw<'_>,
        place: Place,
        context: &Option<String>,
    ) -> Option<(Value, Place, String)> {
        match value::read(&key.kind, raw) {
            Ok(value) => Some((value, place, raw.shown())),
            Err(_) if self.brief => {
                self.mistakes.push(Mistake::new("", place, ""));
                None
            }
            Err(list) => {
                let path = format!("{table}.{}", key.name);
                for (element, illegal) in list {
                    let (path, place) = match element {
                        Some((index, place)) => (format!("{path}[{index}]"), place),
                        None => (path.clone(), place.clone()),
                    };
                    let mut mistake = Mistake::new(path, place, illegal.message)
                        .legal(illegal.legal.unwrap_or_else(legal))
                        .suggest(illegal.suggestion.or_else(|| value::word_meant(&key.kind, raw)))
                        .context(context.clone());
                    mistake.value = illegal.value;
                    self.mistakes.push(mistake);
                }
                None
            }
        }
    }

    fn refuse_unknown(
        &mut self,
        section: Section,
        fields: &mut Fields,
        table: &TomlTable<'_>,
        family: Option<Family>,
    ) {
        let known: Vec<&str> =
            keys::of(section).map(|key| key.name).chain(below(section)).collect();
        // Keys of other families are known, and nothing to be proposed.
        let foreign = |name: &&str| {
            let row = keys::of(section).find(|key| key.name == *name);
            row.zip(family).is_some_and(|(row, family)| !row.families.contains(&family))
        };
        let own = || known.iter().copied().filter(|name| !foreign(name));
        for key in table.keys().filter(|key| !known.contains(&key.name.as_ref())) {
            let name = key.name.as_ref();
            if name == "password" && known.contains(&"password-file") {
                let message = "a password does not stand in the configuration";
                let legal = "password-file = \"press-1.password\", a file that holds the password \
                             alone and that only the daemon can read";
                let mistake =
                    Mistake::new(format!("{}.{name}", fields.path), key.span.into(), message);
                self.mistakes.push(mistake.legal(legal).context(fields.context.clone()));
                fields.attempted.push("password-file");
                continue;
            }
            let near = suggest::nearest(name, own());
            let message = format!("unknown key in {}", section.header());
            self.mistakes.push(
                Mistake::new(format!("{}.{name}", fields.path), key.span.into(), message)
                    .value(name)
                    .legal(own().collect::<Vec<_>>().join(", "))
                    .suggest(near)
                    .context(fields.context.clone()),
            );
            // The key that was meant is not missing as well.
            fields.attempted.extend(near);
        }
    }

    /// The header's own bytes: the table's span reaches to its last value.
    pub(crate) fn header(&self, table: &Toml<'_>) -> Place {
        let start = table.span.start;
        let line = self.repaired.text.get(start..).and_then(|t| t.lines().next()).unwrap_or("");
        let end = if line.starts_with('[') { line.rfind(']').map_or(1, |i| i + 1) } else { 1 };
        // A comment may hold a bracket of its own.
        let end = line.find('#').map_or(end, |comment| end.min(comment));
        let end = line.get(..end).map_or(end, |header| header.trim_end().len());
        Place::File { start, end: start + end }
    }

    /// The file behind a key, whole: a path of the configuration or a credential of the service.
    pub(crate) fn file_of(&self, fields: &Fields, key: &str) -> Option<PathBuf> {
        match fields.value(key)? {
            Value::Path(path) => Some(self.directory.join(path)),
            Value::Credential(name) => {
                Some(credential::find(self.settings.credentials(), name, self.lists.is_there))
            }
            _ => None,
        }
    }

    /// Records a mistake of a key.
    pub(crate) fn refuse(&mut self, fields: &Fields, key: &str, message: String, legal: &str) {
        let mistake = fields.mistake(key, message).legal(legal);
        self.mistakes.push(mistake);
    }
}

/// The sections that stand below one.
fn below(section: Section) -> impl Iterator<Item = &'static str> {
    Section::ALL
        .into_iter()
        .filter_map(move |other| other.path().strip_prefix(section.path())?.strip_prefix('.'))
}

/// The row's default, as a legal value.
fn default(key: &Key) -> Option<Value> {
    let text;
    let raw = match key.default {
        Default::Required | Default::Unset(_) | Default::Derived(_) => return None,
        // Without a detour, for there may be a hundred thousand tags.
        Default::Number(n) => return Some(Value::Number(n)),
        Default::Flag(b) => return Some(Value::Flag(b)),
        Default::Text(text) => text,
        Default::Integer(n) => {
            text = n.to_string();
            &text
        }
    };
    value::read(&key.kind, Raw::Plain(raw)).ok()
}

impl Fields {
    /// What stands above all sections.
    pub(crate) fn root() -> Self {
        Self {
            path: String::new(),
            header: Place::WholeFile,
            context: None,
            values: Vec::new(),
            attempted: Vec::new(),
        }
    }

    /// Keeps what later comparisons name, and gives the rest back: there may be 50,000 tables.
    pub(crate) fn keep_only(&mut self, keys: &[&str]) {
        self.values.retain(|(name, _)| keys.contains(name));
        self.values.shrink_to_fit();
        self.attempted = Vec::new();
    }

    fn field(&self, key: &str) -> Option<&Field> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, field)| field)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.field(key).map(|field| &field.value)
    }

    /// Where a key is written; its table's header when it is not.
    pub(crate) fn place(&self, key: &str) -> Place {
        let written = self.field(key).filter(|field| field.shown.is_some());
        written.map_or(&self.header, |field| &field.place).clone()
    }

    /// Whether the value was written, and legal.
    pub(crate) fn written(&self, key: &str) -> bool {
        self.field(key).is_some_and(|field| field.shown.is_some())
    }

    /// Whether something was written, legal or not.
    pub(crate) fn attempted(&self, key: &str) -> bool {
        self.attempted.contains(&key)
    }

    /// The families that something was written for, legal or not; keys of all of them tell nothing.
    pub(crate) fn families(&self, section: Section) -> impl Iterator<Item = Family> {
        let attempted = |key: &&Key| self.attempted(key.name);
        keys::of(section).filter(attempted).filter_map(Key::only)
    }

    /// A mistake of a key of this table.
    pub(crate) fn mistake(&self, key: &str, message: impl Into<String>) -> Mistake {
        let from = self.field(key).and_then(|field| field.from.as_deref());
        let path = format!("{}.{key}", from.unwrap_or(&self.path));
        let mistake = Mistake::new(path, self.place(key), message);
        let mistake = mistake.context(self.context.clone());
        match self.field(key).and_then(|field| field.shown.as_ref()) {
            Some(shown) => mistake.value(shown),
            None => mistake,
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Flag(true)))
    }

    /// A whole number in the range of `T`; `None` when there is none, or `T` is too small.
    pub(crate) fn integer<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        match self.value(key)? {
            Value::Integer(n) => T::try_from(*n).ok(),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    pub(crate) fn size(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Size(bytes) => Some(*bytes),
            _ => None,
        }
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            Value::Number(n) => Some(*n),
            _ => None,
        }
    }

    pub(crate) fn file(&self, key: &str) -> Option<&Path> {
        match self.value(key)? {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn listen(&self, key: &str) -> Option<SocketAddr> {
        match self.value(key)? {
            Value::Listen(address) => Some(*address),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> &[(String, Place)] {
        match self.value(key) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub(crate) fn https(&self, key: &str) -> Option<&HttpsUrl> {
        match self.value(key)? {
            Value::Https(url) => Some(url),
            _ => None,
        }
    }

    pub(crate) fn thumbprints(&self, key: &str) -> &[Thumbprint] {
        match self.value(key) {
            Some(Value::Thumbprints(list)) => list,
            _ => &[],
        }
    }

    pub(crate) fn patterns(&self, key: &str) -> &[Box<str>] {
        match self.value(key) {
            Some(Value::Patterns(list)) => list,
            _ => &[],
        }
    }

    pub(crate) fn states(&self, key: &str) -> Option<&Arc<States>> {
        match self.value(key)? {
            Value::States(states) => Some(states),
            _ => None,
        }
    }

    /// What was written, with its place and the table it stands in.
    pub(crate) fn as_written(&self, key: &str) -> Option<(&Value, &Place, &str)> {
        let field = self.field(key).filter(|field| field.shown.is_some())?;
        Some((&field.value, &field.place, field.from.as_deref().unwrap_or(&self.path)))
    }

    pub(crate) fn urls(&self, key: &str) -> Option<&[(HubUrl, Place)]> {
        match self.value(key)? {
            Value::Urls(urls) => Some(urls),
            _ => None,
        }
    }

    /// Host and port of a proxy.
    pub(crate) fn proxy(&self, key: &str) -> Option<(&str, u16)> {
        match self.value(key)? {
            Value::Proxy(host, port) => Some((host, *port)),
            _ => None,
        }
    }

    pub(crate) fn subjects(&self, key: &str) -> &[Box<str>] {
        match self.value(key) {
            Some(Value::Subjects(list)) => list,
            _ => &[],
        }
    }

    pub(crate) fn path(&self, key: &str) -> Option<&TagPath> {
        match self.value(key)? {
            Value::TagPath(path) => Some(path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_legal_by_its_own_row() {
        for key in keys::KEYS {
            let none =
                matches!(key.default, Default::Required | Default::Unset(_) | Default::Derived(_));
            assert_eq!(default(key).is_none(), none, "{}", key.path());
            let text = match (key.default, default(key)) {
                (Default::Number(n), Some(found)) => (n.to_string(), found),
                (Default::Flag(b), Some(found)) => (b.to_string(), found),
                _ => continue,
            };
            assert_eq!(value::read(&key.kind, Raw::Plain(&text.0)), Ok(text.1), "{}", key.path());
        }
    }

    #[test]
    fn every_example_is_legal_by_its_own_row() {
        for key in keys::KEYS {
            let text = format!("x = {}", key.example);
            let toml = toml_span::parse(&text).unwrap();
            let value = value::read(&key.kind, Raw::Toml(toml.pointer("/x").unwrap()));
            assert!(value.is_ok(), "{}: {value:?}", key.path());
        }
    }
}
