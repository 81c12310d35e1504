//! Commissioning: what the probe finds and says, and what a black box tells.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::site::{Plc, Said, Site, tidegate};

fn probe(target: &str, options: &[&str]) -> Said {
    Said::of(tidegate().args(["probe", "modbus", target, "--pause-ms", "0"]).args(options))
}

/// A server that does this with each connection.
fn serving(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

#[test]
fn what_the_probe_writes_is_legal_and_answers() {
    let (plc, dir) = (Plc::playing("press"), tempfile::tempdir().unwrap());
    let file = dir.path().join("section.toml");
    let target = plc.address.to_string();
    let options = ["--range", "0-63", "--output", file.to_str().unwrap()];
    let said = probe(&target, &options);
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["answers every unit number", "43/14", "holding", "0-19", "RESPONSE TIME"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    let section = std::fs::read_to_string(&file).unwrap();
    let config = dir.path().join("tidegate.toml");
    std::fs::write(&config, format!("[gateway]\nplant = \"P\"\nname = \"g\"\n\n{section}"))
        .unwrap();
    let said = Said::of(tidegate().arg("check").arg(&config).arg("--connect"));
    assert_eq!(said.code, 0, "{said:?}\n{section}");
    assert!(said.out.contains("holding-19"), "{}", said.out);
    probe(&target, &options).refused(2, &["section.toml", "--output"]);
}

#[test]
fn a_program_gets_one_object() {
    let plc = Plc::playing("press");
    let options = ["--unit", "7", "--table", "coil,holding", "--range", "0-40", "--json"];
    let found = probe(&plc.address.to_string(), &options).json();
    assert_eq!((&found["protocol"], &found["units"][0]["unit"]), (&"modbus-tcp".into(), &7.into()));
    let [coil, holding] = [0, 1].map(|at| &found["units"][0]["tables"][at]);
    assert_eq!(
        (&coil["readable"], &coil["end"]),
        (&serde_json::json!([[0, 2]]), &"complete".into())
    );
    assert_eq!(holding["readable"], serde_json::json!([[0, 19]]));
    assert_eq!(holding["largest_block"]["cells"], 20);
    assert!(holding["response_one"]["median_ms"].is_number(), "{found:#}");
    assert_eq!(found["units"][0]["identification"]["supported"], false);
    assert!(found["section"].as_str().unwrap().contains("[[device]]"), "{found:#}");
}

#[test]
fn the_limit_of_a_dense_device_is_the_protocol_s() {
    let plc = Plc::playing("address");
    let options = ["--unit", "1", "--table", "holding", "--range", "0-999", "--json"];
    let found = probe(&plc.address.to_string(), &options).json();
    let table = &found["units"][0]["tables"][0];
    assert_eq!(table["readable"], serde_json::json!([[0, 999]]));
    let largest = &table["largest_block"];
    assert_eq!((&largest["cells"], &largest["bound"]), (&125.into(), &"protocol".into()));
}

#[test]
fn a_register_is_shown_in_every_type_and_order() {
    let plc = Plc::playing("address");
    let target = plc.address.to_string();
    let said = probe(&target, &["--show", "holding:258"]);
    assert_eq!(said.code, 0, "{said:?}");
    // 258 is 0x0102, 513 with its bytes swapped; 0x01020103 with the next register.
    for part in ["0102", "258", "513", "16908547", "float64"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    let said = probe(&target, &["--show", "holding:65535", "--json"]);
    assert_eq!(said.json()["readings"], serde_json::json!([[65535], [65535]]));
    probe(&target, &["--show", "holdin:5"]).refused(2, &["holdin:5"]);
    let press = Plc::playing("press");
    let refused = probe(&press.address.to_string(), &["--show", "holding:500"]);
    refused.refused(1, &["exception 2", "holding:500"]);
}

#[test]
fn each_reason_for_no_connection_has_its_own_sentence() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    probe(&nobody.to_string(), &[]).refused(69, &["refuses connections"]);
    probe("no-such-host.invalid", &[]).refused(69, &["no-such-host.invalid", "has no address"]);
    probe("/dev/tidegate-has-no-such-port", &[]).refused(69, &["no serial port", "plug"]);
    let closing = serving(drop);
    probe(&closing.to_string(), &[]).refused(69, &["closes them again"]);
    let web = serving(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 64]);
    });
    probe(&web.to_string(), &[]).refused(69, &["no Modbus", "a web server"]);
    let secure = serving(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        // The alert "decode error" of TLS 1.2.
        let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 50]);
        let _ = stream.read(&mut [0; 64]);
    });
    probe(&secure.to_string(), &[]).refused(69, &["no Modbus", "--tls-ca"]);
    let options = ["--tls-ca", "no-such-file.pem"];
    probe(&secure.to_string(), &options).refused(69, &["no-such-file.pem"]);
    let silent = serving(std::mem::forget);
    let options = ["--unit", "9", "--timeout-ms", "50"];
    probe(&silent.to_string(), &options).refused(1, &["no unit answers", "unit 9", "--unit"]);
    probe("plc:port", &[]).refused(2, &["plc:port", "HOST:PORT"]);
}

