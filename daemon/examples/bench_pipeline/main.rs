//! What a sample costs, from the driver's hand to the disk: bytes, time and processor, beside JSON
//! and postcard in the same run.
//!
//! `cargo xtask bench pipeline`, or
//! `cargo run --release -p tidegate --example bench_pipeline -- [--json]`
#![expect(clippy::print_stdout, reason = "a table for people is what this program is for")]
#![expect(clippy::print_stderr, reason = "what was left out is said beside the tables")]
#![expect(clippy::cast_precision_loss, reason = "ratios for people")]

mod codec;
mod live;
mod recorder;
mod signals;

use serde_json::json;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let codec = codec::rows()?;
    let recorder = recorder::rows()?;
    if as_json {
        println!("{}", json!({"bench": "pipeline", "codec": codec, "recorder": recorder}));
        return Ok(());
    }
    codec::print(&codec);
    recorder::print(&recorder);
    Ok(())
}
