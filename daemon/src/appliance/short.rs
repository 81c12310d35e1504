//! `provision.toml`: the short form of a configuration, as a technician fills it in, and what a
//! medium may do to a gateway that has one.
//!
//! # Invariants
//! - Every mistake is found in one run, each with its line.
//! - It never decides what is legal in a configuration: what it makes goes through the daemon's check
//!   like any other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use toml_span::Value as Toml;

use crate::config::{Mistake, Mistakes, Place, Repaired, nearest};
use crate::toml_text::quoted;

/// What may be written, and what it is.
pub const KEYS: &[(&str, &str)] = &[
    ("id", "a text: applied again although nothing else changed, when this did"),
    ("plant", "the plant's name"),
    ("name", "the gateway's name, unique in the fleet"),
    ("hub", "the hub's URLs"),
    ("est", "the authority that gives it its certificate"),
    ("ca-pins", "the SHA-256 of the roots that count"),
    ("devices", "a file beside this one with the rest of the configuration"),
    ("replace", "true: take the place of the configuration that the gateway has"),
    ("later-media", "\"allow\" or \"refuse\": whether another medium may change it later"),
];

/// What of it makes a configuration.
const MAKES: [&str; 6] = ["plant", "name", "hub", "est", "ca-pins", "devices"];

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Short {
    /// Tells one wish from an equal one.
    pub id: Option<String>,
    /// The configuration in short, unless only the rest is written.
    pub gateway: Option<Gateway>,
    /// Whether it may take the place of a configuration.
    pub replace: bool,
    /// Whether others may do so later.
    pub later_media: Option<LaterMedia>,
}

/// A configuration in short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gateway {
    /// `[gateway] plant`.
    pub plant: String,
    /// `[gateway] name`.
    pub name: String,
    /// `[hub] urls`.
    pub hub: Vec<String>,
    /// `[identity] est`.
    pub est: Option<String>,
    /// `[identity] ca-pins`.
    pub ca_pins: Vec<String>,
    /// The file with the rest.
    pub devices: Option<PathBuf>,
}

/// Whether another medium may change the gateway later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaterMedia {
    /// One that says `replace = true` may.
    #[default]
    Allow,
    /// None may, until the gateway is reset from within.
    Refuse,
}

impl Short {
    /// Reads it.
    ///
    /// # Errors
    /// With every mistake.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        let mut repaired = crate::config::repair(text);
        let mut mistakes = std::mem::take(&mut repaired.mistakes);
        let read = toml_span::parse(&repaired.text).ok();
        let short = read
            .as_ref()
            .and_then(|root| Reader { root, repaired: &repaired, mistakes: &mut mistakes }.short());
        match short {
            Some(short) if mistakes.is_empty() => Ok(short),
            _ => {
                if mistakes.is_empty() {
                    mistakes.push(Mistake::new("", Place::WholeFile, "it could not be understood"));
                }
                Err(Mistakes::new(file.to_owned(), text.to_owned(), mistakes))
            }
        }
    }
}

impl Gateway {
    /// The configuration, with the text of its `devices` behind it.
    #[must_use]
    pub fn whole(&self, devices: &str) -> String {
        let mut text =
            String::from("# Made by `tidegate appliance provision` from provision.toml.\n\n");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[gateway]\nplant = {}\nname = {}\n",
            quoted(&self.plant),
            quoted(&self.name)
        );
        if !self.hub.is_empty() {
            let _ = write!(text, "\n[hub]\nurls = {}\n", list(&self.hub));
        }
        if self.est.is_some() || !self.ca_pins.is_empty() {
            text.push_str("\n[identity]\n");
            if let Some(est) = &self.est {
                let _ = writeln!(text, "est = {}", quoted(est));
            }
            let _ = writeln!(text, "ca-pins = {}", list(&self.ca_pins));
        }
        if !devices.is_empty() {
            text.push('\n');
            text.push_str(devices);
        }
        text
    }
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

