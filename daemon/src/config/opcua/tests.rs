//! OPC UA through the check of a whole configuration.

use std::path::Path;

use tidegate_opcua::{SubtreeSpec, TagSpec, Thumbprint};

use super::*;
use crate::config::check::{Loaded, parse_in};
use crate::config::keys::{self, Family, KEYS, Key};
use crate::config::list::{self, NO_LISTS, Source};
use crate::config::{Config, Deadband, Device, Manner, Mistakes, RecordMode, warnings};

const HEAD: &str = "[gateway]\nplant = \"P\"\nname = \"g\"\n";
const SERVER: &str = "[[device]]\nname = \"d\"\nprotocol = \"opcua\"\naddress = \"opc.tcp://h\"\n";
const TAG: &str = "[[device.tag]]\npath = \"a\"\naddress = \"nsu=urn:x;s=a\"\n";

fn parse(text: &str) -> Result<Config, Mistakes> {
    crate::config::parse(Path::new("/etc/tidegate/x.toml"), &format!("{HEAD}{text}"), [], &[])
}

/// One server with more keys and more in its tag.
fn server(keys: &str, tag: &str) -> Result<Config, Mistakes> {
    parse(&format!("{SERVER}{keys}\n{TAG}{tag}\n"))
}

fn spec(config: &Config) -> &tidegate_opcua::DeviceSpec {
    config.devices[0].opcua().unwrap()
}

/// The one mistake of a text, as a line without its place.
fn mistake(found: Result<Config, Mistakes>) -> String {
    let found = found.unwrap_err();
    let lines: Vec<String> = found.lines().collect();
    assert_eq!(lines.len(), 1, "{found}");
    let (_, line) = lines[0].split_once(": ").unwrap();
    line.to_owned()
}

#[test]
fn three_lines_make_a_server_with_safe_defaults() {
    let config = server("", "").unwrap();
    let item = Arc::new(ItemSpec {
        sample_every: None,
        queue: None,
        discard: Discard::Oldest,
        trigger: Trigger::StatusValue,
        deadband: ServerDeadband::None,
        index_range: None,
    });
    let path = tidegate_translator::TagPath::new("P/d/a").unwrap();
    let node = NodeAddress::parse("nsu=urn:x;s=a").unwrap();
    assert_eq!(
        *spec(&config),
        DeviceSpec {
            name: "d".into(),
            url: EndpointUrl { host: "h".into(), port: 4840, path: String::new() },
            follow_advertised: false,
            security: Security::Protected { policy: None, mode: Mode::SignAndEncrypt },
            user: UserSpec::Anonymous,
            trust: TrustSpec::default(),
            collect: Collect::Subscribe,
            sample_every: Duration::from_secs(1),
            publish_every: None,
            timeout: Duration::from_secs(4),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            backfill: true,
            max_items: 1000,
            tags: Arc::new([TagSpec { path: path.clone(), node, item }]),
            subtrees: Arc::default(),
        }
    );
    assert_eq!(config.devices[0].tags[0].path, path);
    assert_eq!(config.devices[0].interval(0), Duration::from_secs(1));
    assert_eq!(warnings::of(&config), [] as [&str; 0]);
}

