//! Whole files through the check.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_modbus::{
    Address, DataType, DeviceSpec, Endpoint, Forbidden, LegalRange, LinkSpec, NanPolicy, Order,
    Outside, Parity, Rs485, SerialSpec, Special, States, StopBits, Table, TagSpec, TlsSpec,
    Transport, UnitId,
};
use tidegate_translator::TagPath;

use super::check::parse_in;
use super::*;
use crate::names::{GatewayId, Name};

/// The directory of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn parse_text(text: &str) -> Result<Config, Mistakes> {
    parse_in(DIRECTORY.as_ref(), FILE.as_ref(), text, no_environment(), &[], &LISTS)
        .map(|read| read.config)
}

const DIRECTORY: &str = "/etc/tidegate";
const FILE: &str = "/etc/tidegate/tidegate.toml";

/// The lists that texts of these tests can name.
const LISTS: list::Source<'static> = list::Source {
    read: &|path| match path.strip_prefix(DIRECTORY).ok().and_then(Path::to_str) {
        Some("meter.csv") => Ok(METER_LIST.into()),
        Some("drive.csv") => Ok(b"path,address\ncurrent,input:9\n".into()),
        Some("press.csv") => Ok(PRESS_LIST.into()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    },
    ..list::NO_LISTS
};

/// Every column that the keys of a tag are.
const METER_LIST: &[u8] = b"\xef\xbb\xbfName;Register;Type;Length;Order;Scale;Offset;Unit;Min;Max;Outside;\
NaN;States;Poll every ms;Deadband;Deadband_percent;Max silence ms;Record;Allow overlap;Comment\r\n\
list/f;input:101;float32;;cdab;0,5;-3,25;kW;0;1e3;bad;bad;;100;;2,5;70000;changes;FALSE;\"a; b\"\r\n\
list/t;input:201;text;10;badc;;;;;;;;;;;;;;;\r\n\
list/s;input:301;;;;;;;;;;;\"0=off;1=on\";;;;;;true;\r\n";

/// Every column that the keys of a node are.
const PRESS_LIST: &[u8] = b"path,Node ID,unit,Sampling interval ms,deadband-percent,max-silence-ms,record,\
queue-size,discard,trigger,server-deadband,server-deadband-percent,index-range,subtree,include,exclude,\
max-tags,max-depth\n\
list/f,\"nsu=urn:press;s=a,b\",kW,100,2.5,70000,changes,3,newest,status-value-timestamp,,1.5,3,,,,,\n\
list/t,/Objects/Oven,,,,,,,,,0.25,,,TRUE,Zone?/*; **/SP,**/_*,20,2\n";

fn no_environment() -> Vec<(OsString, OsString)> {
    Vec::new()
}

const MINIMAL: &str = include_str!("../../../examples/minimal.toml");
const LINE: &str = include_str!("../../../examples/line.toml");

/// Compares with a file literally; with `TIDEGATE_BLESS` set, writes it instead.
fn assert_snapshot(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/snapshots").join(name);
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == found, "{name} differs; found:\n{found}");
}

fn report(name: &str) -> Mistakes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/snapshots");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let read = |path: &Path| std::fs::read(folder.join(path));
    let lists = list::Source { read: &read, ..list::NO_LISTS };
    let (nowhere, file) = (Path::new(""), Path::new(name));
    parse_in(nowhere, file, &text, no_environment(), &[], &lists).unwrap_err()
}

#[test]
fn a_file_with_twelve_different_mistakes_reports_all_twelve() {
    let mistakes = report("twelve.toml");
    let paths: Vec<_> = mistakes.paths().collect();
    assert_eq!(
        paths,
        [
            "gateway.plant",
            "gateway.nmae",
            "hub.urls[0]",
            "journal.max-bytes",
            "journal.commit-every-ms",
            "device[0].protocol",
            "device[0].address",
            "device[0].poll-every-ms",
            "device[0].tag[0].address",
            "device[0].tag[0].order",
            "device[0].tag[1].path",
            "device[0].tag[1].address",
        ],
        "{mistakes}"
    );
    assert_snapshot("twelve.txt", &mistakes.to_string());
    let json = serde_json::to_string_pretty(&mistakes.to_json()).unwrap();
    assert_snapshot("twelve.json", &json);
}

#[test]
fn broken_toml_is_reported_line_by_line_and_the_rest_is_checked() {
    assert_snapshot("broken.txt", &report("broken.toml").to_string());
}

#[test]
fn mistakes_of_devices_and_tags_read_as_they_should() {
    assert_snapshot("tags.txt", &report("tags.toml").to_string());
}

#[test]
fn mistakes_of_links_profiles_and_lists_read_as_they_should() {
    let mistakes = report("field.toml");
    assert_snapshot("field.txt", &mistakes.to_string());
    let json = serde_json::to_string_pretty(&mistakes.to_json()).unwrap();
    assert_snapshot("field.json", &json);
}

#[test]
fn mistakes_of_sections_read_as_they_should() {
    assert_snapshot("sections.txt", &report("sections.toml").to_string());
}

#[test]
fn mistakes_of_addresses_on_the_network_read_as_they_should() {
    assert_snapshot("network.txt", &report("network.toml").to_string());
}

#[test]
fn mistakes_about_the_way_to_the_hub_and_local_applications_read_as_they_should() {
    assert_snapshot("wan.txt", &report("wan.toml").to_string());
    assert_snapshot("direct.txt", &report("direct.toml").to_string());
}

