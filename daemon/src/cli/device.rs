//! `tidegate status --device`: one device in detail, and its black box in words.

use std::io::{self, Write};
use std::time::Duration;

use tidegate_modbus::probe::wording;
use tidegate_translator::Timestamp;

use super::status::{since, state_of};
use super::terminal::{Align, Table, Tone, age, tame};
use crate::observe::state::{DeviceFaults, DeviceReport, ExchangeShown, FaultShown};

/// Bytes of hexadecimal on a line.
const PER_LINE: usize = 24;

/// Writes the device, and with `trace` its faults.
pub(super) fn show(
    out: &mut impl Write,
    now: Timestamp,
    device: &DeviceReport,
    faults: &DeviceFaults,
    trace: bool,
    colour: bool,
) -> io::Result<()> {
    let (word, tone) = state_of(device.state);
    let since = age(since(now.as_millis(), device.since.as_millis()));
    let name = Tone::Strong.paint(&tame(&device.name), colour);
    writeln!(out, "{name}  {} for {since}", tone.paint(word, colour))?;
    if let Some(why) = &device.why {
        writeln!(out, "why       {}", tame(why))?;
    }
    let ms = |ms| age(Duration::from_millis(ms));
    let data = device.data_age_ms.map_or_else(|| "never".to_owned(), |a| format!("{} ago", ms(a)));
    writeln!(out, "data      last {data}")?;
    if let Some(heard) = device.heard_age_ms {
        writeln!(out, "driver    heard {} ago", ms(heard))?;
    }
    writeln!(out, "tags      {}", device.tags)?;
    writeln!(out, "restarts  {} of the driver", device.restarts)?;
    let kept = faults.faults.len();
    let dropped = match faults.dropped {
        0 => String::new(),
        n => format!(", {n} older ones no longer"),
    };
    let hint = if trace || kept == 0 { "" } else { " (--trace shows them)" };
    writeln!(out, "faults    {kept} kept{dropped}{hint}")?;
    if !faults.groups.is_empty() {
        writeln!(out)?;
        // What is told only when it changes is good as long as the driver is heard.
        let ever = if device.heard_within_ms.is_some() { "while heard" } else { "ever" };
        groups(faults, ever).write(out, 0, colour)?;
    }
    if !device.missed.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&[("MISSED BECAUSE", Align::Left), ("SAMPLES", Align::Right)]);
        for (cause, missed) in &device.missed {
            let open = if missed.uncounted > 0 { "+" } else { "" };
            let cells = format!("{}{open}", missed.slots);
            table.row([(cause.word().to_owned(), Tone::Plain), (cells, Tone::Caution)]);
        }
        table.write(out, 0, colour)?;
    }
    if trace {
        for fault in &faults.faults {
            writeln!(out)?;
            show_fault(out, fault, colour)?;
        }
    }
    Ok(())
}

fn groups(faults: &DeviceFaults, ever: &str) -> Table {
    let mut table = Table::new(&[
        ("TAGS FRESH FOR", Align::Left),
        ("TAGS", Align::Right),
        ("GOOD", Align::Right),
        ("YOUNGEST", Align::Right),
        ("OLDEST", Align::Right),
    ]);
    let ms = |ms: Option<u64>, none: &str| {
        ms.map_or_else(|| none.to_owned(), |ms| age(Duration::from_millis(ms)))
    };
    for group in &faults.groups {
        let good = if group.good == group.tags { Tone::Good } else { Tone::Caution };
        table.row([
            (ms(group.fresh_for_ms, ever), Tone::Plain),
            (group.tags.to_string(), Tone::Plain),
            (group.good.to_string(), good),
            (ms(group.data_age_ms, "never"), Tone::Plain),
            (ms(group.oldest_ms, "never"), Tone::Plain),
        ]);
    }
    table
}

fn show_fault(out: &mut impl Write, fault: &FaultShown, colour: bool) -> io::Result<()> {
    let what = Tone::Wrong.paint(&tame(&fault.what), colour);
    writeln!(out, "fault {}  {}  {what}", fault.number, clock(fault.at))?;
    for exchange in &fault.exchanges {
        show_exchange(out, exchange, colour)?;
    }
    Ok(())
}

fn show_exchange(out: &mut impl Write, exchange: &ExchangeShown, colour: bool) -> io::Result<()> {
    let at = clock(exchange.at);
    let tone = if exchange.outcome == "answered" { Tone::Plain } else { Tone::Caution };
    let outcome = tone.paint(&tame(&exchange.outcome), colour);
    writeln!(out, "  {at}  {:.1} ms  {outcome}", exchange.took_ms)?;
    writeln!(out, "    → {}", wording::request(&exchange.sent))?;
    hex(out, &exchange.sent, colour)?;
    if exchange.received.is_empty() {
        return writeln!(out, "    ← nothing");
    }
    for piece in wording::answers(&exchange.sent, &exchange.received) {
        writeln!(out, "    ← {}", tame(&piece.text))?;
        hex(out, piece.bytes, colour)?;
    }
    Ok(())
}

fn hex(out: &mut impl Write, bytes: &[u8], colour: bool) -> io::Result<()> {
    for line in bytes.chunks(PER_LINE) {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "      {}", Tone::Faint.paint(&digits.join(" "), colour))?;
    }
    Ok(())
}