#[test]
fn every_key_of_a_server_reaches_it() {
    let config = crate::config::tests::whole_config();
    let device = config.devices.iter().find(|device| device.name() == "press").unwrap();
    let spec = device.opcua().unwrap();
    let thumbprint = Thumbprint::parse(&"00112233445566778899aabbccddeeff".repeat(2)).unwrap();
    let dir = Path::new("/etc/tidegate");
    assert_eq!(
        **spec,
        DeviceSpec {
            name: "press".into(),
            url: EndpointUrl { host: "press".into(), port: 4841, path: "/UA".into() },
            follow_advertised: true,
            security: Security::Protected {
                policy: Some(Policy::Aes128Sha256RsaOaep),
                mode: Mode::Sign
            },
            user: UserSpec::Password { name: "tidegate".into(), file: dir.join("press.password") },
            trust: TrustSpec {
                thumbprints: Arc::new([thumbprint]),
                application_uri: Some("urn:press".into()),
                any_host: true,
            },
            collect: Collect::Subscribe,
            sample_every: Duration::from_millis(200),
            publish_every: Some(Duration::from_millis(400)),
            timeout: Duration::from_secs(9),
            backoff: (Duration::from_millis(100), Duration::from_millis(200)),
            backfill: false,
            max_items: 7,
            tags: Arc::clone(&spec.tags),
            subtrees: Arc::clone(&spec.subtrees),
        }
    );
    assert_eq!(
        config.opcua,
        OpcUa { dir: dir.join("pki"), application_uri: "urn:werk1:gw-9".into(), key_bits: 3072 }
    );
    let node = |text: &str| NodeAddress::parse(text).unwrap();
    let path = |text: &str| tidegate_translator::TagPath::new(text).unwrap();
    let item = ItemSpec {
        sample_every: Some(Duration::from_millis(50)),
        queue: Some(9),
        discard: Discard::Newest,
        trigger: Trigger::StatusValueTimestamp,
        deadband: ServerDeadband::Absolute(0.5),
        index_range: Some("1,0:3".into()),
    };
    let position = TagSpec {
        path: path("Werk1/Press/position"),
        node: node("nsu=urn:press;s=Axis1.Position"),
        item: Arc::new(item.clone()),
    };
    assert_eq!(spec.tags[0], position);
    assert_eq!(&*device.tags[0].address, "nsu=urn:press;s=Axis1.Position");
    let manner = Manner {
        unit: Some("mm".into()),
        deadband: Deadband::Absolute(1.0),
        max_silence: Duration::from_secs(5),
        record: RecordMode::Changes,
    };
    assert_eq!(*device.tags[0].manner, manner);
    let plain = ItemSpec {
        sample_every: None,
        queue: None,
        discard: Discard::Oldest,
        trigger: Trigger::StatusValue,
        deadband: ServerDeadband::Percent(2.0),
        index_range: None,
    };
    let list = |patterns: &[&str]| patterns.iter().map(|text| Box::from(*text)).collect();
    let all = SubtreeSpec {
        path: path("Werk1/Press/all"),
        node: node("/Objects/Press"),
        item: Arc::new(plain.clone()),
        include: list(&["Axis?/*"]),
        exclude: list(&["**/_*", "x"]),
        max_tags: 10,
        max_depth: 3,
    };
    // And what stands in the list.
    let listed = TagSpec {
        path: path("Werk1/Press/list/f"),
        node: node("nsu=urn:press;s=a,b"),
        item: Arc::new(ItemSpec {
            sample_every: Some(Duration::from_millis(100)),
            queue: Some(3),
            deadband: ServerDeadband::Percent(1.5),
            index_range: Some("3".into()),
            ..item
        }),
    };
    let tree = SubtreeSpec {
        path: path("Werk1/Press/list/t"),
        node: node("/Objects/Oven"),
        item: Arc::new(ItemSpec { deadband: ServerDeadband::Absolute(0.25), ..plain }),
        include: list(&["Zone?/*", "**/SP"]),
        exclude: list(&["**/_*"]),
        max_tags: 20,
        max_depth: 2,
    };
    assert_eq!((&spec.tags[1], &*spec.subtrees), (&listed, &[all, tree][..]));
    assert_eq!(device.subtrees[1].path, path("Werk1/Press/list/t"));
    assert_eq!((device.tags.len(), device.subtrees.len()), (2, 2));
}

#[test]
fn a_profile_says_what_servers_have_in_common() {
    let config = crate::config::tests::whole_config();
    let named = |name: &str| config.devices.iter().find(|device| device.name() == name).unwrap();
    let oven = named("oven").opcua().unwrap();
    assert_eq!((oven.collect, oven.sample_every), (Collect::Poll, Duration::from_secs(5)));
    assert_eq!(oven.url.to_string(), "opc.tcp://[fd00::7]:4840");
    let cert = Path::new("/etc/tidegate/user.pem").to_owned();
    assert_eq!(oven.user, UserSpec::Certificate { cert, key: "/user.key".into() });
    assert_eq!(named("oven").tags[0].path.as_str(), "Werk1/oven/temperature");
    assert_eq!(named("old").opcua().unwrap().security, Security::None);
}

