//! An agent asks: the official client of the Model Context Protocol, over both transports.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use tidegate_hil_tests::family::{Family, Process};
use tidegate_hil_tests::gateway::BASE_PATH;
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, tools};

use crate::CATCH_UP;

/// The client in its own process.
struct Agent {
    process: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
    greeting: Value,
}

impl Agent {
    /// Starts it; `how` is what `client.js` takes.
    fn start(family: &Family, how: &[&str]) -> Self {
        let mut command = family.command("node");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/agent/client.js");
        command.arg(script).args(how).env("TIDEGATE_AGENT", tools::agent().unwrap());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let calls = process.stdin.take().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let greeting = line(&mut answers);
        Self { process, calls, answers, greeting }
    }

    fn call(&mut self, tool: &str, wish: Value) -> Value {
        writeln!(self.calls, "{}", json!({ "tool": tool, "arguments": wish })).unwrap();
        line(&mut self.answers)
    }

    /// A call that works, and what it gives.
    fn told(&mut self, tool: &str, wish: Value) -> Value {
        let answer = self.call(tool, wish);
        assert_eq!(answer["is_error"], false, "{tool}: {answer}");
        let told = answer["structured"].clone();
        // Clients that know no structure read the same as text (the other language's 8 is our 8.0).
        let text: Value = serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&text["row_count"], &text["complete"]),
            (&told["row_count"], &told["complete"])
        );
        told
    }

    fn end(mut self) {
        drop(self.calls);
        assert!(self.process.wait().unwrap().success());
    }
}

fn line(answers: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_finds_reads_and_is_told_what_is_missing() {
    let mut rig = Rig::running().await.unwrap();
    let n = rig.polls(10).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    let leaf = format!("nats://{}", rig.gateway.local_server().await.unwrap());
    let program = tools::gateway().unwrap().display().to_string();
    let family = Family::new().unwrap();
    let counter = format!("{BASE_PATH}/counter");

    let mut agent = Agent::start(&family, &["stdio", &program, "mcp", "--server", &leaf]);
    assert_eq!(agent.greeting["server"]["name"], "tidegate");
    let listed = agent.greeting["tools"].as_array().unwrap();
    let names: Vec<_> = listed.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    for name in ["find_tags", "latest", "read_now", "history", "losses", "devices", "prove"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for tool in listed {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        let described = tool["inputSchema"]["properties"].as_object().unwrap().values();
        for property in described {
            assert!(property["description"].is_string(), "{tool}");
        }
    }

    let found = agent.told("find_tags", json!({ "search": "COUNTER" }));
    assert_eq!(found["rows"][0]["path"], counter.as_str(), "{found}");
    let latest = agent.told("latest", json!({ "tags": [counter] }));
    let row = &latest["rows"][0];
    assert_eq!((&row["quality"], &latest["complete"]), (&json!("good"), &json!(true)), "{latest}");
    let before = row["value"].as_u64().unwrap();
    let now = agent.told("read_now", json!({ "tags": [counter] }));
    assert!(now["rows"][0]["value"].as_u64().unwrap() >= before, "{now}");
    assert_eq!(now["rows"][0]["gateway"], rig.gateway.id());
    let history =
        agent.told("history", json!({ "tags": [counter], "from": "-10m", "limit": 1000 }));
    assert!(history["rows"].as_array().unwrap().len() >= 10, "{history}");
    // The gateway is younger than ten minutes, and says so.
    assert_eq!(history["complete"], false);
    assert!(history["coverage"]["share"].as_f64().unwrap() < 1.0);
    assert!(!history["coverage"]["gaps"].as_array().unwrap().is_empty(), "{history}");
    let wish =
        json!({ "tags": [counter], "from": "-10m", "every": "1m", "aggregates": ["avg", "count"] });
    let buckets = agent.told("history", wish);
    assert!(buckets["rows"][0]["avg"].is_number() && buckets["rows"][0]["count"].is_number());
    let devices = agent.told("devices", json!({}));
    assert!(devices["rows"].as_array().unwrap().iter().any(|row| row["state"] == "live"));
    agent.told("losses", json!({}));
    let proof = agent.told("prove", json!({ "gateway": rig.gateway.id() }));
    assert_eq!(proof["from"], "gateway", "the record cannot be read from a leaf: {proof}");

    // What is wrong is said with its remedy, and by the protocol's own means.
    for (tool, wish, word) in [
        ("history", json!({ "tags": [counter] }), "unbounded"),
        ("history", json!({ "tags": [counter], "from": "2026-01-01T00:00:00" }), "no time zone"),
        ("history", json!({ "tags": [counter], "from": "-1m", "to": "-2m" }), "reversed-range"),
        ("latest", json!({ "tags": ["No/such/tag"] }), "unknown-tag"),
        ("history", json!({ "tags": [counter], "form": "-1h" }), "form"),
    ] {
        let answer = agent.call(tool, wish);
        assert_eq!(answer["is_error"], true, "{answer}");
        assert!(answer.to_string().contains(word), "{word}: {answer}");
    }
    agent.end();

    // Over HTTP, at the hub: there the record itself can be judged.
    let hub = rig.hub.reader_url().unwrap();
    let mut command = family.command(&program);
    command.args(["mcp", "--listen", "127.0.0.1:0", "--server", &hub]);
    let server = Process::start(&family, "mcp", command, &rig.path("mcp.log").unwrap()).unwrap();
    let url = until(CATCH_UP, "agents are served", || async {
        let said = server.printed_since(0)?;
        let at = said.split_whitespace().find(|word| word.starts_with("http://"));
        Ok(at.map(str::to_owned))
    })
    .await
    .unwrap();
    let mut agent = Agent::start(&family, &["http", &url]);
    let proof = agent.told("prove", json!({ "gateway": rig.gateway.id() }));
    assert_eq!(proof["from"], "hub", "{proof}");
    assert!(proof["report"]["verdict"].as_str().unwrap().starts_with("balanced"), "{proof}");
    let latest = agent.told("latest", json!({ "tags": [counter] }));
    assert_eq!(latest["rows"][0]["quality"], "good", "{latest}");
    rig.gateway.stop().await.unwrap();
    let answer = agent.call("latest", json!({ "tags": [counter] }));
    assert!(answer.to_string().contains(rig.gateway.id()), "the owner is named: {answer}");
    agent.end();
}
