//! `docs/man/tidegate.toml.5`.

use std::fmt::Write as _;

use super::{default_words, doc_words, sample, value_words};
use crate::config::keys::{self, Kind, Reload, Section};

const HEAD: &str = "\
.\\\" Printed from the table of keys by \"tidegate internal-docs --write .\"; edit the table.
.TH TIDEGATE.TOML 5 \"\" \"Tidegate\" \"File formats\"
.SH NAME
tidegate.toml \\- configuration of the Tidegate daemon
.SH SYNOPSIS
.I /etc/tidegate/tidegate.toml
.SH DESCRIPTION
One TOML file says who the gateway is, what it polls, and where the record goes.
Unknown keys are refused.
Relative paths start at the directory of the file.
.PP
.B tidegate check
reports every mistake of a file at once, each with its place and what would be legal.
.B tidegate init
writes a file to start from.
.PP
On SIGHUP changed devices and tags are applied and unchanged ones go on untouched; other changes
are named in the log and apply after a restart.
A file with mistakes changes nothing.
";

const TAIL: &str = "\
.SH ENVIRONMENT
.TP
.BI TIDEGATE_CFG_ SECTION __ KEY
Replaces a single value of the file, in capitals with an underscore for each dash and dot:
TIDEGATE_CFG_JOURNAL__MAX_BYTES sets
.B max\\-bytes
in
.BR [journal] ,
TIDEGATE_CFG_HUB__TLS__CA sets
.B ca
in
.BR [hub.tls] .
An argument wins over a variable, a variable over the file.
A variable that sets nothing is refused.
.SH SEE ALSO
.BR tidegate (1)
";

pub(super) fn print() -> String {
    let mut out = HEAD.to_owned();
    for section in Section::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(out, ".SH \"{}\"", escape(&section.header()));
        let _ = writeln!(out, "{}", text(section.doc()));
        if keys::of(section).any(|key| key.reload == Reload::Device) {
            out.push_str("Changes apply on SIGHUP.\n");
        }
        for key in keys::of(section).filter(|key| key.section == section) {
            let _ = writeln!(out, ".TP\n.B {}", escape(key.name));
            let _ = writeln!(out, "{}", text(&doc_words(key)));
            let _ = writeln!(out, ".br\nValue: {}.", text(&value_words(key)));
            let _ = writeln!(out, ".br\nDefault: {}.", text(&default_words(key)));
            let Kind::Word(words) = key.kind else { continue };
            out.push_str(".RS\n");
            for word in words {
                let planned = if word.built { "" } else { " (not yet in this version)" };
                let _ = writeln!(out, ".TP\n.B {}\n{}{planned}", escape(word.name), text(word.doc));
            }
            out.push_str(".RE\n");
        }
        let sample = sample(section);
        if !sample.is_empty() {
            let _ = writeln!(out, ".PP\n.nf\n.RS\n{}.RE\n.fi", lines(&sample));
        }
    }
    out.push_str(TAIL);
    out
}

/// Dashes stay dashes, and nothing is taken for a request.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('\'', "\\(aq")
}

/// Running text: the Markdown marks of the table are dropped.
fn text(text: &str) -> String {
    escape(&text.replace('`', ""))
}

fn lines(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        // A zero-width character keeps a dot at the start from being a request.
        let _ = writeln!(out, "\\&{}", escape(line));
        out
    })
}
