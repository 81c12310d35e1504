//! From the text of `hub.toml` to a [`HubFile`], or to every mistake in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_translator::TagPath;
use toml_span::Value as Toml;

use super::check::Tiers;
use super::values::{Reader, Section};
use super::{
    HubFile, HubGateway, HubMirror, HubNode, HubRegion, HubSettings, HubSite, HubStream, Mistakes,
    Ocsp, Person, Takes,
};
use crate::config::{Mistake, Place, repair};
use crate::hub::Role;
use crate::names::{GatewayId, Name, Share};

/// Where a server's configuration is on its machine, unless it is said otherwise.
const DEFAULT_CONF_DIR: &str = "/etc/tidegate-hub";
/// Where a server keeps its streams, unless it is said otherwise.
const DEFAULT_STORE_DIR: &str = "/var/lib/tidegate-hub";

const NAME: &str = "1 to 31 letters, digits, '-' or '_'";
const SIZE: &str = "a size such as \"50 GiB\"";
const ADDRESS: &str = "an address with its port, such as \"0.0.0.0:7422\"";
const GATEWAY: &str = "\"PLANT/NAME\"";

const APPLICATIONS: &str = "a subject such as \"orders.>\", not below tide, uns, ask, $… or _…";

const HUB: [&str; 7] =
    ["name", "domain", "store-dir", "max-store", "conf-dir", "last-values", "ocsp"];
const NODE: [&str; 6] = ["name", "hosts", "client", "leaf", "websocket", "cluster"];
const STREAM: [&str; 6] = ["name", "plants", "gateways", "max-bytes", "max-age-days", "mirrors"];
const SITE: [&str; 6] = ["name", "hosts", "client", "leaf", "gateways", "subject"];
const MIRROR: [&str; 2] = ["name", "subject"];
const REGION: [&str; 2] = ["name", "urls"];
const GATEWAY_KEYS: [&str; 7] =
    ["id", "prefixes", "bytes", "shares", "app-publish", "app-subscribe", "subject"];
const USER: [&str; 3] = ["name", "role", "subject"];

impl HubFile {
    /// Reads and checks the text of `file`.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn read(file: &Path, text: &str) -> Result<Self, Mistakes> {
        let mut repaired = repair(text);
        let broken = std::mem::take(&mut repaired.mistakes);
        let root = toml_span::parse(&repaired.text).unwrap_or_else(|_| empty());
        let mut reader = Reader::new(&repaired, broken);
        let read = reader.file(&root);
        reader.finish(file, text)?;
        // Whatever is not there was refused.
        read.ok_or_else(|| {
            let mistake = Mistake::new("", Place::WholeFile, "the file could not be understood");
            Mistakes::new(file.to_owned(), text.to_owned(), vec![mistake])
        })
    }
}

/// Where a server's configuration is on its machine, unless it is said otherwise.
pub(crate) fn default_conf_dir() -> PathBuf {
    DEFAULT_CONF_DIR.into()
}

/// Where a server keeps its streams, unless it is said otherwise.
pub(crate) fn default_store_dir() -> PathBuf {
    DEFAULT_STORE_DIR.into()
}

fn empty() -> Toml<'static> {
    Toml::new(toml_span::value::ValueInner::Table(toml_span::value::Table::new()))
}