/// The wall-clock time in UTC, to the millisecond.
fn clock(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    format!("{time:.3}")
}

/// What `--json` prints: the device and, with `--trace`, the black box, which `tidegate probe
/// replay` reads.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct DeviceTree {
    /// As in `status`.
    pub(super) status: DeviceReport,
    /// The black box; without `--trace` its exchanges are left out.
    #[serde(flatten)]
    pub(super) faults: DeviceFaults,
}

/// How many faults there are, for the line of a device.
pub(super) fn without_exchanges(mut faults: DeviceFaults) -> DeviceFaults {
    faults.faults.iter_mut().for_each(|fault| fault.exchanges.clear());
    faults
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{
        DeviceState, Exchange, FaultReport, LossCause, Missed, Sample, TagId, Value,
    };

    use super::*;
    use crate::observe::state::tests::{board, meta};
    use crate::observe::state::{Alive, DeviceMeta, HealthLimits, TagMeta};

    fn exchange(sent: &[u8], received: &[u8], outcome: &str) -> Exchange {
        Exchange {
            at: Timestamp::from_millis(1_700_000_000_000),
            took: Duration::from_micros(4_250),
            sent: sent.into(),
            received: received.into(),
            outcome: outcome.to_owned(),
        }
    }

    fn faulty() -> crate::observe::state::Board {
        let board = board();
        board.note_samples(&[Sample::good(TagId(1), Timestamp(0), Value::I64(1))]);
        board.note_device("press-1", DeviceState::Degraded, Some("2 tags refused".into()));
        board.note_missed(&Missed {
            device: "press-1".into(),
            tag: None,
            cause: LossCause::DeviceSilent,
            from: Timestamp(0),
            to: Timestamp(1),
            count: Some(12),
        });
        let read = [0, 42, 0, 0, 0, 6, 3, 3, 0, 100, 0, 10];
        let refusal = [0, 42, 0, 0, 0, 3, 3, 0x83, 2];
        board.note_fault(
            "press-1",
            FaultReport {
                number: 4,
                at: Timestamp::from_millis(1_700_000_000_005),
                what: "exception 2 (illegal data address)".into(),
                exchanges: vec![
                    exchange(&read, &[], "unit 3 silent for 1s"),
                    exchange(&read, &refusal, "exception 2 (illegal data address)"),
                ],
            },
        );
        board
    }

    fn shown(trace: bool) -> String {
        let board = faulty();
        let report = board.report(&HealthLimits::default());
        let faults = board.faults("press-1").unwrap();
        let mut out = Vec::new();
        show(&mut out, report.now, &report.devices[0], &faults, trace, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_is_shown_with_what_it_missed_and_how_old_its_data_are() {
        assert_eq!(
            shown(false),
            "\
press-1  degraded for 0.0 s
why       2 tags refused
data      last 0.0 s ago
tags      2
restarts  0 of the driver
faults    1 kept (--trace shows them)

TAGS FRESH FOR  TAGS  GOOD  YOUNGEST  OLDEST
3.0 s              2     1     0.0 s   0.0 s

MISSED BECAUSE  SAMPLES
device-silent        12
"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_device_that_tells_only_changes_it_is_shown_when_its_driver_was_heard() {
        let board = board();
        let alive = Alive::ByDriver(Duration::from_secs(15));
        let tag = TagMeta { fresh_for: None, ..meta(1, "A/t", "press-1") };
        board.configure([DeviceMeta { name: "press-1".into(), alive }], [tag]);
        board.note_samples(&[Sample::good(TagId(1), Timestamp(0), Value::I64(1))]);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let why = "user \"gw\" is refused";
        board.note_device("press-1", DeviceState::ConfigurationError, Some(why.into()));
        tokio::time::advance(Duration::from_secs(2)).await;
        let report = board.report(&HealthLimits::default());
        let faults = board.faults("press-1").unwrap();
        let mut out = Vec::new();
        show(&mut out, report.now, &report.devices[0], &faults, false, false).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
press-1  configuration error for 0.0 s
why       user \"gw\" is refused
data      last 1 h 0 min ago
driver    heard 2.0 s ago
tags      1
restarts  0 of the driver
faults    0 kept

TAGS FRESH FOR  TAGS  GOOD   YOUNGEST     OLDEST
while heard        1     1  1 h 0 min  1 h 0 min
"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_tells_each_exchange_in_hex_and_in_words() {
        let screen = shown(true);
        let trace = screen.split_once("\nfault 4").map(|(_, trace)| trace).unwrap();
        assert_eq!(
            trace,
            "  2023-11-14T22:13:20.005Z  exception 2 (illegal data address)
  2023-11-14T22:13:20.000Z  4.2 ms  unit 3 silent for 1s
    → read 10 holding registers from 100 of unit 3
      00 2a 00 00 00 06 03 03 00 64 00 0a
    ← nothing
  2023-11-14T22:13:20.000Z  4.2 ms  exception 2 (illegal data address)
    → read 10 holding registers from 100 of unit 3
      00 2a 00 00 00 06 03 03 00 64 00 0a
    ← exception 2 (illegal data address) from unit 3
      00 2a 00 00 00 03 03 83 02
"
        );
    }
}
