//! A nats-server of this run's own, and the daemon's publisher in front of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use tidegate::config::{Deadband, Manner, RecordMode};
use tidegate::live::{LiveQueue, LiveTag, NatsOutlet, Publisher};
use tidegate::observe::state::Board;
use tidegate::supervise::Pulses;
use tidegate_translator::{CancellationToken, TagId, TagPath};

use crate::Failure;
use crate::signals::TAGS;

/// A server that listens on a port of the system's choice; it ends with this value.
pub(crate) struct Leaf {
    server: Child,
    address: String,
    ports: tempfile::TempDir,
}

impl Leaf {
    /// `None` where there is no nats-server.
    pub(crate) fn start() -> Result<Option<Self>, Failure> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/nats-server");
        let named = std::env::var_os("TIDEGATE_NATS_SERVER").map(PathBuf::from);
        let Some(program) = named.or_else(|| ours.exists().then_some(ours)) else {
            return Ok(None);
        };
        let ports = tempfile::tempdir()?;
        let server = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
            .arg(ports.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut leaf = Self { server, address: String::new(), ports };
        let begun = Instant::now();
        while leaf.address.is_empty() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("nats-server did not say where it listens".into());
            }
            std::thread::sleep(Duration::from_millis(10));
            leaf.address = leaf.listening().unwrap_or_default();
        }
        Ok(Some(leaf))
    }

    fn listening(&self) -> Option<String> {
        let file = std::fs::read_dir(self.ports.path()).ok()?.next()?.ok()?;
        let said: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
        said["nats"][0].as_str().map(str::to_owned)
    }

    /// Publishes what the queue gets, every change of every tag, until the result is dropped.
    pub(crate) fn publish(
        &self,
        queue: Arc<LiveQueue>,
        board: Arc<Board>,
    ) -> Result<Publishing, Failure> {
        queue.set_tags((0..TAGS).map(tag).collect::<Result<Vec<_>, _>>()?);
        let stop = CancellationToken::new();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime
            .block_on(ConnectOptions::new().client_capacity(256).connect(self.address.as_str()))?;
        let pulse = Pulses::new(Duration::from_secs(60)).register("live");
        let publisher = Publisher::new(queue, board, NatsOutlet(client), pulse);
        runtime.spawn(publisher.run(stop.clone()));
        Ok(Publishing { stop, _runtime: runtime })
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone then.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Publishes as long as it lives.
pub(crate) struct Publishing {
    stop: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn tag(id: u32) -> Result<LiveTag, Failure> {
    let manner = Manner {
        unit: Some("degC".into()),
        deadband: Deadband::None,
        max_silence: Duration::from_secs(60),
        record: RecordMode::All,
    };
    Ok(LiveTag {
        id: TagId(id),
        path: TagPath::new(format!("PlantA/Line3/Press1/tag{id}"))?,
        device: "press-1".into(),
        manner: Arc::new(manner),
        on_change: false,
    })
}
