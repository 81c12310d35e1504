//! What was found, for a person.

use std::io::{self, Write};
use std::time::Duration;

use tidegate_modbus::probe::{
    Bound, End, Evidence, Findings, Identity, Largest, Merged, Run, TableFindings, Times,
    UnitFindings,
};
use tidegate_modbus::{Transport, UnitId, exception_word};

use super::section::identity;
use super::target::{protocol, way};
use crate::cli::terminal::{Align, Table, Tone, count, tame};

/// Runs shown in a table's line.
const SHOWN_RUNS: usize = 6;

/// Writes it.
pub(super) fn show(
    out: &mut impl Write,
    transport: &Transport,
    findings: &Findings,
    colour: bool,
) -> io::Result<()> {
    let strong = |text: &str| Tone::Strong.paint(text, colour);
    let requests = count(findings.requests.into(), "request");
    let head = strong(&tame(&way(transport)));
    writeln!(out, "{head}  {}, {requests}", protocol(transport))?;
    if findings.any_unit {
        writeln!(out, "It answers every unit number alike, so only one is looked at.")?;
    }
    if !findings.silent.is_empty() {
        writeln!(out, "No answer from {}.", units(&findings.silent))?;
    }
    for unit in &findings.units {
        writeln!(out)?;
        show_unit(out, unit, colour)?;
    }
    Ok(())
}

fn show_unit(out: &mut impl Write, unit: &UnitFindings, colour: bool) -> io::Result<()> {
    let number = Tone::Strong.paint(&format!("unit {}", unit.unit.0), colour);
    let evidence = match unit.evidence {
        Evidence::Value => "answers with a value".to_owned(),
        Evidence::Exception(code) => {
            format!("answers with exception {code} ({})", exception_word(code))
        }
    };
    writeln!(out, "{number}  {evidence}")?;
    writeln!(out, "identification  {}", identification(unit))?;
    if unit.tables.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&[
        ("TABLE", Align::Left),
        ("READABLE", Align::Left),
        ("CELLS", Align::Right),
        ("LARGEST BLOCK", Align::Left),
        ("OVER A HOLE", Align::Left),
        ("NOT KNOWN", Align::Left),
    ]);
    for found in &unit.tables {
        let cells: u32 = found.readable.iter().map(|run| run.len()).sum();
        let merged = match found.merged {
            Merged::Untried => ("–".to_owned(), Tone::Faint),
            Merged::Answered => ("answered".to_owned(), Tone::Plain),
            Merged::Refused(code) => (format!("exception {code}"), Tone::Caution),
            Merged::Silent => ("no answer".to_owned(), Tone::Caution),
        };
        table.row([
            (found.table.word().to_owned(), Tone::Plain),
            readable(found),
            (cells.to_string(), Tone::Plain),
            (found.largest.map_or_else(|| "–".to_owned(), largest), Tone::Plain),
            merged,
            unknown(found),
        ]);
    }
    table.write(out, 2, colour)?;
    let mut times = Table::new(&[
        ("RESPONSE TIME", Align::Left),
        ("MIN", Align::Right),
        ("MEDIAN", Align::Right),
        ("MAX", Align::Right),
    ]);
    let mut measured = false;
    for found in &unit.tables {
        let block = found.largest.map_or(0, |largest| largest.cells);
        // A block of one was measured already.
        let block = (block > 1).then_some((block, found.block));
        for (cells, taken) in [(1, found.one)].into_iter().chain(block) {
            let Some(Times { min, median, max, .. }) = taken else { continue };
            measured = true;
            let what = format!("{}, {}", found.table.word(), of_cells(cells, found));
            let time = |time| (millis(time), Tone::Plain);
            times.row([(what, Tone::Plain), time(min), time(median), time(max)]);
        }
    }
    if measured {
        writeln!(out)?;
        times.write(out, 2, colour)?;
    }
    Ok(())
}

fn of_cells(cells: u16, found: &TableFindings) -> String {
    count(cells.into(), if found.table.holds_bits() { "bit" } else { "register" })
}

fn identification(unit: &UnitFindings) -> String {
    match &unit.identity {
        None => "not asked".to_owned(),
        Some(Identity::Objects(objects)) if objects.is_empty() => "empty".to_owned(),
        Some(Identity::Objects(_)) => identity(unit).unwrap_or_default(),
        Some(Identity::NotSupported) => "not supported (function 43/14)".to_owned(),
        Some(Identity::Refused(code)) => {
            format!("refused with exception {code} ({})", exception_word(*code))
        }
        Some(Identity::NoAnswer(why)) => format!("no answer: {}", tame(why)),
    }
}

fn readable(found: &TableFindings) -> (String, Tone) {
    if found.readable.is_empty() {
        return match found.end {
            Some(End::NoTable) => ("no such table".to_owned(), Tone::Faint),
            Some(End::Complete) => ("nothing".to_owned(), Tone::Faint),
            _ => ("nothing yet".to_owned(), Tone::Faint),
        };
    }
    (runs(&found.readable), Tone::Good)
}