#[test]
fn what_is_legal_and_should_be_known_is_told_once_for_each_device() {
    let found = warnings::of(&crate::config::tests::whole_config());
    assert_eq!(
        found,
        [
            "oven: Werk1/oven/temperature is addressed by a namespace index, \"ns=2;i=17\": it may \
             mean another namespace after the server's next start; write the URI, like \
             \"nsu=URI;s=NAME\"",
            "old: security is \"none\": anyone on the way can read and change everything",
        ]
    );
    let keys = "security = \"none\"\nuser = \"u\"\npassword-file = \"f\"\n";
    let more = "[[device.tag]]\npath = \"b\"\naddress = \"/Objects/2:x\"\n[[device.tag]]\n\
                path = \"c\"\nsubtree = true\naddress = \"ns=3;s=x\"\n";
    let found = warnings::of(&server(keys, more).unwrap());
    assert!(found[0].ends_with("and perhaps read the password"), "{found:?}");
    assert!(found[1].contains("\"/Objects/2:x\", and 1 more by index: it may"), "{found:?}");
}

#[test]
fn every_rule_of_a_server_has_its_message() {
    let thumb = "ab".repeat(20);
    for (keys, expected) in [
        (
            "password = \"hunter2\"",
            "device[0].password: a password does not stand in the configuration; legal: \
             password-file = \"press-1.password\", a file that holds the password alone and that \
             only the daemon can read",
        ),
        (
            "user = \"u\"",
            "device[0].user: there is a user and no password-file; legal: user and password-file \
             together, or neither",
        ),
        (
            "password-file = \"f\"",
            "device[0].password-file: there is a password-file and no user; legal: user and \
             password-file together, or neither",
        ),
        (
            "user-cert = \"f\"",
            "device[0].user-cert: there is a user-cert and no user-key; legal: user-cert and \
             user-key together, or neither",
        ),
        (
            "user-key = \"f\"",
            "device[0].user-key: there is a user-key and no user-cert; legal: user-cert and \
             user-key together, or neither",
        ),
        (
            "user = \"u\"\npassword-file = \"f\"\nuser-cert = \"f\"\nuser-key = \"f\"",
            "device[0].user-cert: the gateway logs on by name and password already; legal: user and \
             password-file, or user-cert and user-key",
        ),
        (
            "security = \"none\"\nmessage-mode = \"sign\"",
            "device[0].message-mode: security is \"none\": no message is signed or encrypted; legal: \
             nothing beside security = \"none\", or another security",
        ),
        (
            "security = \"none\"\ntrust = [\"abababababababababababababababababababababababababababababababab\"]",
            "device[0].trust: security is \"none\": no certificate is looked at; legal: nothing \
             beside security = \"none\", or another security",
        ),
        (
            "security = \"basic256\"",
            "device[0].security: \"basic256\" is none of the legal words; legal: \"best\", \
             \"aes256-sha256-rsapss\", \"aes128-sha256-rsaoaep\", \"basic256sha256\" or \"none\"",
        ),
        (
            &format!("trust = [\"{thumb}\"]"),
            "device[0].trust[0]: \"abababababababababababababababababababab\" is a SHA-1 \
             thumbprint; legal: a list of 1 to 64 SHA-256 thumbprints, each of 64 hexadecimal \
             digits",
        ),
        (
            "trust = [\"0x12\"]",
            "device[0].trust[0]: \"0x12\" is no SHA-256 thumbprint; legal: a list of 1 to 64 \
             SHA-256 thumbprints, each of 64 hexadecimal digits",
        ),
        (
            "server-uri = \"press\"",
            "device[0].server-uri: \"press\" is no URI: it begins with no scheme, such as \"urn:\"; \
             legal: a URI of 3 to 512 characters, such as \"urn:plant:press-1\"",
        ),
        (
            "server-uri = \"urn:a b\"",
            "device[0].server-uri: \"urn:a b\" holds a character that no URI can have; legal: a URI \
             of 3 to 512 characters, such as \"urn:plant:press-1\"",
        ),
        (
            "collect = \"poll\"\npublish-every-ms = 100",
            "device[0].publish-every-ms: nothing is published: collect is \"poll\"; legal: nothing, \
             or collect = \"subscribe\"",
        ),
        (
            "retry-after-ms = 500\nretry-at-most-ms = 400",
            "device[0].retry-at-most-ms: the first wait of 500 ms is longer than the longest of 400 \
             ms; legal: retry-after-ms not above retry-at-most-ms",
        ),
        (
            "tls = { ca = \"x\" }",
            "device[0].tls: tls is for Modbus devices, and this one speaks OPC UA; legal: nothing: \
             `security`, `trust` and the [opcua] section do this for OPC UA",
        ),
    ] {
        assert_eq!(mistake(server(keys, "")), expected);
    }
    // Longer than any poll: a server answers when it has something to say.
    assert!(server("timeout-ms = 60000\npoll-every-ms = 10", "").is_ok());
}

