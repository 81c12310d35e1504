//! Changes of gateways in the text of `hub.toml`, everything else left as a person wrote it.
//!
//! # Invariants
//! - The changed text is read back: only when it says exactly what it should is it used, otherwise
//!   the whole file is printed anew.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::{HubFile, HubGateway};
use crate::names::GatewayId;

impl HubFile {
    /// `text`, which says this, changed to say `wanted`.
    #[must_use]
    pub fn edited(&self, text: &str, wanted: &Self) -> String {
        if self == wanted {
            return text.to_owned();
        }
        let mut changed = text.to_owned();
        // By name: a hub may have tens of thousands.
        let (before, after) = (by_name(self), by_name(wanted));
        let stays = |gateway: &HubGateway| after.get(&gateway.id) == Some(&gateway);
        let headers = headers(text);
        if headers.len() == self.gateways.len() {
            let gone = self.gateways.iter().zip(headers).filter(|(it, _)| !stays(it));
            let gone: Vec<_> = gone.map(|(_, header)| block(text, header)).collect();
            for range in gone.into_iter().rev() {
                changed.replace_range(range, "");
            }
        }
        if !changed.ends_with('\n') {
            changed.push('\n');
        }
        let is_new = |gateway: &&HubGateway| before.get(&gateway.id) != Some(gateway);
        let new = wanted.gateways.iter().filter(is_new);
        changed.extend(new.map(HubGateway::print));
        match Self::read(Path::new("hub.toml"), &changed) {
            Ok(read) if read.says(wanted) => changed,
            _ => wanted.print(),
        }
    }

    /// Whether both say the same, gateways in whichever order.
    fn says(&self, other: &Self) -> bool {
        let sorted = |file: &Self| {
            let mut file = file.clone();
            file.gateways.sort_by(|a, b| a.id.cmp(&b.id));
            file
        };
        sorted(self) == sorted(other)
    }
}

fn by_name(file: &HubFile) -> HashMap<&GatewayId, &HubGateway> {
    file.gateways.iter().map(|gateway| (&gateway.id, gateway)).collect()
}

/// Where the headers of gateways begin.
fn headers(text: &str) -> Vec<usize> {
    let mut at = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        if is_header(line)
            && line.trim_start().trim_start_matches(['[', ' ']).starts_with("gateway")
        {
            found.push(at);
        }
        at += line.len();
    }
    found
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The lines of the section whose header is at `header`, with the comment right above it, and
/// without what is above the next header.
fn block(text: &str, header: usize) -> Range<usize> {
    let (above, below) = text.split_at(header);
    let mut start = header;
    for line in above.split_inclusive('\n').rev().take_while(|line| line.starts_with('#')) {
        start -= line.len();
    }
    let mut end = header;
    let mut pending = 0;
    for (at, line) in below.split_inclusive('\n').enumerate() {
        if at > 0 && is_header(line) {
            break;
        }
        pending += line.len();
        let of_the_next = at > 0 && (line.starts_with('#') || line.trim().is_empty());
        if !of_the_next {
            end += pending;
            pending = 0;
        }
    }
    // One empty line goes with it.
    if let Some(line) = text.get(end..).and_then(|rest| rest.split_inclusive('\n').next())
        && line.trim().is_empty()
    {
        end += line.len();
    }
    start..end
}
