//! What is known of a gateway's identity, as one tree: for `show`, for `--json`, and for a support
//! bundle. Nothing in it is secret.

use std::time::{Duration, SystemTime};

use serde_json::{Value as Json, json};
use tidegate_identity::crl::{Crl, Freshness};
use tidegate_identity::examine::{Expected, Finding, examine};
use tidegate_identity::opcua::Thumbprint;
use tidegate_identity::{CertificateFacts, Identity, IdentityFolder, IdentityState, Validity};

use super::super::time;
use super::Site;
use crate::causes::chain;
use crate::config::{Config, IdentityConfig};

/// Everything that can be told of the identity.
pub(super) struct Report {
    /// The certificate and its generation, or why there is none.
    pub(super) current: Result<Current, String>,
    pub(super) findings: Vec<Finding>,
    /// A key waits for its certificate, and whether one lies beside it.
    pub(super) pending: Option<bool>,
    pub(super) token: bool,
    pub(super) bootstrap: bool,
    pub(super) roots: Vec<(CertificateFacts, Thumbprint)>,
    pub(super) lists: Vec<(Crl, Freshness)>,
    pub(super) state: IdentityState,
    pub(super) last_time: Option<SystemTime>,
    /// What else a person should know.
    pub(super) remarks: Vec<String>,
}

/// The certificate that is shown to hubs.
pub(super) struct Current {
    pub(super) facts: CertificateFacts,
    pub(super) generation: u64,
    pub(super) renewal_due: SystemTime,
    pub(super) validity: Validity,
}

impl Report {
    pub(super) fn of(site: &Site) -> Self {
        let Site { folder, config, .. } = site;
        let mut remarks = Vec::new();
        let mut told = |what: Result<(), String>| {
            if let Err(why) = what {
                remarks.push(why);
            }
        };
        let roots = folder.roots().map_err(|error| told(Err(chain(&error)))).unwrap_or_default();
        let pending = folder.pending().map_err(|error| told(Err(chain(&error)))).ok().flatten();
        if let Some(Err(error)) = pending.as_ref().and_then(|it| it.certificate.as_ref()) {
            told(Err(chain(error)));
        }
        let token = folder.token().map_err(|error| told(Err(chain(&error)))).ok().flatten();
        let bootstrap = folder.bootstrap().map_err(|error| told(Err(chain(&error)))).ok().flatten();
        let state = folder.state().map_err(|error| told(Err(chain(&error)))).unwrap_or_default();
        let last_time = folder.last_time().map_err(|error| told(Err(chain(&error)))).ok().flatten();
        let (revocation, about_lists) = match site.revocation() {
            Ok(read) => read,
            Err(error) => {
                told(Err(chain(&error)));
                Default::default()
            }
        };
        about_lists.into_iter().for_each(|text| told(Err(text)));
        let now = site.judged_at();
        let loaded = folder.generations().load();
        let mut findings = Vec::new();
        let current = match loaded {
            Ok(loaded) => {
                if let Some(error) = &loaded.fallen_back {
                    let used = loaded.generation;
                    told(Err(format!(
                        "{used} is used instead of the current one: {}",
                        chain(error)
                    )));
                }
                let subject = site.subject();
                let expected =
                    Expected { subject: &subject, roots: &roots, revocation: &revocation, now };
                findings = examine(&loaded.identity, &expected);
                Ok(current(site, &loaded.identity, loaded.generation.0, now))
            }
            Err(error) => Err(chain(&error)),
        };
        for path in folder.exposed() {
            told(Err(format!("others can read {}; chmod it to its owner", path.display())));
        }
        if site.now < now {
            told(Err(format!("the clock is behind: it was {} before", time(now))));
        }
        if config.hub.as_ref().is_some_and(|hub| hub.tls.is_some()) {
            let text = "[hub.tls] is configured and wins: this identity is not shown to the hub";
            told(Err(text.to_owned()));
        }
        let max_age = site.identity.crl_max_age;
        let lists =
            revocation.lists().iter().map(|list| (list.clone(), list.freshness(now, max_age)));
        let lists = lists.collect();
        let roots = roots
            .iter()
            .filter_map(|root| Some((CertificateFacts::of(root).ok()?, Thumbprint::of(root))))
            .collect();
        Self {
            current,
            findings,
            pending: pending.map(|it| it.certificate.is_some()),
            token: token.is_some(),
            bootstrap: bootstrap.is_some(),
            roots,
            lists,
            state,
            last_time,
            remarks,
        }
    }

