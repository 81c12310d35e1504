//! `docs/configuration.md`.

use std::fmt::Write as _;

use super::{default_words, doc_words, literal, sample, value_words};
use crate::config::keys::{self, Kind, Reload, Section};

const HEAD: &str = "\
<!-- Printed from the table of keys by `tidegate internal-docs --write .`; edit the table. -->
# Configuration

One TOML file, by default `/etc/tidegate/tidegate.toml`. `tidegate init --modbus HOST:PORT` and `tidegate init --opcua URL` write \
one to start from; `tidegate check FILE` reports every mistake in it at once, each with its place \
and what would be legal, and says what would be polled and how much disk and network that takes.

- Keys are written like `poll-every-ms`; a time or size has its unit in the key or in the value. \
Unknown keys are refused.
- Relative paths start at the directory of the file.
- A command-line argument wins over an environment variable, the variable over the file, the file \
over the default. The variable of `max-bytes` in `[journal]` is `TIDEGATE_CFG_JOURNAL__MAX_BYTES`: \
`TIDEGATE_CFG_`, the section, two underscores, the key, all in capitals with `_` for `-`. \
`TIDEGATE_CFG_HUB__TLS__CA` sets `ca` in `[hub.tls]`. A variable that sets nothing is refused. \
Lists, devices and tags are set in the file only.
- After a change send SIGHUP (`systemctl reload tidegate`). Devices and tags are applied at once, \
and unchanged ones go on untouched; other changes are named in the log and apply after a restart. \
A file with mistakes changes nothing.
- Editors that know JSON Schema complete and check keys with `docs/tidegate.schema.json`.
";

pub(super) fn print() -> String {
    let mut out = HEAD.to_owned();
    for section in Section::ALL {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## `{}`\n\n{}\n\n", section.header(), section.doc());
        if keys::of(section).any(|key| key.reload == Reload::Device) {
            out.push_str("Changes apply on SIGHUP.\n\n");
        }
        let rows = || keys::of(section).filter(|key| key.section == section);
        if rows().next().is_some() {
            out.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        }
        for key in rows() {
            let value = cell(&value_words(key));
            let default = literal(&key.default)
                .map_or_else(|| default_words(key), |literal| format!("`{literal}`"));
            let default = cell(&default);
            let _ = writeln!(
                out,
                "| `{}` | {value} | {default} | {} |",
                key.name,
                cell(&doc_words(key))
            );
        }
        for key in rows() {
            let Kind::Word(words) = key.kind else { continue };
            let _ = write!(out, "\nWords for `{}`:\n", key.name);
            for word in words {
                let planned = if word.built { "" } else { " (not yet in this version)" };
                let _ = writeln!(out, "- `{}`: {}{planned}", word.name, word.doc);
            }
        }
        let sample = sample(section);
        if !sample.is_empty() {
            let _ = write!(out, "\n```toml\n{sample}```\n");
        }
    }
    out
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
