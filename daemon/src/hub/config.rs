//! The hub's nats-server configuration, from a plan.

use std::collections::BTreeSet;
use std::path::Path;

use super::plan::{
    Admitted, ClientPort, ClusterPort, Credential, HubPlan, HubUser, PlanError, Role,
};
use super::tier::{mirrors_account, regions_remotes, site_users, store_exports};
use super::{LAST_VALUES, OWNERS, Ocsp};
use crate::config::TlsFiles;
use crate::names::{GatewayId, Name};
use crate::nats_conf::{Conf, MAX_PAYLOAD, listen_text, text_of};
use crate::subjects;

/// The user behind connections without credentials.
pub(super) const ANONYMOUS: &str = "anonymous";

/// The account that holds the stream.
pub(super) const STORE: &str = "STORE";
/// The account of the gateways' leaf links.
pub(super) const GATEWAYS: &str = "GATEWAYS";
/// The account through which gateways are asked. Questions are renamed there, so that a leaf needs to
/// know one subject for all gateways instead of those of each.
const ASK: &str = "ASK";
/// The account of whoever reads.
pub(super) const READERS: &str = "READERS";
/// The server's own account.
pub(super) const SYSTEM: &str = "SYS";

/// Writes the configuration of a hub's nats-server. The same plan always gives the same text.
///
/// # Errors
/// Every mistake of the plan ([`HubPlan::mistakes`]).
pub fn generate(plan: &HubPlan) -> Result<String, Vec<PlanError>> {
    let mistakes = plan.mistakes();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut conf = Conf::generated("Written by tidegate; changes are overwritten.");
    head(&mut conf, &plan.server_name, &plan.client, plan.ports_dir.as_deref());
    conf.block("jetstream", |conf| {
        conf.text("store_dir", text_of(&plan.store_dir));
        conf.set("max_file_store", plan.max_store_bytes);
        if let Some(bytes) = plan.last_values {
            conf.set("max_memory_store", bytes);
        }
        conf.text("domain", plan.domain.as_str());
        // An acknowledged message that is not on the disk is not acknowledged.
        conf.text("sync_interval", "always");
    });
    conf.block("leafnodes", |conf| {
        conf.text("listen", &listen_text(plan.leaf.listen));
        // Gossiped addresses would bypass firewall and proxy plans.
        conf.set("no_advertise", true);
        // `s2_auto` sends uncompressed below 10 ms of round trip, also on thin links.
        conf.text("compression", "s2_better");
        // Every leaf would otherwise learn the subjects of all others: 5,000 gateways, 50,000 of them.
        conf.set("isolate_leafnode_interest", true);
        gateways_tls(conf, plan);
        if !plan.regions.is_empty() {
            regions_remotes(conf, &plan.regions);
        }
    });
    if let Some(listen) = plan.websocket {
        conf.block("websocket", |conf| {
            conf.text("listen", &listen_text(listen));
            gateways_tls(conf, plan);
        });
    }
    if let Some(cluster) = &plan.cluster {
        conf.block("cluster", |conf| routes(conf, cluster));
    }
    if plan.ocsp != Ocsp::Off {
        // Its own choice would be where the configuration is, which it may not write.
        conf.block("ocsp_cache", |conf| {
            conf.text("type", "local");
            conf.text("local_store", text_of(&plan.store_dir.join("ocsp")));
        });
    }
    conf.text("system_account", SYSTEM);
    if plan.anonymous.is_some() {
        conf.text("no_auth_user", ANONYMOUS);
    }
    conf.block("accounts", |conf| {
        conf.block(STORE, |conf| store(conf, plan));
        conf.block(GATEWAYS, |conf| gateways(conf, plan));
        conf.block(ASK, ask);
        conf.block(READERS, |conf| readers(conf, plan));
        if !plan.mirrors.is_empty() {
            mirrors_account(conf, &plan.mirrors, &plan.streams);
        }
        conf.block(SYSTEM, |conf| system_users(conf, &plan.users));
    });
    Ok(conf.finish())
}