#[test]
fn every_rule_of_a_node_has_its_message() {
    for (keys, tag, expected) in [
        (
            "",
            "server-deadband = 1\nserver-deadband-percent = 1",
            "server-deadband-percent: there is a server-deadband already; legal: server-deadband or \
             server-deadband-percent",
        ),
        (
            "",
            "trigger = \"status\"\nserver-deadband-percent = 1",
            "server-deadband-percent: the trigger is \"status\": no value is compared; legal: \
             nothing, or trigger = \"status-value\"",
        ),
        (
            "collect = \"poll\"",
            "queue-size = 2",
            "queue-size: there is no queue-size where values are polled; legal: nothing, or collect \
             = \"subscribe\" at the device",
        ),
        (
            "collect = \"poll\"",
            "server-deadband = 2",
            "server-deadband: there is no server-deadband where values are polled; legal: nothing, \
             or collect = \"subscribe\" at the device",
        ),
        (
            "",
            "index-range = \"9:0\"",
            "index-range: \"9:0\" ends before it begins; one element is written alone; legal: \
             \"3\", \"0:9\", or one of these for each dimension: \"1,0:3\"",
        ),
        (
            "",
            "max-depth = 3",
            "max-depth: max-depth is about a subtree, and this is a single tag; legal: nothing, or \
             subtree = true beside it",
        ),
        (
            "",
            "include = [\"*\"]",
            "include: include is about a subtree, and this is a single tag; legal: nothing, or \
             subtree = true beside it",
        ),
        (
            "",
            "subtree = true\nunit = \"mm\"",
            "unit: the server tells the unit of each value of a subtree; legal: nothing, or a row \
             for the single tag",
        ),
        (
            "",
            "subtree = true\nindex-range = \"1\"",
            "index-range: no part of an array is taken of each value of a subtree; legal: nothing, \
             or a row for the single tag",
        ),
        (
            "",
            "subtree = true\nexclude = [\"a/\"]",
            "exclude[0]: pattern \"a/\" has an empty name in it; legal: write it like \
             \"Axis?/**\" or \"*/Temperature\"",
        ),
        (
            "",
            "max-silence-ms = 100",
            "max-silence-ms: 100 ms is shorter than the poll interval of 1000 ms; legal: 1000 \
             milliseconds and more for this device",
        ),
    ] {
        assert_eq!(mistake(server(keys, tag)), format!("device[0].tag[0].{expected}"));
    }
    for (address, expected) in [
        (
            "nsu=;s=a",
            "the namespace URI in \"nsu=;s=a\" is empty; legal: write it like \
             \"nsu=urn:press;s=Axis1\"",
        ),
        (
            "holding:100",
            "\"holding:100\" is no node address; legal: write it like \
             \"nsu=urn:press;s=Axis1.Position\" or \"/Objects/Press 1/Axis\"",
        ),
    ] {
        let found = mistake(parse(&format!("{SERVER}{}", TAG.replace("nsu=urn:x;s=a", address))));
        assert_eq!(found, format!("device[0].tag[0].address: {expected}"));
    }
    let long = TAG.replace("s=a", &format!("s={}", "a".repeat(4096)));
    let found = mistake(parse(&format!("{SERVER}{long}")));
    assert!(found.starts_with("device[0].tag[0].address: the address has 4108 bytes"), "{found}");
}

