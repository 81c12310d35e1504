//! `tidegate check`: is a configuration legal, what would it do, and does each device answer?
//!
//! # Invariants
//! - Every mistake is printed in one run, with its place and what would be legal.
//! - Nothing is changed anywhere; only with `--connect` is anything sent to a device.

pub(super) mod opcua;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value as Json, json};
use tidegate_modbus::{DeviceSpec, Parity, StopBits, Transport};
use tidegate_record::json::{Inexact, value_tree};
use tidegate_translator::{Quality, Reading, Reason, TagId};

use super::exit;
use super::terminal::{self, Align, Tone};
use crate::causes::chain;
use crate::config::estimate::{Estimate, estimate};
use crate::config::polls::{self, Group, Line, Plan};
use crate::config::{self, Argument, Config, Device, Driver, LeafMode, LoadError, WhenFull, size};

/// Check a configuration file and show what it would poll and cost.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(default_value = config::DEFAULT_FILE)]
    pub file: PathBuf,
    /// Print for programs.
    #[arg(long)]
    pub json: bool,
    /// Read every tag once from its device.
    #[arg(long)]
    pub connect: bool,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
}

/// `--set`, for every command that reads the configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SetArgs {
    /// Set a single value, before the file and the environment; can be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = Argument::from_set)]
    pub set: Vec<Argument>,
}

/// What each device answered, by its name.
///
/// A reading's [`TagId`] is the tag's place in its device, from 0; behind them come the tags that
/// were found below subtrees, and [`WHOLE`].
pub type Readings = Vec<(String, Vec<Reading>)>;

/// Stands for a whole device that could not be asked; the reading's error says why.
pub const WHOLE: TagId = TagId(u32::MAX);

/// Found tags that are named because they are not good; of more the number is given.
const NAMED: usize = 10;

/// What the check needs from outside.
pub struct Surroundings<'a> {
    /// The process's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Plans the requests of one cycle of a device.
    pub plan: &'a dyn Fn(&DeviceSpec) -> Plan,
    /// Reads every tag once, by device name. A reading's [`TagId`] is
    /// the tag's place in its device, from 0. A device that is missing counts as unreachable.
    pub read: &'a mut dyn FnMut(&Config) -> Readings,
    /// Whether results are coloured.
    pub colour: bool,
    /// Where results go.
    pub out: &'a mut dyn Write,
    /// Where mistakes go.
    pub err: &'a mut dyn Write,
}

/// Runs it and returns the exit code: 0 legal, 1 a tag was refused, 64 mistakes, 69 a device
/// cannot be reached.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &CheckArgs, mut with: Surroundings<'_>) -> io::Result<u8> {
    let environment = std::mem::take(&mut with.environment);
    let config = match config::load(&args.file, environment, &args.set.set) {
        Ok(config) => config,
        Err(error) => return refuse(&error, args.json, &mut with),
    };
    let groups = polls::groups(&config, with.plan);
    let cost = estimate(&config, &groups);
    let lines = polls::lines(&config, &groups);
    let readings = args.connect.then(|| (with.read)(&config));
    let answers = readings.as_ref().map(|readings| answers(&config, readings));
    let code = answers.as_deref().map_or(exit::OK, exit_code);
    let warnings = warnings(&config, &lines);
    if args.json {
        let report = json!({
            "ok": code == exit::OK,
            "file": args.file.display().to_string(),
            "gateway": config.gateway.to_string(),
            "warnings": warnings,
            "devices": config.devices.iter().zip(&groups).map(|(device, groups)| {
                device_json(device, groups)
            }).collect::<Vec<_>>(),
            "lines": lines.iter().map(line_json).collect::<Vec<_>>(),
            "estimate": cost,
            "answers": answers.as_ref().map(|a| a.iter().map(answer_json).collect::<Vec<_>>()),
        });
        writeln!(with.out, "{report:#}")?;
        return Ok(code);
    }
    let out = &mut *with.out;
    writeln!(out, "{} is legal", args.file.display())?;
    for warning in &warnings {
        writeln!(with.err, "warning: {warning}")?;
    }
    write_settings(out, &config)?;
    write_devices(out, &config, &groups, with.colour)?;
    write_lines(out, &lines)?;
    write_estimate(out, &config, &cost)?;
    if let Some(answers) = &answers {
        write_answers(out, answers, with.colour)?;
    }
    Ok(code)
}

