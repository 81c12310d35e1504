//! Scenarios: the real binary between a real PLC server and a real hub, while values change.
//!
//! One binary for all of them, so that they run side by side under any test runner. Each ends with
//! the oracle's judgement, compared with the binary's own proof.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

mod as_root;
mod cluster;
mod damaged_journal;
mod demo;
mod est;
mod fds;
mod flapping;
mod fleet;
mod fork;
mod fresh_readings;
mod gateway_killed_often;
mod gateway_restart;
mod gateway_sigkill_during_outage;
mod happy_path;
mod hub_forgets;
mod hub_init;
mod hub_ops;
mod hub_other;
mod hub_purge;
mod hub_rollback;
mod hub_sigkill;
mod hub_two_gateways;
mod identity;
mod ingest;
mod injection;
mod journal_too_small;
mod leaf_service;
mod leaf_sigkill;
mod load_flood;
mod load_observers;
mod load_storms;
mod mcp;
mod mesh;
mod modbus;
mod opcua;
mod payload;
mod permissions;
mod plc_down;
mod questions;
mod secrets;
mod signed;
mod stream_full;
mod tampered_copy;
mod tap;
mod tiers;
mod time_certificate;
mod time_first_sync;
mod time_steps;
mod unknown_kind;
mod upgrade;
mod wan_black_hole;
mod wan_closed;
mod wan_long_way;
mod wan_options;

use std::time::Duration;

/// How long the record may take to catch up once everything is back: the leaf's reconnect, the
/// uplink's time-out, and a machine that has other work.
const CATCH_UP: Duration = Duration::from_secs(45);

/// The same after ten noisy devices: half a million samples are read while more come.
const CATCH_UP_ON_NOISE: Duration = Duration::from_secs(90);

/// Random numbers that are the same in every run, so that what failed can be repeated.
struct Dice(u64);

impl Dice {
    /// The dice of a scenario; `TIDEGATE_RIG_SEED` throws others.
    #[expect(clippy::print_stderr, reason = "a failed scenario names its seed")]
    fn of(scenario: &str) -> Self {
        let chosen = std::env::var("TIDEGATE_RIG_SEED").ok().and_then(|seed| seed.parse().ok());
        let fixed = scenario.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let seed = chosen.unwrap_or(fixed);
        eprintln!("TIDEGATE_RIG_SEED={seed}");
        Self(seed)
    }

    /// Below `limit`, which is not 0 (xorshift64*).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}