/// What every server of ours begins with: its name, its client port, and when a link is dead.
pub(super) fn head(conf: &mut Conf, name: &Name, client: &ClientPort, ports_dir: Option<&Path>) {
    conf.text("server_name", name.as_str());
    conf.text("listen", &listen_text(client.listen));
    if let Some(dir) = ports_dir {
        conf.text("ports_file_dir", text_of(dir));
    }
    conf.set("max_payload", MAX_PAYLOAD);
    // A dead link shows after about 14 s instead of 6 minutes.
    conf.text("ping_interval", "5s");
    conf.set("ping_max", 2);
    if let Some(files) = &client.tls {
        mutual_tls(conf, files);
    }
}

/// What the stream's account lends to the others, and to nobody else.
fn store(conf: &mut Conf, plan: &HubPlan) {
    conf.set("jetstream", "enabled");
    users(conf, &plan.users, Role::Admin, |_| {});
    conf.array("exports", |conf| {
        let mut lend = |subject: &str, accounts: &[&str], many: bool| {
            conf.element(|conf| {
                conf.text("service", subject);
                if many {
                    conf.text("response_type", "stream");
                }
                conf.texts("accounts", accounts);
            });
        };
        lend(subjects::EVERY_FRAMES, &[GATEWAYS], false);
        for stream in &plan.streams {
            let stream = stream.as_str();
            lend(&last(stream, ">"), &[READERS], false);
            lend(&last(stream, subjects::EVERY_FRAMES), &[GATEWAYS], false);
            lend(&info(stream), &[GATEWAYS, READERS], false);
            lend(&batches(stream), &[READERS], true);
        }
        if plan.last_values.is_some() {
            lend(&last(LAST_VALUES, ">"), &[READERS], false);
        }
        let askers: &[_] = if may_any_ask(plan) { &[GATEWAYS, READERS] } else { &[READERS] };
        lend(&directory(), askers, false);
        if !plan.mirrors.is_empty() {
            store_exports(conf, &plan.streams);
        }
    });
    if plan.last_values.is_some() {
        conf.array("imports", |conf| import(conf, "stream", GATEWAYS, subjects::EVERY_LIVE, None));
    }
}

fn gateways(conf: &mut Conf, plan: &HubPlan) {
    let kinds: &[_] = match plan.websocket {
        None => &["LEAFNODE"],
        Some(_) => &["LEAFNODE", "LEAFNODE_WS"],
    };
    conf.array("users", |conf| {
        gateway_users(conf, &plan.gateways, kinds);
        site_users(conf, &plan.sites, kinds);
        for user in plan.users.iter().filter(|user| user.role == Role::Application) {
            known_user(conf, user, |conf| application(conf, plan));
        }
    });
    let live: &[_] = if plan.last_values.is_some() { &[READERS, STORE] } else { &[READERS] };
    conf.array("exports", |conf| {
        conf.element(|conf| {
            conf.text("stream", subjects::EVERY_LIVE);
            conf.texts("accounts", live);
        });
        conf.element(|conf| {
            conf.text("service", subjects::EVERY_QUESTION);
            // One question may have many answers.
            conf.text("response_type", "stream");
            conf.texts("accounts", &[ASK]);
        });
    });
    conf.array("imports", |conf| {
        import(conf, "service", STORE, subjects::EVERY_FRAMES, None);
        for stream in &plan.streams {
            let stream = stream.as_str();
            // No wider than what one gateway may ask: a leaf between gateway and hub passes nothing
            // on of which the gateway may use a part only.
            let frames = last(stream, subjects::EVERY_FRAMES);
            let head = subjects::head(stream, subjects::EVERY_FRAMES);
            import(conf, "service", STORE, &frames, Some(&head));
            import(conf, "service", STORE, &info(stream), Some(&subjects::info(stream)));
        }
        import(conf, "service", ASK, subjects::EVERY_ASK, None);
        if may_any_ask(plan) {
            import(conf, "service", STORE, &directory(), Some(subjects::DIRECTORY));
        }
    });
}

