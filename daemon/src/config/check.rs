//! From the text of a file to a [`Config`], or to every mistake in it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_translator::TagPath;
use toml_span::Value as Toml;

use super::device::linked;
use super::fields::{Checker, Fields, Table};
use super::keys::Section;
use super::list::{NO_LISTS, Noted, Source};
use super::mistake::{Mistake, Mistakes, Place};
use super::model::{
    Config, Device, Hub, HubScheme, IdentityConfig, Journal, Leaf, LeafMode, LocalQuestions,
    Metrics, OpcUa, Query, TlsFiles, Uplink, WhenFull,
};
use super::settings::{Argument, Settings};
use super::{piecemeal, suggest, syntax, value};
use crate::names::{GatewayId, Name};

/// The longest path of a Unix socket: `sun_path` of Linux holds 108 bytes with its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Checks the text of a configuration file. Pure: files that it names are not looked at, and a tag
/// list counts as one that is not there.
///
/// Relative paths in the result start at the directory of `file`.
///
/// # Errors
/// With every mistake of the file, the variables and the arguments.
pub fn parse(
    file: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    arguments: &[Argument],
) -> Result<Config, Mistakes> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let read = parse_in(directory, file, text, environment, arguments, &NO_LISTS)?;
    Ok(read.config)
}

/// The same with one tag list, in the place of that of a device.
///
/// # Errors
/// With every mistake of the file and of the list.
pub fn parse_with_list(
    file: &Path,
    text: &str,
    instead: super::Instead<'_>,
) -> Result<Loaded, Mistakes> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let lists = Source { instead: Some(instead), ..NO_LISTS };
    parse_in(directory, file, text, Vec::new(), &[], &lists)
}

/// The same with tag lists from wherever `read` finds them, and with those that were asked for.
///
/// # Errors
/// With every mistake of the file and of the lists.
pub fn parse_with_lists(
    file: &Path,
    text: &str,
    read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<(Config, Vec<PathBuf>), Mistakes> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let noted = Noted::new(read);
    let noting = |path: &Path| noted.read(path);
    let lists = Source { read: &noting, ..NO_LISTS };
    let loaded = parse_in(directory, file, text, Vec::new(), &[], &lists)?;
    Ok((loaded.config, noted.paths()))
}

/// A configuration with what only whoever edits it wants to know.
#[derive(Debug)]
pub struct Loaded {
    /// What was read.
    pub config: Config,
    /// Where the tags of each device come from, in the order of `config.devices`.
    pub origins: Vec<Origin>,
}

/// Where the tags of a device come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The device's name.
    pub device: String,
    /// What its tags' paths begin with.
    pub base_path: TagPath,
    /// The file of its own `tag-list`, where it has one.
    pub list: Option<PathBuf>,
}

/// The same, with the directory at which relative paths start, and with tag lists.
pub(super) fn parse_in(
    directory: &Path,
    file: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    arguments: &[Argument],
    lists: &Source<'_>,
) -> Result<Loaded, Mistakes> {
    let mut own = Vec::new();
    let settings = Settings::new(environment, arguments, &mut own);
    if own.is_empty()
        && let Some(read) = piecemeal::read(directory, text, &settings, lists)
    {
        return Ok(read);
    }
    whole(directory, file, text, &settings, lists, own)
}

/// Reads the file as one, and finds every mistake in it beside those that are known already.
pub(super) fn whole(
    directory: &Path,
    file: &Path,
    text: &str,
    settings: &Settings,
    lists: &Source<'_>,
    mut own: Vec<Mistake>,
) -> Result<Loaded, Mistakes> {
    let mut repaired = syntax::repair(text);
    own.append(&mut repaired.mistakes);
    let mut checker = Checker::new(&repaired, settings, lists, directory);
    checker.mistakes = own;
    let config = match toml_span::parse(&repaired.text) {
        Ok(root) => checker.config(&root),
        // The repaired text parses; were it not so, its mistakes are already listed.
        Err(_) => None,
    };
    let Checker { mut mistakes, origins, counted, .. } = checker;
    match config {
        Some(config) if mistakes.is_empty() => Ok(Loaded { config, origins }),
        _ => {
            if mistakes.is_empty() {
                // Unreachable as long as each refusal says so; a silent refusal would be worse.
                mistakes.push(Mistake::new(
                    "",
                    Place::WholeFile,
                    "the file could not be understood",
                ));
            }
            Err(Mistakes::new(file.to_owned(), text.to_owned(), mistakes).with_more(counted))
        }
    }
}

