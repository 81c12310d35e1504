//! A tag list of 100,000 rows, read and checked with its configuration as `check`, `run` and
//! `tags import --dry-run` do it.

use std::fmt::Write as _;
use std::time::Instant;

use tidegate::config::{self, LoadError};

use crate::Failure;
use crate::figures::{Figures, Table, figure, progress};

const ROWS: u32 = 100_000;
const CONFIG: &str = "[gateway]\nplant = \"P\"\nname = \"gw\"\n[[device]]\nname = \"plc\"\n\
    protocol = \"modbus-tcp\"\naddress = \"192.0.2.10\"\ntag-list = \"list.csv\"\n";

pub(crate) fn measure(figures: &mut Figures, rounds: usize) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("tidegate.toml");
    std::fs::write(&file, CONFIG)?;
    let columns = ["list", "rows", "kB", "mistakes", "seconds"];
    let mut table = Table::new(format!("Checking a tag list, median of {rounds} rounds"), &columns);
    for (name, kind) in [("legal", "uint16"), ("every row wrong", "uint61")] {
        progress(&format!("a tag list, {name}"));
        let list = list(kind)?;
        std::fs::write(directory.path().join("list.csv"), &list)?;
        let mut seconds = Vec::new();
        let mut mistakes = 0;
        for _ in 0..rounds {
            let since = Instant::now();
            let loaded = config::load(&file, Vec::new(), &[]);
            seconds.push(since.elapsed().as_secs_f64());
            mistakes = match loaded {
                Ok(_) => 0,
                Err(LoadError::Mistakes(all)) => all.count(),
                Err(error) => return Err(error.into()),
            };
        }
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        table.row([
            name.to_owned(),
            ROWS.to_string(),
            (list.len() / 1000).to_string(),
            mistakes.to_string(),
            figure(middle),
        ]);
    }
    figures.add(table);
    Ok(())
}

/// Each row with a path, an address, a type, a unit and a comment.
fn list(kind: &str) -> Result<String, Failure> {
    let mut text = "path,address,type,unit,comment\n".to_owned();
    for row in 0..ROWS {
        let (table, at) = (if row % 2 == 0 { "holding" } else { "input" }, row / 2);
        writeln!(text, "line/{row}/temperature,{table}:{at},{kind},degC,sensor {row}")?;
    }
    Ok(text)
}
