//! What the hub's answers look like on the wire, read into the state machine's words: pure.
//!
//! # Invariants
//! - Nothing that the hub sends can panic or allocate beyond the message itself.
//! - What cannot be understood is a failure with the server's own words, never a success.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode};
use serde::Deserialize;
use tidegate_journal::{FrameError, Position, frame};
use tidegate_uplink::{HeadAnswer, HeadContent, Outcome, RequestFailure, StreamInfo};

/// The longest description that is kept of an error, in bytes.
const MAX_DESCRIPTION: usize = 300;

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl ApiError {
    fn cut(mut self) -> Self {
        let end = self.description.floor_char_boundary(MAX_DESCRIPTION);
        self.description.truncate(end);
        self
    }
}

#[derive(Deserialize)]
struct PubAck {
    error: Option<ApiError>,
    stream: Option<String>,
    domain: Option<String>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
}

/// The answer to a publish.
pub(super) fn outcome(message: &Message) -> Outcome {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Outcome::NoResponders;
    }
    match serde_json::from_slice::<PubAck>(&message.payload) {
        Ok(PubAck { error: Some(error), .. }) => {
            let error = error.cut();
            Outcome::Refused { code: error.err_code, description: error.description }
        }
        Ok(PubAck { stream: Some(stream), domain, seq: Some(seq), duplicate, .. }) => {
            Outcome::Ack { stream, domain, seq, duplicate }
        }
        _ => Outcome::Refused {
            code: 0,
            description: "the answer is neither an acknowledgement nor an error".to_owned(),
        },
    }
}

#[derive(Deserialize)]
struct InfoAnswer {
    error: Option<ApiError>,
    domain: Option<String>,
    created: Option<jiff::Timestamp>,
    config: Option<InfoConfig>,
    state: Option<InfoState>,
    /// Absent where the hub is one server.
    cluster: Option<InfoCluster>,
}

#[derive(Deserialize)]
struct InfoCluster {
    /// The servers that hold the stream beside the one that answered.
    #[serde(default)]
    replicas: Vec<InfoReplica>,
}

#[derive(Deserialize)]
struct InfoReplica {
    #[serde(default)]
    offline: bool,
    /// Nanoseconds since it was last heard.
    #[serde(default)]
    active: u64,
}

/// A replica is heard every second (nats-server's heartbeat among a stream's servers). It matters
/// only while a message has no answer either, so it may be short.
const UNHEARD: Duration = Duration::from_secs(5);

impl InfoCluster {
    fn has_majority(&self) -> bool {
        let heard = |one: &&InfoReplica| !one.offline && Duration::from_nanos(one.active) < UNHEARD;
        let (heard, all) =
            (self.replicas.iter().filter(heard).count() + 1, self.replicas.len() + 1);
        heard * 2 > all
    }
}

#[derive(Deserialize)]
struct InfoConfig {
    name: String,
    #[serde(default)]
    max_msg_size: i64,
    #[serde(default)]
    deny_delete: bool,
    #[serde(default)]
    deny_purge: bool,
}

#[derive(Deserialize)]
struct InfoState {
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    subjects: std::collections::BTreeMap<String, u64>,
}

/// The answer to an INFO request.
pub(super) fn info(message: &Message) -> Result<StreamInfo, RequestFailure> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(RequestFailure::NoResponders);
    }
    let refused = |description: &str| RequestFailure::Refused {
        code: 0,
        description: format!("the answer to INFO {description}"),
    };
    let answer = serde_json::from_slice::<InfoAnswer>(&message.payload)
        .map_err(|_| refused("is not the JSON of a stream"))?;
    if let Some(error) = answer.error {
        let error = error.cut();
        return Err(RequestFailure::Refused {
            code: error.err_code,
            description: error.description,
        });
    }
    let (Some(created), Some(config), Some(state)) = (answer.created, answer.config, answer.state)
    else {
        return Err(refused("lacks creation time, configuration or state"));
    };
    let epochs = state
        .subjects
        .iter()
        .filter_map(|(subject, count)| Some((crate::subjects::epoch_of(subject)?, *count)))
        .take(tidegate_uplink::MAX_EPOCHS)
        .collect();
    Ok(StreamInfo {
        domain: answer.domain,
        stream: config.name,
        created: i64::try_from(created.as_nanosecond()).unwrap_or(i64::MAX),
        first_seq: state.first_seq,
        last_seq: state.last_seq,
        max_msg_size: usize::try_from(config.max_msg_size).ok().filter(|&limit| limit > 0),
        max_payload: None,
        may_be_purged: !(config.deny_delete && config.deny_purge),
        has_majority: answer.cluster.is_none_or(|cluster| cluster.has_majority()),
        epochs,
    })
}

/// The answer to a request for the last message of a subject.
pub(super) fn head(message: &Message) -> HeadAnswer {
    match message.status {
        Some(StatusCode::NO_RESPONDERS) => {
            return HeadAnswer::Failed(RequestFailure::NoResponders);
        }
        Some(StatusCode::NOT_FOUND) => return HeadAnswer::Empty,
        Some(status) if status != StatusCode::OK => {
            return HeadAnswer::Failed(RequestFailure::Refused {
                code: status.as_u16().into(),
                description: message.description.as_deref().unwrap_or_default().to_owned(),
            });
        }
        _ => {}
    }
    let Some(stream_seq) = message.headers.as_ref().and_then(stream_seq) else {
        return HeadAnswer::Failed(RequestFailure::Refused {
            code: 0,
            description: "the answer to the direct get carries no Nats-Sequence".to_owned(),
        });
    };
    let msg_id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
    let msg_id = msg_id.map(|id| id.as_str().to_owned());
    HeadAnswer::Found { stream_seq, content: content(&message.payload, msg_id) }
}