#[test]
fn mistakes_of_variables_and_arguments_name_them() {
    let environment = [
        ("TIDEGATE_CFG_JOURNAL__MAX_BYTES", "many"),
        ("TIDEGATE_CFG_JOURNAL__MAX_BYTS", "8 GiB"),
        ("TIDEGATE_CFG_HUB__URLS", "tls://hub"),
        ("TIDEGATE_CFG_DEVICE__NAME", "x"),
        ("TIDEGATE_CFG_", "x"),
        ("TIDEGATE_LOG", "debug"),
        ("PATH", "/bin"),
    ]
    .map(|(name, value)| (name.into(), value.into()));
    let arguments = ["journal.commit-every-ms=0", "jurnal.dir=x", "device.name=x"]
        .map(|text| Argument::from_set(text).unwrap());
    let found = parse(Path::new("minimal.toml"), MINIMAL, environment, &arguments).unwrap_err();
    assert_snapshot("variables.txt", &found.to_string());
}

#[test]
fn a_minimal_file_gets_every_default() {
    let path = |text: &str| TagPath::new(text).unwrap();
    let expected = Config {
        gateway: GatewayId {
            plant: Name::new("PlantA").unwrap(),
            name: Name::new("gw-line3").unwrap(),
        },
        hub: None,
        leaf: Leaf {
            mode: LeafMode::Managed,
            listen: SocketAddr::from(([127, 0, 0, 1], 4222)),
            nats_server: None,
            dir: "/var/lib/tidegate/leaf".into(),
            local: LocalApps::default(),
        },
        journal: Journal {
            dir: "/var/lib/tidegate/journal".into(),
            max_bytes: 8 << 30,
            commit_every: Duration::from_secs(1),
            when_full: WhenFull::DropOldest,
        },
        uplink: Uplink {
            send_every: Duration::from_secs(2),
            max_message: 256 << 10,
            backfill_limit: None,
            limit: None,
        },
        query: Query {
            enabled: true,
            local: LocalQuestions::Fleet,
            max_concurrent: 4,
            max_waiting: 16,
            max_rows: 1_000_000,
            max_time: Duration::from_secs(300),
            max_part_bytes: 512 << 10,
        },
        metrics: None,
        control_socket: "/run/tidegate/control.sock".into(),
        opcua: OpcUa {
            dir: "/var/lib/tidegate/opcua".into(),
            application_uri: "urn:tidegate:PlantA:gw-line3".into(),
            key_bits: 2048,
        },
        identity: None,
        devices: vec![Device {
            driver: Driver::Modbus(Arc::new(DeviceSpec {
                name: "press-1".into(),
                link: Arc::new(LinkSpec::tcp("192.0.2.10".into(), 502)),
                unit: UnitId(1),
                poll_every: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                pause_between: Duration::ZERO,
                max_gap: 16,
                max_registers: 125,
                max_bits: 2000,
                forbidden: Arc::default(),
                backoff: (Duration::from_millis(500), Duration::from_secs(30)),
                tags: Arc::new([TagSpec {
                    path: path("PlantA/press-1/temperature"),
                    address: Address { table: Table::HoldingRegister, offset: 100, bit: None },
                    kind: DataType::Uint16,
                    order: Order::Abcd,
                    scale: 1.0,
                    offset: 0.0,
                    special: None,
                }]),
            })),
            subtrees: Arc::default(),
            tags: Arc::new([Tag {
                path: path("PlantA/press-1/temperature"),
                address: "holding:100".into(),
                manner: Arc::new(Manner {
                    unit: None,
                    deadband: Deadband::None,
                    max_silence: Duration::from_secs(60),
                    record: RecordMode::All,
                }),
            }]),
        }],
    };
    assert_eq!(parse_text(MINIMAL).unwrap(), expected);
}

