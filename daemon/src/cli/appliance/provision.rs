//! `tidegate appliance provision`.

use std::io;
use std::path::PathBuf;

use serde_json::json;

use super::super::exit::{CONFIG, DISK, NO, OK, PERMISSION};
use super::super::identity::Surroundings;
use super::super::terminal::tame;
use super::PlaceArgs;
use crate::appliance::offer::Source;
use crate::appliance::provision::{Ending, Gateway, Outcome, RESULT, provision as go_through};
use crate::appliance::record::Record;

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Take configuration and token from a stick, a partition or system credentials
#[derive(Debug, Clone, clap::Args)]
pub struct ProvisionArgs {
    /// A folder to look into for provision.toml or tidegate.toml and tidegate.token; can be repeated.
    /// The credentials of the service come first
    #[arg(long = "from", value_name = "DIR")]
    pub from: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where it goes.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Exit code 0 applied or nothing to do, 1 refused, 64 mistakes on a medium, 73 or 77 the disk; of
/// several media the worst.
pub(super) fn provision(args: &ProvisionArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let credentials = with.environment.iter().find(|(name, _)| name == CREDENTIALS);
    let mut sources: Vec<Source> =
        credentials.map(|(_, dir)| Source::Credentials(dir.into())).into_iter().collect();
    sources.extend(args.from.iter().cloned().map(Source::Folder));
    let config = std::path::absolute(&args.place.config)?;
    let gateway = Gateway { record: Record::beside(&config), config, now: with.now };
    let outcomes = go_through(&gateway, &sources);
    let configured = gateway.config.exists();
    let summary = summary(&outcomes);
    if args.json {
        let each: Vec<_> = outcomes.iter().map(shown).collect();
        let report = json!({ "configured": configured, "summary": summary, "media": each });
        writeln!(with.out, "{report:#}")?;
        return Ok(code(&outcomes));
    }
    for outcome in &outcomes {
        let from = tame(&outcome.from.display().to_string());
        let to: &mut dyn io::Write =
            if code_of(outcome.ending) == OK { &mut *with.out } else { &mut *with.err };
        writeln!(to, "{from}: {}: {}", outcome.ending.word(), tame(&outcome.line))?;
        for detail in outcome.details.iter().flat_map(|detail| detail.lines()) {
            writeln!(to, "  {}", tame(detail))?;
        }
    }
    if outcomes.is_empty() {
        let places: Vec<_> =
            sources.iter().map(|source| source.path().display().to_string()).collect();
        let places =
            if places.is_empty() { "no --from is given".to_owned() } else { places.join(", ") };
        let state = if configured { "configured" } else { "not configured" };
        writeln!(
            with.out,
            "this gateway is {state}, and nothing is offered to it ({places}); what is taken: \
             provision.toml or tidegate.toml, tidegate.token. {RESULT} will say what became of it"
        )?;
    }
    writeln!(with.out, "{summary}")?;
    Ok(code(&outcomes))
}

/// One line for the service that called.
fn summary(outcomes: &[Outcome]) -> &'static str {
    if outcomes.iter().any(|outcome| outcome.ending == Ending::ResetRequested) {
        Ending::ResetRequested.word()
    } else if outcomes.iter().any(|outcome| outcome.ending.changed()) {
        "changed"
    } else {
        Ending::Known.word()
    }
}

fn shown(outcome: &Outcome) -> serde_json::Value {
    json!({
        "from": outcome.from.display().to_string(),
        "ending": outcome.ending.word(),
        "line": outcome.line,
        "details": outcome.details,
    })
}

fn code(outcomes: &[Outcome]) -> u8 {
    outcomes.iter().map(|outcome| code_of(outcome.ending)).max().unwrap_or(OK)
}

const fn code_of(ending: Ending) -> u8 {
    match ending {
        Ending::Applied | Ending::TokenTaken | Ending::Known | Ending::ResetRequested => OK,
        Ending::Refused => NO,
        Ending::Mistaken => CONFIG,
        Ending::Failed => DISK,
        Ending::Denied => PERMISSION,
    }
}