struct Reader<'a, 'de> {
    root: &'a Toml<'de>,
    repaired: &'a Repaired,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a, 'de> Reader<'a, 'de> {
    /// `None` after a mistake.
    fn short(&mut self) -> Option<Short> {
        self.unknown();
        let made = MAKES.iter().any(|key| self.value(key).is_some());
        let gateway = if made { self.gateway() } else { None };
        let short = Short {
            id: self.text("id"),
            replace: self.flag("replace"),
            later_media: self.later_media(),
            gateway,
        };
        self.mistakes.is_empty().then_some(short)
    }

    fn gateway(&mut self) -> Option<Gateway> {
        let gateway = Gateway {
            plant: self.needed("plant"),
            name: self.needed("name"),
            hub: self.texts("hub"),
            est: self.text("est"),
            ca_pins: self.texts("ca-pins"),
            devices: self.text("devices").map(PathBuf::from),
        };
        if gateway.est.is_some() && gateway.ca_pins.is_empty() {
            let place = self.value("est").map_or(Place::WholeFile, |value| value.span.into());
            let legal = "ca-pins = [\"<SHA-256 of the root>\"] beside it, as the authority's people \
                         tell it";
            let text =
                "an authority is believed by the hash of its root alone, and ca-pins has none";
            self.mistakes.push(Mistake::new("est", place, text).legal(legal));
        }
        Some(gateway)
    }

    fn value(&self, key: &str) -> Option<&'a Toml<'de>> {
        self.root.as_table()?.iter().find(|(name, _)| name.name == key).map(|(_, value)| value)
    }

    fn unknown(&mut self) {
        let names = || KEYS.iter().map(|(key, _)| *key);
        for (key, value) in self.root.as_table().into_iter().flatten() {
            let name = key.name.as_ref();
            if names().any(|known| known == name) {
                continue;
            }
            let section = value.as_table().is_some()
                || value
                    .as_array()
                    .is_some_and(|list| list.iter().any(|one| one.as_table().is_some()));
            let legal = if section {
                "sections in a file of their own, named by devices = \"devices.toml\"; or a whole \
                 tidegate.toml instead of this file"
                    .to_owned()
            } else {
                names().collect::<Vec<_>>().join(", ")
            };
            self.mistakes.push(
                Mistake::new(name, key.span.into(), "unknown key")
                    .value(name)
                    .legal(legal)
                    .suggest(nearest(name, names())),
            );
        }
    }

    fn wrong(&mut self, key: &str, value: &Toml<'_>, legal: &str) {
        let text = format!("{key} cannot be of this type");
        self.mistakes.push(Mistake::new(key, value.span.into(), text).legal(legal));
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        if let Some(text) = value.as_str().map(str::trim).filter(|text| !text.is_empty()) {
            return Some(text.to_owned());
        }
        self.wrong(key, value, "a text in quotes");
        None
    }

    fn needed(&mut self, key: &str) -> String {
        // One that was broken is reported as that.
        if self.value(key).is_none() && !self.repaired.lost_key(0, key) {
            let legal = format!("{key} = \"…\"");
            self.mistakes.push(Mistake::new(key, Place::WholeFile, "it is missing").legal(legal));
        }
        self.text(key).unwrap_or_default()
    }

    /// One text, or a list of them.
    fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.value(key) else { return Vec::new() };
        if let Some(text) = value.as_str() {
            return vec![text.to_owned()];
        }
        let texts = value.as_array().map(|list| {
            list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        match texts.flatten() {
            Some(texts) => texts,
            None => {
                self.wrong(key, value, "texts in quotes, between brackets");
                Vec::new()
            }
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        let Some(value) = self.value(key) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.wrong(key, value, "true or false");
            false
        })
    }

    fn later_media(&mut self) -> Option<LaterMedia> {
        let value = self.value("later-media")?;
        match value.as_str() {
            Some("allow") => Some(LaterMedia::Allow),
            Some("refuse") => Some(LaterMedia::Refuse),
            _ => {
                self.wrong("later-media", value, "\"allow\" or \"refuse\"");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_short_form_or_mistakes_but_never_a_panic(text in any_text()) {
            let _ = parsed(&text);
        }

        #[test]
        fn what_was_meant_is_what_the_configuration_says(
            plant: String, name: String, hub in prop::collection::vec(any::<String>(), 1..3),
            est: String,
        ) {
            let gateway = Gateway {
                plant, name, hub, est: Some(est), ca_pins: vec!["x".into()], devices: None,
            };
            let text = gateway.whole("");
            let root = toml_span::parse(&text).unwrap();
            let at = |path| root.pointer(path).and_then(Toml::as_str);
            prop_assert_eq!(at("/gateway/plant"), Some(gateway.plant.as_str()));
            prop_assert_eq!(at("/gateway/name"), Some(gateway.name.as_str()));
            prop_assert_eq!(at("/hub/urls/0"), Some(gateway.hub[0].as_str()));
            prop_assert_eq!(at("/identity/est"), gateway.est.as_deref());
        }
    }

    /// Anything, and what looks like a short form more often.
    fn any_text() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "plant",
            "name",
            "hub",
            "est",
            "ca-pins",
            "devices",
            "replace",
            "later-media",
            "id",
            "=",
            "\"x\"",
            "[",
            "]",
            "[[",
            "]]",
            "\n",
            "true",
            "7",
            ".",
            "\"",
            "{",
            "}",
            ",",
            "\u{feff}",
        ]);
        prop_oneof![any::<String>(), prop::collection::vec(word, 0..40).prop_map(|w| w.concat())]
    }

