//! When the record is signed, and with which identity.
//!
//! # Invariants
//! - The identity is read anew each time: a renewed one signs from then on, and no key is held
//!   longer than a signature takes.
//! - Without an identity nothing is signed, and the record goes on; that there is none is told by
//!   whoever keeps the identity.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_identity::{GenerationStore, Identity, load_identity};

use crate::causes::chain;
use crate::config::Config;
use crate::recorder;
use crate::supervise::{Stage, Supervisor};

/// The first signature after a start: late enough that the first samples are under it.
const FIRST: Duration = Duration::from_secs(10);

/// Between signatures, where the identity is an operator's files.
const HOURLY: Duration = Duration::from_secs(3600);

/// Where the identity is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Files { cert: PathBuf, key: PathBuf },
    Store(PathBuf),
}

impl Source {
    /// What the gateway shows to its hub; `None` when it shows nothing.
    fn of(config: &Config) -> Option<Self> {
        if let Some(tls) = config.hub.as_ref().and_then(|hub| hub.tls.as_ref()) {
            return Some(Self::Files { cert: tls.cert.clone(), key: tls.key.clone() });
        }
        config.identity.as_ref().map(|identity| Self::Store(identity.dir.clone()))
    }

    fn load(&self) -> Result<Identity, String> {
        match self {
            Self::Files { cert, key } => load_identity(cert, key).map_err(|errors| {
                errors.iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ")
            }),
            Self::Store(dir) => {
                let loaded = GenerationStore::at(dir).load();
                loaded.map(|loaded| loaded.identity).map_err(|error| chain(&error))
            }
        }
    }
}

/// Has the record signed again and again.
pub(super) fn checkpoints(
    supervisor: &mut Supervisor,
    config: &Config,
    recorder: recorder::Handle,
) {
    let Some(source) = Source::of(config) else { return };
    let every = config.identity.as_ref().map_or(HOURLY, |identity| identity.checkpoint_every);
    supervisor.core("checkpoints", Stage::Record, move |stop| async move {
        let mut wait = FIRST.min(every);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => wait = every,
            }
            let source = source.clone();
            match tokio::task::spawn_blocking(move || source.load()).await? {
                Ok(identity) => recorder.seal(identity).await,
                Err(why) => tracing::debug!("no checkpoint: {why}"),
            }
        }
    });
}
