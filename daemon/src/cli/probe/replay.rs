//! `tidegate probe replay`: what a black box holds once more through the product's own judgement
//! and decoder, without the device.

use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use tidegate_modbus::probe::wording;
use tidegate_modbus::{
    Decoded, DeviceSpec, Framing, Given, Question, Replayed, TagSpec, decode_bit, decode_registers,
    replay,
};

use super::show::shown;
use crate::cli::exit::{self, Failure};
use crate::cli::status::{misconfigured, printed};
use crate::cli::terminal::{self, Align, Table, Tone, tame};
use crate::config::{self, DEFAULT_FILE};
use crate::observe::state::{DeviceFaults, ExchangeShown, FaultShown};

/// The largest file that is read: a black box is 64 KiB of bytes, each two digits, and its words.
const MAX_FILE: u64 = 4 << 20;

/// Judge and decode again what a device's black box holds, without the device.
#[derive(Debug, Clone, clap::Args)]
pub struct ReplayArgs {
    /// What `tidegate status --device NAME --trace --json` printed; "-" is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration with the device and its tags
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// The device; the one that the file names when left out
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Print one JSON object per exchange and line
    #[arg(long)]
    json: bool,
}

/// Runs it: 0 done, 1 the file holds no exchange, 2 the file is none of this kind or the device is
/// not configured, 64 the configuration is wrong.
#[must_use]
pub(super) fn again(args: &ReplayArgs) -> ExitCode {
    let config = match config::load(&args.config, std::env::vars_os(), &[]) {
        Ok(config) => config,
        Err(error) => return misconfigured(&error),
    };
    let replayed = read(&args.file).and_then(|kept| {
        let name = args.device.as_ref().unwrap_or(&kept.device);
        let found = config.devices.iter().find(|device| device.name() == name);
        let Some(device) = found else {
            let why =
                format!("no device {name:?} in {}; name it with --device", args.config.display());
            return Err(Failure::new(exit::USAGE, why));
        };
        let Some(spec) = device.modbus() else {
            let why = format!("device {name:?} is no Modbus device; name one with --device");
            return Err(Failure::new(exit::USAGE, why));
        };
        exit::block_on(every(spec, kept.faults))
    });
    let faults = match replayed {
        Ok(faults) => faults,
        Err(failure) => return failure.told(),
    };
    if faults.iter().all(|(_, exchanges)| exchanges.is_empty()) {
        let why = format!("{} holds no exchange; was --trace given?", args.file.display());
        return Failure::new(exit::NO, why).told();
    }
    let stdout = io::stdout();
    let colour = terminal::colour(stdout.is_terminal());
    let mut out = stdout.lock();
    let mut written = Ok(());
    for (fault, exchanges) in &faults {
        written = written.and_then(|()| {
            if args.json {
                return exchanges.iter().try_for_each(|it| writeln!(out, "{}", it.tree(fault)));
            }
            writeln!(
                out,
                "fault {}  {}",
                fault.number,
                Tone::Wrong.paint(&tame(&fault.what), colour)
            )?;
            exchanges.iter().try_for_each(|it| it.show(&mut out, colour))?;
            writeln!(out)
        });
    }
    printed(written)
}

fn read(file: &Path) -> Result<DeviceFaults, Failure> {
    let shown = file.display();
    let unreadable =
        |error: io::Error| Failure::new(exit::USAGE, format!("{shown} cannot be read: {error}"));
    let mut text = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(MAX_FILE).read_to_end(&mut text).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(file).map_err(unreadable)?;
        file.take(MAX_FILE).read_to_end(&mut text).map_err(unreadable)?;
    }
    serde_json::from_slice(&text).map_err(|error| {
        let why = format!(
            "{shown} is not what tidegate status --device NAME --trace --json prints: {error}"
        );
        Failure::new(exit::USAGE, why)
    })
}

/// One exchange, judged again.
struct Again {
    exchange: ExchangeShown,
    judged: Result<Replayed, String>,
    /// What the tags of the block would read.
    tags: Vec<(String, Decoded)>,
    /// The unit of the exchange is another device's.
    foreign: bool,
}

async fn every(
    spec: &DeviceSpec,
    faults: Vec<FaultShown>,
) -> Result<Vec<(FaultShown, Vec<Again>)>, Failure> {
    let framing = Framing::of(&spec.link.transport);
    let mut all = Vec::new();
    for mut fault in faults {
        let mut exchanges = Vec::new();
        for exchange in std::mem::take(&mut fault.exchanges) {
            let judged = replay(framing, &exchange.sent, &exchange.received).await;
            let foreign = judged.as_ref().is_ok_and(|replayed| replayed.unit != spec.unit);
            let tags = match &judged {
                Ok(replayed) if !foreign => values(&spec.tags, replayed),
                _ => Vec::new(),
            };
            exchanges.push(Again { exchange, judged, tags, foreign });
        }
        all.push((fault, exchanges));
    }
    Ok(all)
}

