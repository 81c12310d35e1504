//! The gateway's NATS server as a service of its own, with what a service manager does for it: it is
//! started once there is a configuration, started again whenever it ends, and restarted when the
//! gateway asks for that by a file.
//!
//! # Invariants
//! - It knows the leaf's folder and nothing else of the gateway, and outlives it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;

use crate::family::{self, Family, Process};
use crate::gateway::Wishes;
use crate::{tools, wait};

/// How often the manager looks. systemd hears of files and ends at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The service and its manager.
#[derive(Debug)]
pub struct LeafService {
    /// The process id of the server; 0 while it does not run.
    pid: Arc<AtomicU32>,
    log: PathBuf,
    /// Closed when the service is switched off.
    _on: mpsc::Sender<()>,
}

impl LeafService {
    /// Wishes of a gateway whose leaf is such a service, and where that one listens.
    ///
    /// # Errors
    /// When the system has no port left.
    pub fn wishes() -> anyhow::Result<(Wishes, SocketAddr)> {
        // The gateway has to know it beforehand. Free a moment ago is free, as a rule: the system
        // hands out others first.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let wishes = Wishes::default().with("leaf", "mode", "external").with(
            "leaf",
            "listen",
            address.to_string(),
        );
        Ok((wishes, address))
    }

    /// Switches it on, for a gateway with this leaf folder.
    ///
    /// # Errors
    /// When there is no nats-server.
    pub fn on(family: &Arc<Family>, folder: &Path) -> anyhow::Result<Self> {
        let (on, is_off) = mpsc::channel::<()>();
        let pid = Arc::new(AtomicU32::new(0));
        let log = folder.with_extension("service.log");
        let manager = Manager {
            family: Arc::clone(family),
            server: tools::nats_server()?,
            folder: folder.to_owned(),
            log: log.clone(),
            pid: Arc::clone(&pid),
        };
        std::thread::spawn(move || manager.run(&is_off));
        Ok(Self { pid, log, _on: on })
    }

    /// Waits until it runs and says as which process.
    ///
    /// # Errors
    /// When it does not soon.
    pub async fn runs(&self) -> anyhow::Result<u32> {
        self.runs_otherwise(0).await
    }

    /// Waits until it runs as another process than `old`.
    ///
    /// # Errors
    /// When it does not soon.
    pub async fn runs_otherwise(&self, old: u32) -> anyhow::Result<u32> {
        wait::until(wait::SOON, "the leaf's service runs", || {
            let pid = self.pid.load(Ordering::Relaxed);
            async move { Ok((pid != 0 && pid != old).then_some(pid)) }
        })
        .await
    }

    /// SIGKILL to the server; the manager starts another one.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&self) -> anyhow::Result<()> {
        family::kill9(self.pid.load(Ordering::Relaxed))
    }

    /// What all of its lives have logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).context("the log of the leaf's service")
    }
}

struct Manager {
    family: Arc<Family>,
    server: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    pid: Arc<AtomicU32>,
}

impl Manager {
    fn run(self, is_off: &mpsc::Receiver<()>) {
        let mut process: Option<Process> = None;
        let restart = self.folder.join("restart");
        while !matches!(is_off.recv_timeout(LOOK_EVERY), Err(mpsc::RecvTimeoutError::Disconnected))
        {
            if process.as_mut().is_some_and(|process| !matches!(process.ended(), Ok(None))) {
                process = None;
            }
            if std::fs::remove_file(&restart).is_ok()
                && let Some(mut old) = process.take()
            {
                // Gone already is as good.
                let _ = old.kill9();
            }
            if process.is_none() && self.folder.join("nats-server.conf").exists() {
                process = self.start();
            }
            let pid = process.as_ref().map_or(0, Process::id);
            self.pid.store(pid, Ordering::Relaxed);
        }
        if let Some(mut process) = process {
            let _ = process.kill9();
        }
    }

    fn start(&self) -> Option<Process> {
        let mut command = self.family.command(&self.server);
        command.arg("-c").arg(self.folder.join("nats-server.conf"));
        Process::start(&self.family, "the leaf's service", command, &self.log).ok()
    }
}