#[test]
fn what_is_missing_is_told_as_an_opc_ua_device_has_it() {
    let found =
        mistake(parse(&format!("{}{TAG}", SERVER.replace("address = \"opc.tcp://h\"\n", ""))));
    assert_eq!(
        found,
        "device[0].address: \"address\" is missing; legal: \"opc.tcp://host:port/path\"; the port is \
         4840 when left out, for example address = \"opc.tcp://192.0.2.10:4840\""
    );
    let found = mistake(parse(&format!("{SERVER}[[device.tag]]\npath = \"a\"\n")));
    assert_eq!(
        found,
        "device[0].tag[0].address: \"address\" is missing; legal: \"nsu=URI;s=NAME\", also with i=, \
         g= or b=, or a browse path from the root, such as \"/Objects/Press 1/Axis\", for example \
         address = \"nsu=urn:press;s=Axis1.Position\""
    );
    let found = mistake(server("secrity = \"none\"", ""));
    assert!(found.starts_with("device[0].secrity: unknown key in [[device]]"), "{found}");
    assert!(found.contains("security") && !found.contains("max-gap"), "{found}");
}

#[test]
fn the_keys_of_each_family_are_these() {
    let names = |section: Section, family: Option<Family>| -> Vec<&str> {
        let rows = KEYS.iter().filter(|key| key.section == section && key.only() == family);
        rows.map(|key| key.name).collect()
    };
    assert_eq!(
        names(Section::Device, None),
        [
            "name",
            "protocol",
            "address",
            "poll-every-ms",
            "timeout-ms",
            "retry-after-ms",
            "retry-at-most-ms",
            "base-path",
            "profile",
            "tag-list"
        ]
    );
    assert_eq!(
        names(Section::Device, Some(Family::OpcUa)),
        [
            "security",
            "message-mode",
            "user",
            "password-file",
            "user-cert",
            "user-key",
            "trust",
            "server-uri",
            "check-host",
            "advertised-url",
            "collect",
            "publish-every-ms",
            "backfill",
            "max-items"
        ]
    );
    assert_eq!(
        names(Section::Tag, None),
        [
            "path",
            "address",
            "unit",
            "poll-every-ms",
            "deadband",
            "deadband-percent",
            "max-silence-ms",
            "record"
        ]
    );
    assert_eq!(
        names(Section::Tag, Some(Family::OpcUa)),
        [
            "queue-size",
            "discard",
            "trigger",
            "server-deadband",
            "server-deadband-percent",
            "index-range",
            "subtree",
            "include",
            "exclude",
            "max-tags",
            "max-depth"
        ]
    );
}

#[test]
fn a_url_that_is_none_is_told_with_what_was_meant() {
    let address = |text: &str| {
        let server = SERVER.replace("opc.tcp://h", text);
        parse(&format!("{server}{TAG}")).unwrap_err().to_string()
    };
    for (text, expected) in [
        ("192.0.2.10:4840", "\"192.0.2.10:4840\" is no opc.tcp URL"),
        ("opc.https://h", "\"opc.https://h\" is no opc.tcp URL"),
        ("opc.tcp://", "\"opc.tcp://\" names no host and port"),
        ("opc.tcp://h:x", "\"opc.tcp://h:x\" names no host and port"),
        ("opc.tcp://192.0.2.300", "\"192.0.2.300\" in \"opc.tcp://192.0.2.300\" names no host"),
        ("/dev/ttyS0", "\"/dev/ttyS0\" is no opc.tcp URL"),
    ] {
        let found = address(text);
        assert!(found.contains(&format!("device[0].address: {expected}\n")), "{found}");
        assert!(found.contains("legal: \"opc.tcp://host:port/path\"; the port is 4840"), "{found}");
        assert_eq!(found.contains("did you mean"), text.starts_with("192"), "{found}");
    }
    assert!(address("192.0.2.10:4840").contains("did you mean `opc.tcp://192.0.2.10:4840`?"));
}

