//! The journal beside sled, redb and SQLite: rates, bytes at the block device, a large backlog,
//! power cuts.
//!
//! `cargo xtask bench journal [-- --gib 5 --seconds 3 --cuts 12 --json]`
//!
//! # Invariants
//! - Each measurement is a process of its own: its memory is its own, and one that hangs is ended
//!   and reported.
//! - As root everything is mounted in a mount namespace of this process and goes with it.

#[path = "../../../examples/figures/mod.rs"]
mod figures;

mod backlog;
mod device;
mod power;
mod rates;
mod worker;

use std::path::PathBuf;

use anyhow::Context as _;
use figures::{Figures, option, progress};

/// Set for the process inside the mount namespace.
const INSIDE: &str = "TIDEGATE_BENCH_INSIDE";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "--worker") {
        return worker::run(&arguments[2..]);
    }
    let root = rustix::process::geteuid().is_root();
    if root && std::env::var_os(INSIDE).is_none() {
        return device::become_private(INSIDE);
    }
    let scratch = Scratch::new()?;
    let mut figures = Figures::new("journal", &scratch.0);
    let seconds = number("--seconds", 3)?;
    figures.add(rates::table(&scratch.0, root, seconds)?);
    figures.add(backlog::table(&scratch.0, number("--gib", 5)?)?);
    if root {
        figures.add(power::table(&scratch.0, number("--cuts", 12)?)?);
    } else {
        progress("power cuts are left out: they need a loop device, so run this as root");
    }
    figures.finish();
    Ok(())
}

fn number(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    let Some(text) = option(name) else { return Ok(otherwise) };
    text.parse().with_context(|| format!("{name} takes a number, not {text:?}"))
}

/// A directory that is empty at the start and gone at the end. A run that was killed leaves at most
/// one.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let base = std::env::var_os("TIDEGATE_BENCH_DIR")
            .map_or_else(|| std::env::temp_dir().join("tidegate-bench"), PathBuf::from);
        let place = base.join("journal");
        remove(&place)?;
        std::fs::create_dir_all(&place)?;
        Ok(Self(place))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

fn remove(place: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
