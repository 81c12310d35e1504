//! `tidegate probe modbus`: the arguments, the course, Ctrl-C, and where the result goes.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::probe::{Findings, Reply, Run, Units, Wanted, Way, cells, survey};
use tidegate_modbus::{Address, Buses, LinkError, LinkSpec, Table, UnitId};
use tokio::time::{Instant, sleep};

use super::reason::reason;
use super::section::sections;
use super::target::{self, TargetArgs, UnitList, way};
use super::{screen, show, tree};
use crate::cli::exit::{self, Failure};
use crate::cli::status::printed;
use crate::cli::terminal;
use crate::cli::watch::columns;
use crate::config;
use crate::run::modbus_tls::TlsFromFiles;

/// Progress is told when it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often progress is told anew.
const TICK: Duration = Duration::from_millis(200);
/// Between the two readings of `--show`.
const BETWEEN: Duration = Duration::from_secs(1);
/// Measurements of each response time.
const SAMPLES: u8 = 9;

/// Look at a Modbus device: units, identification, readable registers, limits, times.
#[derive(Debug, Clone, clap::Args)]
pub struct ModbusArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The unit
    #[arg(long, value_name = "N", conflicts_with = "units", value_parser = target::units)]
    unit: Option<UnitList>,
    /// Units to look for, such as 1-32 or 1,5,7. Without it: on a serial port 1 to 32; on TCP 1,
    /// 255 and 0, and unless all of these answer alike, 2 to 16
    #[arg(long, value_name = "LIST", value_parser = target::units)]
    units: Option<UnitList>,
    /// Which table to search: holding, input, coil, discrete; all four without it
    #[arg(long, value_name = "TABLE", value_delimiter = ',', value_parser = target::table)]
    table: Vec<Table>,
    /// Which addresses to search, counted from 0
    #[arg(long, value_name = "FIRST-LAST", default_value = "0-999", value_parser = target::range)]
    range: Run,
    /// The most requests for one table's search
    #[arg(
        long,
        value_name = "N",
        default_value_t = 250,
        value_parser = clap::value_parser!(u32).range(1..=200_000)
    )]
    max_requests: u32,
    /// How long one answer may take. Without it: 1000, on a serial port 300
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout_ms: Option<u64>,
    /// The pause between two requests
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(0..=60_000)
    )]
    pause_ms: u64,
    /// Show a register, and the next ones, in every type and order; such as holding:100 or 40101
    #[arg(long, value_name = "ADDRESS")]
    show: Option<String>,
    /// Go on showing it, so often
    #[arg(
        long,
        value_name = "MS",
        requires = "show",
        value_parser = clap::value_parser!(u64).range(50..=3_600_000)
    )]
    every: Option<u64>,
    /// Write the device section into this file
    #[arg(long, value_name = "FILE", conflicts_with = "show")]
    output: Option<PathBuf>,
    /// Print one JSON object; with --every, one each time
    #[arg(long)]
    json: bool,
}

/// Runs it: 0 something was found, 1 nothing was, 2 the arguments are wrong, 69 the device cannot
/// be reached, 73 the file cannot be written, 77 the serial port may not be used.
#[must_use]
pub(super) fn modbus(args: &ModbusArgs) -> ExitCode {
    let wrong = |why| Failure::new(exit::USAGE, why).told();
    let ways = match args.target.ways() {
        Ok(ways) => ways,
        Err(why) => return wrong(why),
    };
    let ran = match &args.show {
        Some(text) => match config::register_address(text, 0) {
            Ok(address) => exit::block_on(watch(args, &ways, address)),
            Err(why) => return wrong(format!("--show {text:?}: {why}; write holding:100")),
        },
        None => exit::block_on(look(args, &ways)),
    };
    match ran {
        Ok(code) => code,
        Err(failure) => failure.told(),
    }
}

impl ModbusArgs {
    fn timeout(&self) -> Duration {
        let usual = if self.target.is_serial() { 300 } else { 1000 };
        Duration::from_millis(self.timeout_ms.unwrap_or(usual))
    }

    fn units(&self) -> Units {
        match self.unit.as_ref().or(self.units.as_ref()) {
            Some(units) => Units::These(units.0.clone()),
            None if self.target.is_serial() => Units::These((1..=32).map(UnitId).collect()),
            None => Units::Usual,
        }
    }