/// Every key written with a value that is not its default.
const EVERYTHING: &str = r#"
[gateway]
plant = "Werk1"
name = "gw-9"
[hub]
urls = ["wss://hub-1.example.com", "wss://[2001:db8::1]:7423"]
proxy = "http://[2001:db8::8]:3128"
proxy-user = "me"
proxy-password-file = "proxy.password"
fail-back-after-ms = 60000
stream = "FLEET"
domain = "central"
allow-plaintext = true
tls = { ca = "ca.pem", cert = "/abs/gw.pem", key = "../gw.key" }
[leaf]
mode = "external"
listen = "0.0.0.0:4333"
allow-remote = true
nats-server = "bin/nats-server"
dir = "leaf"
local-publish = ["site.orders.*", "site.log"]
local-subscribe = ["site.>"]
jetstream-domain = "line3"
jetstream-max-bytes = "1 GiB"
[journal]
dir = "journal"
max-bytes = "1.5 GiB"
commit-every-ms = 250
when-full = "stop-recording"
[uplink]
send-every-ms = 500
max-message = "128 KiB"
backfill-limit-per-s = "1 MB"
limit-per-s = "2 MB"
[query]
enabled = true
local = "gateway"
max-concurrent = 2
max-waiting = 3
max-rows = 1000
max-seconds = 60
max-part-bytes = "256 KiB"
[metrics]
listen = "[::]:9000"
allow-remote = true
[control]
socket = "control.sock"
[opcua]
dir = "pki"
application-uri = "urn:werk1:gw-9"
key-bits = 3072
[identity]
dir = "identity"
est = "https://ca.example.com:8443/est"
ca-pins = ["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
token-file = "token"
longest-offline-days = 30
crl = "crl.pem"
crl-max-age-hours = 24
when-crl-stale = "refuse"
checkpoint-every-ms = 60000
[[device]]
name = "meter"
protocol = "modbus-tcp"
address = "[2001:db8::2]:1502"
unit = 255
poll-every-ms = 2000
timeout-ms = 900
retry-after-ms = 100
retry-at-most-ms = 5000
max-gap = 0
max-registers = 60
max-bits = 100
base-path = "Werk1/Halle 2"
address-base = 1
pause-between-ms = 20
forbidden = ["holding:500-599", "40701", "coil:5"]
tag-list = "meter.csv"
turnaround-ms = 3
pause-after-connect-ms = 100
close-after-poll = true
max-connections = 2
[[device.tag]]
path = "a/b"
address = "input:7"
type = "int32"
order = "dcba"
scale = 0.5
offset = -3
unit = "m³/h"
deadband = 2
max-silence-ms = 5000
record = "changes"
allow-overlap = true
[[device.tag]]
path = "c"
address = "input:8.15"
deadband-percent = 0
[[device.tag]]
path = "d"
address = "holding:1"
deadband-percent = 2.5
[[device.tag]]
path = "e"
address = "holding:2"
min = -1
max = 100.5
outside = "clamp"
poll-every-ms = 60000
[[device.tag]]
path = "f"
address = "holding:3"
states = "0=stopped, 1 = running"
[[device.tag]]
path = "g"
address = "holding:4"
type = "text"
length = 9
[[device.tag]]
path = "h"
address = "holding:10"
type = "float64"
nan = "bad"
[[device]]
name = "drive-1"
address = "/dev/ttyUSB0"
unit = 1
profile = "drive"
[[device]]
name = "drive-2"
address = "/dev/ttyUSB0"
unit = 2
profile = "drive"
max-gap = 8
rs485 = "rts-low"
rs485-delay-before-ms = 1
rs485-delay-after-ms = 2
[[device.tag]]
path = "own"
address = "coil:1"
[[device]]
name = "server"
protocol = "modbus-rtu-over-tcp"
address = "moxa:4001"
unit = 247
profile = "all"
[[device]]
name = "secret"
protocol = "modbus-tls"
address = "plc"
profile = "all"
tls = { ca = "ca.pem", cert = "gw.pem", key = "/gw.key", server-name = "plc.example.com" }
[[device]]
name = "press"
protocol = "opcua"
address = "opc.tcp://press:4841/UA"
security = "aes128-sha256-rsaoaep"
message-mode = "sign"
user = "tidegate"
password-file = "press.password"
trust = ["00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF 00112233445566778899aabbccddeeff"]
server-uri = "urn:press"
check-host = false
advertised-url = "follow"
collect = "subscribe"
poll-every-ms = 200
publish-every-ms = 400
timeout-ms = 9000
retry-after-ms = 100
retry-at-most-ms = 200
backfill = false
max-items = 7
base-path = "Werk1/Press"
tag-list = "press.csv"
[[device.tag]]
path = "position"
address = " nsu=urn:press;s=Axis1.Position "
unit = "mm"
poll-every-ms = 50
queue-size = 9
discard = "newest"
trigger = "status-value-timestamp"
server-deadband = 0.5
index-range = "1,0:3"
deadband = 1
max-silence-ms = 5000
record = "changes"
[[device.tag]]
path = "all"
address = "/Objects/Press"
subtree = true
include = ["Axis?/*"]
exclude = ["**/_*", "x"]
max-tags = 10
max-depth = 3
server-deadband-percent = 2
[[device]]
name = "oven"
address = "opc.tcp://[fd00::7]"
profile = "ovens"
collect = "poll"
user-cert = "user.pem"
user-key = "/user.key"
[[device]]
name = "old"
protocol = "opcua"
address = "opc.tcp://192.0.2.7"
security = "none"
[[device.tag]]
path = "x"
address = "i=2258"
[[device]]
name = "vehicle"
protocol = "nats"
subjects = ["fleet.v1.state.>", "fleet.v1.evt.*"]
base-path = "Fleet/V1"
skip-parts = 2
payload = "auto"
split = true
id-field = "id"
time-field = "ts"
value-field = "data"
max-payload = "4 KiB"
max-subjects = 7
max-waiting = 16
when-full = "drop"
remember-ids = 5
remember-for-ms = 1000
answer-within-ms = 10
[[profile]]
name = "ovens"
protocol = "opcua"
poll-every-ms = 5000
[[profile.tag]]
path = "temperature"
address = "ns=2;i=17"
[[profile]]
name = "drive"
protocol = "modbus-rtu"
baud-rate = 9600
parity = "none"
stop-bits = 2
max-gap = 4
tag-list = "drive.csv"
[[profile.tag]]
path = "speed"
address = "holding:200"
[[profile]]
name = "all"
[[profile.tag]]
path = "x"
address = "coil:0"
"#;

#[test]
fn every_key_that_is_written_reaches_the_configuration() {
    let text = EVERYTHING.replace("deadband-percent = 0\n", "");
    let config = parse_text(&text).unwrap();
    let dir = Path::new("/etc/tidegate");
    assert_eq!(config.gateway.to_string(), "Werk1/gw-9");
    let wss =
        |host: &str, port| HubUrl { scheme: HubScheme::WebSocket, host: host.to_owned(), port };
    assert_eq!(
        config.hub.unwrap(),
        Hub {
            urls: vec![wss("hub-1.example.com", 443), wss("2001:db8::1", 7423),],
            tls: Some(TlsFiles {
                ca: dir.join("ca.pem"),
                cert: "/abs/gw.pem".into(),
                key: dir.join("../gw.key"),
            }),
            stream: "FLEET".into(),
            domain: "central".into(),
            proxy: Some(Proxy {
                host: "2001:db8::8".into(),
                port: 3128,
                user: Some(ProxyUser {
                    name: "me".into(),
                    password_file: dir.join("proxy.password"),
                }),
            }),
            fail_back_after: Some(Duration::from_secs(60)),
        }
    );
    assert_eq!(
        config.leaf,
        Leaf {
            mode: LeafMode::External,
            listen: "0.0.0.0:4333".parse().unwrap(),
            nats_server: Some(dir.join("bin/nats-server")),
            dir: dir.join("leaf"),
            local: LocalApps {
                publish: vec!["site.orders.*".into(), "site.log".into()],
                subscribe: vec!["site.>".into()],
                jetstream: Some(LocalJetStream { domain: "line3".into(), max_bytes: 1 << 30 }),
            },
        }
    );
    assert_eq!(
        config.journal,
        Journal {
            dir: dir.join("journal"),
            max_bytes: 3 << 29,
            commit_every: Duration::from_millis(250),
            when_full: WhenFull::StopRecording,
        }
    );
    assert_eq!(
        config.uplink,
        Uplink {
            send_every: Duration::from_millis(500),
            max_message: 128 << 10,
            backfill_limit: Some(1_000_000),
            limit: Some(2_000_000),
        }
    );
    let query = Query {
        enabled: true,
        local: LocalQuestions::Gateway,
        max_concurrent: 2,
        max_waiting: 3,
        max_rows: 1000,
        max_time: Duration::from_secs(60),
        max_part_bytes: 256 << 10,
    };
    assert_eq!(config.query, query);
    assert_eq!(config.metrics, Some(Metrics { listen: "[::]:9000".parse().unwrap() }));
    assert_eq!(config.control_socket, dir.join("control.sock"));
    let device = &config.devices[0];
    assert_eq!(
        **device.modbus().unwrap(),
        DeviceSpec {
            name: "meter".into(),
            link: Arc::new(LinkSpec {
                transport: tcp("2001:db8::2", 1502),
                max_connections: 2,
                pause_after_connect: Duration::from_millis(100),
                turnaround: Duration::from_millis(3),
                close_after_poll: true,
            }),
            unit: UnitId(255),
            poll_every: Duration::from_secs(2),
            timeout: Duration::from_millis(900),
            pause_between: Duration::from_millis(20),
            max_gap: 0,
            max_registers: 60,
            max_bits: 100,
            forbidden: Arc::new([
                Forbidden { table: Table::Coil, first: 4, last: 4 },
                Forbidden { table: Table::HoldingRegister, first: 499, last: 598 },
                Forbidden { table: Table::HoldingRegister, first: 700, last: 700 },
            ]),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            tags: device.modbus().unwrap().tags.clone(),
        }
    );
    assert_eq!(
        device.modbus().unwrap().tags[0],
        TagSpec {
            path: TagPath::new("Werk1/Halle 2/a/b").unwrap(),
            address: Address { table: Table::InputRegister, offset: 6, bit: None },
            kind: DataType::Int32,
            order: Order::Dcba,
            scale: 0.5,
            offset: -3.0,
            special: None,
        }
    );
    assert_eq!(
        device.tags[0],
        Tag {
            path: TagPath::new("Werk1/Halle 2/a/b").unwrap(),
            address: "input:7".into(),
            manner: Arc::new(Manner {
                unit: Some("m³/h".into()),
                deadband: Deadband::Absolute(2.0),
                max_silence: Duration::from_secs(5),
                record: RecordMode::Changes,
            }),
        }
    );
    assert_eq!(device.modbus().unwrap().tags[1].kind, DataType::Bool);
    assert_eq!(device.tags[2].manner.deadband, Deadband::Percent(2.5));
}

fn tcp(host: &str, port: u16) -> Transport {
    Transport::Tcp(Endpoint { host: host.into(), port })
}

pub(super) fn whole_config() -> Config {
    parse_text(&EVERYTHING.replace("deadband-percent = 0\n", ""))
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn what_only_some_tags_have_reaches_them() {
    let config = whole_config();
    let specs = &config.devices[0].modbus().unwrap().tags;
    let special = |index: usize| specs[index].special.as_deref().unwrap();
    assert_eq!(specs[0].special, None);
    let range = LegalRange { min: -1.0, max: 100.5, outside: Outside::Clamp };
    let every = Some(Duration::from_mins(1));
    assert_eq!(
        *special(3),
        Special { poll_every: every, range: Some(range), ..Special::default() }
    );
    assert_eq!(config.devices[0].tags[3].manner.max_silence, Duration::from_mins(1));
    let states = |names: [(i64, &str); 2]| {
        let names = names.map(|(number, name)| (number, name.into()));
        Some(Arc::new(States::new(names.into())))
    };
    assert_eq!(special(4).states, states([(0, "stopped"), (1, "running")]));
    assert_eq!((specs[5].kind, &specs[5].special), (DataType::Text(9), &None));
    assert_eq!(special(6).nan, NanPolicy::Bad);
}

#[test]
fn every_column_of_a_tag_list_reaches_its_tag() {
    let config = whole_config();
    let device = &config.devices[0];
    let [float, text, state] = &device.modbus().unwrap().tags[7..] else {
        panic!("{:?}", device.tags)
    };
    let range = LegalRange { min: 0.0, max: 1000.0, outside: Outside::Bad };
    let special = Special {
        poll_every: Some(Duration::from_millis(100)),
        range: Some(range),
        nan: NanPolicy::Bad,
        states: None,
    };
    assert_eq!(
        *float,
        TagSpec {
            path: TagPath::new("Werk1/Halle 2/list/f").unwrap(),
            address: Address { table: Table::InputRegister, offset: 100, bit: None },
            kind: DataType::Float32,
            order: Order::Cdab,
            scale: 0.5,
            offset: -3.25,
            special: Some(Arc::new(special)),
        }
    );
    assert_eq!(
        *device.tags[7].manner,
        Manner {
            unit: Some("kW".into()),
            deadband: Deadband::Percent(2.5),
            max_silence: Duration::from_secs(70),
            record: RecordMode::Changes,
        }
    );
    assert_eq!((text.kind, text.order), (DataType::Text(10), Order::Badc));
    let names = state.special.as_ref().unwrap().states.as_ref().unwrap();
    assert_eq!(names.iter().collect::<Vec<_>>(), [(0, "off"), (1, "on")]);
}

#[test]
fn devices_of_one_port_share_what_one_of_them_says() {
    let config = whole_config();
    let expected = LinkSpec {
        transport: Transport::Rtu(SerialSpec {
            port: "/dev/ttyUSB0".into(),
            baud: 9600,
            parity: Parity::None,
            stop_bits: StopBits::Two,
            rs485: Some(Rs485 {
                rts_high_on_send: false,
                delay_before_send: Duration::from_millis(1),
                delay_after_send: Duration::from_millis(2),
            }),
        }),
        max_connections: 1,
        pause_after_connect: Duration::ZERO,
        turnaround: Duration::ZERO,
        close_after_poll: false,
    };
    let spec = |index: usize| config.devices[index].modbus().unwrap();
    let (one, two) = (spec(1), spec(2));
    assert_eq!(*one.link, expected);
    assert!(Arc::ptr_eq(&one.link, &two.link));
    // What is the unit's own, or wins over the profile's.
    assert_eq!((one.max_gap, two.max_gap), (4, 8));
    let paths = |index: usize| -> Vec<String> {
        config.devices[index].tags.iter().map(|tag| tag.path.to_string()).collect()
    };
    assert_eq!(paths(1), ["Werk1/drive-1/speed", "Werk1/drive-1/current"]);
    assert_eq!(paths(2), ["Werk1/drive-2/own", "Werk1/drive-2/speed", "Werk1/drive-2/current"]);
}

#[test]
fn each_transport_has_its_port_and_its_files() {
    let config = whole_config();
    let endpoint = |host: &str, port| Endpoint { host: host.into(), port };
    let transport = |index: usize| &config.devices[index].modbus().unwrap().link.transport;
    assert_eq!(*transport(3), Transport::RtuOverTcp(endpoint("moxa", 4001)));
    let tls = TlsSpec {
        ca: Path::new(DIRECTORY).join("ca.pem"),
        identity: Some((Path::new(DIRECTORY).join("gw.pem"), "/gw.key".into())),
        server_name: Some("plc.example.com".into()),
    };
    assert_eq!(*transport(4), Transport::Tls(endpoint("plc", 802), tls));
}

#[test]
fn every_row_of_the_table_is_written_in_the_test_above() {
    for key in keys::KEYS {
        let written = EVERYTHING.contains(&format!("{} = ", key.name));
        assert!(written, "{} is not covered", key.path());
    }
}

#[test]
fn an_argument_wins_over_a_variable_and_a_variable_over_the_file() {
    let text = format!("{MINIMAL}\n[journal]\nmax-bytes = \"1 GiB\"\ncommit-every-ms = 100\n");
    let text = text.replace(
        "[[device]]",
        "[journal]\nmax-bytes = \"1 GiB\"\ncommit-every-ms = 100\n[[device]]",
    );
    let text = text.rsplit_once("\n[journal]").unwrap().0;
    let environment = [
        ("TIDEGATE_CFG_JOURNAL__MAX_BYTES", "2 GiB"),
        ("TIDEGATE_CFG_JOURNAL__COMMIT_EVERY_MS", "200"),
        ("TIDEGATE_CFG_METRICS__LISTEN", "127.0.0.1:9000"),
    ]
    .map(|(name, value)| (name.into(), value.into()));
    let arguments = [Argument::from_set("journal.commit-every-ms=300").unwrap()];
    let config = parse(Path::new("x.toml"), text, environment, &arguments).unwrap();
    assert_eq!(config.journal.max_bytes, 2 << 30);
    assert_eq!(config.journal.commit_every, Duration::from_millis(300));
    assert_eq!(config.metrics, Some(Metrics { listen: "127.0.0.1:9000".parse().unwrap() }));
}

#[test]
fn the_port_of_a_hub_is_that_of_its_scheme() {
    let urls = ["tls://a", "nats://b", "nats-leaf://127.0.0.1:1", "wss://c/", "wss://[::1]:8443"];
    let read = urls.map(|url| {
        let text = format!(
            "[hub]\nurls = [{url:?}]\nallow-plaintext = true\n\
             tls = {{ ca = \"a\", cert = \"b\", key = \"c\" }}\n{MINIMAL}"
        );
        parse_text(&text).unwrap().hub.unwrap().urls[0].to_string()
    });
    let expected =
        ["tls://a:7422", "nats://b:7422", "nats://127.0.0.1:1", "wss://c:443", "wss://[::1]:8443"];
    assert_eq!(read, expected);
}

#[test]
fn certificates_can_come_from_variables_alone() {
    let environment = [
        ("TIDEGATE_CFG_HUB__TLS__CA", "/ca"),
        ("TIDEGATE_CFG_HUB__TLS__CERT", "/cert"),
        ("TIDEGATE_CFG_HUB__TLS__KEY", "/key"),
    ]
    .map(|(name, value)| (name.into(), value.into()));
    let text = format!("hub.urls = [\"tls://hub\"]\n{MINIMAL}");
    let config = parse(Path::new("x.toml"), &text, environment, &[]).unwrap();
    assert_eq!(config.hub.unwrap().tls.unwrap().key, Path::new("/key"));
}

#[test]
fn a_mistake_in_the_file_is_reported_even_where_a_variable_replaces_it() {
    let text = MINIMAL.replace("[[device]]", "[journal]\nmax-bytes = \"x\"\n[[device]]");
    let environment = [("TIDEGATE_CFG_JOURNAL__MAX_BYTES".into(), "2 GiB".into())];
    let found = parse(Path::new("x.toml"), &text, environment, &[]).unwrap_err();
    assert_eq!(found.paths().collect::<Vec<_>>(), ["journal.max-bytes"]);
}

#[test]
fn the_limit_of_a_time_out_follows_the_poll_interval() {
    let timeout = |poll: u32| {
        let text =
            MINIMAL.replace("192.0.2.10\"", &format!("192.0.2.10\"\npoll-every-ms = {poll}"));
        parse_text(&text).unwrap().devices[0].modbus().unwrap().timeout.as_millis()
    };
    assert_eq!(timeout(10), 100);
    assert_eq!(timeout(300), 300);
    assert_eq!(timeout(60_000), 1000);
}

#[test]
fn bits_of_a_register_and_its_integer_may_be_read_side_by_side() {
    let text = format!(
        "{MINIMAL}\n{}",
        ["holding:100.0", "holding:100.1", "input:100", "coil:100", "discrete:100"]
            .iter()
            .enumerate()
            .map(|(i, address)| format!(
                "[[device.tag]]\npath = \"x{i}\"\naddress = \"{address}\"\n"
            ))
            .collect::<String>()
    );
    assert_eq!(parse_text(&text).unwrap().devices[0].tags.len(), 6);
}

#[test]
fn a_bit_of_a_float_is_a_mistake_whichever_comes_first() {
    let bit = "[[device.tag]]\npath = \"bit\"\naddress = \"holding:200.1\"\n";
    let float = "[[device.tag]]\npath = \"float\"\naddress = \"holding:200\"\ntype = \"float32\"\n";
    for text in [format!("{MINIMAL}{bit}{float}"), format!("{MINIMAL}{float}{bit}")] {
        let found = parse_text(&text).unwrap_err();
        assert_eq!(found.paths().collect::<Vec<_>>(), ["device[0].tag[2].address"]);
    }
}

#[test]
fn a_listener_that_other_machines_reach_must_be_asked_for() {
    for (section, listen, legal) in [
        ("leaf", "127.0.0.1:4223", true),
        ("leaf", "[::1]:4223", true),
        ("leaf", "localhost:4223", true),
        ("leaf", "0.0.0.0:4223", false),
        ("metrics", "[::]:9464", false),
        ("metrics", "192.0.2.1:9464", false),
    ] {
        let own = format!("[{section}]\nlisten = \"{listen}\"\n");
        let result = parse_text(&MINIMAL.replace("[[device]]", &format!("{own}\n[[device]]")));
        assert_eq!(result.is_ok(), legal, "{listen}");
        let own = format!("{own}allow-remote = true\n");
        let result = parse_text(&MINIMAL.replace("[[device]]", &format!("{own}\n[[device]]")));
        assert!(result.is_ok(), "{listen}");
    }
}

#[test]
fn a_leaf_that_somebody_else_runs_listens_where_it_is_looked_for() {
    for (mode, port, legal) in
        [("managed", 0, true), ("external", 4223, true), ("external", 0, false)]
    {
        let own = format!("[leaf]\nmode = \"{mode}\"\nlisten = \"127.0.0.1:{port}\"\n");
        let result = parse_text(&MINIMAL.replace("[[device]]", &format!("{own}\n[[device]]")));
        assert_eq!(result.is_ok(), legal, "{mode} {port}");
        if let Err(mistakes) = result {
            assert_eq!(mistakes.paths().collect::<Vec<_>>(), ["leaf.listen"]);
        }
    }
}

#[test]
fn overlap_is_allowed_where_it_is_asked_for() {
    let second = "\n[[device.tag]]\npath = \"x\"\naddress = \"holding:99\"\ntype = \"int32\"\n";
    let text = format!("{MINIMAL}{second}");
    assert_eq!(
        parse_text(&text).unwrap_err().paths().collect::<Vec<_>>(),
        ["device[0].tag[1].address"]
    );
    assert!(parse_text(&format!("{text}allow-overlap = true\n")).is_ok());
}

#[test]
fn a_check_of_many_tags_is_quick() {
    let mut text = MINIMAL.to_owned();
    for i in 0..20_000 {
        text.push_str(&format!(
            "[[device.tag]]\npath = \"t{i}\"\naddress = \"holding:{}.{}\"\n",
            i / 16,
            i % 16
        ));
    }
    let config = parse_text(&text).unwrap();
    assert_eq!(config.devices[0].tags.len(), 20_001);
}

#[test]
fn every_shipped_example_is_legal() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            load(&file, no_environment(), &[]).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} examples found");
}

