//! From an address to a session: endpoints, choice, trust, channel, session, log-on.
//!
//! # Invariants
//! - What is dialled is the configured address, unless the configuration says otherwise.
//! - The server's certificate is judged before the secure channel is opened, and the session must
//!   be of the same certificate.
//! - Each step has a time-out, and each failure names its step.

mod choose;
mod error;
mod identity;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opcua::client::transport::TransportConfiguration;
use opcua::client::{AsyncSecureChannel, SessionRetryPolicy};
use opcua::crypto::{
    CertificateStore, PrivateKey, SecurityPolicy, X509, X509Data, create_signature_data, random,
    verify_signature_data,
};
use opcua::sync::RwLock;
use opcua::types::{
    ActivateSessionRequest, ApplicationDescription, ApplicationType, ByteString, ContextOwned,
    CreateSessionRequest, DateTime, DecodingOptions, EndpointDescription, GetEndpointsRequest,
    NamespaceMap, NodeId, RequestHeader, SignatureData, StatusCode,
};

use tokio::time::Instant;

pub(crate) use choose::{Chosen, choose, leaf};
pub(crate) use error::words;
pub use error::{ConnectError, Stage};

use crate::convert::RawBodies;
use crate::credentials::{Application, Credentials, Presented};
use crate::line::service;
use crate::spec::{DeviceSpec, EndpointUrl};
use crate::transport::{CHUNK, MAX_CHUNKS, MAX_MESSAGE};
use crate::wire::{Dialled, Wire};

/// How long a channel's token is asked to live. It is renewed at three quarters of that, inside
/// the request that is then due.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// How long the server is asked to keep a session, and what it holds back for it, after the
/// connection is gone: longer than a switch takes to boot.
const SESSION_TIMEOUT: Duration = Duration::from_secs(120);
/// Longer arrays are no values of a tag: a frame of the record takes 64 KiB.
const MAX_ARRAY: usize = 1_000_000;
/// How deep variants and structures may lie in each other.
const MAX_DEPTH: u64 = 32;
/// The most endpoints that are looked at.
const MAX_ENDPOINTS: usize = 200;
/// As whom the gateway presents itself where it needs no certificate.
const ANONYMOUS_URI: &str = "urn:tidegate";

/// A channel to a server for which everything was checked that can be before it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) chosen: Chosen,
    url: EndpointUrl,
    own: Option<Application>,
}

/// What a server gave when it created a session.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) token: NodeId,
    pub(crate) timeout: Duration,
    /// What the next log-on signs.
    pub(crate) nonce: ByteString,
}

/// What a server says of itself before there is a session.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) endpoints: Vec<EndpointDescription>,
    /// Its clock when it answered.
    pub(crate) server_time: DateTime,
    /// How long the answer took.
    pub(crate) took: Duration,
}

/// The endpoints that a server offers at this address.
pub(crate) async fn endpoints(
    url: &EndpointUrl,
    timeout: Duration,
) -> Result<Offered, ConnectError> {
    let endpoint = EndpointDescription {
        endpoint_url: url.to_string().into(),
        security_policy_uri: SecurityPolicy::None.to_uri().into(),
        security_mode: opcua::types::MessageSecurityMode::None,
        ..EndpointDescription::default()
    };
    let channel = channel(endpoint, None);
    let opened = Dialled::new(url, timeout).await?.open(&channel, timeout).await;
    let mut wire =
        opened.map_err(|(status, text)| ConnectError::refused(Stage::Endpoints, status, &text))?;
    let request = GetEndpointsRequest {
        request_header: header(&NodeId::null(), 1, timeout),
        endpoint_url: url.to_string().into(),
        locale_ids: None,
        profile_uris: None,
    };
    let asked = async {
        let begun = Instant::now();
        let answer = service!(&channel, GetEndpoints, request, timeout);
        let took = begun.elapsed();
        channel.close_channel().await;
        answer.map(|answer| (answer, took))
    };
    let (answer, took) = wire
        .serve(asked)
        .await
        .map_err(|error| ConnectError::refused(Stage::Endpoints, error.status, &error.detail))?;
    // Lets the farewell out; the server closes then, or is not waited for.
    let _ = tokio::time::timeout(Duration::from_millis(50), wire.closed()).await;
    let mut endpoints = answer.endpoints.unwrap_or_default();
    endpoints.truncate(MAX_ENDPOINTS);
    Ok(Offered { endpoints, server_time: answer.response_header.timestamp, took })
}

