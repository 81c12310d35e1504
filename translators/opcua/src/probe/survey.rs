//! The course of a probe, from the name of a host to a value out of a subscription.
//!
//! # Invariants
//! - Each step ends: with an answer, or with the time-out of one request.
//! - Nobody logs on to a server whose certificate was not accepted, or without protection where
//!   nobody asked for that.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::join_all;
use opcua::types::{DateTime, EndpointDescription, StatusCode};
use tokio::time::Instant;

use super::cause::Cause;
use super::findings::{Findings, Reach};
use super::holdings::Holdings;
use super::offer::{OfferedPolicy, TokenKind, application, offers};
use super::walk::{self, Below};
use super::wording::Clock;
use super::{knock, session};
use crate::connect::{ConnectError, Stage, Target, choose, endpoints};
use crate::credentials::{Credentials, Presented};
use crate::line::Line;
use crate::spec::{DeviceSpec, EndpointUrl};
use crate::wire::Wire;

/// How long an advertised URL is tried.
const ADVERTISED: Duration = Duration::from_secs(2);
/// The most advertised URLs that are tried: a server has one for each of its network cards.
const MAX_ADVERTISED: usize = 16;

/// Looks at a server, as far as it lets us; unless `log_on`, as far as anybody may.
///
/// # Errors
/// With what was in the way. `findings` has what was learnt before.
pub async fn survey(
    spec: &DeviceSpec,
    credentials: &dyn Credentials,
    log_on: bool,
    findings: &RefCell<Findings>,
) -> Result<(), Cause> {
    let doing = |what| findings.borrow_mut().doing = what;
    let offered = ask(spec, findings).await?;
    doing("trying the URLs that it advertises");
    let advertised = advertised(spec, &offered).await;
    findings.borrow_mut().advertised = advertised;

    doing("judging its certificate");
    judge(spec, credentials, findings);
    if !log_on {
        return Ok(());
    }
    let since = Instant::now();
    let (line, mut wire) = enter(spec, credentials, &offered, findings).await?;
    findings.borrow_mut().session.get_or_insert_default().logged_on_in = since.elapsed();
    wire.serve(session::ask(&line, findings)).await;
    doing("logging off");
    wire.serve(line.close()).await;
    Ok(())
}

/// Looks at what a server holds.
///
/// # Errors
/// With what was in the way. `holdings` has what was learnt before, and `findings` what was learnt
/// of the server.
pub async fn browse(
    spec: &DeviceSpec,
    credentials: &dyn Credentials,
    below: &Below,
    findings: &RefCell<Findings>,
    holdings: &RefCell<Holdings>,
) -> Result<(), Cause> {
    holdings.borrow_mut().doing = "connecting".to_owned();
    let offered = ask(spec, findings).await?;
    let (line, mut wire) = enter(spec, credentials, &offered, findings).await?;
    let walked = wire.serve(walk::walk(&line, below, holdings)).await;
    wire.serve(line.close()).await;
    walked.map_err(|said| Cause::Unbrowsable { said })
}

/// Finds the server and asks what it offers.
async fn ask(
    spec: &DeviceSpec,
    findings: &RefCell<Findings>,
) -> Result<Vec<EndpointDescription>, Cause> {
    let doing = |what| findings.borrow_mut().doing = what;
    doing("looking for the server");
    let answered = knock::knock(&spec.url, spec.timeout).await?;
    findings.borrow_mut().answered = Some(answered);
    doing("asking for its endpoints");
    let told = endpoints(&spec.url, spec.timeout)
        .await
        .map_err(|error| cause(spec, &error, &[], findings))?;
    let mut findings = findings.borrow_mut();
    // Small servers without a clock leave it out.
    if !told.server_time.is_null() {
        findings.clock = Some(clock(&told.server_time, &DateTime::now(), told.took));
    }
    findings.application = application(&told.endpoints);
    findings.offers = offers(&told.endpoints);
    findings.chosen = findings.offers.iter().position(|offer| offer.fits(spec.security));
    Ok(told.endpoints)
}

