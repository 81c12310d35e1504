//! The leaf's nats-server configuration, from a plan.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::apps;
use super::credentials::Credentials;
use crate::config::{
    Config, HubScheme, HubUrl, LeafMode, LocalApps, LocalQuestions, Proxy, TlsFiles,
};
use crate::names::GatewayId;
use crate::nats_conf::{Conf, MAX_PAYLOAD, listen_text, text_of};
use crate::subjects;
use crate::wan::ProxyAccess;

/// The account of live values, questions and local applications.
pub(super) const LIVE: &str = "LIVE";
/// The account of the record: the daemon alone.
pub(super) const RECORD: &str = "RECORD";
/// The account over which a service is told to read its configuration again: the daemon alone.
const SYSTEM: &str = "SYS";
/// The user behind local connections without credentials.
const LOCAL: &str = "local";

/// The most that a slow connection may have waiting, in bytes: sixteen of the largest messages.
const MAX_PENDING: u32 = 16 << 20;
/// Local applications and the daemon's own two connections.
const MAX_CONNECTIONS: u32 = 256;
/// Per connection; a local application that asks for more is out of hand.
const MAX_SUBSCRIPTIONS: u32 = 4_096;

/// Everything that a leaf's configuration is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafPlan {
    /// Whose leaf it is. Its name is the server's: two leaves of one name push each other off
    /// the hub about once a second.
    pub gateway: GatewayId,
    /// Who runs it. A service is spoken to over its system account, a child by signals and its log.
    pub mode: LeafMode,
    /// The client listener; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where a child writes down which port it got, and where streams are kept.
    pub ports_dir: PathBuf,
    /// The hub; without it the leaf serves local applications only.
    pub hub: Option<HubLink>,
    /// What local applications may do beside listening to live values.
    pub local: LocalApps,
    /// Whom local applications may ask.
    pub questions: LocalQuestions,
    /// Where local applications publish what is recorded.
    pub ingest: Arc<[Box<str>]>,
}

/// How the leaf reaches the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct HubLink {
    /// Leaf-node URLs of one hub.
    pub urls: Vec<HubUrl>,
    /// Whom to trust and who we are. Without it only URLs in plaintext are dialled: there may be no
    /// certificate yet.
    pub tls: Option<TlsFiles>,
    /// The stream that collects frames.
    pub stream: String,
    /// The proxy that leads to the URLs, which are WebSockets then.
    pub proxy: Option<Arc<ProxyAccess>>,
}

/// How each link is dialled in this life of the leaf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dialled {
    pub(super) live: Dial,
    pub(super) record: Dial,
}

impl Dialled {
    /// In a line: a service outlives the daemon, and a remote that it has given up must not be met
    /// again.
    pub(super) fn line(self) -> String {
        let Self { live, record } = self;
        format!("{} {} {} {}\n", live.number, live.skip, record.number, record.skip)
    }

    /// From such a line; nothing where it is none.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut dial = || Some(Dial { number: numbers.next()?.ok()?, skip: numbers.next()?.ok()? });
        Some(Self { live: dial()?, record: dial()? })
    }
}

/// How a link is dialled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dial {
    /// How often it was dialled anew.
    number: u32,
    /// How many of the URLs are passed over to begin with.
    skip: u32,
}

impl Dial {
    /// Anew, from the first URL on.
    pub(super) const fn again(self) -> Self {
        Self { number: self.number.wrapping_add(1), skip: 0 }
    }

    /// Anew, beginning with the next URL: a server that hangs takes connections and says nothing.
    pub(super) const fn next(self) -> Self {
        Self { number: self.number.wrapping_add(1), skip: self.skip.wrapping_add(1) }
    }
}

/// Why a plan is no leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafPlanError {
    /// nats-server reads its configuration as Unicode.
    #[error("path {path} is not Unicode; choose another one", path = path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A hub without an address.
    #[error("hub without URL; write at least one into [hub] urls")]
    NoUrl,
}