impl<'a> Reader<'a> {
    fn file(&mut self, root: &'a Toml<'a>) -> Option<HubFile> {
        self.root(root, &["hub", "node", "stream", "gateway", "user", "site", "mirror", "region"]);
        for name in ["node", "stream", "user"] {
            self.at_least_one(root, name);
        }
        let section = self.table(root, "hub", &HUB);
        let hub = section.as_ref().and_then(|section| self.hub(section));
        let nodes = self.each(root, "node", &NODE, Self::node);
        let streams = self.each(root, "stream", &STREAM, Self::stream);
        let gateways = self.each(root, "gateway", &GATEWAY_KEYS, Self::gateway);
        let people = self.each(root, "user", &USER, Self::person);
        let sites = self.each(root, "site", &SITE, Self::site);
        let mirrors = self.each(root, "mirror", &MIRROR, Self::mirror);
        let regions = self.each(root, "region", &REGION, Self::region);
        self.check_tiers(&Tiers {
            nodes: &nodes,
            streams: &streams,
            gateways: &gateways,
            sites: &sites,
            mirrors: &mirrors,
            regions: &regions,
        });
        self.check(&nodes, &streams, &gateways, &people);
        let only = |list: Vec<(Section<'a>, HubNode)>| list.into_iter().map(|(_, it)| it).collect();
        let file = HubFile {
            hub: hub?,
            nodes: only(nodes),
            streams: streams.into_iter().map(|(_, it)| it).collect(),
            gateways: gateways.into_iter().map(|(_, it)| it).collect(),
            people: people.into_iter().map(|(_, it)| it).collect(),
            sites: sites.into_iter().map(|(_, it)| it).collect(),
            mirrors: mirrors.into_iter().map(|(_, it)| it).collect(),
            regions: regions.into_iter().map(|(_, it)| it).collect(),
        };
        self.check_room(&section?, &file);
        Some(file)
    }

    fn each<T>(
        &mut self,
        root: &'a Toml<'a>,
        name: &str,
        keys: &[&str],
        read: impl Fn(&mut Self, &Section<'a>) -> Option<T>,
    ) -> Vec<(Section<'a>, T)> {
        let sections = self.tables(root, name, keys);
        sections.into_iter().filter_map(|it| read(self, &it).map(|read| (it, read))).collect()
    }

    fn hub(&mut self, it: &Section<'a>) -> Option<HubSettings> {
        let name = self.required(it, "name", NAME, name);
        let domain = self.text(it, "domain", NAME, name_of);
        let store_dir = self.text(it, "store-dir", "a folder", path);
        let max_store = self.required(it, "max-store", SIZE, size);
        let conf_dir = self.text(it, "conf-dir", "a folder with all of its path", |text| {
            let dir = path(text)?;
            if dir.is_absolute() { Ok(dir) } else { Err("it is relative".to_owned()) }
        });
        let last_values = self.text(it, "last-values", SIZE, size);
        let ocsp = self.text(it, "ocsp", "\"off\", \"lenient\" or \"strict\"", |text| match text {
            "off" => Ok(Ocsp::Off),
            "lenient" => Ok(Ocsp::Lenient),
            "strict" => Ok(Ocsp::Strict),
            _ => Err("there is no such word".to_owned()),
        });
        Some(HubSettings {
            name: name?,
            domain: match domain {
                Some(domain) => domain,
                None => Name::new("hub").ok()?,
            },
            store_dir: store_dir.unwrap_or_else(default_store_dir),
            max_store: max_store?,
            conf_dir: conf_dir.unwrap_or_else(default_conf_dir),
            last_values,
            ocsp: ocsp.unwrap_or(Ocsp::Off),
        })
    }

    fn node(&mut self, it: &Section<'a>) -> Option<HubNode> {
        let node_name = self.required(it, "name", NAME, name);
        let hosts = self.list(it, "hosts", "names and addresses without ports", host);
        if hosts.as_ref().is_none_or(Vec::is_empty) {
            self.missing(it, "hosts", "the names and addresses by which it is reached");
        }
        let client = self.required(it, "client", ADDRESS, address);
        let leaf = self.required(it, "leaf", ADDRESS, address);
        let websocket = self.text(it, "websocket", ADDRESS, address);
        let cluster = self.text(it, "cluster", ADDRESS, address);
        Some(HubNode {
            name: node_name?,
            hosts: hosts?,
            client: client?,
            leaf: leaf?,
            websocket,
            cluster,
        })
    }

    fn stream(&mut self, it: &Section<'a>) -> Option<HubStream> {
        let stream_name = self.required(it, "name", NAME, name);
        let plants = self.list(it, "plants", NAME, name_of);
        let gateways = self.list(it, "gateways", GATEWAY, gateway);
        if let (Some(_), Some(_)) = (&plants, &gateways) {
            let message = "plants and gateways exclude each other";
            let place = it.place_of("gateways");
            self.refuse(Mistake::new(it.path_of("gateways"), place, message));
        }
        let max_bytes = self.text(it, "max-bytes", SIZE, size);
        let mirrors = self.text(it, "mirrors", "the name of a [[region]]", name_of);
        let days = self.number(it, "max-age-days", 1..=36_500);
        let max_age = days.and_then(|days| u64::try_from(days).ok());
        let takes = match (plants, gateways) {
            (Some(plants), _) => Takes::Plants(plants),
            (None, Some(gateways)) => Takes::Gateways(gateways),
            (None, None) => Takes::Every,
        };
        Some(HubStream {
            name: stream_name?,
            takes,
            max_bytes,
            max_age: max_age.map(|days| Duration::from_secs(days * 86_400)),
            mirrors,
        })
    }

    fn gateway(&mut self, it: &Section<'a>) -> Option<HubGateway> {
        let id = self.required(it, "id", GATEWAY, gateway);
        let prefix = |text: &str| TagPath::new(text).map_err(|error| error.to_string());
        let prefixes = self.list(it, "prefixes", "tag paths such as \"PlantA/Line3\"", prefix);
        let bytes = self.text(it, "bytes", SIZE, size);
        let shares = self.list(it, "shares", "\"PLANT/NAME\" or \"PLANT/*\"", share);
        let mut subjects = |key| self.list(it, key, APPLICATIONS, of_applications);
        let (app_publish, app_subscribe) = (subjects("app-publish"), subjects("app-subscribe"));
        let subject = self.text(it, "subject", "the subject of its certificate", subject);
        Some(HubGateway {
            id: id?,
            prefixes: prefixes.unwrap_or_default(),
            bytes,
            shares: shares.unwrap_or_default(),
            app_publish: app_publish.unwrap_or_default(),
            app_subscribe: app_subscribe.unwrap_or_default(),
            subject,
        })
    }

    fn site(&mut self, it: &Section<'a>) -> Option<HubSite> {
        let site_name = self.required(it, "name", NAME, name);
        let hosts = self.list(it, "hosts", "names and addresses without ports", host);
        if hosts.as_ref().is_none_or(Vec::is_empty) {
            self.missing(it, "hosts", "the names and addresses by which its gateways reach it");
        }
        let client = self.required(it, "client", ADDRESS, address);
        let leaf = self.required(it, "leaf", ADDRESS, address);
        let gateways = self.list(it, "gateways", "\"PLANT/NAME\" or \"PLANT/*\"", share);
        if gateways.as_ref().is_none_or(Vec::is_empty) {
            self.missing(it, "gateways", "the gateways that connect there");
        }
        let subject = self.text(it, "subject", "the subject of its certificate", subject);
        let (name, hosts, client, leaf) = (site_name?, hosts?, client?, leaf?);
        Some(HubSite { name, hosts, client, leaf, gateways: gateways?, subject })
    }

    fn mirror(&mut self, it: &Section<'a>) -> Option<HubMirror> {
        let mirror_name = self.required(it, "name", NAME, name);
        let subject = self.text(it, "subject", "the subject of its certificate", subject);
        Some(HubMirror { name: mirror_name?, subject })
    }

    fn region(&mut self, it: &Section<'a>) -> Option<HubRegion> {
        let region_name = self.required(it, "name", NAME, name);
        let legal = "\"tls://HOST:7422\", one for each of its servers";
        let urls = self.list(it, "urls", legal, url);
        if urls.as_ref().is_none_or(Vec::is_empty) {
            self.missing(it, "urls", "where its servers take leaf nodes");
        }
        Some(HubRegion { name: region_name?, urls: urls? })
    }

    fn person(&mut self, it: &Section<'a>) -> Option<Person> {
        let person_name = self.required(it, "name", NAME, name);
        let legal = "\"admin\", \"operator\", \"reader\" or \"application\"";
        let role = self.required(it, "role", legal, |text| {
            role(text).ok_or_else(|| "there is no such role".to_owned())
        });
        let subject = self.text(it, "subject", "the subject of the certificate", subject);
        Some(Person { name: person_name?, role: role?, subject })
    }
}

/// The role of that name.
fn role(text: &str) -> Option<Role> {
    let mut all = [Role::Admin, Role::System, Role::Reader, Role::Application].into_iter();
    all.find(|role| role.word() == text)
}

fn name(text: &str) -> Result<Name, String> {
    name_of(text)
}

fn name_of(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|_| "it is no name".to_owned())
}

fn share(text: &str) -> Result<Share, String> {
    text.parse::<Share>().map_err(|error| error.to_string())
}

fn gateway(text: &str) -> Result<GatewayId, String> {
    text.parse().map_err(|error: crate::names::GatewayIdError| error.to_string())
}

fn size(text: &str) -> Result<u64, String> {
    crate::config::size::parse(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "it is no size".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    address.ok_or_else(|| "it is no address with a port".to_owned())
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("it is no path".to_owned());
    }
    Ok(text.into())
}

/// Where a region takes leaf nodes.
fn url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("tls://").ok_or("it does not begin with tls://")?;
    match crate::config::host_and_port(host, 7422) {
        Ok((host, port)) if host.contains(':') => Ok(format!("tls://[{host}]:{port}")),
        Ok((host, port)) => Ok(format!("tls://{host}:{port}")),
        Err(why) => Err(format!("it {why}")),
    }
}