fn unknown(found: &TableFindings) -> (String, Tone) {
    let why = match found.end {
        Some(End::Complete | End::NoTable) => return (String::new(), Tone::Faint),
        None => "interrupted",
        Some(End::Budget) => "see --max-requests",
        Some(End::Busy) => "the unit is busy",
        Some(End::Silent(asked)) => {
            let asked = runs(&[asked]);
            return (format!("fell silent at {asked}"), Tone::Wrong);
        }
    };
    let longest = found.unknown.iter().map(|run| run.len()).max().unwrap_or(0);
    let what = if found.unknown.len() <= SHOWN_RUNS {
        runs(&found.unknown)
    } else {
        let cells: u32 = found.unknown.iter().map(|run| run.len()).sum();
        format!("{cells} addresses, at most {longest} in a row")
    };
    (format!("{what} ({why})"), Tone::Caution)
}

pub(super) fn largest(largest: Largest) -> String {
    let at_least = if largest.exact { "" } else { "at least " };
    let cells = largest.cells;
    match largest.bound {
        Bound::Protocol => format!("{cells}, all that Modbus allows"),
        Bound::Run => format!("{at_least}{cells}"),
        Bound::Refused(code) => format!("{at_least}{cells}, more: exception {code}"),
        Bound::Silence => format!("{at_least}{cells}, more: no answer"),
    }
}

fn runs(runs: &[Run]) -> String {
    let shown = runs.iter().take(SHOWN_RUNS).map(|run| {
        if run.first == run.last {
            run.first.to_string()
        } else {
            format!("{}-{}", run.first, run.last)
        }
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if runs.len() > SHOWN_RUNS {
        text += &format!(" and {} more", runs.len() - SHOWN_RUNS);
    }
    text
}

/// Unit numbers, those in a row as a range.
pub(super) fn units(units: &[UnitId]) -> String {
    let mut spans: Vec<(u8, u8)> = Vec::new();
    for unit in units {
        match spans.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(unit.0) => *last = unit.0,
            _ => spans.push((unit.0, unit.0)),
        }
    }
    let words =
        spans.iter().map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        );
    let word = if units.len() == 1 { "unit" } else { "units" };
    format!("{word} {}", words.collect::<Vec<_>>().join(", "))
}

/// Milliseconds as precise as they are worth.
pub(super) fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use tidegate_modbus::Endpoint;

    use super::*;
    use crate::cli::probe::section::tests::findings;

    fn shown(findings: &Findings) -> String {
        let mut out = Vec::new();
        let endpoint = Endpoint { host: "192.0.2.7".into(), port: 502 };
        show(&mut out, &Transport::Tcp(endpoint), findings, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_screen_tells_what_a_person_asks_for() {
        assert_eq!(
            shown(&findings()),
            "\
192.0.2.7:502  modbus-tcp, 260 requests
No answer from unit 1.

unit 3  answers with a value
identification  vendor Lab \"x\"\\n[[device]], product code PM-1

  TABLE    READABLE       CELLS  LARGEST BLOCK           OVER A HOLE  NOT KNOWN
  holding  10-39, 50-199    180  64, more: exception 3   exception 2
  coil     0-2                3  256, more: exception 3  exception 2

  RESPONSE TIME             MIN  MEDIAN     MAX
  holding, 1 register    4.0 ms  5.0 ms  6.0 ms
  holding, 64 registers   11 ms   12 ms   13 ms
  coil, 1 bit            4.0 ms  5.0 ms  6.0 ms
  coil, 256 bits          11 ms   12 ms   13 ms
"
        );
    }

    #[test]
    fn what_is_not_known_is_said_and_why() {
        let mut found = findings();
        let table = &mut found.units[0].tables[0];
        table.unknown = vec![Run { first: 200, last: 999 }];
        for (end, words) in [
            (Some(End::Budget), "200-999 (see --max-requests)"),
            (None, "200-999 (interrupted)"),
            (Some(End::Silent(Run { first: 200, last: 299 })), "fell silent at 200-299"),
        ] {
            found.units[0].tables[0].end = end;
            let screen = shown(&found);
            assert!(screen.contains(words), "{screen}");
        }
    }

    #[test]
    fn many_gaps_are_told_by_their_length() {
        let mut found = findings();
        let table = &mut found.units[0].tables[0];
        table.end = Some(End::Budget);
        table.unknown = (0..20).map(|n| Run { first: 200 + n * 4, last: 201 + n * 4 }).collect();
        let screen = shown(&found);
        assert!(
            screen.contains("40 addresses, at most 2 in a row (see --max-requests)"),
            "{screen}"
        );
    }

    #[test]
    fn unit_numbers_in_a_row_are_a_range() {
        let units =
            |numbers: &[u8]| units(&numbers.iter().copied().map(UnitId).collect::<Vec<_>>());
        assert_eq!(units(&[255, 0, 2, 3, 4]), "units 255, 0, 2-4");
        assert_eq!(units(&[254, 255]), "units 254-255");
    }
}