impl Target {
    /// Asks the server for its endpoints, chooses one, and judges its certificate.
    pub(crate) async fn find(
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
    ) -> Result<Self, ConnectError> {
        let offered = endpoints(&spec.url, spec.timeout).await?;
        Self::judged(spec, credentials, choose(spec, &offered.endpoints)?)
    }

    /// Judges the certificate of an endpoint.
    pub(crate) fn judged(
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
        mut chosen: Chosen,
    ) -> Result<Self, ConnectError> {
        let own = |text: String| ConnectError::new(Stage::Own, None, text);
        let mut url = spec.url.clone();
        if spec.follow_advertised {
            url = EndpointUrl::parse(chosen.endpoint.endpoint_url.as_ref()).map_err(|error| {
                let text = format!("the server advertises an unusable URL: {error}");
                ConnectError::new(Stage::Choose, None, text)
            })?;
        }
        chosen.endpoint.endpoint_url = url.to_string().into();
        let mut files = None;
        if chosen.policy != SecurityPolicy::None {
            let presented = Presented {
                device: &spec.name,
                chain: &chosen.chain,
                application_uri: chosen.endpoint.server.application_uri.as_ref(),
                host: &url.host,
                trust: &spec.trust,
            };
            credentials.judge(&presented).map_err(ConnectError::distrusted)?;
            let application = credentials.application(&spec.name);
            files = Some(application.map_err(|error| own(error.to_string()))?);
        }
        Ok(Self { chosen, url, own: files })
    }

    /// The certificate that is shown, where one is.
    pub(crate) const fn own(&self) -> Option<&Application> {
        self.own.as_ref()
    }

    /// Opens the secure channel.
    pub(crate) async fn open(
        &self,
        timeout: Duration,
    ) -> Result<(AsyncSecureChannel, Wire), ConnectError> {
        let channel = channel(self.chosen.endpoint.clone(), self.own.as_ref());
        let opened = Dialled::new(&self.url, timeout).await?.open(&channel, timeout).await;
        let wire = opened
            .map_err(|(status, text)| ConnectError::refused(Stage::Channel, status, &text))?;
        Ok((channel, wire))
    }

    fn own_certificate(&self) -> Result<Option<X509>, ConnectError> {
        let Some(own) = &self.own else { return Ok(None) };
        let certificate = CertificateStore::read_cert(&own.certificate)
            .map_err(|error| ConnectError::new(Stage::Own, None, error))?;
        Ok(Some(certificate))
    }