    const FULL: &str = r#"
id = "2"
plant = "PlantA"
name = "gw-line3"
hub = ["tls://hub-1.example.com:7422", "tls://hub-2.example.com:7422"]
est = "https://ca.example.com:8443"
ca-pins = ["6f0e52a2b1a0c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c"]
devices = "devices.toml"
replace = true
later-media = "refuse"
"#;

    fn parsed(text: &str) -> Result<Short, String> {
        Short::parse(Path::new("provision.toml"), text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn what_it_makes_passes_the_check_of_the_daemon() {
        let short = parsed(FULL).unwrap();
        assert_eq!((short.replace, short.later_media), (true, Some(LaterMedia::Refuse)));
        let text = short.gateway.unwrap().whole("[journal]\nmax-bytes = \"1 GiB\"\n");
        let file = Path::new("/etc/tidegate/tidegate.toml");
        let config = crate::config::parse(file, &text, Vec::new(), &[])
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(config.gateway.to_string(), "PlantA/gw-line3");
        assert_eq!(config.hub.unwrap().urls.len(), 2);
        assert!(config.identity.unwrap().est.is_some());
        assert_eq!(config.journal.max_bytes, 1 << 30);
    }

    #[test]
    fn the_least_is_a_plant_and_a_name() {
        let short = parsed("plant = \"P\"\nname = \"g\"\nhub = \"tls://h:7422\"\n").unwrap();
        let gateway = short.gateway.unwrap();
        assert_eq!(gateway.hub, ["tls://h:7422"]);
        assert!(!gateway.whole("").contains("[identity]"));
        // Beside a whole configuration it only says what may be done with that.
        assert_eq!(parsed("replace = true\n").unwrap().gateway, None);
    }

    #[test]
    fn every_mistake_is_told_in_one_run() {
        let said = parsed(
            "plant = 7\nnmae = \"g\"\nest = \"https://ca\"\nreplace = \"yes\"\n\
             later-media = \"never\"\nhub = [1]\n[[device]]\nname = \"x\"\n",
        )
        .unwrap_err();
        for expected in [
            "error: plant: plant cannot be of this type",
            "did you mean `name`?",
            "error: name: it is missing",
            "ca-pins has none",
            "true or false",
            "\"allow\" or \"refuse\"",
            "texts in quotes, between brackets",
            "devices = \"devices.toml\"",
            "8 mistakes in provision.toml",
        ] {
            assert!(said.contains(expected), "{expected}\n{said}");
        }
        let said = parsed("plant = \nname = \"g\"\n").unwrap_err();
        assert!(said.contains("1 mistake in provision.toml"), "{said}");
    }

    #[test]
    fn a_name_cannot_write_other_keys() {
        let name = "x\"\nmode = \"external\\";
        let gateway = Gateway { plant: "P".into(), name: name.into(), ..Gateway::default() };
        let text = gateway.whole("");
        let root = toml_span::parse(&text).unwrap();
        assert_eq!(root.pointer("/gateway/name").and_then(Toml::as_str), Some(name));
    }
}
