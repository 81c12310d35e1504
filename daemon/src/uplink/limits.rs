//! How large a message the hub's servers take, from the greeting that each sends first.
//!
//! A hub whose `max_payload` is below the leaf's closes the leaf's link at every larger message,
//! and the sender is told nothing (measured with nats-server 2.15.1). A server's greeting states
//! the limit, and comes before TLS and without credentials, but for WebSockets: so it is read from a
//! connection of its own, which ends there.
//!
//! # Invariants
//! - It is a hint. Whoever can forge it can also cut the link, and no more: frames then wait.
//! - No answer says nothing, and a server that was reloaded greets with the limit that it was
//!   started with (measured with 2.15.1): the uplink also learns from messages without an answer.
//! - Nothing is sent but what opens a WebSocket.

use std::time::Duration;

use futures_util::future::join_all;

use crate::config::HubUrl;
use crate::wan::Access;

/// The smallest `max_payload` of the servers that greet within `patience`; the leaf may connect to
/// any of them.
pub(super) async fn max_payload(
    access: &Access,
    urls: &[HubUrl],
    patience: Duration,
) -> Option<usize> {
    let greetings = urls.iter().map(|url| tokio::time::timeout(patience, access.greeting(url)));
    let limits = join_all(greetings).await.into_iter().filter_map(|greeting| greeting.ok()?.ok());
    limits.map(|greeting| greeting.max_payload).filter(|limit| *limit > 0).min()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::HubScheme;

    /// As nats-server 2.15.1 sends it to whoever connects as a leaf node.
    const REAL: &[u8] = br#"INFO {"server_id":"NAPZ7XXCL3FTNTEDZ56VQNJ4UDJCVERAGDQRI4YGSWELD6MUHJ5LHLSC","server_name":"hub-1","version":"2.15.1","proto":3,"git_commit":"b2fd3ef","go":"go1.27.2","host":"127.0.0.1","port":45347,"headers":true,"auth_required":true,"tls_required":true,"tls_verify":true,"max_payload":8192,"jetstream":true,"ip":"127.0.0.1:45347","client_id":11,"nonce":"py-rol77iHS1Ej8","domain":"hub","compression":"s2_better","api_lvl":5,"info_on_connect":true} 
"#;

    async fn max_payload(urls: &[HubUrl], patience: Duration) -> Option<usize> {
        super::max_payload(&Access::new(None, || None), urls, patience).await
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that says this to whoever connects, and then holds the connection.
    async fn server(says: &'static [u8]) -> HubUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                let _ = connection.write_all(says).await;
                held.push(connection);
            }
        });
        HubUrl { scheme: HubScheme::Tls, host: "127.0.0.1".to_owned(), port }
    }

    #[tokio::test]
    async fn the_smallest_limit_of_the_servers_counts_and_those_that_are_away_do_not() {
        assert_eq!(max_payload(&[server(REAL).await], PATIENCE).await, Some(8_192));
        let large = server(b"INFO {\"max_payload\":1048576,\"tls_required\":true} \r\n").await;
        let small = server(b"INFO {\"max_payload\":32768} \r\n").await;
        let away = HubUrl { port: 1, ..small.clone() };
        let servers = [away.clone(), large, small];
        assert_eq!(max_payload(&servers, PATIENCE).await, Some(32_768));
        assert_eq!(max_payload(&[away], PATIENCE).await, None);
        assert_eq!(max_payload(&[], PATIENCE).await, None);
    }

    #[tokio::test]
    async fn what_is_no_greeting_says_nothing_and_is_not_waited_for_without_end() {
        for says in [&b"HTTP/1.1 400\r\n"[..], b"INFO {\"max_payload\":0}\r\n", b"INFO {}\r\n"] {
            assert_eq!(max_payload(&[server(says).await], PATIENCE).await, None);
        }
        let silent = server(b"INFO {\"max_payload\":5").await;
        assert_eq!(max_payload(&[silent], Duration::from_millis(50)).await, None);
    }
}