#[test]
fn no_password_is_ever_repeated() {
    for keys in [
        "password = \"hunter2\"",
        "user = \"u\"\npassword=\"hunter2\"",
        "\"password\" = 'hunter2 and more'",
        "password-file = \"f\"\nuser = \"u\"\npassword = { a = \"hunter2\" }",
        "password = \"hunter2",
    ] {
        let found = server(keys, "").unwrap_err();
        let told = format!("{found}{}{:?}", found.to_json(), found.lines().collect::<Vec<_>>());
        assert!(told.contains("password") && !told.contains("hunter2"), "{told}");
    }
    let text = format!("{}{TAG}", SERVER.replace("//h", "//u:hunter2@h"));
    let found = parse(&text).unwrap_err();
    let told = format!("{found}{}{:?}", found.to_json(), found.lines().collect::<Vec<_>>());
    assert!(told.contains("the URL carries credentials"), "{told}");
    assert!(told.contains("user and password-file") && !told.contains("hunter2"), "{told}");
}

/// A legal device of each family without tags, and the key path of its first tag's address.
fn device_of(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::OpcUa => (SERVER, TAG),
        Family::Nats => {
            ("[[device]]\nname = \"d\"\nprotocol = \"nats\"\nsubjects = [\"a.>\"]\n", "")
        }
        Family::Modbus => (
            "[[device]]\nname = \"d\"\nprotocol = \"modbus-tcp\"\naddress = \"h\"\n",
            "[[device.tag]]\npath = \"a\"\naddress = \"holding:1\"\n",
        ),
    }
}

/// A device of a family with one more key.
fn with(family: Family, key: &Key) -> String {
    let (device, tag) = device_of(family);
    let line = format!("{} = {}\n", key.name, key.example);
    match key.section {
        Section::Tag => format!("{device}{tag}{line}"),
        Section::DeviceTls => format!("{device}[device.tls]\nca = \"x\"\n{line}{tag}"),
        _ => format!("{device}{line}{tag}"),
    }
}

#[test]
fn a_key_of_another_family_is_refused_by_name_wherever_it_stands() {
    let of_devices = |key: &&Key| matches!(key.section, Section::Device | Section::Tag);
    let mut refused = 0;
    for key in KEYS.iter().filter(of_devices) {
        for family in Family::ALL {
            if family == Family::Nats && key.section == Section::Tag {
                // None of its tags stands in the file.
                continue;
            }
            let found = parse(&with(family, key));
            let (own, other) = (family.noun(), key.nouns());
            let message = format!("{} is for {other} devices, and this one speaks {own}", key.name);
            let told = found.map_or_else(|mistakes| mistakes.to_string(), |_| String::new());
            if key.families.contains(&family) {
                assert!(!told.contains("devices, and this one speaks"), "{told}");
                continue;
            }
            refused += 1;
            let place = if key.section == Section::Tag { "device[0].tag[0]" } else { "device[0]" };
            let expected = format!("error: {place}.{}: {message}\n", key.name);
            assert!(told.contains(&expected), "{} in\n{told}", key.name);
            assert!(told.contains(&format!("legal: {}", family.instead_of(key.name))), "{told}");
            assert!(told.contains("\n1 mistake in"), "nothing follows from it:\n{told}");
        }
    }
    assert!(refused > 40, "{refused}");
    // Whatever stands outside of devices is for all of them.
    let outside = KEYS.iter().filter(|key| !key.section.is_of_many());
    assert!(outside.into_iter().all(|key| key.families == Family::ALL));
    assert!(keys::of(Section::DeviceTls).all(|key| key.only() == Some(Family::Modbus)));
}