fn refuse(error: &LoadError, json: bool, with: &mut Surroundings<'_>) -> io::Result<u8> {
    match (error, json) {
        (LoadError::Mistakes(mistakes), true) => {
            let report = json!({ "ok": false, "mistakes": mistakes.to_json() });
            writeln!(with.out, "{report:#}")?;
        }
        (_, true) => {
            let report = json!({ "ok": false, "error": chain(error) });
            writeln!(with.out, "{report:#}")?;
        }
        (LoadError::Mistakes(mistakes), false) => writeln!(with.err, "{mistakes}")?,
        (_, false) => writeln!(with.err, "error: {}", chain(error))?,
    }
    Ok(exit::CONFIG)
}

/// The share of a serial line above which a warning is due: what is left is needed for units that
/// answer late, and for attempts on those that do not.
const BUSY: f64 = 0.8;

/// Legal, but not what this machine can do now.
fn warnings(config: &Config, lines: &[Line]) -> Vec<String> {
    let mut out = Vec::new();
    let tls = config.hub.iter().filter_map(|hub| hub.tls.as_ref());
    let files = tls
        .flat_map(|tls| {
            [("hub.tls.ca", &tls.ca), ("hub.tls.cert", &tls.cert), ("hub.tls.key", &tls.key)]
        })
        .chain(config.leaf.nats_server.as_ref().map(|path| ("leaf.nats-server", path)));
    let proxy = config.hub.as_ref().and_then(|hub| hub.proxy.as_ref()?.user.as_ref());
    let files = files.chain(proxy.map(|user| ("hub.proxy-password-file", &user.password_file)));
    for (key, path) in files {
        if !path.exists() {
            out.push(format!("{key}: there is no file {} on this machine", path.display()));
        }
    }
    for device in &config.devices {
        let link = device.modbus().map(|spec| &spec.link);
        for (key, path) in link.map(|link| config::tls_files(link)).unwrap_or_default() {
            if !path.exists() {
                let (name, file) = (device.name(), path.display());
                out.push(format!("{name}: tls.{key}: there is no file {file} on this machine"));
            }
        }
    }
    for spec in config.devices.iter().filter_map(Device::opcua) {
        for (key, path) in config::warnings::files(spec) {
            if !path.exists() {
                let (name, file) = (&spec.name, path.display());
                out.push(format!("{name}: {key}: there is no file {file} on this machine"));
            }
        }
    }
    out.extend(config::warnings::of(config));
    for line in lines.iter().filter(|line| line.share > BUSY) {
        out.push(format!(
            "{}: the polls take about {:.0} % of the line, without the time that units take to \
             answer; poll less often, read fewer blocks, or raise baud-rate",
            line.port.display(),
            line.share * 100.0
        ));
    }
    if config.devices.is_empty() {
        out.push("there is no [[device]]: nothing is polled".to_owned());
    }
    out
}

fn write_settings(out: &mut dyn Write, config: &Config) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "  gateway  {}", config.gateway)?;
    match &config.hub {
        None => writeln!(out, "  hub      none: recorded, not delivered")?,
        Some(hub) => {
            let urls: Vec<String> = hub.urls.iter().map(ToString::to_string).collect();
            let urls = urls.join(", ");
            writeln!(out, "  hub      {urls}; stream {}, domain {}", hub.stream, hub.domain)?;
        }
    }
    let mode = match config.leaf.mode {
        LeafMode::Managed => "managed",
        LeafMode::External => "external",
    };
    writeln!(out, "  leaf     {mode}, {}", config.leaf.listen)?;
    let full = match config.journal.when_full {
        WhenFull::DropOldest => "then drops the oldest",
        WhenFull::StopRecording => "then stops recording",
    };
    let journal = &config.journal;
    let most = size::format(journal.max_bytes);
    writeln!(out, "  journal  {}, at most {most}, {full}", journal.dir.display())?;
    match &config.metrics {
        None => writeln!(out, "  metrics  none"),
        Some(metrics) => writeln!(out, "  metrics  http://{}/metrics", metrics.listen),
    }
}

fn endpoint(device: &Device) -> String {
    match &device.driver {
        Driver::Modbus(spec) => spec.link.transport.to_string(),
        Driver::OpcUa(spec) => spec.url.to_string(),
        Driver::Nats(spec) => spec.subjects.join(", "),
    }
}

