//! The command on whole files, its output compared literally.

use std::path::Path;

use tidegate_translator::{TagId, Value};

use super::*;

/// Compares with a file literally; with `TIDEGATE_BLESS` set, writes it instead.
fn assert_snapshot(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/check").join(name);
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == found, "{name} differs; found:\n{found}");
}

/// One request for each table of a device: as good as any plan for the output.
fn plan(spec: &DeviceSpec) -> Plan {
    let mut out = Plan::new();
    for tag in spec.tags.iter() {
        let (table, offset) = (tag.address.table, tag.address.offset);
        match out.iter_mut().find(|(other, ..)| *other == table) {
            None => out.push((table, offset, 1)),
            Some((_, start, count)) => {
                let end = (*start + *count).max(offset + 1);
                *start = offset.min(*start);
                *count = end - *start;
            }
        }
    }
    out
}

struct Outcome {
    code: u8,
    out: String,
    err: String,
}

fn outcome(file: &Path, json: bool, read: Option<&mut dyn FnMut(&Config) -> Readings>) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let connect = read.is_some();
    let mut none = |_: &Config| -> Readings { panic!("read without --connect") };
    let args = CheckArgs { file: file.to_owned(), json, connect, set: SetArgs::default() };
    let with = Surroundings {
        environment: Vec::new(),
        plan: &plan,
        read: match read {
            Some(read) => read,
            None => &mut none,
        },
        colour: false,
        out: &mut out,
        err: &mut err,
    };
    let code = run(&args, with).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code, out: text(out), err: text(err) }
}

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples").join(name)
}

/// Paths differ from machine to machine.
fn portable(text: &str) -> String {
    let examples = example("").display().to_string();
    text.replace(examples.trim_end_matches('/'), "EXAMPLES")
}

#[test]
fn a_legal_file_shows_what_would_be_polled_and_what_it_costs() {
    let found = outcome(&example("line.toml"), false, None);
    assert_eq!(found.code, 0, "{}", found.err);
    assert_snapshot("line.txt", &portable(&found.out));
    assert!(found.err.contains("warning: hub.tls.key: there is no file"), "{}", found.err);
    let found = outcome(&example("line.toml"), true, None);
    assert_snapshot("line.json", &portable(&found.out));
    assert_eq!(found.err, "");
}

#[test]
fn transports_intervals_and_lines_are_shown() {
    let found = outcome(&example("modbus.toml"), false, None);
    assert_eq!(found.code, 0, "{}", found.err);
    assert_snapshot("modbus.txt", &portable(&found.out));
    assert!(found.err.contains("warning: chiller: tls.ca: there is no file"), "{}", found.err);
    assert!(!found.err.contains("% of the line"), "{}", found.err);
    let found = outcome(&example("modbus.toml"), true, None);
    assert_snapshot("modbus.json", &portable(&found.out));
}

#[test]
fn servers_are_shown_with_what_is_known_of_them() {
    let found = outcome(&example("opcua.toml"), false, None);
    assert_eq!(found.code, 0, "{}", found.err);
    assert_snapshot("opcua.txt", &portable(&found.out));
    assert_snapshot("opcua.err", &portable(&found.err));
    let found = outcome(&example("opcua.toml"), true, None);
    assert_snapshot("opcua.json", &portable(&found.out));
}

#[test]
fn a_server_of_subtrees_alone_is_reachable_when_it_is_among_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    let text = "[gateway]\nplant = \"P\"\nname = \"g\"\n[[device]]\nname = \"d\"\n\
                protocol = \"opcua\"\naddress = \"opc.tcp://h\"\n[[device.tag]]\npath = \"a\"\n\
                address = \"/Objects\"\nsubtree = true\n";
    std::fs::write(&file, text).unwrap();
    let found = outcome(&file, false, Some(&mut |_: &Config| vec![("d".to_owned(), Vec::new())]));
    assert_eq!(found.code, 0, "{}", found.out);
    let end = "\nd at opc.tcp://h:4840, answered; 1 subtree and no single tag.\n  \
               0 tags found below subtrees, 0 of them good\n";
    assert!(found.out.ends_with(end), "{}", found.out);
    let below = |id, quality, error: Option<&str>| Reading {
        error: error.map(str::to_owned),
        ..reading(id, Value::U64(1), quality)
    };
    let bad = Quality::Bad(Reason::Configuration);
    let readings =
        vec![below(0, Quality::Good, None), below(1, bad, Some("P/d/a/b: BadNodeIdUnknown"))];
    let mut read = |_: &Config| vec![("d".to_owned(), readings.clone())];
    let found = outcome(&file, false, Some(&mut read));
    let end = "  2 tags found below subtrees, 1 of them good\n  P/d/a/b: BadNodeIdUnknown\n";
    assert!(found.out.ends_with(end), "{}", found.out);
    let found = outcome(&file, true, Some(&mut read));
    let json: Json = serde_json::from_str(&found.out).unwrap();
    assert_eq!(json["answers"][0]["found"]["good"], 1, "{json}");
    let refused = Quality::Bad(Reason::NotConnected);
    let whole = below(WHOLE.0, refused, Some("no connection: connection refused"));
    let mut read = |_: &Config| vec![("d".to_owned(), vec![whole.clone()])];
    let found = outcome(&file, false, Some(&mut read));
    assert_eq!(found.code, 69, "{}", found.out);
    assert!(found.out.ends_with("\n  no connection: connection refused\n"), "{}", found.out);
    let found = outcome(&file, false, Some(&mut |_: &Config| Vec::new()));
    assert_eq!(found.code, 69, "{}", found.out);
    assert!(found.out.contains("buffer           not known\n"), "{}", found.out);
}

