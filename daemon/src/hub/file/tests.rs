use super::*;
use std::path::Path;

const TEXT: &str = r#"
[hub]
name = "west"
max-store = "64 GiB"
last-values = "256 MiB"
ocsp = "lenient"

[[node]]
name = "west-1"
hosts = ["hub-1.example.com", "192.0.2.1"]
client = "0.0.0.0:4222"
leaf = "0.0.0.0:7422"
websocket = "0.0.0.0:443"

[[stream]]
name = "TIDE"
plants = ["PlantA"]
max-age-days = 400

[[user]]
name = "admin"
role = "admin"
[[user]]
name = "operator"
role = "operator"

# Ours, in the hall.
[[gateway]]
id = "PlantA/gw1"
prefixes = ["PlantA/Line3"] # not Line4
bytes = "10 GiB"

# The new one.
[[gateway]]
id = "PlantA/gw2"
shares = ["PlantA/gw1", "PlantB/*"]
bytes = "5 GiB"

# The end.
"#;

fn read(text: &str) -> Result<HubFile, String> {
    HubFile::read(Path::new("hub.toml"), text).map_err(|mistakes| mistakes.to_string())
}

fn paths(text: &str) -> Vec<String> {
    let mistakes = HubFile::read(Path::new("hub.toml"), text).unwrap_err();
    mistakes.paths().map(str::to_owned).collect()
}

fn id(text: &str) -> GatewayId {
    text.parse().unwrap()
}

#[test]
fn what_is_printed_is_read_back_the_same() {
    let file = read(TEXT).unwrap();
    assert_eq!(read(&file.print()), Ok(file.clone()));
    assert_eq!(file.hub.domain.as_str(), "hub");
    assert_eq!(file.replicas(), 1);
    assert_eq!(file.bytes_of(&file.streams[0]), Some(15 << 30));
    assert_eq!(file.gateways[0].subject(), "CN=PlantA/gw1,O=Tidegate");
    assert_eq!(file.people[0].subject(), "CN=admin,O=Tidegate readers");
    let shared: Vec<_> = file.shared_with(&file.gateways[1]).map(|it| it.id.to_string()).collect();
    assert_eq!(shared, ["PlantA/gw1"]);
}

#[test]
fn one_run_shows_every_mistake() {
    let text = TEXT
        .replace("\"64 GiB\"", "\"much\"")
        .replace("\"0.0.0.0:443\"", "\"0.0.0.0:7422\"")
        .replace("max-age-days = 400", "max-age-days = 0")
        .replace("bytes = \"5 GiB\"", "byte = \"5 GiB\"")
        .replace("[\"PlantA/Line3\"]", "[\"\", 7]")
        .replace("role = \"operator\"", "role = \"king\"");
    let wanted = [
        "user",
        "hub.max-store",
        "node[0].websocket",
        "stream[0].max-age-days",
        "user[1].role",
        "gateway[0].prefixes[0]",
        "gateway[0].prefixes[1]",
        "gateway[1].byte",
    ];
    let mut found = paths(&text);
    found.sort_by_key(|path| wanted.iter().position(|it| it == path));
    assert_eq!(found, wanted);
}

#[test]
fn applications_get_no_subject_of_the_product_or_of_a_server() {
    let own = |subject: &str| {
        format!(
            "{TEXT}\n[[gateway]]\nid = \"PlantA/gw3\"\nbytes = \"1 B\"\napp-publish = [\"{subject}\"]\n"
        )
    };
    for fine in ["orders", "orders.*.new", "orders.>"] {
        assert_eq!(read(&own(fine)).unwrap().gateways[2].app_publish, [fine]);
    }
    for bad in [
        "",
        "*",
        ">",
        "*.a",
        "tide.>",
        "uns.a",
        "ask.a",
        "$JS.API.>",
        "_R_.>",
        "a..b",
        "a.>.b",
        "a b",
    ] {
        assert_eq!(paths(&own(bad)), ["gateway[2].app-publish[0]"], "{bad}");
    }
}

#[test]
fn names_addresses_and_streams_may_not_meet() {
    let twice = format!("{TEXT}\n[[gateway]]\nid = \"PlantA/gw1\"\n");
    assert_eq!(paths(&twice), ["gateway[2].id"]);
    let stranger = format!("{TEXT}\n[[gateway]]\nid = \"PlantB/gw1\"\n");
    assert!(read(&stranger).unwrap_err().contains("no stream collects the frames of PlantB/gw1"));
    let streams = format!("{TEXT}\n[[stream]]\nname = \"B\"\ngateways = [\"PlantA/gw1\"]\n");
    assert_eq!(paths(&streams), ["stream[1].plants"]);
    let full = TEXT.replace("\"64 GiB\"", "\"14 GiB\"");
    assert_eq!(paths(&full), ["hub.max-store"]);
}

