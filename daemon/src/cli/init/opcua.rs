//! What `tidegate init --opcua` writes of a server.
//!
//! # Invariants
//! - The certificate that is shown to the server, and where its own one waits for approval, are
//!   those of the configuration that is written: what is approved now counts later.
//! - Protection is left out only where somebody wrote so.

use std::path::{Path, PathBuf};

use tidegate_identity::opcua::{KeyBits, OwnSpec};
use tidegate_opcua::probe::{Cause, Holdings};
use tidegate_opcua::{DeviceSpec, Mode, Security, Stage, UserSpec};

use super::super::browse::Looked;
use super::super::browse::list;
use super::super::exit::{self, Failure};
use super::super::probe::opcua::access::{Access, WayArgs, plain, throw_away, url};
use super::super::probe::opcua::credentials::Files;
use super::super::probe::opcua::reason;
use super::super::terminal::count;
use super::places::Places;
use crate::names::Name;
use crate::toml_text::quoted;

/// Variables that stand in the file itself where no tag list can stand beside it.
const INLINE: usize = 20;

/// What stands in the configuration, and beside it.
pub(super) struct Section {
    /// The device.
    pub(super) text: String,
    /// The tag list: its name and its content.
    pub(super) list: Option<(PathBuf, Vec<u8>)>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// How the server is spoken to, with the identity that the configuration will have.
pub(super) fn access(
    text: &str,
    way: &WayArgs,
    plant: &Name,
    name: &Name,
    places: &Places,
) -> Result<Access, Failure> {
    let url = url(text).map_err(|why| Failure::new(exit::USAGE, format!("--opcua: {why}")))?;
    let mut spec = plain(url);
    way.overlay(&mut spec)?;
    let (credentials, store) = match &places.opcua {
        None => (throw_away()?, None),
        Some(dir) => {
            let own = OwnSpec {
                application_uri: format!("urn:tidegate:{plant}:{name}"),
                host: None,
                common_name: format!("tidegate {plant} {name}"),
                key: KeyBits::default(),
            };
            (Files::folder(dir, own), Some(format!("--config {}", places.file.display())))
        }
    };
    let mut access = Access { spec, credentials, store };
    way.ask(&mut access)?;
    Ok(access)
}

/// The section for what was found.
///
/// # Errors
/// When the server cannot be reached, or offers nothing that is wanted: then nothing is written.
pub(super) fn section(
    access: &Access,
    looked: &Looked,
    subtree: Option<&str>,
    plant: &Name,
    places: &Places,
) -> Result<Section, Failure> {
    let mut notes = Vec::new();
    if looked.interrupted {
        return Err(Failure::new(exit::NO, format!("interrupted: {}", looked.holdings.doing)));
    }
    if let Some(cause) = &looked.cause {
        if !can_wait(cause) {
            return Err(reason::failure(access, cause, looked.findings.clock));
        }
        notes.push(format!(
            "the server did not let us in yet: {}",
            reason::why(access, cause, looked.findings.clock)
        ));
    }
    let spec = &access.spec;
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("[[device]]");
    line("name = \"plc-1\"");
    line("protocol = \"opcua\"");
    line(&format!("address = {}", quoted(&spec.url.to_string())));
    for key in keys(spec) {
        line(&key);
    }
    line("poll-every-ms = 1000              # the sampling interval that the server is asked for");
    line(&format!("base-path = \"{plant}/Line1/Plc1\"   # each tag's path begins with this"));
    let found = list::tags(&looked.holdings);
    let mut written = None;
    match (subtree, &looked.cause) {
        (Some(address), _) => {
            line("");
            if looked.cause.is_none() {
                line(&format!("# {} are below it today.", count(found, "variable")));
            }
            line("[[device.tag]]");
            line(&format!("path = {}", quoted(&branch(&looked.holdings))));
            line(&format!("address = {}", quoted(address)));
            line("subtree = true");
            line("# include = [\"**/Temperature\"]");
            line("# exclude = [\"Diagnostics/**\"]");
        }
        (None, None) if found > 0 => match &places.list {
            Some(name) => {
                line(&format!(
                    "tag-list = {}             # {found} tags",
                    quoted(&name.to_string_lossy())
                ));
                written = Some((name.clone(), list::write(&looked.holdings)));
            }
            None => {
                for tag in inline(&looked.holdings) {
                    line("");
                    line(&tag);
                }
                let most = u64::try_from(INLINE).unwrap_or(u64::MAX);
                if found > most {
                    notes.push(format!(
                        "the first {INLINE} of {} are written; with --output FILE all of them are, \
                         into a tag list",
                        count(found, "variable")
                    ));
                }
            }
        },
        (None, _) => {
            line("");
            line(
                "# tidegate browse --config THIS-FILE --device plc-1 --csv plc-1.csv writes a list of",
            );
            line(
                "# all tags; tag-list = \"plc-1.csv\" in the device takes it. Until then the clock:",
            );
            line("[[device.tag]]");
            line("path = \"server-time\"");
            line("address = \"i=2258\"");
        }
    }
    notes.extend(looked.holdings.notes.iter().cloned());
    notes.extend(list::left_out(&looked.holdings));
    Ok(Section { text, list: written, notes })
}

/// Whether what is in the way is to be settled at the server or by an approval, with the
/// configuration there.
const fn can_wait(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Distrust(_)
            | Cause::Status { stage: Stage::Channel | Stage::CreateSession | Stage::Activate, .. }
            | Cause::Silent { stage: Stage::Channel | Stage::CreateSession | Stage::Activate, .. }
    )
}

