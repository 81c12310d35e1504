//! What is known of a server, for programs.

use serde_json::{Value as Json, json};
use tidegate_opcua::probe::wording::{Clock, security_word};
use tidegate_opcua::probe::{Cause, Findings, Offer, Reach, SessionFindings, TokenKind};

use super::certificate::Shown;

/// Everything that is known. `trouble` is what was in the way, with its sentence.
pub(super) fn tree(
    url: &str,
    findings: &Findings,
    certificate: Option<&Shown>,
    trouble: Option<(&Cause, &str)>,
    interrupted: bool,
) -> Json {
    let answered = findings.answered.as_ref().map(|answered| {
        json!({
            "address": answered.at.to_string(),
            "connected-ms": ms(answered.connected_in),
            "limits": answered.limits,
        })
    });
    let application = findings.application.as_ref().map(|application| {
        json!({
            "name": application.name,
            "uri": application.uri,
            "product-uri": application.product,
        })
    });
    let trust = findings.trust.as_ref().map(|trust| match trust {
        Ok(()) => json!({"accepted": true}),
        Err(distrust) => {
            json!({"accepted": false, "kind": distrust.kind, "why": distrust.text})
        }
    });
    let trouble = trouble.map(|(cause, why)| {
        json!({
            "kind": cause.word(),
            "status": cause.status().map(|status| format!("0x{status:08X}")),
            "why": why,
        })
    });
    let advertised: Vec<Json> = findings
        .advertised
        .iter()
        .map(|(url, reach)| {
            let reach = match reach {
                Reach::Same => "as-given",
                Reach::Reachable => "answers",
                Reach::Unreachable(_) => "unreachable",
                Reach::Foreign => "another-protocol",
            };
            json!({"url": url, "from-here": reach})
        })
        .collect();
    let endpoints = findings.offers.iter().enumerate();
    let endpoints: Vec<Json> =
        endpoints.map(|(at, offer)| endpoint(offer, findings.chosen == Some(at))).collect();
    json!({
        "url": url,
        "answered": answered,
        "application": application,
        "endpoints": endpoints,
        "advertised": advertised,
        "certificate": certificate,
        "trust": trust,
        "clock": findings.clock.map(clock),
        "session": findings.session.as_ref().map(session),
        "trouble": trouble,
        "interrupted": interrupted,
    })
}

fn endpoint(offer: &Offer, chosen: bool) -> Json {
    let kinds =
        [TokenKind::Anonymous, TokenKind::UserName, TokenKind::Certificate, TokenKind::Issued];
    let users: Vec<&str> =
        kinds.into_iter().filter(|kind| offer.takes(*kind)).map(TokenKind::word).collect();
    json!({
        "url": offer.url,
        "policy": offer.policy.name(),
        "security": security_word(&offer.policy),
        "mode": offer.mode.name(),
        "users": users,
        "level": offer.level,
        "binary": offer.binary,
        "chosen": chosen,
    })
}

fn clock(clock: Clock) -> Json {
    let apart = ms(clock.apart);
    json!({"ahead-ms": if clock.server_ahead { apart } else { -apart }})
}

fn session(session: &SessionFindings) -> Json {
    let limits: serde_json::Map<String, Json> =
        session.limits.iter().map(|(name, limit)| ((*name).to_owned(), json!(limit))).collect();
    let subscription = session.subscription.as_ref().map(|tried| match tried {
        Ok(works) => json!({
            "works": true,
            "publish-every-ms": ms(works.publish_every),
            "sample-every-ms": ms(works.sample_every),
            "first-value-ms": ms(works.first_after),
        }),
        Err(why) => json!({"works": false, "why": why}),
    });
    json!({
        "logged-on-ms": ms(session.logged_on_in),
        "state": session.state,
        "started": session.started,
        "manufacturer": session.build.manufacturer,
        "product": session.build.product,
        "version": session.build.version,
        "build": session.build.number,
        "namespaces": session.namespaces,
        "limits": limits,
        "subscription": subscription,
        "history": session.history,
        "not-read": session.unread,
    })
}

/// Milliseconds with microseconds behind the point.
fn ms(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
