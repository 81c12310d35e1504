//! Over real TCP on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Recorder, holding, spec};
use tidegate_modbus::{Buses, DeviceSpec, LinkSpec, ModbusDevice};
use tidegate_translator::{CancellationToken, Clock, Device, DeviceState, TagId, Timestamp, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1)
    }
}

/// Answers every read of holding registers with the addresses themselves.
async fn serve(mut stream: TcpStream, requests: Arc<AtomicU32>) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).await.is_ok() {
        requests.fetch_add(1, Ordering::Relaxed);
        let start = u16::from_be_bytes([request[8], request[9]]);
        let count = u16::from_be_bytes([request[10], request[11]]);
        let body: Vec<u8> = (start..start + count).flat_map(u16::to_be_bytes).collect();
        let bytes = u8::try_from(body.len()).unwrap();
        let reply = [&request[..4], &[0, bytes + 3, request[6], 3, bytes], &body].concat();
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

fn device(host: &str, port: u16, period: Duration) -> ModbusDevice {
    let tags: Vec<_> = (0..10).map(holding).collect();
    let ids: Vec<_> = (0..10).map(TagId).collect();
    let spec = DeviceSpec {
        link: Arc::new(LinkSpec::tcp(host.into(), port)),
        poll_every: period,
        ..spec(tags)
    };
    ModbusDevice::new(spec, ids, Arc::new(Fixed), &Buses::new()).unwrap()
}

/// Waits until `done` holds, for ten seconds at most.
async fn until(what: &str, done: impl Fn() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < patience, "{what} did not happen in 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_plc_by_name_is_polled_lost_and_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU32::new(0));
    let serving = tokio::spawn({
        let requests = Arc::clone(&requests);
        async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(serve(stream, Arc::clone(&requests)));
            }
        }
    });
    let recorder = Recorder::new();
    let stop = CancellationToken::new();
    let device = device("localhost", address.port(), Duration::from_millis(20));
    let running = tokio::spawn(Box::new(device).run(recorder.clone(), stop.clone()));

    let state = |recorder: &Recorder| recorder.told.lock().unwrap().states.last().map(|s| s.1);
    until("live", || state(&recorder) == Some(DeviceState::Live)).await;
    until("50 polls", || requests.load(Ordering::Relaxed) >= 50).await;

    serving.abort();
    until("down", || state(&recorder) == Some(DeviceState::Down)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let again = tokio::spawn({
        let requests = Arc::clone(&requests);
        async move { serve(listener.accept().await.unwrap().0, requests).await }
    });
    until("live again", || state(&recorder) == Some(DeviceState::Live)).await;
    stop.cancel();
    running.await.unwrap();
    again.abort();

    let told = recorder.told.lock().unwrap();
    for (_, sample) in &told.samples {
        let expected = Value::U64(sample.tag.0.into());
        assert!(if sample.quality.is_good() {
            sample.value == expected
        } else {
            sample.value == Value::None
        });
    }
}

#[tokio::test]
async fn reading_once_from_a_closed_port_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let readings = device("127.0.0.1", port, Duration::from_secs(1)).read_once().await;
    let error = readings[0].error.as_deref().unwrap();
    assert!(error.contains("refused") && error.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test]
async fn a_host_without_an_address_says_so() {
    let readings = device("no-such-host.invalid", 502, Duration::from_secs(1)).read_once().await;
    let error = readings[0].error.as_deref().unwrap();
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

/// How fast requests follow each other: `cargo test --release --test tcp -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn transactions_per_second_on_loopback() {
    for width in [1, 125] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicU32::new(0));
        let serving = tokio::spawn({
            let requests = Arc::clone(&requests);
            async move { serve(listener.accept().await.unwrap().0, requests).await }
        });
        let spec = DeviceSpec {
            link: Arc::new(LinkSpec::tcp("127.0.0.1".into(), port)),
            poll_every: Duration::from_millis(1),
            timeout: Duration::from_secs(1),
            pause_between: Duration::ZERO,
            max_registers: width,
            ..spec((0..1_000).map(holding).collect())
        };
        let ids: Vec<_> = (0..1_000).map(TagId).collect();
        let device = ModbusDevice::new(spec, ids, Arc::new(Fixed), &Buses::new()).unwrap();
        let stop = CancellationToken::new();
        let recorder = Recorder::new();
        let running = tokio::spawn(Box::new(device).run(recorder.clone(), stop.clone()));
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.cancel();
        running.await.unwrap();
        serving.abort();
        let samples = recorder.told.lock().unwrap().samples.len();
        let asked = requests.load(Ordering::Relaxed);
        println!("{width} registers: {} requests/s, {} values/s", asked / 3, samples / 3);
    }
}
