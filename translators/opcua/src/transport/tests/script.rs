//! A server that says what the script has it say.

use std::sync::Arc;
use std::time::Duration;

use opcua::client::transport::{
    SecureChannelEventLoop, TransportConfiguration, TransportPollResult,
};
use opcua::client::{AsyncSecureChannel, SessionRetryPolicy};
use opcua::core::ResponseMessage;
use opcua::core::comms::secure_channel::{Role, SecureChannel};
use opcua::crypto::{CertificateStore, SecurityPolicy, X509};
use opcua::sync::RwLock;
use opcua::types::{
    ByteString, ChannelSecurityToken, DataValue, EndpointDescription, Error, MessageSecurityMode,
    OpenSecureChannelResponse, ReadRequest, ReadResponse, RequestHeader, ServiceFault, StatusCode,
    Variant,
};
use tokio::io::{
    AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::net::TcpListener;

use super::super::{CHUNK, Channel, MAX_CHUNKS, MAX_MESSAGE, Words, dial, greet, lock, seal};
use super::hostile::{bytes, context};
use crate::connect::{ConnectError, Stage};
use crate::spec::EndpointUrl;

const URL: &str = "opc.tcp://localhost:4840/";
const SECOND: Duration = Duration::from_secs(1);
const CHANNEL: u32 = 7;

type Events = SecureChannelEventLoop<Channel<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>>;

struct Server {
    stream: DuplexStream,
    number: u32,
}

impl Server {
    /// The next message, and the request that it is.
    async fn hear(&mut self) -> u32 {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).await.unwrap();
        let [kind @ .., _, a, b, c, d] = header;
        let size = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap();
        let mut body = vec![0; size - 8];
        self.stream.read_exact(&mut body).await.unwrap();
        let number = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        match &kind {
            b"HEL" => 0,
            b"OPN" => number(4 + 4 + usize::try_from(number(4)).unwrap() + 4 + 4 + 4),
            _ => number(4 + 4 + 4),
        }
    }

    async fn acknowledge(&mut self) {
        self.hear().await;
        let limits = [0_u32, 65_536, 65_536, 0, 0].map(u32::to_le_bytes).concat();
        self.write(&[&b"ACKF"[..], &28_u32.to_le_bytes(), &limits].concat()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn say(&mut self, kind: &[u8; 4], request: u32, body: &[u8]) {
        self.number += 1;
        let frame = frame(kind, self.number, request, body);
        self.write(&frame).await;
    }

    async fn open(&mut self) {
        let request = self.hear().await;
        self.say(b"OPNF", request, &opened(CHANNEL, 1)).await;
    }
}

fn frame(kind: &[u8; 4], number: u32, request: u32, body: &[u8]) -> Vec<u8> {
    let security = if kind.starts_with(b"OPN") {
        let uri = SecurityPolicy::None.to_uri().as_bytes();
        let length = u32::try_from(uri.len()).unwrap().to_le_bytes();
        [&length[..], uri, &[0xFF; 8]].concat()
    } else {
        1_u32.to_le_bytes().to_vec()
    };
    let rest = [
        &CHANNEL.to_le_bytes()[..],
        &security,
        &number.to_le_bytes(),
        &request.to_le_bytes(),
        body,
    ]
    .concat();
    let size = u32::try_from(rest.len() + 8).unwrap().to_le_bytes();
    [&kind[..], &size, &rest].concat()
}

fn opened(channel_id: u32, token_id: u32) -> Vec<u8> {
    let security_token = ChannelSecurityToken {
        channel_id,
        token_id,
        revised_lifetime: 600_000,
        ..Default::default()
    };
    bytes(OpenSecureChannelResponse { security_token, ..Default::default() })
}

fn values(count: i32) -> Vec<u8> {
    let value = |value: i32| DataValue { value: Some(Variant::from(value)), ..DataValue::null() };
    bytes(ReadResponse { results: Some((0..count).map(value).collect()), ..Default::default() })
}

fn channel() -> AsyncSecureChannel {
    let nowhere = std::path::Path::new("/dev/null/none");
    AsyncSecureChannel::new(
        Arc::new(RwLock::new(CertificateStore::new(nowhere))),
        EndpointDescription {
            endpoint_url: URL.into(),
            security_policy_uri: SecurityPolicy::None.to_uri().into(),
            security_mode: MessageSecurityMode::None,
            ..Default::default()
        }
        .into(),
        SessionRetryPolicy::never(),
        false,
        Arc::default(),
        TransportConfiguration {
            send_buffer_size: CHUNK,
            recv_buffer_size: CHUNK,
            max_message_size: MAX_MESSAGE,
            max_chunk_count: MAX_CHUNKS,
        },
        600_000,
        context(),
    )
}

/// A client and a server with an open channel between them.
async fn pair() -> (AsyncSecureChannel, Events, Words, Server) {
    let (ours, theirs) = duplex(256 * 1024);
    let mut server = Server { stream: theirs, number: 0 };
    let (reader, writer) = split(ours);
    let (greeted, ()) = tokio::join!(greet(reader, writer, URL, SECOND), server.acknowledge());
    let greeted = greeted.unwrap();
    let words = greeted.words();
    let channel = channel();
    let (events, ()) = tokio::join!(channel.connect_no_retry(&greeted), server.open());
    (channel, events.unwrap(), words, server)
}

/// Does work while the channel is polled.
async fn drive<F: Future>(events: &mut Events, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return output,
            polled = events.poll() => {
                if let TransportPollResult::Closed(_) = polled {
                    return work.await;
                }
            }
        }
    }
}