    /// Creates a session.
    pub(crate) async fn create_session(
        &self,
        channel: &AsyncSecureChannel,
        name: &str,
        timeout: Duration,
    ) -> Result<Ticket, ConnectError> {
        let own = self.own_certificate()?;
        let nonce = random::byte_string(32);
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let request = CreateSessionRequest {
            request_header: header(&NodeId::null(), 2, timeout),
            client_description: ApplicationDescription {
                application_uri: self
                    .own
                    .as_ref()
                    .map_or(ANONYMOUS_URI, |own| own.uri.as_str())
                    .into(),
                product_uri: ANONYMOUS_URI.into(),
                application_name: "Tidegate".into(),
                application_type: ApplicationType::Client,
                ..ApplicationDescription::default()
            },
            server_uri: opcua::types::UAString::null(),
            endpoint_url: self.url.to_string().into(),
            session_name: name.into(),
            client_nonce: nonce.clone(),
            client_certificate: own.as_ref().map(X509::as_byte_string).unwrap_or_default(),
            requested_session_timeout: millis(SESSION_TIMEOUT),
            max_response_message_size: u32::try_from(MAX_MESSAGE).unwrap_or(0),
        };
        let failed =
            |status, detail: &str| ConnectError::refused(Stage::CreateSession, status, detail);
        let answer = service!(channel, CreateSession, request, timeout)
            .map_err(|error| failed(error.status, &error.detail))?;
        if let Some(own) = own {
            let shown = leaf(answer.server_certificate.as_ref());
            if shown != self.chosen.endpoint.server_certificate.as_ref() {
                let detail = "the session shows another certificate than the endpoint";
                return Err(failed(StatusCode::BadCertificateInvalid, detail));
            }
            let server = X509::from_byte_string(&self.chosen.endpoint.server_certificate)
                .map_err(|error| failed(error.status(), &error.to_string()))?;
            let policy = self.chosen.policy;
            let signature = &answer.server_signature;
            verify_signature_data(signature, policy, &server, &own, nonce.as_ref()).map_err(
                |_| {
                    let detail = "the server does not prove that it has its certificate's key";
                    failed(StatusCode::BadApplicationSignatureInvalid, detail)
                },
            )?;
        }
        let revised = Duration::try_from_secs_f64(answer.revised_session_timeout / 1000.0);
        Ok(Ticket {
            token: answer.authentication_token,
            timeout: revised
                .unwrap_or(SESSION_TIMEOUT)
                .clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600)),
            nonce: answer.server_nonce,
        })
    }

    /// Logs on, also with a session of a connection before.
    pub(crate) async fn activate(
        &self,
        channel: &AsyncSecureChannel,
        ticket: &mut Ticket,
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
    ) -> Result<(), ConnectError> {
        let own = |text: String| ConnectError::new(Stage::Own, None, text);
        let failed = |status, detail: &str| ConnectError::refused(Stage::Activate, status, detail);
        let (user_identity_token, user_token_signature) =
            identity::identity(&spec.user, credentials, &self.chosen, &ticket.nonce)?;
        let client_signature = match &self.own {
            None => SignatureData::default(),
            Some(files) => {
                let key = PrivateKey::read_pem_file(&files.key).map_err(|_| {
                    own(format!("{} cannot be read as an RSA key in PEM", files.key.display()))
                })?;
                let server = &self.chosen.endpoint.server_certificate;
                create_signature_data(&key, self.chosen.policy, server, &ticket.nonce)
                    .map_err(|error| failed(error.status(), &error.to_string()))?
            }
        };
        let request = ActivateSessionRequest {
            request_header: header(&ticket.token, 3, spec.timeout),
            client_signature,
            client_software_certificates: None,
            locale_ids: None,
            user_identity_token,
            user_token_signature,
        };
        let answer = service!(channel, ActivateSession, request, spec.timeout)
            .map_err(|error| failed(error.status, &error.detail))?;
        ticket.nonce = answer.server_nonce;
        Ok(())
    }
}

/// The header of a request.
pub(crate) fn header(token: &NodeId, handle: u32, timeout: Duration) -> RequestHeader {
    RequestHeader {
        authentication_token: token.clone(),
        timestamp: DateTime::now(),
        request_handle: handle,
        timeout_hint: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        ..RequestHeader::default()
    }
}

/// A channel to an endpoint, not opened.
fn channel(endpoint: EndpointDescription, own: Option<&Application>) -> AsyncSecureChannel {
    // The folders of the store are never used: trust is judged elsewhere, and where none can be
    // made, none is.
    let nowhere = Path::new("/dev/null/none");
    let store = match own {
        None => CertificateStore::new(nowhere),
        Some(own) => {
            let (certificate, key) = (Some(own.certificate.as_path()), Some(own.key.as_path()));
            let none = None::<X509Data>;
            CertificateStore::new_with_x509_data(nowhere, false, certificate, key, none).0
        }
    };
    let options = DecodingOptions {
        max_message_size: MAX_MESSAGE,
        max_chunk_count: MAX_CHUNKS,
        max_string_length: MAX_MESSAGE,
        max_byte_string_length: MAX_MESSAGE,
        max_array_length: MAX_ARRAY,
        decoding_depth_gauge: opcua::types::DepthGauge::new(MAX_DEPTH),
        ..DecodingOptions::default()
    };
    let mut context = ContextOwned::new_default(NamespaceMap::new(), options);
    context.loaders_mut().add_type_loader(RawBodies);
    AsyncSecureChannel::new(
        Arc::new(RwLock::new(store)),
        endpoint.into(),
        SessionRetryPolicy::never(),
        false,
        Arc::default(),
        TransportConfiguration {
            send_buffer_size: CHUNK,
            recv_buffer_size: CHUNK,
            max_message_size: MAX_MESSAGE,
            max_chunk_count: MAX_CHUNKS,
        },
        u32::try_from(CHANNEL_LIFETIME.as_millis()).unwrap_or(600_000),
        Arc::new(RwLock::new(context)),
    )
}
