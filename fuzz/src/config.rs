//! The configuration: any bytes are every mistake, each with its place, or a checked configuration
//! that can be written out and read again.

use std::ffi::OsString;
use std::path::Path;

use tidegate::config::{Config, Driver, Tag, parse};

use crate::canonical::write;
use crate::{KIB, MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "config",
    run,
    seeds,
    words: &[
        b"[[device]]\n",
        b"[[device.tag]]\n",
        b"[gateway]\n",
        b"[hub]\n",
        b"[journal]\n",
        b"[leaf]\n",
        b"[metrics]\n",
        b"[identity]\n",
        b"est = \"https://ca/est\"\n",
        b" = ",
        b"\"",
        b"\"\"\"",
        b"'",
        b"\n",
        b"#",
        b"{ ",
        b" }",
        b"\\u0000",
        b"path = \"a/b\"\n",
        b"address = \"holding:65535.15\"\n",
        b"protocol = \"opcua\"\n",
        b"address = \"opc.tcp://h:1/p\"\n",
        b"address = \"nsu=urn:a;s=b\"\n",
        b"address = \"/Objects/2:a/{u}b\"\n",
        b"subtree = true\n",
        b"security = \"none\"\n",
        b"address = \"400001\"\n",
        b"unit = 255\n",
        b"scale = inf\n",
        b"offset = 1e308\n",
        b"deadband = 0\n",
        b"max-bytes = \"99999999 TiB\"\n",
        b"poll-every-ms = 18446744073709551615\n",
        b"base-path = \"A\"\n",
        b"address-base = 1\n",
        b"[::1]:502",
        b"[[profile]]\nname = \"p\"\n",
        b"[[profile.tag]]\n",
        b"profile = \"p\"\n",
        b"protocol = \"modbus-rtu\"\naddress = \"/dev/ttyS1\"\n",
        b"protocol = \"modbus-rtu-over-tcp\"\n",
        b"protocol = \"modbus-tls\"\ntls = { ca = \"ca.pem\" }\n",
        b"rs485 = \"rts-high\"\nrs485-delay-after-ms = 1\n",
        b"forbidden = [\"holding:0-9\", \"40001-40010\"]\n",
        b"tag-list = \"x.csv\"\n",
        b"states = \"0=a, 1=b\"\n",
        b"type = \"text\"\nlength = 250\n",
        b"min = -1e308\nmax = 1e308\noutside = \"clamp\"\n",
        b"nan = \"bad\"\ntype = \"float32\"\n",
        b"\0TIDEGATE_CFG_JOURNAL__DIR=/x",
        b"\0TIDEGATE_CFG_GATEWAY__NAME=\"y",
    ],
    memory: |length| at_most(2 * MIB + 64 * KIB + 600 * length),
    mutations: 500,
};

/// The mistakes of one file take no more text than this: two lines of it each, and the words.
const LONGEST_REPORT: usize = 256 * KIB;

fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // What stands behind a zero byte are variables of the environment.
    let mut pieces = text.split('\0');
    let file = pieces.next().unwrap_or_default();
    let variables: Vec<(OsString, OsString)> = pieces
        .filter_map(|piece| piece.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    match parse(Path::new("/etc/tidegate/tidegate.toml"), file, variables, &[]) {
        Ok(config) => says_the_same_again(&config),
        Err(mistakes) => {
            assert!(mistakes.count() > 0);
            assert_eq!(mistakes.paths().count(), mistakes.count());
            let report = mistakes.to_string();
            let strange = report.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(strange, None, "{report:?} reaches the terminal");
            assert!(
                report.len() <= LONGEST_REPORT + 8 * bytes.len(),
                "{} bytes of report for {} of file",
                report.len(),
                bytes.len()
            );
        }
    }
}

pub(crate) fn says_the_same_again(config: &Config) {
    let expected = from_zero(config.clone());
    let text = write(&expected);
    let again = parse(Path::new("/tidegate.toml"), &text, Vec::new(), &[])
        .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}\nfrom {config:?}"));
    assert_eq!(again, expected, "{text}");
    assert!(Config::difference(&again, &expected).is_empty());
}

/// The same configuration with its addresses written as the canonical file writes them.
fn from_zero(mut config: Config) -> Config {
    for device in &mut config.devices {
        let written = |tag: &Tag, address: String| Tag { address: address.into(), ..tag.clone() };
        let tags = device.tags.iter();
        device.tags = match &device.driver {
            Driver::Modbus(spec) => tags
                .zip(&*spec.tags)
                .map(|(tag, it)| written(tag, it.address.to_string()))
                .collect(),
            Driver::Nats(_) => continue,
            Driver::OpcUa(spec) => {
                let subtrees = device.subtrees.iter().zip(&*spec.subtrees);
                device.subtrees =
                    subtrees.map(|(tag, it)| written(tag, it.node.to_string())).collect();
                tags.zip(&*spec.tags).map(|(tag, it)| written(tag, it.node.to_string())).collect()
            }
        };
    }
    config
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    macro_rules! file {
        ($name:literal, $path:literal) => {
            seed($name, include_bytes!(concat!("../../", $path)).as_slice())
        };
    }
    vec![
        file!("minimal", "examples/minimal.toml"),
        file!("line", "examples/line.toml"),
        file!("laptop", "examples/laptop.toml"),
        file!("sim", "examples/sim.toml"),
        file!("twelve", "daemon/src/config/snapshots/twelve.toml"),
        file!("sections", "daemon/src/config/snapshots/sections.toml"),
        file!("tags", "daemon/src/config/snapshots/tags.toml"),
        file!("network", "daemon/src/config/snapshots/network.toml"),
        file!("field", "daemon/src/config/snapshots/field.toml"),
        seed(
            "modbus",
            include_str!("../../examples/modbus.toml").replace("tag-list", "# tag-list"),
        ),
        file!("broken", "daemon/src/config/snapshots/broken.toml"),
        seed("letter", "this is a letter, not a table\n".repeat(40)),
        seed("escape", "[gateway]\nplant = \"\\u001b[31m\"\nname = '\u{7}\u{9b}'\n"),
        seed(
            "variables",
            [
                include_bytes!("../../examples/minimal.toml").as_slice(),
                b"\0TIDEGATE_CFG_GATEWAY__NAME=gw-9\0TIDEGATE_CFG_JOURNAL__MAX_BYTES=1 GiB",
            ]
            .concat(),
        ),
    ]
}