/// The blocks of a Markdown text that are whole configuration files.
fn configurations(markdown: &str) -> Vec<&str> {
    markdown
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .filter(|block| block.starts_with("# tidegate.toml"))
        .collect()
}

#[test]
fn every_configuration_in_the_readme_is_legal() {
    let example = format!("x\n```toml\n# tidegate.toml\n{MINIMAL}```\n```toml\n[other]\n```\n");
    assert_eq!(configurations(&example).len(), 1);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for block in configurations(&readme) {
        parse_text(block).unwrap_or_else(|mistakes| panic!("{mistakes}\n{block}"));
    }
}

#[test]
fn paths_are_absolute_even_when_the_file_was_named_relatively() {
    // Tests run in the directory of their package.
    let config = load(Path::new("../examples/laptop.toml"), no_environment(), &[]).unwrap();
    assert!(config.journal.dir.is_absolute(), "{}", config.journal.dir.display());
    assert!(config.journal.dir.ends_with("examples/tidegate-data/journal"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/nowhere/x.toml"), no_environment(), &[]).unwrap_err();
    assert_eq!(error.to_string(), "configuration /nowhere/x.toml cannot be read");
}

#[test]
fn a_file_that_is_not_text_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, b"[gateway]\nplant = \"\xff\"\n").unwrap();
    let error = load(&file, no_environment(), &[]).unwrap_err().to_string();
    assert!(error.contains("x.toml:2:10"), "{error}");
    assert!(error.contains("not UTF-8"), "{error}");
}

