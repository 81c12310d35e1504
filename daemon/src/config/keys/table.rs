//! The rows. Longer than other modules because it is data: one row for each key, read top to
//! bottom like the reference that is printed from it.

use super::{Default, Family, Key, Kind, NumberRule, Reload, Section, Word};

/// Largest interval that makes sense for a poll or a wait: one day.
const DAY_MS: i64 = 86_400_000;

/// The smallest journal: two segments of head-room, one being written and one to drop.
const MIN_JOURNAL: u64 = 32 << 20;

const fn word(name: &'static str, doc: &'static str) -> Word {
    Word { name, doc, built: true }
}

/// A row whose change needs a restart.
const fn fixed(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        families: &Family::ALL,
        kind,
        default,
        reload: Reload::Restart,
        doc,
        example,
    }
}

/// A row of any device or tag, whose change SIGHUP applies.
const fn device(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        families: &Family::ALL,
        kind,
        default,
        reload: Reload::Device,
        doc,
        example,
    }
}

/// The same for devices that are asked.
const fn asked(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        families: &Family::ASKED,
        kind,
        default,
        reload: Reload::Device,
        doc,
        example,
    }
}

/// The same for messages of local applications alone.
const fn nats(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        families: &[Family::Nats],
        kind,
        default,
        reload: Reload::Device,
        doc,
        example,
    }
}

/// The same for Modbus alone.
const fn modbus(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        families: &[Family::Modbus],
        kind,
        default,
        reload: Reload::Device,
        doc,
        example,
    }
}

/// The same for OPC UA alone.
const fn opcua(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        families: &[Family::OpcUa],
        kind,
        default,
        reload: Reload::Device,
        doc,
        example,
    }
}