async fn read(channel: &AsyncSecureChannel) -> Result<usize, Error> {
    let request = ReadRequest { request_header: RequestHeader::default(), ..Default::default() };
    match channel.send(request, SECOND).await? {
        ResponseMessage::Read(response) => Ok(response.results.map_or(0, |values| values.len())),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_response_is_read_whole_and_in_chunks() {
    let (channel, mut events, _, mut server) = pair().await;
    let body = values(1_000);
    let script = async {
        let request = server.hear().await;
        server.say(b"MSGF", request, &body).await;
        let request = server.hear().await;
        let (first, rest) = body.split_at(100);
        let (second, third) = rest.split_at(1);
        server.say(b"MSGC", request, first).await;
        server.say(b"MSGC", request, second).await;
        server.say(b"MSGF", request, third).await;
    };
    let work = async {
        assert_eq!(read(&channel).await.unwrap(), 1_000);
        assert_eq!(read(&channel).await.unwrap(), 1_000);
    };
    drive(&mut events, async { tokio::join!(work, script) }).await;
}

#[tokio::test]
async fn polling_may_be_dropped_at_any_time() {
    let (channel, mut events, _, mut server) = pair().await;
    let body = values(200);
    let work = async { tokio::join!(read(&channel), read(&channel)) };
    let script = async {
        for _ in 0..2 {
            let request = server.hear().await;
            server.number += 1;
            for byte in frame(b"MSGF", server.number, request, &body) {
                server.write(&[byte]).await;
                tokio::task::yield_now().await;
            }
        }
    };
    let mut both = std::pin::pin!(async { tokio::join!(work, script) });
    let ((first, second), ()) = loop {
        tokio::select! {
            biased;
            polled = tokio::time::timeout(Duration::ZERO, events.poll()) => {
                assert!(!matches!(polled, Ok(TransportPollResult::Closed(_))));
                tokio::task::yield_now().await;
                if let Some(done) = futures_util::FutureExt::now_or_never(both.as_mut()) {
                    break done;
                }
            }
        }
    };
    assert_eq!((first.unwrap(), second.unwrap()), (200, 200));
}

#[tokio::test]
async fn a_chunk_out_of_order_ends_the_connection() {
    let (channel, mut events, words, mut server) = pair().await;
    let script = async {
        let request = server.hear().await;
        server.number += 1;
        server.say(b"MSGF", request, &values(1)).await;
    };
    let (answer, ()) = drive(&mut events, async { tokio::join!(read(&channel), script) }).await;
    assert_eq!(answer.unwrap_err().status(), StatusCode::BadSequenceNumberInvalid);
    assert!(lock(&words).as_ref().unwrap().reason.contains("chunk 3 comes after chunk 1"));
    let after = read(&channel).await.unwrap_err();
    assert_eq!(after.status(), StatusCode::BadConnectionClosed);
}

#[tokio::test]
async fn endless_chunks_fail_their_request_alone() {
    let (channel, mut events, _, mut server) = pair().await;
    let script = async {
        let request = server.hear().await;
        for _ in 0..=MAX_CHUNKS + 10 {
            server.say(b"MSGC", request, &[1]).await;
        }
        let request = server.hear().await;
        for _ in 0..MAX_MESSAGE / 60_000 + 10 {
            server.say(b"MSGC", request, &[1; 60_000]).await;
        }
        let request = server.hear().await;
        server.say(b"MSGF", request, &values(1)).await;
    };
    let work = async {
        for _ in 0..2 {
            let error = read(&channel).await.unwrap_err();
            assert_eq!(error.status(), StatusCode::BadResponseTooLarge);
        }
        assert_eq!(read(&channel).await.unwrap(), 1);
    };
    drive(&mut events, async { tokio::join!(work, script) }).await;
}

#[tokio::test]
async fn what_cannot_be_decoded_or_was_given_up_fails_its_request_alone() {
    let (channel, mut events, _, mut server) = pair().await;
    let script = async {
        let request = server.hear().await;
        server.say(b"MSGF", request, &[1, 0, 0xFF, 0xFF, 3, 4, 5]).await;
        let request = server.hear().await;
        let status = StatusCode::BadTcpInternalError.bits().to_le_bytes();
        let aborted = [&status[..], &4_u32.to_le_bytes(), b"full"].concat();
        server.say(b"MSGC", request, &[1; 10]).await;
        server.say(b"MSGA", request, &aborted).await;
        let request = server.hear().await;
        server.say(b"MSGF", request, &opened(CHANNEL, 2)).await;
        let request = server.hear().await;
        server.say(b"MSGF", request, &bytes(ServiceFault::default())).await;
        let request = server.hear().await;
        server.say(b"MSGF", request, &values(3)).await;
    };
    let work = async {
        assert_eq!(read(&channel).await.unwrap_err().status(), StatusCode::BadDecodingError);
        let error = read(&channel).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::BadTcpInternalError);
        assert!(error.to_string().ends_with(": full"), "{error}");
        assert_eq!(read(&channel).await.unwrap_err().status(), StatusCode::BadDecodingError);
        let fault = channel.send(ReadRequest::default(), SECOND).await.unwrap();
        assert!(matches!(fault, ResponseMessage::ServiceFault(_)));
        assert_eq!(read(&channel).await.unwrap(), 3);
    };
    drive(&mut events, async { tokio::join!(work, script) }).await;
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_request_at_its_deadline_and_a_late_response_is_let_pass() {
    let (channel, mut events, _, mut server) = pair().await;
    let script = async {
        let late = server.hear().await;
        let request = server.hear().await;
        server.say(b"MSGC", late, &values(2)).await;
        server.say(b"MSGF", 9_999, &values(2)).await;
        server.say(b"MSGF", request, &values(1)).await;
    };
    let work = async {
        assert_eq!(read(&channel).await.unwrap_err().status(), StatusCode::BadTimeout);
        assert_eq!(read(&channel).await.unwrap(), 1);
    };
    drive(&mut events, async { tokio::join!(work, script) }).await;
}

/// What becomes of a request when the server says this instead of a response.
async fn said(bytes: &[u8]) -> (StatusCode, String) {
    let (channel, mut events, words, mut server) = pair().await;
    let script = async {
        server.hear().await;
        server.write(bytes).await;
        server.stream.shutdown().await.unwrap();
    };
    let (answer, ()) = drive(&mut events, async { tokio::join!(read(&channel), script) }).await;
    let said = lock(&words).clone().unwrap();
    let error = answer.unwrap_err();
    assert_eq!(error.status(), said.status);
    assert!(error.to_string().contains(&said.reason), "{error}");
    (said.status, said.reason)
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_with_its_reason() {
    let status = StatusCode::BadTcpServerTooBusy.bits().to_le_bytes();
    let error = [&b"ERRF"[..], &20_u32.to_le_bytes(), &status, &4_u32.to_le_bytes(), b"busy"];
    let (status, reason) = said(&error.concat()).await;
    assert_eq!(status, StatusCode::BadTcpServerTooBusy);
    assert!(reason.ends_with(": busy"), "{reason}");

    let (status, reason) = said(b"").await;
    assert_eq!(status, StatusCode::BadConnectionClosed);
    assert!(reason.contains("closed the connection"), "{reason}");

    let (status, _) = said(b"MSGF\xFF\xFF\xFF\x7F").await;
    assert_eq!(status, StatusCode::BadTcpMessageTooLarge);
    let (status, _) = said(b"MSGF\x07\0\0\0").await;
    assert_eq!(status, StatusCode::BadTcpMessageTooLarge);
    let (status, _) = said(b"gibberish").await;
    assert_eq!(status, StatusCode::BadTcpMessageTypeInvalid);
    let (status, _) = said(b"ACKF\x08\0\0\0").await;
    assert_eq!(status, StatusCode::BadTcpMessageTypeInvalid);
    let (status, _) = said(b"CLOF\x08\0\0\0").await;
    assert_eq!(status, StatusCode::BadSecureChannelClosed);
    let (status, _) = said(b"MSGF\x0A\0\0\0\0\0").await;
    assert_eq!(status, StatusCode::BadDecodingError);
    let (status, _) = said(&frame(b"OPNF", 2, 1_002, &opened(CHANNEL, 2))).await;
    assert_eq!(status, StatusCode::BadSecurityChecksFailed);
    let mut other = frame(b"MSGF", 2, 1_002, &values(1));
    other[8] = 8;
    let (status, reason) = said(&other).await;
    assert_eq!(status, StatusCode::BadSecureChannelIdInvalid);
    assert!(reason.contains("of channel 8, not of 7"), "{reason}");
}

#[tokio::test]
async fn a_farewell_goes_out_before_the_connection_closes() {
    let (channel, mut events, _, mut server) = pair().await;
    channel.close_channel().await;
    let closing = async {
        loop {
            if let TransportPollResult::Closed(status) = events.poll().await {
                return status;
            }
        }
    };
    let (status, _) = tokio::join!(closing, server.hear());
    assert_eq!(status, StatusCode::Good);
}

/// How a greeting fails that is answered so.
async fn greeted(answer: Option<&[u8]>) -> ConnectError {
    let (ours, theirs) = duplex(1024);
    let mut server = Server { stream: theirs, number: 0 };
    let (reader, writer) = split(ours);
    let script = async {
        server.hear().await;
        match answer {
            Some(answer) => server.write(answer).await,
            None => std::future::pending().await,
        }
        drop(server);
    };
    tokio::select! {
        biased;
        greeted = greet(reader, writer, URL, SECOND) => greeted.err().unwrap(),
        () = async { script.await; std::future::pending().await } => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_greeting_names_what_answered() {
    let text = |error: ConnectError| {
        assert_eq!(error.stage, Stage::Hello);
        error.to_string()
    };
    let http = text(greeted(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await);
    assert!(http.ends_with("this is no OPC UA server: it answered HTTP"), "{http}");
    let tls = text(greeted(Some(&[0x15, 3, 3, 0, 2, 2, 80])).await);
    assert!(tls.ends_with("it answered TLS"), "{tls}");
    let other = text(greeted(Some(b"hello")).await);
    assert!(other.ends_with("begins with 68 65 6c 6c"), "{other}");
    let closed = text(greeted(Some(b"")).await);
    assert!(closed.contains("closed the connection"), "{closed}");
    let silent = greeted(None).await;
    assert_eq!(silent.status, Some(StatusCode::BadTimeout));
    let small = [&b"ACKF"[..], &28_u32.to_le_bytes(), &[0; 20]].concat();
    assert!(text(greeted(Some(&small)).await).contains("chunks of 0 bytes"));
    let status = StatusCode::BadTcpEndpointUrlInvalid.bits().to_le_bytes();
    let error = [&b"ERRF"[..], &16_u32.to_le_bytes(), &status, &[0xFF; 4]].concat();
    let refused = greeted(Some(&error)).await;
    assert_eq!(refused.status, Some(StatusCode::BadTcpEndpointUrlInvalid));
    assert!(refused.is_for_a_person());
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = EndpointUrl::parse(&format!("opc.tcp://{address}/")).unwrap();
    let error = dial(&url, SECOND).await.unwrap_err();
    assert_eq!(error.stage, Stage::Tcp);
    assert!(error.text.contains(&address.to_string()), "{}", error.text);
    assert!(error.text.contains("refused"), "{}", error.text);
}

#[test]
fn a_channel_is_opened_by_the_judged_certificate_and_the_chosen_policy_alone() {
    let der = include_bytes!("certificate.der");
    let certificate = X509::from_der(der).unwrap();
    let nowhere = std::path::Path::new("/dev/null/none");
    let store = Arc::new(RwLock::new(CertificateStore::new(nowhere)));
    let mut channel = SecureChannel::new(store, Role::Client, context());
    channel.set_security_policy(SecurityPolicy::Basic256Sha256);
    channel.set_security_mode(MessageSecurityMode::SignAndEncrypt);
    channel.set_cert(Some(certificate.clone()));
    channel.set_remote_cert(Some(certificate.clone()));
    let open = |frame: Vec<u8>| seal::open(&channel, frame.into()).unwrap_err();

    let none = frame(b"OPNF", 1, 1, &opened(CHANNEL, 1));
    assert_eq!(open(none).status(), StatusCode::BadSecurityPolicyRejected);

    let uri = SecurityPolicy::Basic256Sha256.to_uri().as_bytes();
    let with = |certificate: &[u8]| {
        let text = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            [&length[..], bytes].concat()
        };
        let thumbprint = [7; 20];
        let rest =
            [&[0; 4][..], &text(uri), &text(certificate), &text(&thumbprint), &[9; 300]].concat();
        let size = u32::try_from(rest.len() + 8).unwrap().to_le_bytes();
        [&b"OPNF"[..], &size, &rest].concat()
    };
    let mut other = der.to_vec();
    *other.last_mut().unwrap() ^= 1;
    let error = open(with(&other));
    assert_eq!(error.status(), StatusCode::BadCertificateInvalid);
    assert!(error.to_string().contains("another certificate"), "{error}");
    // Its own certificate is passed on, and fails by the thumbprint of ours.
    assert_eq!(open(with(der)).status(), StatusCode::BadNoValidCertificates);
    assert_eq!(ByteString::from(der.to_vec()), certificate.as_byte_string());

    // What is sealed with keys that there are none of, or too short for a seal.
    let short = open(b"MSGF\x1C\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0".to_vec());
    assert_eq!(short.status(), StatusCode::BadSecurityChecksFailed);
    let unknown = open(frame(b"MSGF", 1, 1, &[0; 64]));
    assert_eq!(unknown.status(), StatusCode::BadSecureChannelClosed);
}