/// What each tag that lies in the block reads.
fn values(tags: &[TagSpec], replayed: &Replayed) -> Vec<(String, Decoded)> {
    let (Question::Read { table, start, .. }, Ok(given)) = (replayed.question, &replayed.outcome)
    else {
        return Vec::new();
    };
    let read = |tag: &TagSpec| {
        let first = usize::from(tag.address.offset.checked_sub(start)?);
        match given {
            Given::Bits(bits) => bits.get(first).map(|bit| decode_bit(tag, *bit)),
            Given::Registers(registers) => {
                let words = usize::from(tag.kind.registers());
                decode_registers(tag, registers.get(first..first + words)?)
            }
            Given::Objects(_) => None,
        }
    };
    let in_table = tags.iter().filter(|tag| tag.address.table == table);
    in_table.filter_map(|tag| Some((tag.path.to_string(), read(tag)?))).collect()
}

impl Again {
    fn show(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        writeln!(out, "  → {}", wording::request(&self.exchange.sent))?;
        if self.exchange.outcome != "answered" {
            writeln!(out, "    then: {}", tame(&self.exchange.outcome))?;
        }
        match &self.judged {
            Err(why) => writeln!(out, "    {}", Tone::Caution.paint(&tame(why), colour))?,
            Ok(Replayed { outcome: Err(why), .. }) => {
                let why = format!("no value: {}", tame(why));
                writeln!(out, "    {}", Tone::Caution.paint(&why, colour))?;
                for piece in wording::answers(&self.exchange.sent, &self.exchange.received) {
                    writeln!(out, "    ← {}", tame(&piece.text))?;
                }
            }
            Ok(Replayed { outcome: Ok(Given::Objects(objects)), .. }) => {
                writeln!(out, "    {} of the identification", objects.len())?;
            }
            Ok(_) if self.foreign => writeln!(out, "    answered, by another device's unit")?,
            Ok(_) if self.tags.is_empty() => writeln!(out, "    answered; no tag lies in it")?,
            Ok(_) => {}
        }
        if self.tags.is_empty() {
            return Ok(());
        }
        let mut table =
            Table::new(&[("TAG", Align::Left), ("VALUE", Align::Right), ("QUALITY", Align::Left)]);
        for (path, decoded) in &self.tags {
            let why = decoded.quality.reason().map(tidegate_translator::Reason::word);
            table.row([
                (path.clone(), Tone::Plain),
                (shown(&decoded.value), Tone::Strong),
                terminal::quality(decoded.quality.word(), why),
            ]);
        }
        table.write(out, 4, colour)
    }

    fn tree(&self, fault: &FaultShown) -> serde_json::Value {
        let tag = |(path, decoded): &(String, Decoded)| {
            let (value, _) = tidegate_record::json::value_tree(&decoded.value);
            let why = decoded.quality.reason().map(tidegate_translator::Reason::word);
            json!({ "path": path, "v": value, "q": decoded.quality.word(), "why": why })
        };
        let no_value = match &self.judged {
            Err(why) | Ok(Replayed { outcome: Err(why), .. }) => Some(why),
            Ok(_) => None,
        };
        json!({
            "fault": fault.number,
            "request": wording::request(&self.exchange.sent),
            "outcome_then": self.exchange.outcome,
            "no_value": no_value,
            "tags": self.tags.iter().map(tag).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_translator::Timestamp;

    use super::*;

    fn spec() -> DeviceSpec {
        let text = "[gateway]\nplant = \"P\"\nname = \"g\"\n\n[[device]]\nname = \"press\"\n\
            protocol = \"modbus-tcp\"\naddress = \"plc\"\nunit = 3\n\n\
            [[device.tag]]\npath = \"t\"\naddress = \"holding:100\"\ntype = \"float32\"\n\n\
            [[device.tag]]\npath = \"on\"\naddress = \"holding:102.1\"\ntype = \"bool\"\n";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, text).unwrap();
        let config = config::load(&file, [], &[]).unwrap_or_else(|error| panic!("{error}"));
        (**config.devices[0].modbus().unwrap()).clone()
    }

    fn exchange(received: &[u8]) -> ExchangeShown {
        let sent = [0, 42, 0, 0, 0, 6, 3, 3, 0, 100, 0, 3];
        ExchangeShown {
            at: Timestamp(0),
            took_ms: 1.0,
            sent: sent.into(),
            received: received.into(),
            outcome: "answered".into(),
        }
    }

    async fn screen(received: &[u8]) -> String {
        let exchanges = vec![exchange(received)];
        let fault = FaultShown { number: 0, at: Timestamp(0), what: "x".into(), exchanges };
        let all = every(&spec(), vec![fault]).await.unwrap_or_default();
        let mut out = Vec::new();
        all[0].1[0].show(&mut out, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_shows_what_its_tags_read() {
        let screen = screen(&[0, 42, 0, 0, 0, 9, 3, 3, 6, 0x42, 0x90, 0x99, 0x9A, 0, 2]).await;
        assert_eq!(
            screen,
            "  → read 3 holding registers from 100 of unit 3
    TAG         VALUE  QUALITY
    P/press/t    72.3  good
    P/press/on   true  good
"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_thrown_away_says_why_and_gives_no_value() {
        let late = screen(&[0, 41, 0, 0, 0, 5, 3, 3, 2, 0, 7]).await;
        assert!(
            late.contains("no value: answer thrown away") && late.contains("transaction 41"),
            "{late}"
        );
        assert!(!late.contains("VALUE"), "{late}");
        let refused = screen(&[0, 42, 0, 0, 0, 3, 3, 0x83, 2]).await;
        assert!(refused.contains("exception 2 (illegal data address)"), "{refused}");
        let silent = screen(&[]).await;
        assert!(silent.contains("no whole answer"), "{silent}");
    }
}