/// Whether there is a gateway that may ask others: who asks has to know whom.
fn may_any_ask(plan: &HubPlan) -> bool {
    let at_sites = plan.sites.iter().flat_map(|site| &site.gateways);
    plan.gateways.iter().chain(at_sites).any(|admitted| !admitted.asks.is_empty())
}

/// The users that are gateways; `kinds` are the connections that they may come by.
pub(super) fn gateway_users(conf: &mut Conf, gateways: &[Admitted], kinds: &[&str]) {
    for admitted in gateways {
        conf.element(|conf| {
            conf.text("user", &admitted.subject);
            only_over(conf, kinds);
            permissions(conf, &may_publish(admitted), &may_hear(admitted));
        });
    }
}

/// What applications beside gateways may publish it hears, what they may hear it publishes. It may
/// not answer wherever it is told to: that could be a record.
fn application(conf: &mut Conf, plan: &HubPlan) {
    let sorted = |subjects: fn(&Admitted) -> &[String], inboxes: &str| {
        let at_sites = plan.sites.iter().flat_map(|site| &site.gateways);
        let all = plan.gateways.iter().chain(at_sites);
        let subjects = all.flat_map(subjects).map(String::as_str);
        subjects.chain([inboxes]).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let publish = sorted(|it| &it.app_subscribe, subjects::EVERY_APPS_INBOX);
    let subscribe = sorted(|it| &it.app_publish, subjects::HUB_APPS_INBOXES);
    permissions(conf, &Vec::from_iter(publish), &Vec::from_iter(subscribe));
}

/// Whoever asks in this account's name gets the answers under a subject of the server's making, so
/// that no answer can be sent to where a record is.
fn ask(conf: &mut Conf) {
    conf.block("mappings", |conf| {
        let to = subjects::EVERY_QUESTION.replacen('*', "$1", 1).replacen('*', "$2", 1);
        conf.text(&format!("\"{}\"", subjects::EVERY_ASK), &to);
    });
    conf.array("exports", |conf| {
        conf.element(|conf| {
            conf.text("service", subjects::EVERY_ASK);
            conf.text("response_type", "stream");
            conf.texts("accounts", &[GATEWAYS, READERS]);
        });
    });
    conf.array("imports", |conf| {
        import(conf, "service", GATEWAYS, subjects::EVERY_QUESTION, None);
    });
}

/// A gateway hears answers, its own questions, and what its applications may.
pub(super) fn may_hear(admitted: &Admitted) -> Vec<String> {
    let inbox = format!("{}.>", subjects::inbox(&admitted.gateway));
    let mut subscribe = vec![inbox, subjects::questions(&admitted.gateway)];
    subscribe.extend(admitted.app_subscribe.iter().cloned());
    subscribe
}

/// A gateway writes its own record, looks at its own head, speaks below its own prefixes, answers
/// questions, and asks whom it may.
pub(super) fn may_publish(admitted: &Admitted) -> Vec<String> {
    let own = subjects::all_frames(&admitted.gateway);
    let stream = admitted.stream.as_str();
    let mut publish = vec![own.clone(), subjects::head(stream, &own), subjects::info(stream)];
    for prefix in &admitted.prefixes {
        let subject = subjects::live(prefix);
        publish.push(format!("{subject}.>"));
        publish.push(subject);
    }
    let GatewayId { plant, name } = &admitted.gateway;
    publish.push(format!("uns.{plant}._gateways.{name}.>"));
    publish.push(subjects::ANSWERS.to_owned());
    publish.extend(admitted.asks.iter().map(subjects::ask));
    if !admitted.asks.is_empty() {
        publish.push(subjects::DIRECTORY.to_owned());
    }
    publish.extend(admitted.app_publish.iter().cloned());
    if !admitted.app_subscribe.is_empty() {
        // Whoever hears questions may answer them.
        publish.push(subjects::HUB_APPS_INBOXES.to_owned());
    }
    publish
}

/// Readers ask for ranges by direct get and hear live values. They make no consumers: one that
/// delivers to a subject of their choice would speak in the stream's account with its rights.
fn readers(conf: &mut Conf, plan: &HubPlan) {
    let mut publish = Vec::new();
    for stream in &plan.streams {
        let stream = stream.as_str();
        publish.extend([
            subjects::info(stream),
            subjects::read(stream),
            subjects::head(stream, ">"),
        ]);
    }
    if plan.last_values.is_some() {
        publish.push(subjects::LAST_OF_ALL.to_owned());
    }
    publish.extend([subjects::EVERY_ASK, subjects::DIRECTORY].map(str::to_owned));
    let permit = |conf: &mut Conf| permissions(conf, &publish, &["_INBOX.>", subjects::EVERY_LIVE]);
    conf.array("users", |conf| {
        for user in plan.users.iter().filter(|user| user.role == Role::Reader) {
            known_user(conf, user, permit);
        }
        if plan.anonymous.is_some() {
            conf.element(|conf| {
                conf.text("user", ANONYMOUS);
                only_over(conf, &["STANDARD"]);
                permit(conf);
            });
        }
    });
    conf.array("imports", |conf| {
        for stream in &plan.streams {
            let stream = stream.as_str();
            let head = subjects::head(stream, ">");
            import(conf, "service", STORE, &info(stream), Some(&subjects::info(stream)));
            import(conf, "service", STORE, &batches(stream), Some(&subjects::read(stream)));
            import(conf, "service", STORE, &last(stream, ">"), Some(&head));
        }
        if plan.last_values.is_some() {
            let of_all = last(LAST_VALUES, ">");
            import(conf, "service", STORE, &of_all, Some(subjects::LAST_OF_ALL));
        }
        import(conf, "service", ASK, subjects::EVERY_ASK, None);
        import(conf, "service", STORE, &directory(), Some(subjects::DIRECTORY));
        import(conf, "stream", GATEWAYS, subjects::EVERY_LIVE, None);
    });
}

/// INFO of the stream: creation time, first sequence, limits.
fn info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

/// Direct get with the wish in its body: one message or a batch of a range.
fn batches(stream: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}")
}

