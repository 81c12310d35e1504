use proptest::prelude::*;

use super::*;

fn uri(text: &str) -> Namespace {
    Namespace::Uri(text.into())
}

fn step(namespace: Option<Namespace>, name: &str) -> Step {
    Step { namespace, name: name.into() }
}

#[test]
fn every_form_of_a_node_id_is_read() {
    let guid = [0x09, 0x08, 0x7e, 0x75, 0x8e, 0x5e, 0x49, 0x9b, 0x95, 0x4f]
        .into_iter()
        .chain([0xf2, 0xa9, 0x60, 0x3d, 0xb2, 0x8a])
        .collect::<Vec<u8>>();
    let text = |text: &str| Identifier::Text(text.into());
    for (written, namespace, identifier) in [
        ("nsu=urn:press;s=Axis1.Position", uri("urn:press"), text("Axis1.Position")),
        ("nsu=urn:press;s=a;b=c", uri("urn:press"), text("a;b=c")),
        ("nsu=http://x/?a=1%3Bb%25;i=7", uri("http://x/?a=1;b%"), Identifier::Number(7)),
        ("nsu=http://x/a%20b;i=7", uri("http://x/a%20b"), Identifier::Number(7)),
        ("ns=2;i=1017", Namespace::Index(2), Identifier::Number(1017)),
        ("ns=65535;s= spaced ", Namespace::Index(65535), text(" spaced ")),
        ("i=4294967295", Namespace::Index(0), Identifier::Number(u32::MAX)),
        ("ns=0;i=2258", Namespace::Index(0), Identifier::Number(2258)),
        ("nsu=http://opcfoundation.org/UA/;i=2258", Namespace::Index(0), Identifier::Number(2258)),
        (
            "ns=1;g=09087e75-8E5E-499b-954f-f2a9603db28a",
            Namespace::Index(1),
            Identifier::Guid(guid.try_into().unwrap()),
        ),
        ("ns=1;b=/wA=", Namespace::Index(1), Identifier::Bytes([0xff, 0].into())),
    ] {
        assert_eq!(NodeAddress::parse(written), Ok(NodeAddress::Id(namespace, identifier)));
    }
}

#[test]
fn a_browse_path_is_read_name_by_name() {
    let path = |text: &str| match NodeAddress::parse(text) {
        Ok(NodeAddress::Path(steps)) => steps.to_vec(),
        other => panic!("{text:?} read as {other:?}"),
    };
    assert_eq!(
        path("/Objects/Press 1/{http://press.example/a&&b}Axis/2:Speed/0:Unit"),
        [
            step(None, "Objects"),
            step(None, "Press 1"),
            step(Some(uri("http://press.example/a&b")), "Axis"),
            step(Some(Namespace::Index(2)), "Speed"),
            step(Some(Namespace::Index(0)), "Unit"),
        ]
    );
    assert_eq!(
        path("/a&/b/12&:30/x:y/&{z&}/1&&2"),
        ["a/b", "12:30", "x:y", "{z}", "1&2"].map(|name| step(None, name))
    );
    let ua = path("/{http://opcfoundation.org/UA/}Objects");
    assert_eq!(ua, [step(Some(Namespace::Index(0)), "Objects")]);
}