/// All sections that are written once. What holds a mistake is `None`.
pub(super) struct Sections {
    pub(super) gateway: Option<GatewayId>,
    #[expect(
        clippy::option_option,
        reason = "the outer one is about mistakes, the inner about absence"
    )]
    hub: Option<Option<Hub>>,
    leaf: Option<(Leaf, Fields)>,
    journal: Option<(Journal, Fields)>,
    uplink: Option<Uplink>,
    query: Option<Query>,
    metrics: Option<Option<(Metrics, Fields)>>,
    control: Option<(PathBuf, Fields)>,
    opcua: Option<(OpcUa, Fields)>,
    #[expect(
        clippy::option_option,
        reason = "the outer one is about mistakes, the inner about absence"
    )]
    identity: Option<Option<(IdentityConfig, Fields)>>,
}

impl Sections {
    pub(super) fn with(self, devices: Option<Vec<Device>>) -> Option<Config> {
        Some(Config {
            gateway: self.gateway?,
            hub: self.hub?,
            leaf: self.leaf?.0,
            journal: self.journal?.0,
            uplink: self.uplink?,
            query: self.query?,
            metrics: self.metrics?.map(|(metrics, _)| metrics),
            control_socket: self.control?.0,
            opcua: self.opcua?.0,
            identity: self.identity?.map(|(identity, _)| identity),
            devices: devices?,
        })
    }
}