/// Direct get of the last message on a subject.
fn last(stream: &str, subject: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}.{subject}")
}

/// Direct get of the directory of owners.
fn directory() -> String {
    last(OWNERS, subjects::OWNERS)
}

/// Whoever reloads servers, cuts connections and hears who connects.
pub(super) fn system_users(conf: &mut Conf, all: &[HubUser]) {
    let events = ["_INBOX.>", "$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT"];
    users(conf, all, Role::System, |conf| permissions(conf, &["$SYS.REQ.SERVER.>"], &events));
}

fn users(conf: &mut Conf, all: &[HubUser], role: Role, permit: impl Fn(&mut Conf) + Copy) {
    conf.array("users", |conf| {
        for user in all.iter().filter(|user| user.role == role) {
            known_user(conf, user, permit);
        }
    });
}

pub(super) fn known_user(conf: &mut Conf, user: &HubUser, permit: impl Fn(&mut Conf)) {
    conf.element(|conf| {
        conf.text("user", user.credential.name());
        if let Credential::Password { password, .. } = &user.credential {
            conf.text("password", password);
        }
        only_over(conf, &["STANDARD"]);
        permit(conf);
    });
}

/// A certificate opens one kind of connection: were a reader's or an admin's good for a leaf link,
/// whole networks would hang in their account. It also keeps users without a password from
/// being impersonated on a port that asks for no certificate.
pub(super) fn only_over(conf: &mut Conf, kinds: &[&str]) {
    conf.texts("allowed_connection_types", kinds);
}

pub(super) fn permissions(
    conf: &mut Conf,
    publish: &[impl AsRef<str>],
    subscribe: &[impl AsRef<str>],
) {
    conf.block("permissions", |conf| {
        conf.texts("publish", publish);
        conf.texts("subscribe", subscribe);
    });
}

