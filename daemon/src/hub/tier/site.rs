//! A site: a server of its own between gateways and a region, such as one for a plant.
//!
//! # Invariants
//! - Two links lead to the region, as from a gateway: live values cannot starve the record there
//!   either. Streams of subjects are lent from account to account, not services, so that a reply
//!   subject stays what the gateway wrote and answers reach its own inbox alone.
//! - Frames, heads and INFO take the record's link, and so do all answers: each goes one way only,
//!   or it would be handled twice.
//! - The site's gateways are isolated from each other by their rights. Interest is not isolated
//!   here: the region's would not reach the gateways.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::config::{
    ANONYMOUS, GATEWAYS, READERS, SYSTEM, gateway_users, head, import, known_user, may_hear,
    may_publish, mutual_tls, only_over, permissions, system_users, tls,
};
use super::super::plan::{Admitted, ClientPort, HubUser, LeafPort, Role};
use crate::config::TlsFiles;
use crate::names::Name;
use crate::nats_conf::{Conf, listen_text};
use crate::subjects;

/// The account of the record's link to the region. Nobody logs in to it.
const RECORD: &str = "RECORD";

/// Everything that a site's configuration is made of.
#[derive(Debug, Clone)]
pub struct SitePlan {
    /// Unique among servers.
    pub server_name: Name,
    /// Where people of the site watch live values.
    pub client: ClientPort,
    /// Where gateways connect.
    pub leaf: LeafPort,
    /// The gateways that it serves.
    pub gateways: Vec<Admitted>,
    /// Readers and operators of the site.
    pub users: Vec<HubUser>,
    /// Whether whoever connects without credentials may watch; legal on loopback alone.
    pub anonymous: bool,
    /// The leaf ports of the region's servers, of one hub, as URLs.
    pub region: Vec<String>,
    /// What the site shows to the region, and whom it trusts there.
    pub region_tls: TlsFiles,
    /// Where the server writes down which ports it got, for ports chosen by the system (0).
    pub ports_dir: Option<PathBuf>,
}

/// A site as the region admits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The subject of its certificate, as RFC 2253 writes it.
    pub subject: String,
    /// The gateways that it speaks for.
    pub gateways: Vec<Admitted>,
}

/// Writes the configuration of a site's nats-server. The same plan always gives the same text.
#[must_use]
pub fn generate_site(plan: &SitePlan) -> String {
    let mut conf = Conf::generated("Written by tidegate; changes are overwritten.");
    head(&mut conf, &plan.server_name, &plan.client, plan.ports_dir.as_deref());
    conf.block("leafnodes", |conf| {
        conf.text("listen", &listen_text(plan.leaf.listen));
        conf.set("no_advertise", true);
        conf.text("compression", "s2_better");
        mutual_tls(conf, &plan.leaf.tls);
        // As at a gateway, for a link that is thin and long.
        conf.text("dial_timeout", "10s");
        conf.text("write_deadline", "30s");
        conf.text("write_timeout", "retry");
        conf.array("remotes", |conf| {
            conf.element(|conf| {
                remote(conf, plan, GATEWAYS);
                conf.texts("deny_exports", &of_the_record());
                conf.texts("deny_imports", &[ANSWERS]);
            });
            conf.element(|conf| remote(conf, plan, RECORD));
        });
    });
    conf.text("system_account", SYSTEM);
    if plan.anonymous {
        conf.text("no_auth_user", ANONYMOUS);
    }
    conf.block("accounts", |conf| {
        conf.block(GATEWAYS, |conf| gateways(conf, plan));
        conf.block(RECORD, record);
        conf.block(READERS, |conf| readers(conf, plan));
        conf.block(SYSTEM, |conf| system_users(conf, &plan.users));
    });
    conf.finish()
}

/// Where answers to gateways arrive.
const ANSWERS: &str = "_INBOX.>";

/// What takes the record's link.
fn of_the_record() -> [String; 3] {
    [
        subjects::EVERY_FRAMES.to_owned(),
        subjects::head("*", subjects::EVERY_FRAMES),
        subjects::info("*"),
    ]
}

fn gateways(conf: &mut Conf, plan: &SitePlan) {
    conf.array("users", |conf| gateway_users(conf, &plan.gateways, &["LEAFNODE"]));
    conf.array("exports", |conf| {
        for subject in of_the_record() {
            lend(conf, &subject, RECORD);
        }
        lend(conf, subjects::EVERY_LIVE, READERS);
    });
    conf.array("imports", |conf| import(conf, "stream", RECORD, ANSWERS, None));
}

fn record(conf: &mut Conf) {
    conf.array("exports", |conf| lend(conf, ANSWERS, GATEWAYS));
    conf.array("imports", |conf| {
        for subject in of_the_record() {
            import(conf, "stream", GATEWAYS, &subject, None);
        }
    });
}

/// Whoever watches at the site goes on watching while the region is away.
fn readers(conf: &mut Conf, plan: &SitePlan) {
    let permit = |conf: &mut Conf| {
        conf.block("permissions", |conf| {
            conf.block("publish", |conf| conf.texts("deny", &[">"]));
            conf.texts("subscribe", &[subjects::EVERY_LIVE]);
        });
    };
    conf.array("users", |conf| {
        for user in plan.users.iter().filter(|user| user.role == Role::Reader) {
            known_user(conf, user, permit);
        }
        if plan.anonymous {
            conf.element(|conf| {
                conf.text("user", ANONYMOUS);
                only_over(conf, &["STANDARD"]);
                permit(conf);
            });
        }
    });
    conf.array("imports", |conf| import(conf, "stream", GATEWAYS, subjects::EVERY_LIVE, None));
}

fn lend(conf: &mut Conf, subject: &str, account: &str) {
    conf.element(|conf| {
        conf.text("stream", subject);
        conf.texts("accounts", &[account]);
    });
}

fn remote(conf: &mut Conf, plan: &SitePlan, account: &str) {
    conf.text("account", account);
    conf.texts("urls", &plan.region);
    conf.set("no_randomize", true);
    conf.set("ignore_discovered_servers", true);
    conf.text("compression", "s2_better");
    conf.text("first_info_timeout", "10s");
    conf.block("tls", |conf| tls(conf, &plan.region_tls));
}

/// The users of the region that are sites: each may what its gateways may.
pub(in crate::hub) fn site_users(conf: &mut Conf, sites: &[Site], kinds: &[&str]) {
    for site in sites {
        let (mut publish, mut subscribe) = (BTreeSet::new(), BTreeSet::new());
        for admitted in &site.gateways {
            publish.extend(may_publish(admitted));
            subscribe.extend(may_hear(admitted));
        }
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        conf.element(|conf| {
            conf.text("user", &site.subject);
            only_over(conf, kinds);
            permissions(conf, &list(publish), &list(subscribe));
        });
    }
}