#[test]
fn what_a_profile_says_for_others_is_told_at_the_profile() {
    let profile = |more: &str| format!("[[profile]]\nname = \"p\"\n{more}\n");
    let device = format!("{SERVER}profile = \"p\"\n{TAG}");
    let again = device.replace("\"d\"", "\"e\"");
    let found = mistake(parse(&format!("{device}{again}{}", profile("max-gap = 3"))));
    assert!(found.starts_with("profile[0].max-gap: max-gap is for Modbus devices"), "{found}");
    // The profile itself says what it is for.
    let found = mistake(parse(&profile("protocol = \"opcua\"\nmax-gap = 3")));
    assert!(found.starts_with("profile[0].max-gap: max-gap is for Modbus devices"), "{found}");
    let found = mistake(parse(&profile("protocol = \"modbus-tcp\"\ncollect = \"poll\"")));
    assert!(found.starts_with("profile[0].collect: collect is for OPC UA devices"), "{found}");
    let tls = profile("protocol = \"opcua\"\ntls = { ca = \"x\" }");
    assert!(mistake(parse(&tls)).starts_with("profile[0].tls: tls is for Modbus devices"));
    // One that nobody uses and that does not say it, is taken as what it looks like.
    let node = "[[profile.tag]]\npath = \"a\"\naddress = \"nsu=urn:x;s=a\"\n";
    assert!(parse(&(profile("timeout-ms = 9000") + node)).is_ok());
    assert!(parse(&(profile("collect = \"poll\"\ntimeout-ms = 9000") + node)).is_ok());
    let found = mistake(parse(&(profile("") + &node.replace("s=a", "q=a"))));
    assert!(found.starts_with("profile[0].tag[0].address: "), "{found}");
}

#[test]
fn a_protocol_that_is_none_makes_no_other_mistakes() {
    let wrong = SERVER.replace("\"opcua\"", "\"opc-ua\"");
    let found = parse(&format!("{wrong}security = \"sign\"\n{TAG}queue-size = 3\n")).unwrap_err();
    let paths: Vec<_> = found.paths().collect();
    assert_eq!(paths, ["device[0].protocol", "device[0].security"], "{found}");
    let missing = SERVER.replace("protocol = \"opcua\"\n", "");
    let found = mistake(parse(&format!("{missing}{TAG}")));
    assert!(found.starts_with("device[0].protocol: \"protocol\" is missing"), "{found}");
}

#[test]
fn duplicate_nodes_are_legal_and_duplicate_paths_are_not() {
    let again = TAG.replace("\"a\"", "\"b\"");
    assert_eq!(server("", &again).unwrap().devices[0].tags.len(), 2);
    let tree = format!("{}subtree = true\n", TAG.replace("s=a", "s=other"));
    for again in [TAG, &tree] {
        let found = mistake(server("", again));
        assert!(found.contains("another tag has the path \"P/d/a\" already"), "{found}");
    }
}

#[test]
fn a_server_with_subtrees_alone_has_tags_enough() {
    let config = parse(&format!("{SERVER}{TAG}subtree = true\n")).unwrap();
    assert_eq!((config.devices[0].tags.len(), config.devices[0].subtrees.len()), (0, 1));
    assert!(mistake(parse(SERVER)).starts_with("device[0]: the device has no tag"));
}