pub(super) fn import(conf: &mut Conf, kind: &str, account: &str, subject: &str, to: Option<&str>) {
    conf.element(|conf| {
        conf.block(kind, |conf| {
            conf.text("account", account);
            conf.text("subject", subject);
        });
        if let Some(to) = to {
            conf.text("to", to);
        }
    });
}

/// Who shows a certificate is the user of that name, with that user's permissions.
pub(super) fn mutual_tls(conf: &mut Conf, files: &TlsFiles) {
    conf.block("tls", |conf| {
        tls(conf, files);
        conf.set("verify_and_map", true);
    });
}

fn gateways_tls(conf: &mut Conf, plan: &HubPlan) {
    conf.block("tls", |conf| {
        tls(conf, &plan.leaf.tls);
        conf.set("verify_and_map", true);
        if plan.ocsp != Ocsp::Off {
            conf.block("ocsp_peer", |conf| {
                conf.set("verify", true);
                conf.set("ca_timeout", 5);
                let lenient = plan.ocsp == Ocsp::Lenient;
                conf.set("unknown_is_good", lenient);
                conf.set("allow_when_ca_unreachable", lenient);
            });
        }
    });
}

pub(super) fn tls(conf: &mut Conf, files: &TlsFiles) {
    conf.text("ca_file", text_of(&files.ca));
    conf.text("cert_file", text_of(&files.cert));
    conf.text("key_file", text_of(&files.key));
    // Long round trips need more than the 2 s that a handshake has otherwise.
    conf.set("timeout", 10);
    conf.text("min_version", "1.3");
}

