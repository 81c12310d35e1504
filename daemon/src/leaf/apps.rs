//! The account of local applications that may do more than listen to live values.
//!
//! # Invariants
//! - Such applications are in an account of their own. In the daemon's, JetStream would publish for
//!   them wherever they like: a server's answers and a consumer's deliveries obey no permissions.
//! - What crosses to the hub for them goes over a link of its own, and never on a subject of the
//!   daemon's.
//! - Without credentials one hears inboxes of local applications only: the daemon's have more parts.

use super::config::{LIVE, LeafPlan};
use super::credentials::Credentials;
use crate::config::LocalQuestions;
use crate::nats_conf::{Conf, text_of};
use crate::subjects;

/// The account.
pub(super) const APPS: &str = "APPS";

/// Subjects of the product: nothing of theirs crosses for applications, in either direction.
const OWN: [&str; 6] = ["tide.>", "tidehead.>", "tideinfo.>", "tideread.>", "uns.>", ASK];

/// Questions to others.
const ASK: &str = "ask.>";

/// What streams of local applications may hold in memory together, in bytes: a leaf has 64 MiB.
const MEMORY_STORE: u64 = 16 << 20;

/// Whether local applications have an account of their own.
pub(super) fn are_apart(plan: &LeafPlan) -> bool {
    !plan.local.only_listen()
}

/// Whether they have a link of their own to the hub.
pub(super) fn are_linked(plan: &LeafPlan) -> bool {
    let is_idle = plan.local.publish.is_empty() && plan.local.subscribe.is_empty();
    !is_idle || (are_apart(plan) && plan.questions == LocalQuestions::Fleet)
}

/// Where questions of local applications go. The hub decides whom of the fleet this gateway may ask.
pub(super) fn questions(plan: &LeafPlan) -> Vec<String> {
    let own = [subjects::questions(&plan.gateway), subjects::EVERY_SERVICE.to_owned()];
    match plan.questions {
        LocalQuestions::None => Vec::new(),
        LocalQuestions::Gateway => own.into(),
        LocalQuestions::Fleet => {
            let fleet = [subjects::EVERY_ASK, subjects::DIRECTORY].map(str::to_owned);
            own.into_iter().chain(fleet).collect()
        }
    }
}

/// The inboxes that clients choose by themselves, and the one whose answers come from the hub. Those
/// of the daemon have more parts than the former, and are not the latter.
pub(super) fn inboxes(plan: &LeafPlan) -> [String; 3] {
    let apps = format!("{}.>", subjects::apps_inbox(&plan.gateway));
    ["_INBOX.*".to_owned(), "_INBOX.*.*".to_owned(), apps]
}

/// What may be published; an empty list would allow everything.
pub(super) fn may_publish(conf: &mut Conf, publish: &[impl AsRef<str>]) {
    if publish.is_empty() {
        conf.block("publish", |conf| conf.texts("deny", &[">"]));
    } else {
        conf.texts("publish", publish);
    }
}

/// JetStream of the server.
pub(super) fn jetstream(conf: &mut Conf, plan: &LeafPlan) {
    let Some(jetstream) = &plan.local.jetstream else { return };
    conf.block("jetstream", |conf| {
        conf.text("store_dir", text_of(&plan.ports_dir.join("jetstream")));
        conf.text("domain", &jetstream.domain);
        conf.set("max_file_store", jetstream.max_bytes);
        conf.set("max_memory_store", MEMORY_STORE);
    });
}

/// What the daemon's account lends to theirs: live values and questions to this gateway.
pub(super) fn export(conf: &mut Conf, plan: &LeafPlan) {
    conf.array("exports", |conf| {
        conf.element(|conf| {
            conf.text("stream", "uns.>");
            conf.texts("accounts", &[APPS]);
        });
        for service in lent(plan) {
            conf.element(|conf| {
                conf.text("service", &service);
                // One question may have many answers.
                conf.text("response_type", "stream");
                conf.texts("accounts", &[APPS]);
            });
        }
    });
}

/// The questions that the daemon answers in its own account.
fn lent(plan: &LeafPlan) -> Vec<String> {
    match plan.questions {
        LocalQuestions::None => Vec::new(),
        _ => vec![subjects::questions(&plan.gateway), subjects::EVERY_SERVICE.to_owned()],
    }
}

/// The account, with the user behind connections without credentials.
pub(super) fn account(conf: &mut Conf, plan: &LeafPlan, credentials: &Credentials, user: &str) {
    let local = &plan.local;
    let questions = questions(plan);
    let allowed = local.publish.iter().chain(plan.ingest.iter());
    let mut publish: Vec<&str> = allowed.map(AsRef::as_ref).collect();
    publish.extend(questions.iter().map(String::as_str));
    if local.jetstream.is_some() {
        conf.set("jetstream", "enabled");
        publish.extend(["$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$O.>"]);
    }
    let inboxes = inboxes(plan);
    let mut subscribe = vec!["uns.>"];
    subscribe.extend(inboxes.iter().map(String::as_str));
    subscribe.extend(local.subscribe.iter().map(AsRef::<str>::as_ref));
    conf.array("users", |conf| {
        super::config::ingest_user(conf, plan, credentials);
        conf.element(|conf| {
            conf.text("user", user);
            conf.block("permissions", |conf| {
                may_publish(conf, &publish);
                conf.texts("subscribe", &subscribe);
                if !local.subscribe.is_empty() {
                    // Whoever hears questions may answer them.
                    conf.block("allow_responses", |conf| {
                        conf.set("max", -1);
                        conf.text("expires", "2m");
                    });
                }
            });
        });
    });
    conf.array("imports", |conf| {
        conf.element(|conf| {
            conf.block("stream", |conf| {
                conf.text("account", LIVE);
                conf.text("subject", "uns.>");
            });
        });
        for service in lent(plan) {
            conf.element(|conf| {
                conf.block("service", |conf| {
                    conf.text("account", LIVE);
                    conf.text("subject", &service);
                });
            });
        }
    });
}

/// What does not cross over their link. Questions to the fleet do: their answers come to the inbox of
/// applications, which the daemon's account does not hear.
pub(super) fn denied(conf: &mut Conf, plan: &LeafPlan) {
    let asks = plan.questions == LocalQuestions::Fleet;
    let exports: Vec<_> = OWN.into_iter().filter(|own| !(asks && *own == ASK)).collect();
    conf.texts("deny_exports", &exports);
    // Only what is published here is recorded here.
    let imports: Vec<&str> = OWN.into_iter().chain(plan.ingest.iter().map(AsRef::as_ref)).collect();
    conf.texts("deny_imports", &imports);
}