#[test]
fn the_section_is_checked_where_it_stands() {
    for (text, expected) in [
        ("key-bits = 4096", "opcua.key-bits: 4096 is out of range; legal: 2048 or 3072"),
        ("application-uri = \"gw\"", "opcua.application-uri: \"gw\" is no URI"),
        (
            "dir = \"/var/lib/tidegate/journal/pki\"",
            "opcua.dir: nothing else may live in the journal's directory",
        ),
    ] {
        let found = mistake(parse(&format!("[opcua]\n{text}\n")));
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn a_change_concerns_the_server_alone_and_says_whether_it_is_asked_anew() {
    let other = SERVER.replace("\"d\"", "\"e\"");
    let file = |keys: &str, tag: &str| {
        parse(&format!("{SERVER}{keys}\n{TAG}{tag}\n{other}{TAG}")).unwrap()
    };
    let changed = |keys: &str, tag: &str| {
        let found = Config::difference(&file("", ""), &file(keys, tag));
        assert!(found.restart_needed.is_empty() && found.added.is_empty());
        let names = found.changed.iter().map(|it| (it.name.clone(), it.polling));
        names.collect::<Vec<_>>()
    };
    assert_eq!(changed("", ""), []);
    for keys in ["security = \"none\"", "trust = [\"ab\"]", "max-items = 5", "check-host = false"] {
        let keys = keys.replace("\"ab\"", &format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(changed(&keys, ""), [("d".to_owned(), true)], "{keys}");
    }
    assert_eq!(changed("", "queue-size = 5"), [("d".to_owned(), true)]);
    assert_eq!(changed("", "deadband = 5"), [("d".to_owned(), false)]);
    let section = parse(&format!("[opcua]\nkey-bits = 3072\n{SERVER}{TAG}")).unwrap();
    let found = Config::difference(&server("", "").unwrap(), &section);
    assert_eq!((found.restart_needed, found.changed.len()), (vec!["opcua.key-bits"], 0));
}

#[test]
fn sharing_changes_no_configuration_and_keeps_what_is_equal() {
    let second = "[[device.tag]]\npath = \"b\"\naddress = \"nsu=urn:x;s=b\"\nqueue-size = 3\n";
    let before = server("", second).unwrap();
    for (keys, more) in [
        ("", second.to_owned()),
        ("max-items = 5", second.to_owned()),
        ("", second.replace("s=b", "s=c")),
        ("", second.replace("= 3", "= 4")),
        ("", format!("{second}subtree = true\n")),
    ] {
        let mut shared = server(keys, &more).unwrap();
        shared.share_with(&before);
        assert_eq!(shared, server(keys, &more).unwrap());
        let (new, old) = (&spec(&shared).tags[0], &spec(&before).tags[0]);
        assert!(Arc::ptr_eq(&new.item, &old.item), "{more}");
        assert!(Arc::ptr_eq(&new.path.shared(), &old.path.shared()), "{more}");
        assert!(Arc::ptr_eq(&new.path.shared(), &shared.devices[0].tags[0].path.shared()));
    }
}

#[test]
fn a_list_that_is_written_out_gives_the_same_server() {
    let config = crate::config::tests::whole_config();
    let device: &Device = config.devices.iter().find(|device| device.name() == "press").unwrap();
    let base = tidegate_translator::TagPath::new("Werk1/Press").unwrap();
    let written = list::write(device, &base);
    let text = format!(
        "{HEAD}{SERVER}poll-every-ms = 200\nbase-path = \"Werk1/Press\"\n\
         tag-list = \"list.csv\"\n"
    );
    let read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>> = &|_| Ok(written.clone());
    let source = Source { read, ..NO_LISTS };
    let found = parse_in(Path::new("/x"), Path::new("x.toml"), &text, Vec::new(), &[], &source);
    let Loaded { config: again, .. } = found.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let shown = String::from_utf8_lossy(&written);
    assert_eq!(again.devices[0].tags, device.tags, "{shown}");
    assert_eq!(again.devices[0].subtrees, device.subtrees, "{shown}");
    let (new, old) = (spec(&again), device.opcua().unwrap());
    assert_eq!((&new.tags, &new.subtrees), (&old.tags, &old.subtrees), "{shown}");
}

#[test]
fn cells_of_another_family_and_wrong_patterns_are_named_by_row_and_column() {
    let text = format!("{HEAD}{SERVER}tag-list = \"list.csv\"\n");
    let list =
        "path,address,type,subtree,include\na,nsu=urn:x;s=a,int16,,\nb,i=85,,true,x;a//b;y**\n";
    let read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>> = &|_| Ok(list.into());
    let source = Source { read, ..NO_LISTS };
    let found = parse_in(Path::new("/x"), Path::new("x.toml"), &text, Vec::new(), &[], &source);
    let lines: Vec<String> = found.unwrap_err().lines().collect();
    let begins = [
        "list.csv: row 2, column \"type\": device[0].tag-list[2].type: type is for Modbus devices, \
         and this one speaks OPC UA; legal: nothing: an OPC UA server tells the type",
        "list.csv: row 3, column \"include\": device[0].tag-list[3].include: pattern \"a//b\" has an",
        "list.csv: row 3, column \"include\": device[0].tag-list[3].include: pattern \"y**\" has \"**\"",
    ];
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, expected) in lines.iter().zip(begins) {
        assert!(line.starts_with(expected), "{line}");
    }
}