/// The other servers. Each gateway has a certificate of the same authority, and a route speaks in
/// every account: so there is a secret, too.
fn routes(conf: &mut Conf, cluster: &ClusterPort) {
    let (user, secret) = (cluster.name.as_str(), cluster.secret.as_str());
    conf.text("name", user);
    conf.text("listen", &listen_text(cluster.listen));
    conf.set("no_advertise", true);
    conf.block("authorization", |conf| {
        conf.text("user", user);
        conf.text("password", secret);
        conf.set("timeout", 10);
    });
    let routes = cluster.routes.iter();
    let routes: Vec<_> = routes.map(|to| format!("nats-route://{user}:{secret}@{to}")).collect();
    conf.texts("routes", &routes);
    conf.block("tls", |conf| {
        tls(conf, &cluster.tls);
        conf.set("verify", true);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{ClientPort, LeafPort, matches_vector};
    use crate::names::Name;
    use tidegate_translator::TagPath;

    fn files(who: &str) -> TlsFiles {
        let file = |kind: &str| format!("/etc/tidegate/{who}.{kind}.pem").into();
        TlsFiles { ca: "/etc/tidegate/ca.pem".into(), cert: file("cert"), key: file("key") }
    }

    fn gateway(id: &str, prefixes: &[&str]) -> Admitted {
        Admitted {
            gateway: id.parse().unwrap(),
            prefixes: prefixes.iter().map(|path| TagPath::new(*path).unwrap()).collect(),
            subject: format!("CN={id},O=Tidegate"),
            stream: Name::new("TIDE").unwrap(),
            asks: Vec::new(),
            app_publish: Vec::new(),
            app_subscribe: Vec::new(),
        }
    }

    fn certified(role: Role, name: &str) -> HubUser {
        let subject = format!("CN={name},O=Example\\, Ltd");
        HubUser { role, credential: Credential::Certificate { subject } }
    }

    fn password(role: Role, user: &str) -> HubUser {
        let (user, password) = (user.to_owned(), format!("{user} \"secret\""));
        HubUser { role, credential: Credential::Password { user, password } }
    }

    fn plan() -> HubPlan {
        HubPlan {
            server_name: Name::new("hub-1").unwrap(),
            client: ClientPort {
                listen: "0.0.0.0:4222".parse().unwrap(),
                tls: Some(files("hub-1")),
            },
            leaf: LeafPort { listen: "[::]:7422".parse().unwrap(), tls: files("hub-1") },
            websocket: None,
            cluster: None,
            store_dir: "/var/lib/nats".into(),
            max_store_bytes: 64 << 30,
            domain: Name::new("hub").unwrap(),
            streams: vec![Name::new("TIDE").unwrap()],
            last_values: None,
            ocsp: Ocsp::Off,
            gateways: vec![
                gateway("PlantA/gw-line3", &["PlantA/Line3/Press1", "PlantA/Line.4"]),
                gateway("PlantB/gw1", &[]),
            ],
            users: vec![
                certified(Role::Admin, "admin"),
                certified(Role::Reader, "historian"),
                certified(Role::System, "operator"),
            ],
            sites: Vec::new(),
            mirrors: Vec::new(),
            regions: Vec::new(),
            anonymous: None,
            ports_dir: None,
        }
    }

    fn bench_plan() -> HubPlan {
        HubPlan {
            client: ClientPort { listen: "127.0.0.1:0".parse().unwrap(), tls: None },
            leaf: LeafPort { listen: "[::1]:0".parse().unwrap(), tls: files("hub-1") },
            users: vec![password(Role::Admin, "admin"), password(Role::System, "operator")],
            anonymous: Some(Role::Reader),
            ports_dir: Some("/run/hub".into()),
            gateways: vec![gateway("PlantA/gw-line3", &["PlantA"])],
            ..plan()
        }
    }

    fn mistakes(plan: &HubPlan) -> Vec<String> {
        plan.mistakes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_hub_in_the_field_matches_its_vector() {
        matches_vector("field.conf", &generate(&plan()).unwrap());
    }

    #[test]
    fn a_hub_on_a_bench_matches_its_vector() {
        matches_vector("bench.conf", &generate(&bench_plan()).unwrap());
    }

    #[test]
    fn plaintext_and_anonymous_access_stay_on_loopback() {
        let mut plan = bench_plan();
        plan.client.listen = "192.0.2.1:4222".parse().unwrap();
        let said = mistakes(&plan);
        assert!(said.iter().any(|m| m.contains("192.0.2.1:4222") && m.contains("no TLS")));
        assert!(said.iter().any(|m| m.contains("without credentials")), "{said:?}");
        let with_tls = HubPlan { anonymous: Some(Role::Reader), ..self::plan() };
        assert_eq!(mistakes(&with_tls).len(), 1);
        for role in [Role::Admin, Role::System] {
            let plan = HubPlan { anonymous: Some(role), ..bench_plan() };
            assert_eq!(plan.mistakes(), [PlanError::AnonymousRole { role }]);
        }
    }

    #[test]
    fn a_user_whom_the_port_cannot_know_is_refused() {
        let plan = HubPlan { users: vec![password(Role::Admin, "admin")], ..plan() };
        assert!(mistakes(&plan)[0].contains("by certificate only"));
        let plan = HubPlan { users: vec![certified(Role::Admin, "admin")], ..bench_plan() };
        assert!(mistakes(&plan)[0].contains("by password only"));
    }

    #[test]
    fn nobody_is_admitted_twice_or_under_the_name_of_another() {
        let again = gateway("PlantA/gw-line3", &[]);
        let twice = HubPlan { gateways: vec![again.clone(), again], ..plan() };
        let said = mistakes(&twice);
        assert!(said.iter().any(|m| m.contains("gateway \"PlantA/gw-line3\" appears twice")));
        assert!(said.iter().any(|m| m.contains("certificate subject")), "{said:?}");
        let as_anonymous =
            HubPlan { users: vec![password(Role::Admin, ANONYMOUS)], ..bench_plan() };
        assert!(mistakes(&as_anonymous)[0].contains("appears twice"));
        let nameless = Admitted { subject: String::new(), ..gateway("P/g", &[]) };
        let nameless = HubPlan { gateways: vec![nameless], ..plan() };
        assert!(mistakes(&nameless)[0].contains("is no name"));
    }

    #[test]
    fn passwords_are_not_printed() {
        let shown = format!("{:?}", bench_plan());
        assert!(shown.contains("admin") && !shown.contains("secret"), "{shown}");
    }
}
