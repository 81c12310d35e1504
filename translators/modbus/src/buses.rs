//! The buses in use, one for each way to units.
//!
//! # Invariants
//! - Devices whose link specs are equal share one bus for as long as any of them lives.
//! - A bus that no device uses any more is gone with its connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::bus::Bus;
use crate::dial::{Dialer, TcpDialer};
use crate::spec::{LinkSpec, Transport};

/// The buses that the devices of one process share.
#[derive(Default)]
pub struct Buses {
    /// Opens every connection where it is set.
    dialer: Option<Arc<dyn Dialer>>,
    open: Mutex<HashMap<Arc<LinkSpec>, Weak<Bus>>>,
}

impl Buses {
    /// No bus yet; each one will open connections as its link says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No bus yet; all of them will open their connections with `dialer`.
    #[must_use]
    pub fn with_dialer(dialer: Arc<dyn Dialer>) -> Self {
        Self { dialer: Some(dialer), open: Mutex::default() }
    }

    /// The bus of a link: the one that others use already, or a new one.
    pub(crate) fn bus(&self, link: &Arc<LinkSpec>) -> Arc<Bus> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bus) = open.get(link).and_then(Weak::upgrade) {
            return bus;
        }
        open.retain(|_, bus| bus.strong_count() > 0);
        let bus = Arc::new(Bus::new(Arc::clone(link), self.dialer_to(link)));
        open.insert(Arc::clone(link), Arc::downgrade(&bus));
        bus
    }

    fn dialer_to(&self, link: &LinkSpec) -> Arc<dyn Dialer> {
        if let Some(dialer) = &self.dialer {
            return Arc::clone(dialer);
        }
        match &link.transport {
            Transport::Tcp(to) | Transport::Tls(to, _) | Transport::RtuOverTcp(to) => {
                Arc::new(TcpDialer::new(to.host.clone(), to.port))
            }
            Transport::Rtu(_) => Arc::new(TcpDialer::new(String::new(), 0)),
        }
    }
}

impl std::fmt::Debug for Buses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buses").finish_non_exhaustive()
    }
}