impl HubLink {
    /// Those of the URLs that can be dialled with what there is.
    fn dialled_urls(&self) -> impl Iterator<Item = &HubUrl> {
        self.urls.iter().filter(|url| !url.scheme.is_tls() || self.tls.is_some())
    }
}

impl LeafPlan {
    /// The plan that a checked configuration asks for, with the proxy and its password.
    #[must_use]
    pub fn of(config: &Config, proxy: Option<Arc<ProxyAccess>>) -> Self {
        Self {
            gateway: config.gateway.clone(),
            mode: config.leaf.mode,
            listen: config.leaf.listen,
            ports_dir: config.leaf.dir.clone(),
            hub: config.hub.as_ref().map(|hub| HubLink {
                urls: hub.urls.clone(),
                tls: hub.tls.clone(),
                stream: hub.stream.clone(),
                proxy,
            }),
            local: config.leaf.local.clone(),
            questions: config.query.local,
            ingest: ingest_subjects(config),
        }
    }
}

/// Where local applications publish what is recorded.
pub(crate) fn ingest_subjects(config: &Config) -> Arc<[Box<str>]> {
    let fed = config.devices.iter().filter_map(|device| device.ingest());
    fed.flat_map(|spec| spec.subjects.iter().cloned()).collect()
}

/// Writes the configuration of a leaf. The same plan and credentials always give the same text.
/// The text holds the passwords of the daemon's users.
///
/// # Errors
/// When a path cannot be written down, or the hub has no URL.
pub fn generate(plan: &LeafPlan, credentials: &Credentials) -> Result<String, LeafPlanError> {
    generate_again(plan, credentials, Dialled::default())
}

/// [`generate`] for a leaf that runs and is to dial links anew.
pub(super) fn generate_again(
    plan: &LeafPlan,
    credentials: &Credentials,
    dialled: Dialled,
) -> Result<String, LeafPlanError> {
    let tls = plan.hub.iter().filter_map(|hub| hub.tls.as_ref());
    let paths = tls.flat_map(|files| [&files.ca, &files.cert, &files.key]).chain([&plan.ports_dir]);
    for path in paths {
        if path.to_str().is_none() {
            return Err(LeafPlanError::Path { path: path.clone() });
        }
    }
    if plan.hub.as_ref().is_some_and(|hub| hub.urls.is_empty()) {
        return Err(LeafPlanError::NoUrl);
    }
    let mut conf = Conf::generated("Written by tidegate at every start; changes are overwritten.");
    conf.text("server_name", &plan.gateway.to_string());
    conf.text("listen", &listen_text(plan.listen));
    if plan.mode == LeafMode::Managed {
        conf.text("ports_file_dir", text_of(&plan.ports_dir));
    }
    // The daemon's log has the time, and so has the journal of services.
    conf.set("logtime", false);
    conf.set("max_payload", MAX_PAYLOAD);
    conf.set("max_pending", MAX_PENDING);
    conf.set("max_connections", MAX_CONNECTIONS);
    conf.set("max_subscriptions", MAX_SUBSCRIPTIONS);
    // A dead link shows after about 14 s instead of 6 minutes.
    conf.text("ping_interval", "5s");
    conf.set("ping_max", 2);
    conf.text("no_auth_user", LOCAL);
    apps::jetstream(&mut conf, plan);
    conf.block("accounts", |conf| {
        conf.block(LIVE, |conf| {
            live_users(conf, plan, credentials);
            if apps::are_apart(plan) {
                apps::export(conf, plan);
            }
        });
        conf.block(RECORD, |conf| record_users(conf, plan, credentials));
        if apps::are_apart(plan) {
            conf.block(apps::APPS, |conf| apps::account(conf, plan, credentials, LOCAL));
        }
        if plan.mode == LeafMode::External {
            conf.block(SYSTEM, |conf| system_user(conf, plan, credentials));
        }
    });
    if plan.mode == LeafMode::External {
        conf.text("system_account", SYSTEM);
    }
    if let Some(hub) = &plan.hub {
        conf.block("leafnodes", |conf| {
            conf.text("reconnect", &format!("{}ms", reconnect(&plan.gateway).as_millis()));
            // One second by default, which is what a satellite's round trip takes, and what a
            // packet waits behind others on a thin link.
            conf.text("dial_timeout", "10s");
            // Live values that fill a thin link are waited for, not answered by cutting it.
            conf.text("write_deadline", "30s");
            conf.text("write_timeout", "retry");
            // What is not dialled yet is added by a reload, which needs a list to be there.
            conf.array("remotes", |conf| {
                if hub.dialled_urls().next().is_none() {
                    return;
                }
                conf.element(|conf| {
                    remote(conf, &plan.gateway, hub, LIVE, dialled.live);
                    // The record has a link of its own, and a frame that came through here would
                    // compete with the sequence that the uplink expects.
                    let heads = subjects::head(&hub.stream, ">");
                    conf.texts("deny_exports", &[subjects::EVERY_FRAMES, &heads]);
                    if !plan.ingest.is_empty() {
                        // Only what is published here is recorded here.
                        conf.texts("deny_imports", &plan.ingest);
                    }
                });
                conf.element(|conf| {
                    remote(conf, &plan.gateway, hub, RECORD, dialled.record);
                });
                if apps::are_linked(plan) {
                    conf.element(|conf| {
                        // Nobody watches this link, so it is made anew with the live one.
                        remote(conf, &plan.gateway, hub, apps::APPS, dialled.live);
                        apps::denied(conf, plan);
                    });
                }
            });
        });
    }
    Ok(conf.finish())
}

