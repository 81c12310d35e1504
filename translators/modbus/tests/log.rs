//! What the log says: device and tag by name, once per change, and no flood.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Fault, Run, holding, spec, three_blocks};
use tokio::time::sleep;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// Keeps what is logged on this thread while the guard lives.
fn capture() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test(start_paused = true)]
async fn a_device_that_goes_and_comes_back_is_named_once_each() {
    let (lines, _guard) = capture();
    let run = Run::start(three_blocks(), Fault::None);
    run.for_secs(10).await;
    run.plc.set(Fault::Silent);
    run.for_secs(600).await;
    run.plc.set(Fault::None);
    run.for_secs(20).await;
    run.stop().await;
    let lines = lines.all();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("device=\"press-1\"")), "{lines:#?}");
    assert!(lines[1].contains("unit 7 silent for 400ms"), "{lines:#?}");
    assert!(lines[1].contains("WARN") && lines[2].contains("INFO"), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_tag_is_named_once() {
    let (lines, _guard) = capture();
    let run = Run::start(spec((100..120).map(holding).collect()), Fault::Hole(107));
    run.for_secs(3_600).await;
    run.stop().await;
    let lines = lines.all();
    let of_tag: Vec<_> = lines.iter().filter(|line| line.contains("P/holding/107")).collect();
    assert_eq!(of_tag.len(), 1, "{lines:#?}");
    assert!(of_tag[0].contains("exception 2 (illegal data address)"), "{lines:#?}");
    assert!(lines.len() <= 3, "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_flaps_for_an_hour_does_not_flood_the_log() {
    let (lines, _guard) = capture();
    let run = Run::start(three_blocks(), Fault::None);
    for second in 0..3_600_u32 {
        let faults = [Fault::Exception(4), Fault::CloseAfter(0), Fault::None, Fault::Exception(2)];
        run.plc.set(faults[usize::try_from(second / 2).unwrap() % 4]);
        sleep(Duration::from_secs(1)).await;
    }
    run.stop().await;
    let lines = lines.all();
    // 12 in a burst, then one every 30 s.
    assert!(lines.len() <= 12 + 120 + 1, "{} lines in an hour", lines.len());
    let counted = lines.iter().filter(|line| line.contains("left_out=")).count();
    assert!(counted > 50, "what is not said is counted: {counted}");
}