impl Checker<'_> {
    fn config(&mut self, root: &Toml<'_>) -> Option<Config> {
        let sections = self.sections(root);
        let devices = self.devices(root, sections.gateway.as_ref());
        sections.with(devices)
    }

    /// Everything but the devices.
    pub(super) fn sections(&mut self, root: &Toml<'_>) -> Sections {
        let directory = self.directory;
        self.unknown_sections(root);
        let gateway = self.gateway(root);
        let identity = self.identity(child(root, "identity"));
        // One with a mistake in it is there all the same.
        let has_identity = !matches!(identity, Some(None));
        let sections = Sections {
            opcua: self.opcua(child(root, "opcua"), gateway.as_ref()),
            gateway,
            hub: self.hub(root, has_identity),
            leaf: self.leaf(root, directory),
            journal: self.journal(root, directory),
            uplink: self.uplink(root),
            query: self.query(root),
            metrics: self.metrics(root),
            control: self.control(root, directory),
            identity,
        };
        let Sections { leaf, journal, metrics, control, opcua, identity, .. } = &sections;
        if let (Some(Some(hub)), Some((_, fields))) = (&sections.hub, leaf) {
            self.domains_that_meet(&hub.domain, fields);
        }
        let others = [
            leaf.as_ref().map(|(leaf, fields)| (&leaf.dir, fields, "dir")),
            control.as_ref().map(|(socket, fields)| (socket, fields, "socket")),
            opcua.as_ref().map(|(opcua, fields)| (&opcua.dir, fields, "dir")),
            identity.as_ref().and_then(Option::as_ref).map(|(id, fields)| (&id.dir, fields, "dir")),
        ];
        self.inside_the_journal(journal, others.into_iter().flatten());
        self.one_port_twice(leaf, metrics);
        sections
    }

    fn unknown_sections(&mut self, root: &Toml<'_>) {
        let names: Vec<&str> = Section::ALL
            .into_iter()
            .map(Section::path)
            .filter(|path| !path.contains('.'))
            .collect();
        for (key, value) in root.as_table().into_iter().flatten() {
            let name = key.name.as_ref();
            if names.contains(&name) {
                continue;
            }
            let near = suggest::nearest(name, names.iter().copied());
            let mistake = if value.as_table().is_some() || value.as_array().is_some() {
                Mistake::new(name, key.span.into(), "unknown section")
            } else {
                Mistake::new(name, key.span.into(), "the setting stands in no section")
            };
            self.mistakes.push(
                mistake
                    .value(name)
                    .legal(format!("the sections {}", names.join(", ")))
                    .suggest(near),
            );
        }
    }

    /// The fields of a section that may be written once.
    pub(super) fn once(&mut self, section: Section, table: Option<&Toml<'_>>) -> Fields {
        let list = table.and_then(Toml::as_array);
        if let Some(list) = list {
            let place = list.first().map_or(Place::WholeFile, |first| self.header(first));
            let message = "the section is written once, with single brackets";
            self.mistakes
                .push(Mistake::new(section.path(), place, message).legal(section.header()));
        }
        // What stands in the first of many is checked all the same.
        let table = match list {
            Some(list) => list.first(),
            None => table,
        };
        let table = table.map_or(Table::Missing, Table::Toml);
        self.fields(section, section.path().to_owned(), table, None, None, None)
    }

    fn gateway(&mut self, root: &Toml<'_>) -> Option<GatewayId> {
        let fields = self.once(Section::Gateway, child(root, "gateway"));
        let plant = Name::new(fields.text("plant")?).ok()?;
        Some(GatewayId { plant, name: Name::new(fields.text("name")?).ok()? })
    }

    /// `None` after a mistake, `Some(None)` when there is no hub.
    #[expect(
        clippy::option_option,
        reason = "the outer one is about mistakes, the inner about absence"
    )]
    fn hub(&mut self, root: &Toml<'_>, has_identity: bool) -> Option<Option<Hub>> {
        let table = child(root, "hub");
        let touched = self.settings.touch(Section::Hub) || self.settings.touch(Section::HubTls);
        if table.is_none() && !touched {
            return if self.repaired.lost_section("hub") { None } else { Some(None) };
        }
        let fields = self.once(Section::Hub, table);
        let before = self.mistakes.len();
        let tls_table = table.and_then(|table| child(table, "tls"));
        let tls = if tls_table.is_some() || self.settings.touch(Section::HubTls) {
            let tls = self.once(Section::HubTls, tls_table);
            self.tls_files(&tls)
        } else {
            None
        };
        let tls_is_wrong = self.mistakes.len() > before
            || matches!(fields.header, Place::File { start, .. } if self.repaired.lost_key(start, "tls"))
            || self.repaired.lost_section("hub.tls");
        let urls = fields.urls("urls")?;
        for (index, (url, place)) in urls.iter().enumerate() {
            let path = format!("hub.urls[{index}]");
            let shown = url.to_string();
            if url.scheme.is_tls() && tls.is_none() && !tls_is_wrong && !has_identity {
                let message = format!(
                    "{shown} needs certificates, and there is neither tls in [hub] nor [identity]"
                );
                let legal = r#"tls = { ca = "ca.pem", cert = "gw.pem", key = "gw.key" } in [hub], or [identity]"#;
                let mistake = Mistake::new(path, place.clone(), message).value(shown);
                self.mistakes.push(mistake.legal(legal));
            } else if !url.scheme.is_tls()
                && !value::is_loopback(&url.host)
                && !fields.flag("allow-plaintext")
            {
                let message = format!("{shown} would cross the network in plaintext");
                let tls = super::HubUrl { scheme: HubScheme::Tls, ..url.clone() };
                let legal = format!(
                    "\"{tls}\", or allow-plaintext = true in [hub] to accept that anyone on the way \
                     can read and change it"
                );
                let mistake = Mistake::new(path, place.clone(), message).value(shown);
                self.mistakes.push(mistake.legal(legal));
            } else if urls[..index].iter().any(|(other, _)| other == url) {
                let first = urls.iter().find(|(other, _)| other == url);
                let other = first.map_or(Place::WholeFile, |(_, place)| place.clone());
                self.mistakes.push(
                    Mistake::new(path, place.clone(), format!("{shown} is in the list twice"))
                        .legal("each URL once")
                        .other(other, "first written here"),
                );
            }
        }
        self.one_kind_of_url(urls);
        self.fail_back(&fields, urls.len());
        let hub = Hub {
            proxy: self.proxy(&fields, urls),
            urls: urls.iter().map(|(url, _)| url.clone()).collect(),
            tls,
            stream: fields.text("stream")?.to_owned(),
            domain: fields.text("domain")?.to_owned(),
            fail_back_after: fields.duration("fail-back-after-ms"),
        };
        Some(Some(hub))
    }

    fn tls_files(&self, fields: &Fields) -> Option<TlsFiles> {
        Some(TlsFiles {
            ca: self.file_of(fields, "ca")?,
            cert: self.file_of(fields, "cert")?,
            key: self.file_of(fields, "key")?,
        })
    }

    fn leaf(&mut self, root: &Toml<'_>, directory: &Path) -> Option<(Leaf, Fields)> {
        let fields = self.once(Section::Leaf, child(root, "leaf"));
        let listen = self.listen(&fields)?;
        let mode = match fields.text("mode")? {
            "external" => LeafMode::External,
            _ => LeafMode::Managed,
        };
        if mode == LeafMode::External && listen.port() == 0 {
            // Only a child can be asked which one it got.
            let message = "a server that somebody else runs has to listen where it is looked for";
            let legal = "a port, like \"127.0.0.1:4222\", or mode = \"managed\"";
            self.refuse(&fields, "listen", message.to_owned(), legal);
        }
        let nats_server = fields.file("nats-server").map(|path| directory.join(path));
        let dir = directory.join(fields.file("dir")?);
        let local = self.local_apps(&fields);
        Some((Leaf { mode, listen, nats_server, dir, local }, fields))
    }

    fn journal(&mut self, root: &Toml<'_>, directory: &Path) -> Option<(Journal, Fields)> {
        let fields = self.once(Section::Journal, child(root, "journal"));
        let journal = Journal {
            dir: directory.join(fields.file("dir")?),
            max_bytes: fields.size("max-bytes")?,
            commit_every: fields.duration("commit-every-ms")?,
            when_full: match fields.text("when-full")? {
                "stop-recording" => WhenFull::StopRecording,
                _ => WhenFull::DropOldest,
            },
        };
        Some((journal, fields))
    }

    fn uplink(&mut self, root: &Toml<'_>) -> Option<Uplink> {
        let fields = self.once(Section::Uplink, child(root, "uplink"));
        Some(Uplink {
            send_every: fields.duration("send-every-ms")?,
            max_message: usize::try_from(fields.size("max-message")?).ok()?,
            backfill_limit: fields.size("backfill-limit-per-s"),
            limit: fields.size("limit-per-s"),
        })
    }

    fn query(&mut self, root: &Toml<'_>) -> Option<Query> {
        let fields = self.once(Section::Query, child(root, "query"));
        let enabled = fields.flag("enabled");
        let local = match fields.text("local")? {
            _ if !enabled => LocalQuestions::None,
            "none" => LocalQuestions::None,
            "gateway" => LocalQuestions::Gateway,
            _ => LocalQuestions::Fleet,
        };
        Some(Query {
            enabled,
            local,
            max_concurrent: fields.integer("max-concurrent")?,
            max_waiting: fields.integer("max-waiting")?,
            max_rows: fields.integer("max-rows")?,
            max_time: Duration::from_secs(fields.integer("max-seconds")?),
            max_part_bytes: usize::try_from(fields.size("max-part-bytes")?).ok()?,
        })
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is about mistakes, the inner about absence"
    )]
    fn metrics(&mut self, root: &Toml<'_>) -> Option<Option<(Metrics, Fields)>> {
        let table = child(root, "metrics");
        if table.is_none() && !self.settings.touch(Section::Metrics) {
            return Some(None);
        }
        let fields = self.once(Section::Metrics, table);
        let listen = self.listen(&fields)?;
        Some(Some((Metrics { listen }, fields)))
    }

    fn control(&mut self, root: &Toml<'_>, directory: &Path) -> Option<(PathBuf, Fields)> {
        let fields = self.once(Section::Control, child(root, "control"));
        let socket = directory.join(fields.file("socket")?);
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let message = format!("the path has {length} bytes");
            self.refuse(&fields, "socket", message, &format!("at most {MAX_SOCKET_PATH} bytes"));
        }
        Some((socket, fields))
    }

    /// A listener that other machines reach must be written twice.
    fn listen(&mut self, fields: &Fields) -> Option<SocketAddr> {
        let listen = fields.listen("listen")?;
        if !listen.ip().to_canonical().is_loopback() && !fields.flag("allow-remote") {
            let message = format!("other machines would reach {listen}");
            let legal = format!(
                "\"127.0.0.1:{}\", or allow-remote = true in [{}]",
                listen.port(),
                fields.path
            );
            self.refuse(fields, "listen", message, &legal);
        }
        Some(listen)
    }

    /// Other things in the journal's directory: a path with the table and the key it stands in.
    fn inside_the_journal<'p>(
        &mut self,
        journal: &Option<(Journal, Fields)>,
        others: impl Iterator<Item = (&'p PathBuf, &'p Fields, &'static str)>,
    ) {
        let Some((journal, own)) = journal else { return };
        let legal = format!("a path outside of {}", journal.dir.display());
        let message = "nothing else may live in the journal's directory";
        for (_, fields, key) in others.filter(|(path, ..)| path.starts_with(&journal.dir)) {
            let mistake = fields.mistake(key, message).legal(legal.clone());
            self.mistakes.push(mistake.other(own.place("dir"), "the journal's directory"));
        }
    }

    /// Two listeners on one port.
    fn one_port_twice(
        &mut self,
        leaf: &Option<(Leaf, Fields)>,
        metrics: &Option<Option<(Metrics, Fields)>>,
    ) {
        if let (Some((leaf, leaf_fields)), Some(Some((metrics, fields)))) = (leaf, metrics) {
            let same_ip = leaf.listen.ip() == metrics.listen.ip()
                || leaf.listen.ip().is_unspecified()
                || metrics.listen.ip().is_unspecified();
            if leaf.listen.port() == metrics.listen.port() && leaf.listen.port() != 0 && same_ip {
                let message = format!("port {} is the leaf's already", metrics.listen.port());
                let mistake = fields.mistake("listen", message).legal("another port");
                self.mistakes
                    .push(mistake.other(leaf_fields.place("listen"), "the leaf listens here"));
            }
        }
    }

    fn devices(&mut self, root: &Toml<'_>, gateway: Option<&GatewayId>) -> Option<Vec<Device>> {
        let no_parent = Fields::root();
        // With no legal plant the paths are compared under a stand-in.
        let plant = gateway.map_or("?", |gateway| gateway.plant.as_str());
        let profiles = self.profiles(root);
        let (mut read, mut ways) = (Vec::new(), Vec::new());
        for (index, table) in self.tables(Section::Device, &no_parent, root).into_iter().enumerate()
        {
            let index = index + self.repaired.lost_headers("device", 0..table.span.start);
            let (device, way) = self.device(index, table, plant, &profiles);
            read.push(device);
            ways.push(way);
        }
        let before = self.mistakes.len();
        let links = self.links(&ways);
        self.unused_profiles(&profiles);
        self.duplicate_names(&read);
        self.duplicate_paths(&read);
        self.subjects_that_meet(&read);
        for device in &read {
            self.overlaps(device);
        }
        self.tell_once(before);
        linked(read.into_iter().map(|read| read.device).collect::<Option<_>>()?, links)
    }
}

fn child<'t>(table: &'t Toml<'t>, key: &str) -> Option<&'t Toml<'t>> {
    table.as_table()?.get(key)
}