#[test]
fn a_file_larger_than_any_configuration_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::File::create(&file).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = load(&file, no_environment(), &[]).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
}

/// One change of a text: a character or a line removed, doubled, replaced or moved.
fn mutate(text: &str, at: usize, how: u8, with: char) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = at % chars.len().max(1);
    match how % 6 {
        0 => drop(chars.remove(at)),
        1 => chars.insert(at, with),
        2 => chars[at] = with,
        3 => chars.truncate(at),
        lines => {
            let mut list: Vec<&str> = text.lines().collect();
            let line = at % list.len().max(1);
            if lines == 4 {
                list.remove(line);
            } else {
                list.insert(at / 7 % list.len(), list[line]);
            }
            return list.join("\n");
        }
    }
    chars.into_iter().collect()
}

/// A text read table by table, and as one.
fn both_ways(text: &str) -> (Option<Config>, Result<Config, Mistakes>) {
    let settings = settings::Settings::default();
    let (dir, file) = (Path::new("/etc/tidegate"), Path::new("/etc/tidegate/tidegate.toml"));
    let whole = check::whole(dir, file, text, &settings, &LISTS, Vec::new());
    let pieces = piecemeal::read(dir, text, &settings, &LISTS);
    (pieces.map(|read| read.config), whole.map(|read| read.config))
}