/// Opens a channel and a session.
async fn enter(
    spec: &DeviceSpec,
    credentials: &dyn Credentials,
    offered: &[EndpointDescription],
    findings: &RefCell<Findings>,
) -> Result<(Line, Wire), Cause> {
    let chosen = choose(spec, offered).map_err(|error| cause(spec, &error, offered, findings))?;
    if spec.follow_advertised {
        follow(chosen.endpoint.endpoint_url.as_ref(), findings)?;
    }
    let target = Target::judged(spec, credentials, chosen)
        .map_err(|error| cause(spec, &error, offered, findings))?;
    findings.borrow_mut().doing = "logging on";
    let opened = Line::open(target, spec, credentials).await;
    opened.map_err(|error| cause(spec, &error, offered, findings))
}

/// The URLs on offer, and whether they lead somewhere.
async fn advertised(spec: &DeviceSpec, offered: &[EndpointDescription]) -> Vec<(String, Reach)> {
    let mut urls: Vec<String> = Vec::new();
    for endpoint in offered {
        let url = endpoint.endpoint_url.as_ref().to_owned();
        if !urls.contains(&url) && urls.len() < MAX_ADVERTISED {
            urls.push(url);
        }
    }
    let reaches = urls.iter().map(|text| async move {
        match EndpointUrl::parse(text) {
            Err(_) => Reach::Foreign,
            Ok(url) if same(&url, &spec.url) => Reach::Same,
            Ok(url) => match knock::dial(&url, spec.timeout.min(ADVERTISED)).await {
                Ok(_) => Reach::Reachable,
                Err(cause) => Reach::Unreachable(cause),
            },
        }
    });
    let reaches = join_all(reaches).await;
    urls.into_iter().zip(reaches).collect()
}

/// Whether two URLs lead to the same port.
fn same(one: &EndpointUrl, other: &EndpointUrl) -> bool {
    one.host.eq_ignore_ascii_case(&other.host) && one.port == other.port
}

/// An advertised URL that is to be followed must lead somewhere.
fn follow(url: &str, findings: &RefCell<Findings>) -> Result<(), Cause> {
    let findings = findings.borrow();
    let reach = findings.advertised.iter().find(|(other, _)| other == url);
    match (reach, EndpointUrl::parse(url)) {
        (Some((_, Reach::Unreachable(why))), Ok(url)) => {
            Err(Cause::Advertised { url, why: Box::new(why.clone()) })
        }
        _ => Ok(()),
    }
}

/// Asks whether the server's certificate is accepted, also where it will not be needed.
fn judge(spec: &DeviceSpec, credentials: &dyn Credentials, findings: &RefCell<Findings>) {
    let mut findings = findings.borrow_mut();
    let secure = |offer: &&super::offer::Offer| {
        !offer.certificate.is_empty() && offer.policy != OfferedPolicy::None
    };
    let chosen = findings.chosen.and_then(|chosen| findings.offers.get(chosen));
    let Some(offer) = chosen.filter(secure).or_else(|| findings.offers.iter().find(secure)) else {
        return;
    };
    let uri = findings.application.as_ref().map(|application| application.uri.as_str());
    let followed = spec.follow_advertised.then(|| EndpointUrl::parse(&offer.url).ok()).flatten();
    let presented = Presented {
        device: &spec.name,
        chain: &offer.certificate,
        application_uri: uri.unwrap_or_default(),
        host: followed.as_ref().map_or(&spec.url.host, |url| &url.host),
        trust: &spec.trust,
    };
    let verdict = credentials.judge(&presented);
    findings.trust = Some(verdict);
}

