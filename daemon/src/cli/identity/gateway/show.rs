//! `tidegate identity show`.

use std::io;
use std::time::{Duration, SystemTime};

use tidegate_identity::Validity;
use tidegate_identity::crl::Freshness;

use super::super::super::exit::{NO, OK};
use super::super::super::terminal::{Tone, age, count, tame};
use super::super::{Surroundings, day, time};
use super::GatewayArgs;
use super::report::{Current, Report, instant};

/// Show the certificate that the hub sees, when it is renewed, and what is wrong with it
#[derive(Debug, Clone, clap::Args)]
pub struct ShowArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Whose.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Exit code 0 it can be used, 1 there is none or something is wrong with it.
pub(in super::super) fn show(args: &ShowArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let site = match args.gateway.site(with)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let report = Report::of(&site);
    let code = if report.current.is_ok() && report.findings.is_empty() { OK } else { NO };
    if args.json {
        writeln!(with.out, "{}", report.json(&site))?;
        return Ok(code);
    }
    for (name, value, tone) in rows(&report, site.judged_at(), site.identity.est.as_ref()) {
        writeln!(with.out, "{name:<12}  {}", tone.paint(&tame(&value), with.colour))?;
    }
    for finding in &report.findings {
        writeln!(with.err, "wrong: {}; {}", tame(&finding.to_string()), finding.remedy())?;
    }
    for remark in &report.remarks {
        writeln!(with.err, "note: {}", tame(remark))?;
    }
    if report.current.is_err() {
        writeln!(with.err, "{}", tame(&missing(&report, site.identity.est.is_some())))?;
    }
    Ok(code)
}

type Row = (&'static str, String, Tone);

fn rows(report: &Report, now: SystemTime, authority: Option<&crate::config::HttpsUrl>) -> Vec<Row> {
    let plain = |name, value: String| (name, value, Tone::Plain);
    let mut rows = Vec::new();
    match &report.current {
        Ok(current) => rows.extend(certificate(current, now)),
        Err(why) => rows.push(("certificate", format!("none: {why}"), Tone::Wrong)),
    }
    if let Some(has_certificate) = report.pending {
        let text =
            if has_certificate { "a certificate, to be tried on the hub" } else { "a request" };
        rows.push(("waiting", text.to_owned(), Tone::Caution));
    }
    for (there, text) in [(report.token, "a token"), (report.bootstrap, "a bootstrap certificate")]
    {
        if there {
            rows.push(plain("enrols by", text.to_owned()));
        }
    }
    let authority = authority
        .map_or_else(|| "none: certificates come as files".to_owned(), ToString::to_string);
    rows.push(plain("authority", authority));
    for (root, thumbprint) in &report.roots {
        let text =
            format!("{} until {} ({})", root.subject, day(root.not_after), thumbprint.short());
        rows.push(plain("root", text));
    }
    if report.roots.is_empty() {
        rows.push(("root", "none yet".to_owned(), Tone::Caution));
    }
    for (list, freshness) in &report.lists {
        let old = now.duration_since(list.this_update()).unwrap_or_default();
        let revoked = u64::try_from(list.withdrawn()).unwrap_or(u64::MAX);
        let text = format!("of {}, {} old, {revoked} revoked", list.issuer(), age(old));
        let (text, tone) = match freshness {
            Freshness::Fresh { .. } => (text, Tone::Plain),
            Freshness::Stale { since, .. } => {
                (format!("{text}; stale for {}", age(*since)), Tone::Wrong)
            }
        };
        rows.push(("revoked", text, tone));
    }
    let state = &report.state;
    if let Some(at) = state.last_success {
        rows.push(plain("renewed", time(instant(at))));
    }
    if let Some(at) = state.last_attempt {
        rows.push(plain("last attempt", time(instant(at))));
    }
    if let Some(error) = &state.last_error {
        let times = count(u64::from(state.failures), "failure");
        rows.push(("last error", format!("{error} ({times})"), Tone::Wrong));
    }
    if state.longest_offline_s > 0 {
        let longest = age(Duration::from_secs(state.longest_offline_s));
        rows.push(plain("offline", format!("{longest} at most so far")));
    }
    rows
}

fn certificate(current: &Current, now: SystemTime) -> Vec<Row> {
    let facts = &current.facts;
    let plain = |name, value: String| (name, value, Tone::Plain);
    let (left, tone) = match current.validity {
        Validity::Valid { left } => (format!("{} left", age(left)), Tone::Good),
        Validity::NotYet { begins_in } => (format!("begins in {}", age(begins_in)), Tone::Wrong),
        Validity::Expired { since } => (format!("expired {} ago", age(since)), Tone::Wrong),
    };
    let due = match current.renewal_due.duration_since(now) {
        Ok(in_time) => format!("{}, in {}", time(current.renewal_due), age(in_time)),
        Err(past) => format!("{}, for {}", time(current.renewal_due), age(past.duration())),
    };
    let overdue = current.renewal_due < now;
    let names = if facts.names.is_empty() { "–".to_owned() } else { facts.names.join(", ") };
    vec![
        plain("subject", facts.subject.clone()),
        plain("hosts", names),
        plain("serial", facts.serial.clone()),
        plain("generation", format!("gen-{}", current.generation)),
        plain("signed by", facts.issuer.clone()),
        plain("valid from", time(facts.not_before)),
        ("valid until", format!("{}, {left}", time(facts.not_after)), tone),
        ("renewal due", due, if overdue { Tone::Caution } else { Tone::Plain }),
    ]
}

fn missing(report: &Report, has_authority: bool) -> String {
    let next = match (report.pending, has_authority) {
        (Some(true), _) => "a certificate waits: tidegate identity enrol, or start the daemon",
        (_, true) => "get one with: tidegate identity enrol --token-file FILE",
        (Some(false), false) => {
            "have the request signed, then: tidegate identity enrol --certificate FILE"
        }
        (None, false) => "make a key and a request with: tidegate identity init",
    };
    format!("there is no certificate yet; {next}")
}
