//! Asking for a restart of a leaf that is a service of its own: a file that the service manager
//! watches for, removes and acts on.
//!
//! # Invariants
//! - One request at a time, and no more than one in [`AGAIN`]: a leaf that nothing helps is not
//!   restarted all the time.
//! - What asked for a remedy is content with another life of the leaf; what asked for another
//!   configuration, with a leaf that runs it.
//! - A request that nobody takes is told, with what to do by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::credentials::{GROUP, write_whole};
use crate::causes::chain;

/// The file's name in the leaf's folder.
const FILE: &str = "restart";
/// Between two requests: a start takes milliseconds, a link over a satellite half a minute.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the service manager may take; it hears of the file at once.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// What a restart is to help against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It runs another configuration than the one on disk.
    Configuration,
    /// It runs what it should, and its links do not work.
    Remedy,
}

/// What was asked for.
#[derive(Debug)]
struct Asked {
    why: Why,
    text: String,
    at: Instant,
    /// The life of the leaf that is to end.
    life: Option<String>,
}

/// The request for a restart.
#[derive(Debug)]
pub(super) struct Request {
    path: PathBuf,
    asked: Option<Asked>,
    last: Option<Instant>,
}

impl Request {
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join(FILE), asked: None, last: None }
    }

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= AGAIN)
    }

    /// Asks, unless that was done a moment ago.
    pub(super) fn ask(&mut self, why: Why, text: &str, life: Option<&str>) {
        if !self.is_due() {
            return tracing::debug!("no second restart of the leaf yet: {text}");
        }
        let at = Instant::now();
        self.last = Some(at);
        tracing::warn!("asks for a restart of the leaf's service: {text}");
        let life = life.map(str::to_owned);
        if let Err(error) = write_whole(&self.path, format!("{text}\n").as_bytes(), GROUP) {
            tracing::warn!("the request cannot be written: {}", chain(&error));
        }
        self.asked = Some(Asked { why, text: text.to_owned(), at, life });
    }

    /// Takes in that this life of the leaf runs what is on disk; returns whether nothing is asked
    /// for any more.
    pub(super) fn settled(&mut self, life: &str) -> bool {
        let is_content = self.asked.as_ref().is_none_or(|asked| {
            asked.why == Why::Configuration || asked.life.as_deref() != Some(life)
        });
        if is_content && self.asked.take().is_some() {
            // The service manager has removed it, as a rule.
            let _ = std::fs::remove_file(&self.path);
        }
        is_content
    }

    /// What nobody took up in time.
    pub(super) fn unheard(&self) -> Option<String> {
        let asked = self.asked.as_ref().filter(|asked| asked.at.elapsed() >= TAKEN_WITHIN)?;
        self.path.exists().then(|| {
            format!(
                "the leaf's service has to be restarted, and nobody does it ({} lies there): {}; \
                 restart it by hand, as with: systemctl restart tidegate-leaf",
                self.path.display(),
                asked.text
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_asked_for_once_a_minute_and_told_where_nobody_does_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut request = Request::in_dir(dir.path());
        request.ask(Why::Configuration, "another port", Some("A"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another port\n");
        assert_eq!(request.unheard(), None);
        tokio::time::advance(TAKEN_WITHIN).await;
        let text = request.unheard().unwrap();
        assert!(text.contains("another port") && text.contains("systemctl restart"), "{text}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(request.unheard(), None, "somebody took it");
        request.ask(Why::Configuration, "again", Some("A"));
        assert!(!path.exists());
        tokio::time::advance(AGAIN).await;
        request.ask(Why::Configuration, "again", Some("A"));
        assert!(path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn another_configuration_is_enough_for_one_and_another_life_for_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut request = Request::in_dir(dir.path());
        request.ask(Why::Configuration, "another port", Some("A"));
        assert!(request.settled("A") && !dir.path().join(FILE).exists());
        tokio::time::advance(AGAIN).await;
        request.ask(Why::Remedy, "both links are mute", Some("A"));
        assert!(!request.settled("A") && dir.path().join(FILE).exists());
        assert!(request.settled("B") && !dir.path().join(FILE).exists());
    }
}