fn write_devices(
    out: &mut dyn Write,
    config: &Config,
    groups: &[Vec<Group>],
    colour: bool,
) -> io::Result<()> {
    let registers = || {
        let both = config.devices.iter().zip(groups);
        both.filter_map(|(device, groups)| Some((device, device.modbus()?, groups)))
    };
    opcua::write_devices(out, config, colour)?;
    if registers().next().is_none() {
        return Ok(());
    }
    let mut table = terminal::Table::new(&[
        ("DEVICE", Align::Left),
        ("PROTOCOL", Align::Left),
        ("ENDPOINT", Align::Left),
        ("UNIT", Align::Right),
        ("EVERY", Align::Right),
        ("TAGS", Align::Right),
        ("REQUESTS", Align::Right),
        ("REQUESTS/S", Align::Right),
    ]);
    for (device, spec, groups) in registers() {
        for (index, group) in groups.iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let cells = [
                first(device.name().to_owned()),
                first(protocol(device).to_owned()),
                first(endpoint(device)),
                first(spec.unit.0.to_string()),
                seconds(group.every.as_secs_f64()),
                group.tags.to_string(),
                group.plan.len().to_string(),
                format!("{:.1}", group.requests_per_s()),
            ];
            table.row(cells.map(|text| (text, Tone::Plain)));
        }
    }
    writeln!(out)?;
    table.write(out, 2, colour)?;
    writeln!(out)?;
    for (device, _, groups) in registers() {
        for group in groups {
            let name = device.name();
            let every = match groups.len() {
                1 => String::new(),
                _ => format!(" every {}", seconds(group.every.as_secs_f64())),
            };
            writeln!(out, "  {name}{every}: {}", blocks(&group.plan))?;
        }
    }
    Ok(())
}

/// The serial lines, and how busy they will be.
fn write_lines(out: &mut dyn Write, lines: &[Line]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nserial lines, estimated without the time that units take to answer:")?;
    for line in lines {
        let units = if line.units == 1 { "unit" } else { "units" };
        writeln!(
            out,
            "  {}: {}, {} {units}, polls take {:.0} % of the line",
            line.port.display(),
            settings(line),
            line.units,
            line.share * 100.0
        )?;
    }
    Ok(())
}

/// Speed, bits and direction, such as `9600 baud 8N2, RTS high to send`.
fn settings(line: &Line) -> String {
    let serial = &line.serial;
    let direction = match serial.rs485 {
        None => "",
        Some(rs485) if rs485.rts_high_on_send => ", RTS high to send",
        Some(_) => ", RTS low to send",
    };
    format!("{} baud 8{}{}{direction}", serial.baud, parity(line).0, stop_bits(line))
}

/// The letter and the word.
const fn parity(line: &Line) -> (char, &'static str) {
    match line.serial.parity {
        Parity::Even => ('E', "even"),
        Parity::Odd => ('O', "odd"),
        Parity::None => ('N', "none"),
    }
}

const fn stop_bits(line: &Line) -> u8 {
    match line.serial.stop_bits {
        StopBits::One => 1,
        StopBits::Two => 2,
    }
}

fn line_json(line: &Line) -> Json {
    json!({
        "port": line.port.display().to_string(),
        "baud_rate": line.serial.baud,
        "parity": parity(line).1,
        "stop_bits": stop_bits(line),
        "rs485": line.serial.rs485.map(|it| if it.rts_high_on_send { "rts-high" } else { "rts-low" }),
        "units": line.units,
        "share": line.share,
    })
}

/// The protocol's word in the file.
fn protocol(device: &Device) -> &'static str {
    let spec = match &device.driver {
        Driver::Modbus(spec) => spec,
        Driver::OpcUa(_) => return "opcua",
        Driver::Nats(_) => return "nats",
    };
    match spec.link.transport {
        Transport::Tcp(_) => "modbus-tcp",
        Transport::Tls(..) => "modbus-tls",
        Transport::RtuOverTcp(_) => "modbus-rtu-over-tcp",
        Transport::Rtu(_) => "modbus-rtu",
    }
}

/// The requests of a cycle by their wire addresses, the first few of many.
pub(super) fn blocks(plan: &Plan) -> String {
    const SHOWN: usize = 6;
    let mut parts: Vec<String> = plan
        .iter()
        .take(SHOWN)
        .map(|&(table, start, count)| {
            let last = u32::from(start) + u32::from(count.max(1)) - 1;
            match count {
                0 | 1 => format!("{} {start}", table.word()),
                _ => format!("{} {start}-{last} ({count})", table.word()),
            }
        })
        .collect();
    if plan.len() > SHOWN {
        parts.push(format!("{} more", plan.len() - SHOWN));
    }
    parts.join(", ")
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds} s") }
}

