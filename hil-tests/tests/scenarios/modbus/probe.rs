//! `tidegate probe modbus` in front of other makes' servers: who they are, what they hold, how much
//! they take at once, and a device section that works as it is.

use std::process::Command;

use serde_json::{Value, json};
use tidegate_hil_tests::field::Site;
use tidegate_hil_tests::peers::{FaultPlc, Peer, Speaks};
use tidegate_hil_tests::tools;

fn probe(arguments: &[&str]) -> Value {
    let mut command = Command::new(tools::gateway().unwrap());
    let output = command.args(["probe", "modbus"]).args(arguments).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// What was found about a table of the first unit.
fn table<'a>(found: &'a Value, name: &str) -> &'a Value {
    let tables = found["units"][0]["tables"].as_array().unwrap();
    tables.iter().find(|table| table["table"] == name).unwrap_or_else(|| panic!("{found:#}"))
}

fn address(peer: &Peer) -> String {
    peer.address().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_reads_who_pymodbus_is_and_finds_the_hole_in_its_registers() {
    let site = Site::new().unwrap();
    let peer = Peer::pymodbus(&site, "pymodbus", &["--hole", "20-24"]).await.unwrap();
    let found = probe(&[&address(&peer), "--unit", "1", "--range", "0-200"]);
    let said = &found["units"][0]["identification"]["objects"];
    let texts: Vec<_> = said.as_array().unwrap().iter().map(|one| one["text"].clone()).collect();
    assert_eq!(texts, [json!("Tidegate"), json!("pymodbus plc"), json!("1.0")]);
    assert_eq!(table(&found, "holding")["readable"], json!([[0, 19], [25, 200]]), "{found:#}");
    assert_eq!(table(&found, "coil")["readable"], json!([[0, 200]]));
    assert_eq!(table(&found, "holding")["largest_block"]["cells"], 125);
    let functions: Vec<_> = peer.requests().unwrap().iter().map(|one| one.function).collect();
    assert!(functions.contains(&43), "{functions:?}");
    assert!(functions.iter().all(|one| [1, 2, 3, 4, 43].contains(one)), "it only ever reads");
}

/// libmodbus refuses 43/14, and has 65,536 cells in each table.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_the_largest_blocks_of_libmodbus_which_does_not_say_who_it_is() {
    let site = Site::new().unwrap();
    let peer = Peer::libmodbus_tcp(&site, "libmodbus").await.unwrap();
    let found = probe(&[&address(&peer), "--unit", "1", "--range", "0-2100"]);
    let identification = &found["units"][0]["identification"];
    assert_ne!(identification["supported"], true, "{identification:#}");
    for (name, most) in [("holding", 125), ("input", 125), ("coil", 2000), ("discrete", 2000)] {
        let table = table(&found, name);
        assert_eq!(table["readable"], json!([[0, 2100]]), "{name}: {table:#}");
        assert_eq!(table["largest_block"]["cells"], most, "{name}: {table:#}");
    }
    assert!(peer.requests().unwrap().iter().all(|one| [1, 2, 3, 4, 43].contains(&one.function)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_the_units_on_a_serial_line_and_how_little_they_take_at_once() {
    let site = Site::new().unwrap();
    let options = ["--units", "3,5", "--fault", "at-most 10"];
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &options).await.unwrap();
    let port = plc.serial().to_str().unwrap();
    let arguments = ["--parity", "none", "--units", "1-6", "--table", "holding", "--range", "0-99"];
    let found = probe(&[&[port][..], &arguments].concat());
    let units = found["units"].as_array().unwrap();
    let units: Vec<_> = units.iter().map(|unit| unit["unit"].clone()).collect();
    assert_eq!(units, [json!(3), json!(5)], "{found:#}");
    assert_eq!(table(&found, "holding")["largest_block"]["cells"], 10, "{found:#}");
    assert_eq!(table(&found, "holding")["readable"], json!([[0, 99]]), "{found:#}");
    let requests = plc.requests().unwrap();
    assert!(requests.iter().all(|one| one.unit != 0), "nobody is asked as everybody");
    assert_eq!(requests.iter().map(|one| one.outstanding).max(), Some(1), "one at a time");
}

/// What it writes is a configuration that the gateway takes and reads by.
#[tokio::test(flavor = "multi_thread")]
async fn the_section_that_a_probe_writes_is_read_by_as_it_is() {
    let site = Site::new().unwrap();
    let peer = Peer::pymodbus(&site, "pymodbus", &["--hole", "20-24"]).await.unwrap();
    let file = site.path("section.toml");
    let arguments = ["--unit", "1", "--range", "0-30", "--output", file.to_str().unwrap()];
    probe(&[&[address(&peer).as_str()][..], &arguments].concat());
    let section = std::fs::read_to_string(&file).unwrap();
    let config = site.path("tidegate.toml");
    let whole = format!("[gateway]\nplant = \"PlantA\"\nname = \"gw\"\n{section}");
    std::fs::write(&config, whole).unwrap();
    let mut command = Command::new(tools::gateway().unwrap());
    let output = command.arg("check").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}\n{section}");
}
