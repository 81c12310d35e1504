use std::pin::Pin;
use std::sync::Mutex;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const UNIT: UnitId = UnitId(9);
const READ: Request = Request::Read { table: Table::HoldingRegister, start: 100, count: 3 };

fn open(chunk: usize) -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(chunk);
    (Connection::over(Box::new(ours)), theirs)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

async fn request_of(peer: &mut DuplexStream) -> [u8; 12] {
    let mut request = [0; 12];
    peer.read_exact(&mut request).await.unwrap();
    request
}

fn reply_to(request: &[u8; 12], registers: &[u16]) -> Vec<u8> {
    let body: Vec<u8> = registers.iter().flat_map(|r| r.to_be_bytes()).collect();
    let count = u8::try_from(body.len()).unwrap();
    [&request[..4], &[0, count + 3, request[6], request[7], count], &body].concat()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Asks once while `peer` answers.
async fn ask(
    chunk: usize,
    peer: impl FnOnce(DuplexStream) -> Pin<Box<dyn Future<Output = ()> + Send>>,
) -> (Result<Reply, LinkError>, Connection) {
    let (mut link, theirs) = open(chunk);
    let task = tokio::spawn(peer(theirs));
    let outcome = link.ask(UNIT, READ, soon()).await;
    task.abort();
    (outcome, link)
}

#[tokio::test(start_paused = true)]
async fn a_request_travels_whole_through_a_stream_that_takes_a_byte_at_a_time() {
    let (outcome, _) = ask(1, |mut peer| {
        Box::pin(async move {
            let request = request_of(&mut peer).await;
            assert_eq!(request[2..], [0, 0, 0, 6, 9, 3, 0, 100, 0, 3]);
            peer.write_all(&reply_to(&request, &[1, 2, 3])).await.unwrap();
            std::future::pending().await
        })
    })
    .await;
    assert_eq!(outcome.unwrap(), Reply::Registers(vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn after_a_time_out_the_connection_is_gone() {
    let (mut link, mut peer) = open(64);
    let silent = link.ask(UNIT, READ, soon()).await;
    assert!(matches!(silent, Err(LinkError::Silent { unit: 9, .. })), "{silent:?}");
    request_of(&mut peer).await;
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "the peer sees the end");
    let again = link.ask(UNIT, READ, soon()).await;
    assert!(matches!(again, Err(LinkError::Closed { .. })), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_takes_the_connection_with_it() {
    let (mut link, mut peer) = open(64);
    let cancelled =
        tokio::time::timeout(Duration::from_millis(10), link.ask(UNIT, READ, soon())).await;
    assert!(cancelled.is_err());
    request_of(&mut peer).await;
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "the peer sees the end");
    assert!(matches!(link.ask(UNIT, READ, soon()).await, Err(LinkError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_exception_keeps_the_connection() {
    let (mut link, mut peer) = open(64);
    let serve = tokio::spawn(async move {
        let request = request_of(&mut peer).await;
        let refusal = [&request[..4], &[0, 3, 9, 0x83, 6]].concat();
        peer.write_all(&refusal).await.unwrap();
        let request = request_of(&mut peer).await;
        peer.write_all(&reply_to(&request, &[4, 5, 6])).await.unwrap();
        std::future::pending::<()>().await
    });
    let refused = link.ask(UNIT, READ, soon()).await;
    assert!(matches!(refused, Err(LinkError::Refused { code: 6 })), "{refused:?}");
    let reply = link.ask(UNIT, READ, soon()).await;
    assert_eq!(reply.unwrap(), Reply::Registers(vec![4, 5, 6]));
    serve.abort();
}

#[tokio::test(start_paused = true)]
async fn transactions_begin_somewhere_else_on_every_connection() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let (mut link, mut peer) = open(64);
        let asking = tokio::spawn(async move { link.ask(UNIT, READ, soon()).await });
        let request = request_of(&mut peer).await;
        seen.insert([request[0], request[1]]);
        asking.abort();
    }
    // Eight equal draws of 65,536 happen once in 10^33 runs.
    assert!(seen.len() > 1, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_repeats_old_answers_for_ever_is_broken() {
    let (mut link, mut peer) = open(4096);
    let serve = tokio::spawn(async move {
        let first = request_of(&mut peer).await;
        peer.write_all(&reply_to(&first, &[1, 2, 3])).await.unwrap();
        request_of(&mut peer).await;
        for _ in 0..20 {
            if peer.write_all(&reply_to(&first, &[1, 2, 3])).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await
    });
    assert!(link.ask(UNIT, READ, soon()).await.is_ok());
    let second = link.ask(UNIT, READ, soon()).await;
    assert!(matches!(second, Err(LinkError::Malformed { .. })), "{second:?}");
    serve.abort();
}

#[test]
fn an_error_line_names_the_cause_once() {
    let error = LinkError::Down(Arc::new(ConnectError::Unreachable {
        source: DialError::Connect {
            endpoint: "192.0.2.1:502".into(),
            source: io::Error::new(io::ErrorKind::ConnectionRefused, "refused"),
        },
    }));
    assert_eq!(error.line(), "device cannot be reached: no connection to 192.0.2.1:502: refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// The data of an answer cannot be checked on TCP; everything before it can.
    #[test]
    fn no_damage_before_the_data_ever_gives_a_value(
        at in 0usize..9,
        byte in any::<u8>(),
        cut in 0usize..20,
        garbage in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let sent = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let log = Arc::clone(&sent);
        let damaged = runtime().block_on(async {
            ask(4096, move |mut peer| Box::pin(async move {
                let request = request_of(&mut peer).await;
                let right = reply_to(&request, &[100, 101, 102]);
                let mut reply = right.clone();
                reply[at] = byte;
                reply.truncate(cut);
                reply.extend(garbage);
                *log.lock().unwrap() = (right, reply.clone());
                let _ = peer.write_all(&reply).await;
                if byte % 2 == 0 {
                    std::future::pending::<()>().await;
                }
            })).await.0
        });
        let (right, sent) = &*sent.lock().unwrap();
        let is_whole = sent.len() >= right.len() && sent[..9] == right[..9];
        // Where the damage happens to repair itself, the answer is one, with the data that it has.
        let expected = is_whole.then(|| {
            sent[9..15].chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect()
        });
        match damaged {
            Ok(Reply::Registers(registers)) => prop_assert_eq!(Some(registers), expected),
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(LinkError::Refused { .. }) => prop_assert!(sent[7] == 0x83),
            Err(_) => prop_assert_eq!(expected, None),
        }
    }

    #[test]
    fn a_bit_answer_has_exactly_the_bits_asked_for(count in 1u16..=2000, bytes in 0usize..=250) {
        let read = Request::Read { table: Table::Coil, start: 0, count };
        let outcome = verify(read, Response::ReadCoils(vec![true; bytes * 8]));
        let right = bytes == usize::from(count).div_ceil(8);
        prop_assert_eq!(outcome.is_ok(), right);
        if let Ok(Reply::Bits(bits)) = outcome {
            prop_assert_eq!(bits.len(), usize::from(count));
        }
    }
}
