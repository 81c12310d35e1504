//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, which coverage guides.
//!
//! # Invariants
//! - What it needs beyond this workspace's toolchain is looked for first, and named when missing:
//!   the same targets run in `cargo xtask test` without it.
//! - New inputs collect under the target directory; only `--minimise` changes the committed ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell;
use crate::workspace::Workspace;

/// What is fuzzed, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzArgs {
    /// One target, such as `frame`; all one after the other when left out
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 180)]
    seconds: u32,
    /// Afterwards, add the fewest inputs with the same coverage to `fuzz/corpus`
    #[arg(long)]
    minimise: bool,
}

/// Larger inputs find nothing more and make a corpus large.
const LARGEST_INPUT: u32 = 4096;

/// What a minimised corpus may add to the repository, in bytes: all of them stay below 300 kB.
const COMMITTED_BYTES: u64 = 25_000;
/// And how many inputs: each costs the ordinary test a run.
const COMMITTED_INPUTS: usize = 100;

/// Runs one target or all of them.
pub(crate) fn fuzz(workspace: &Workspace, args: &FuzzArgs) -> anyhow::Result<()> {
    let fuzzer = Fuzzer::find(workspace)?;
    let known = fuzzer.targets()?;
    let chosen: Vec<_> = known
        .into_iter()
        .filter(|name| args.target.as_ref().is_none_or(|asked| asked == name))
        .collect();
    if chosen.is_empty() {
        let asked = args.target.as_deref().unwrap_or("any");
        bail!("no fuzz target {asked}; there are: [{}]", fuzzer.targets()?.join(", "));
    }
    for name in chosen {
        fuzzer.run(&name, args.seconds)?;
        if args.minimise {
            fuzzer.minimise(&name)?;
        }
    }
    Ok(())
}

struct Fuzzer<'w> {
    workspace: &'w Workspace,
    program: PathBuf,
}

impl<'w> Fuzzer<'w> {
    fn find(workspace: &'w Workspace) -> anyhow::Result<Self> {
        let own = workspace.tools().join("cargo-fuzz/bin/cargo-fuzz");
        let program = if own.exists() { own } else { PathBuf::from("cargo-fuzz") };
        let has = |command: &mut Command| shell::ask(command).is_some();
        let mut missing = Vec::new();
        if !has(Command::new(&program).args(["fuzz", "--version"])) {
            let root = workspace.tools().join("cargo-fuzz");
            missing.push(format!(
                "cargo-fuzz: cargo install --locked --root {} cargo-fuzz",
                root.display()
            ));
        }
        if !has(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])) {
            missing.push("a nightly compiler: rustup toolchain install nightly".to_owned());
        }
        if !missing.is_empty() {
            bail!(
                "coverage-guided fuzzing needs\n  {}\nthe same targets run without them, over \
                 their corpora and mutations: cargo test --package tidegate-fuzz",
                missing.join("\n  ")
            );
        }
        Ok(Self { workspace, program })
    }

    fn directory(&self) -> PathBuf {
        self.workspace.root.join("fuzz/cargo-fuzz")
    }

    /// Where the inputs of a target collect.
    fn collected(&self, target: &str) -> PathBuf {
        self.workspace.target.join("fuzz/corpus").join(target)
    }

    fn committed(&self, target: &str) -> PathBuf {
        self.workspace.root.join("fuzz/corpus").join(target)
    }

    /// `cargo fuzz` with the nightly toolchain, whichever this program was started with.
    fn cargo_fuzz(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["fuzz", subcommand, "--fuzz-dir"])
            .arg(self.directory())
            .current_dir(&self.workspace.root)
            .env("RUSTUP_TOOLCHAIN", "nightly");
        for name in ["CARGO", "RUSTC", "RUSTDOC", "CARGO_MANIFEST_DIR"] {
            command.env_remove(name);
        }
        if subcommand == "run" {
            command.arg("--target-dir").arg(self.workspace.target.join("fuzz"));
        }
        command
    }

    fn targets(&self) -> anyhow::Result<Vec<String>> {
        let list = shell::ask(&mut self.cargo_fuzz("list")).context("cargo fuzz list failed")?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    fn run(&self, target: &str, seconds: u32) -> anyhow::Result<()> {
        let collected = self.collected(target);
        make(&collected)?;
        let mut run = self.cargo_fuzz("run");
        run.arg(target).arg(&collected).arg(self.committed(target)).args([
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-max_len={LARGEST_INPUT}"),
            "-timeout=20".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        shell::run(&format!("fuzz {target} for {seconds} s"), &mut run)
    }

    /// Adds to the committed inputs the fewest that reach as much as all that were collected, as
    /// far as there is room; what is committed stays, for its names say what it once found.
    fn minimise(&self, target: &str) -> anyhow::Result<()> {
        let fewest = self.workspace.target.join("fuzz/fewest").join(target);
        if fewest.exists() {
            std::fs::remove_dir_all(&fewest)
                .with_context(|| format!("{} cannot be removed", fewest.display()))?;
        }
        make(&fewest)?;
        let mut merge = self.cargo_fuzz("run");
        merge.arg(target).arg(&fewest).arg(self.committed(target)).arg(self.collected(target));
        merge.args(["--".to_owned(), "-merge=1".to_owned(), format!("-max_len={LARGEST_INPUT}")]);
        shell::run(&format!("minimise the corpus of {target}"), &mut merge)?;
        let mut inputs = Vec::new();
        for entry in std::fs::read_dir(&fewest).context("no corpus came out")? {
            let entry = entry?;
            inputs.push((entry.metadata()?.len(), entry.path()));
        }
        // Of every size some, the small ones first: they say most per byte.
        inputs.sort();
        let step = inputs.len().div_ceil(COMMITTED_INPUTS).max(1);
        let (committed, mut bytes) = (self.committed(target), 0);
        for (length, path) in inputs.into_iter().step_by(step) {
            bytes += length;
            let Some(name) = path.file_name().filter(|_| bytes <= COMMITTED_BYTES) else { break };
            std::fs::copy(&path, committed.join(name))
                .with_context(|| format!("{} cannot be copied", path.display()))?;
        }
        Ok(())
    }
}

fn make(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))
}
