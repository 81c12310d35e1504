//! The project's own commands: `cargo xtask setup | demo | test | bench | fuzz | long`, and what makes
//! packages and images: `cross | deb | units | appliance | image | deps`.
//!
//! # Invariants
//! - Everything fetched lands under the target directory, pinned by version and SHA-256.
//! - Messages go to standard error, so what a command it starts prints can be piped.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod appliance;
mod arch;
mod arrows;
mod checks;
mod cross;
mod deb;
mod debian;
mod deps;
mod faketime;
mod figures;
mod flaky;
mod fuzz;
mod image;
mod machine;
mod measure;
mod nats;
mod npm;
mod peers;
mod pins;
mod python;
mod release;
mod shell;
mod skips;
mod units;
mod workspace;

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, show, check and measure Tidegate")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch the pinned nats-server, and everything that the simulated PLCs need
    Setup,
    /// Build the gateway and show the whole path: PLC, outage, SIGKILL, catch-up, proof
    #[command(disable_help_flag = true)]
    Demo {
        /// Passed on to `tidegate demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Every check and every test
    Test,
    /// Run the benchmarks in release mode and print their tables
    Bench {
        /// One benchmark, such as `pipeline` or `end-to-end`; all when left out
        name: Option<String>,
        /// One JSON object a line instead of tables
        #[arg(long)]
        json: bool,
        /// Passed on to the benchmark, after `--`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Fuzz the readers of foreign bytes, guided by coverage (needs cargo-fuzz and nightly)
    Fuzz(fuzz::FuzzArgs),
    /// What takes hours: the tests with twenty times the cases and longer outages, a whole release
    Long {
        /// One part alone
        part: Option<Long>,
        #[command(flatten)]
        release: release::ReleaseArgs,
    },
    /// Build the gateway's and the tools' programs for one architecture
    Cross(cross::CrossArgs),
    /// Pack both Debian packages for one architecture
    Deb(deb::DebArgs),
    /// Check the systemd units and how far they are locked up
    Units,
    /// The packages built, checked, and lived through in a booted container
    Appliance(appliance::ApplianceArgs),
    /// Build a flashable image and its signed update
    Image(image::ImageArgs),
    /// Images lived through in emulated machines: first boot, updates, power cut, reset
    Machine(machine::MachineArgs),
    /// Check the licences and known vulnerabilities of everything that is built in
    Deps,
}

/// The parts of what takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Long {
    /// The tests with twenty times the cases and longer outages
    Tests,
    /// Programs, packages and images for every architecture, tried in emulated machines
    Release,
}

/// Bytes: a disk with less than this left may be why something failed.
const LITTLE: u64 = 300_000_000;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    carry_out(&workspace, task).map_err(|error| {
        // Compilers, package managers and servers do not all name a full disk when they meet one.
        match shell::free_bytes(&workspace.target).filter(|free| *free < LITTLE) {
            Some(free) => anyhow::anyhow!(
                "{error:#}\n{} has {} MB left: free some and repeat the command, or name a place on \
                 a larger disk in CARGO_TARGET_DIR",
                workspace.target.display(),
                free / 1_000_000
            ),
            None => error,
        }
    })
}

fn carry_out(workspace: &Workspace, task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => checks::setup(workspace).map(|_tools| ()),
        Task::Demo { args } => demo(workspace, &args),
        Task::Test => checks::test(workspace),
        Task::Bench { name, json, args } => measure::bench(workspace, name.as_deref(), json, &args),
        Task::Fuzz(args) => fuzz::fuzz(workspace, &args),
        Task::Long { part, release } => {
            if part != Some(Long::Release) {
                checks::long(workspace)?;
            }
            if part != Some(Long::Tests) {
                release::run(workspace, &release)?;
            }
            Ok(())
        }
        Task::Cross(args) => cross::run(workspace, &args).map(|_figures| ()),
        Task::Deb(args) => deb::run(workspace, &args).map(|_figures| ()),
        Task::Units => units::run(workspace),
        Task::Appliance(args) => appliance::run(workspace, &args).map(|_figures| ()),
        Task::Image(args) => image::run(workspace, &args),
        Task::Machine(args) => machine::run(workspace, &args).map(|_figures| ()),
        Task::Deps => deps::run(workspace),
    }
}

/// Becomes `tidegate demo`, so its exit code and its signals are its own.
fn demo(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;

    let nats_server = nats::provide(workspace)?;
    let mut build = workspace.cargo();
    build.args(["build", "--package", "tidegate", "--bin", "tidegate"]);
    shell::run("build the gateway", &mut build)?;
    let binary = workspace.gateway_binary();
    let mut demo = std::process::Command::new(&binary);
    demo.arg("demo").args(args).env(nats::VARIABLE, &nats_server);
    let error = demo.exec();
    Err(anyhow::Error::new(error).context(format!("{} did not start", binary.display())))
}
