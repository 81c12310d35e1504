//! A tag list: any bytes are every mistake, each with its row, or tags that can be written out as a
//! list and read again.

use std::path::Path;

use tidegate::config::{Instead, parse_with_list, tag_list};

use crate::config::says_the_same_again;
use crate::{KIB, MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "taglist",
    run,
    seeds,
    words: &[
        b"path,address\n",
        b"Name;Register;Data type;Length;Order;Scale;Unit;States\r\n",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"sep=;\n",
        b",",
        b";",
        b"\t",
        b"\"",
        b"\"\"",
        b"\r\n",
        b"\n",
        b"holding:1",
        b"40001.15",
        b"coil:65535",
        b"text",
        b"float64",
        b"0=a; 1=b",
        b"1,5",
        b"1e308",
        b"TRUE",
        b"\xe4",
    ],
    memory: |length| at_most(MIB + 64 * KIB + 1000 * length),
    mutations: 800,
};

const FILE: &str = "[gateway]\nplant = \"P\"\nname = \"g\"\n[[device]]\nname = \"d\"\n\
                    protocol = \"modbus-tcp\"\naddress = \"h\"\nbase-path = \"A/B\"\n";

fn run(bytes: &[u8]) {
    let read = |bytes| {
        let instead = Instead { device: "d", file: Path::new("list.csv"), bytes };
        parse_with_list(Path::new("/etc/tidegate.toml"), FILE, instead)
    };
    match read(bytes) {
        Ok(first) => {
            says_the_same_again(&first.config);
            let list = tag_list(&first.config.devices[0], &first.origins[0].base_path);
            let again = read(&list).unwrap_or_else(|mistakes| {
                panic!("{mistakes}\n{}", String::from_utf8_lossy(&list))
            });
            assert_eq!(again.config, first.config, "{}", String::from_utf8_lossy(&list));
        }
        Err(mistakes) => {
            assert!(mistakes.count() > 0);
            let report = mistakes.to_string();
            let strange = report.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(strange, None, "{report:?} reaches the terminal");
            assert!(!report.contains("could not be understood"), "{report}");
            // A hundred mistakes of a list, each in a few lines.
            assert!(report.len() <= 256 * KIB + 8 * bytes.len(), "{} bytes", report.len());
        }
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let utf16 = |text: &str| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    vec![
        seed("drive", include_bytes!("../../examples/drive.csv").as_slice()),
        seed("press", include_bytes!("../../examples/press-2.csv").as_slice()),
        seed("bad", include_bytes!("../../daemon/src/config/snapshots/bad.csv").as_slice()),
        seed("utf16", utf16("path\taddress\tunit\r\na\tholding:1\t\u{b0}C\r\n")),
        seed("latin1", b"path;address;unit\na;holding:1;\xb0C\n".as_slice()),
        seed("open", "path,address,comment\na,holding:1,\"open\nb,holding:2,x\n"),
        seed(
            "meeting",
            "path,address,type,allow-overlap\na,holding:1,int64,true\nb,holding:2,int32,\n",
        ),
        seed("letter", "this is a letter, not a list\n".repeat(40)),
    ]
}
