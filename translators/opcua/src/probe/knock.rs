//! The way to a server up to its first bytes: its name, its port, and what answers there.
//!
//! # Invariants
//! - Each step has an end: the time-out of one request.
//! - Whatever is in the way is a [`Cause`], never a bare I/O error.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::cause::Cause;
use super::greeting::{Greeting, Limits, MOST, cut_short, greeting, hello};
use crate::spec::EndpointUrl;

/// How long an HTTP server may take to show what it is, once it has said nothing to a hello.
const HTTP: Duration = Duration::from_secs(1);

/// Somebody who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// At which of the name's addresses.
    pub at: SocketAddr,
    /// How long it took to get a connection.
    pub connected_in: Duration,
    /// What it can take.
    pub limits: Limits,
}

/// Looks whether an OPC UA server answers there.
pub(super) async fn knock(url: &EndpointUrl, patience: Duration) -> Result<Answered, Cause> {
    let (at, connected_in, stream) = dial(url, patience).await?;
    let met = match meet(stream, &hello(&url.to_string()), patience).await {
        // A web server waits for the end of a line that never comes.
        Greeting::Silent => ask_for_http(at).await,
        other => other,
    };
    match met {
        Greeting::Server(limits) => Ok(Answered { at, connected_in, limits }),
        Greeting::Error { status, reason } => Err(Cause::HelloRefused { status, reason }),
        other => Err(Cause::NotOpcua { met: other, waited: patience }),
    }
}

/// Gets a connection to the first address of the host that gives one.
pub(super) async fn dial(
    url: &EndpointUrl,
    patience: Duration,
) -> Result<(SocketAddr, Duration, TcpStream), Cause> {
    let (host, port) = (url.host.as_str(), url.port);
    let unknown = |said: String| Cause::NoSuchName { host: host.to_owned(), said };
    let found = timeout(patience, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Err(_) => {
            return Err(unknown(format!("no answer from the name servers in {patience:.1?}")));
        }
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Ok(Ok(addresses)) => addresses.collect(),
    };
    let mut last = unknown("it has no entry".to_owned());
    let until = Instant::now() + patience;
    for at in addresses {
        let since = Instant::now();
        match timeout_at(until, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => return Ok((at, since.elapsed(), stream)),
            Ok(Err(error)) => last = no_connection(at, &error, since.elapsed()),
            Err(_) => return Err(Cause::NoAnswer { at, waited: patience }),
        }
    }
    Err(last)
}

fn no_connection(at: SocketAddr, error: &io::Error, waited: Duration) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused { at },
        io::ErrorKind::TimedOut => Cause::NoAnswer { at, waited },
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Cause::NoWay { at, said: error.to_string() }
        }
        _ => Cause::NoConnection { at, said: error.to_string() },
    }
}

/// Says something and waits for the beginning of an answer.
async fn meet(mut stream: TcpStream, says: &[u8], patience: Duration) -> Greeting {
    if stream.write_all(says).await.is_err() {
        return Greeting::Closed;
    }
    let mut heard = Vec::new();
    let until = Instant::now() + patience;
    let ended = loop {
        let mut part = [0; 512];
        match timeout_at(until, stream.read(&mut part)).await {
            Err(_) => break false,
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(count)) => heard.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
        match greeting(&heard) {
            Some(greeting) => return greeting,
            None if heard.len() >= MOST => break false,
            None => {}
        }
    };
    cut_short(&heard, ended)
}

async fn ask_for_http(at: SocketAddr) -> Greeting {
    let Ok(Ok(stream)) = timeout(HTTP, TcpStream::connect(at)).await else {
        return Greeting::Silent;
    };
    match meet(stream, b"HEAD / HTTP/1.0\r\n\r\n", HTTP).await {
        Greeting::Http => Greeting::Http,
        _ => Greeting::Silent,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// Knocks at somebody who answers each connection with `says` once he has heard `hears`.
    async fn met(hears: &'static [u8], says: &'static [u8], then_close: bool) -> Cause {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut heard = vec![0; hears.len()];
                stream.read_exact(&mut heard).await.unwrap();
                if heard == hears {
                    stream.write_all(says).await.unwrap();
                }
                if !then_close {
                    kept.push(stream);
                }
            }
        };
        let url = EndpointUrl { host: "127.0.0.1".into(), port, path: String::new() };
        tokio::select! {
            () = serve => unreachable!(),
            met = knock(&url, SOON) => met.unwrap_err(),
        }
    }

    #[tokio::test]
    async fn whoever_answers_is_recognised() {
        for (hears, says, close, expected) in [
            (&b"HEL"[..], &b"HTTP/1.1 400 Bad Request\r\n"[..], true, Greeting::Http),
            (b"HEA", b"HTTP/1.0 200 OK\r\n", false, Greeting::Http),
            (b"HEL", b"", false, Greeting::Silent),
            (b"HEL", b"", true, Greeting::Closed),
            (b"HEL", b"\x15\x03\x01\0\x02\x02F", true, Greeting::Tls),
            (b"HEL", b"220 ftp\r\n", false, Greeting::Foreign(b"220 ftp\r\n".to_vec())),
        ] {
            let cause = met(hears, says, close).await;
            let Cause::NotOpcua { met, .. } = cause else { panic!("{cause:?}") };
            assert_eq!(met, expected);
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_refused() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = EndpointUrl { host: "127.0.0.1".into(), port, path: String::new() };
        let cause = knock(&url, SOON).await.unwrap_err();
        assert!(matches!(cause, Cause::Refused { .. }), "{cause:?}");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_told() {
        // No name server is asked for a name with an empty label.
        let url = EndpointUrl { host: "plc..line".into(), port: 1, path: String::new() };
        let cause = knock(&url, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(cause, Cause::NoSuchName { .. }), "{cause:?}");
    }
}