fn write_estimate(out: &mut dyn Write, config: &Config, cost: &Estimate) -> io::Result<()> {
    let rows = [
        ("requests", format!("{:.1} /s", cost.requests_per_s)),
        ("samples", format!("{:.1} /s", cost.samples_per_s)),
        ("journal growth", format!("{} /day", bytes(cost.journal_bytes_per_day))),
        ("written to disk", format!("{} /day", bytes(cost.disk_bytes_per_day))),
        (
            "to the hub",
            cost.wan_bytes_per_day.map_or("nothing".to_owned(), |wan| {
                format!("{} /day, without live values", bytes(wan))
            }),
        ),
        (
            "buffer",
            match (cost.buffer_days, &cost.on_change) {
                (None, None) => "never full".to_owned(),
                (None, Some(_)) => "not known".to_owned(),
                (Some(days), beside) => {
                    let most = size::format(config.journal.max_bytes);
                    let beside = beside.map_or("", |_| ", without what is sent on change");
                    format!("{} in {most}{beside}", days_words(days))
                }
            },
        ),
    ];
    writeln!(out, "\nestimated, from measurements of mixed signals:")?;
    for (name, value) in rows {
        writeln!(out, "  {name:<15}  {value}")?;
    }
    match &cost.on_change {
        None => Ok(()),
        Some(beside) => opcua::write_estimate(out, beside),
    }
}

fn days_words(days: f64) -> String {
    match days {
        d if d >= 365.0 => format!("{:.1} years", d / 365.25),
        d if d >= 2.0 => format!("{d:.1} days"),
        d => format!("{:.1} hours", d * 24.0),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative; a float-to-integer cast saturates"
)]
pub(super) fn bytes(n: f64) -> String {
    size::format(n.round() as u64)
}

/// What one device answered.
struct Answer<'a> {
    device: &'a Device,
    reachable: bool,
    readings: Vec<Option<&'a Reading>>,
    /// Of what was found below subtrees.
    found: Vec<&'a Reading>,
    /// Why it could not be asked.
    why: Option<&'a str>,
}

fn answers<'a>(config: &'a Config, readings: &'a [(String, Vec<Reading>)]) -> Vec<Answer<'a>> {
    config
        .devices
        .iter()
        .map(|device| {
            let own = readings.iter().find(|(name, _)| name == device.name());
            let readings: Vec<Option<&Reading>> = (0_u32..)
                .zip(device.tags.iter())
                .map(|(id, _)| own.and_then(|(_, list)| list.iter().find(|r| r.tag.0 == id)))
                .collect();
            let silent = |reading: &Option<&Reading>| {
                reading.is_none_or(|reading| {
                    matches!(reading.quality, Quality::Bad(Reason::NotConnected | Reason::Timeout))
                })
            };
            let all = own.map(|(_, list)| list.as_slice()).unwrap_or_default();
            let whole = all.iter().find(|reading| reading.tag == WHOLE);
            let behind = |reading: &&Reading| {
                usize::try_from(reading.tag.0).is_ok_and(|place| place >= device.tags.len())
            };
            let found = all.iter().filter(|it| it.tag != WHOLE).filter(behind).collect();
            // A device of subtrees alone has answered when it is in the list and says nothing else.
            let reachable = match readings.is_empty() {
                true => own.is_some() && whole.is_none(),
                false => !readings.iter().all(silent),
            };
            let why = whole.and_then(|reading| reading.error.as_deref());
            Answer { device, reachable, readings, found, why }
        })
        .collect()
}

