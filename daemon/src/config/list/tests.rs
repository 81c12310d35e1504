//! Lists by themselves, and through the check of a whole configuration.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::check::{Loaded, parse_in};
use crate::config::{Config, Mistakes};

const HEAD: &str = "[gateway]\nplant = \"P\"\nname = \"g\"\n[[device]]\nname = \"d\"\n\
                    protocol = \"modbus-tcp\"\naddress = \"h\"\n";

fn with_list(text: &str, list: &[u8]) -> Result<Loaded, Mistakes> {
    let instead = Instead { device: "d", file: Path::new("list.csv"), bytes: list };
    let source = Source { instead: Some(instead), ..NO_LISTS };
    parse_in(Path::new("/x"), Path::new("x.toml"), text, Vec::new(), &[], &source)
}

fn read(list: impl AsRef<[u8]>) -> Config {
    with_list(HEAD, list.as_ref()).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

/// Place and message of each mistake.
fn mistakes(list: impl AsRef<[u8]>) -> Vec<String> {
    with_list(HEAD, list.as_ref()).unwrap_err().lines().map(|line| line_of(&line)).collect()
}

fn line_of(line: &str) -> String {
    line.split("; legal").next().unwrap_or_default().replace("device[0].tag-list", "")
}

fn paths(config: &Config) -> Vec<&str> {
    config.devices[0].tags.iter().map(|tag| tag.path.as_str()).collect()
}

#[test]
fn separator_encoding_and_line_ends_are_found_by_themselves() {
    let plain = "path,address,scale\na,holding:1,0.5\nb,40003,\n";
    let expected = read(plain);
    assert_eq!(paths(&expected), ["P/d/a", "P/d/b"]);
    let utf16 = |text: &str, bom: &[u8], unit: fn(u16) -> [u8; 2]| {
        bom.iter().copied().chain(text.encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
    };
    for same in [
        plain.replace(',', ";").into_bytes(),
        plain.replace(',', "\t").into_bytes(),
        plain.replace(',', ";").replace('.', ",").into_bytes(),
        plain.replace('\n', "\r\n").into_bytes(),
        plain.replace('\n', "\r").into_bytes(),
        plain.trim_end().as_bytes().to_vec(),
        format!("\u{feff}{plain}").into_bytes(),
        format!("sep=;\r\n{}", plain.replace(',', ";")).into_bytes(),
        format!("\n\n{plain}\n,,\n\n").into_bytes(),
        plain.replace("a,", "\"a\",").replace("path", " Tag_Name ").into_bytes(),
        utf16(plain, &[0xff, 0xfe], u16::to_le_bytes),
        utf16(plain, &[0xfe, 0xff], u16::to_be_bytes),
    ] {
        assert_eq!(read(&same), expected, "{}", String::from_utf8_lossy(&same));
    }
}

#[test]
fn a_byte_that_is_no_text_is_named_with_row_and_column() {
    assert_eq!(
        mistakes(b"path;address;unit;comment\na;holding:1;\xb0C;x\n"),
        [
            "list.csv: row 2, column \"unit\": [2]: the byte 0xB0 is no UTF-8; in Windows-1252 it is '°'"
        ]
    );
    assert_eq!(
        mistakes(b"path,address\na,holding:1\n\x80,"),
        ["list.csv: row 3, column \"path\": [3]: the byte 0x80 is no UTF-8"]
    );
    assert_eq!(
        mistakes(b"pat\xe4h,address\n"),
        [
            "list.csv: row 1, column \"pat\u{fffd}\": [1]: the byte 0xE4 is no UTF-8; in Windows-1252 \
          it is 'ä'"
        ]
    );
    let half = [b"\xff\xfep\0,\0\n\0".as_slice(), b"\x00\xd8\n\0"].concat();
    assert_eq!(
        mistakes(half),
        ["list.csv: row 2, column \"p\": [2]: 0xD800 is half a character of UTF-16"]
    );
    let without_mark: Vec<u8> = "path".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(mistakes(without_mark)[0].contains("without a byte-order mark"));
    assert!(mistakes(b"\xff\xfe\0\0p\0\0\0")[0].contains("UTF-32"));
}

#[test]
fn a_header_says_what_is_missing_twice_or_unknown() {
    assert_eq!(
        mistakes("path,name,adress,comment,what\n"),
        [
            "list.csv: row 1, column \"name\": [1]: there is a column for \"path\" already",
            "list.csv: row 1, column \"adress\": [1]: unknown column",
            "list.csv: row 1, column \"what\": [1]: unknown column",
        ]
    );
    assert_eq!(mistakes("path,type\n"), ["list.csv: row 1: [1]: there is no column \"address\""]);
    assert_eq!(mistakes(""), ["list.csv: : the list is empty"]);
    assert_eq!(mistakes("\u{feff}\n ,\n"), ["list.csv: : the list is empty"]);
    // A header alone is a list without rows; a device needs a tag.
    let found = with_list(HEAD, b"path,address\n").unwrap_err();
    assert_eq!(found.paths().collect::<Vec<_>>(), ["device[0]"]);
}

#[test]
fn rows_are_counted_as_a_spreadsheet_counts_them() {
    let list = "path,address,comment\r\n\r\na,holding:1,\"two\r\nlines\"\r\n,,\r\nb,hold:1,\r\n";
    assert_eq!(
        mistakes(list),
        ["list.csv: row 5, column \"address\": [5].address: there is no table \"hold\""]
    );
}

#[test]
fn what_is_no_row_is_named() {
    assert_eq!(
        mistakes("path,address\na,holding:1,x\n"),
        ["list.csv: row 2, column 3: [2]: the row has 3 cells, and the header 2"]
    );
    assert_eq!(
        mistakes("path,,address\na,x,holding:1\n"),
        ["list.csv: row 2, column 2: [2]: the cell stands in a column without a name"]
    );
    assert_eq!(
        mistakes("path,address,comment\na,holding:1,\"open\nb,holding:2,\n"),
        ["list.csv: row 2: [2]: a quote in this row is never closed"]
    );
    let long = format!("path,address\na,holding:1\n\"b{}\",holding:2\n", "x".repeat(70_000));
    assert_eq!(mistakes(long), ["list.csv: row 3: [3]: the row has 70014 bytes"]);
    // An empty column without a name is what spreadsheets leave at the right.
    assert_eq!(paths(&read("path,address,,\na,holding:1,,\n")), ["P/d/a"]);
}

#[test]
fn a_decimal_comma_needs_another_separator() {
    let scale = |list: &str| read(list).devices[0].modbus().unwrap().tags[0].scale;
    assert!((scale("path;address;scale\na;holding:1;0,25\n") - 0.25).abs() < f64::EPSILON);
    assert!((scale("path;address;scale\na;holding:1;2.5e-1\n") - 0.25).abs() < f64::EPSILON);
    assert_eq!(
        mistakes("path,address,scale\na,holding:1,\"0,25\"\n"),
        ["list.csv: row 2, column \"scale\": [2].scale: \"0,25\" is not a number"]
    );
    assert_eq!(
        mistakes("path;address;scale\na;holding:1;1.000,25\n"),
        ["list.csv: row 2, column \"scale\": [2].scale: \"1.000,25\" is not a number"]
    );
}

#[test]
fn rows_meet_each_other_and_the_tags_of_the_file() {
    let text = format!("{HEAD}[[device.tag]]\npath = \"a\"\naddress = \"holding:1\"\n");
    let list = "path,address,type\na,holding:9,\nb,holding:1,\nc,holding:20,int32\nd,holding:21,\n";
    let found = with_list(&text, list.as_bytes()).unwrap_err();
    let lines: Vec<String> = found.lines().map(|line| line_of(&line)).collect();
    assert_eq!(
        lines,
        [
            "list.csv: row 2, column \"path\": [2].path: another tag has the path \"P/d/a\" already",
            "list.csv: row 3, column \"address\": [3].address: another tag of this device reads the \
             same address",
            "list.csv: row 5, column \"address\": [5].address: the value shares registers with \
             another tag's",
        ]
    );
    let shown = found.to_string();
    assert!(shown.contains("first written here") && shown.contains("x.toml:9:9"), "{shown}");
    assert!(
        shown.contains("read here as something else: list.csv: row 4, column \"address\""),
        "{shown}"
    );
}

#[test]
fn a_hundred_mistakes_of_a_list_are_told_and_the_others_counted() {
    let mut list = "path,address,type\n".to_owned();
    for row in 0..5000 {
        let _ = writeln!(list, "t{row},holding:{row},word");
    }
    let found = with_list(HEAD, list.as_bytes()).unwrap_err();
    assert_eq!((found.count(), found.paths().count()), (5000, 100));
    let shown = found.to_string();
    assert!(shown.ends_with("list.csv: 4900 more mistakes, not shown\n\n5000 mistakes in x.toml"));
    assert_eq!(found.to_json().as_array().unwrap().last().unwrap()["more"], 4900);
}

#[test]
fn a_list_that_is_not_there_or_too_large_is_named_at_its_key() {
    let text = format!("{HEAD}tag-list = \"x.csv\"\n");
    let large = usize::try_from(MAX_LIST_BYTES).unwrap() + 1;
    type Outcome<'a> = &'a dyn Fn() -> io::Result<Vec<u8>>;
    let outcomes: [(Outcome<'_>, &str); 3] = [
        (&|| Err(io::ErrorKind::NotFound.into()), "there is no file /x/x.csv"),
        (&|| Err(io::ErrorKind::PermissionDenied.into()), "/x/x.csv cannot be read"),
        (&|| Ok(vec![b'x'; large]), "/x/x.csv is larger than 64 MiB"),
    ];
    for (outcome, message) in outcomes {
        let read: &dyn Fn(&Path) -> io::Result<Vec<u8>> = &|_| outcome();
        let source = Source { read, ..NO_LISTS };
        let found = parse_in(Path::new("/x"), Path::new("x.toml"), &text, Vec::new(), &[], &source);
        let found = found.unwrap_err();
        assert_eq!(found.paths().collect::<Vec<_>>(), ["device[0].tag-list"]);
        assert!(found.to_string().contains(message), "{found}");
    }
}

#[test]
fn every_column_is_documented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/tag-lists.md");
    let text = std::fs::read_to_string(file).unwrap();
    let rows: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows, legal_names().collect::<Vec<_>>());
    for (alias, key) in ALIASES {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{alias}`"))), "{alias}");
    }
}

/// What a canonical list says is what was read from any other.
fn says_the_same(text: &str, list: &[u8]) {
    let first = with_list(text, list).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let (parsed, _) = List::new(Path::new("list.csv"), String::new(), list.to_vec());
    let canonical = parsed.unwrap().canonical();
    let again = with_list(text, &canonical).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(again.config, first.config, "{}", String::from_utf8_lossy(&canonical));
    let (parsed, _) = List::new(Path::new("list.csv"), String::new(), canonical.clone());
    assert_eq!(parsed.unwrap().canonical(), canonical);
    let exported = write(&first.config.devices[0], &first.origins[0].base_path);
    let again = with_list(text, &exported)
        .unwrap_or_else(|mistakes| panic!("{mistakes}\n{}", String::from_utf8_lossy(&exported)));
    assert_eq!(again.config, first.config, "{}", String::from_utf8_lossy(&exported));
}

#[test]
fn comments_and_odd_cells_survive_being_written() {
    let list = "comment;tag;register;scale;allow overlap;states\n\
                \"say \"\"hi\"\"; then go\";a b;40001;0,1;;\n;ü/ß;holding:7;1e-3;TRUE;\n\
                ;s;holding:8;;;\"1=an; 0=aus\"\n";
    says_the_same(HEAD, list.as_bytes());
    let (parsed, _) = List::new(Path::new("list.csv"), String::new(), list.into());
    let text = String::from_utf8(parsed.unwrap().canonical()).unwrap();
    assert_eq!(
        text,
        "path,address,scale,states,allow-overlap,comment\n\
         a b,40001,0.1,,,\"say \"\"hi\"\"; then go\"\nü/ß,holding:7,1e-3,,true,\n\
         s,holding:8,,1=an; 0=aus,,\n"
    );
}

/// Cells of one legal row without path and address.
fn cells() -> impl Strategy<Value = String> {
    let number = prop_oneof![Just(String::new()), (-1e9..1e9_f64).prop_map(|n| format!("{n:?}"))];
    let integer = prop::sample::select(vec![
        "int16", "uint16", "int32", "uint32", "int64", "uint64", "bcd16", "bcd32", "bcd64",
    ]);
    let plain = (
        prop_oneof![integer.clone(), Just("float32"), Just("float64")],
        prop::sample::select(vec!["", "abcd", "cdab", "badc", "dcba"]),
        prop_oneof![Just(String::new()), (1e-9..1e9_f64).prop_map(|n| format!("{n:?}"))],
        number,
        "[ -~äß°³]{0,20}",
        prop::option::of((-1e6..0.0_f64, 0.0..1e6_f64, 0..4_usize)),
        prop::option::of(10_u32..100_000),
        prop_oneof![Just(","), Just("0.5,"), Just(",2.5"), Just("0,")],
        prop::sample::select(vec!["", "all", "changes"]),
    )
        .prop_map(|(kind, order, scale, offset, unit, range, every, band, record)| {
            let unit = unit.replace('"', "\"\"");
            let range = range.map_or(",,".to_owned(), |(min, max, which)| match which {
                0 => format!("{min:?},,"),
                1 => format!(",{max:?},clamp"),
                2 => format!("{min:?},{max:?},bad"),
                _ => format!("{min:?},{max:?},"),
            });
            let nan = if kind.starts_with("float") { "bad" } else { "" };
            let every = every.map(|ms| ms.to_string()).unwrap_or_default();
            format!("{kind},,{order},{scale},{offset},\"{unit}\",{range},{nan},,{every},{band},100000,{record}")
        });
    let text = (1_u16..=250, prop::sample::select(vec!["", "badc"]))
        .prop_map(|(length, order)| format!("text,{length},{order},,,,,,,,,,,,,"));
    let states =
        (integer, prop::collection::btree_map(0_u16..9999, "[a-z][a-z= ]{0,8}[a-z]", 1..5))
            .prop_map(|(kind, names)| {
                let names: Vec<String> =
                    names.iter().map(|(n, name)| format!("{n}={name}")).collect();
                format!("{kind},,,,,,,,,,\"{}\",,,,,", names.join(","))
            });
    prop_oneof![4 => plain, 1 => text, 1 => states]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_list_that_was_exported_is_the_list_that_was_read(
        rows in prop::collection::vec((cells(), any::<bool>()), 1..12),
        base in 0_u16..2,
    ) {
        let mut list = "path,address,type,length,order,scale,offset,unit,min,max,outside,nan,states,\
                        poll-every-ms,deadband,deadband-percent,max-silence-ms,record,allow-overlap\n"
            .to_owned();
        for (index, (cells, overlaps)) in rows.iter().enumerate() {
            // Some of them meet the one before.
            let address = if *overlaps { 130 * index } else { 130 * index + 1 };
            let _ = writeln!(list, "t{index},holding:{},{cells},true", address + 1);
            if *overlaps {
                let _ = writeln!(list, "u{index},holding:{},int64,,,,,,,,,,,,,,,,true", address + 1);
            }
        }
        let text = format!("{HEAD}address-base = {base}\nbase-path = \"A/B\"\n");
        // Only what is legal has to survive.
        if with_list(&text, list.as_bytes()).is_ok() {
            says_the_same(&text, list.as_bytes());
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_mistakes_but_never_a_panic(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"path,address;\"\n\r\t=0123.\xff\xfe".to_vec())],
            0..200
        ),
        header in any::<bool>(),
    ) {
        let mut list = if header { b"path,address,type,states\n".to_vec() } else { Vec::new() };
        list.extend(bytes);
        match with_list(HEAD, &list) {
            Ok(read) => prop_assert!(!read.config.devices[0].tags.is_empty()),
            Err(mistakes) => {
                prop_assert!(mistakes.count() > 0);
                prop_assert!(!mistakes.to_string().contains("could not be understood"));
                let _ = mistakes.to_json();
            }
        }
    }
}

/// Measures; `cargo test --release -- --ignored --nocapture hundred_thousand`.
#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_rows_are_checked() {
    let mut list = "path;address;type;order;scale;unit;deadband;comment\r\n".to_owned();
    for row in 0..100_000_u32 {
        let (table, at) = (["holding", "input"][(row % 2) as usize], row / 2);
        let _ = write!(
            list,
            "zone{}/temperature{row:05};{table}:{at};int16;badc;0,1;°C;0,5;sensor {row}\r\n",
            row / 100
        );
    }
    for text in [list.clone(), list.replace("int16", "int15")] {
        let start = std::time::Instant::now();
        let found = with_list(HEAD, text.as_bytes());
        let took = start.elapsed();
        let what =
            found.map_or_else(|mistakes| mistakes.count(), |it| it.config.devices[0].tags.len());
        println!("{what} in {took:?}");
    }
}
