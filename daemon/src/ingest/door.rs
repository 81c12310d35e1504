//! The connection to the leaf that messages come through.
//!
//! # Invariants
//! - There is one for all devices, and it comes back by itself.
//! - What the connection itself had to drop is counted, so that a device can tell of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Client, Event};
use tokio::sync::watch;

/// The side of whoever makes the connection.
#[derive(Debug)]
pub(crate) struct Sill {
    client: watch::Sender<Option<Client>>,
    connected: watch::Sender<bool>,
    dropped: Arc<AtomicU64>,
}

/// The side of whoever hears messages.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(super) client: watch::Receiver<Option<Client>>,
    pub(super) connected: watch::Receiver<bool>,
    dropped: Arc<AtomicU64>,
    permitted: Arc<[Box<str>]>,
}

impl Door {
    /// A door that opens once there is a connection. The leaf permits `permitted` subjects.
    pub(crate) fn new(permitted: Arc<[Box<str>]>) -> (Sill, Self) {
        let (client, seen) = watch::channel(None);
        let (connected, stands) = watch::channel(false);
        let dropped = Arc::new(AtomicU64::new(0));
        let door =
            Self { client: seen, connected: stands, dropped: Arc::clone(&dropped), permitted };
        (Sill { client, connected, dropped }, door)
    }

    /// How often the connection dropped messages that nobody took in time.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether the leaf was told of a subject when it began.
    pub(super) fn permits(&self, subject: &str) -> bool {
        self.permitted.iter().any(|it| &**it == subject)
    }
}

impl Sill {
    /// Hears what happens to the connection.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Connected => drop(self.connected.send_replace(true)),
            Event::Disconnected => drop(self.connected.send_replace(false)),
            Event::SlowConsumer(_) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// Opens the door.
    pub(crate) fn open(&self, client: Client) {
        self.client.send_replace(Some(client));
    }
}
