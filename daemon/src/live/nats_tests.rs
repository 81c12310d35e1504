//! The publisher with the real client, against a server that speaks just enough of the protocol
//! to be cut off at will.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_translator::{Timestamp, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::observe::state::tests::board;
use crate::supervise::Pulses;

/// What every wait in these tests may take at most.
const DEADLINE: Duration = Duration::from_secs(30);

struct Server {
    url: String,
    up: watch::Sender<bool>,
    received: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (up, watch) = watch::channel(true);
        let received = Arc::default();
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if *watch.borrow() {
                    let mut watch = watch.clone();
                    let kept = Arc::clone(&kept);
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = speak(stream, kept) => {}
                            _ = watch.wait_for(|up| !up) => {}
                        }
                    });
                }
            }
        });
        Self { url, up, received }
    }

    fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

async fn speak(stream: TcpStream, kept: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let info = r#"{"server_id":"X","server_name":"x","version":"2.15.1","proto":1,"host":"127.0.0.1","port":4222,"headers":true,"max_payload":1024,"go":"","client_id":1}"#;
    stream.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line.starts_with("PING") {
            stream.write_all(b"PONG\r\n").await?;
        } else if let Some(publish) = line.strip_prefix("PUB ") {
            let (subject, length) = publish.trim().rsplit_once(' ').unwrap();
            let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut payload).await?;
            let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            kept.lock().unwrap().push(format!("{subject}={}", json["v"]));
        }
    }
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

struct Bench {
    server: Server,
    outlet: NatsOutlet,
    queue: Arc<LiveQueue>,
    board: Arc<Board>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

async fn bench() -> Bench {
    let server = Server::start().await;
    let client = async_nats::connect(&server.url).await.unwrap();
    let outlet = NatsOutlet(client);
    let board = Arc::new(board());
    let queue = Arc::new(LiveQueue::new(Arc::clone(&board)));
    queue.set_tags(vec![LiveTag {
        id: TagId(1),
        path: TagPath::new("A/t").unwrap(),
        device: "press-1".into(),
        manner: manner(60),
        on_change: false,
    }]);
    let stop = CancellationToken::new();
    let pulse = Pulses::new(DEADLINE).register("live");
    let shared = (Arc::clone(&queue), Arc::clone(&board), outlet.clone());
    let publisher = Publisher::new(shared.0, shared.1, shared.2, pulse);
    let done = tokio::spawn(publisher.run(stop.clone()));
    Bench { server, outlet, queue, board, stop, done }
}

impl Bench {
    fn read(&self, value: Value) {
        self.queue.offer(vec![Sample::good(TagId(1), Timestamp(0), value)].into());
    }

    async fn end(self) {
        self.stop.cancel();
        self.done.await.unwrap();
    }
}

#[tokio::test]
async fn the_client_replays_nothing_of_an_outage_and_the_first_reading_after_it_arrives() {
    let bench = bench().await;
    bench.read(Value::I64(1));
    wait_until("first value", || bench.server.received() == ["uns.A.t=1"]).await;
    bench.server.up.send_replace(false);
    wait_until("the cut is seen", || bench.outlet.connection().is_none()).await;
    for value in 2..100 {
        bench.read(Value::I64(value));
    }
    let dropped = &bench.board.counters.live_disconnected;
    wait_until("98 readings dropped", || dropped.read() == 98).await;
    bench.server.up.send_replace(true);
    wait_until("connected again", || bench.outlet.connection().is_some()).await;
    bench.read(Value::I64(1));
    wait_until("value after the outage", || bench.server.received().len() >= 2).await;
    assert_eq!(bench.server.received(), ["uns.A.t=1", "uns.A.t=1"]);
    bench.end().await;
}

#[tokio::test]
async fn a_value_larger_than_the_server_takes_is_counted_and_the_next_one_goes_out() {
    let bench = bench().await;
    bench.read(Value::Text("x".repeat(2000).into()));
    bench.read(Value::I64(2));
    wait_until("second value", || bench.server.received() == ["uns.A.t=2"]).await;
    assert_eq!(bench.board.counters.live_refused.read(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_server_that_reads_nothing_stops_neither_the_drivers_nor_the_pulse() {
    // The socket's buffers fill up, the client's channel fills up, then the queue does; all of it
    // is bounded and the overflow counted.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    let connected = AtomicBool::new(false);
    let accept = async {
        let (mut stream, _) = deaf.accept().await.unwrap();
        let info = r#"INFO {"server_id":"X","version":"2.15.1","proto":1,"max_payload":1048576}"#;
        stream.write_all(format!("{info}\r\nPONG\r\n").as_bytes()).await.unwrap();
        connected.store(true, Ordering::Relaxed);
        stream
    };
    let (stream, client) = tokio::join!(accept, async_nats::connect(address.to_string()));
    let board = Arc::new(board());
    let queue = Arc::new(LiveQueue::with_limit(Arc::clone(&board), 100));
    queue.set_tags(vec![LiveTag {
        id: TagId(1),
        path: TagPath::new("A/t").unwrap(),
        device: "press-1".into(),
        manner: manner(0),
        on_change: false,
    }]);
    let pulses = Pulses::new(Duration::from_secs(2));
    let stop = CancellationToken::new();
    let (shared, outlet) = (Arc::clone(&board), NatsOutlet(client.unwrap()));
    let pulse = pulses.register("live");
    let publisher = Publisher::new(Arc::clone(&queue), shared, outlet, pulse);
    let done = tokio::spawn(publisher.run(stop.clone()));
    let text = Value::Text("x".repeat(100_000).into());
    let stuck = timeout(DEADLINE, async {
        while board.counters.live_overflow.read() < 1000 {
            queue.offer(vec![Sample::good(TagId(1), Timestamp(0), text.clone())].into());
            tokio::task::yield_now().await;
        }
    });
    assert!(stuck.await.is_ok(), "the queue never overflowed");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(pulses.late().is_empty(), "the pulse stopped");
    }
    stop.cancel();
    assert!(timeout(DEADLINE, done).await.is_ok(), "stop was not obeyed");
    drop(stream);
}
