//! From a host's name to a connection.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::connect::{ConnectError, Stage};
use crate::spec::EndpointUrl;

/// More addresses of a name are not tried.
const MAX_ADDRESSES: usize = 16;

/// Opens a TCP connection to a server: its name is resolved each time, and every address that it
/// has is tried in turn.
///
/// # Errors
/// When the name does not resolve, or no address answers within the deadline; with what each of
/// the addresses did.
pub(crate) async fn dial(url: &EndpointUrl, within: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + within;
    let host = (url.host.as_str(), url.port);
    let unresolved = |text: String| ConnectError::new(Stage::Resolve, None, text);
    let addresses: Vec<_> = match timeout_at(deadline, tokio::net::lookup_host(host)).await {
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
        Ok(Err(error)) => {
            return Err(unresolved(format!("the name {:?} cannot be resolved: {error}", url.host)));
        }
        Err(_) => {
            return Err(unresolved(format!(
                "the name {:?} was not resolved within {within:?}",
                url.host
            )));
        }
    };
    if addresses.is_empty() {
        return Err(unresolved(format!("the name {:?} has no address", url.host)));
    }
    let mut failures = Vec::new();
    let mut left = u32::try_from(addresses.len()).unwrap_or(1);
    for address in addresses {
        // An address that is silent leaves its share of the time to the others.
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A request waits for its answer; holding it back for a fuller packet only costs.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address} did not answer within {share:?}")),
        }
    }
    Err(ConnectError::new(Stage::Tcp, None, failures.join("; ")))
}
