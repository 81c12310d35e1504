//! Mirrors of a region's streams, kept by the hub of a tier above.
//!
//! # Invariants
//! - The tier above dials, as gateways do: the region opens no port for it, and it none for the
//!   region.
//! - In the region it is a user of an account of its own, MIRRORS, which holds nothing. It may make
//!   consumers in each stream and acknowledge their flow, and hears what they deliver and the
//!   answers. It cannot read by other ways, write, or reach another account.
//! - Above, the links lead into STORE, where the mirrors are; nothing that a region sends is a
//!   request or a frame there.

use super::super::Keeps;
use super::super::config::{STORE, import, only_over, permissions, tls};
use crate::config::TlsFiles;
use crate::names::Name;
use crate::nats_conf::Conf;
use crate::subjects;

/// The account of the hubs that mirror this one's streams.
const MIRRORS: &str = "MIRRORS";

/// Where a server hears the answers to the consumers that it asks for; its own choice (measured with
/// nats-server 2.15.1).
const SERVER_ANSWERS: &str = "$JSC.R.>";

/// A hub that may mirror this one's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUser {
    /// The hub's name.
    pub name: Name,
    /// The subject of the certificate that it shows, as RFC 2253 writes it.
    pub subject: String,
}

/// A hub whose streams this one mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The hub's name.
    pub name: Name,
    /// Its servers' leaf ports, as URLs.
    pub urls: Vec<String>,
    /// What this hub shows there, and whom it trusts.
    pub tls: TlsFiles,
}

/// What a stream keeps that is a mirror at `hub`.
pub(in crate::hub) fn mirror_of(stream: &Name, hub: &Name) -> Keeps {
    Keeps::Mirror {
        api: subjects::mirror_api(stream.as_str()),
        deliver: subjects::mirror_deliver(stream.as_str(), hub.as_str()),
    }
}

fn make_consumer(stream: &Name) -> String {
    format!("$JS.API.CONSUMER.CREATE.{stream}")
}

fn asked_for_consumer(stream: &Name) -> String {
    format!("{}.CONSUMER.CREATE.{stream}", subjects::mirror_api(stream.as_str()))
}

fn flow(stream: &Name) -> String {
    format!("$JS.FC.{stream}.>")
}

/// What the stream's account lends to mirrors: elements of its exports.
pub(in crate::hub) fn store_exports(conf: &mut Conf, streams: &[Name]) {
    for stream in streams {
        for (kind, subject) in [
            ("service", make_consumer(stream)),
            ("service", flow(stream)),
            ("stream", subjects::mirror_deliver(stream.as_str(), ">")),
        ] {
            conf.element(|conf| {
                conf.text(kind, &subject);
                conf.texts("accounts", &[MIRRORS]);
            });
        }
    }
}

/// The account of the hubs that mirror this one.
pub(in crate::hub) fn mirrors_account(conf: &mut Conf, users: &[MirrorUser], streams: &[Name]) {
    conf.block(MIRRORS, |conf| {
        conf.array("users", |conf| {
            for user in users {
                let publish = streams.iter().flat_map(|it| [asked_for_consumer(it), flow(it)]);
                let hears = |it: &Name| {
                    format!("{}.>", subjects::mirror_deliver(it.as_str(), user.name.as_str()))
                };
                let mut subscribe: Vec<_> = streams.iter().map(hears).collect();
                subscribe.push(SERVER_ANSWERS.to_owned());
                conf.element(|conf| {
                    conf.text("user", &user.subject);
                    only_over(conf, &["LEAFNODE"]);
                    permissions(conf, &publish.collect::<Vec<_>>(), &subscribe);
                });
            }
        });
        conf.array("imports", |conf| {
            for stream in streams {
                let asked = asked_for_consumer(stream);
                import(conf, "service", STORE, &make_consumer(stream), Some(&asked));
                import(conf, "service", STORE, &flow(stream), None);
                import(
                    conf,
                    "stream",
                    STORE,
                    &subjects::mirror_deliver(stream.as_str(), ">"),
                    None,
                );
            }
        });
    });
}

/// The links to the regions whose streams this hub mirrors: a key of the leaf listener's block.
pub(in crate::hub) fn regions_remotes(conf: &mut Conf, regions: &[Region]) {
    conf.array("remotes", |conf| {
        for region in regions {
            conf.element(|conf| {
                conf.text("account", STORE);
                conf.texts("urls", &region.urls);
                conf.set("no_randomize", true);
                conf.set("ignore_discovered_servers", true);
                conf.text("compression", "s2_better");
                conf.text("first_info_timeout", "10s");
                let ours = ["tide.>", "uns.>", "$JS.API.>", subjects::OWNERS];
                conf.texts("deny_imports", &ours);
                conf.texts("deny_exports", &ours);
                conf.block("tls", |conf| tls(conf, &region.tls));
            });
        }
    });
}
