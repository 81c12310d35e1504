//! Accepting connections, for every listener alike.
//!
//! # Invariants
//! - Connections are limited; one beyond is refused at once and costs nothing more.
//! - An accept that fails is tried again, and holds up no connection that is open. However long it
//!   goes on failing, it is logged once.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::observe::log::OncePerChange;

/// Wait after a failed accept: without descriptors the next one fails too, and at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Accepts until `stop`: up to `most` connections at once are handed to `talk`, those beyond to
/// `refuse`. `listener` is its name in the log.
pub(crate) async fn serve<S, C: Future<Output = ()>>(
    listener: &'static str,
    most: usize,
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    talk: impl Fn(S) -> C,
    refuse: impl Fn(S),
    stop: CancellationToken,
) {
    let mut connections = FuturesUnordered::new();
    let mut again = Instant::now();
    let mut told = OncePerChange::new();
    loop {
        let accepted = async {
            sleep_until(again).await;
            poll_fn(&accept).await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = connections.next() => {}
            accepted = accepted => match accepted {
                Ok(stream) => {
                    if told.forget() > 0 {
                        info!(listener, "connections are accepted again");
                    }
                    if connections.len() < most {
                        connections.push(talk(stream));
                    } else {
                        refuse(stream);
                    }
                }
                Err(error) => {
                    if told.note(error.to_string()).is_some() {
                        warn!(listener, %error, "cannot accept a connection; trying again");
                    }
                    again = Instant::now() + ACCEPT_AGAIN;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_beyond_the_limit_is_refused_and_a_failure_holds_up_nothing() {
        let (accepts, talked, refused) =
            (Cell::new(0), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let accept = |_: &mut Context<'_>| {
            accepts.set(accepts.get() + 1);
            match accepts.get() {
                1..=3 => Poll::Ready(Ok(accepts.get())),
                4 => Poll::Ready(Err(io::Error::other("no descriptors"))),
                5 => Poll::Ready(Ok(5)),
                _ => Poll::Pending,
            }
        };
        // Each connection takes half a second: the first two are done while accepting rests.
        let talk = async |number: i32| {
            tokio::time::sleep(ACCEPT_AGAIN / 2).await;
            talked.borrow_mut().push((number, Instant::now()));
        };
        let begun = Instant::now();
        let stop = CancellationToken::new();
        let refuse = |number| refused.borrow_mut().push(number);
        let serving = serve("test", 2, accept, talk, refuse, stop.clone());
        tokio::join!(serving, async {
            tokio::time::sleep(ACCEPT_AGAIN * 3).await;
            stop.cancel();
        });
        assert_eq!(*refused.borrow(), [3]);
        let [half, whole] = [ACCEPT_AGAIN / 2, ACCEPT_AGAIN * 3 / 2].map(|after| begun + after);
        assert_eq!(*talked.borrow(), [(1, half), (2, half), (5, whole)]);
    }
}
