//! The rig file: what a bench is made of. `rig.example.toml` is one with every key.
//!
//! # Invariants
//! - Every mistake is named in one run, each with its key.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use toml_span::Value;

/// Names the rig file; without it, scenarios run with an emulated machine.
pub const VARIABLE: &str = "TIDEGATE_RIG_FILE";

/// A bench, as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RigFile {
    /// The rig, as the gateway sees it: hub, authority and PLC listen there.
    pub address: IpAddr,
    /// The longest that a boot takes, until values arrive.
    pub boot_within: Duration,
    /// The supply.
    pub power: Power,
    /// The serial console.
    pub console: Option<Port>,
    /// The stick.
    pub stick: Option<Switch>,
}

/// A relay in the supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Power {
    /// The command that gives power.
    pub on: Vec<String>,
    /// The command that takes it.
    pub off: Vec<String>,
    /// How long the supply's capacitors feed the gateway afterwards.
    pub settle: Duration,
}

/// A serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its device.
    pub port: String,
    /// Bits a second.
    pub baud: u32,
}

/// A stick that is led to one of two machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The command that leads it to the rig.
    pub to_rig: Vec<String>,
    /// The command that leads it to the gateway.
    pub to_gateway: Vec<String>,
    /// What it is at the rig. All of it is overwritten.
    pub device: String,
}

impl RigFile {
    /// The one that the environment names.
    ///
    /// # Errors
    /// When it cannot be read, or is wrong.
    pub fn named() -> anyhow::Result<Option<Self>> {
        let named = std::env::var_os(VARIABLE).filter(|file| !file.is_empty());
        named.map(|file| Self::read(Path::new(&file))).transpose()
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it cannot be read, or is wrong.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("rig file {}", file.display()))?;
        Self::parsed(&text).with_context(|| format!("rig file {}", file.display()))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When anything is wrong; the error names all of it.
    pub fn parsed(text: &str) -> anyhow::Result<Self> {
        let tree = match toml_span::parse(text) {
            Ok(tree) => tree,
            Err(error) => bail!("{error}"),
        };
        let mut reader = Reader { mistakes: Vec::new() };
        reader.only(&tree, "", &["address", "boot-within-s", "power", "console", "stick"]);
        reader.only(&tree, "power", &["on", "off", "settle-ms"]);
        reader.only(&tree, "console", &["port", "baud"]);
        reader.only(&tree, "stick", &["to-rig", "to-gateway", "device"]);
        let has = |table: &str| tree.as_table().is_some_and(|all| all.contains_key(table));
        let address = reader.text(&tree, "address");
        let file = Self {
            address: address.parse().unwrap_or_else(|_| {
                reader.mistakes.push(format!("address: {address:?} is no IP address"));
                IpAddr::from([0, 0, 0, 0])
            }),
            boot_within: Duration::from_secs(reader.number(&tree, "boot-within-s", 1, 3600)),
            power: Power {
                on: reader.command(&tree, "power.on"),
                off: reader.command(&tree, "power.off"),
                settle: Duration::from_millis(reader.number(&tree, "power.settle-ms", 0, 600_000)),
            },
            console: has("console").then(|| Port {
                port: reader.text(&tree, "console.port"),
                baud: u32::try_from(reader.number(&tree, "console.baud", 300, 4_000_000))
                    .unwrap_or_default(),
            }),
            stick: has("stick").then(|| Switch {
                to_rig: reader.command(&tree, "stick.to-rig"),
                to_gateway: reader.command(&tree, "stick.to-gateway"),
                device: reader.text(&tree, "stick.device"),
            }),
        };
        if !reader.mistakes.is_empty() {
            bail!("{}", reader.mistakes.join("; "));
        }
        Ok(file)
    }
}

/// Reads keys, and collects what is wrong with them.
struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    fn only(&mut self, tree: &Value<'_>, table: &str, known: &[&str]) {
        let Some(found) = at(tree, table).and_then(Value::as_table) else { return };
        for key in found.keys().filter(|key| !known.contains(&&*key.name)) {
            let whole = if table.is_empty() { String::new() } else { format!("{table}.") };
            self.mistakes.push(format!("{whole}{}: no such key, known are {known:?}", key.name));
        }
    }

    fn text(&mut self, tree: &Value<'_>, key: &str) -> String {
        let found = at(tree, key).and_then(Value::as_str).filter(|text| !text.is_empty());
        self.found(key, "a text", found.map(str::to_owned))
    }

    fn number(&mut self, tree: &Value<'_>, key: &str, least: u64, most: u64) -> u64 {
        let found = at(tree, key).and_then(Value::as_integer);
        let fits = found.and_then(|number| u64::try_from(number).ok());
        let fits = fits.filter(|number| (least..=most).contains(number));
        self.found(key, &format!("a number from {least} to {most}"), fits)
    }

    fn command(&mut self, tree: &Value<'_>, key: &str) -> Vec<String> {
        let words = at(tree, key).and_then(Value::as_array).map(|words| {
            words.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        let words = words.flatten().filter(|words| !words.is_empty());
        self.found(key, "a program and its arguments, such as [\"usbrelay\", \"A_1=1\"]", words)
    }

    fn found<T: Default>(&mut self, key: &str, wanted: &str, found: Option<T>) -> T {
        if found.is_none() {
            self.mistakes.push(format!("{key}: write {wanted}"));
        }
        found.unwrap_or_default()
    }
}

/// What is at a key with dots.
fn at<'a, 'de>(tree: &'a Value<'de>, key: &str) -> Option<&'a Value<'de>> {
    let mut names = key.split('.').filter(|name| !name.is_empty());
    names.try_fold(tree, |here, name| here.as_table()?.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_right_and_has_every_key() {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rig.example.toml"));
        let file = RigFile::parsed(&text.unwrap()).unwrap();
        assert!(file.console.is_some() && file.stick.is_some(), "{file:?}");
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let text = "address = \"bench\"\nboot-within-s = 0\nrelay = 1\n[power]\non = \"yes\"\noff = \
                    []\n[console]\nport = \"/dev/ttyUSB0\"\nbaud = -1\n";
        let error = RigFile::parsed(text).unwrap_err().to_string();
        for key in ["address", "boot-within-s", "relay", "power.on", "power.off", "power.settle-ms"]
        {
            assert!(error.contains(&format!("{key}: ")), "{key}: {error}");
        }
        assert!(error.contains("console.baud") && !error.contains("stick."), "{error}");
    }
}
