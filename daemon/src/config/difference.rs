//! What changed between two configurations, for a reload.
//!
//! # Invariants
//! - A device is known by its name: a renamed one is removed and added.
//! - A device that is in neither list is exactly as before, whatever moved around it in the file.

use std::fmt::Debug;

use super::{Config, Device};

/// What changed between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Devices that are new, by name, in the order of the new file.
    pub added: Vec<String>,
    /// Devices that are gone, by name, in the order of the old file.
    pub removed: Vec<String>,
    /// Devices that differ, in the order of the new file.
    pub changed: Vec<ChangedDevice>,
    /// Keys outside of devices whose change applies after a restart, such as `journal.max-bytes`.
    pub restart_needed: Vec<&'static str>,
}

/// A device that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedDevice {
    /// Its name.
    pub name: String,
    /// Whether its translator is concerned. Where not, only units, deadbands and the like differ,
    /// and polling can go on.
    pub polling: bool,
}

impl Difference {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// What changed from `old` to `new`.
    #[must_use]
    pub fn difference(old: &Self, new: &Self) -> Difference {
        let named = |devices: &[Device], name: &str| {
            devices.iter().position(|device| device.name() == name)
        };
        let mut out = Difference::default();
        for device in &new.devices {
            let name = device.name();
            match named(&old.devices, name).and_then(|index| old.devices.get(index)) {
                None => out.added.push(name.to_owned()),
                Some(before) if before != device => out.changed.push(ChangedDevice {
                    name: name.to_owned(),
                    polling: before.driver != device.driver,
                }),
                Some(_) => {}
            }
        }
        let gone = old.devices.iter().filter(|d| named(&new.devices, d.name()).is_none());
        out.removed = gone.map(|device| device.name().to_owned()).collect();
        let pairs = settings(old).into_iter().zip(settings(new));
        out.restart_needed =
            pairs.filter(|(before, after)| before != after).map(|(before, _)| before.0).collect();
        out
    }
}

