//! Exit codes, and how a command that fails says so.

use std::io::Write as _;
use std::process::ExitCode;

use crate::causes::chain;
use crate::hubread::{AccessError, ReadError};

/// All is well.
pub(crate) const OK: u8 = 0;
/// The answer is no: unbalanced, not found.
pub(crate) const NO: u8 = 1;
/// The arguments are wrong.
pub(crate) const USAGE: u8 = 2;
/// The configuration is wrong.
pub(crate) const CONFIG: u8 = 64;
/// A peer cannot be reached, or does not serve.
pub(crate) const PEER: u8 = 69;
/// The disk.
pub(crate) const DISK: u8 = 73;
/// Not allowed.
pub(crate) const PERMISSION: u8 = 77;

/// Why a command failed: its exit code and the line on stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    pub(crate) const fn new(code: u8, text: String) -> Self {
        Self { code, text }
    }

    /// Tells it where mistakes go, and returns its exit code.
    pub(crate) fn tell(&self, err: &mut dyn std::io::Write) -> std::io::Result<u8> {
        writeln!(err, "error: {}", self.text)?;
        Ok(self.code)
    }

    /// Tells it on stderr.
    pub(crate) fn told(&self) -> ExitCode {
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(std::io::stderr(), "error: {}", self.text);
        ExitCode::from(self.code)
    }
}

/// What went wrong.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::Connect { .. } => PEER,
            AccessError::File { .. } | AccessError::Context { .. } => USAGE,
        };
        Self::new(code, chain(&error))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(PEER, chain(&error))
    }
}

/// Runs a command's future; a command needs no second thread.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(NO, format!("no runtime: {error}")))?;
    runtime.block_on(command)
}