fn live_users(conf: &mut Conf, plan: &LeafPlan, credentials: &Credentials) {
    let inbox = format!("{}.>", subjects::inbox(&plan.gateway));
    // Answers to questions; the service itself sends them to no other inbox.
    let answers = [subjects::EVERY_INBOX, subjects::ANSWERS];
    let mut publish = vec!["uns.>".to_owned()];
    publish.extend(answers.map(str::to_owned));
    // An answer to this is the only proof that the live link works.
    publish.extend(plan.hub.iter().map(|hub| subjects::info(&hub.stream)));
    conf.array("users", |conf| {
        conf.element(|conf| {
            conf.text("user", Credentials::LIVE_USER);
            conf.text("password", credentials.live());
            let questions = subjects::questions(&plan.gateway);
            permissions(conf, &publish, &[inbox, questions, subjects::EVERY_SERVICE.to_owned()]);
        });
        if apps::are_apart(plan) {
            return;
        }
        ingest_user(conf, plan, credentials);
        conf.element(|conf| {
            conf.text("user", LOCAL);
            conf.block("permissions", |conf| {
                let mut publish = apps::questions(plan);
                publish.extend(plan.ingest.iter().map(|it| it.to_string()));
                apps::may_publish(conf, &publish);
                let inboxes = apps::inboxes(plan);
                let answers = if publish.is_empty() { &[][..] } else { &inboxes };
                let hear: Vec<_> =
                    ["uns.>"].into_iter().chain(answers.iter().map(|it| &**it)).collect();
                conf.texts("subscribe", &hear);
            });
        });
    });
}

/// The daemon's user that hears what local applications publish, in their account, and answers.
pub(super) fn ingest_user(conf: &mut Conf, plan: &LeafPlan, credentials: &Credentials) {
    if plan.ingest.is_empty() {
        return;
    }
    conf.element(|conf| {
        conf.text("user", Credentials::INGEST_USER);
        conf.text("password", credentials.live());
        conf.block("permissions", |conf| {
            conf.block("publish", |conf| {
                conf.texts("allow", &["_INBOX.>", subjects::ANSWERS]);
                // Whoever waits there waits for others.
                let own = subjects::inbox(&plan.gateway);
                conf.texts("deny", &[format!("{own}.live.>"), format!("{own}.record.>")]);
            });
            conf.texts("subscribe", &plan.ingest);
        });
    });
}

