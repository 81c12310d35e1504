//! `tidegate browse`: what an OPC UA server holds, as a tree, a tag list or JSON.
//!
//! # Invariants
//! - Only reading. It ends by depth, by number, or by Ctrl-C, and then shows what is known.
//! - A tag list that it writes passes `tidegate check`; a test holds it to that.

pub(super) mod list;
mod screen;
mod tree;

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tidegate_opcua::probe::{Below, Cause, Findings, Holdings};
use tidegate_opcua::{NodeAddress, Pattern};

use super::exit::{self, Failure};
use super::probe::opcua::access::{Access, AccessArgs};
use super::probe::opcua::{progress, reason};
use super::status::printed;
use super::terminal::{self, count, tame};

/// Look at what an OPC UA server holds, and write a tag list of it.
#[derive(Debug, Clone, clap::Args)]
pub struct BrowseArgs {
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    below: BelowArgs,
    /// Write a tag list, ready for the configuration; "-" is the terminal
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Read the present values, too
    #[arg(long)]
    values: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

/// What is looked at.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct BelowArgs {
    /// Below which node, such as "nsu=urn:press;s=Axis1" or "/Objects/Press 1"; all objects
    /// without it
    #[arg(long, value_name = "ADDRESS", value_parser = NodeAddress::parse)]
    pub(super) subtree: Option<NodeAddress>,
    /// Only variables whose names below the node fit, such as "Axis?/*" or "**/Temperature"; can
    /// be repeated
    #[arg(long, value_name = "GLOB", value_parser = Pattern::parse)]
    pub(super) include: Vec<Pattern>,
    /// No variables whose names fit; can be repeated
    #[arg(long, value_name = "GLOB", value_parser = Pattern::parse)]
    pub(super) exclude: Vec<Pattern>,
    /// How many levels
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=64)
    )]
    pub(super) depth: u32,
    /// How many variables
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(super) max: u32,
}

impl BelowArgs {
    pub(super) fn below(&self, values: bool) -> Below {
        Below {
            node: self.subtree.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            max_depth: self.depth,
            max_variables: usize::try_from(self.max).unwrap_or(usize::MAX),
            values,
        }
    }
}

/// What a look brought.
pub(super) struct Looked {
    pub(super) holdings: Holdings,
    pub(super) cause: Option<Cause>,
    pub(super) findings: Findings,
    pub(super) interrupted: bool,
}

/// Runs it: 0 shown, 1 the server does not let us in or has no such node, 2 the arguments are
/// wrong, 64 the configuration is, 69 the server cannot be reached, 73 the file cannot be written,
/// 77 our certificate or a password may not be read.
#[must_use]
pub fn browse(args: &BrowseArgs) -> ExitCode {
    let access = match args.access.access() {
        Ok(access) => access,
        Err(failure) => return failure.told(),
    };
    let ran = exit::block_on(async {
        let looked = look(&access, &args.below.below(args.values)).await;
        show(args, &access, &looked)
    });
    match ran {
        Ok(code) => code,
        Err(failure) => failure.told(),
    }
}

/// Connects and looks, with progress on the terminal.
pub(super) async fn look(access: &Access, below: &Below) -> Looked {
    let findings = RefCell::new(Findings::default());
    let holdings = RefCell::new(Holdings::default());
    let doing = || format!("{}: {}", access.spec.url, holdings.borrow().doing);
    let look = tidegate_opcua::probe::browse(
        &access.spec,
        &access.credentials,
        below,
        &findings,
        &holdings,
    );
    let ended = progress::told(Box::pin(look), doing).await;
    Looked {
        interrupted: ended.is_none(),
        cause: ended.and_then(Result::err),
        holdings: holdings.into_inner(),
        findings: findings.into_inner(),
    }
}

fn show(args: &BrowseArgs, access: &Access, looked: &Looked) -> Result<ExitCode, Failure> {
    if let Some(cause) = &looked.cause {
        return Err(reason::failure(access, cause, looked.findings.clock));
    }
    let holdings = &looked.holdings;
    if looked.interrupted {
        let why = format!("interrupted: {}", holdings.doing);
        return Err(Failure::new(exit::NO, why));
    }
    let url = access.spec.url.to_string();
    let stdout = io::stdout();
    let colour = terminal::colour(stdout.is_terminal());
    let mut out = stdout.lock();
    let written = match &args.csv {
        _ if args.json => writeln!(out, "{}", tree::tree(&url, holdings)),
        None => screen::show(&mut out, holdings, args.values, colour),
        Some(file) if file == Path::new("-") => out.write_all(&list::write(holdings)),
        Some(file) => {
            let tags = count(list::tags(holdings), "tag");
            save(file, &list::write(holdings))?;
            let file = file.display();
            writeln!(
                out,
                "wrote {file} ({tags}); next: tag-list = \"{file}\" in the [[device]], then"
            )
            .and_then(|()| writeln!(out, "  tidegate check --connect"))
        }
    };
    drop(out);
    if !args.json {
        let mut err = io::stderr().lock();
        for note in holdings.notes.iter().chain(&list::left_out(holdings)) {
            // Whoever does not read it is not helped by an error.
            let _ = writeln!(err, "note: {}", tame(note));
        }
    }
    Ok(printed(written))
}

/// Writes a file; one that exists is not replaced.
fn save(file: &Path, content: &[u8]) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    opened.and_then(|mut file| file.write_all(content)).map_err(|error| {
        let shown = file.display();
        if error.kind() == io::ErrorKind::AlreadyExists {
            let why = format!("{shown} exists; choose another --csv, or remove it");
            return Failure::new(exit::USAGE, why);
        }
        Failure::new(exit::DISK, format!("{shown} cannot be written: {error}"))
    })
}