/// Every key that can be written.
pub const KEYS: &[Key] = &[
    fixed(
        Section::Gateway,
        "plant",
        Kind::Name { max: crate::names::MAX_BYTES },
        Default::Required,
        r#""PlantA""#,
        "The plant: the first part of subjects and of the certificate's name.",
    ),
    fixed(
        Section::Gateway,
        "name",
        Kind::Name { max: crate::names::MAX_BYTES },
        Default::Required,
        r#""gw-line3""#,
        "The gateway, unique in the fleet, for ever: its record at the hub is kept under this name.",
    ),
    fixed(
        Section::Hub,
        "urls",
        Kind::Urls,
        Default::Required,
        r#"["tls://hub-1.example.com:7422", "tls://hub-2.example.com:7422"]"#,
        "Leaf-node URLs of one hub. All of them must lead to the same stream; the order in which \
         they are tried is spread by gateway name. `wss://` is a WebSocket, for networks that let \
         nothing but HTTPS out; its port is 443 when left out, and either all of them are one or \
         none is.",
    ),
    fixed(
        Section::Hub,
        "proxy",
        Kind::Proxy,
        Default::Unset("the URLs are reached directly"),
        r#""http://proxy.example.com:3128""#,
        "The HTTP proxy that is asked to CONNECT to the URLs, which must be `wss://` then.",
    ),
    fixed(
        Section::Hub,
        "proxy-user",
        Kind::Text { max: 128 },
        Default::Unset("the proxy asks for nobody"),
        r#""gateways""#,
        "Who asks the proxy. Name and password cross the network to the proxy readable, as its \
         protocol has it.",
    ),
    fixed(
        Section::Hub,
        "proxy-password-file",
        Kind::File,
        Default::Unset("the proxy asks for nobody"),
        r#""proxy.password""#,
        "A file that holds the password of `proxy-user` alone, read at every start.",
    ),
    fixed(
        Section::Hub,
        "fail-back-after-ms",
        Kind::Millis { min: 1000, max: DAY_MS },
        Default::Unset("the links stay where they are until they break"),
        "600000",
        "How long the URL that this gateway begins with must be reachable again, without a break, \
         before its links go back to it from another one.",
    ),
    fixed(
        Section::Hub,
        "stream",
        Kind::Name { max: 32 },
        Default::Text("TIDE"),
        r#""TIDE""#,
        "The stream that collects the record. Acknowledgements of another stream do not count.",
    ),
    fixed(
        Section::Hub,
        "domain",
        Kind::Name { max: 32 },
        Default::Text("hub"),
        r#""hub""#,
        "The hub's JetStream domain. Acknowledgements of another domain do not count.",
    ),
    fixed(
        Section::Hub,
        "allow-plaintext",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Whether a URL without TLS may lead anywhere but to this machine. Values and records then \
         cross the network readable and changeable by anyone on the way.",
    ),
    fixed(
        Section::HubTls,
        "ca",
        Kind::File,
        Default::Required,
        r#""ca.pem""#,
        "The certificates that the hub's certificate must lead to.",
    ),
    fixed(
        Section::HubTls,
        "cert",
        Kind::File,
        Default::Required,
        r#""gw.pem""#,
        "This gateway's certificate, followed by its chain.",
    ),
    fixed(
        Section::HubTls,
        "key",
        Kind::File,
        Default::Required,
        r#""gw.key""#,
        "This gateway's private key.",
    ),
    fixed(
        Section::Leaf,
        "mode",
        Kind::Word(&[
            word("managed", "a child process of the daemon"),
            word("external", "a service of its own, with the configuration that the daemon writes"),
        ]),
        Default::Text("managed"),
        r#""managed""#,
        "Who runs the NATS server.",
    ),
    fixed(
        Section::Leaf,
        "listen",
        Kind::Listen,
        Default::Text("127.0.0.1:4222"),
        r#""127.0.0.1:4222""#,
        "Where local applications connect.",
    ),
    fixed(
        Section::Leaf,
        "allow-remote",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Whether `listen` may be reached from other machines. Local applications need no \
         credentials, so anyone who reaches the port reads every live value.",
    ),
    fixed(
        Section::Leaf,
        "nats-server",
        Kind::Path,
        Default::Unset("the one beside the package, then the one on PATH"),
        r#""/usr/lib/tidegate/nats-server""#,
        "The nats-server program to run.",
    ),
    fixed(
        Section::Leaf,
        "dir",
        Kind::Path,
        Default::Text("/var/lib/tidegate/leaf"),
        r#""/var/lib/tidegate/leaf""#,
        "Where the server's generated configuration and the local password are kept.",
    ),
    fixed(
        Section::Leaf,
        "local-publish",
        Kind::Subjects,
        Default::Unset("local applications only listen"),
        r#"["site.orders.>"]"#,
        "Subjects on which local applications may publish and ask, without credentials. They reach \
         the hub too, over a link of their own, as far as the hub permits it to this gateway.",
    ),
    fixed(
        Section::Leaf,
        "local-subscribe",
        Kind::Subjects,
        Default::Unset("local applications hear live values only"),
        r#"["site.work.>"]"#,
        "Subjects on which local applications may listen and answer, beside live values. Of a queue \
         group those on this gateway are served first, and the hub's when there is none.",
    ),
    fixed(
        Section::Leaf,
        "jetstream-domain",
        Kind::Name { max: 32 },
        Default::Unset("no JetStream on the gateway"),
        r#""line3""#,
        "Gives local applications JetStream of their own on the gateway, under this domain. It must \
         not be the hub's. The record does not go through it.",
    ),
    fixed(
        Section::Leaf,
        "jetstream-max-bytes",
        Kind::Size { min: 1 << 20, max: 16 << 40 },
        Default::Derived("256 MiB where there is a `jetstream-domain`"),
        r#""1 GiB""#,
        "What the streams of local applications may hold on disk together, below `dir`.",
    ),
    fixed(
        Section::Journal,
        "dir",
        Kind::Path,
        Default::Text("/var/lib/tidegate/journal"),
        r#""/var/lib/tidegate/journal""#,
        "Where the record is kept. Nothing else may live in this directory.",
    ),
    fixed(
        Section::Journal,
        "max-bytes",
        Kind::Size { min: MIN_JOURNAL, max: 16 << 40 },
        Default::Text("8 GiB"),
        r#""8 GiB""#,
        "How large the record may grow, all segments together. Delivered data stays until the \
         room is needed; age never deletes.",
    ),
    fixed(
        Section::Journal,
        "commit-every-ms",
        Kind::Millis { min: 10, max: 60_000 },
        Default::Integer(1000),
        "1000",
        "The longest time between a reading and its fdatasync while there is much to write. What \
         a power cut can take is what was read since; shorter wears flash more.",
    ),
    fixed(
        Section::Journal,
        "when-full",
        Kind::Word(&[
            word("drop-oldest", "the oldest frames make room, and a loss record names them"),
            word(
                "stop-recording",
                "recording pauses, and a loss record names what was not recorded",
            ),
        ]),
        Default::Text("drop-oldest"),
        r#""drop-oldest""#,
        "What happens when the journal is full of frames that the hub does not have.",
    ),
    fixed(
        Section::Uplink,
        "send-every-ms",
        Kind::Millis { min: 10, max: 3_600_000 },
        Default::Integer(2000),
        "2000",
        "The longest wait before a message that is not full is sent. A full one goes at once.",
    ),
    fixed(
        Section::Uplink,
        "max-message",
        // A frame is at most 64 KiB and must fit; nats-server itself advises against more than 8 MiB.
        Kind::Size { min: 64 << 10, max: 8 << 20 },
        Default::Text("256 KiB"),
        r#""256 KiB""#,
        "The largest message. The size in use follows the measured throughput up to this, and \
         never exceeds what the hub accepts.",
    ),
    fixed(
        Section::Uplink,
        "backfill-limit-per-s",
        Kind::Size { min: 1 << 10, max: 1 << 40 },
        Default::Unset("no limit"),
        r#""500 kB""#,
        "How many bytes of backlog are sent per second after an outage.",
    ),
    fixed(
        Section::Uplink,
        "limit-per-s",
        Kind::Size { min: 1 << 10, max: 1 << 40 },
        Default::Unset("no limit"),
        r#""64 KiB""#,
        "How many bytes of the record are sent per second at most, backlog or not. Less than what is \
         recorded lets the backlog grow for ever.",
    ),
    fixed(
        Section::Query,
        "enabled",
        Kind::Flag,
        Default::Flag(true),
        "false",
        "Whether questions are answered at all.",
    ),
    fixed(
        Section::Query,
        "local",
        Kind::Word(&[
            word("none", "nothing"),
            word("gateway", "this gateway"),
            word("fleet", "this gateway, and others as far as the hub lets this one ask them"),
        ]),
        Default::Text("fleet"),
        r#""gateway""#,
        "Whom local applications may ask, which connect to the leaf without credentials.",
    ),
    fixed(
        Section::Query,
        "max-concurrent",
        Kind::Integer { min: 1, max: 64 },
        Default::Integer(4),
        "2",
        "How many questions are worked on side by side.",
    ),
    fixed(
        Section::Query,
        "max-waiting",
        Kind::Integer { min: 0, max: 1024 },
        Default::Integer(16),
        "8",
        "How many more may wait for their turn. Whoever comes then hears `busy`.",
    ),
    fixed(
        Section::Query,
        "max-rows",
        Kind::Integer { min: 1, max: 100_000_000 },
        Default::Integer(1_000_000),
        "100000",
        "Rows of one answer; a larger one is continued by another question.",
    ),
    fixed(
        Section::Query,
        "max-seconds",
        Kind::Integer { min: 1, max: 3600 },
        Default::Integer(300),
        "60",
        "How long one answer may take, whatever deadline the question names. Without one it is 30 s, \
         or this if it is less.",
    ),
    fixed(
        Section::Query,
        "max-part-bytes",
        // A row is at most a frame of 64 KiB, written as JSON; nats-server takes 1 MiB.
        Kind::Size { min: 128 << 10, max: 960 << 10 },
        Default::Text("512 KiB"),
        r#""256 KiB""#,
        "The largest message of an answer. One that is asked for part by part comes in parts of \
         64 KiB.",
    ),
    fixed(
        Section::Metrics,
        "listen",
        Kind::Listen,
        Default::Text("127.0.0.1:9464"),
        r#""127.0.0.1:9464""#,
        "Where metrics and health are served.",
    ),
    fixed(
        Section::Metrics,
        "allow-remote",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Whether `listen` may be reached from other machines. There is no access control.",
    ),
    fixed(
        Section::Control,
        "socket",
        Kind::Path,
        Default::Text("/run/tidegate/control.sock"),
        r#""/run/tidegate/control.sock""#,
        "Where the daemon answers local commands, readable by the group `tidegate`. At most 107 \
         bytes, as the kernel demands.",
    ),
    fixed(
        Section::OpcUa,
        "dir",
        Kind::Path,
        Default::Text("/var/lib/tidegate/opcua"),
        r#""/var/lib/tidegate/opcua""#,
        "Where this gateway's application certificates and the certificates that it trusts are kept.",
    ),
    fixed(
        Section::OpcUa,
        "application-uri",
        Kind::Uri,
        Default::Derived("`urn:tidegate:`, the plant, a colon and the gateway's name"),
        r#""urn:tidegate:PlantA:gw-line3""#,
        "The name of this gateway as an OPC UA application. It stands in its certificate, which is \
         issued anew when it changes.",
    ),
    fixed(
        Section::OpcUa,
        "key-bits",
        Kind::IntegerIn(&[(2048, 2048), (3072, 3072)]),
        Default::Integer(2048),
        "3072",
        "The length of the RSA key of the next application certificate. Some servers take no more \
         than 2048.",
    ),
    fixed(
        Section::Identity,
        "dir",
        Kind::Path,
        Default::Text("/var/lib/tidegate/identity"),
        r#""/var/lib/tidegate/identity""#,
        "Where keys, certificates, the trusted roots and the requests are kept.",
    ),
    fixed(
        Section::Identity,
        "est",
        Kind::HttpsUrl,
        Default::Unset("certificates are dropped as files"),
        r#""https://ca.example.com/.well-known/est""#,
        "The EST server (RFC 7030) that certificates are asked of. Needs `ca-pins`.",
    ),
    fixed(
        Section::Identity,
        "ca-pins",
        Kind::Thumbprints,
        Default::Unset("roots come from `tidegate identity enrol` or from an operator's file"),
        r#"["F1:CC:3D:9A:52:0E:77:14:D6:0B:8F:25:E3:41:9C:AA:06:7D:58:B2:13:EF:90:64:2C:85:D7:3B:1A:F8:40:96"]"#,
        "The SHA-256 thumbprints of the root certificates that are trusted as authority and hub. \
         Nothing is trusted because it was seen first.",
    ),
    fixed(
        Section::Identity,
        "token-file",
        Kind::File,
        Default::Unset("`token` in `dir`"),
        r#""credential:token""#,
        "A file with the token of a single use for the first certificate, and for a new one after \
         the last has expired. It is removed once it was used, where that is possible.",
    ),
    fixed(
        Section::Identity,
        "longest-offline-days",
        Kind::Integer { min: 0, max: 3_650 },
        Default::Integer(7),
        "30",
        "The longest time that this gateway is expected to be without its hub and authority. \
         A certificate is renewed so early that three such times are left, and after two thirds of \
         its life at the latest.",
    ),
    fixed(
        Section::Identity,
        "crl",
        Kind::File,
        Default::Unset("`crl.pem` in `dir`, where there is one"),
        r#""/etc/tidegate/crl.pem""#,
        "The list of certificates that the authority revoked.",
    ),
    fixed(
        Section::Identity,
        "crl-max-age-hours",
        Kind::Integer { min: 1, max: 87_600 },
        Default::Integer(168),
        "168",
        "How old that list, and those of OPC UA, may be before they count as stale, whatever they say of themselves.",
    ),
    fixed(
        Section::Identity,
        "when-crl-stale",
        Kind::Word(&[
            word("accept", "an alarm is raised, and everything goes on with the list as it is"),
            word(
                "refuse",
                "the link to the hub is taken down until there is a fresh list, and servers of OPC UA whose authority's list is stale are not spoken to",
            ),
        ]),
        Default::Text("accept"),
        r#""accept""#,
        "What happens when the list is stale, unreadable or missing although `crl` names one.",
    ),
    fixed(
        Section::Identity,
        "checkpoint-every-ms",
        Kind::Millis { min: 1_000, max: DAY_MS },
        Default::Integer(3_600_000),
        "3600000",
        "How often the gateway signs its record, so that a copy of it can be proved to be its own.",
    ),
    device(
        Section::Device,
        "name",
        Kind::Name { max: 63 },
        Default::Required,
        r#""press-1""#,
        "The device's name in logs, losses and metrics, unique in this file.",
    ),
    device(
        Section::Device,
        "protocol",
        Kind::Word(&[
            word("modbus-tcp", "Modbus over TCP"),
            word("modbus-tls", "Modbus/TCP Security: the same inside TLS, with `tls`"),
            word("modbus-rtu", "Modbus over a serial line"),
            word(
                "modbus-rtu-over-tcp",
                "RTU frames over TCP, through a serial server that does not translate",
            ),
            word("opcua", "OPC UA, binary over TCP"),
            word("nats", "messages that local applications publish at the leaf, on `subjects`"),
        ]),
        Default::Required,
        r#""modbus-tcp""#,
        "What the device speaks. May stand in the profile.",
    ),
    asked(
        Section::Device,
        "address",
        Kind::DeviceAddress,
        Default::Required,
        r#""192.0.2.10:502""#,
        "Where the device listens; the port is 502 when left out, for `modbus-tls` 802. A name is \
         resolved again at each connection attempt. For `modbus-rtu` the serial port; write it the \
         same way at each of its units. For `opcua` the URL, such as \
         `opc.tcp://192.0.2.10:4840/path`; the port is 4840 when left out.",
    ),
    modbus(
        Section::Device,
        "unit",
        Kind::IntegerIn(&[(0, 247), (255, 255)]),
        Default::Integer(1),
        "1",
        "The unit (slave) address behind the endpoint. Over RTU 1 to 247: 0 is the broadcast that \
         nobody answers, and 255 exists over TCP only.",
    ),
    asked(
        Section::Device,
        "poll-every-ms",
        Kind::Millis { min: 10, max: DAY_MS },
        Default::Integer(1000),
        "1000",
        "The poll interval. A slot that passes unused is counted as a loss, never made up for. For \
         `opcua` the sampling interval that the server is asked for.",
    ),
    asked(
        Section::Device,
        "timeout-ms",
        Kind::Millis { min: 10, max: 60_000 },
        Default::Derived(
            "the poll interval, but not under 100 and not over 1000; for `opcua` 4000",
        ),
        "1000",
        "How long one request may take. For Modbus not longer than the poll interval, unless at \
         most 1000, so that a lost device shows as bad within two polls. On a serial port the time \
         that the bytes take on the line comes on top.",
    ),
    asked(
        Section::Device,
        "retry-after-ms",
        Kind::Millis { min: 10, max: 3_600_000 },
        Default::Integer(500),
        "500",
        "The wait before the first new attempt after the connection was lost; it doubles, with \
         jitter, up to `retry-at-most-ms`.",
    ),
    asked(
        Section::Device,
        "retry-at-most-ms",
        Kind::Millis { min: 10, max: 3_600_000 },
        Default::Integer(30_000),
        "30000",
        "The longest wait between two attempts.",
    ),
    modbus(
        Section::Device,
        "max-gap",
        Kind::Integer { min: 0, max: 2000 },
        Default::Integer(16),
        "0",
        "How many registers or bits that no tag needs one request may read along. 0 for devices \
         that refuse requests over unused addresses.",
    ),
    modbus(
        Section::Device,
        "max-registers",
        Kind::Integer { min: 1, max: 125 },
        Default::Integer(125),
        "64",
        "Registers per request; some devices take fewer than the protocol's 125.",
    ),
    modbus(
        Section::Device,
        "max-bits",
        Kind::Integer { min: 1, max: 2000 },
        Default::Integer(2000),
        "256",
        "Coils or discrete inputs per request; some devices take fewer than the protocol's 2000.",
    ),
    device(
        Section::Device,
        "base-path",
        Kind::TagPath,
        Default::Derived("the plant and the device's name"),
        r#""PlantA/Line3/Press1""#,
        "What the path of each of its tags begins with.",
    ),
    modbus(
        Section::Device,
        "address-base",
        Kind::Integer { min: 0, max: 1 },
        Default::Integer(0),
        "1",
        "Which number the device's manual gives to the first register: 0 as on the wire, or 1. \
         Addresses in \"40001\" style always count from 1.",
    ),
    modbus(
        Section::Device,
        "pause-between-ms",
        Kind::Millis { min: 0, max: 60_000 },
        Default::Integer(0),
        "20",
        "The least wait between an answer of this unit and the next request to it. Other units of \
         the line may be asked meanwhile.",
    ),
    modbus(
        Section::Device,
        "forbidden",
        Kind::Ranges,
        Default::Unset("everything may be read along"),
        r#"["holding:1000-1099", "coil:5"]"#,
        "Registers or bits that must never be read, not even along with others, counted like the \
         tags' addresses.",
    ),
    asked(
        Section::Device,
        "profile",
        Kind::Name { max: 63 },
        Default::Unset("no profile"),
        r#""drive""#,
        "The `[[profile]]` whose keys and tags this device takes over.",
    ),
    asked(
        Section::Device,
        "tag-list",
        Kind::Path,
        Default::Unset("no list"),
        r#""press-1.csv""#,
        "A CSV file with more tags, read at the start, by `tidegate check` and at each reload; see \
         `docs/tag-lists.md`.",
    ),
    opcua(
        Section::Device,
        "security",
        Kind::Word(&[
            word("best", "the strongest policy of the three below that the server offers"),
            word("aes256-sha256-rsapss", "Aes256_Sha256_RsaPss"),
            word("aes128-sha256-rsaoaep", "Aes128_Sha256_RsaOaep"),
            word("basic256sha256", "Basic256Sha256"),
            word("none", "nothing is signed or encrypted, and no certificate is looked at"),
        ]),
        Default::Text("best"),
        r#""basic256sha256""#,
        "How messages are protected. `none` is never chosen by itself: anyone on the way can then \
         read and change everything.",
    ),
    opcua(
        Section::Device,
        "message-mode",
        Kind::Word(&[
            word("sign-and-encrypt", "nobody on the way can read or change a message"),
            word("sign", "nobody on the way can change a message"),
        ]),
        Default::Text("sign-and-encrypt"),
        r#""sign""#,
        "What the policy does with each message. Not with `security = \"none\"`.",
    ),
    opcua(
        Section::Device,
        "user",
        Kind::Text { max: 256 },
        Default::Unset("anonymous"),
        r#""tidegate""#,
        "The name to log on with. Written together with `password-file`.",
    ),
    opcua(
        Section::Device,
        "password-file",
        Kind::File,
        Default::Unset("no password"),
        r#""press-1.password""#,
        "The file that holds the password and nothing else, readable by the daemon alone; one line \
         end behind it is none of it. Where there is no such file, a systemd credential of the \
         same name is taken. The password itself never stands in the configuration.",
    ),
    opcua(
        Section::Device,
        "user-cert",
        Kind::File,
        Default::Unset("no certificate of a user"),
        r#""operator.pem""#,
        "The certificate, in PEM, to log on with instead of a name. Written together with \
         `user-key`.",
    ),
    opcua(
        Section::Device,
        "user-key",
        Kind::File,
        Default::Unset("no certificate of a user"),
        r#""operator.key""#,
        "The private key of `user-cert`, in PEM.",
    ),
    opcua(
        Section::Device,
        "trust",
        Kind::Thumbprints,
        Default::Unset("the certificates in `trusted/` of the folder in [opcua]"),
        r#"["2f4a1c0d9be2734f6a1d88e05b3c97a6e1f0427d5c6b8a93d2e4f71805a9c3be"]"#,
        "Server certificates that are accepted beside the trusted ones, by their SHA-256 \
         thumbprints. `tidegate probe opcua` shows a server's.",
    ),
    opcua(
        Section::Device,
        "server-uri",
        Kind::Uri,
        Default::Derived("what the server says of itself"),
        r#""urn:plant:press-1""#,
        "The application URI that the server's certificate must carry.",
    ),
    opcua(
        Section::Device,
        "check-host",
        Kind::Flag,
        Default::Flag(true),
        "false",
        "Whether the server's certificate must name the host in `address`.",
    ),
    opcua(
        Section::Device,
        "advertised-url",
        Kind::Word(&[
            word("ignore", "`address` is dialled, whatever the server says"),
            word("follow", "the URL that the server advertises is dialled"),
        ]),
        Default::Text("ignore"),
        r#""follow""#,
        "What is done with the URL that the server advertises for its endpoint.",
    ),
    opcua(
        Section::Device,
        "collect",
        Kind::Word(&[
            word("subscribe", "the server reports changes"),
            word("poll", "every tag is read at its interval, for servers without subscriptions"),
        ]),
        Default::Text("subscribe"),
        r#""poll""#,
        "How values are collected.",
    ),
    opcua(
        Section::Device,
        "publish-every-ms",
        Kind::Millis { min: 10, max: 3_600_000 },
        Default::Derived("the sampling interval, but not under 100"),
        "500",
        "How often the server sends what changed. Between two publications it holds the values in \
         the queue of each tag.",
    ),
    opcua(
        Section::Device,
        "backfill",
        Kind::Flag,
        Default::Flag(true),
        "false",
        "Whether gaps are filled from the server's history, where it has one.",
    ),
    opcua(
        Section::Device,
        "max-items",
        Kind::Integer { min: 1, max: 100_000 },
        Default::Integer(1000),
        "100",
        "Nodes in one request, beside the limits that the server states.",
    ),
    modbus(
        Section::Device,
        "baud-rate",
        Kind::Integer { min: 300, max: 4_000_000 },
        Default::Integer(19_200),
        "9600",
        "Bits per second of the serial line. This key and all below belong to the way to the device: \
         written at one device they count for every device with the same address, and two different \
         values are a mistake. The serial keys are for `modbus-rtu` only.",
    ),
    modbus(
        Section::Device,
        "parity",
        Kind::Word(&[
            word("even", "Modbus' own default"),
            word("odd", "the other one"),
            word("none", "no parity bit; Modbus then asks for two stop bits"),
        ]),
        Default::Text("even"),
        r#""none""#,
        "The parity bit of the serial line.",
    ),
    modbus(
        Section::Device,
        "stop-bits",
        Kind::Integer { min: 1, max: 2 },
        Default::Integer(1),
        "2",
        "The stop bits of the serial line.",
    ),
    modbus(
        Section::Device,
        "rs485",
        Kind::Word(&[
            word("off", "the adapter turns the line round by itself, as most do"),
            word("rts-high", "RTS is high while the gateway sends"),
            word("rts-low", "RTS is low while the gateway sends"),
        ]),
        Default::Text("off"),
        r#""rts-high""#,
        "Who turns a half-duplex line round, where the kernel's driver must do it.",
    ),
    modbus(
        Section::Device,
        "rs485-delay-before-ms",
        Kind::Millis { min: 0, max: 1000 },
        Default::Integer(0),
        "1",
        "The wait between turning RTS and the first bit.",
    ),
    modbus(
        Section::Device,
        "rs485-delay-after-ms",
        Kind::Millis { min: 0, max: 1000 },
        Default::Integer(0),
        "1",
        "The wait between the last bit and turning RTS back.",
    ),
    modbus(
        Section::Device,
        "turnaround-ms",
        Kind::Millis { min: 0, max: 10_000 },
        Default::Integer(0),
        "5",
        "Silence after an answer before the next request to any unit. RTU keeps at least 3.5 \
         characters of silence whatever stands here.",
    ),
    modbus(
        Section::Device,
        "pause-after-connect-ms",
        Kind::Millis { min: 0, max: 60_000 },
        Default::Integer(0),
        "100",
        "The wait after a connection was made, before the first request.",
    ),
    modbus(
        Section::Device,
        "close-after-poll",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Whether the connection is closed after each poll, for devices with few connections.",
    ),
    modbus(
        Section::Device,
        "max-connections",
        Kind::Integer { min: 1, max: 32 },
        Default::Integer(1),
        "2",
        "Connections at the same time to one endpoint. A serial port has one.",
    ),
    nats(
        Section::Device,
        "subjects",
        Kind::Subjects,
        Default::Required,
        r#"["fleet.prod.veh.VID-001.state.>"]"#,
        "Where local applications publish. Each message is recorded under the path of its subject \
         below `base-path`, and answered once it is on the disk; see `docs/ingest.md`. New subjects \
         need a restart, because the leaf must permit them.",
    ),
    nats(
        Section::Device,
        "skip-parts",
        Kind::Integer { min: 0, max: 16 },
        Default::Integer(0),
        "4",
        "How many parts at the beginning of a subject are left out of the path. They must be the \
         same in all `subjects`.",
    ),
    nats(
        Section::Device,
        "payload",
        Kind::Word(&[
            word("auto", "JSON where it is JSON, else opaque bytes"),
            word("bytes", "always opaque bytes"),
        ]),
        Default::Text("auto"),
        r#""bytes""#,
        "What is read of payloads.",
    ),
    nats(
        Section::Device,
        "split",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Each member of a JSON object is a tag of its own, below the subject's path. An object that \
         cannot be split is one value.",
    ),
    nats(
        Section::Device,
        "id-field",
        Kind::Text { max: 128 },
        Default::Unset("the header `Nats-Msg-Id` alone identifies a message"),
        r#""id""#,
        "The member of a JSON object that identifies the message. What came before is answered \
         again, and recorded once.",
    ),
    nats(
        Section::Device,
        "time-field",
        Kind::Text { max: 128 },
        Default::Unset("the header `Tidegate-Time` alone says when a value arose"),
        r#""ts""#,
        "The member of a JSON object that says when its value arose: a time with its zone, or \
         milliseconds since 1970.",
    ),
    nats(
        Section::Device,
        "value-field",
        Kind::Text { max: 128 },
        Default::Unset("the whole payload"),
        r#""data""#,
        "The member of a JSON object that is the value.",
    ),
    nats(
        Section::Device,
        "max-payload",
        Kind::Size { min: 1, max: 48 * 1024 },
        Default::Text("16 KiB"),
        r#""4 KiB""#,
        "The largest payload; a larger message is refused.",
    ),
    nats(
        Section::Device,
        "max-subjects",
        Kind::Integer { min: 1, max: 10_000 },
        Default::Integer(1000),
        "200",
        "The most tags that are made of subjects and members. Messages that would need more are \
         refused.",
    ),
    nats(
        Section::Device,
        "max-waiting",
        Kind::Integer { min: 16, max: 65_536 },
        Default::Integer(4096),
        "512",
        "The most messages that wait for the disk.",
    ),
    nats(
        Section::Device,
        "when-full",
        Kind::Word(&[
            word(
                "refuse",
                "whoever asked for an answer is told `busy` and tries again; what nobody waits for \
                 is lost, and a loss record names it",
            ),
            word("drop", "it is lost, answer or not, and a loss record names it"),
        ]),
        Default::Text("refuse"),
        r#""refuse""#,
        "What happens to messages when more than `max-waiting` wait.",
    ),
    nats(
        Section::Device,
        "remember-ids",
        Kind::Integer { min: 0, max: 100_000 },
        Default::Integer(10_000),
        "10000",
        "How many identifiers of messages are remembered, so that a repeat is not recorded twice; 0 \
         is none.",
    ),
    nats(
        Section::Device,
        "remember-for-ms",
        Kind::Millis { min: 0, max: 7 * DAY_MS },
        Default::Integer(3_600_000),
        "3600000",
        "How far back from the end of the record identifiers are looked for at a start.",
    ),
    nats(
        Section::Device,
        "answer-within-ms",
        Kind::Millis { min: 0, max: 5000 },
        Default::Integer(200),
        "200",
        "How long a message that asks for an answer may wait for others before all of them are \
         written to the disk together. Shorter wears flash more.",
    ),
    modbus(
        Section::DeviceTls,
        "ca",
        Kind::File,
        Default::Required,
        r#""plc-ca.pem""#,
        "The certificates that may have signed the device's.",
    ),
    modbus(
        Section::DeviceTls,
        "cert",
        Kind::File,
        Default::Unset("only the device proves itself"),
        r#""gw.pem""#,
        "This gateway's certificate, followed by its chain. Written together with `key`.",
    ),
    modbus(
        Section::DeviceTls,
        "key",
        Kind::File,
        Default::Unset("only the device proves itself"),
        r#""gw.key""#,
        "This gateway's private key.",
    ),
    modbus(
        Section::DeviceTls,
        "server-name",
        Kind::Host,
        Default::Derived("the host in `address`"),
        r#""plc-4.example.com""#,
        "The name that the device's certificate must carry.",
    ),
    device(
        Section::Profile,
        "name",
        Kind::Name { max: 63 },
        Default::Required,
        r#""drive""#,
        "What devices call it, unique among the profiles.",
    ),
    device(
        Section::Tag,
        "path",
        Kind::TagPath,
        Default::Required,
        r#""temperature""#,
        "Where the value is found, below the device's `base-path`.",
    ),
    device(
        Section::Tag,
        "address",
        Kind::Address,
        Default::Required,
        r#""holding:100""#,
        "The table and the number of the first register, coil or input. A bit of a register \
         follows a dot, 0 the least significant. For `opcua` the node: by namespace URI, \
         `nsu=urn:press;s=Axis1.Position` (also `i=`, `g=` and `b=`), or by browse path from the \
         root, `/Objects/Press 1/Axis`. A namespace index, `ns=2;i=1017`, is taken with a warning: \
         it may change whenever the server starts.",
    ),
    modbus(
        Section::Tag,
        "type",
        Kind::Word(&[
            word("bool", "one bit"),
            word("int16", "signed, one register"),
            word("uint16", "unsigned, one register"),
            word("int32", "signed, two registers"),
            word("uint32", "unsigned, two registers"),
            word("int64", "signed, four registers"),
            word("uint64", "unsigned, four registers"),
            word("float32", "IEEE 754 single, two registers"),
            word("float64", "IEEE 754 double, four registers"),
            word("bcd16", "binary-coded decimal, four digits in one register"),
            word("bcd32", "binary-coded decimal, eight digits in two registers"),
            word("bcd64", "binary-coded decimal, sixteen digits in four registers"),
            word("text", "text of `length` bytes, two in each register"),
        ]),
        Default::Derived("\"bool\" for coils, discrete inputs and bits, else \"uint16\""),
        r#""float32""#,
        "What the bits mean.",
    ),
    modbus(
        Section::Tag,
        "length",
        Kind::Integer { min: 1, max: tidegate_modbus::MAX_TEXT as i64 },
        Default::Unset("required for `text`, and for nothing else"),
        "16",
        "The bytes of a text; zeros at its end are cut off.",
    ),
    modbus(
        Section::Tag,
        "order",
        Kind::Word(&[
            word("abcd", "as Modbus has it: big-endian"),
            word("cdab", "words swapped"),
            word("badc", "bytes swapped in each word"),
            word("dcba", "both: little-endian"),
        ]),
        Default::Text("abcd"),
        r#""cdab""#,
        "The order of bytes and words on the wire. A text has no words to swap: `abcd` or `badc`.",
    ),
    modbus(
        Section::Tag,
        "scale",
        Kind::Number(NumberRule::NotZero),
        Default::Number(1.0),
        "0.1",
        "What the raw number is multiplied with.",
    ),
    modbus(
        Section::Tag,
        "offset",
        Kind::Number(NumberRule::Finite),
        Default::Number(0.0),
        "-40",
        "What is added after scaling.",
    ),
    device(
        Section::Tag,
        "unit",
        Kind::Text { max: 32 },
        Default::Unset("no unit"),
        r#""degC""#,
        "The engineering unit.",
    ),
    modbus(
        Section::Tag,
        "min",
        Kind::Number(NumberRule::Finite),
        Default::Unset("no lower end"),
        "-40",
        "The lowest legal value, after scaling.",
    ),
    modbus(
        Section::Tag,
        "max",
        Kind::Number(NumberRule::Finite),
        Default::Unset("no upper end"),
        "120",
        "The highest legal value, after scaling.",
    ),
    modbus(
        Section::Tag,
        "outside",
        Kind::Word(&[
            word("mark", "kept as it is, with quality uncertain (`out-of-range`)"),
            word("clamp", "the nearer end, with quality uncertain (`out-of-range`)"),
            word("bad", "no value, quality bad (`out-of-range`)"),
        ]),
        Default::Text("mark"),
        r#""clamp""#,
        "What becomes of a value below `min` or above `max`.",
    ),
    modbus(
        Section::Tag,
        "nan",
        Kind::Word(&[
            word("mark", "kept bit for bit, with quality uncertain (`not-a-number`)"),
            word("bad", "no value, quality bad (`not-a-number`)"),
        ]),
        Default::Text("mark"),
        r#""bad""#,
        "What becomes of a float that is not a number.",
    ),
    modbus(
        Section::Tag,
        "states",
        Kind::States,
        Default::Unset("numbers stay numbers"),
        r#""0=stopped, 1=running""#,
        "Names of the raw numbers, before scaling: the value becomes text.",
    ),
    device(
        Section::Tag,
        "poll-every-ms",
        Kind::Millis { min: 10, max: DAY_MS },
        Default::Derived("the device's"),
        "100",
        "The poll or sampling interval of this tag. Tags of one interval are read together.",
    ),
    device(
        Section::Tag,
        "deadband",
        Kind::Number(NumberRule::NotNegative),
        Default::Unset("every change is published"),
        "0.5",
        "Publish live only what differs by more than this from the last published value. The \
         record keeps every reading.",
    ),
    device(
        Section::Tag,
        "deadband-percent",
        Kind::Number(NumberRule::Percent),
        Default::Unset("every change is published"),
        "1",
        "The same as a share of the last published value. Only one of the two can be written.",
    ),
    device(
        Section::Tag,
        "max-silence-ms",
        Kind::Millis { min: 10, max: DAY_MS },
        Default::Derived("60000, or the poll interval where that is longer"),
        "60000",
        "Publish live at least this often, changed or not. Not shorter than the poll interval.",
    ),
    device(
        Section::Tag,
        "record",
        Kind::Word(&[
            word("all", "every reading; unchanged ones cost almost nothing"),
            word("changes", "only what differs from the reading before"),
        ]),
        Default::Text("all"),
        r#""changes""#,
        "What is recorded.",
    ),
    modbus(
        Section::Tag,
        "allow-overlap",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Whether this tag may share registers with another tag that reads them differently. Bits \
         and the 16-bit integer of one register may always be read side by side.",
    ),
    opcua(
        Section::Tag,
        "queue-size",
        Kind::Integer { min: 1, max: 100_000 },
        Default::Derived(
            "as many as are sampled between two publications or in two seconds, at least 10",
        ),
        "10",
        "How many values the server holds between two publications.",
    ),
    opcua(
        Section::Tag,
        "discard",
        Kind::Word(&[
            word("oldest", "the oldest value makes room"),
            word("newest", "the newest value but the very last is lost"),
        ]),
        Default::Text("oldest"),
        r#""newest""#,
        "Which value a full queue at the server loses. That one was lost is recorded.",
    ),
    opcua(
        Section::Tag,
        "trigger",
        Kind::Word(&[
            word("status-value", "another status or value"),
            word("status-value-timestamp", "another status, value or source time"),
            word("status", "another status alone"),
        ]),
        Default::Text("status-value"),
        r#""status-value-timestamp""#,
        "What counts as a change at the server.",
    ),
    opcua(
        Section::Tag,
        "server-deadband",
        Kind::Number(NumberRule::NotNegative),
        Default::Unset("the server sends every change"),
        "0.5",
        "Changes up to this much are kept by the server: they are neither recorded nor published.",
    ),
    opcua(
        Section::Tag,
        "server-deadband-percent",
        Kind::Number(NumberRule::Percent),
        Default::Unset("the server sends every change"),
        "1",
        "The same as a share of the range (EURange) of an analog item. Only one of the two can be \
         written.",
    ),
    opcua(
        Section::Tag,
        "index-range",
        Kind::IndexRange,
        Default::Unset("the whole value"),
        r#""0:9""#,
        "The part of an array that is read, as OPC UA writes it.",
    ),
    opcua(
        Section::Tag,
        "subtree",
        Kind::Flag,
        Default::Flag(false),
        "true",
        "Whether the row stands for every value below the object at `address`. Its `path` is then \
         what the paths of these values begin with.",
    ),
    opcua(
        Section::Tag,
        "include",
        Kind::Patterns,
        Default::Unset("every value"),
        r#"["Axis?/*", "**/Temperature"]"#,
        "Which values below the object are taken, by their browse names: `*` stands for any text \
         within a level, `?` for one character, `**` for any number of levels.",
    ),
    opcua(
        Section::Tag,
        "exclude",
        Kind::Patterns,
        Default::Unset("nothing is left out"),
        r#"["**/_*"]"#,
        "Which of them are left out.",
    ),
    opcua(
        Section::Tag,
        "max-tags",
        Kind::Integer { min: 1, max: 100_000 },
        Default::Integer(5000),
        "200",
        "The most values below the object. More are a mistake, and none is taken.",
    ),
    opcua(
        Section::Tag,
        "max-depth",
        Kind::Integer { min: 1, max: 64 },
        Default::Integer(16),
        "4",
        "How many levels below the object are looked at.",
    ),
];
