//! Requests to the hub: each becomes a flight that lands as one event.
//!
//! # Invariants
//! - Every request has a deadline, so every flight lands.
//! - Every attempt of a message carries the same bytes.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, RequestErrorKind};
use bytes::Bytes;
use futures_util::future::{Either, select};
use tidegate_journal::Epoch;
use tidegate_uplink::{Event, HeadAnswer, Outcome, Publish, RequestFailure, StreamInfo};

use super::super::{chain, limits, wire};
use super::{Flight, Kept, Shell};
use crate::subjects;

/// What no stream can be called, so that none stores a message that expects it.
const NO_STREAM: &str = "no.such.stream";

/// How long the hub's greeting is waited for, at most as long as for the answer to INFO: it speaks
/// first, after one round trip.
const GREETING: Duration = Duration::from_secs(5);

impl Shell {
    pub(super) async fn publish(&mut self, publish: Publish) {
        let bytes = match self.bytes_of(&publish).await {
            Ok(bytes) => bytes,
            Err(why) => {
                let event = reply(&publish, Outcome::Unreadable { why });
                let flight = Flight { event, answered: None };
                self.flights.push(Box::pin(std::future::ready(flight)));
                return;
            }
        };
        let client = self.hub.client.clone();
        let subject = subjects::frames(&self.hub.gateway, publish.epoch);
        self.flights.push(Box::pin(async move {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", publish.msg_id.as_str());
            headers.insert(
                "Nats-Expected-Last-Subject-Sequence",
                publish.expected_last_seq.to_string().as_str(),
            );
            let request = async_nats::Request::new()
                .headers(headers)
                .payload(bytes)
                .timeout(Some(publish.deadline));
            let (outcome, answered) = match client.send_request(subject, request).await {
                Ok(message) => (wire::outcome(&message), Some(true)),
                Err(error) => match error.kind() {
                    RequestErrorKind::NoResponders => (Outcome::NoResponders, None),
                    _ => (Outcome::TimedOut, Some(false)),
                },
            };
            Flight { event: reply(&publish, outcome), answered }
        }));
    }

    /// The same bytes for every attempt of a message, even when the journal dropped the frames.
    async fn bytes_of(&mut self, publish: &Publish) -> Result<Bytes, String> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.ticket == publish.ticket) {
            return Ok(kept.bytes.clone());
        }
        let reader = self.recorder.reader();
        let (epoch, first, last) = (publish.epoch, publish.first_frame, publish.last_frame);
        let size = publish.bytes;
        let read = move || chain::read_run(&reader, epoch, first, last, size);
        let bytes = tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|_| Err("the read was cut off".to_owned()))?;
        let bytes = Bytes::from(bytes);
        self.kept = Some(Kept { ticket: publish.ticket, bytes: bytes.clone() });
        Ok(bytes)
    }

    pub(super) fn ask_info(&self, deadline: Duration, with_limits: bool) {
        let filter = subjects::all_frames(&self.hub.gateway);
        let payload = serde_json::json!({ "subjects_filter": filter }).to_string();
        let request = async_nats::Request::new().payload(payload.into()).timeout(Some(deadline));
        let client = self.hub.client.clone();
        let subject = subjects::info(&self.hub.stream);
        let urls = if with_limits { self.hub.urls.clone() } else { Vec::new() };
        let access = Arc::clone(&self.hub.access);
        self.flights.push(Box::pin(async move {
            let limits =
                std::pin::pin!(limits::max_payload(&access, &urls, deadline.min(GREETING)));
            let answer = std::pin::pin!(client.send_request(subject, request));
            let (max_payload, answer) = match select(limits, answer).await {
                Either::Left((max_payload, answer)) => (max_payload, answer.await),
                // Without an answer the limits are of no use yet.
                Either::Right((Err(error), _)) => (None, Err(error)),
                Either::Right((answer, limits)) => (limits.await, answer),
            };
            match answer {
                Ok(message) => {
                    let info = wire::info(&message).map(|info| StreamInfo { max_payload, ..info });
                    let event = info.map_or_else(Event::InfoFailed, Event::Info);
                    Flight { event, answered: Some(true) }
                }
                Err(error) => {
                    let (failure, answered) = failure(error.kind());
                    Flight { event: Event::InfoFailed(failure), answered }
                }
            }
        }));
    }

    pub(super) fn test_frames(&self, epoch: Epoch, deadline: Duration) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", NO_STREAM);
        let request = async_nats::Request::new().headers(headers).timeout(Some(deadline));
        let (client, subject) =
            (self.hub.client.clone(), subjects::frames(&self.hub.gateway, epoch));
        self.flights.push(Box::pin(async move {
            let answer = client.send_request(subject, request).await;
            // Silence here says nothing of the link: a right may be missing.
            let answered = answer.is_ok().then_some(true);
            Flight { event: Event::Tested { answered: answer.is_ok() }, answered }
        }));
    }

    pub(super) fn ask_head(&self, epoch: Epoch, deadline: Duration) {
        let frames = subjects::frames(&self.hub.gateway, epoch);
        let subject = subjects::head(&self.hub.stream, &frames);
        let request = async_nats::Request::new().timeout(Some(deadline));
        let client = self.hub.client.clone();
        self.flights.push(Box::pin(async move {
            let (answer, answered) = match client.send_request(subject, request).await {
                Ok(message) => (wire::head(&message), Some(true)),
                Err(error) => {
                    let (failure, answered) = failure(error.kind());
                    (HeadAnswer::Failed(failure), answered)
                }
            };
            Flight { event: Event::Head { epoch, answer }, answered }
        }));
    }
}

fn reply(publish: &Publish, outcome: Outcome) -> Event {
    Event::Reply { ticket: publish.ticket, attempt: publish.attempt, outcome }
}

/// Whether a failed question counts as silence: nobody listening is an answer of the leaf's, and
/// tells nothing about the way beyond it.
fn failure(kind: RequestErrorKind) -> (RequestFailure, Option<bool>) {
    match kind {
        RequestErrorKind::NoResponders => (RequestFailure::NoResponders, None),
        _ => (RequestFailure::TimedOut, Some(false)),
    }
}