    pub(super) fn json(&self, site: &Site) -> Json {
        let current = self.current.as_ref().ok().map(|current| {
            let mut tree = facts_json(&current.facts);
            tree["generation"] = json!(current.generation);
            tree["renewal_due"] = json!(time(current.renewal_due));
            tree["days_left"] = json!(days_left(current.validity));
            tree
        });
        let pins = &site.identity.ca_pins;
        let roots: Vec<Json> = self
            .roots
            .iter()
            .map(|(facts, thumbprint)| {
                json!({
                    "subject": facts.subject,
                    "thumbprint": thumbprint.to_string(),
                    "valid_until": time(facts.not_after),
                    "pinned": pins.iter().any(|pin| pin.0 == thumbprint.0),
                })
            })
            .collect();
        let lists: Vec<Json> = self
            .lists
            .iter()
            .map(|(list, freshness)| {
                json!({
                    "issuer": list.issuer(),
                    "made": time(list.this_update()),
                    "next": list.next_update().map(time),
                    "revoked": list.withdrawn(),
                    "fresh": matches!(freshness, Freshness::Fresh { .. }),
                })
            })
            .collect();
        let findings: Vec<Json> = self
            .findings
            .iter()
            .map(|it| json!({ "alarm": it.alarm(), "text": it.to_string(), "remedy": it.remedy() }))
            .collect();
        let state = &self.state;
        json!({
            "gateway": site.gateway(),
            "dir": site.folder.dir().display().to_string(),
            "current": current,
            "why_none": self.current.as_ref().err(),
            "findings": findings,
            "request_waits": self.pending.is_some(),
            "certificate_waits": self.pending == Some(true),
            "token": self.token,
            "bootstrap": self.bootstrap,
            "authority": site.identity.est.as_ref().map(ToString::to_string),
            "roots": roots,
            "revocation_lists": lists,
            "last_attempt": state.last_attempt.map(|at| time(instant(at))),
            "last_success": state.last_success.map(|at| time(instant(at))),
            "last_error": state.last_error,
            "failures": state.failures,
            "longest_offline_seconds": state.longest_offline_s,
            "confirmed_serial": state.confirmed_serial,
            "last_time": self.last_time.map(time),
            "remarks": self.remarks,
        })
    }
}

fn current(site: &Site, identity: &Identity, generation: u64, now: SystemTime) -> Current {
    let facts = identity.facts().clone();
    let (renewal_due, validity) = (site.policy().due(&facts), facts.validity(now));
    Current { facts, generation, renewal_due, validity }
}

pub(super) fn instant(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Days until the end, negative once it is past, to a hundredth.
pub(super) fn days_left(validity: Validity) -> f64 {
    let days = |span: Duration| (span.as_secs_f64() / 864.0).round() / 100.0;
    match validity {
        Validity::Valid { left } => days(left),
        Validity::Expired { since } => -days(since),
        // It has all of its days left; that it has not begun is another statement.
        Validity::NotYet { begins_in } => days(begins_in),
    }
}

/// What a certificate says.
pub(crate) fn facts_json(facts: &CertificateFacts) -> Json {
    json!({
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": facts.names,
        "serial": facts.serial,
        "valid_from": time(facts.not_before),
        "valid_until": time(facts.not_after),
    })
}

/// The whole report for a configuration.
pub(crate) fn gateway_json(config: &Config, identity: &IdentityConfig, now: SystemTime) -> Json {
    let site = Site {
        config: config.clone(),
        identity: identity.clone(),
        folder: IdentityFolder::at(&identity.dir),
        now,
        since: std::time::Instant::now(),
    };
    Report::of(&site).json(&site)
}
