//! Checks the section of the gateway's own certificate.
//!
//! # Invariants
//! - Nobody is asked for a certificate whose root was not written down by a person.
//! - A key that would do nothing beside another one is a misunderstanding, and refused.

use std::time::Duration;

use toml_span::Value as Toml;

use super::fields::{Checker, Fields};
use super::keys::Section;
use super::model::{IdentityConfig, WhenCrlStale};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

impl Checker<'_> {
    /// The section: `None` after a mistake, `Some(None)` when it is not there.
    #[expect(
        clippy::option_option,
        reason = "the outer one is about mistakes, the inner about absence"
    )]
    pub(super) fn identity(
        &mut self,
        table: Option<&Toml<'_>>,
    ) -> Option<Option<(IdentityConfig, Fields)>> {
        if table.is_none() && !self.settings.touch(Section::Identity) {
            return if self.repaired.lost_section("identity") { None } else { Some(None) };
        }
        let fields = self.once(Section::Identity, table);
        if fields.written("est") && !fields.attempted("ca-pins") {
            let message = "nothing says which authority is the right one".to_owned();
            let legal =
                "ca-pins = [\"…\"] beside it, the SHA-256 thumbprint of its root certificate";
            self.refuse(&fields, "est", message, legal);
        }
        if fields.written("token-file") && !fields.attempted("est") {
            let message = "a token is for an EST server, and there is no est".to_owned();
            self.refuse(&fields, "token-file", message, "nothing, or est and ca-pins beside it");
        }
        let file = |key| self.file_of(&fields, key);
        let days = fields.integer::<u32>("longest-offline-days")?;
        let hours = fields.integer::<u32>("crl-max-age-hours")?;
        let identity = IdentityConfig {
            dir: file("dir")?,
            est: fields.https("est").cloned(),
            ca_pins: fields.thumbprints("ca-pins").to_vec(),
            token_file: file("token-file"),
            longest_offline: DAY * days,
            crl: file("crl"),
            crl_max_age: HOUR * hours,
            when_crl_stale: match fields.text("when-crl-stale")? {
                "refuse" => WhenCrlStale::Refuse,
                _ => WhenCrlStale::Accept,
            },
            checkpoint_every: fields.duration("checkpoint-every-ms")?,
        };
        Some(Some((identity, fields)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{Config, Mistakes, parse};

    const GATEWAY: &str = "[gateway]\nplant = \"P\"\nname = \"g\"\n";
    const PIN: &str = "abababababababababababababababababababababababababababababababab";

    fn read(rest: &str) -> Result<Config, Mistakes> {
        parse(Path::new("/etc/tidegate/t.toml"), &format!("{GATEWAY}{rest}"), [], &[])
    }

    fn said(rest: &str) -> String {
        read(rest).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_section_is_an_identity_of_files() {
        assert_eq!(read("").unwrap().identity, None);
        let identity = read("[identity]").unwrap().identity.unwrap();
        assert_eq!(identity.dir, Path::new("/var/lib/tidegate/identity"));
        assert_eq!((identity.est, identity.crl), (None, None));
        assert_eq!(identity.longest_offline, DAY * 7);
        assert_eq!(identity.crl_max_age, DAY * 7);
        assert_eq!(identity.when_crl_stale, WhenCrlStale::Accept);
    }

    #[test]
    fn a_whole_section_is_read() {
        let text = format!(
            "[identity]\ndir = \"id\"\nest = \"https://ca\"\nca-pins = [\"{PIN}\"]\n\
             token-file = \"token\"\ncrl = \"crl.pem\"\nwhen-crl-stale = \"refuse\"\n\
             longest-offline-days = 30\ncrl-max-age-hours = 1\n"
        );
        let identity = read(&text).unwrap().identity.unwrap();
        assert_eq!(identity.dir, Path::new("/etc/tidegate/id"));
        assert_eq!(identity.est.unwrap().to_string(), "https://ca:443/.well-known/est");
        assert_eq!(identity.ca_pins.len(), 1);
        assert_eq!(identity.token_file, Some(PathBuf::from("/etc/tidegate/token")));
        assert_eq!(identity.crl, Some(PathBuf::from("/etc/tidegate/crl.pem")));
        assert_eq!((identity.longest_offline, identity.crl_max_age), (DAY * 30, HOUR));
        assert_eq!(identity.when_crl_stale, WhenCrlStale::Refuse);
    }

    #[test]
    fn an_authority_needs_its_pins_and_a_token_an_authority() {
        let text = said("[identity]\nest = \"https://ca\"\n");
        assert!(text.contains("which authority is the right one"), "{text}");
        let text = said("[identity]\ntoken-file = \"t\"\n");
        assert!(text.contains("there is no est"), "{text}");
        // One mistake does not cause another one.
        let text = said("[identity]\nest = \"http://ca\"\ntoken-file = \"t\"\nca-pins = []\n");
        assert!(!text.contains("no est") && !text.contains("the right one"), "{text}");
    }

    #[test]
    fn a_hub_over_tls_takes_the_identity_where_no_files_are_named() {
        let hub = "[hub]\nurls = [\"tls://hub\"]\n";
        assert!(said(hub).contains("needs certificates"), "{}", said(hub));
        let config = read(&format!("{hub}[identity]\n")).unwrap();
        assert_eq!(config.hub.unwrap().tls, None);
        // A mistake in the section is not told twice.
        let text = said(&format!("{hub}[identity]\nest = \"https://ca\"\n"));
        assert!(!text.contains("needs certificates"), "{text}");
    }

    #[test]
    fn the_identity_does_not_live_in_the_journal() {
        let text = said("[identity]\ndir = \"/var/lib/tidegate/journal/identity\"\n");
        assert!(text.contains("nothing else may live in the journal's directory"), "{text}");
    }
}
