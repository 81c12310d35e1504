//! What the leaf shows the hub: certificate files that can be replaced while it runs.
//!
//! # Invariants
//! - What was last asked for is what every start of the child is given: an order that comes while
//!   the child is down is not lost.
//! - New files count as taken when nats-server says in its log that it has read them. A refused
//!   reload leaves the links on the former files, and the configuration on disk too.
//! - Links are confirmed by having been made after the child was told to read them: the remotes of
//!   the former files are gone by then, because each change gives them another URL. The links may
//!   stand before the log says that the reload is done.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::TlsFiles;

/// How long nats-server is given for a reload; it takes milliseconds.
pub(super) const RELOAD_DEADLINE: Duration = Duration::from_secs(10);

/// What is to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Grows with each change.
    pub(super) number: u64,
    pub(super) files: Option<TlsFiles>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Of the newest [`Wanted`] that was looked at.
    pub(super) number: u64,
    /// Why it was not taken.
    pub(super) refused: Option<String>,
    /// The links that had been made before; nothing where none has to be made anew.
    pub(super) before: Option<LinksMade>,
}

/// How many links the leaf made since the daemon started, by account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LinksMade {
    pub(super) live: u64,
    pub(super) record: u64,
}

/// Why new files are not what the links were made with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShowError {
    /// nats-server refused to read its configuration again; it goes on with the former files.
    #[error("the leaf did not take the files: {said}")]
    Refused {
        /// Its words.
        said: String,
    },
    /// The leaf does not run; its next start begins with the new files.
    #[error("the leaf does not run; it begins with the new files when it does")]
    Away,
    /// It has read them, and a link was not made within the time.
    #[error("no link to the hub was made with the new files within {} s", waited.as_secs())]
    NotLinked {
        /// How long that was.
        waited: Duration,
    },
}

/// The child's side.
#[derive(Debug)]
pub(super) struct Papers {
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) taken: watch::Sender<Taken>,
    pub(super) made: watch::Sender<LinksMade>,
}

/// The side of whoever decides what is shown.
#[derive(Debug, Clone)]
pub(super) struct Showing {
    wanted: watch::Sender<Wanted>,
    taken: watch::Receiver<Taken>,
    made: watch::Receiver<LinksMade>,
}

/// Both sides, beginning with `files`.
pub(super) fn papers(files: Option<TlsFiles>) -> (Papers, Showing) {
    let (wanted_in, wanted) = watch::channel(Wanted { number: 0, files });
    let (taken, taken_seen) = watch::channel(Taken::default());
    let (made, made_seen) = watch::channel(LinksMade::default());
    (
        Papers { wanted, taken, made },
        Showing { wanted: wanted_in, taken: taken_seen, made: made_seen },
    )
}

impl Papers {
    /// Counts a link that was made in an account.
    pub(super) fn link_made(&self, account: &str) {
        self.made.send_modify(|made| match account {
            "LIVE" => made.live += 1,
            "RECORD" => made.record += 1,
            _ => {}
        });
    }

    /// How many links were made so far.
    pub(super) fn count(&self) -> LinksMade {
        *self.made.borrow()
    }

    /// Says what became of a number: it was taken when there had been `before` links.
    pub(super) fn settle(&self, number: u64, refused: Option<String>, before: LinksMade) {
        self.taken.send_replace(Taken { number, refused, before: Some(before) });
    }

    /// Says that the links were never made with anything else.
    pub(super) fn kept(&self, number: u64) {
        self.taken.send_replace(Taken { number, refused: None, before: None });
    }
}

impl Showing {
    /// The newest files that were asked for.
    pub(super) fn files(&self) -> Option<TlsFiles> {
        self.wanted.borrow().files.clone()
    }

    /// Has links made with other files; `None` takes every link down that needs some.
    pub(super) async fn show(
        &self,
        files: Option<TlsFiles>,
        within: Duration,
    ) -> Result<(), ShowError> {
        let deadline = tokio::time::Instant::now() + within;
        let linked = files.is_some();
        let mut number = 0;
        self.wanted.send_modify(|wanted| {
            wanted.number += 1;
            wanted.files = files;
            number = wanted.number;
        });
        let mut taken = self.taken.clone();
        let read = tokio::time::timeout_at(deadline, taken.wait_for(|it| it.number >= number));
        let taken = match read.await {
            Ok(Ok(taken)) => taken.clone(),
            _ => return Err(ShowError::Away),
        };
        if let Some(said) = taken.refused {
            return Err(ShowError::Refused { said });
        }
        let Some(before) = taken.before.filter(|_| linked) else { return Ok(()) };
        let both = |made: &LinksMade| made.live > before.live && made.record > before.record;
        let mut made = self.made.clone();
        match tokio::time::timeout_at(deadline, made.wait_for(both)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ShowError::NotLinked { waited: within }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    fn files(name: &str) -> Option<TlsFiles> {
        let path = |kind: &str| format!("/id/{name}/{kind}.pem").into();
        Some(TlsFiles { ca: path("ca"), cert: path("cert"), key: path("key") })
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_shown_once_both_links_were_made_after_they_were_read() {
        let (mut papers, showing) = papers(None);
        // Links of before do not count.
        papers.link_made("LIVE");
        papers.link_made("RECORD");
        let shown = tokio::spawn(async move { showing.show(files("a"), WITHIN).await });
        papers.wanted.changed().await.unwrap();
        let wanted = papers.wanted.borrow_and_update().clone();
        assert_eq!((wanted.number, wanted.files), (1, files("a")));
        papers.settle(1, None, papers.count());
        papers.link_made("RECORD");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!shown.is_finished());
        papers.link_made("LIVE");
        assert_eq!(shown.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_a_leaf_that_is_away_and_a_link_that_is_not_made_are_told_apart() {
        let (papers, showing) = papers(None);
        assert_eq!(showing.show(files("a"), WITHIN).await, Err(ShowError::Away));
        papers.settle(2, Some("tls: failed".to_owned()), papers.count());
        let said = "tls: failed".to_owned();
        assert_eq!(showing.show(files("b"), WITHIN).await, Err(ShowError::Refused { said }));
        papers.settle(3, None, papers.count());
        let late = showing.show(files("c"), WITHIN).await;
        assert_eq!(late, Err(ShowError::NotLinked { waited: WITHIN }));
        assert_eq!(papers.wanted.borrow().files, files("c"), "a later start shows the newest");
    }

    #[tokio::test(start_paused = true)]
    async fn taking_links_down_waits_for_none() {
        let (papers, showing) = papers(files("a"));
        papers.settle(1, None, papers.count());
        let begun = tokio::time::Instant::now();
        assert_eq!(showing.show(None, WITHIN).await, Ok(()));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