#[test]
fn two_servers_are_no_cluster() {
    let second = "\n[[node]]\nname = \"west-2\"\nhosts = [\"b\"]\nclient = \"0.0.0.0:4222\"\n\
                  leaf = \"0.0.0.0:7422\"\ncluster = \"0.0.0.0:6222\"\n";
    let two = format!("{TEXT}{second}");
    assert_eq!(paths(&two), ["node[0].cluster", "node[1].name"]);
}

#[test]
fn broken_toml_is_told_with_what_else_is_wrong() {
    let text = TEXT.replace("name = \"TIDE\"", "name = TIDE").replace("\"64 GiB\"", "64");
    assert_eq!(paths(&text), ["hub.max-store", "stream.name"]);
    assert!(read("").unwrap_err().contains("[hub] is missing"));
}

#[test]
fn an_admitted_gateway_is_added_and_nothing_else_changes() {
    let before = read(TEXT).unwrap();
    let mut wanted = before.clone();
    let prefixes = vec![TagPath::new("PlantA/Line 9").unwrap()];
    wanted.gateways.push(HubGateway::new(id("PlantA/gw3"), prefixes));
    let after = before.edited(TEXT, &wanted);
    assert!(after.starts_with(TEXT), "{after}");
    assert_eq!(read(&after), Ok(wanted));
}

#[test]
fn a_revoked_gateway_takes_its_own_lines_with_it() {
    let before = read(TEXT).unwrap();
    for (gone, kept) in [(0, "# The new one."), (1, "# Ours, in the hall.")] {
        let mut wanted = before.clone();
        wanted.gateways.remove(gone);
        let after = before.edited(TEXT, &wanted);
        assert!(after.contains(kept) && after.contains("# The end."), "{after}");
        assert_eq!(after.matches("[[gateway]]").count(), 1, "{after}");
        assert_eq!(after.contains("not Line4"), gone == 1, "{after}");
        assert_eq!(read(&after), Ok(wanted));
    }
}

#[test]
fn a_file_in_another_shape_is_printed_anew_rather_than_changed_wrongly() {
    let head = TEXT.split("# Ours").next().unwrap();
    let text = format!("gateway = [{{ id = \"PlantA/gw1\" }}]\n{head}");
    let before = read(&text).unwrap();
    let mut wanted = before.clone();
    wanted.gateways.push(HubGateway::new(id("PlantA/gw3"), Vec::new()));
    assert_eq!(read(&before.edited(&text, &wanted)), Ok(wanted));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Each step admits one of a few gateways, changes it, or revokes it.
    #[test]
    fn whoever_comes_and_goes_the_text_says_who_is_there_and_keeps_its_comments(
        steps in proptest::collection::vec((0_u8..6, 0_u64..3), 1..12)
    ) {
        let mut text = TEXT.to_owned();
        let mut file = read(&text).unwrap();
        for (who, bytes) in steps {
            let mut wanted = file.clone();
            let id = id(&format!("PlantA/gw{who}"));
            wanted.gateways.retain(|it| it.id != id);
            if bytes > 0 {
                let mut gateway = HubGateway::new(id, Vec::new());
                gateway.bytes = Some(bytes << 20);
                wanted.gateways.push(gateway);
            }
            text = file.edited(&text, &wanted);
            file = read(&text).unwrap();
            wanted.gateways.sort_by(|a, b| a.id.cmp(&b.id));
            let mut found = file.clone();
            found.gateways.sort_by(|a, b| a.id.cmp(&b.id));
            proptest::prop_assert_eq!(found, wanted);
            proptest::prop_assert!(text.contains("# The end.") && text.contains("hub-1.example"));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s)(\\[\\[?(hub|node|gateway)\\]\\]?\n|[a-z]+ = |\"x\"|[\\[\\]\"=\n#7.]|.){0,40}") {
        if let Err(mistakes) = HubFile::read(Path::new("hub.toml"), &text) {
            proptest::prop_assert!(mistakes.count() > 0 && !mistakes.to_string().is_empty());
        }
    }
}
