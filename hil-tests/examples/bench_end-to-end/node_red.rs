//! Node-RED with node-red-contrib-modbus as the peer: it reads and decodes the same tags each
//! second, and does nothing else with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tidegate_hil_tests::family::{Family, Process};

use crate::plant::free_port;

/// Two registers for each tag, and whole tags in each request.
const REGISTERS_PER_READ: usize = 124;

/// Where `cargo xtask bench` has installed it; `None` when it has not.
pub(crate) fn place() -> Option<PathBuf> {
    let place = std::env::var_os("TIDEGATE_NODE_RED").map(PathBuf::from)?;
    place.join("node_modules/node-red/red.js").exists().then_some(place)
}

/// What it is, for the table.
pub(crate) fn versions(place: &Path) -> String {
    let of = |package: &str| {
        let text =
            std::fs::read_to_string(place.join("node_modules").join(package).join("package.json"));
        let value: serde_json::Value =
            text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        value["version"].as_str().unwrap_or("unknown").to_owned()
    };
    format!(
        "Node-RED {} with node-red-contrib-modbus {}",
        of("node-red"),
        of("node-red-contrib-modbus")
    )
}

/// Starts it with a flow that reads so many tags of one PLC each second. Without its editor, which
/// would only cost it memory.
pub(crate) fn start(
    family: &Arc<Family>,
    place: &Path,
    directory: &Path,
    plc: SocketAddr,
    tags: usize,
) -> anyhow::Result<Process> {
    std::fs::create_dir_all(directory)?;
    let settings = "module.exports = { flowFile: 'flows.json', uiHost: '127.0.0.1', \
        httpAdminRoot: false, httpNodeRoot: false, credentialSecret: false, \
        logging: { console: { level: 'warn' } } };\n";
    std::fs::write(directory.join("settings.js"), settings)?;
    std::fs::write(directory.join("flows.json"), flows(plc, tags))?;
    let mut command = family.command("node");
    command.arg(place.join("node_modules/node-red/red.js"));
    command.arg("--userDir").arg(directory).arg("--settings").arg(directory.join("settings.js"));
    command.arg("--port").arg(free_port()?.to_string());
    // It looks for updates and reports usage otherwise.
    command.env("NODE_RED_DISABLE_TELEMETRY", "true");
    Process::start(family, "Node-RED", command, &directory.join("node-red.log"))
}

fn flows(plc: SocketAddr, tags: usize) -> String {
    let mut nodes = vec![
        json!({ "id": "tab", "type": "tab", "label": "bench" }),
        json!({
            "id": "plc", "type": "modbus-client", "name": "", "clienttype": "tcp",
            "bufferCommands": true, "stateLogEnabled": false, "queueLogEnabled": false,
            "failureLogEnabled": false, "tcpHost": plc.ip().to_string(),
            "tcpPort": plc.port().to_string(), "tcpType": "DEFAULT", "unit_id": "1",
            "commandDelay": "1", "clientTimeout": "1000", "reconnectOnTimeout": true,
            "reconnectTimeout": "2000", "parallelUnitIdsAllowed": true,
            "serialPort": "", "serialType": "RTU-BUFFERD", "serialBaudrate": "9600",
            "serialDatabits": "8", "serialStopbits": "1", "serialParity": "none",
            "serialConnectionDelay": "100", "serialAsciiResponseStartDelimiter": "0x3A",
        }),
        json!({
            "id": "decode", "type": "function", "z": "tab", "name": "", "outputs": 0,
            "func": "const r = msg.payload; const v = new Array(r.length >> 1);\n\
                     for (let i = 0; i < v.length; i++) v[i] = r[2 * i] * 65536 + r[2 * i + 1];\n\
                     context.set('values', v);",
            "wires": [],
        }),
    ];
    let registers = tags * 2;
    for first in (0..registers).step_by(REGISTERS_PER_READ) {
        let quantity = REGISTERS_PER_READ.min(registers - first);
        nodes.push(json!({
            "id": format!("read{first}"), "type": "modbus-read", "z": "tab", "name": "",
            "topic": "", "showStatusActivities": false, "logIOActivities": false,
            "showErrors": false, "showWarnings": false, "unitid": "1",
            "dataType": "HoldingRegister", "adr": first.to_string(),
            "quantity": quantity.to_string(), "rate": "1", "rateUnit": "s",
            "delayOnStart": false, "startDelayTime": "", "server": "plc",
            "useIOFile": false, "ioFile": "", "useIOForPayload": false, "emptyMsgOnFail": false,
            "wires": [["decode"], []],
        }));
    }
    serde_json::Value::Array(nodes).to_string()
}