#[test]
fn usual_files_are_read_table_by_table() {
    let everything = EVERYTHING.replace("deadband-percent = 0\n", "");
    let last = format!("{LINE}\n[control]\nsocket = \"x\" # [[device]]\n");
    let spaced =
        format!("{MINIMAL}\n  [[device.tag]] # [x]\n  path = \"b\"\n  address = \"coil:1\"");
    for text in [MINIMAL, LINE, &everything, &last, &spaced, &MINIMAL.replace('\n', "\r\n")] {
        let (pieces, whole) = both_ways(text);
        assert_eq!(pieces, Some(whole.unwrap()), "{text}");
    }
}

#[test]
fn unusual_files_are_read_as_one() {
    let list =
        MINIMAL.replace("[[device.tag]]\n", "tag = [{ path = \"a\", address = \"coil:1\" }]\n");
    let list = list.split_inclusive('\n').take_while(|line| !line.starts_with("path")).collect();
    let quoted = MINIMAL.replace("[[device]]", "[[\"device\"]]");
    for text in [list, quoted, MINIMAL.replace("[[device.tag]]", "[[ device . tag ]]")] {
        let (pieces, whole) = both_ways(&text);
        assert_eq!(pieces, None, "{text}");
        assert_eq!(whole.unwrap().devices.len(), 1, "{text}");
    }
}