fn exit_code(answers: &[Answer<'_>]) -> u8 {
    let refused = |reading: &Option<&Reading>| {
        reading.is_none_or(|reading| matches!(reading.quality, Quality::Bad(_)))
    };
    if answers.iter().any(|answer| !answer.reachable) {
        exit::PEER
    } else if answers.iter().any(|answer| answer.readings.iter().any(refused)) {
        exit::NO
    } else {
        exit::OK
    }
}

fn write_answers(out: &mut dyn Write, answers: &[Answer<'_>], colour: bool) -> io::Result<()> {
    for answer in answers {
        let device = answer.device;
        let unit = device.modbus().map(|spec| format!(", unit {}", spec.unit.0));
        let state = if answer.reachable { "answered" } else { "cannot be reached" };
        let (name, unit) = (device.name(), unit.unwrap_or_default());
        let (end, trees) = match (device.tags.len(), device.subtrees.len()) {
            (0, 1) => (".", "; 1 subtree and no single tag"),
            (0, _) => (".", "; subtrees and no single tag"),
            _ => (":", ""),
        };
        writeln!(out, "\n{name} at {}{unit}, {state}{trees}{end}", endpoint(device))?;
        write_found(out, answer)?;
        if device.tags.is_empty() {
            continue;
        }
        let mut table = terminal::Table::new(&[
            ("TAG", Align::Left),
            ("ADDRESS", Align::Left),
            ("VALUE", Align::Right),
            ("UNIT", Align::Left),
            ("QUALITY", Align::Left),
            ("WHY", Align::Left),
        ]);
        for (tag, reading) in answer.device.tags.iter().zip(&answer.readings) {
            let Shown { value, quality, reason, error } = Shown::of(*reading);
            table.row([
                (tag.path.to_string(), Tone::Plain),
                (tag.address.to_string(), Tone::Plain),
                (terminal::value(&value), Tone::Strong),
                (tag.manner.unit.as_deref().unwrap_or_default().to_owned(), Tone::Plain),
                terminal::quality(quality, reason),
                (error.unwrap_or_default().to_owned(), Tone::Faint),
            ]);
        }
        table.write(out, 2, colour)?;
    }
    Ok(())
}

/// A reading as it is shown, to people and to programs.
struct Shown<'a> {
    value: Json,
    quality: &'static str,
    reason: Option<&'static str>,
    error: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(reading: Option<&'a Reading>) -> Self {
        let Some(reading) = reading else {
            return Self {
                value: Json::Null,
                quality: "bad",
                reason: None,
                error: Some("no answer"),
            };
        };
        let (value, inexact) = value_tree(&reading.value);
        let reason = reading.quality.reason().map(Reason::word);
        Self {
            value,
            quality: reading.quality.word(),
            reason: reason.or(inexact.map(Inexact::word)),
            error: reading.error.as_deref(),
        }
    }
}

fn device_json(device: &Device, groups: &[Group]) -> Json {
    if let Some(spec) = device.opcua() {
        return opcua::json(spec, device);
    }
    let requests = |plan: &Plan| -> Vec<Json> {
        let each = plan.iter().map(|(table, start, count)| {
            json!({ "table": table.word(), "start": start, "count": count })
        });
        each.collect()
    };
    let each: Vec<Json> = groups
        .iter()
        .map(|group| {
            json!({
                "every_ms": millis(group.every),
                "tags": group.tags,
                "requests": requests(&group.plan),
                "requests_per_s": group.requests_per_s(),
            })
        })
        .collect();
    json!({
        "name": device.name(),
        "protocol": protocol(device),
        "endpoint": endpoint(device),
        "unit": device.modbus().map(|spec| spec.unit.0),
        "poll_every_ms": millis(device.poll_every()),
        "tags": device.tags.len(),
        "groups": each,
        "requests_per_s": groups.iter().map(Group::requests_per_s).sum::<f64>(),
    })
}

/// What is below subtrees, or why nobody knows; of a device with tags each of them says so.
fn write_found(out: &mut dyn Write, answer: &Answer<'_>) -> io::Result<()> {
    if let Some(why) = answer.why.filter(|_| answer.device.tags.is_empty()) {
        return writeln!(out, "  {}", terminal::tame(why));
    }
    if answer.device.subtrees.is_empty() || answer.why.is_some() {
        return Ok(());
    }
    let (all, good) = (answer.found.len(), answer.found.iter().filter(is_good).count());
    writeln!(out, "  {all} tags found below subtrees, {good} of them good")?;
    for reading in answer.found.iter().filter(|it| !is_good(it)).take(NAMED) {
        if let Some(error) = &reading.error {
            writeln!(out, "  {}", terminal::tame(error))?;
        }
    }
    Ok(())
}

const fn is_good(reading: &&&Reading) -> bool {
    reading.quality.is_good()
}

fn answer_json(answer: &Answer<'_>) -> Json {
    let tags: Vec<Json> = answer
        .device
        .tags
        .iter()
        .zip(&answer.readings)
        .map(|(tag, reading)| {
            let Shown { value, quality, reason, error } = Shown::of(*reading);
            json!({
                "path": tag.path.as_str(),
                "address": tag.address,
                "unit": tag.manner.unit,
                "value": value,
                "quality": quality,
                "reason": reason,
                "error": error,
            })
        })
        .collect();
    let errors: Vec<_> =
        answer.found.iter().filter_map(|it| it.error.as_deref()).take(NAMED).collect();
    json!({
        "device": answer.device.name(),
        "reachable": answer.reachable,
        "error": answer.why,
        "tags": tags,
        "found": {
            "tags": answer.found.len(),
            "good": answer.found.iter().filter(is_good).count(),
            "errors": errors,
        },
    })
}

fn millis(every: std::time::Duration) -> u64 {
    u64::try_from(every.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