fn record_users(conf: &mut Conf, plan: &LeafPlan, credentials: &Credentials) {
    let own = subjects::all_frames(&plan.gateway);
    let mut publish = vec![own.clone()];
    if let Some(hub) = &plan.hub {
        publish.extend([subjects::head(&hub.stream, &own), subjects::info(&hub.stream)]);
    }
    conf.array("users", |conf| {
        conf.element(|conf| {
            conf.text("user", Credentials::RECORD_USER);
            conf.text("password", credentials.record());
            permissions(conf, &publish, &[format!("{}.>", subjects::inbox(&plan.gateway))]);
        });
    });
}

/// The daemon's user that has a service read its configuration again and asks what it is linked to.
fn system_user(conf: &mut Conf, plan: &LeafPlan, credentials: &Credentials) {
    let asked = ["RELOAD", "LEAFZ"].map(|what| format!("$SYS.REQ.SERVER.*.{what}"));
    conf.array("users", |conf| {
        conf.element(|conf| {
            conf.text("user", Credentials::SYSTEM_USER);
            conf.text("password", credentials.system());
            permissions(conf, &asked, &[format!("{}.>", subjects::inbox(&plan.gateway))]);
        });
    });
}

fn permissions(conf: &mut Conf, publish: &[String], subscribe: &[String]) {
    conf.block("permissions", |conf| {
        conf.texts("publish", publish);
        conf.texts("subscribe", subscribe);
    });
}

fn remote(conf: &mut Conf, gateway: &GatewayId, hub: &HubLink, account: &str, dial: Dial) {
    conf.text("account", account);
    // A remote that nats-server has given up stays given up under the URLs that it had, for the
    // whole life of the process. A path means nothing to a leaf link, and makes another remote; of a
    // WebSocket it would be asked for, and a query is not.
    let websocket = hub.urls.iter().any(|url| url.scheme == HubScheme::WebSocket);
    let path = match (dial.number, websocket) {
        (0, _) => String::new(),
        (number, true) => format!("?{number}"),
        (number, false) => format!("/{number}"),
    };
    let dialled_urls: Vec<HubUrl> = hub.dialled_urls().cloned().collect();
    let mut urls = spread(gateway, &dialled_urls);
    let next = usize::try_from(dial.skip).unwrap_or_default().checked_rem(urls.len());
    urls.rotate_left(next.unwrap_or_default());
    conf.texts("urls", &urls.iter().map(|url| format!("{url}{path}")).collect::<Vec<_>>());
    conf.set("no_randomize", true);
    // Gossiped addresses would bypass firewall and proxy plans.
    conf.set("ignore_discovered_servers", true);
    // `s2_auto` sends uncompressed below 10 ms of round trip, also on thin links.
    conf.text("compression", "s2_better");
    // The hub speaks first, and 1 s is short where the round trip alone is more than half of it.
    conf.text("first_info_timeout", "10s");
    if let Some(access) = &hub.proxy {
        proxy(conf, access);
    }
    if let Some(files) = &hub.tls {
        conf.block("tls", |conf| {
            conf.text("ca_file", text_of(&files.ca));
            conf.text("cert_file", text_of(&files.cert));
            conf.text("key_file", text_of(&files.key));
            conf.text("min_version", "1.3");
            conf.set("timeout", 10);
        });
    }
}

fn proxy(conf: &mut Conf, proxy: &ProxyAccess) {
    conf.block("proxy", |conf| {
        let shown = Proxy { host: proxy.host.clone(), port: proxy.port, user: None };
        conf.text("url", &shown.to_string());
        if let Some((name, password)) = proxy.user() {
            conf.text("username", name);
            conf.text("password", password);
        }
        conf.text("timeout", "10s");
    });
}

