//! Whoever watches may be slow, rude or many.

use std::time::Duration;

use tidegate_hil_tests::{Rig, Wishes, outage, vitals};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::CATCH_UP;

/// What a daemon with a few devices may grow by under any number of observers.
const MOST_GROWTH: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn observers_that_never_read_or_never_finish_cost_the_record_nothing() {
    let wishes = Wishes::default().with("metrics", "listen", "127.0.0.1:0");
    let mut rig = Rig::running_with(wishes).await.unwrap();
    rig.polls(5).await.unwrap();
    let metrics = rig.gateway.metrics().await.unwrap();
    let pid = rig.gateway.pid().unwrap();
    let (memory, files) = (vitals::memory(pid).unwrap().1, vitals::open_files(pid).unwrap());

    let mut kept = Vec::new();
    let mut most_files = files;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < outage(Duration::from_secs(5)) {
        for _ in 0..40 {
            // Asks for everything as often as the pipe takes it, and reads nothing.
            if let Ok(mut asker) = UnixStream::connect(rig.gateway.control_socket()).await {
                let ask = b"{\"v\":1,\"ask\":\"status\"}\n".repeat(1000);
                let _ =
                    tokio::time::timeout(Duration::from_millis(20), asker.write_all(&ask)).await;
                kept.push(Observer::Asker(asker));
            }
            // Half a request.
            if let Ok(mut scraper) = TcpStream::connect(metrics).await {
                let _ = scraper.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await;
                kept.push(Observer::Scraper(scraper));
            }
            most_files = most_files.max(vitals::open_files(pid).unwrap());
        }
        if kept.len() > 400 {
            kept.drain(..200);
        }
    }
    // 16 connections for each listener, and what it turns away at that moment.
    assert!(most_files <= files + 40, "{files} became {most_files}");
    rig.polls(10).await.unwrap();
    let after = vitals::memory(pid).unwrap().1;
    assert!(after < memory + MOST_GROWTH, "{memory} became {after}");
    // Those who sit there are sent away, and whoever asks properly is answered.
    for observer in &mut kept {
        observer.is_sent_away().await;
    }
    drop(kept);
    rig.gateway.status().unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

enum Observer {
    Asker(UnixStream),
    Scraper(TcpStream),
}

impl Observer {
    /// Reads to the end, which comes.
    async fn is_sent_away(&mut self) {
        let mut all = Vec::new();
        let to_the_end = async {
            // Sent away with a reset, it is an error, and an end as well.
            let _ = match self {
                Self::Asker(asker) => asker.read_to_end(&mut all).await,
                Self::Scraper(scraper) => scraper.read_to_end(&mut all).await,
            };
        };
        tokio::time::timeout(CATCH_UP, to_the_end).await.unwrap();
    }
}
