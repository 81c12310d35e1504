//! The OPC UA translator with what the daemon gives it.

use std::sync::Arc;

use tidegate_identity::opcua::{KeyBits, OwnSpec};
use tidegate_opcua::{Credentials, OpcUaDevice};
use tidegate_translator::Clock;

use super::devices::MakeOpcUa;
use super::opcua_credentials::OpcUaCredentials;
use crate::config::Config;

/// The gateway's certificate, trust folders and passwords, as a configuration says.
pub(crate) fn credentials(config: &Config, clock: Arc<dyn Clock>) -> OpcUaCredentials {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let spec = own_spec(config, Some(host).filter(|host| !host.is_empty()));
    OpcUaCredentials::new(&config.opcua.dir, spec, clock)
}

/// What a new certificate of this gateway says.
pub(crate) fn own_spec(config: &Config, host: Option<String>) -> OwnSpec {
    let gateway = &config.gateway;
    OwnSpec {
        application_uri: config.opcua.application_uri.clone(),
        host,
        common_name: format!("tidegate {} {}", gateway.plant, gateway.name),
        key: KeyBits::of(config.opcua.key_bits.into()).unwrap_or_default(),
    }
}

/// Makes the translator of each device.
pub(super) fn maker(clock: Arc<dyn Clock>, credentials: Arc<dyn Credentials>) -> MakeOpcUa {
    Arc::new(move |spec, ids, book| {
        let (clock, credentials) = (Arc::clone(&clock), Arc::clone(&credentials));
        Box::new(OpcUaDevice::new(spec, ids, clock, book, credentials))
    })
}