/// What a failed step means.
fn cause(
    spec: &DeviceSpec,
    error: &ConnectError,
    offered: &[EndpointDescription],
    findings: &RefCell<Findings>,
) -> Cause {
    let said = own_words(error);
    let stage = match error.stage {
        Stage::Resolve | Stage::Tcp => {
            return match &findings.borrow().answered {
                Some(answered) => Cause::NoConnection { at: answered.at, said },
                None => Cause::NoSuchName { host: spec.url.host.clone(), said },
            };
        }
        Stage::Hello => {
            let status = error.status.unwrap_or(StatusCode::BadUnexpectedError).bits();
            return Cause::HelloRefused { status, reason: said };
        }
        Stage::Choose => return nothing_fits(spec, offered),
        Stage::Own => return Cause::Ours { said },
        Stage::Trust => match &error.distrust {
            Some(distrust) => return Cause::Distrust(distrust.clone()),
            None => return Cause::Ours { said },
        },
        stage @ (Stage::Endpoints | Stage::Channel | Stage::CreateSession | Stage::Activate) => {
            stage
        }
    };
    match error.status {
        Some(StatusCode::BadTimeout) | None => Cause::Silent { stage, waited: spec.timeout },
        Some(status) => Cause::Status { stage, status, said },
    }
}

/// What else was said beside the status and what the library thinks of it.
fn own_words(error: &ConnectError) -> String {
    let Some(status) = error.status else { return error.text.clone() };
    let text = error.text.split(';').next().unwrap_or_default();
    let detail = text.strip_prefix(&status.to_string()).unwrap_or(text).trim();
    let detail = detail.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(detail);
    detail.to_owned()
}

fn nothing_fits(spec: &DeviceSpec, offered: &[EndpointDescription]) -> Cause {
    let offers = offers(offered);
    let fitting: Vec<_> = offers.iter().filter(|offer| offer.fits(spec.security)).collect();
    if fitting.is_empty() {
        let offered = offers.iter().filter(|offer| offer.binary);
        let offered = offered.map(|offer| (offer.policy.clone(), offer.mode)).collect();
        return Cause::NoEndpoint { offered };
    }
    let taken = fitting.iter().flat_map(|offer| {
        let all =
            [TokenKind::Anonymous, TokenKind::UserName, TokenKind::Certificate, TokenKind::Issued];
        all.into_iter().filter(|kind| offer.takes(*kind))
    });
    Cause::NoToken { taken: taken.collect() }
}

/// How far a server's time is from ours, where its answer took `took` and came in at `now`.
pub(super) fn clock(server: &DateTime, now: &DateTime, took: Duration) -> Clock {
    apart(server.checked_ticks(), now.checked_ticks(), took)
}

/// The same in ticks of 100 ns. The server looked at its clock somewhere between question and
/// answer.
fn apart(server: i64, now: i64, took: Duration) -> Clock {
    let half = i64::try_from(took.as_nanos() / 200).unwrap_or_default();
    let ahead = server.saturating_sub(now.saturating_sub(half));
    let apart = Duration::from_micros(ahead.unsigned_abs() / 10);
    Clock { apart, server_ahead: ahead > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_question_and_answer() {
        let (now, second, took) = (10_i64.pow(17), 10_000_000, Duration::from_millis(400));
        let ahead = apart(now + 10 * second, now, took);
        assert!(ahead.server_ahead && ahead.apart == Duration::from_millis(10_200));
        assert!(!apart(now - 10 * second, now, took).server_ahead);
        assert_eq!(apart(now - second / 5, now, took).apart, Duration::ZERO);
        assert!(apart(i64::MAX, 0, took).is_too_far_off());
        assert!(apart(i64::MIN, i64::MAX, took).is_too_far_off());
    }

    #[test]
    fn only_what_the_server_itself_said_is_kept_of_an_error() {
        let refused = |detail| {
            ConnectError::refused(Stage::Activate, StatusCode::BadUserAccessDenied, detail)
        };
        assert_eq!(own_words(&refused("no such user")), "no such user");
        assert_eq!(own_words(&refused("")), "");
    }

    #[test]
    fn urls_that_are_dialled_alike_are_the_same() {
        let url = |text| EndpointUrl::parse(text).unwrap();
        assert!(same(&url("opc.tcp://PLC/UA"), &url("opc.tcp://plc:4840/")));
        assert!(!same(&url("opc.tcp://plc"), &url("opc.tcp://192.0.2.7")));
    }
}