/// The keys that were given, as the configuration writes them.
fn keys(spec: &DeviceSpec) -> Vec<String> {
    let mut keys = Vec::new();
    match spec.security {
        Security::None => keys.push(
            "security = \"none\"                 # anybody on the way can read and change everything"
                .to_owned(),
        ),
        Security::Protected { policy, mode } => {
            if let Some(policy) = policy {
                let policy = tidegate_opcua::probe::OfferedPolicy::Known(policy);
                let word = tidegate_opcua::probe::wording::security_word(&policy);
                keys.push(format!("security = {}", quoted(word)));
            }
            if mode == Mode::Sign {
                keys.push("message-mode = \"sign\"".to_owned());
            }
        }
    }
    match &spec.user {
        UserSpec::Anonymous => {}
        UserSpec::Password { name, file } => {
            let asked = file.as_os_str().is_empty();
            let file = if asked { PathBuf::from("plc-1.password") } else { whole(file) };
            let note = if asked { "  # write the password alone into it; chmod 600" } else { "" };
            keys.push(format!("user = {}", quoted(name)));
            keys.push(format!("password-file = {}{note}", quoted(&file.to_string_lossy())));
        }
        UserSpec::Certificate { cert, key } => {
            keys.push(format!("user-cert = {}", quoted(&whole(cert).to_string_lossy())));
            keys.push(format!("user-key = {}", quoted(&whole(key).to_string_lossy())));
        }
    }
    let protected = spec.security != Security::None;
    if protected && !spec.trust.thumbprints.is_empty() {
        let all: Vec<String> =
            spec.trust.thumbprints.iter().map(|print| quoted(&print.to_string())).collect();
        keys.push(format!("trust = [{}]", all.join(", ")));
    }
    if protected && spec.trust.any_host {
        keys.push("check-host = false".to_owned());
    }
    if spec.follow_advertised {
        keys.push("advertised-url = \"follow\"".to_owned());
    }
    keys
}

/// A path means the same in the configuration, wherever that lies.
fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What the paths of a subtree begin with: the name of its object.
fn branch(holdings: &Holdings) -> String {
    let name: String =
        holdings.root.0.chars().map(|c| if c == '/' || c.is_control() { '-' } else { c }).collect();
    let name = name.trim();
    if name.is_empty() { "objects".to_owned() } else { name.to_owned() }
}

fn inline(holdings: &Holdings) -> Vec<String> {
    let tags = list::listed(holdings).take(INLINE).filter_map(|(address, variable)| {
        let path = variable.path.as_ref()?;
        let mut tag = format!(
            "[[device.tag]]\npath = {}\naddress = {}",
            quoted(path.as_str()),
            quoted(address)
        );
        if let Some(unit) = &variable.unit {
            tag.push_str(&format!("\nunit = {}", quoted(unit)));
        }
        Some(tag)
    });
    tags.collect()
}

#[cfg(test)]
mod tests {
    use tidegate_opcua::probe::{Class, Holding, Variable};
    use tidegate_opcua::{Distrust, DistrustKind, NodeAddress, Thumbprint};
    use tidegate_translator::TagPath;

    use super::super::{InitArgs, run};
    use super::*;
    use crate::config::{self, Config};

    fn variable(path: &str, address: &str) -> Holding {
        Holding {
            depth: 1,
            name: path.to_owned(),
            class: Class::Variable,
            address: address.to_owned(),
            variable: Some(Variable {
                path: TagPath::new(path).ok(),
                data_type: "Double".to_owned(),
                scalar: true,
                unit: Some("mm".to_owned()),
                trouble: None,
                value: None,
            }),
        }
    }

    fn found() -> Looked {
        let nodes =
            vec![variable("Axis/Position", "nsu=urn:p;s=a\"b"), variable("Speed", "nsu=urn:p;i=7")];
        let root = ("Press/1".to_owned(), "nsu=urn:p;s=Press".to_owned());
        Looked { holdings: Holdings { nodes, root, ..Holdings::default() }, ..Looked::default() }
    }

    fn refused(cause: Cause) -> Looked {
        Looked { cause: Some(cause), ..Looked::default() }
    }

    fn unknown() -> Cause {
        Cause::Distrust(Distrust {
            kind: DistrustKind::Unknown,
            text: "certificate abab of \"CN=p\" is not approved; approve it".to_owned(),
            thumbprint: Some(Thumbprint([0xab; 32])),
        })
    }

