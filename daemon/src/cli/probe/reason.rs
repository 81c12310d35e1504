//! Why there is no connection, in one sentence with its remedy.

use std::io;

use tidegate_modbus::{ConnectError, DialError, LinkError, SerialError, Transport};

use super::target::way;
use crate::causes::chain;
use crate::cli::exit;

/// The exit code and the sentence.
pub(super) fn reason(transport: &Transport, error: &LinkError) -> (u8, String) {
    let at = way(transport);
    match error {
        LinkError::Down(why) => match &**why {
            ConnectError::TimedOut { waited } => (
                exit::PEER,
                format!(
                    "{at} does not answer within {waited:.1?}: check the cable, the address, and \
                     routes and firewalls in between"
                ),
            ),
            ConnectError::Unreachable { source } => unreachable(&at, source),
            ConnectError::Restless { source } => (
                exit::PEER,
                format!(
                    "on {at} somebody else speaks all the time ({source}): stop the other master, \
                     or correct the line's settings, which make noise of everything when wrong"
                ),
            ),
        },
        LinkError::Closed { source } => (
            exit::PEER,
            format!(
                "{at} accepts connections and closes them again ({source}): all of the few that \
                 the device allows may be in use, or it allows only the addresses on its list{}",
                tls_hint(transport)
            ),
        ),
        LinkError::Malformed { what } => (
            exit::PEER,
            format!(
                "{at} answers something that is no Modbus ({what}): is it the right port, and the \
                 right protocol?{}",
                speaks(what).unwrap_or_else(|| tls_hint(transport))
            ),
        ),
        error => (exit::PEER, format!("{at}: {}", error.line())),
    }
}

fn unreachable(at: &str, error: &DialError) -> (u8, String) {
    match error {
        DialError::Resolve { host, source } => (
            exit::PEER,
            format!("the name {host} has no address ({source}): check it, or write the IP address"),
        ),
        DialError::Connect { endpoint, source } => (exit::PEER, refused(endpoint, source)),
        // These name the port or the certificate, and what helps.
        DialError::Serial(error @ SerialError::Denied { .. }) => (exit::PERMISSION, chain(error)),
        DialError::Serial(error) => (exit::PEER, chain(error)),
        DialError::Tls(error) => (exit::PEER, format!("{at}: {}", chain(error))),
    }
}

fn refused(endpoint: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => format!(
            "{endpoint} refuses connections: nothing listens on this port; is Modbus TCP switched \
             on in the device, and is it this port?"
        ),
        io::ErrorKind::TimedOut => format!(
            "{endpoint} does not answer: check the cable, the address, and routes and firewalls in \
             between"
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!(
            "there is no way to {endpoint} ({source}): check the address and netmask of this \
             machine, and that the device is switched on"
        ),
        _ => format!("no connection to {endpoint}: {source}"),
    }
}

/// What the first bytes of the answer are known for. They stand where Modbus TCP has its protocol
/// number: the rest of a TLS alert's version (1.0 to 1.2, and 1.3 writes 1.2), the `TP` of `HTTP`.
fn speaks(what: &str) -> Option<&'static str> {
    let number = what.strip_prefix("protocol ")?.split(' ').next()?.parse::<u16>().ok()?;
    match number.to_be_bytes() {
        [1..=3, 0] => Some("; it looks like TLS: give --tls-ca"),
        [b'T', b'P'] => Some("; it looks like a web server"),
        _ => None,
    }
}

/// Where TLS may be what is missing.
fn tls_hint(transport: &Transport) -> &'static str {
    match transport {
        Transport::Tcp(endpoint) | Transport::RtuOverTcp(endpoint) if endpoint.port == 802 => {
            "; port 802 speaks TLS: give --tls-ca"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tidegate_modbus::Endpoint;

    use super::*;

    fn said(error: LinkError) -> String {
        let endpoint = Endpoint { host: "192.0.2.7".into(), port: 802 };
        let (code, said) = reason(&Transport::Tcp(endpoint), &error);
        assert_eq!(code, 69);
        said
    }

    fn dial(source: DialError) -> LinkError {
        LinkError::Down(Arc::new(ConnectError::Unreachable { source }))
    }

    fn connect(kind: io::ErrorKind) -> LinkError {
        dial(DialError::Connect { endpoint: "192.0.2.7:802".into(), source: kind.into() })
    }

    #[test]
    fn each_cause_has_its_own_sentence_with_a_remedy() {
        let unknown = DialError::Resolve { host: "plc-7".into(), source: io::Error::other("none") };
        let waited = Duration::from_secs(1);
        let cases = [
            (dial(unknown), "the name plc-7 has no address"),
            (connect(io::ErrorKind::ConnectionRefused), "refuses connections"),
            (connect(io::ErrorKind::TimedOut), "firewalls"),
            (connect(io::ErrorKind::HostUnreachable), "there is no way to"),
            (LinkError::Down(Arc::new(ConnectError::TimedOut { waited })), "within 1.0s"),
            (LinkError::Closed { source: io::ErrorKind::ConnectionReset.into() }, "its list"),
            (LinkError::Malformed { what: "protocol 21".into() }, "no Modbus"),
        ];
        let mut sentences: Vec<String> = Vec::new();
        for (error, words) in cases {
            let sentence = said(error);
            assert!(sentence.contains(words), "{sentence}");
            assert!(!sentences.contains(&sentence));
            sentences.push(sentence);
        }
        assert!(sentences[5].ends_with("give --tls-ca"), "{}", sentences[5]);
        for (protocol, hint) in [(0x0303, None), (0x0300, Some("TLS")), (0x5450, Some("web"))] {
            let what = format!("protocol {protocol} in an answer's header, not 0");
            assert_eq!(speaks(&what).is_some(), hint.is_some(), "{what}");
            assert!(hint.is_none_or(|hint| speaks(&what).unwrap().contains(hint)));
        }
    }
}
