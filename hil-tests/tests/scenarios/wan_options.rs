//! Ways to the hub other than one straight line, and what local applications may do beside it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use tidegate_hil_tests::field::Site;
use tidegate_hil_tests::hub::Certificates;
use tidegate_hil_tests::papers::Papers;
use tidegate_hil_tests::proxy::{Proxy, Terminator};
use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::wan::Wan;
use tidegate_hil_tests::{Rig, Wishes, live_values, stream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::CATCH_UP;

/// Waits until the record goes over the link at this address, and says how long that took.
async fn goes_over(rig: &Rig, address: SocketAddr) -> Duration {
    let begun = Instant::now();
    let ending = format!("://{address}");
    until(CATCH_UP, &format!("the record goes over {address}"), || async {
        let status = rig.gateway.status()?;
        let url = status["link"]["hub_url"].as_str().unwrap_or_default();
        Ok((status["link"]["hub_up"] == true && url.ends_with(&ending)).then_some(()))
    })
    .await
    .unwrap();
    begun.elapsed()
}

/// The first URL that this gateway's name chooses is silent when the daemon starts, then good again,
/// then refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_goes_to_the_second_way_and_back_to_the_first_when_that_has_been_good() {
    let wishes = Wishes {
        second_way: true,
        hub: "fail-back-after-ms = 3000".to_owned(),
        ..Wishes::default()
    };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let n = rig.polls(5).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    let is_first = |wan: &Wan, url: &str| url.ends_with(&format!("://{}", wan.address()));
    // Asked for in turns: it may be named later than its first frame.
    let url = until(SOON, "the link's hub is named", || async {
        Ok(rig.gateway.status()?["link"]["hub_url"].as_str().map(str::to_owned))
    })
    .await
    .unwrap();
    if !is_first(&rig.wan, &url) {
        std::mem::swap(&mut rig.wan, &mut rig.more_wans[0]);
    }
    let (first, second) = (rig.wan.address(), rig.more_wans[0].address());
    rig.gateway.stop().await.unwrap();
    rig.wan.cut_black_hole().await.unwrap();
    rig.gateway.start().await.unwrap();
    let black_hole = goes_over(&rig, second).await;
    rig.wan.restore().await.unwrap();
    let back = goes_over(&rig, first).await;
    rig.wan.cut_closed().await.unwrap();
    let refused = goes_over(&rig, second).await;
    told(&format!("black hole {black_hole:?}, back {back:?}, refused {refused:?}"));
    assert!(back >= Duration::from_secs(2), "{back:?}: it has to be good for a while");
    assert!(refused < Duration::from_secs(15), "{refused:?}");
    live_values(&rig, 2).await.unwrap();
    // What the PLC served to a daemon that was stopped is named.
    let (findings, _) = rig.verify(CATCH_UP).await.unwrap();
    assert!(findings.named_holes.iter().all(|(_, cause)| cause == "not-running"), "{findings:?}");
    assert_eq!(rig.gateway.leaves().unwrap().len(), 1);
    rig.gateway.stop().await.unwrap();
}

#[expect(clippy::print_stderr, reason = "figures of a run")]
fn told(text: &str) {
    eprintln!("{text}");
}