    fn wanted(&self) -> Wanted {
        let every =
            [Table::HoldingRegister, Table::InputRegister, Table::Coil, Table::DiscreteInput];
        Wanted {
            units: self.units(),
            tables: if self.table.is_empty() { every.to_vec() } else { self.table.clone() },
            range: self.range,
            pause: Duration::from_millis(self.pause_ms),
            budget: self.max_requests,
            samples: SAMPLES,
        }
    }

    fn way(&self, link: &Arc<LinkSpec>) -> Way {
        Way::new(&Buses::new(Arc::new(TlsFromFiles)), link, self.timeout())
    }
}

/// Looks at the device by each way until a unit answers.
async fn look(args: &ModbusArgs, ways: &[Arc<LinkSpec>]) -> Result<ExitCode, Failure> {
    let wanted = args.wanted();
    let mut last: Option<(Arc<LinkSpec>, Findings, Option<LinkError>, bool)> = None;
    for link in ways {
        let findings = RefCell::new(Findings::default());
        let (mut probe, at) = (args.way(link), way(&link.transport));
        let ended = tokio::select! {
            ended = survey(&mut probe, &wanted, &findings) => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
            () = tell(&at, &findings) => None,
        };
        clear_progress();
        let interrupted = ended.is_none();
        let error = ended.and_then(Result::err);
        let findings = findings.into_inner();
        let done = interrupted || !findings.units.is_empty() || fatal(error.as_ref());
        last = Some((Arc::clone(link), findings, error, interrupted));
        if done {
            break;
        }
    }
    let Some((link, findings, error, interrupted)) = last else {
        return Err(Failure::new(exit::USAGE, "nothing to probe".to_owned()));
    };
    let transport = &link.transport;
    if let Some(error) = error {
        let (code, why) = reason(transport, &error);
        return Err(Failure::new(code, terminal::tame(&why)));
    }
    let section = sections(transport, &findings);
    report(args, transport, &findings, &section, interrupted)
}

/// Whether another setting of the line cannot help.
const fn fatal(error: Option<&LinkError>) -> bool {
    matches!(error, Some(LinkError::Down(_)))
}

fn report(
    args: &ModbusArgs,
    transport: &tidegate_modbus::Transport,
    findings: &Findings,
    section: &str,
    interrupted: bool,
) -> Result<ExitCode, Failure> {
    let stdout = io::stdout();
    let colour = terminal::colour(stdout.is_terminal());
    let mut out = stdout.lock();
    let written = if args.json {
        let tree = tree::tree(transport, findings, section, interrupted);
        writeln!(out, "{tree}")
    } else {
        screen::show(&mut out, transport, findings, colour).and_then(|()| match &args.output {
            None if !section.is_empty() => {
                writeln!(out, "\nReady to paste:\n\n{}", section.trim_end())
            }
            _ => Ok(()),
        })
    };
    if written.is_err() {
        return Ok(printed(written));
    }
    if let Some(file) = &args.output {
        save(file, section)?;
        if !args.json {
            let shown = file.display();
            let written = writeln!(
                out,
                "\nwrote {shown}; next: put it into the configuration, then tidegate check --connect"
            );
            if written.is_err() {
                return Ok(printed(written));
            }
        }
    }
    if findings.units.is_empty() {
        let silent = screen::units(&findings.silent);
        let why = if interrupted {
            format!("interrupted: {} has not answered yet", way(transport))
        } else {
            nobody(args, transport, &silent)
        };
        return Err(Failure::new(exit::NO, why));
    }
    Ok(ExitCode::SUCCESS)
}

fn nobody(args: &ModbusArgs, transport: &tidegate_modbus::Transport, silent: &str) -> String {
    let at = way(transport);
    if args.target.is_serial() {
        return format!(
            "nobody answers on {at} ({silent}): check A and B, ground and termination, and try \
             other settings, such as --baud 9600,19200,38400 --parity even,none"
        );
    }
    format!(
        "{at} accepts connections, but no unit answers ({silent}): name the unit with --unit, or \
         give it more time with --timeout-ms"
    )
}

/// Writes the section; a file that exists is not replaced.
fn save(file: &Path, section: &str) -> Result<(), Failure> {
    let shown = file.display();
    if section.is_empty() {
        let why = format!("nothing can be read, so there is no section to write into {shown}");
        return Err(Failure::new(exit::NO, why));
    }
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    opened.and_then(|mut file| file.write_all(section.as_bytes())).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let why = format!("{shown} exists; choose another --output, or remove it");
            return Failure::new(exit::USAGE, why);
        }
        Failure::new(exit::DISK, format!("{shown} cannot be written: {error}"))
    })
}

