//! What the process is asked to do from outside.

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End in order; the second one ends at once.
    Stop,
    /// Read the configuration again and apply the difference.
    Reload,
}

/// Where signals come from.
#[derive(Debug)]
pub struct Signals {
    source: Source,
    stop: CancellationToken,
    stop_seen: bool,
}

#[derive(Debug)]
enum Source {
    System { term: Stream, int: Stream, hup: Stream },
    Scripted(mpsc::Receiver<Signal>),
    None,
}

impl Signals {
    /// SIGTERM and SIGINT stop, SIGHUP reloads.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn system() -> std::io::Result<Self> {
        let term = signal(SignalKind::terminate())?;
        let int = signal(SignalKind::interrupt())?;
        let hup = signal(SignalKind::hangup())?;
        Ok(Self::over(Source::System { term, int, hup }))
    }

    /// What comes through a channel, for a program that runs the daemon inside itself.
    #[must_use]
    pub fn scripted(signals: mpsc::Receiver<Signal>) -> Self {
        Self::over(Source::Scripted(signals))
    }

    fn over(source: Source) -> Self {
        Self { source, stop: CancellationToken::new(), stop_seen: false }
    }

    /// Cancelling this token counts as one more [`Signal::Stop`], for parts inside the process.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The next signal; never returns when there will be none. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            let from_source = async {
                match &mut self.source {
                    Source::System { term, int, hup } => tokio::select! {
                        Some(()) = term.recv() => Some(Signal::Stop),
                        Some(()) = int.recv() => Some(Signal::Stop),
                        Some(()) = hup.recv() => Some(Signal::Reload),
                        else => None,
                    },
                    Source::Scripted(signals) => signals.recv().await,
                    Source::None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !self.stop_seen => {
                    self.stop_seen = true;
                    return Signal::Stop;
                }
                signal = from_source => match signal {
                    Some(signal) => return signal,
                    None => self.source = Source::None,
                }
            }
        }
    }
}