fn host(text: &str) -> Result<String, String> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match crate::config::host_and_port(text, 1) {
        Ok((host, 1)) if host == text => Ok(host),
        Ok(_) => Err("it has a port, and ports stand elsewhere".to_owned()),
        Err(why) => Err(format!("it {why}")),
    }
}

/// A subject that is neither the product's nor a server's.
fn of_applications(text: &str) -> Result<String, String> {
    const OURS: [&str; 7] = ["tide", "uns", "ask", "tidehead", "tideinfo", "tideread", "tidelast"];
    let tokens: Vec<_> = text.split('.').collect();
    let plain = |token: &str| {
        !token.is_empty()
            && !token.chars().any(|c| c.is_control() || c.is_whitespace() || c == '*' || c == '>')
    };
    let Some((first, rest)) = tokens.split_first() else { return Err("it is empty".to_owned()) };
    if !plain(first) || first.starts_with(['$', '_']) || OURS.contains(first) {
        return Err("its first word is a wildcard, or not for applications".to_owned());
    }
    let last = rest.len().saturating_sub(1);
    let legal = |(at, token): (usize, &&str)| {
        plain(token) || *token == "*" || (*token == ">" && at == last)
    };
    if !rest.iter().enumerate().all(legal) {
        return Err("it is no subject".to_owned());
    }
    Ok(text.to_owned())
}

fn subject(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("it is no subject".to_owned());
    }
    Ok(text.to_owned())
}