/// Tells what is being done, once that takes long; never ends.
async fn tell(at: &str, findings: &RefCell<Findings>) {
    let terminal = io::stderr().is_terminal();
    let since = Instant::now();
    let mut found = 0;
    loop {
        sleep(TICK).await;
        if !terminal || since.elapsed() < PATIENCE {
            continue;
        }
        let mut err = io::stderr().lock();
        let findings = findings.borrow();
        // Whatever cannot be told is told at the end.
        for unit in findings.units.iter().skip(found) {
            let _ = writeln!(err, "\r\x1b[Kunit {} answers on {at}", unit.unit.0);
        }
        found = findings.units.len();
        let (doing, requests) = (&findings.doing, findings.requests);
        let seconds = since.elapsed().as_secs();
        let line =
            format!("{doing} ({requests} requests, {seconds} s; Ctrl-C shows what is known)");
        // A line that wraps could not be drawn over.
        let line: String = line.chars().take(columns().saturating_sub(1)).collect();
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

fn clear_progress() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// Shows one address again and again, or twice.
async fn watch(
    args: &ModbusArgs,
    ways: &[Arc<LinkSpec>],
    address: Address,
) -> Result<ExitCode, Failure> {
    let Some(link) = ways.first() else { return Ok(ExitCode::from(exit::USAGE)) };
    let mut way = args.way(link);
    let most = if address.table.holds_bits() { show::BITS } else { show::REGISTERS };
    let unit = match &args.units() {
        Units::These(units) if args.unit.is_some() || args.units.is_some() => {
            units.first().copied().unwrap_or(UnitId(1))
        }
        _ => UnitId(1),
    };
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let colour = terminal::colour(terminal);
    let mut readings: Vec<Reply> = Vec::new();
    let mut count = most;
    loop {
        let read = cells(&mut way, unit, address.table, address.offset, count);
        let reply = tokio::select! {
            reply = read => reply,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        let reply = reply.map_err(|error| not_shown(link, unit, address, &error))?;
        count = match &reply {
            Reply::Registers(registers) => u16::try_from(registers.len()).unwrap_or(count),
            Reply::Bits(bits) => u16::try_from(bits.len()).unwrap_or(count),
            Reply::Identity(_) => count,
        };
        let before = readings.last().cloned();
        let last = args.every.is_none() && before.is_some();
        readings.drain(..readings.len().saturating_sub(1));
        readings.push(reply.clone());
        if args.every.is_some() || last {
            let mut out = stdout.lock();
            let written = if args.json {
                writeln!(out, "{}", show::tree(address, &readings))
            } else {
                let lines = show::lines(address, &reply, before.as_ref(), colour);
                // Drawn over what was there, each line cleared to its end: nothing flickers.
                let redraw = terminal && args.every.is_some();
                let (top, end) = if redraw { ("\x1b[H", "\x1b[K") } else { ("", "") };
                let clear = if redraw && before.is_none() { "\x1b[2J" } else { "" };
                let rest = if redraw { "\x1b[J" } else { "" };
                let head = format!("unit {} of {}", unit.0, target::way(&link.transport));
                write!(out, "{clear}{top}{head}{end}\n{end}\n")
                    .and_then(|()| lines.iter().try_for_each(|line| writeln!(out, "{line}{end}")))
                    .and_then(|()| write!(out, "{rest}"))
                    .and_then(|()| out.flush())
            };
            if written.is_err() || last {
                return Ok(printed(written));
            }
        }
        let pause = args.every.map_or(BETWEEN, Duration::from_millis);
        tokio::select! {
            () = sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn not_shown(link: &LinkSpec, unit: UnitId, address: Address, error: &LinkError) -> Failure {
    let at = way(&link.transport);
    match error {
        LinkError::Refused { code } => {
            let word = tidegate_modbus::exception_word(*code);
            let why = format!(
                "unit {} of {at} refuses {address} with exception {code} ({word}); search for what \
                 it has: tidegate probe modbus … --table {}",
                unit.0,
                address.table.word()
            );
            Failure::new(exit::NO, why)
        }
        LinkError::Silent { .. } => {
            let why = format!(
                "unit {} of {at} does not answer; look for units first: tidegate probe modbus {at}",
                unit.0
            );
            Failure::new(exit::NO, why)
        }
        error => {
            let (code, why) = reason(&link.transport, error);
            Failure::new(code, terminal::tame(&why))
        }
    }
}
