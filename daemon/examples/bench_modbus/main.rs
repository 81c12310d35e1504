//! Reading registers beside libmodbus in C on the same server, and checking a long tag list.
//!
//! `cargo xtask bench modbus [-- --seconds 4 --rounds 5 --json]`
//!
//! # Invariants
//! - Both clients run as processes of their own, one after the other, in the same rounds against
//!   the same libmodbus server; the middle round counts.
//! - Ours is the whole translator, as the daemon runs it: planner, bus, guard, decoder, book; only
//!   the sink does nothing but count. The C client reads and adds up.
//! - Processor time is the process' own, system calls included.
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../../../hil-tests/examples/figures/mod.rs"]
mod figures;
mod ours;
mod taglist;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use figures::{Figures, Table, figure, option, progress, ratio};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn std::error::Error>;

/// What one client did in one round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run {
    requests: u64,
    values: u64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Run {
    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Milliseconds of processor for 10,000 values.
    fn cost(&self) -> f64 {
        self.cpu_seconds * 1e3 * 1e4 / self.values as f64
    }
}

fn main() -> Result<(), Failure> {
    if let Some(port) = option("--ours") {
        return ours::main(&port);
    }
    let seconds: f64 = option("--seconds").map_or(Ok(4.0), |text| text.parse())?;
    let rounds: usize = option("--rounds").map_or(Ok(5), |text| text.parse())?;
    let place = std::env::temp_dir();
    let mut figures = Figures::new("modbus", &place);
    if let Some(peer) = std::env::var_os("TIDEGATE_MODBUS_PEER").map(PathBuf::from) {
        let server = Server::start(&peer)?;
        let title = format!("Reading over Modbus TCP, median of {rounds} rounds of {seconds} s");
        let columns =
            ["client", "registers", "requests/s", "CPU ms/10k tags", "rate ÷ C", "CPU ÷ C"];
        let mut table = Table::new(title, &columns);
        let this = std::env::current_exe()?;
        for width in [125, 1] {
            let clients: [(&str, &Path, &[&str], &[&str]); 3] = [
                ("tidegate", &this, &["--ours"], &[]),
                ("libmodbus in C, adding up", &peer, &["ask"], &[]),
                ("libmodbus in C, storing samples", &peer, &["ask"], &["store"]),
            ];
            let mut runs = [const { Vec::new() }; 3];
            for round in 0..rounds {
                progress(&format!("{width} registers, round {} of {rounds}", round + 1));
                for ((_, program, words, more), runs) in clients.iter().zip(&mut runs) {
                    runs.push(ask(program, words, more, &server.port, width, seconds)?);
                }
            }
            let [_, c, _] = &runs;
            let (c_rate, c_cost) = (middle(c, Run::rate), middle(c, Run::cost));
            for ((name, ..), runs) in clients.iter().zip(&runs) {
                let (rate, cost) = (middle(runs, Run::rate), middle(runs, Run::cost));
                table.row([
                    (*name).to_owned(),
                    width.to_string(),
                    figure(rate),
                    figure(cost),
                    ratio(rate, c_rate),
                    ratio(cost, c_cost),
                ]);
            }
        }
        table.note("server: libmodbus, one process, on loopback; one request in flight");
        table.note("tidegate: the whole driver with two workers, as in the daemon, polling 10,000 tags; ratios to the C client that adds up");
        figures.add(table);
    } else {
        progress("no libmodbus to compare with: TIDEGATE_MODBUS_PEER is not set");
    }
    taglist::measure(&mut figures, rounds)?;
    figures.finish();
    Ok(())
}

fn middle(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ask(
    program: &Path,
    words: &[&str],
    more: &[&str],
    port: &str,
    width: u16,
    seconds: f64,
) -> Result<Run, Failure> {
    let mut command = Command::new(program);
    // The daemon's heap settings, for both.
    command.envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536")]);
    command.args(words).args([port, &width.to_string(), &seconds.to_string()]).args(more);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", program.display(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The libmodbus server; it ends with this value.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(peer: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(peer);
        let mut child =
            command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut port)?;
        }
        Ok(Self { child, port: port.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its standard input ends here; a server that does not mind is killed.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
