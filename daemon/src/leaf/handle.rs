//! What the rest of the daemon sees of the leaf, and may ask of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::credentials::Credentials;
use super::papers::{ShowError, Showing};
use crate::config::TlsFiles;

/// How the leaf is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafState {
    /// It was started and does not listen yet.
    Starting,
    /// Local connections are accepted. Whether the hub is reached is another question.
    Listening {
        /// Where clients connect.
        address: SocketAddr,
        /// Which life of it this is, another one after each start: the process id of a child, the id
        /// that a service gave itself.
        life: String,
    },
    /// It does not run.
    Down {
        /// Why, with everything that is known.
        reason: String,
        /// When it is started again, from now; nothing where that is another's matter.
        next_start_in: Option<Duration>,
        /// Whether it went down so often that somebody has to look.
        over_budget: bool,
    },
    /// It was stopped for good.
    Stopped,
}

/// What somebody else wants done.
#[derive(Debug)]
pub(super) enum Order {
    Restart { reason: String },
    Dial { live: bool, record: bool, reason: String },
    FailBack { reason: String },
}

/// What the rest of the daemon holds of the leaf.
#[derive(Debug, Clone)]
pub struct LeafHandle {
    pub(super) credentials: Arc<Credentials>,
    pub(super) state: watch::Receiver<LeafState>,
    pub(super) trouble: watch::Receiver<Option<String>>,
    pub(super) complaint: watch::Receiver<Option<String>>,
    pub(super) hub: watch::Receiver<Option<String>>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) showing: Showing,
}

impl LeafHandle {
    /// The state, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LeafState> {
        self.state.clone()
    }

    /// What keeps a leaf that runs from being what is configured, and every change of it.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// The last error that this child wrote, such as why the hub refuses it. It stays when the
    /// trouble is over: read it only while the hub does not answer.
    #[must_use]
    pub fn last_complaint(&self) -> Option<String> {
        self.complaint.borrow().clone()
    }

    /// The URL that the record's link was last made to. It stays when the link is gone: read it only
    /// while the hub answers.
    #[must_use]
    pub fn hub_url(&self) -> Option<String> {
        self.hub.borrow().clone()
    }

    /// The passwords of the daemon's users.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials)
    }

    /// Asks for a restart, for a `reason` that goes into the log. An order that already waits
    /// stands for this one too.
    pub fn restart(&self, reason: &str) {
        // Full means that one waits; closed, that nothing runs any more.
        let _ = self.orders.try_send(Order::Restart { reason: reason.to_owned() });
    }

    /// Asks for links to be dialled anew, for a `reason` that goes into the log. The leaf stays up
    /// for everybody else. Asked for while another order waits, it is dropped: whoever finds that
    /// nothing changed asks again.
    pub fn dial_anew(&self, live: bool, record: bool, reason: &str) {
        let _ = self.orders.try_send(Order::Dial { live, record, reason: reason.to_owned() });
    }

    /// Asks for both links to be made anew from the first URL on, for a `reason` that goes into the
    /// log. Asked for while another order waits, it is dropped.
    pub fn fail_back(&self, reason: &str) {
        let _ = self.orders.try_send(Order::FailBack { reason: reason.to_owned() });
    }

    /// The certificate files that the links are to be made with; `None` while there are none.
    #[must_use]
    pub fn files(&self) -> Option<TlsFiles> {
        self.showing.files()
    }

    /// Has both links made anew with other certificate files, and waits until they are; `None` takes
    /// down every link that needs some. Every later start of the leaf uses the newest files that
    /// were asked for, also after an error. Dropping the future withdraws nothing.
    ///
    /// # Errors
    /// When the leaf refuses them, does not run, or a link is not made within the time.
    pub async fn show(&self, files: Option<TlsFiles>, within: Duration) -> Result<(), ShowError> {
        self.showing.show(files, within).await
    }

    /// Waits until it listens and says where; `None` when it was stopped. Cancel safe.
    pub async fn listening(&self) -> Option<SocketAddr> {
        let mut state = self.state.clone();
        let settled =
            |state: &LeafState| matches!(state, LeafState::Listening { .. } | LeafState::Stopped);
        match &*state.wait_for(settled).await.ok()? {
            LeafState::Listening { address, .. } => Some(*address),
            _ => None,
        }
    }
}