#[test]
fn a_serial_line_that_is_too_busy_is_warned_of_and_legal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    let text = "[gateway]\nplant = \"P\"\nname = \"g\"\n[[device]]\nname = \"d\"\n\
                protocol = \"modbus-rtu\"\naddress = \"/dev/ttyS1\"\nbaud-rate = 1200\n\
                poll-every-ms = 100\n[[device.tag]]\npath = \"a\"\naddress = \"holding:0\"\n";
    std::fs::write(&file, text).unwrap();
    let found = outcome(&file, false, None);
    assert_eq!(found.code, 0, "{}", found.err);
    assert!(
        found.err.starts_with("warning: /dev/ttyS1: the polls take about 202 % of the line"),
        "{}",
        found.err
    );
    assert!(found.out.contains("/dev/ttyS1: 1200 baud 8E1, 1 unit, polls take 202 % of the line"));
}

#[test]
fn a_file_with_mistakes_ends_with_64_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, "[gateway]\nplant = 1\n").unwrap();
    let found = outcome(&file, false, None);
    assert_eq!((found.code, found.out.as_str()), (64, ""));
    assert!(
        found.err.contains("gateway.plant") && found.err.ends_with("x.toml\n"),
        "{}",
        found.err
    );
    let found = outcome(&file, true, None);
    let json: Json = serde_json::from_str(&found.out).unwrap();
    assert_eq!((found.code, &json["ok"]), (64, &Json::Bool(false)));
    assert_eq!(json["mistakes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_file_that_is_not_there_ends_with_64_and_its_cause() {
    let found = outcome(Path::new("/nowhere/x.toml"), false, None);
    assert_eq!(found.code, 64);
    assert!(found.err.contains("/nowhere/x.toml cannot be read: No such file"), "{}", found.err);
    let found = outcome(Path::new("/nowhere/x.toml"), true, None);
    assert!(found.out.contains("\"ok\": false"), "{}", found.out);
}

fn reading(tag: u32, value: Value, quality: Quality) -> Reading {
    let error = quality.reason().map(|reason| format!("because {}", reason.word()));
    Reading { tag: TagId(tag), value, quality, error }
}

#[test]
fn readings_are_shown_with_value_unit_quality_and_error() {
    let mut read = |config: &Config| -> Readings {
        let press = vec![
            // Not in the order of the tags: they are told apart by their number.
            reading(1, Value::F64(1.25), Quality::Good),
            reading(0, Value::F32(21.5), Quality::Good),
            reading(2, Value::None, Quality::Bad(Reason::Refused)),
            reading(3, Value::Bool(true), Quality::Uncertain(Reason::Stale)),
        ];
        vec![(config.devices[0].name().to_owned(), press)]
    };
    let found = outcome(&example("line.toml"), false, Some(&mut read));
    assert_eq!(found.code, 69, "the second device is missing");
    let answers = found.out.split("/metrics").last().unwrap();
    assert_snapshot("readings.txt", answers.split("in 8 GiB\n").nth(1).unwrap());
}

#[test]
fn the_exit_code_tells_silence_from_refusal() {
    let all = |quality: Quality| {
        move |config: &Config| -> Readings {
            let device = &config.devices[0];
            let tags = (0_u32..).zip(device.tags.iter());
            let list = tags.map(|(id, _)| reading(id, Value::U64(1), Quality::Good));
            let mut list: Vec<_> = list.collect();
            list[0].quality = quality;
            vec![(device.name().to_owned(), list)]
        }
    };
    let file = example("minimal.toml");
    let code = |quality| outcome(&file, true, Some(&mut all(quality))).code;
    assert_eq!(code(Quality::Good), 0);
    assert_eq!(code(Quality::Uncertain(Reason::Stale)), 0);
    assert_eq!(code(Quality::Bad(Reason::Refused)), 1);
    // The only tag: what is silent as a whole is unreachable.
    assert_eq!(code(Quality::Bad(Reason::Timeout)), 69);
    assert_eq!(code(Quality::Bad(Reason::NotConnected)), 69);
    let file = example("laptop.toml");
    let code = outcome(&file, true, Some(&mut all(Quality::Bad(Reason::Timeout)))).code;
    assert_eq!(code, 1, "one of two tags is silent: the device is there");
}

#[test]
fn the_arguments_of_check_and_init_are_what_the_texts_say() {
    use clap::{Args, Command, FromArgMatches as _};

    let check = CheckArgs::augment_args(Command::new("check"));
    let found = check.clone().get_matches_from([
        "check",
        "x.toml",
        "--connect",
        "--set",
        "a.b=c=d",
        "--set",
        "e.f=",
    ]);
    let args = CheckArgs::from_arg_matches(&found).unwrap();
    let set: Vec<_> = args.set.set.iter().map(|a| (a.key.as_str(), a.value.as_str())).collect();
    assert_eq!(set, [("a.b", "c=d"), ("e.f", "")]);
    assert!(check.try_get_matches_from(["check", "--set", "nothing"]).is_err());
    crate::cli::init::InitArgs::augment_args(Command::new("init")).debug_assert();
}
