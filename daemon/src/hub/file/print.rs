//! `hub.toml` as it is written at first.

use std::fmt::{Display, Write as _};

use super::{
    HubFile, HubGateway, HubMirror, HubNode, HubRegion, HubSite, HubStream, Ocsp, Person, Takes,
};

use crate::toml_text::quoted;

const HEAD: &str = "\
# What this hub is, who may deliver to it and who may read there. `tidegate hub` reads and writes
# this file; it can be edited as well. The servers' configurations are printed from it:
#   tidegate hub apply    prints them anew
";

impl HubFile {
    /// The text of the file.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = HEAD.to_owned();
        let hub = &self.hub;
        out.push_str("\n[hub]\n");
        text(&mut out, "name", &hub.name);
        out.push_str("# Gateways accept acknowledgements from no other JetStream domain.\n");
        text(&mut out, "domain", &hub.domain);
        out.push_str("# On each server: where its configuration and its streams are.\n");
        text(&mut out, "conf-dir", hub.conf_dir.display());
        text(&mut out, "store-dir", hub.store_dir.display());
        text(&mut out, "max-store", size(hub.max_store));
        if let Some(bytes) = hub.last_values {
            out.push_str("# Memory for the last value of each tag.\n");
            text(&mut out, "last-values", size(bytes));
        }
        if hub.ocsp != Ocsp::Off {
            text(&mut out, "ocsp", hub.ocsp.word());
        }
        for node in &self.nodes {
            out.push_str(&node.print());
        }
        for stream in &self.streams {
            out.push_str(&stream.print());
        }
        for region in &self.regions {
            out.push_str(&region.print());
        }
        for mirror in &self.mirrors {
            out.push_str(&mirror.print());
        }
        for site in &self.sites {
            out.push_str(&site.print());
        }
        for person in &self.people {
            out.push_str(&person.print());
        }
        for gateway in &self.gateways {
            out.push_str(&gateway.print());
        }
        out
    }
}

impl HubNode {
    fn print(&self) -> String {
        let mut out = "\n[[node]]\n".to_owned();
        text(&mut out, "name", &self.name);
        texts(&mut out, "hosts", &self.hosts);
        text(&mut out, "client", self.client);
        text(&mut out, "leaf", self.leaf);
        if let Some(websocket) = self.websocket {
            text(&mut out, "websocket", websocket);
        }
        if let Some(cluster) = self.cluster {
            text(&mut out, "cluster", cluster);
        }
        out
    }
}

impl HubStream {
    fn print(&self) -> String {
        let mut out = "\n[[stream]]\n".to_owned();
        text(&mut out, "name", &self.name);
        match &self.takes {
            Takes::Every => {}
            Takes::Plants(plants) => texts(&mut out, "plants", plants),
            Takes::Gateways(gateways) => texts(&mut out, "gateways", gateways),
        }
        if let Some(bytes) = self.max_bytes {
            text(&mut out, "max-bytes", size(bytes));
        }
        if let Some(age) = self.max_age {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "max-age-days = {}", age.as_secs() / 86_400);
        }
        if let Some(region) = &self.mirrors {
            text(&mut out, "mirrors", region);
        }
        out
    }
}

impl HubRegion {
    fn print(&self) -> String {
        let mut out = "\n[[region]]\n".to_owned();
        text(&mut out, "name", &self.name);
        texts(&mut out, "urls", &self.urls);
        out
    }
}

impl HubMirror {
    fn print(&self) -> String {
        let mut out = "\n[[mirror]]\n".to_owned();
        text(&mut out, "name", &self.name);
        if let Some(subject) = &self.subject {
            text(&mut out, "subject", subject);
        }
        out
    }
}

impl HubSite {
    fn print(&self) -> String {
        let mut out = "\n[[site]]\n".to_owned();
        text(&mut out, "name", &self.name);
        texts(&mut out, "hosts", &self.hosts);
        text(&mut out, "client", self.client);
        text(&mut out, "leaf", self.leaf);
        texts(&mut out, "gateways", &self.gateways);
        if let Some(subject) = &self.subject {
            text(&mut out, "subject", subject);
        }
        out
    }
}

impl Person {
    fn print(&self) -> String {
        let mut out = "\n[[user]]\n".to_owned();
        text(&mut out, "name", &self.name);
        text(&mut out, "role", self.role.word());
        if let Some(subject) = &self.subject {
            text(&mut out, "subject", subject);
        }
        out
    }
}

impl HubGateway {
    pub(super) fn print(&self) -> String {
        let mut out = "\n[[gateway]]\n".to_owned();
        text(&mut out, "id", &self.id);
        texts(&mut out, "prefixes", &self.prefixes);
        if let Some(bytes) = self.bytes {
            text(&mut out, "bytes", size(bytes));
        }
        if !self.shares.is_empty() {
            texts(&mut out, "shares", &self.shares);
        }
        for (key, subjects) in
            [("app-publish", &self.app_publish), ("app-subscribe", &self.app_subscribe)]
        {
            if !subjects.is_empty() {
                texts(&mut out, key, subjects);
            }
        }
        if let Some(subject) = &self.subject {
            text(&mut out, "subject", subject);
        }
        out
    }
}

impl Ocsp {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Lenient => "lenient",
            Self::Strict => "strict",
        }
    }
}

fn text(out: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(out, "{key} = {}", quoted(&value.to_string()));
}

fn texts(out: &mut String, key: &str, values: &[impl Display]) {
    let quoted: Vec<_> = values.iter().map(|value| quoted(&value.to_string())).collect();
    let _ = writeln!(out, "{key} = [{}]", quoted.join(", "));
}

/// With the largest unit that gives a whole number.
fn size(bytes: u64) -> String {
    for (unit, power) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << power && bytes.is_multiple_of(1 << power) {
            return format!("{} {unit}", bytes >> power);
        }
    }
    format!("{bytes} B")
}