    /// Runs the command with these arguments at a server that answers like this.
    fn outcome(dir: &Path, words: &[&str], looked: fn() -> Looked) -> (u8, String, String) {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            init: InitArgs,
        }
        let output = dir.join("tidegate.toml").display().to_string();
        let line = [&["init", "--opcua", "plc", "--output", &output][..], words].concat();
        let args = Line::parse_from(line).init;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, Some("gw-1"), &mut |_, _| looked(), &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn loaded(dir: &Path) -> Config {
        let file = dir.join("tidegate.toml");
        config::load(&file, Vec::new(), &[]).unwrap_or_else(|error| {
            let text = std::fs::read_to_string(&file).unwrap();
            panic!("{}\n{text}", crate::causes::chain(&error));
        })
    }

    #[test]
    fn what_a_server_holds_becomes_a_tag_list_beside_a_legal_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let (code, out, err) = outcome(dir.path(), &[], found);
        assert_eq!((code, err.as_str()), (exit::OK, ""), "{out}");
        assert!(dir.path().join("plc-1.csv").exists(), "{out}");
        let config = loaded(dir.path());
        let device = &config.devices[0];
        assert_eq!(device.opcua().unwrap().url.to_string(), "opc.tcp://plc:4840");
        let paths: Vec<_> = device.tags.iter().map(|tag| tag.path.to_string()).collect();
        assert_eq!(paths, ["PlantA/Line1/Plc1/Axis/Position", "PlantA/Line1/Plc1/Speed"]);
        assert_eq!(config.opcua.dir, dir.path().join("tidegate-data/opcua"));
        assert_eq!(config.opcua.application_uri, "urn:tidegate:PlantA:gw-1");
        // Nothing that exists is replaced.
        assert_eq!(outcome(dir.path(), &[], found).0, exit::USAGE);
        assert_eq!(outcome(dir.path(), &["--force"], found).0, exit::OK);
    }

    #[test]
    fn a_subtree_is_one_tag_that_stands_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let words = ["--subtree", "nsu=urn:p;s=Press"];
        assert_eq!(outcome(dir.path(), &words, found).0, exit::OK);
        let config = loaded(dir.path());
        let spec = config.devices[0].opcua().unwrap();
        assert_eq!((spec.tags.len(), spec.subtrees.len()), (0, 1));
        assert_eq!(spec.subtrees[0].path.as_str(), "PlantA/Line1/Plc1/Press-1");
        assert_eq!(spec.subtrees[0].node, NodeAddress::parse("nsu=urn:p;s=Press").unwrap());
    }

    #[test]
    fn what_was_given_stands_in_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let print = "ab".repeat(32);
        let words = [
            "--security",
            "basic256sha256",
            "--message-mode",
            "sign",
            "--user",
            "line \"3\"",
            "--password-file",
            "/etc/tidegate/plc.pw",
            "--trust",
            &print,
            "--any-host",
            "--follow-advertised",
        ];
        assert_eq!(outcome(dir.path(), &words, found).0, exit::OK);
        let config = loaded(dir.path());
        let spec = config.devices[0].opcua().unwrap();
        let policy = Some(tidegate_opcua::Policy::Basic256Sha256);
        assert_eq!(spec.security, Security::Protected { policy, mode: Mode::Sign });
        let user =
            UserSpec::Password { name: "line \"3\"".into(), file: "/etc/tidegate/plc.pw".into() };
        assert_eq!(spec.user, user);
        assert_eq!(spec.trust.thumbprints[..], [Thumbprint([0xab; 32])]);
        assert!(spec.trust.any_host && spec.follow_advertised);

        let other = tempfile::tempdir().unwrap();
        let words = ["--security", "none", "--any-host", "--trust", &print];
        assert_eq!(outcome(other.path(), &words, found).0, exit::OK);
        assert_eq!(loaded(other.path()).devices[0].opcua().unwrap().security, Security::None);
    }

    #[test]
    fn a_server_that_has_to_be_approved_gets_a_legal_configuration_and_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let (code, out, err) = outcome(dir.path(), &[], || refused(unknown()));
        assert_eq!(code, exit::OK);
        let command = format!(
            "\"tidegate identity trust approve {} --config {}\"",
            "ab".repeat(8),
            dir.path().join("tidegate.toml").display()
        );
        assert!(err.contains(&command), "{err}");
        assert!(out.contains("tidegate browse --config"), "{out}");
        assert_eq!(loaded(dir.path()).devices[0].tags.len(), 1);
    }

    #[test]
    fn where_nobody_answers_or_nothing_fits_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let nobody =
            || refused(Cause::NoSuchName { host: "plc".to_owned(), said: "unknown".to_owned() });
        let (code, _, err) = outcome(dir.path(), &[], nobody);
        assert_eq!(code, exit::PEER);
        assert!(err.starts_with("error: the name plc has no address"), "{err}");
        let nothing = || refused(Cause::NoEndpoint { offered: Vec::new() });
        assert_eq!(outcome(dir.path(), &[], nothing).0, exit::NO);
        assert!(!dir.path().join("tidegate.toml").exists());
    }
}
