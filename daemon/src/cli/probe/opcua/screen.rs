//! What is known of a server, for the person who connects it.

use std::io::{self, Write};
use std::time::Duration;

use tidegate_opcua::probe::wording::{Clock, span};
use tidegate_opcua::probe::{
    Findings, Offer, OfferedMode, OfferedPolicy, Reach, SessionFindings, TokenKind,
};

use super::certificate::Shown;
use crate::cli::terminal::{Align, Table, Tone, tame};

/// The column in which what is told begins.
const LABEL: usize = 14;
/// Namespaces that are shown; servers made of companion specifications have dozens.
const NAMESPACES: usize = 24;

/// Where lines go, and how.
pub(super) struct Page<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) colour: bool,
}

impl Page<'_> {
    fn line(&mut self, label: &str, text: &str, tone: Tone) -> io::Result<()> {
        let text = tone.paint(&tame(text), self.colour);
        let label = Tone::Faint.paint(&format!("{label:LABEL$}"), self.colour);
        writeln!(self.out, "{label}{text}")
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n{}", Tone::Strong.paint(text, self.colour))
    }

    /// Writes everything.
    pub(super) fn show(
        &mut self,
        url: &str,
        findings: &Findings,
        certificate: Option<&Shown>,
        user: &str,
    ) -> io::Result<()> {
        let Some(answered) = &findings.answered else { return Ok(()) };
        let at = format!("answers at {} after {}", answered.at, short(answered.connected_in));
        let name = Tone::Strong.paint(&tame(url), self.colour);
        writeln!(self.out, "{name}  {at}\n")?;
        self.server(findings)?;
        if !findings.offers.is_empty() {
            self.heading("Endpoints")?;
            endpoints(findings).write(self.out, 0, self.colour)?;
        }
        self.advertised(findings)?;
        if let Some(certificate) = certificate {
            self.heading("Certificate of the server")?;
            for (label, text, tone) in certificate.lines() {
                self.line(label, &text, tone)?;
            }
            match &findings.trust {
                Some(Ok(())) => self.line("trust", "accepted", Tone::Good)?,
                // What helps stands below, where it is what is in the way.
                Some(Err(distrust)) => {
                    let what = distrust.text.split(';').next().unwrap_or_default();
                    self.line("trust", &format!("no: {what}"), Tone::Wrong)?;
                }
                None => {}
            }
        }
        match &findings.session {
            Some(session) => self.session(findings, session, user),
            None => Ok(()),
        }
    }

    fn server(&mut self, findings: &Findings) -> io::Result<()> {
        if let Some(application) = &findings.application {
            self.line("server", &application.name, Tone::Plain)?;
            self.line("uri", &application.uri, Tone::Plain)?;
            if !application.product.is_empty() {
                self.line("product uri", &application.product, Tone::Plain)?;
            }
        }
        if let Some(session) = &findings.session {
            let build = &session.build;
            let product = [&build.product, &build.version].map(Option::as_deref);
            let mut text: Vec<String> = product.into_iter().flatten().map(str::to_owned).collect();
            text.extend(build.number.as_ref().map(|number| format!("(build {number})")));
            text.extend(build.manufacturer.as_ref().map(|maker| format!("by {maker}")));
            if !text.is_empty() {
                self.line("runs", &text.join(" "), Tone::Plain)?;
            }
            if let Some(state) = &session.state {
                let good = if state == "Running" { Tone::Good } else { Tone::Wrong };
                let since = session.started.as_ref().map(|at| format!(" since {at}"));
                self.line("state", &format!("{state}{}", since.unwrap_or_default()), good)?;
            }
        }
        if let Some(clock) = findings.clock {
            let tone = if clock.is_too_far_off() { Tone::Wrong } else { Tone::Plain };
            self.line("clock", &clock_words(clock), tone)?;
        }
        Ok(())
    }

    /// Only what is not as given, since only that can surprise.
    fn advertised(&mut self, findings: &Findings) -> io::Result<()> {
        let other = |(_, reach): &&(String, Reach)| *reach != Reach::Same;
        if findings.advertised.iter().filter(other).count() == 0 {
            return Ok(());
        }
        self.heading("Advertised URLs")?;
        let mut table = Table::new(&[("URL", Align::Left), ("FROM HERE", Align::Left)]);
        for (url, reach) in &findings.advertised {
            let (text, tone) = reach_words(reach);
            table.row([(url.clone(), Tone::Plain), (text.to_owned(), tone)]);
        }
        table.write(self.out, 0, self.colour)?;
        let note = "The URL that was given is dialled, whatever is advertised; \
                    advertised-url = \"follow\" changes that.";
        writeln!(self.out, "{}", Tone::Faint.paint(note, self.colour))
    }

    fn session(
        &mut self,
        findings: &Findings,
        session: &SessionFindings,
        user: &str,
    ) -> io::Result<()> {
        self.heading("Session")?;
        let with = findings.chosen.and_then(|chosen| findings.offers.get(chosen));
        let with = with.map(|offer| format!(", {}", protection(offer))).unwrap_or_default();
        let logged_on = format!("as {user}{with}, in {}", short(session.logged_on_in));
        self.line("logged on", &logged_on, Tone::Good)?;
        match &session.subscription {
            Some(Ok(works)) => {
                let text = format!(
                    "works: first value after {}, published every {}, sampled every {}",
                    short(works.first_after),
                    short(works.publish_every),
                    short(works.sample_every)
                );
                self.line("subscription", &text, Tone::Good)?;
            }
            Some(Err(why)) => {
                let text = format!("does not work: {why}; use collect = \"poll\"");
                self.line("subscription", &text, Tone::Wrong)?;
            }
            None => {}
        }
        let history = match session.history {
            Some(true) => "kept: gaps can be filled from it, for the values that have one",
            Some(false) => "not kept",
            None => "the server does not say",
        };
        self.line("history", history, Tone::Plain)?;
        for what in &session.unread {
            self.line("not read", what, Tone::Caution)?;
        }
        let limited: Vec<_> = session.limits.iter().filter(|(_, limit)| *limit != 0).collect();
        if limited.is_empty() {
            self.line("limits", "the server names none", Tone::Plain)?;
        }
        for (at, (name, limit)) in limited.into_iter().enumerate() {
            let label = if at == 0 { "limits" } else { "" };
            self.line(label, &format!("{name} {limit}"), Tone::Plain)?;
        }
        for (index, uri) in session.namespaces.iter().enumerate().take(NAMESPACES) {
            let label = if index == 0 { "namespaces" } else { "" };
            self.line(label, &format!("{index:>2}  {uri}"), Tone::Plain)?;
        }
        let more = session.namespaces.len().saturating_sub(NAMESPACES);
        if more > 0 {
            self.line("", &format!("and {more} more (--json has all)"), Tone::Faint)?;
        }
        Ok(())
    }
}

