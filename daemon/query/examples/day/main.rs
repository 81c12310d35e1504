//! Makes a day of record and asks it, for the benchmark of questions.
//!
//! - `day frames` reads frames from memory.
//! - `day make DIR TAGS SECONDS` makes a journal in an empty directory; it ends now.
//! - `day ask DIR TAGS` asks what was made.
//! - `day print TAGS SECONDS` prints the same samples for a peer.
//!
//! All but the last answer with a JSON object on each line.
#![expect(clippy::print_stdout, reason = "lines of JSON are what it answers")]

mod ask;
mod frames;
mod make;
#[path = "../../../examples/bench_pipeline/signals.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod signals;

use std::path::Path;
use std::time::Duration;

use make::Day;

use rustix::time::{ClockId, clock_gettime};

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rows = match arguments.as_slice() {
        ["frames"] => frames::rows()?,
        ["make", place, tags, seconds] => {
            make::make(Path::new(place), &Day::ending_now(tags, seconds)?)?
        }
        ["ask", place, tags] => ask::rows(Path::new(place), tags)?,
        ["print", tags, seconds] => {
            make::print(&Day::ending_now(tags, seconds)?)?;
            Vec::new()
        }
        _ => {
            return Err(
                "day frames | make DIR TAGS SECONDS | ask DIR TAGS | print TAGS SECONDS".into()
            );
        }
    };
    for row in rows {
        println!("{row}");
    }
    Ok(())
}