#[test]
fn an_address_that_is_none_is_refused_with_what_helps() {
    for (written, says) in [
        ("", "no node address; write it like"),
        ("Axis1", "no node address; write it like"),
        ("x=1", "no node address; write it like"),
        ("ns=65536;i=1", "\"65536\""),
        ("ns=-1;i=1", "no namespace index from 0 to 65535"),
        ("ns=+1;i=1", "no namespace index"),
        ("ns=2", "names a namespace and no node in it"),
        ("nsu=urn:press", "names a namespace and no node in it"),
        ("nsu=urn:press;Axis", "names a namespace and no node in it"),
        ("nsu=;s=a", "URI in \"nsu=;s=a\" is empty"),
        ("svr=1;i=85", "configure the other server as a device"),
        ("i=4294967296", "\"4294967296\" in \"i=4294967296\" is no number"),
        ("ns=2;i=Axis", "names go behind \"s=\""),
        ("i=", "is no number"),
        ("g=09087e75", "is no GUID"),
        ("g={09087e75-8e5e-499b-954f-f2a9603db28a}", "is no GUID"),
        ("b=%", "is no Base64"),
        ("ns=2;s=", "identifier in \"ns=2;s=\" is empty"),
        ("/", "browse name 1 in \"/\" is empty"),
        ("/Objects/", "browse name 2"),
        ("/Objects//a", "browse name 2"),
        ("/Objects/2:", "browse name 2"),
        ("/Objects/a&b", "escapes nothing; write \"&&\""),
        ("/Objects/a&", "escapes nothing"),
        ("/Objects/{urn:press", "has no end; write it like \"{urn:press}Axis\""),
        ("/Objects/{}a", "URI in"),
        ("/Objects/70000:a", "\"70000\""),
    ] {
        let error = NodeAddress::parse(written).unwrap_err().to_string();
        assert!(error.contains(says), "{written:?}: {error}");
        assert!(!error.ends_with('.'), "{error}");
    }
}

#[test]
fn only_an_index_beyond_the_specification_s_own_needs_a_warning() {
    for (written, by_index) in [
        ("i=2258", false),
        ("nsu=urn:press;s=a", false),
        ("ns=1;s=a", true),
        ("/Objects/a", false),
        ("/0:Objects/{urn:press}a", false),
        ("/Objects/2:a", true),
    ] {
        assert_eq!(NodeAddress::parse(written).unwrap().is_by_index(), by_index, "{written}");
    }
}

fn namespace() -> impl Strategy<Value = Namespace> {
    prop_oneof![
        any::<u16>().prop_map(Namespace::Index),
        "[ -~é%;{}&/:]{1,20}".prop_map(|uri| Namespace::from_uri(&uri)),
        // What looks escaped already.
        "(%25|%3B|%3b|%|;|a){1,6}".prop_map(|uri| Namespace::from_uri(&uri)),
        Just(Namespace::from_uri(UA)),
    ]
}

fn address() -> impl Strategy<Value = NodeAddress> {
    let identifier = prop_oneof![
        any::<u32>().prop_map(Identifier::Number),
        any::<String>()
            .prop_filter("no identifier is empty", |text| !text.is_empty())
            .prop_map(|text| Identifier::Text(text.into())),
        any::<[u8; 16]>().prop_map(Identifier::Guid),
        proptest::collection::vec(any::<u8>(), 1..40)
            .prop_map(|bytes| Identifier::Bytes(bytes.into())),
    ];
    let name = prop_oneof!["[0-9a-z&:/{} ]{1,8}", any::<String>()]
        .prop_filter("no name is empty", |name| !name.is_empty());
    let step = (proptest::option::of(namespace()), name)
        .prop_map(|(namespace, name)| Step { namespace, name: name.into() });
    prop_oneof![
        (namespace(), identifier).prop_map(|(ns, identifier)| NodeAddress::Id(ns, identifier)),
        proptest::collection::vec(step, 1..6).prop_map(|steps| NodeAddress::Path(steps.into())),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same_address(address in address()) {
        prop_assert_eq!(NodeAddress::parse(&address.to_string()), Ok(address));
    }

    #[test]
    fn whatever_reads_as_an_address_is_printed_as_the_same_one(
        text in "(nsu=|ns=|/|i=|s=|g=|b=)?[0-9a-z%;=:/&{}]{0,30}",
    ) {
        if let Ok(address) = NodeAddress::parse(&text) {
            prop_assert_eq!(NodeAddress::parse(&address.to_string()), Ok(address));
        }
    }

    #[test]
    fn no_text_at_all_makes_it_panic(text: String) {
        let _ = NodeAddress::parse(&text);
    }
}