/// A certificate's lines: label, text, tone.
impl Shown {
    fn lines(&self) -> Vec<(&'static str, String, Tone)> {
        let (dates, tone) = self.dates();
        let list = |names: &[String]| {
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let issuer = match &self.issuer {
            None => "itself".to_owned(),
            Some(issuer) if self.authorities == 0 => issuer.clone(),
            Some(issuer) => format!("{issuer} (chain of {} sent along)", self.authorities),
        };
        vec![
            ("subject", self.subject.clone(), Tone::Plain),
            ("signed by", issuer, Tone::Plain),
            ("thumbprint", self.thumbprint.clone(), Tone::Strong),
            ("uris", list(&self.uris), Tone::Plain),
            ("names", list(&self.names), Tone::Plain),
            ("valid", dates, tone),
            ("key", format!("{}, signature {}", self.key, self.signature), Tone::Plain),
        ]
    }
}

fn endpoints(findings: &Findings) -> Table {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("POLICY", Align::Left),
        ("MODE", Align::Left),
        ("USERS", Align::Left),
        ("LEVEL", Align::Right),
        ("", Align::Left),
    ]);
    for (at, offer) in findings.offers.iter().enumerate() {
        let (note, tone) = note(offer);
        let chosen = findings.chosen == Some(at);
        let mark = if chosen { "►" } else { "" };
        table.row([
            (mark.to_owned(), Tone::Good),
            (offer.policy.name().to_owned(), tone),
            (offer.mode.name().to_owned(), tone),
            (users(offer), tone),
            (offer.level.to_string(), tone),
            (note.to_owned(), Tone::Faint),
        ]);
    }
    table
}

fn note(offer: &Offer) -> (&'static str, Tone) {
    if !offer.binary {
        return ("another protocol", Tone::Faint);
    }
    match &offer.policy {
        OfferedPolicy::Withdrawn(_) => ("broken, never used", Tone::Faint),
        OfferedPolicy::Other(_) => ("not spoken here", Tone::Faint),
        OfferedPolicy::None => ("anybody can read and change it", Tone::Caution),
        OfferedPolicy::Known(_) => ("", Tone::Plain),
    }
}

fn users(offer: &Offer) -> String {
    let mut words: Vec<&str> = Vec::new();
    for kind in
        [TokenKind::Anonymous, TokenKind::UserName, TokenKind::Certificate, TokenKind::Issued]
    {
        if offer.takes(kind) {
            words.push(kind.word());
        }
    }
    words.join(", ")
}

fn protection(offer: &Offer) -> String {
    match (&offer.policy, offer.mode) {
        (OfferedPolicy::None, _) => "without protection".to_owned(),
        (policy, OfferedMode::None | OfferedMode::Invalid) => policy.name().to_owned(),
        (policy, mode) => format!("{} and {}", policy.name(), mode.name()),
    }
}

pub(super) const fn reach_words(reach: &Reach) -> (&'static str, Tone) {
    match reach {
        Reach::Same => ("as given", Tone::Plain),
        Reach::Reachable => ("answers", Tone::Plain),
        Reach::Unreachable(_) => ("cannot be reached", Tone::Caution),
        Reach::Foreign => ("another protocol", Tone::Faint),
    }
}

fn clock_words(clock: Clock) -> String {
    if clock.apart < Duration::from_millis(500) {
        return "as ours".to_owned();
    }
    let side = if clock.server_ahead { "ahead of" } else { "behind" };
    let hint = if clock.is_too_far_off() {
        ": set the one that is wrong, servers refuse when clocks are far apart"
    } else {
        ""
    };
    format!("{} {side} ours{hint}", span(clock.apart))
}

/// `0.4 ms`, `35 ms`, `1.2 s`.
fn short(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}