#[test]
fn a_mistake_between_tables_is_seen_by_reading_table_by_table() {
    let tag = "[[device.tag]]\npath = \"x\"\naddress = \"holding:7\"\n";
    let device = "[[device]]\nname = \"press-1\"\nprotocol = \"modbus-tcp\"\naddress = \"h\"\n";
    let wide = "max-registers = 1\n[[device.tag]]\npath = \"y\"\naddress = \"coil:1\"\n";
    for more in [
        format!("{tag}{tag}"),
        format!("{tag}[[device.tag]]\npath = \"z\"\naddress = \"holding:6\"\ntype = \"int32\"\n"),
        format!("{device}{}", tag.replace("\"x\"", "\"other\"")),
        device.replace("press-1", "press-2"),
        format!(
            "{device}base-path = \"PlantA/press-1\"\n{}",
            tag.replace("\"x\"", "\"temperature\"")
        ),
        format!("{}{wide}{tag}type = \"int32\"\n", device.replace("press-1", "press-2")),
        format!(
            "{}max-connections = 3\n{tag}",
            device.replace("press-1", "press-2").replace("\"h\"", "\"192.0.2.10:502\"")
        ) + &device.replace("press-1", "press-3").replace("\"h\"", "\"192.0.2.10\"")
            + &format!("max-connections = 4\n{tag}"),
        format!("{}profile = \"none\"\n{tag}", device.replace("press-1", "press-2")),
        "[[profile]]\nname = \"a\"\n[[profile]]\nname = \"a\"\n".to_owned(),
        format!("[[profile]]\nname = \"a\"\n{}", tag.replace("device", "profile") + "type = 1\n"),
        format!("{}tag-list = \"none.csv\"\n{tag}", device.replace("press-1", "press-2")),
        "[[profile.tag]]\npath = \"x\"\naddress = \"coil:1\"\n".to_owned(),
        "[gateway]\n".to_owned(),
        "[[uplink]]\n".to_owned(),
        "[device.x]\n".to_owned(),
        format!("[journal]\n{tag}[journal]\n"),
    ] {
        let (pieces, whole) = both_ways(&format!("{MINIMAL}\n{more}"));
        assert_eq!(pieces, None, "{more}");
        assert!(whole.is_err(), "{more}");
    }
}

