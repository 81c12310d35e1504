//! What the environment and the command line put in the file's place.
//!
//! # Invariants
//! - An argument wins over a variable, a variable over the file.
//! - A name that sets nothing is refused, so that a slip never passes for a setting.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::keys::{KEYS, Key, Section, VARIABLE_PREFIX};
use super::mistake::{Mistake, Place};
use super::{credential, suggest};

/// One setting from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The dotted key, such as `journal.max-bytes`.
    pub key: String,
    /// The value, without TOML quotes.
    pub value: String,
    /// As the person wrote it, for error messages: `--set journal.max-bytes=1GiB`.
    pub shown: String,
}

impl Argument {
    /// Reads `SECTION.KEY=VALUE`, the operand of `--set`.
    ///
    /// # Errors
    /// When there is no `=` in it; the message is for the person who typed it.
    pub fn from_set(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not written SECTION.KEY=VALUE"))?;
        let shown = format!("--set {text}");
        Ok(Self { key: key.trim().to_owned(), value: value.to_owned(), shown })
    }
}

/// Settings that go before the file, weakest first.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    list: Vec<(&'static Key, String, Place)>,
    credentials: Option<PathBuf>,
}

impl Settings {
    /// Sorts variables and arguments to their keys; what fits none is a mistake.
    pub(crate) fn new(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        arguments: &[Argument],
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut out = Self::default();
        let mut note = |(name, value): &(OsString, OsString)| {
            if name == credential::VARIABLE && !value.is_empty() {
                out.credentials = Some(PathBuf::from(value));
            }
        };
        let mut variables: Vec<_> = environment
            .into_iter()
            .inspect(&mut note)
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect();
        variables.sort();
        for (name, value) in variables {
            let place = Place::Variable(name.clone());
            let Some(key) = KEYS.iter().find(|key| key.variable().as_ref() == Some(&name)) else {
                mistakes.push(unknown_variable(name));
                continue;
            };
            match value.into_string() {
                Ok(value) => out.list.push((key, value, place)),
                Err(_) => mistakes.push(
                    Mistake::new(key.path(), place, "the value is not UTF-8")
                        .legal(key.kind.legal()),
                ),
            }
        }
        for argument in arguments {
            let place = Place::Argument(argument.shown.clone());
            let scalar = |key: &&Key| key.variable().is_some();
            match KEYS.iter().filter(scalar).find(|key| key.path() == argument.key) {
                Some(key) => out.list.push((key, argument.value.clone(), place)),
                None => mistakes.push(unknown_argument(argument, place)),
            }
        }
        out
    }

    /// What is set for a key, weakest first.
    pub(crate) fn of(&self, key: &Key) -> Vec<(String, Place)> {
        let same = |other: &Key| other.section == key.section && other.name == key.name;
        let own = self.list.iter().filter(|(other, ..)| same(other));
        own.map(|(_, value, place)| (value.clone(), place.clone())).collect()
    }

    /// Where systemd put the credentials of this process, where it did.
    pub(crate) fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref()
    }

    /// Whether anything of a section is set.
    pub(crate) fn touch(&self, section: Section) -> bool {
        self.list.iter().any(|(key, ..)| key.section == section)
    }
}

fn unknown_variable(name: String) -> Mistake {
    let rest = name.strip_prefix(VARIABLE_PREFIX).unwrap_or(&name);
    let path = rest.replace("__", ".").replace('_', "-").to_lowercase();
    let known: Vec<String> = KEYS.iter().filter_map(Key::variable).collect();
    let message = match KEYS.iter().find(|key| key.path() == path) {
        Some(_) => "devices and lists are set in the file only",
        None => "the variable sets nothing",
    };
    Mistake::new(path, Place::Variable(name.clone()), message)
        .legal(format!("{VARIABLE_PREFIX}<SECTION>__<KEY> of a single value, such as {VARIABLE_PREFIX}JOURNAL__MAX_BYTES"))
        .suggest(nearest_variable(&name, &known))
}

fn nearest_variable(name: &str, known: &[String]) -> Option<String> {
    // The prefix is right already; only what follows can be a slip.
    let rest = name.strip_prefix(VARIABLE_PREFIX)?;
    let known = known.iter().filter_map(|known| known.strip_prefix(VARIABLE_PREFIX));
    suggest::nearest(rest, known).map(|near| format!("{VARIABLE_PREFIX}{near}"))
}

fn unknown_argument(argument: &Argument, place: Place) -> Mistake {
    let paths: Vec<String> =
        KEYS.iter().filter(|key| key.variable().is_some()).map(Key::path).collect();
    let message = match KEYS.iter().find(|key| key.path() == argument.key) {
        Some(_) => "devices and lists are set in the file only",
        None => "there is no such key",
    };
    Mistake::new(argument.key.clone(), place, message)
        .value(argument.key.clone())
        .legal("SECTION.KEY=VALUE of a single value, such as journal.max-bytes=\"8 GiB\"")
        .suggest(suggest::nearest(&argument.key, paths.iter().map(String::as_str)))
}
