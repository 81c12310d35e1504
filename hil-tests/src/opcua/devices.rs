//! The `[[device]]` tables for OPC UA servers, and what their tags must hold.

use std::fmt::Write as _;

use super::{NAMESPACE, truth};
use crate::field::{Devices, base_path};

/// A device that is an OPC UA server.
#[derive(Debug, Clone)]
pub struct OpcUaDevice {
    name: String,
    keys: String,
    tags: String,
    paths: Vec<String>,
}

/// Short waits, so that a scenario shows in seconds what a plant shows in minutes. A scenario's own
/// keys win.
const USUAL: [(&str, &str); 4] = [
    ("poll-every-ms", "100"),
    ("security", "\"none\""),
    ("retry-after-ms", "100"),
    ("retry-at-most-ms", "1000"),
];

impl OpcUaDevice {
    /// One at a URL, without protection unless `keys`, lines of TOML, say otherwise.
    #[must_use]
    pub fn at(name: &str, url: &str, keys: &str) -> Self {
        let mut text = format!("protocol = \"opcua\"\naddress = \"{url}\"\n{keys}\n");
        for (key, value) in USUAL {
            if !format!("\n{keys}").contains(&format!("\n{key} ")) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        Self { name: name.to_owned(), keys: text, tags: String::new(), paths: Vec::new() }
    }

    /// Counters from this number on, each as a tag named after its number.
    #[must_use]
    pub fn counters(mut self, numbers: std::ops::Range<u64>) -> Self {
        for number in numbers {
            self = self.tag(&format!("n{number}"), &format!("c{number}"), "");
        }
        self
    }

    /// A tag on the node of that name in the rig's namespace.
    #[must_use]
    pub fn tag(self, path: &str, node: &str, keys: &str) -> Self {
        self.tag_at(path, &format!("nsu={NAMESPACE};s={node}"), keys)
    }

    /// A tag at any address.
    #[must_use]
    pub fn tag_at(mut self, path: &str, address: &str, keys: &str) -> Self {
        let _ =
            writeln!(self.tags, "\n[[device.tag]]\npath = {path:?}\naddress = {address:?}\n{keys}");
        if !keys.contains("subtree = true") {
            self.paths.push(format!("{}/{path}", base_path(&self.name)));
        }
        self
    }

    /// Into the configuration.
    #[must_use]
    pub fn among(self, devices: Devices) -> Devices {
        devices.with_table(&self.name, &self.keys, &self.tags, self.paths)
    }

    /// Alone.
    #[must_use]
    pub fn alone(self) -> Devices {
        self.among(Devices::none())
    }
}

/// The paths of a device's counters.
#[must_use]
pub fn counter_paths(device: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("{}/n{number}", base_path(device))).collect()
}

/// Whether a path is that of a counter.
#[must_use]
pub fn is_counter(path: &str) -> bool {
    path.rsplit('/').next().and_then(truth::number).is_some()
}