/// Every key outside of devices with its value, in a fixed order.
fn settings(config: &Config) -> Vec<(&'static str, String)> {
    fn text(value: &dyn Debug) -> String {
        format!("{value:?}")
    }
    let Config {
        gateway,
        hub,
        leaf,
        journal,
        uplink,
        query,
        metrics,
        control_socket,
        opcua,
        identity,
        devices: _,
    } = config;
    let identity = identity.as_ref();
    let hub = hub.as_ref();
    let tls = hub.and_then(|hub| hub.tls.as_ref());
    let proxy = hub.and_then(|hub| hub.proxy.as_ref());
    let proxy_user = proxy.and_then(|proxy| proxy.user.as_ref());
    let local = &leaf.local;
    let jetstream = local.jetstream.as_ref();
    vec![
        ("gateway.plant", text(&gateway.plant)),
        ("gateway.name", text(&gateway.name)),
        ("hub.urls", text(&hub.map(|hub| &hub.urls))),
        ("hub.stream", text(&hub.map(|hub| &hub.stream))),
        ("hub.domain", text(&hub.map(|hub| &hub.domain))),
        ("hub.proxy", text(&proxy.map(|proxy| (&proxy.host, proxy.port)))),
        ("hub.proxy-user", text(&proxy_user.map(|user| &user.name))),
        ("hub.proxy-password-file", text(&proxy_user.map(|user| &user.password_file))),
        ("hub.fail-back-after-ms", text(&hub.map(|hub| hub.fail_back_after))),
        ("hub.tls.ca", text(&tls.map(|tls| &tls.ca))),
        ("hub.tls.cert", text(&tls.map(|tls| &tls.cert))),
        ("hub.tls.key", text(&tls.map(|tls| &tls.key))),
        ("leaf.mode", text(&leaf.mode)),
        ("leaf.listen", text(&leaf.listen)),
        ("leaf.nats-server", text(&leaf.nats_server)),
        ("leaf.dir", text(&leaf.dir)),
        ("leaf.local-publish", text(&local.publish)),
        ("leaf.local-subscribe", text(&local.subscribe)),
        ("leaf.jetstream-domain", text(&jetstream.map(|jetstream| &jetstream.domain))),
        ("leaf.jetstream-max-bytes", text(&jetstream.map(|jetstream| jetstream.max_bytes))),
        ("journal.dir", text(&journal.dir)),
        ("journal.max-bytes", text(&journal.max_bytes)),
        ("journal.commit-every-ms", text(&journal.commit_every)),
        ("journal.when-full", text(&journal.when_full)),
        ("uplink.send-every-ms", text(&uplink.send_every)),
        ("uplink.max-message", text(&uplink.max_message)),
        ("uplink.backfill-limit-per-s", text(&uplink.backfill_limit)),
        ("uplink.limit-per-s", text(&uplink.limit)),
        ("query.enabled", text(&query.enabled)),
        ("query.local", text(&query.local)),
        ("query.max-concurrent", text(&query.max_concurrent)),
        ("query.max-waiting", text(&query.max_waiting)),
        ("query.max-rows", text(&query.max_rows)),
        ("query.max-seconds", text(&query.max_time)),
        ("query.max-part-bytes", text(&query.max_part_bytes)),
        ("metrics.listen", text(&metrics.as_ref().map(|metrics| metrics.listen))),
        ("control.socket", text(control_socket)),
        ("opcua.dir", text(&opcua.dir)),
        ("opcua.application-uri", text(&opcua.application_uri)),
        ("opcua.key-bits", text(&opcua.key_bits)),
        ("identity.dir", text(&identity.map(|identity| &identity.dir))),
        ("identity.est", text(&identity.map(|identity| &identity.est))),
        ("identity.ca-pins", text(&identity.map(|identity| &identity.ca_pins))),
        ("identity.token-file", text(&identity.map(|identity| &identity.token_file))),
        ("identity.longest-offline-days", text(&identity.map(|it| it.longest_offline))),
        ("identity.crl", text(&identity.map(|identity| &identity.crl))),
        ("identity.crl-max-age-hours", text(&identity.map(|it| it.crl_max_age))),
        ("identity.when-crl-stale", text(&identity.map(|it| it.when_crl_stale))),
        ("identity.checkpoint-every-ms", text(&identity.map(|it| it.checkpoint_every))),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::keys::KEYS;
    use crate::config::parse;

    const LINE: &str = include_str!("../../../examples/line.toml");

    fn config(text: &str) -> Config {
        parse(Path::new("/etc/tidegate/tidegate.toml"), text, Vec::new(), &[]).unwrap()
    }

    fn after(change: impl Fn(&str) -> String) -> Difference {
        Config::difference(&config(LINE), &config(&change(LINE)))
    }

    #[test]
    fn the_same_file_makes_no_difference() {
        assert!(after(str::to_owned).is_empty());
        assert!(after(|text| format!("# a comment\n{text}\n")).is_empty());
    }

    #[test]
    fn devices_that_moved_in_the_file_did_not_change() {
        let moved = after(|text| {
            let start = text.find("[[device]]").unwrap();
            let second = text.rfind("[[device]]").unwrap();
            format!("{}{}\n{}", &text[..start], &text[second..], &text[start..second])
        });
        assert!(moved.is_empty(), "{moved:?}");
    }

    #[test]
    fn a_renamed_device_is_removed_and_added() {
        let renamed = after(|text| text.replace("\"meter-1\"", "\"meter-2\""));
        assert_eq!(renamed.added, ["meter-2"]);
        assert_eq!(renamed.removed, ["meter-1"]);
        assert!(renamed.changed.is_empty() && renamed.restart_needed.is_empty());
    }

    #[test]
    fn a_change_of_a_tag_concerns_its_device_alone() {
        let moved = after(|text| text.replace("holding:100", "holding:90"));
        let press = |polling| vec![ChangedDevice { name: "press-1".into(), polling }];
        assert_eq!(moved, Difference { changed: press(true), ..Difference::default() });
        let band = after(|text| text.replace("deadband = 0.1", "deadband = 0.2"));
        assert_eq!(band, Difference { changed: press(false), ..Difference::default() });
    }

    #[test]
    fn settings_that_need_a_restart_are_named_by_their_keys() {
        let changed = after(|text| {
            let text = text.replace("\"8 GiB\"", "\"9 GiB\"").replace("gw.key", "other.key");
            text.replace("[metrics]\nlisten = \"127.0.0.1:9464\"", "")
        });
        assert_eq!(changed.restart_needed, ["hub.tls.key", "journal.max-bytes", "metrics.listen"]);
        assert!(changed.added.is_empty() && changed.removed.is_empty());
    }

    #[test]
    fn a_hub_that_appears_needs_a_restart() {
        let without = |text: &str| {
            let (start, end) = (text.find("[hub]").unwrap(), text.find("[leaf]").unwrap());
            format!("{}{}", &text[..start], &text[end..])
        };
        let named = after(without).restart_needed;
        assert!(named.contains(&"hub.urls") && named.contains(&"hub.tls.ca"), "{named:?}");
    }

    #[test]
    fn every_key_outside_of_devices_is_compared() {
        let compared: Vec<_> = settings(&config(LINE)).into_iter().map(|(key, _)| key).collect();
        // What only the check asks for is no part of the result.
        let held =
            KEYS.iter().filter(|key| !key.section.is_of_many() && !key.name.starts_with("allow-"));
        assert_eq!(compared.len(), held.clone().count());
        for key in held {
            assert!(compared.contains(&key.path().as_str()), "{}", key.path());
        }
    }
}