fn stream_seq(headers: &HeaderMap) -> Option<u64> {
    headers.get("Nats-Sequence")?.as_str().parse().ok()
}

/// What the frames of a message end with.
fn content(mut payload: &[u8], msg_id: Option<String>) -> HeadContent {
    let mut last = HeadContent::NotFrames;
    while !payload.is_empty() {
        let length = match frame::decode(payload) {
            Ok(frame) => {
                last = HeadContent::Frames {
                    gateway: format!("{}/{}", frame.header.plant, frame.header.gateway),
                    epoch: frame.header.epoch,
                    last: Position {
                        frame: frame.header.number,
                        next_seq: frame.header.next_seq(),
                        hash: frame.hash(),
                    },
                    msg_id: msg_id.clone(),
                };
                frame.bytes.len()
            }
            Err(FrameError::NeedsNewer { needs, length }) => {
                last = HeadContent::Newer { needs };
                length
            }
            Err(_) => return HeadContent::NotFrames,
        };
        payload = payload.get(length..).unwrap_or_default();
    }
    last
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use tidegate_journal::{ClockState, Codec, Epoch, FrameHash, Header, Kind};

    use super::*;

    fn message(payload: &[u8], status: Option<StatusCode>) -> Message {
        Message {
            subject: Subject::from_static("_INBOX.x"),
            reply: None,
            payload: payload.to_vec().into(),
            headers: None,
            status,
            description: None,
            length: payload.len(),
        }
    }

    #[test]
    fn an_acknowledgement_keeps_stream_domain_and_sequence() {
        let ack = br#"{"stream":"TIDE","domain":"hub","seq":7,"duplicate":true}"#;
        let expected = Outcome::Ack {
            stream: "TIDE".into(),
            domain: Some("hub".into()),
            seq: 7,
            duplicate: true,
        };
        assert_eq!(outcome(&message(ack, None)), expected);
    }

    #[test]
    fn a_refusal_keeps_its_code_and_words() {
        let refusal = br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 9"},"stream":"TIDE","seq":0}"#;
        let expected =
            Outcome::Refused { code: 10071, description: "wrong last sequence: 9".into() };
        assert_eq!(outcome(&message(refusal, None)), expected);
    }

    #[test]
    fn an_answer_that_is_no_json_is_never_an_acknowledgement() {
        for bytes in [&b""[..], b"+OK", b"{}", b"[1]", b"{\"stream\":\"TIDE\"}"] {
            assert!(matches!(outcome(&message(bytes, None)), Outcome::Refused { .. }));
        }
        let nobody = message(b"", Some(StatusCode::NO_RESPONDERS));
        assert_eq!(outcome(&nobody), Outcome::NoResponders);
    }

    #[test]
    fn info_gives_creation_limits_and_epochs() {
        let json = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","total":1,
            "config":{"name":"TIDE","max_msg_size":-1},"created":"2026-01-02T03:04:05.000000006Z",
            "state":{"messages":2,"first_seq":3,"last_seq":4,"subjects":{
              "tide.P.g.000102030405060708090a0b0c0d0e0f.frames":2,"tide.P.g.x.frames":1}},
            "domain":"hub"}"#;
        let info = info(&message(json, None)).unwrap();
        assert_eq!(info.created % 1_000_000_000, 6);
        assert_eq!((info.first_seq, info.last_seq, info.max_msg_size), (3, 4, None));
        assert_eq!(info.epochs.len(), 1);
        assert_eq!(info.domain.as_deref(), Some("hub"));
        assert!(info.may_be_purged, "nothing forbids it");
        assert!(info.has_majority, "one server is most of one");
    }

    #[test]
    fn a_leader_that_hears_none_of_its_followers_has_no_majority() {
        let of = |replicas: &str| {
            let json = format!(
                r#"{{"config":{{"name":"TIDE"}},"created":"2026-01-02T03:04:05Z",
                "state":{{"first_seq":1,"last_seq":0}},
                "cluster":{{"leader":"hub-0","replicas":[{replicas}]}}}}"#
            );
            info(&message(json.as_bytes(), None)).unwrap().has_majority
        };
        let (near, far) = (r#"{"name":"b","active":900000000}"#, r#"{"active":6000000000}"#);
        let gone = r#"{"name":"c","offline":true,"active":1}"#;
        assert!(of(&format!("{near},{near}")) && of(&format!("{near},{gone}")) && of(""));
        assert!(!of(&format!("{far},{gone}")) && !of(&format!("{gone},{gone}")));
    }

    #[test]
    fn a_head_tells_its_last_frame_and_garbage_is_no_frame() {
        let header = Header {
            plant: "P".into(),
            gateway: "g".into(),
            epoch: Epoch([1; 16]),
            number: 4,
            first_seq: 10,
            count: 3,
            wall: (0, 0),
            mono: (0, 0),
            boot: [0; 16],
            clock: ClockState::Unknown,
            previous: FrameHash::ZERO,
            codec: Codec::Plain,
        };
        let bytes = frame::encode(Kind::Unknown(77), &header, b"x").unwrap();
        let two = [bytes.clone(), bytes.clone()].concat();
        let HeadContent::Frames { gateway, last, .. } = content(&two, None) else { panic!() };
        assert_eq!((gateway.as_str(), last.frame, last.next_seq), ("P/g", 4, 13));
        assert_eq!(last.hash, FrameHash::of(&bytes));
        assert_eq!(content(b"hello", None), HeadContent::NotFrames);
        assert_eq!(content(&bytes[..20], None), HeadContent::NotFrames);
    }
}
