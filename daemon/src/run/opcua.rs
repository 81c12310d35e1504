//! The OPC UA translator with what the daemon gives it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_identity::crl::{CrlRule, WhenStale};
use tidegate_identity::opcua::{KeyBits, OwnSpec};
use tidegate_opcua::{Credentials, OpcUaDevice};
use tidegate_translator::Clock;

use super::devices::MakeOpcUa;
use super::opcua_credentials::OpcUaCredentials;
use crate::config::{Config, WhenCrlStale};
use crate::supervise::{Stage, Supervisor};

/// The gateway's certificate, trust folders and passwords, as a configuration says.
pub(crate) fn credentials(config: &Config, clock: Arc<dyn Clock>) -> OpcUaCredentials {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let spec = own_spec(config, Some(host).filter(|host| !host.is_empty()));
    let credentials = OpcUaCredentials::new(&config.opcua.dir, spec, clock);
    match crl_rule(config) {
        None => credentials,
        Some(rule) => credentials.revoking(rule),
    }
}

/// How old a revocation list may be; nothing where `[identity]` does not say.
pub(crate) fn crl_rule(config: &Config) -> Option<CrlRule> {
    config.identity.as_ref().map(|identity| CrlRule {
        max_age: identity.crl_max_age,
        when_stale: match identity.when_crl_stale {
            WhenCrlStale::Accept => WhenStale::Accept,
            WhenCrlStale::Refuse => WhenStale::Refuse,
        },
    })
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

/// How often the end of the own certificate is looked at; it comes near over months.
const TEND_EVERY: Duration = Duration::from_secs(3_600);

/// Keeps the own certificate from running out, where there is one.
pub(super) fn tended(supervisor: &mut Supervisor, credentials: Arc<OpcUaCredentials>) {
    supervisor.core("opcua-certificate", Stage::Observe, |stop| async move {
        loop {
            let credentials = Arc::clone(&credentials);
            let tend = tokio::task::spawn_blocking(move || credentials.tend());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                tended = tend => {
                    if let Err(error) = tended {
                        tracing::error!("the OPC UA certificate could not be looked at: {error}");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(TEND_EVERY) => {}
            }
        }
    });
}

/// Makes the translator of each device.
pub(super) fn maker(clock: Arc<dyn Clock>, credentials: Arc<dyn Credentials>) -> MakeOpcUa {
    Arc::new(move |spec, ids, book| {
        let (clock, credentials) = (Arc::clone(&clock), Arc::clone(&credentials));
        Box::new(OpcUaDevice::new(spec, ids, clock, book, credentials))
    })
}
