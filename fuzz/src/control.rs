//! The control socket: any bytes are questions, each with one answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tidegate::observe::control::{
    Answer, ControlLimits, Conversation, ErrorKind, Response, VERSION,
};
use tidegate::observe::state::{Alive, Board, DeviceMeta, HealthLimits, TagMeta};
use tidegate_translator::{Clock, Sample, TagId, TagPath, Timestamp, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::chain::START;
use crate::{KIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "control",
    run,
    seeds,
    words: &[
        b"{\"v\":1,\"ask\":\"status\"}\n",
        b"{\"v\":1,\"ask\":\"tags\"",
        b",\"pattern\":\"**\"",
        b",\"after\":\"P/t1\"",
        b",\"limit\":1",
        b"{\"v\":1,\"ask\":\"faults\",\"device\":\"press-1\"}\n",
        b"\n",
        b"[[[[[[[[",
        b"1e999",
        b"\\ud800",
        b"\"v\":2",
    ],
    memory: |length| at_most(128 * KIB + 16 * length),
    mutations: 6000,
};

/// Short, so that inputs reach it.
const LONGEST_REQUEST: usize = 256;
/// Status and tags of three tags, or an error that repeats the question escaped.
const LONGEST_ANSWER: usize = 8 * KIB;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(START)
    }
}

fn run(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let answers = converse(usize::from(piece % 64) + 1, bytes);
    let mut answers = answers.split_inclusive(|byte| *byte == b'\n');
    let mut rest = bytes;
    loop {
        let within = &rest[..rest.len().min(LONGEST_REQUEST)];
        let Some(end) = within.iter().position(|byte| *byte == b'\n') else { break };
        judge(&rest[..end], answers.next().expect("an answer to each question"));
        rest = &rest[end + 1..];
    }
    if rest.len() >= LONGEST_REQUEST {
        let answer = response(answers.next().expect("word that the request is too long"));
        assert!(
            matches!(&answer, Answer::Error(it) if it.kind == ErrorKind::TooLong),
            "{answer:?}"
        );
    }
    assert_eq!(answers.next(), None, "an answer to nothing");
}

/// Sends the bytes in pieces over a narrow stream; returns everything that came back.
fn converse(piece: usize, bytes: &[u8]) -> Vec<u8> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let limits = ControlLimits { request: LONGEST_REQUEST, ..ControlLimits::default() };
        let conversation = Conversation::new(Arc::new(board()), HealthLimits::default(), limits);
        let (mut theirs, ours) = tokio::io::duplex(512);
        let (mut answers, mut questions) = tokio::io::split(ours);
        let ask = async {
            for piece in bytes.chunks(piece) {
                // A conversation that ended early does not read the rest.
                if questions.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = questions.shutdown().await;
        };
        let hear = async {
            let mut heard = Vec::new();
            answers.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let hold = async {
            let held = conversation.hold(&mut theirs).await;
            drop(theirs);
            held
        };
        let all = async { tokio::join!(ask, hear, hold) };
        let ended = tokio::time::timeout(Duration::from_secs(60), all).await;
        let ((), heard, held) = ended.expect("the conversation ends");
        held.expect("nobody was slow, and nothing broke");
        heard
    })
}

fn board() -> Board {
    let board = Board::new("PlantA/gw-1".parse().unwrap(), Arc::new(Still));
    let device: Arc<str> = "press-1".into();
    let tag = |id: u32| TagMeta {
        id: TagId(id),
        path: TagPath::new(format!("P/t{id}")).unwrap(),
        unit: None,
        device: Arc::clone(&device),
        fresh_for: None,
    };
    board.configure(
        vec![DeviceMeta {
            name: Arc::clone(&device),
            alive: Alive::ByData(Duration::from_secs(3)),
        }],
        (1..=3).map(tag),
    );
    board.note_samples(&[Sample::good(TagId(1), Timestamp(START), Value::F32(72.3))]);
    board
}

fn response(line: &[u8]) -> Answer {
    assert!(line.ends_with(b"\n"), "an answer is a whole line");
    assert!(line.len() <= LONGEST_ANSWER, "{} bytes of answer", line.len());
    let response: Response = serde_json::from_slice(line).expect("an answer reads");
    assert_eq!(response.v, VERSION);
    response.answer
}

/// The answer is of the sort that the question asks for.
fn judge(question: &[u8], answer: &[u8]) {
    let answer = response(answer);
    let Ok(Json::Object(asked)) = serde_json::from_slice::<Json>(question) else {
        return refused(&answer, ErrorKind::BadRequest);
    };
    match asked.get("v").map(Json::as_u64) {
        Some(Some(VERSION)) => {}
        Some(Some(_)) => return refused(&answer, ErrorKind::UnknownVersion),
        _ => return refused(&answer, ErrorKind::BadRequest),
    }
    let fits = |key: &str, right: fn(&Json) -> bool| asked.get(key).is_none_or(right);
    let text = |json: &Json| json.is_null() || json.is_string();
    match asked.get("ask").and_then(Json::as_str) {
        Some("status") => assert!(matches!(answer, Answer::Status(_)), "{answer:?}"),
        Some("tags") => {
            let right = fits("pattern", text)
                && fits("after", text)
                && fits("limit", |json| json.is_null() || json.is_u64());
            match answer {
                Answer::Tags(page) => {
                    assert!(right, "a field of the wrong type was taken");
                    let limit = asked.get("limit").and_then(Json::as_u64).unwrap_or(3);
                    assert!(u64::try_from(page.tags.len()).unwrap() <= limit);
                }
                answer => {
                    assert!(!right, "{answer:?}");
                    refused(&answer, ErrorKind::BadRequest);
                }
            }
        }
        Some("faults") => match asked.get("device") {
            Some(Json::String(device)) if device == "press-1" => {
                assert!(matches!(answer, Answer::Faults(_)), "{answer:?}");
            }
            Some(Json::String(_)) => refused(&answer, ErrorKind::UnknownDevice),
            _ => refused(&answer, ErrorKind::BadRequest),
        },
        _ => refused(&answer, ErrorKind::UnknownAsk),
    }
}

fn refused(answer: &Answer, kind: ErrorKind) {
    let fits = matches!(answer, Answer::Error(refusal) if refusal.kind == kind);
    assert!(fits, "{kind:?} expected, {answer:?} given");
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    vec![
        seed("status", "\x3f{\"v\":1,\"ask\":\"status\"}\n"),
        seed(
            "tags",
            "\x05{\"v\":1,\"ask\":\"tags\",\"pattern\":\"P/*\",\"after\":\"P/t1\",\"limit\":1}\n",
        ),
        seed(
            "several",
            "\x01{\"v\":1,\"ask\":\"write\"}\nrubbish\n{\"v\":2,\"ask\":\"status\"}\n{}\n",
        ),
        seed("deep", [b"\x30".as_slice(), &b"[".repeat(200), b"\n"].concat()),
        seed("endless", [b"\x3f".as_slice(), &b"x".repeat(300)].concat()),
        seed("faults", "\x3f{\"v\":1,\"ask\":\"faults\",\"device\":\"press-1\"}\n"),
        seed("exact", [b"\x3f".as_slice(), &b"x".repeat(255), b"\n"].concat()),
    ]
}
