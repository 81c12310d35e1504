//! What the simulated PLC holds: every cell is a pure function of its address and of the time
//! since the start.
//!
//! # Invariants
//! - One answer is computed for one instant, so a value of several registers is never torn.
//! - A cell without meaning does not exist: reading it is an exception, as on a real PLC.
//! - [`PRESS_MAP`] is what docs/sim.md documents; a test compares them.

use std::f64::consts::TAU;
use std::time::Duration;

/// What kind of PLC is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// A hydraulic press: temperatures, pressures, parts made, states.
    Press,
    /// 32,768 counters that count time steps: losses, repeats and order show in the values.
    Counter,
    /// Each register holds its own address: a value from the wrong place shows.
    Address,
}

/// A table of Modbus cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// Coils and discrete inputs; both are the same here.
    Bits,
    /// Input and holding registers; both are the same here.
    Registers,
}

/// One documented cell of the press.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its address as a configuration writes it.
    pub address: &'static str,
    /// Its type as a configuration writes it.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub behaviour: &'static str,
}

const fn entry(
    address: &'static str,
    kind: &'static str,
    name: &'static str,
    behaviour: &'static str,
) -> Entry {
    Entry { address, kind, name, behaviour }
}

/// The cells of [`Profile::Press`]. Holding registers can be read as input registers too, coils as
/// discrete inputs.
pub const PRESS_MAP: &[Entry] = &[
    entry("holding:0", "float32", "temperature", "65 to 95 degC, a sine of 60 s"),
    entry("holding:2", "float32", "pressure", "90 to 150 bar, a sine of 7 s"),
    entry("holding:4", "uint32", "parts", "one more every 2 s"),
    entry("holding:6", "uint32", "steps", "one more every step (100 ms unless told otherwise)"),
    entry("holding:8.0", "bool", "running", "off in the last 5 s of each minute"),
    entry("holding:8.1", "bool", "heating", "on while the temperature rises"),
    entry("holding:8.2", "bool", "overpressure", "on above 145 bar"),
    entry("holding:9", "int16", "oil-level", "100.0 down to 60.1 % in tenths, 0.1 % every 10 s"),
    entry("holding:10", "uint64", "energy", "3 Wh more each second, from 2^53 on"),
    entry("holding:14", "float64", "position", "0 to 1000 mm, a stroke of 8 s"),
    entry("holding:18", "float32 (cdab)", "temperature-cdab", "the temperature with words swapped"),
    entry("coil:0", "bool", "pump", "as running"),
    entry("coil:1", "bool", "valve", "on for 2 s, off for 2 s"),
    entry("coil:2", "bool", "guard-open", "on in the last 5 s of each minute"),
];

/// The simulated memory at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    profile: Profile,
    at: Duration,
    steps: u64,
}

impl Memory {
    /// The memory of a profile some time after its start; `step` is the pace of its counters.
    #[must_use]
    pub fn at(profile: Profile, at: Duration, step: Duration) -> Self {
        let step = step.as_nanos().max(1);
        let steps = u64::try_from(at.as_nanos() / step).unwrap_or(u64::MAX);
        Self { profile, at, steps }
    }

    /// A register; `None` where the profile has none.
    #[must_use]
    pub fn register(&self, address: u16) -> Option<u16> {
        match self.profile {
            Profile::Press => self.press_registers().get(usize::from(address)).copied(),
            Profile::Counter => {
                // Counter n lies at 2n and 2n + 1 and is n ahead, so that no two are alike.
                let counter = low_32(self.steps.wrapping_add(u64::from(address / 2)));
                let [high, low] = words(counter.to_be_bytes());
                Some(if address.is_multiple_of(2) { high } else { low })
            }
            Profile::Address => Some(address),
        }
    }

    /// A coil or discrete input; `None` where the profile has none.
    #[must_use]
    pub fn bit(&self, address: u16) -> Option<bool> {
        match self.profile {
            Profile::Press => match address {
                0 => Some(self.is_running()),
                1 => Some((self.at.as_secs() / 2).is_multiple_of(2)),
                2 => Some(!self.is_running()),
                _ => None,
            },
            Profile::Counter => Some((self.steps ^ u64::from(address)) & 1 == 1),
            Profile::Address => Some(address.count_ones() % 2 == 1),
        }
    }

    fn press_registers(&self) -> [u16; 20] {
        let temperature = self.temperature();
        let pressure = sine(self.at, 7_000).mul_add(30.0, 120.0);
        let parts = low_32(self.at.as_secs() / 2);
        let steps = low_32(self.steps);
        let heating = !(15_000..45_000).contains(&phase(self.at, 60_000));
        let state = u16::from(self.is_running())
            | u16::from(heating) << 1
            | u16::from(pressure > 145.0) << 2;
        let oil = 1_000 - u16::try_from(self.at.as_secs() / 10 % 400).unwrap_or_default();
        // From 2^53 on a double cannot hold every integer: a tag that went through one shows.
        let energy = (1 << 53) + self.at.as_secs() * 3;
        let turn = f64::from(phase(self.at, 8_000)) / 8_000.0;
        let position = (1.0 - (turn * TAU).cos()) * 500.0;

        let [t0, t1] = words(single(temperature).to_be_bytes());
        let [p0, p1] = words(single(pressure).to_be_bytes());
        let [n0, n1] = words(parts.to_be_bytes());
        let [s0, s1] = words(steps.to_be_bytes());
        let [e0, e1, e2, e3] = long_words(energy.to_be_bytes());
        let [x0, x1, x2, x3] = long_words(position.to_be_bytes());
        [t0, t1, p0, p1, n0, n1, s0, s1, state, oil, e0, e1, e2, e3, x0, x1, x2, x3, t1, t0]
    }

    fn temperature(&self) -> f64 {
        sine(self.at, 60_000).mul_add(15.0, 80.0)
    }

    fn is_running(&self) -> bool {
        phase(self.at, 60_000) < 55_000
    }
}

/// Milliseconds into a period.
fn phase(at: Duration, period_ms: u32) -> u32 {
    u32::try_from(at.as_millis() % u128::from(period_ms)).unwrap_or_default()
}

fn sine(at: Duration, period_ms: u32) -> f64 {
    (f64::from(phase(at, period_ms)) / f64::from(period_ms) * TAU).sin()
}

fn low_32(count: u64) -> u32 {
    u32::try_from(count & u64::from(u32::MAX)).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, reason = "a simulated sensor rounds to a single")]
const fn single(value: f64) -> f32 {
    value as f32
}

const fn words(bytes: [u8; 4]) -> [u16; 2] {
    let [a, b, c, d] = bytes;
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

const fn long_words(bytes: [u8; 8]) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = bytes;
    let [w0, w1] = words([a, b, c, d]);
    let [w2, w3] = words([e, f, g, h]);
    [w0, w1, w2, w3]
}
