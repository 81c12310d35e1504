//! `tidegate probe opcua`: the arguments, the course, Ctrl-C, and where the result goes.

pub(in crate::cli) mod access;
mod certificate;
mod credentials;
pub(in crate::cli) mod progress;
pub(in crate::cli) mod reason;
mod screen;
mod tree;

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use tidegate_opcua::probe::{Cause, Findings, survey};

use access::{Access, AccessArgs};

use crate::cli::exit::{self, Failure};
use crate::cli::status::printed;
use crate::cli::terminal;

/// Look at an OPC UA server: endpoints, certificate, trust, clock, log-on, limits.
#[derive(Debug, Clone, clap::Args)]
pub struct OpcuaArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Do not log on
    #[arg(long)]
    no_session: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it: 0 logged on, or not asked to; 1 the server answers but does not let us in; 2 the
/// arguments are wrong; 64 the configuration is; 69 the server cannot be reached; 77 our
/// certificate or a password may not be read.
#[must_use]
pub(super) fn opcua(args: &OpcuaArgs) -> ExitCode {
    let access = match args.access.access() {
        Ok(access) => access,
        Err(failure) => return failure.told(),
    };
    match exit::block_on(look(args, &access)) {
        Ok(code) => code,
        Err(failure) => failure.told(),
    }
}

async fn look(args: &OpcuaArgs, access: &Access) -> Result<ExitCode, Failure> {
    let findings = RefCell::new(Findings::default());
    let doing = || {
        let findings = findings.borrow();
        format!("{}: {}", access.spec.url, findings.doing)
    };
    let look = survey(&access.spec, &access.credentials, !args.no_session, &findings);
    let ended = progress::told(Box::pin(look), doing).await;
    let findings = findings.into_inner();
    let interrupted = ended.is_none();
    let cause = ended.and_then(Result::err);
    let failure = cause.as_ref().map(|cause| reason::failure(access, cause, findings.clock));
    let written = report(args, access, &findings, cause.as_ref(), interrupted);
    match (written, failure) {
        (Err(error), _) => Ok(printed(Err(error))),
        (Ok(()), Some(failure)) => Err(failure),
        (Ok(()), None) if interrupted => {
            let why = format!("interrupted while {}", findings.doing);
            Err(Failure::new(exit::NO, why))
        }
        (Ok(()), None) => Ok(ExitCode::SUCCESS),
    }
}

fn report(
    args: &OpcuaArgs,
    access: &Access,
    findings: &Findings,
    cause: Option<&Cause>,
    interrupted: bool,
) -> io::Result<()> {
    let url = access.spec.url.to_string();
    let certificate = certificate::of(findings);
    let stdout = io::stdout();
    let colour = terminal::colour(stdout.is_terminal());
    let mut out = stdout.lock();
    if args.json {
        let why = cause.map(|cause| (cause, reason::why(access, cause, findings.clock)));
        let trouble = why.as_ref().map(|(cause, why)| (*cause, why.as_str()));
        let tree = tree::tree(&url, findings, certificate.as_ref(), trouble, interrupted);
        return writeln!(out, "{tree}");
    }
    let user = reason::who(&access.spec.user);
    screen::Page { out: &mut out, colour }.show(&url, findings, certificate.as_ref(), &user)?;
    if cause.is_none() && !interrupted && !args.no_session {
        writeln!(out, "\nnext: tidegate browse {url}")?;
    } else if findings.answered.is_some() {
        writeln!(out)?;
    }
    Ok(())
}
