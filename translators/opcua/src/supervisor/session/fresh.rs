//! What somebody asks to be read now: with the Read service on the standing session.
//!
//! # Invariants
//! - One such read is under way at a time; who asks meanwhile waits for the next one, because the
//!   server may have looked at its sources before he asked.
//! - While the server is away everybody is told so at once.
//! - Nothing of it is a sample: what is recorded is what the subscriptions and polls bring.

use tidegate_translator::{Fresh, Quality, Questions};

use super::*;
use crate::status::Status;

/// Who waits for a fresh value, from session to session.
pub(crate) struct Asking {
    waiting: Questions,
    under_way: Questions,
    is_reading: bool,
    /// Why nothing can be read; `None` while there is a session, or none was tried yet.
    away: Option<Failure>,
}

impl Asking {
    pub(crate) fn new(waiting: Questions) -> Self {
        Self { waiting, under_way: Questions::none(), is_reading: false, away: None }
    }

    /// Waits for a question. Cancel safety: none is lost.
    pub(crate) async fn arrive(&mut self) {
        self.waiting.arrive().await;
    }

    /// There is a session.
    pub(crate) fn is_connected(&mut self) {
        self.away = None;
    }

    /// Nothing can be read for now.
    pub(crate) fn is_away(&mut self, at: Timestamp, why: Failure) {
        self.under_way.fail(at, why.reason, why.status, &why.text);
        self.is_reading = false;
        self.away = Some(why);
        self.refuse(at);
    }

    /// Tells everybody who waits why nothing can be read, where that is so.
    pub(crate) fn refuse(&mut self, at: Timestamp) {
        if let Some(why) = &self.away
            && self.waiting.take(Instant::now())
        {
            self.waiting.fail(at, why.reason, why.status, &why.text);
        }
    }
}

impl Session<'_> {
    /// Waits until somebody wants a fresh value. Cancel safety: no question is lost.
    pub(crate) async fn asked(&mut self) {
        self.core.asking.arrive().await;
    }

    /// Reads what is asked for, where nothing of it is being read.
    pub(crate) fn read_fresh(&mut self, now: Instant) {
        let at = self.core.ledger.now();
        let asking = &mut self.core.asking;
        if !asking.waiting.take(now) || asking.is_reading {
            return;
        }
        if self.in_doubt {
            let waited = now.saturating_duration_since(self.heard);
            let why = format!("nothing is heard of the server for {waited:.1?}");
            let status = StatusCode::BadTimeout.bits();
            return asking.waiting.fail(at, Reason::Timeout, status, &why);
        }
        let Some(prepared) = self.mirror.prepared.as_ref().filter(|_| self.is_built) else {
            return;
        };
        let mut tags = asking.waiting.tags();
        let mut items = Vec::new();
        let places = prepared.wanted.iter().zip(&prepared.nodes).enumerate();
        for (place, (wanted, node)) in places {
            if !tags.remove(&wanted.tag) {
                continue;
            }
            let request = node.as_ref().map_err(Clone::clone).and_then(|node| {
                let request = read_value(node.clone(), &wanted.item);
                request.map_err(|error| {
                    Failure::misfit(StatusCode::BadIndexRangeInvalid, error.to_string())
                })
            });
            match request {
                Ok(request) => items.push((place, request)),
                Err(Failure { status, reason, text }) => {
                    asking.waiting.answer(&Fresh::failed(wanted.tag, at, reason, status, text));
                }
            }
        }
        for tag in tags {
            let text = "the server does not have this tag at present".to_owned();
            let status = StatusCode::BadNodeIdUnknown.bits();
            let failed = Fresh::failed(tag, at, Reason::Configuration, status, text);
            asking.waiting.answer(&failed);
        }
        if !items.is_empty() {
            asking.under_way = asking.waiting.split();
            asking.is_reading = true;
            self.todo.push(Chore::Fresh(items));
        }
    }

    /// A read has an end.
    pub(super) fn read_is_done(
        &mut self,
        places: &[usize],
        result: Result<Vec<DataValue>, ServiceError>,
        now: Instant,
    ) {
        self.core.asking.is_reading = false;
        let values = match result {
            Ok(values) => values,
            Err(error) => {
                self.fails(&error);
                let reason = if error.answered { Reason::Refused } else { Reason::Timeout };
                let at = self.core.ledger.now();
                let (status, text) = (error.status.bits(), error.to_string());
                return self.core.asking.under_way.fail(at, reason, status, &text);
            }
        };
        let acquired = self.hears(now);
        let Some(prepared) = &self.mirror.prepared else { return };
        let asking = &mut self.core.asking.under_way;
        for (place, value) in places.iter().zip(values) {
            let (Some(wanted), Some(meaning)) =
                (prepared.wanted.get(*place), prepared.meanings.get(*place))
            else {
                continue;
            };
            asking.answer(&match prepared.converter.sample(wanted.tag, meaning, value, acquired) {
                Ok(sample) => {
                    let is_bad = matches!(sample.quality, Quality::Bad(_));
                    Fresh { error: is_bad.then(|| Status(sample.status).to_string()), sample }
                }
                Err(flawed) => {
                    let error = Some(flawed.flaw.to_string());
                    Fresh { sample: flawed.sample, error }
                }
            });
        }
        let status = StatusCode::BadUnexpectedError.bits();
        let left = "the session began anew meanwhile; ask again";
        asking.fail(acquired, Reason::Unspecified, status, left);
    }
}
