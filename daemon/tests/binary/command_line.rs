//! Help, `init`, and `check --connect`.

use std::net::TcpListener;

use crate::site::{Plc, Said, Site, device, tidegate};

#[test]
fn every_command_says_in_one_line_what_it_does() {
    let said = Said::of(tidegate().arg("--help"));
    assert_eq!(said.code, 0);
    let commands: Vec<_> = said
        .out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim().split_once(' ').unwrap())
        .collect();
    assert!(commands.len() > 8, "{}", said.out);
    for (command, line) in commands {
        let line = line.trim();
        let verb = line.split(' ').next().unwrap();
        assert!(!verb.ends_with('s') && !line.ends_with('.'), "{command}: {line}");
        assert!(verb.starts_with(char::is_uppercase) && !line.contains('`'), "{command}: {line}");
    }
}

#[test]
fn what_init_writes_is_legal_and_answers() {
    let (plc, dir) = (Plc::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("tidegate.toml");
    let mut init = tidegate();
    init.args(["init", "--modbus", &plc.address.to_string(), "--name", "g1", "--output"]);
    let said = Said::of(init.arg(&file));
    assert_eq!(said.code, 0, "{said:?}");
    let said = Said::of(tidegate().arg("check").arg(&file));
    assert_eq!(said.code, 0, "{said:?}");
    let again = Said::of(&mut init);
    again.refused(2, &["tidegate.toml", "--force"]);
}

#[tokio::test]
async fn check_connect_tells_an_answer_from_a_no_and_from_silence() {
    let (site, press) = (Site::alone().await, Plc::playing("press"));
    site.edit(&site.plc.address.to_string(), &press.address.to_string());
    let check =
        |site: &Site| Said::of(tidegate().arg("check").arg(site.config()).args(["--connect"]));
    let said = check(&site);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("P/press/n"), "{}", said.out);

    let legal = site.text();
    site.edit("address = \"holding:0\"", "address = \"holding:60000\"");
    let said = check(&site);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("P/press/n"), "{}", said.out);

    // A port that nobody has: bound and let go.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.write(&legal);
    site.append(&device("oven", nobody));
    let said = check(&site);
    assert_eq!(said.code, 69, "{said:?}");
    let shown = format!("{}{}", said.out, said.err);
    assert!(shown.contains("oven") && shown.contains("P/press/n"), "{shown}");
}
