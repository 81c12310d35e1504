//! The command line.

pub(crate) mod exit;
pub mod terminal;

use std::process::ExitCode;

/// Runs the command line and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
