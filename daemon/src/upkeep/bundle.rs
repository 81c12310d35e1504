//! What a support bundle is made of.
//!
//! # Invariants
//! - Every text comes in through [`Bundle::add`], and leaves its secrets there; names are ours.
//! - What could not be had is listed with its reason, so that a bundle without a log is told from
//!   one whose log was quiet.
//! - No values of tags: how the gateway does is asked for, not what the plant does.

use std::fmt::Write as _;

use super::archive::{ArchiveError, Writer};
use super::redact::Redaction;

/// The most that one text takes, in bytes; of a longer one the end stays, which is where logs have
/// what happened last.
const LONGEST: usize = 8 << 20;

/// The texts of a bundle.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    redaction: Redaction,
    texts: Vec<(String, String)>,
    lacking: Vec<(String, String)>,
}

impl Bundle {
    /// What it knows to be secret.
    pub(crate) fn redaction(&mut self) -> &mut Redaction {
        &mut self.redaction
    }

    /// Adds a text without its secrets.
    pub(crate) fn add(&mut self, name: &str, text: &str) {
        let text = self.redaction.cut(text);
        self.texts.push((name.to_owned(), end_of(text)));
    }

    /// Notes what is missing, and why.
    pub(crate) fn lacks(&mut self, name: &str, why: &str) {
        self.lacking.push((name.to_owned(), self.redaction.cut(why)));
    }

    /// What is missing.
    pub(crate) fn lacking(&self) -> &[(String, String)] {
        &self.lacking
    }

    /// How many texts there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The texts by name, the list of what is missing the last of them.
    pub(crate) fn into_texts(mut self) -> Vec<(String, String)> {
        if !self.lacking.is_empty() {
            let mut text = String::new();
            for (name, why) in &self.lacking {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name}: {why}");
            }
            self.texts.push(("missing.txt".to_owned(), text));
        }
        self.texts
    }

    /// All of it as one archive, below one folder.
    pub(crate) fn into_archive(self, folder: &str, time: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut writer = Writer::new(time);
        for (name, text) in self.into_texts() {
            writer.file(&format!("{folder}/{name}"), text.as_bytes())?;
        }
        Ok(writer.finish().to_vec())
    }
}

fn end_of(text: String) -> String {
    let Some(mut from) = text.len().checked_sub(LONGEST) else { return text };
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("[{from} bytes before this were left out]\n{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_leaves_its_secrets_and_a_reason_does_too() {
        let mut bundle = Bundle::default();
        bundle.redaction().learn(b"open-sesame");
        bundle.add("a.txt", "say open-sesame");
        bundle.lacks("log.txt", "journalctl said open-sesame");
        let texts = bundle.into_texts();
        let text = |name: &str| texts.iter().find(|(it, _)| it == name).unwrap().1.clone();
        assert_eq!(text("a.txt"), "say ***");
        assert_eq!(text("missing.txt"), "log.txt: journalctl said ***\n");
    }

    #[test]
    fn of_a_text_that_is_too_long_the_end_stays() {
        let mut bundle = Bundle::default();
        bundle.add("log.txt", &format!("ä{}last", "x".repeat(LONGEST - 4)));
        let (_, text) = bundle.into_texts().remove(0);
        assert!(text.ends_with("last") && text.starts_with("[2 bytes before"), "{}", &text[..40]);
    }
}