/// The pause between attempts to reach the hub. A fleet that is cut off together, by a hub that
/// starts again, does not come back together: 1 to 4 s, decided by the gateway's name.
fn reconnect(gateway: &GatewayId) -> Duration {
    // Not the bits that choose the first URL.
    Duration::from_millis(1_000 + (fnv1a(&gateway.to_string()) >> 32) % 3_001)
}

/// The URL that a gateway begins with.
pub(crate) fn preferred<'u>(gateway: &GatewayId, urls: &'u [HubUrl]) -> Option<&'u HubUrl> {
    urls.get(first_of(gateway, urls))
}

fn first_of(gateway: &GatewayId, urls: &[HubUrl]) -> usize {
    let count = u64::try_from(urls.len()).unwrap_or(1).max(1);
    usize::try_from(fnv1a(&gateway.to_string()) % count).unwrap_or(0)
}

/// The URLs in their written order, beginning at a place that the gateway's name decides, so
/// that a fleet spreads over the hub's servers and one gateway always begins at the same.
fn spread(gateway: &GatewayId, urls: &[HubUrl]) -> Vec<String> {
    let (before, after) = urls.split_at(first_of(gateway, urls).min(urls.len()));
    after.iter().chain(before).map(url_text).collect()
}

fn url_text(url: &HubUrl) -> String {
    let scheme = match url.scheme {
        HubScheme::Tls => "tls",
        HubScheme::WebSocket => "wss",
        HubScheme::Plain => "nats-leaf",
    };
    let host = &url.host;
    if host.contains(':') && !host.starts_with('[') {
        format!("{scheme}://[{host}]:{}", url.port)
    } else {
        format!("{scheme}://{host}:{}", url.port)
    }
}

