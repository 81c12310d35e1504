//! What must hold of every reader of foreign bytes, whatever the bytes are.
//!
//! Each target is one function over bytes that panics when a promise is broken. Two drivers call
//! it: the test in `tests/corpus.rs`, on any toolchain and in seconds, and the crate in
//! `cargo-fuzz/`, guided by coverage, for as long as one likes (`cargo xtask fuzz`).
//!
//! # Invariants
//! - A target checks what the reader promises, not only that it comes back: right values, a true
//!   chain, a bounded answer.
//! - A checksum must not be a wall: targets take their bytes as they are, and where that would end
//!   at a checksum, once more with the checksum put right.
//! - A target is deterministic: the same bytes give the same run, but for the epoch of a journal,
//!   which is random by design and of a fixed length.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target that finds a broken promise panics: that is its report"
)]

mod canonical;
mod catalog;
mod chain;
mod config;
mod control;
pub mod counting;
mod frame;
mod headers;
mod modbus;
pub mod mutate;
mod proof;
mod recipe;
mod rtu;
mod samples;
mod segments;
mod taglist;
mod wording;

use counting::Memory;

/// One reader under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and its directory in `corpus/`.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with, by name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// Words of the format, for whoever makes new inputs.
    pub words: &'static [&'static [u8]],
    /// The most that a run may take, for an input of this length. Measured over the corpus and its
    /// mutations, with room for about half as much again.
    pub memory: fn(usize) -> Memory,
    /// How many mutations the ordinary test tries: about two seconds without optimisation.
    pub mutations: u32,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    frame::TARGET,
    segments::TARGET,
    config::TARGET,
    catalog::TARGET,
    samples::TARGET,
    modbus::TARGET,
    rtu::TARGET,
    control::TARGET,
    proof::TARGET,
    headers::TARGET,
    wording::TARGET,
    taglist::TARGET,
];

/// Runs the target of this name; for the crate of coverage-guided targets.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(bytes);
}

const fn at_most(bytes: usize) -> Memory {
    Memory { held: bytes, largest: bytes }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn seed(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.into())
}