#[test]
fn what_is_wrong_with_a_profile_is_told_once_whoever_uses_it() {
    let profile = "[[profile]]\nname = \"p\"\nmax-gap = 5000\nbaud-rate = 9600\n\
                   [[profile.tag]]\npath = \"x\"\naddress = \"holding:1\"\ntype = \"word\"\n\
                   [[profile.tag]]\npath = \"y\"\naddress = \"holding:5\"\ntype = \"int64\"\n";
    let device = |name: &str, more: &str| {
        format!(
            "[[device]]\nname = \"{name}\"\nprotocol = \"modbus-tcp\"\naddress = \"h\"\n\
             profile = \"p\"\n{more}"
        )
    };
    let paths = |text: &str| -> Vec<String> {
        let found = parse_text(&format!("{MINIMAL}{text}")).unwrap_err();
        found.paths().map(str::to_owned).collect()
    };
    let own = ["profile[0].max-gap", "profile[0].baud-rate", "profile[0].tag[0].type"];
    let three = device("a", "") + &device("b", "") + &device("c", "");
    assert_eq!(paths(&format!("{three}{profile}")), own);
    // What a device makes wrong is told with its name.
    let limited = format!("{}{profile}", device("a", "max-registers = 2\n"));
    let found = parse_text(&format!("{MINIMAL}{limited}")).unwrap_err();
    assert!(found.paths().any(|path| path == "profile[0].tag[1].address"), "{found}");
    assert!(found.to_string().contains("tag \"y\", as device \"a\" uses it"), "{found}");
    // A profile that nobody uses is read too; that it is for a serial line is no mistake then.
    assert_eq!(paths(profile), ["profile[0].max-gap", "profile[0].tag[0].type"]);
    let unused = "[[profile]]\nname = \"p\"\n[[profile.tag]]\npath = \"x\"\n\
                  address = \"holding:65536\"\n";
    assert!(parse_text(&format!("{MINIMAL}{unused}")).is_ok(), "counted from 1 it is legal");
}

#[test]
fn a_unit_twice_on_one_endpoint_is_legal() {
    let again = "[[device]]\nname = \"again\"\nprotocol = \"modbus-tcp\"\n\
                 address = \"192.0.2.10\"\n[[device.tag]]\npath = \"x\"\naddress = \"coil:1\"\n";
    let config = parse_text(&format!("{MINIMAL}{again}")).unwrap();
    let link = |index: usize| &config.devices[index].modbus().unwrap().link;
    assert!(Arc::ptr_eq(link(0), link(1)));
}

#[test]
fn a_link_that_changes_changes_each_of_its_devices() {
    let before = whole_config();
    let after = EVERYTHING.replace("baud-rate = 9600", "baud-rate = 19200");
    let after = parse_text(&after.replace("deadband-percent = 0\n", "")).unwrap();
    let changed = Config::difference(&before, &after).changed;
    let names: Vec<_> = changed.iter().map(|it| (it.name.as_str(), it.polling)).collect();
    assert_eq!(names, [("drive-1", true), ("drive-2", true)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_read_table_by_table_is_what_the_whole_file_says(
        which in 0_usize..3,
        changes in prop::collection::vec(
            (any::<usize>(), any::<u8>(), prop_oneof![
                any::<char>(), Just('"'), Just('\''), Just('['), Just(']'), Just('\n'), Just('='),
                Just('#'), Just('1'), Just(' ')
            ]),
            0..6
        ),
    ) {
        let mut text = [MINIMAL, LINE, EVERYTHING][which].to_owned();
        for (at, how, with) in changes {
            if text.is_empty() {
                break;
            }
            text = mutate(&text, at, how, with);
        }
        let (pieces, whole) = both_ways(&text);
        // What is without a mistake and has usual headers is not read twice.
        if let Some(pieces) = pieces {
            prop_assert_eq!(Ok(pieces), whole);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        if let Err(mistakes) = parse_text(&text) {
            prop_assert!(mistakes.count() > 0);
            let _ = (mistakes.to_string(), mistakes.to_json());
        }
    }

    #[test]
    fn a_damaged_file_is_checked_or_refused_but_never_panics(
        which in 0_usize..3,
        changes in prop::collection::vec(
            (any::<usize>(), any::<u8>(), prop_oneof![any::<char>(), Just('"'), Just('['), Just('\n'), Just('=')]),
            1..8
        ),
    ) {
        let mut text = [MINIMAL, LINE, EVERYTHING][which].to_owned();
        for (at, how, with) in changes {
            if text.is_empty() {
                break;
            }
            text = mutate(&text, at, how, with);
        }
        match parse_text(&text) {
            Ok(config) => prop_assert!(!config.gateway.to_string().is_empty()),
            Err(mistakes) => {
                prop_assert!(!mistakes.to_string().contains("could not be understood"), "{mistakes}");
                let _ = mistakes.to_json();
            }
        }
    }
}

#[test]
fn a_file_may_be_a_credential_of_the_service() {
    let text = "[gateway]\nplant = \"P\"\nname = \"g\"\n[hub]\nurls = [\"tls://hub\"]\n\
                [hub.tls]\nca = \"ca.pem\"\ncert = \"credential:hub.crt\"\nkey = \"credential:hub.key\"\n";
    let there = |path: &Path| path == Path::new("/run/c/plain_hub.key");
    let lists = list::Source { is_there: &there, ..list::NO_LISTS };
    let environment = [("CREDENTIALS_DIRECTORY".into(), "/run/c".into())];
    let read = parse_in(DIRECTORY.as_ref(), FILE.as_ref(), text, environment, &[], &lists).unwrap();
    let tls = read.config.hub.unwrap().tls.unwrap();
    assert_eq!(tls.ca, Path::new("/etc/tidegate/ca.pem"));
    assert_eq!(tls.cert, Path::new("/run/c/hub.crt"), "named where it would be");
    assert_eq!(tls.key, Path::new("/run/c/plain_hub.key"));
    let wrong = text.replace("credential:hub.key", "credential:../hub.key");
    let said = parse(FILE.as_ref(), &wrong, no_environment(), &[]).unwrap_err().to_string();
    assert!(said.contains("names no credential") && said.contains("credential:NAME"), "{said}");
}