/// FNV-1a, 64 bit: the standard library's hash may change between releases, and then every
/// gateway would move.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A plan with these files for the hub.
#[cfg(test)]
pub(super) fn plan_with(tls: TlsFiles) -> LeafPlan {
    let mut plan = tests::plan("P/g");
    plan.hub.iter_mut().for_each(|hub| hub.tls = Some(tls.clone()));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LocalJetStream;

    fn url(host: &str, tls: bool) -> HubUrl {
        let scheme = if tls { HubScheme::Tls } else { HubScheme::Plain };
        HubUrl { scheme, host: host.to_owned(), port: 7422 }
    }

    fn anew(times: u32) -> Dial {
        (0..times).fold(Dial::default(), |dial, _| dial.next())
    }

    pub(super) fn plan(gateway: &str) -> LeafPlan {
        LeafPlan {
            gateway: gateway.parse().unwrap(),
            mode: LeafMode::Managed,
            listen: "127.0.0.1:4222".parse().unwrap(),
            ports_dir: "/var/lib/tidegate/leaf".into(),
            hub: Some(HubLink {
                urls: vec![url("hub-1.example.com", true), url("hub-2.example.com", true)],
                tls: Some(TlsFiles {
                    ca: "/etc/tidegate/ca.pem".into(),
                    cert: "/etc/tidegate/gw.pem".into(),
                    key: "/etc/tidegate/gw.key".into(),
                }),
                stream: "TIDE".to_owned(),
                proxy: None,
            }),
            local: LocalApps::default(),
            questions: LocalQuestions::Fleet,
            ingest: Arc::default(),
        }
    }

    fn credentials() -> Credentials {
        Credentials::of("live-password", "record-password")
    }

    #[test]
    fn a_leaf_matches_its_vector() {
        let text = generate(&plan("PlantA/gw-line3"), &credentials()).unwrap();
        assert_eq!(text, include_str!("../../vectors/hub/leaf.conf"));
    }

    #[test]
    fn a_service_has_a_system_account_for_the_daemon_alone_and_is_otherwise_the_same() {
        let child = generate(&plan("PlantA/gw-line3"), &credentials()).unwrap();
        let service = LeafPlan { mode: LeafMode::External, ..plan("PlantA/gw-line3") };
        let service = generate(&service, &credentials()).unwrap();
        let is_in = |text: &str, line: &str| text.lines().any(|other| other == line);
        let missing: Vec<_> = child.lines().filter(|line| !is_in(&service, line)).collect();
        assert_eq!(missing, ["ports_file_dir: \"/var/lib/tidegate/leaf\""]);
        let added: Vec<_> = service.lines().filter(|line| !is_in(&child, line)).collect();
        let expected = [
            "  SYS {",
            "        user: \"tidegate-system\"",
            "        password: \"system-password\"",
            "            \"$SYS.REQ.SERVER.*.RELOAD\"",
            "            \"$SYS.REQ.SERVER.*.LEAFZ\"",
            "system_account: \"SYS\"",
        ];
        assert_eq!(added, expected);
    }

    #[test]
    fn a_leaf_behind_a_proxy_with_local_applications_matches_its_vector() {
        let mut plan = plan("PlantA/gw-line3");
        plan.local = LocalApps {
            publish: vec!["site.orders.>".into(), "site.work.*".into()],
            subscribe: vec!["site.work.*".into()],
            jetstream: Some(LocalJetStream { domain: "line3".into(), max_bytes: 1 << 28 }),
        };
        let hub = plan.hub.as_mut().unwrap();
        for url in &mut hub.urls {
            url.scheme = HubScheme::WebSocket;
            url.port = 443;
        }
        hub.proxy = Some(Arc::new(ProxyAccess::known("2001:db8::8", 3128, "me", "p \"w")));
        let dialled = Dialled { live: anew(2), record: anew(0) };
        let text = generate_again(&plan, &credentials(), dialled).unwrap();
        assert_eq!(text, include_str!("../../vectors/hub/leaf_apps.conf"));
    }

    #[test]
    fn local_applications_that_only_keep_streams_have_no_link_of_their_own() {
        let mut plan = plan("P/g");
        let jetstream = LocalJetStream { domain: "line3".into(), max_bytes: 1 << 28 };
        plan.local.jetstream = Some(jetstream);
        plan.questions = LocalQuestions::Gateway;
        let text = generate(&plan, &credentials()).unwrap();
        assert_eq!(text.matches("account: \"APPS\"").count(), 0);
        assert!(text.contains("APPS {") && text.contains("$JS.API.>"), "{text}");
    }

    #[test]
    fn a_leaf_without_a_hub_has_no_link() {
        let plan = LeafPlan { hub: None, ..plan("P/g") };
        let text = generate(&plan, &credentials()).unwrap();
        assert!(!text.contains("leafnodes") && !text.contains("tideinfo"), "{text}");
    }

    #[test]
    fn a_leaf_without_a_certificate_dials_only_what_needs_none() {
        let mut without = plan("P/g");
        let hub = without.hub.as_mut().unwrap();
        hub.tls = None;
        hub.urls.push(url("127.0.0.1", false));
        let text = generate(&without, &credentials()).unwrap();
        assert!(text.contains("nats-leaf://127.0.0.1") && !text.contains("tls://"), "{text}");
        without.hub.as_mut().unwrap().urls.pop();
        let text = generate(&without, &credentials()).unwrap();
        assert!(text.contains("leafnodes") && !text.contains("account: \"RECORD\""), "{text}");
    }

    #[test]
    fn gateways_begin_at_different_hubs_and_keep_the_written_order() {
        let urls = [url("a", true), url("b", true), url("c", true)];
        let mut first = std::collections::BTreeSet::new();
        for number in 0..30 {
            let gateway: GatewayId = format!("P/g{number}").parse().unwrap();
            let order = spread(&gateway, &urls).join(" ");
            let round = "tls://a:7422 tls://b:7422 tls://c:7422 tls://a:7422 tls://b:7422";
            assert!(round.contains(&order), "{order}");
            assert_eq!(order, spread(&gateway, &urls).join(" "));
            first.insert(order);
        }
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn a_fleet_of_a_thousand_is_spread_over_the_pause_and_over_the_hubs() {
        let urls = [url("a", true), url("b", true), url("c", true)];
        let (mut pauses, mut first) = ([0; 10], std::collections::BTreeMap::new());
        for number in 0..1000 {
            let gateway: GatewayId = format!("PlantA/gw-line{number}").parse().unwrap();
            let pause = reconnect(&gateway);
            assert!((1_000..=4_000).contains(&pause.as_millis()), "{pause:?}");
            pauses[usize::try_from((pause.as_millis() - 1_000) / 301).unwrap()] += 1;
            *first.entry(spread(&gateway, &urls)[0].clone()).or_insert(0) += 1;
        }
        assert!(pauses.iter().all(|count| (60..=140).contains(count)), "{pauses:?}");
        assert!(first.values().all(|count| (270..=400).contains(count)), "{first:?}");
    }

    #[test]
    fn a_link_that_is_dialled_anew_is_another_remote_and_the_other_one_stays() {
        let (plan, credentials) = (plan("P/g"), credentials());
        let before = generate(&plan, &credentials).unwrap();
        let dialled = Dialled { live: anew(0), record: anew(2) };
        let after = generate_again(&plan, &credentials, dialled).unwrap();
        let changed: Vec<_> =
            before.lines().zip(after.lines()).filter(|(old, new)| old != new).collect();
        assert_eq!(before.lines().count(), after.lines().count());
        assert_eq!(changed.len(), 2, "{changed:?}");
        for (old, new) in changed {
            assert_eq!(new.trim(), format!("{}/2\"", old.trim().trim_end_matches('"')));
        }
        let (_, record) = after.split_once("account: \"RECORD\"").unwrap();
        assert_eq!(record.matches(":7422/2\"").count(), 2);
    }

    #[test]
    fn a_link_that_is_dialled_anew_begins_with_the_next_server() {
        let (plan, credentials) = (plan("P/g"), credentials());
        let first = |dialled| {
            let text = generate_again(&plan, &credentials, dialled).unwrap();
            let (_, live) = text.split_once("account: \"LIVE\"").unwrap();
            let (_, urls) = live.split_once("urls").unwrap();
            urls.split('"').nth(1).unwrap().split(":7422").next().unwrap().to_owned()
        };
        let turns: Vec<_> =
            (0..3).map(|live| first(Dialled { live: anew(live), record: anew(0) })).collect();
        assert!(turns[0] != turns[1] && turns[0] == turns[2], "{turns:?}");
    }

    #[test]
    fn how_links_are_dialled_is_the_same_after_a_restart_of_the_daemon() {
        let dialled = Dialled { live: anew(3), record: anew(1).again() };
        assert_eq!(Dialled::of_line(&dialled.line()), Some(dialled));
        for odd in ["", "1 2 3", "1 2 3 x", "-1 0 0 0"] {
            assert_eq!(Dialled::of_line(odd), None, "{odd}");
        }
    }

    #[test]
    fn addresses_of_version_6_are_bracketed() {
        assert_eq!(url_text(&url("::1", false)), "nats-leaf://[::1]:7422");
        assert_eq!(url_text(&url("[::1]", true)), "tls://[::1]:7422");
    }

    #[test]
    fn a_hub_without_urls_and_a_path_that_is_not_unicode_are_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let mut without = plan("P/g");
        if let Some(hub) = &mut without.hub {
            hub.urls.clear();
        }
        assert_eq!(generate(&without, &credentials()), Err(LeafPlanError::NoUrl));
        let path = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]));
        let odd = LeafPlan { ports_dir: path.clone(), ..plan("P/g") };
        assert_eq!(generate(&odd, &credentials()), Err(LeafPlanError::Path { path }));
    }
}
