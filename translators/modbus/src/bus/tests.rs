use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::dial::{ByteStream, DialError, DialFuture};
use crate::link::{IdCode, Identity};
use crate::spec::Table;

const READ: Request = Request::Read { table: Table::HoldingRegister, start: 5, count: 1 };
const TIMEOUT: Duration = Duration::from_secs(1);

/// A gateway whose units answer after 10 ms, all but unit 13.
#[derive(Default)]
struct Gateway {
    dials: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    refusing: std::sync::atomic::AtomicBool,
    /// Connections that it takes.
    room: AtomicUsize,
    /// Units in the order in which they were asked.
    asked: Mutex<Vec<u8>>,
}

struct Way(Arc<Gateway>);

impl Gateway {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room: AtomicUsize::new(room), ..Self::default() })
    }

    fn bus(self: &Arc<Self>, change: impl FnOnce(&mut LinkSpec)) -> Arc<Bus> {
        let mut link = LinkSpec::tcp("gateway".into(), 502);
        change(&mut link);
        Arc::new(Bus::new(Arc::new(link), Arc::new(Way(Arc::clone(self)))))
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    async fn serve(self: Arc<Self>, mut stream: DuplexStream) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        let mut request = [0; 12];
        while stream.read_exact(&mut request[..8]).await.is_ok() {
            let rest = if request[7] == 0x2b { &mut request[8..11] } else { &mut request[8..12] };
            stream.read_exact(rest).await.unwrap();
            self.asked.lock().unwrap().push(request[6]);
            let early = tokio::time::timeout(Duration::from_millis(10), stream.read_u8()).await;
            match early {
                Err(_) => {}
                Ok(Err(_)) => break,
                Ok(Ok(_)) => panic!("a second request before the first one was answered"),
            }
            let pdu = match (request[6], request[7]) {
                (13, _) => continue,
                (_, 0x2b) => [&[0x2b, 14, request[9], 1, 0xff, 2, 1, 1, 4][..], b"TG-1"].concat(),
                _ => vec![3, 2, 0, request[6]],
            };
            let length = u8::try_from(pdu.len() + 1).unwrap();
            let reply = [&request[..4], &[0, length, request[6]], &pdu].concat();
            if stream.write_all(&reply).await.is_err() {
                break;
            }
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dialer for Way {
    fn dial(&self, _deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move {
            self.0.dials.fetch_add(1, Ordering::Relaxed);
            let full = self.0.open() >= self.0.room.load(Ordering::Relaxed);
            if full || self.0.refusing.load(Ordering::Relaxed) {
                let source = std::io::ErrorKind::ConnectionRefused.into();
                return Err(DialError::Connect { endpoint: "gateway:502".into(), source });
            }
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(Arc::clone(&self.0).serve(theirs));
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        })
    }
}

async fn ask(bus: &Bus, unit: u8) -> Result<Reply, LinkError> {
    bus.turn().await.ask(UnitId(unit), READ, TIMEOUT).await
}

#[tokio::test(start_paused = true)]
async fn turns_are_taken_in_the_order_in_which_they_were_asked_for() {
    let gateway = Gateway::new(9);
    let bus = gateway.bus(|_| {});
    let mut all = tokio::task::JoinSet::new();
    for unit in 1..=8 {
        let bus = Arc::clone(&bus);
        all.spawn(async move {
            for _ in 0..3 {
                assert_eq!(ask(&bus, unit).await.unwrap(), Reply::Registers(vec![unit.into()]));
            }
        });
        tokio::task::yield_now().await;
    }
    all.join_all().await;
    let rounds: Vec<u8> = (0..3).flat_map(|_| 1..=8).collect();
    assert_eq!(*gateway.asked.lock().unwrap(), rounds);
    assert_eq!((gateway.dials(), gateway.most.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_connections_as_allowed_and_no_more() {
    for cap in [1, 3] {
        let gateway = Gateway::new(9);
        let bus = gateway.bus(|link| link.max_connections = cap);
        let mut all = tokio::task::JoinSet::new();
        let began = Instant::now();
        for unit in 1..=10 {
            let bus = Arc::clone(&bus);
            all.spawn(async move {
                for _ in 0..6 {
                    ask(&bus, unit).await.unwrap();
                }
            });
        }
        all.join_all().await;
        assert_eq!(gateway.most.load(Ordering::Relaxed), usize::from(cap));
        assert_eq!(began.elapsed(), Duration::from_millis(600) / u32::from(cap), "all are used");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_fewer_connections_than_allowed_is_asked_over_those_that_it_takes() {
    let gateway = Gateway::new(1);
    let bus = gateway.bus(|link| link.max_connections = 3);
    let mut all = tokio::task::JoinSet::new();
    for unit in 1..=10 {
        let bus = Arc::clone(&bus);
        all.spawn(async move {
            for _ in 0..100 {
                ask(&bus, unit).await.unwrap();
            }
        });
    }
    all.join_all().await;
    assert!(gateway.dials() < 20, "{} attempts in 10 s", gateway.dials());
}

#[tokio::test(start_paused = true)]
async fn nobody_there_costs_one_attempt_for_each_back_off_and_the_others_learn_why_at_once() {
    for cap in [1, 3] {
        let gateway = Gateway::new(9);
        gateway.refusing.store(true, Ordering::Relaxed);
        let bus = gateway.bus(|link| link.max_connections = cap);
        let backoff = (Duration::from_secs(4), Duration::from_secs(4));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(100) {
            let asking = (1..=32).map(|unit| {
                let bus = Arc::clone(&bus);
                async move {
                    let since = Instant::now();
                    let mut turn = bus.turn().await.with_backoff(backoff);
                    let error = turn.ask(UnitId(unit), READ, TIMEOUT).await.unwrap_err();
                    assert!(error.is_of_link() && error.line().contains("gateway:502"), "{error}");
                    assert_eq!(since.elapsed(), Duration::ZERO);
                }
            });
            tokio::task::JoinSet::from_iter(asking).join_all().await;
            sleep(Duration::from_millis(100)).await;
        }
        let dials = gateway.dials();
        assert!((25..=50).contains(&dials), "{dials} attempts in 100 s, one each 2 to 4 s");
        gateway.refusing.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(4)).await;
        assert!(ask(&bus, 1).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn silence_or_a_cancelled_request_closes_the_connection_and_the_next_one_is_new() {
    let gateway = Gateway::new(9);
    let bus = gateway.bus(|_| {});
    assert!(ask(&bus, 1).await.is_ok());
    let silent = ask(&bus, 13).await;
    assert!(matches!(silent, Err(LinkError::Silent { unit: 13, .. })), "{silent:?}");
    tokio::task::yield_now().await;
    assert_eq!(gateway.open(), 0);
    assert!(ask(&bus, 2).await.is_ok());
    let cancelled = tokio::time::timeout(Duration::from_millis(5), ask(&bus, 3)).await;
    assert!(cancelled.is_err());
    assert!(ask(&bus, 4).await.is_ok());
    assert_eq!(gateway.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_line_rests_after_an_answer_and_after_a_connection_was_made() {
    let gateway = Gateway::new(9);
    let bus = gateway.bus(|link| {
        link.turnaround = Duration::from_millis(20);
        link.pause_after_connect = Duration::from_millis(500);
    });
    let began = Instant::now();
    for unit in 1..=3 {
        ask(&bus, unit).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::from_millis(500 + 3 * 10 + 2 * 20));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_should_not_outlast_a_poll_is_closed_when_the_last_one_ends() {
    for close_after_poll in [false, true] {
        let gateway = Gateway::new(9);
        let bus = gateway.bus(|link| link.close_after_poll = close_after_poll);
        let (one, other) = (bus.poll(), bus.poll());
        ask(&bus, 1).await.unwrap();
        drop(one);
        tokio::task::yield_now().await;
        assert_eq!(gateway.open(), 1, "another poll goes on");
        ask(&bus, 2).await.unwrap();
        drop(other);
        tokio::task::yield_now().await;
        assert_eq!(gateway.open(), usize::from(!close_after_poll));
        assert_eq!(gateway.dials(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_tells_what_it_is_part_by_part() {
    let gateway = Gateway::new(9);
    let bus = gateway.bus(|_| {});
    for (code, object, fits) in
        [(IdCode::Basic, 0, true), (IdCode::Specific, 1, true), (IdCode::Specific, 2, false)]
    {
        let request = Request::Identify { code, object };
        let outcome = bus.turn().await.ask(UnitId(1), request, TIMEOUT).await;
        if fits {
            let objects = vec![(1, Box::from(*b"TG-1"))];
            assert_eq!(outcome.unwrap(), Reply::Identity(Identity { objects, next: Some(2) }));
        } else {
            assert!(matches!(outcome, Err(LinkError::Malformed { .. })), "{outcome:?}");
        }
    }
}
