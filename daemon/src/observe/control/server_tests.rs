//! Server and client over a real socket.

use std::path::PathBuf;

use tidegate_translator::{Sample, TagId, Timestamp, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::{AskError, Client, ErrorKind, TagQuery};
use super::*;
use crate::observe::state::tests::board;

struct Bench {
    path: PathBuf,
    board: Arc<Board>,
    stop: CancellationToken,
    done: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn bench(limits: ControlLimits) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let board = Arc::new(board());
    board.note_samples(&[Sample::good(TagId(1), Timestamp(5_000_000), Value::F32(72.3))]);
    let shared = Arc::clone(&board);
    let server = ControlServer::bind(&path, shared, HealthLimits::default(), limits).unwrap();
    let stop = CancellationToken::new();
    let done = tokio::spawn(server.serve(stop.clone()));
    Bench { path, board, stop, done, _dir: dir }
}

impl Bench {
    async fn end(self) {
        self.stop.cancel();
        self.done.await.unwrap();
        assert!(!self.path.exists());
    }

    async fn with_client<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Client) -> T + Send + 'static,
    ) -> T {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || ask(Client::connect(&path).unwrap())).await.unwrap()
    }

    /// Sends raw bytes and returns the lines that come back until the end.
    async fn raw(&self, bytes: &[u8]) -> Vec<serde_json::Value> {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut lines = tokio::io::BufReader::new(stream).lines();
        let mut answers = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            answers.push(serde_json::from_str(&line).unwrap());
        }
        answers
    }
}

#[tokio::test]
async fn status_and_tags_come_back_over_one_connection() {
    let bench = bench(ControlLimits::default());
    let (status, page) = bench
        .with_client(|mut client| {
            let status = client.status().unwrap();
            let pattern = Some("PlantA/Press1/temperature".to_owned());
            (status, client.tags(TagQuery { pattern, ..TagQuery::default() }).unwrap())
        })
        .await;
    assert_eq!(status.gateway, "PlantA/gw-1");
    assert_eq!(status.counters["samples_acquired"], 1);
    assert_eq!(page.tags.len(), 1);
    assert_eq!((&page.tags[0].v, page.tags[0].time), (&72.3.into(), Some(Timestamp(5_000_000))));
    bench.end().await;
}

#[tokio::test]
async fn pages_over_the_wire_add_up_to_every_tag() {
    let bench = bench(ControlLimits::default());
    let paths = bench
        .with_client(|mut client| {
            let (mut paths, mut after) = (Vec::new(), None);
            loop {
                let query = TagQuery { limit: Some(1), after, pattern: None };
                let page = client.tags(query).unwrap();
                paths.extend(page.tags.into_iter().map(|tag| tag.path));
                after = page.next;
                if after.is_none() {
                    return paths;
                }
            }
        })
        .await;
    assert_eq!(paths.len(), 3);
    bench.end().await;
}

#[tokio::test]
async fn an_unknown_question_is_a_typed_error_and_the_next_one_is_answered() {
    let bench = bench(ControlLimits::default());
    let answers =
        bench.raw(b"{\"v\":1,\"ask\":\"write\"}\nrubbish\n{\"v\":1,\"ask\":\"status\"}\n").await;
    assert_eq!(answers[0]["error"]["kind"], "unknown-ask");
    assert_eq!(answers[1]["error"]["kind"], "bad-request");
    assert_eq!(answers[2]["status"]["gateway"], "PlantA/gw-1");
    assert_eq!(bench.board.counters.control_errors.read(), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_request_without_end_is_cut_off() {
    let bench = bench(ControlLimits { request: 100, ..ControlLimits::default() });
    let answers = bench.raw(&[b'x'; 100]).await;
    assert_eq!(answers[0]["error"]["kind"], "too-long");
    bench.end().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_counted() {
    let bench = bench(ControlLimits { connections: 1, ..ControlLimits::default() });
    let mut first = UnixStream::connect(&bench.path).await.unwrap();
    first.write_all(b"{\"v\":1,\"ask\":\"status\"}\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let refused = bench.with_client(|mut client| client.status().unwrap_err()).await;
    let AskError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal.kind, ErrorKind::Busy);
    assert_eq!(bench.board.counters.control_refused.read(), 1);
    drop(first);
    bench.end().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_frees_its_place() {
    let patience = Duration::from_millis(500);
    let limits = ControlLimits { connections: 1, patience, ..ControlLimits::default() };
    let bench = bench(limits);
    let mut idle = UnixStream::connect(&bench.path).await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_secs(10), idle.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(closed.unwrap(), 0);
    assert_eq!(bench.raw(b"{\"v\":1,\"ask\":\"status\"}\n").await.len(), 1);
    bench.end().await;
}
