use std::process::Command;

use serde_json::Value;
use tidegate_hil_tests::tools;

/// What the README promises a stranger in its first command.
#[test]
fn the_demo_ends_with_a_balanced_proof_that_names_the_kill() {
    let output = Command::new(tools::gateway().unwrap())
        .args(["demo", "--seconds", "12", "--json", "--nats-server"])
        .arg(tools::nats_server().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    let proof: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(proof["verdict"], "balanced", "{proof:#}");
    let epoch = &proof["epochs"][0];
    assert_eq!(epoch["sequenced"]["count"], 0, "{proof:#}");
    let lost = epoch["unsequenced"]["list"].as_array().unwrap();
    assert!(lost.iter().any(|loss| loss["cause"] == "not-running"), "{proof:#}");
    assert!(epoch["samples"].as_u64().unwrap() > 1000, "{proof:#}");
    for act in ["the WAN is cut", "SIGKILL", "the WAN is back", "drained"] {
        assert!(told.contains(act), "{act}: {told}");
    }
}