/// Nothing but HTTPS gets out, and that only through a proxy that wants to know who asks; then
/// somebody inspects what passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_through_a_proxy_delivers_and_nobody_can_listen_in() {
    let proxy = Proxy::for_user("gateways", "not yet known").await.unwrap();
    let password = "s3cr%t \"pass\"word";
    let site = Site::new().unwrap();
    let file = site.path("proxy.password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let wishes = Wishes {
        certificates: Certificates { websocket: true, ..Certificates::default() },
        hub: format!(
            "proxy = \"http://{}\"\nproxy-user = \"gateways\"\nproxy-password-file = {file:?}",
            proxy.address()
        ),
        ..Wishes::default()
    };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    // The proxy knows another password: the status says so, and the password is nowhere.
    until(CATCH_UP, "the proxy refuses", || async {
        let why = rig.gateway.status()?["link"]["why"].to_string();
        Ok((proxy.refused() > 0 && why.contains("407")).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!((rig.messages_at_hub().await.unwrap(), proxy.connected()), (0, 0));
    proxy.knows("gateways", password);
    let n = rig.polls(5).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    live_values(&rig, 2).await.unwrap();
    assert!(proxy.connected() >= 2, "both links go through it");

    // A firewall that ends TLS shows a certificate of its own: the gateway turns away.
    let papers = Papers::issued(&site, "inspection").unwrap();
    let server = papers.server();
    let behind = rig.hub.websockets().unwrap();
    let files = (server.cert.as_path(), server.key.as_path());
    let log = site.path("terminator.log");
    let terminator = Terminator::in_front_of(rig.family(), behind, files, &log).await.unwrap();
    proxy.lead_to(Some(terminator.address()));
    until(CATCH_UP, "the gateway turns away", || async {
        let why = rig.gateway.status()?["link"]["why"].to_string();
        Ok((why.contains("certificate") || why.contains("x509")).then_some(()))
    })
    .await
    .unwrap();
    rig.sit_out(Duration::from_secs(1)).await.unwrap();
    proxy.lead_to(None);
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();

    let status = rig.gateway.status().unwrap().to_string();
    for text in [status, rig.gateway.log().unwrap()] {
        assert!(!text.contains("s3cr%t"), "the password is told");
    }
    rig.gateway.stop().await.unwrap();
}

/// More is recorded than the line may carry.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_keeps_to_its_rate_and_live_values_do_not_wait_for_it() {
    const PER_SECOND: u64 = 32 * 1024;
    let wishes = Wishes { noise: 8, ..Wishes::default() };
    let rig = Rig::running_with(wishes.with("uplink", "limit-per-s", "32 KiB")).await.unwrap();
    let n = rig.polls(5).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    let held = async || {
        let messages = rig.messages().await.unwrap();
        messages.iter().map(|(_, bytes)| u64::try_from(bytes.len()).unwrap()).sum::<u64>()
    };
    let (before, begun) = (held().await, Instant::now());
    live_values(&rig, 20).await.unwrap();
    let enough = Duration::from_secs(8);
    tokio::time::sleep(enough.saturating_sub(begun.elapsed())).await;
    let (bytes, seconds) = (held().await - before, begun.elapsed().as_secs() + 1);
    let status = rig.gateway.status().unwrap();
    told(&format!("{bytes} bytes in {seconds} s, {}", status["uplink"]));
    // A second's worth may have been saved, and one message may be on the way.
    let most = PER_SECOND * (seconds + 1) + 64 * 1024;
    assert!(bytes <= most && bytes >= most / 4, "{bytes} of {most}");
}

/// A worker of one queue group, who answers with a name.
async fn works(client: async_nats::Client, who: &'static str) -> JoinHandle<()> {
    let mut work = client.queue_subscribe("site.work.*", "workers".to_owned()).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(message) = work.next().await {
            client.publish(message.reply.unwrap(), who.into()).await.unwrap();
        }
    })
}

