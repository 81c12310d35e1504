//! Hubs that are not as they should be: a clear alarm, nothing lost, and delivery by itself once
//! the cause is removed.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use tidegate::hub::{Admitted, HubPlan, generate};
use tidegate_identity::lab::{LabCa, gateway_subject};

use crate::common::{Hub, lifetime, write_files};
use crate::site::{Site, hub_section};

/// Everything read since the first start is at the hub, and the proof says so.
async fn everything_arrives(site: &Site, hub: &Hub) {
    site.delivers().await;
    let well = |status: &Value| {
        status["alarms"] == Value::Array(Vec::new()) && status["health"]["state"] == "up"
    };
    let status = site.until("no alarm is left", well).await;
    assert_eq!(status["link"]["hub_up"], true);
    assert_eq!(status["link"]["why"], Value::Null);
    let said = site.prove(hub);
    assert_eq!(said.code, 0, "{said:?}");
    let epoch = &said.json()["epochs"][0];
    assert_eq!(epoch["complete-from"]["seq"], 0, "{epoch:#}");
}

#[tokio::test]
async fn a_hub_without_the_stream_is_waited_for() {
    let hub = Hub::start_without_stream().await;
    let site = Site::at(&hub).await;
    let daemon = site.start().await;
    let text = site.alarm("no-stream").await;
    assert!(text.contains("the hub has no stream TIDE in domain hub; create it there"), "{text}");
    let status = site.until("it waits", |s| s["uplink"]["state"] == "waiting-for-stream").await;
    assert_eq!(status["link"]["hub_up"], true, "the hub answered, if only with no");
    site.records().await;
    hub.ensure_stream().await;
    everything_arrives(&site, &hub).await;
    daemon.logs(&["INFO", "alarm is over", "alarm=no-stream"]).await;
}

#[tokio::test]
async fn a_hub_of_another_domain_gets_nothing() {
    let hub = Hub::start().await;
    let site = Site::with("P/g1", &hub_section(&hub.link("P/g1"), "elsewhere")).await;
    let daemon = site.start().await;
    let text = site.alarm("wrong-hub").await;
    assert!(text.contains("TIDE in domain hub, not TIDE in domain elsewhere"), "{text}");
    assert!(text.contains("Correct the hub's address, or its stream and domain"), "{text}");
    site.records().await;
    assert_eq!(hub.stored("tide.>").await, 0);
    daemon.stop().await;
    site.edit("domain = \"elsewhere\"", "domain = \"hub\"");
    let _daemon = site.start().await;
    everything_arrives(&site, &hub).await;
}

#[tokio::test]
async fn a_gateway_that_may_ask_and_not_deliver_says_what_to_permit() {
    let hub = Hub::start().await;
    hub.reload(|text| text.replace("\"tide.P.g1.*.frames\"\n", ""));
    let site = Site::at(&hub).await;
    let _daemon = site.start().await;
    let text = site.alarm("no-permission").await;
    assert!(text.contains("tide.P.g1.*.frames") && text.contains("Admit the gateway"), "{text}");
    site.records().await;
    assert_eq!(hub.stored("tide.>").await, 0);
    hub.reload(|text| text);
    everything_arrives(&site, &hub).await;
}

#[tokio::test]
async fn a_gateway_with_the_certificate_of_another_delivers_nothing() {
    let hub = Hub::start().await;
    let (own, other) = (hub.link("P/g1"), hub.link("P/g2"));
    let site = Site::with("P/g1", &hub_section(&other, "hub")).await;
    let daemon = site.start().await;
    let text = site.alarm("hub-silent").await;
    assert!(text.contains("admits the certificate in use as gateway P/g1"), "{text}");
    site.records().await;
    assert_eq!(hub.stored("tide.>").await, 0);
    daemon.stop().await;
    site.edit(&hub_section(&other, "hub"), &hub_section(&own, "hub"));
    let _daemon = site.start().await;
    everything_arrives(&site, &hub).await;
}

#[tokio::test]
async fn a_gateway_that_is_not_admitted_says_why_and_delivers_once_it_is() {
    // The hub knows g1 under another subject, until its configuration is corrected.
    let hub = Hub::start_with(|mut plan, _, _| {
        plan.gateways.retain(|admitted| admitted.gateway.to_string() != "P/g1");
        plan
    })
    .await;
    hub.ensure_stream().await;
    let site = Site::at(&hub).await;
    let daemon = site.start().await;
    let text = site.alarm("hub-silent").await;
    assert!(text.contains("the hub does not answer for stream TIDE"), "{text}");
    assert!(text.contains("Authorization Violation"), "{text}");
    let status = site.until("the leaf's complaint", |s| s["link"]["why"].is_string()).await;
    assert_eq!(status["link"]["hub_up"], false);
    site.records().await;
    hub.admit("P/g1");
    everything_arrives(&site, &hub).await;
    let told = daemon.log().lines().count();
    assert!(told < 60, "{told} lines");
}

#[tokio::test]
async fn a_hub_of_another_authority_is_not_trusted() {
    let hub = Hub::start().await;
    let other = LabCa::new("other", lifetime()).unwrap();
    let issued = hub.ca.gateway("P/g1", lifetime()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = write_files(dir.path(), "strange", &other.certificate_pem(), &issued);
    let mut link = hub.link("P/g1");
    link.tls = Some(files.clone());
    let site = Site::with("P/g1", &hub_section(&link, "hub")).await;
    let daemon = site.start().await;
    let text = site.alarm("hub-silent").await;
    assert!(text.contains("certificate signed by unknown authority"), "{text}");
    site.records().await;
    daemon.stop().await;
    std::fs::write(&files.ca, hub.ca.certificate_pem()).unwrap();
    let _daemon = site.start().await;
    everything_arrives(&site, &hub).await;
}

impl Hub {
    /// Changes the running hub's configuration.
    fn reload(&self, change: impl FnOnce(String) -> String) {
        self.reload_as(&self.plan, change);
    }

    /// Admits one more gateway.
    fn admit(&self, gateway: &str) {
        let mut plan = self.plan.clone();
        plan.gateways.push(Admitted {
            gateway: gateway.parse().unwrap(),
            prefixes: Vec::new(),
            subject: gateway_subject(gateway),
            stream: plan.streams[0].clone(),
            asks: Vec::new(),
            app_publish: Vec::new(),
            app_subscribe: Vec::new(),
        });
        self.reload_as(&plan, |text| text);
    }

    fn reload_as(&self, plan: &HubPlan, change: impl FnOnce(String) -> String) {
        let mut plan = plan.clone();
        // Ports cannot be changed by a reload, and "any" is another one than it has.
        plan.client.listen = self.server.client;
        plan.leaf.listen = self.server.leaf.unwrap();
        let text = change(generate(&plan).unwrap());
        std::fs::write(self.dir.path().join("hub/server.conf"), text).unwrap();
        let pid = Pid::from_raw(self.server.pid().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }
}