/// The checksum of RTU.
fn sealed(frame: &[u8]) -> Vec<u8> {
    let mut sum = 0xFFFF_u16;
    for byte in frame {
        sum ^= u16::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xA001 } else { sum >> 1 };
        }
    }
    [frame, &sum.to_le_bytes()].concat()
}

/// A serial server with unit 3 behind it, which holds registers 0 to 9, each with its address.
fn unit_three(mut stream: TcpStream) {
    let mut asked = [0; 8];
    while stream.read_exact(&mut asked).is_ok() {
        let [unit, function, s0, s1, c0, c1, ..] = asked;
        let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
        if unit != 3 {
            continue;
        }
        let answer = if function != 3 {
            vec![3, function | 0x80, 1]
        } else if start + count > 10 {
            vec![3, 0x83, 2]
        } else {
            let cells = (start..start + count).flat_map(u16::to_be_bytes);
            [3, 3, u8::try_from(count * 2).unwrap()].into_iter().chain(cells).collect()
        };
        if stream.write_all(&sealed(&answer)).is_err() {
            return;
        }
    }
}

#[test]
fn units_behind_a_serial_server_are_found() {
    let address = serving(unit_three);
    let options = ["--rtu-over-tcp", "--units", "2-4", "--table", "holding", "--range", "0-15"];
    let said = probe(&address.to_string(), &[&options[..], &["--timeout-ms", "100"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["No answer from units 2, 4", "unit 3", "0-9", "modbus-rtu-over-tcp"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
}

#[tokio::test]
async fn a_black_box_tells_what_went_over_the_wire_and_can_be_replayed() {
    let (site, press) = (Site::alone().await, Plc::playing("press"));
    site.edit(&site.plc.address.to_string(), &press.address.to_string());
    site.append("\n[[device.tag]]\npath = \"no\"\naddress = \"holding:500\"\ntype = \"uint16\"\n");
    let _daemon = site.start().await;
    site.until("a tag is refused", |s| s["devices"][0]["state"] == "degraded").await;
    let one = |options: &[&str]| Said::of(site.command("status").args(options));
    one(&["--device", "nobody"]).refused(1, &["nobody", "tidegate status"]);
    assert_eq!(one(&["--trace"]).code, 2);
    let said = one(&["--device", "press"]);
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["press", "degraded", "holding:500", "TAGS FRESH FOR", "--trace"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    let said = one(&["--device", "press", "--trace"]);
    for part in ["→ read 1 holding register from 500", "← exception 2 (illegal data address)"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    let trace = one(&["--device", "press", "--trace", "--json"]);
    let tree = trace.json();
    assert_eq!((&tree["device"], &tree["status"]["name"]), (&"press".into(), &"press".into()));
    let file = site.path("trace.json");
    std::fs::write(&file, &trace.out).unwrap();
    let replay = |options: &[&str]| {
        let mut replay = tidegate();
        replay.args(["probe", "replay"]).arg(&file).arg("--config").arg(site.config());
        Said::of(replay.args(options))
    };
    let said = replay(&[]);
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["no value: exception 2 (illegal data address)", "holding:500"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    assert_eq!(replay(&["--json"]).code, 0);
    replay(&["--device", "nobody"]).refused(2, &["nobody"]);
    std::fs::write(&file, "rubbish").unwrap();
    replay(&[]).refused(2, &["trace.json", "--trace --json"]);
}

#[test]
fn interrupted_the_probe_shows_what_is_known() {
    let (asked, twenty) = std::sync::mpsc::channel();
    let address = serving(move |mut stream| {
        let mut request = [0; 12];
        let mut count = 0;
        while stream.read_exact(&mut request).is_ok() {
            count += 1;
            if count == 20 {
                asked.send(()).unwrap();
            }
            let [t0, t1, _, _, _, _, unit, function, ..] = request;
            let refusal = [t0, t1, 0, 0, 0, 3, unit, function | 0x80, 2];
            if stream.write_all(&refusal).is_err() {
                return;
            }
        }
    });
    let mut command = tidegate();
    command.args(["probe", "modbus", &address.to_string(), "--unit", "1", "--json"]);
    command.args(["--range", "0-65535", "--max-requests", "200000", "--table", "holding"]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    twenty.recv_timeout(crate::common::PATIENCE).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &found["interrupted"]), (Some(0), &true.into()));
    assert_eq!(found["units"][0]["tables"][0]["end"], "interrupted");
}