/// JetStream of their own, work that is done here first and at the hub when nobody is here, and no
/// way to speak in the daemon's name.
#[tokio::test(flavor = "multi_thread")]
async fn local_applications_have_streams_and_share_work_with_the_hub() {
    let wishes = Wishes {
        leaf: "local-publish = [\"site.>\"]\nlocal-subscribe = [\"site.work.>\"]\n\
               jetstream-domain = \"line3\"\njetstream-max-bytes = \"8 MiB\""
            .to_owned(),
        ..Wishes::default()
    };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    // What this gateway's applications may do at the hub is missing there, and is named.
    let text = rig.gateway.alarm("no-permission").await.unwrap();
    assert!(text.contains("publish site.> (local applications"), "{text}");
    assert!(text.contains("subscribe site.work.>"), "{text}");
    let inbox = "\"_INBOX.PlantA.gw-line3.>\"\n";
    rig.hub.edit(inbox, &format!("{inbox}            \"site.work.>\"\n")).unwrap();
    let uns = "            \"uns.PlantA.>\"\n";
    rig.hub.edit(uns, &format!("{uns}            \"site.>\"\n            \"_R_.>\"\n            \"_INBOX.worker.>\"\n")).unwrap();
    let first = "GATEWAYS {\n    users: [\n";
    let worker = "      { user: worker, password: pw, permissions { publish: [\"_INBOX.>\"], \
                  subscribe: [\"site.>\"] } }\n";
    rig.hub.edit(first, &format!("{first}{worker}")).unwrap();
    rig.hub.reload().await.unwrap();
    rig.gateway.alarm_is_over("no-permission", CATCH_UP * 2).await.unwrap();

    let local = rig.gateway.local_server().await.unwrap();
    let options =
        async_nats::ConnectOptions::new().custom_inbox_prefix("_INBOX.PlantA.gw-line3.apps");
    let app = options.connect(local.to_string()).await.unwrap();
    let reader = stream::connect(&rig.hub.reader_url().unwrap()).await.unwrap();
    let mut heard_at_hub = reader.subscribe("uns.>").await.unwrap();
    reader.flush().await.unwrap();

    // Questions cross into the daemon's account, and their answers back.
    let answer = app.request("tide.PlantA.gw-line3.q.status", "".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains("\"gateway\":\"PlantA/gw-line3\""));
    let found = app.request("$SRV.PING.tidegate", "".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&found.payload).contains("PlantA/gw-line3"));

    // Streams of its own, also of live values.
    let jetstream = async_nats::jetstream::with_domain(app.clone(), "line3");
    let config = async_nats::jetstream::stream::Config {
        name: "LINE".to_owned(),
        subjects: vec!["site.orders.>".to_owned(), "uns.PlantA.Line3.>".to_owned()],
        max_bytes: 1 << 20,
        ..Default::default()
    };
    let mut line = jetstream.create_stream(config).await.unwrap();
    let ack = jetstream.publish("site.orders.1", "bolts".into()).await.unwrap().await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.domain.as_str()), ("LINE", "line3"));
    until(CATCH_UP, "live values are in the local stream", || async {
        Ok((rig.messages_at_hub().await? > 0).then_some(()))
    })
    .await
    .unwrap();

    // A consumer may deliver wherever it likes, and it does not reach the daemon's subjects.
    let forged = async_nats::jetstream::consumer::push::Config {
        deliver_subject: "uns.PlantA.Other.forged".to_owned(),
        filter_subject: "site.orders.>".to_owned(),
        ..Default::default()
    };
    line.create_consumer(forged).await.unwrap();
    app.publish("uns.PlantA.Line3.forged", "x".into()).await.unwrap();
    app.publish("tide.PlantA.gw-line3.x.frames", "x".into()).await.unwrap();
    app.flush().await.unwrap();

    // Work is done here as long as somebody is here.
    let mut url = rig.hub.admin_url().unwrap();
    url.replace_range(url.find("//").unwrap() + 2..url.find('@').unwrap(), "worker:pw");
    let far = stream::connect(&url).await.unwrap();
    // Work is done here as long as somebody is here.
    let _far = works(far, "hub").await;
    let here = async_nats::connect(local.to_string()).await.unwrap();
    let near = works(here.clone(), "here").await;
    let ask = async || app.request("site.work.1", "x".into()).await.map(|it| it.payload);
    until(CATCH_UP, "work is done", || async { Ok(ask().await.ok()) }).await.unwrap();
    for _ in 0..20 {
        assert_eq!(ask().await.unwrap(), "here");
    }
    near.abort();
    here.drain().await.unwrap();
    until(CATCH_UP, "the hub does the work", || async {
        Ok(ask().await.ok().filter(|who| who == "hub"))
    })
    .await
    .unwrap();

    assert!(line.info().await.unwrap().state.messages > 1, "live values are in it");
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    // All that was heard at the hub since is the daemon's own.
    let mut heard = 0;
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_millis(200), heard_at_hub.next()).await
    {
        assert!(!message.subject.ends_with(".forged"), "{message:?}");
        heard += 1;
        if heard > 100 {
            break;
        }
    }
    assert!(heard > 0);
    rig.gateway.stop().await.unwrap();
}
