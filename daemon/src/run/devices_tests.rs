//! Devices whose tags only they know, from the configuration to status and catalog.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{Journal, MIN_SEGMENT_BYTES, Reader, Settings};
use tidegate_opcua::{
    Collect, Discard, EndpointUrl, FoundTag, Identifier, ItemSpec, Learned, Namespace, NodeAddress,
    Security, ServerDeadband, SubtreeSpec, TagSpec, Trigger, TrustSpec, UserSpec,
};
use tidegate_record::Catalog;
use tidegate_translator::{
    DeviceState, Fresh, FreshDesk, Questions, ReadNow, ReadingFuture, Reason, Sample, Sink,
    TagPath, Timestamp, Value, ValueKind, fresh_desk,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Deadband, Manner, RecordMode, Tag};
use crate::live::LiveQueue;
use crate::observe::state::{Pattern, StatusReport, TagReport};
use crate::recorder::{CatalogStore, Losses, Recorder, SystemClock};
use crate::supervise::{self, Pulses, Signal, Signals, Supervisor, Systemd};

const SECOND: Duration = Duration::from_secs(1);

fn path(text: &str) -> TagPath {
    TagPath::new(text).unwrap()
}

/// A server whose address space is a list.
#[derive(Default)]
struct Servers {
    found: std::sync::Mutex<HashMap<String, Vec<FoundTag>>>,
    learned: std::sync::Mutex<HashMap<String, ValueKind>>,
    /// Says to the drivers that the servers have changed.
    changed: tokio::sync::watch::Sender<()>,
}

/// What a driver was given: the device and the numbers.
type Defined = (String, Vec<Option<TagId>>);

/// A translator that finds what its server has, and reads each tag once.
struct Fake {
    spec: Arc<DeviceSpec>,
    ids: Arc<[TagId]>,
    book: Arc<dyn TagBook>,
    servers: Arc<Servers>,
    defined: mpsc::UnboundedSender<Defined>,
    desk: (FreshDesk, Questions),
}

impl Translator for Fake {
    fn name(&self) -> Arc<str> {
        self.spec.name.as_str().into()
    }

    fn fresh(&self) -> Option<Arc<dyn ReadNow>> {
        Some(Arc::new(self.desk.0.clone()))
    }

    fn run(mut self: Box<Self>, sink: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture {
        Box::pin(async move {
            let name = self.name();
            // From before the first look, so that no change is missed.
            let mut changed = self.servers.changed.subscribe();
            loop {
                let found = self.servers.found.lock().unwrap().get(&*name).cloned();
                let kind = self.servers.learned.lock().unwrap().get(&*name).copied();
                let learned =
                    self.ids.iter().zip(kind).map(|(tag, kind)| Learned { tag: *tag, kind });
                self.book.learn(Arc::clone(&name), learned.collect()).await;
                let ids = self.book.define(Arc::clone(&name), found.unwrap_or_default()).await;
                let all = self.ids.iter().copied().chain(ids.iter().copied().flatten());
                let good = |tag| Sample::good(tag, Timestamp(7), Value::I64(1));
                sink.samples(all.map(good).collect());
                sink.state(&name, DeviceState::Live, None);
                // The test may have ended.
                let _ = self.defined.send((name.to_string(), ids));
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        changed = changed.changed() => break changed.unwrap(),
                        () = self.desk.1.arrive() => {}
                    }
                    for tag in self.desk.1.tags() {
                        let sample = Sample::good(tag, Timestamp(9), Value::I64(9));
                        self.desk.1.answer(&Fresh { sample, error: None });
                    }
                }
            }
        })
    }

    fn read_once(&self) -> ReadingFuture {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// The daemon as far as devices reach.
struct Bench {
    dir: tempfile::TempDir,
    board: Arc<Board>,
    devices: Arc<Devices>,
    fresh: Arc<FreshReads>,
    drivers: Drivers,
    servers: Arc<Servers>,
    defined: mpsc::UnboundedReceiver<Defined>,
    config: Config,
    stop: (mpsc::Sender<Signal>, CancellationToken),
    running: (JoinHandle<supervise::Outcome>, JoinHandle<()>),
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Arc::new(Board::new("PlantA/gw-1".parse().unwrap(), Arc::clone(&clock)));
        let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
        let losses = Arc::new(Losses::new(Arc::clone(&clock)));
        let (ingress, queue) = Ingress::new(
            Arc::clone(&board),
            Arc::clone(&live),
            Arc::clone(&losses),
            Arc::clone(&clock),
        );
        let ingress = Arc::new(ingress);
        let disk = SimStorage::new();
        let sizes = Settings::new("PlantA", "gw-1", 16 * MIN_SEGMENT_BYTES);
        let settings = Settings { segment_bytes: MIN_SEGMENT_BYTES, headroom: 0, ..sizes };
        let open = move |stamp, reader: &Reader| {
            Journal::open_for(reader, Arc::new(disk.clone()), settings.clone(), stamp)
        };
        let (to, noted) = (Arc::clone(&board), Arc::clone(&clock));
        let (recorder, handle) =
            Recorder::open(dir.path(), open, SECOND, queue, losses, to, noted).unwrap();
        let over = CancellationToken::new();
        let pulse = Pulses::new(SECOND * 60).register("recorder");
        let recording = tokio::spawn(recorder.run(pulse, over.clone()));

        let witness =
            crate::run::watch::Watch { board: Arc::clone(&board), ingress: Arc::clone(&ingress) };
        let settings = supervise::Settings::default();
        let supervisor = Supervisor::new(settings, Arc::new(witness), Arc::new(Systemd));
        let drivers = supervisor.drivers();
        let (signals, source) = mpsc::channel(1);
        let supervising = tokio::spawn(supervisor.run(Signals::scripted(source)));

        let servers = Arc::<Servers>::default();
        let (told, defined) = mpsc::unbounded_channel();
        let known = Arc::clone(&servers);
        let opcua: MakeOpcUa = Arc::new(move |spec, ids, book| {
            let (servers, defined) = (Arc::clone(&known), told.clone());
            Box::new(Fake { spec, ids, book, servers, defined, desk: fresh_desk() })
        });
        let roster = Roster::new(Arc::clone(&ingress), live, handle, Arc::clone(&board));
        let fresh = Arc::new(FreshReads::new(Arc::clone(&board)));
        let feed: MakeFeed = Arc::new(|_, _, stop| Box::pin(stop.cancelled_owned()));
        let (asked, shown) = (Arc::clone(&fresh), Arc::clone(&board));
        let devices = Devices::new(roster, ingress, shown, clock, opcua, asked, feed);
        devices.number_health(&"PlantA/gw-1".parse().unwrap()).await.unwrap();
        let text = "[gateway]\nplant = \"PlantA\"\nname = \"gw-1\"\n";
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file, [], &[]).unwrap();
        Self {
            dir,
            board,
            devices: Arc::new(devices),
            fresh,
            drivers,
            servers,
            defined,
            config,
            stop: (signals, over),
            running: (supervising, recording),
        }
    }

    /// Makes these the configured devices.
    async fn apply(&mut self, devices: impl IntoIterator<Item = Device>) {
        self.config.devices = devices.into_iter().collect();
        self.devices.apply(&self.config, &self.drivers).await.unwrap();
    }

    fn serve(&self, device: &str, found: &[FoundTag]) {
        self.servers.found.lock().unwrap().insert(device.to_owned(), found.to_vec());
    }

    async fn next(&mut self) -> Defined {
        tokio::time::timeout(SECOND * 30, self.defined.recv()).await.unwrap().unwrap()
    }

    fn tags(&self) -> Vec<TagReport> {
        self.board.tags(&Pattern::all(), None, 1000).tags
    }

    /// Each tag with its quality.
    fn shown(&self) -> Vec<(String, String)> {
        self.tags().into_iter().map(|tag| (tag.path, tag.q)).collect()
    }

    /// What reading these tags now gives: the value, or the error.
    async fn read_now(&self, tags: &[TagId]) -> Vec<Result<Value, String>> {
        let deadline = tokio::time::Instant::now() + SECOND * 30;
        let read = self.fresh.read(tags, deadline).await;
        assert_eq!(read.iter().map(|fresh| fresh.sample.tag).collect::<Vec<_>>(), tags);
        read.into_iter().map(|fresh| fresh.error.map_or(Ok(fresh.sample.value), Err)).collect()
    }

    fn report(&self) -> StatusReport {
        self.board.report(&HealthLimits::default())
    }

    fn alarms(&self) -> Vec<String> {
        self.report().alarms.into_iter().map(|alarm| alarm.kind).collect()
    }

    fn catalog(&self) -> Catalog {
        CatalogStore::load(self.dir.path()).unwrap().unwrap().catalog().clone()
    }

    async fn stop(self) {
        self.stop.0.send(Signal::Stop).await.unwrap();
        self.running.0.await.unwrap();
        self.stop.1.cancel();
        self.running.1.await.unwrap();
    }
}

fn item() -> Arc<ItemSpec> {
    Arc::new(ItemSpec {
        sample_every: None,
        queue: None,
        discard: Discard::Oldest,
        trigger: Trigger::StatusValue,
        deadband: ServerDeadband::None,
        index_range: None,
    })
}

fn node(name: &str) -> NodeAddress {
    NodeAddress::Id(Namespace::Uri("urn:press".into()), Identifier::Text(name.into()))
}

fn tag(text: &str, unit: Option<&str>) -> Tag {
    let manner = Manner {
        unit: unit.map(Arc::from),
        deadband: Deadband::None,
        max_silence: SECOND * 60,
        record: RecordMode::All,
    };
    Tag { path: path(text), address: format!("node of {text}").into(), manner: Arc::new(manner) }
}

/// A device with tags and subtrees at these paths.
fn device(name: &str, tags: &[&str], subtrees: &[&str]) -> Device {
    let each = tags.iter().map(|it| TagSpec { path: path(it), node: node(it), item: item() });
    let below = subtrees.iter().map(|it| SubtreeSpec {
        path: path(it),
        node: node(it),
        item: item(),
        include: Arc::new([]),
        exclude: Arc::new([]),
        max_tags: 100,
        max_depth: 16,
    });
    let spec = DeviceSpec {
        name: name.to_owned(),
        url: EndpointUrl::parse("opc.tcp://192.0.2.10").unwrap(),
        follow_advertised: false,
        security: Security::None,
        user: UserSpec::Anonymous,
        trust: TrustSpec::default(),
        collect: Collect::Subscribe,
        sample_every: SECOND,
        publish_every: None,
        timeout: SECOND * 4,
        backoff: (SECOND, SECOND * 60),
        backfill: true,
        max_items: 1000,
        tags: each.collect(),
        subtrees: below.collect(),
    };
    Device {
        driver: Driver::OpcUa(Arc::new(spec)),
        tags: tags.iter().map(|it| tag(it, None)).collect(),
        subtrees: subtrees.iter().map(|it| tag(it, None)).collect(),
    }
}

fn found(text: &str, unit: Option<&str>) -> FoundTag {
    FoundTag {
        path: path(text),
        kind: ValueKind::F64,
        unit: unit.map(Arc::from),
        address: format!("nsu=urn:press;s={text}").into(),
        subtree: 0,
    }
}

fn good(paths: &[&str]) -> Vec<(String, String)> {
    paths.iter().map(|it| ((*it).to_owned(), "good".to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_driver_finds_has_a_number_before_its_first_sample() {
    let mut bench = Bench::start().await;
    bench.serve("press", &[found("A/axis/x", Some("mm")), found("A/axis/y", None)]);
    bench.apply([device("press", &["A/state"], &["A/axis"])]).await;
    let (name, ids) = bench.next().await;
    assert_eq!((name.as_str(), ids.iter().flatten().count()), ("press", 2));
    assert_eq!(bench.shown(), good(&["A/axis/x", "A/axis/y", "A/state"]));
    assert_eq!(bench.tags()[0].unit.as_deref(), Some("mm"));
    assert_eq!(bench.board.counters.samples_of_unknown_tags.read(), 0);
    let catalog = bench.catalog();
    let entry = catalog.resolve(ids[0].unwrap()).unwrap();
    assert_eq!((entry.path.as_str(), &*entry.device), ("A/axis/x", "press"));
    assert_eq!((entry.kind, entry.unit.as_deref()), (ValueKind::F64, Some("mm")));
    assert_eq!(&*entry.address, "nsu=urn:press;s=A/axis/x");
    // Another look finds one less and one more: the first keeps its number.
    bench.serve("press", &[found("A/axis/x", Some("mm")), found("A/axis/z", None)]);
    bench.servers.changed.send_replace(());
    let (_, again) = bench.next().await;
    assert_eq!(again[0], ids[0]);
    assert!(!ids.contains(&again[1]), "{again:?}");
    assert_eq!(bench.shown(), good(&["A/axis/x", "A/axis/z", "A/state"]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_outlives_the_reload_of_other_devices_and_of_its_own_tags() {
    let mut bench = Bench::start().await;
    bench.serve("press", &[found("A/axis/x", None)]);
    let press = device("press", &[], &["A/axis"]);
    bench.apply([press.clone()]).await;
    let (_, ids) = bench.next().await;
    bench.apply([press.clone(), device("oven", &["B/t"], &[])]).await;
    assert_eq!(bench.next().await.0, "oven");
    assert_eq!(bench.shown(), good(&["A/axis/x", "B/t"]));
    // Another manner of the subtree is no reason to begin anew.
    let changed = Device { subtrees: [tag("A/axis", Some("um"))].into(), ..press.clone() };
    bench.apply([changed]).await;
    assert_eq!(bench.shown(), good(&["A/axis/x"]));
    assert_eq!(bench.tags()[0].unit.as_deref(), Some("um"));
    assert!(bench.defined.try_recv().is_err(), "no driver began anew");
    // A tag more is one, and what was found stays while the new driver looks.
    bench.apply([device("press", &["A/state"], &["A/more", "A/axis"])]).await;
    assert!(bench.shown().contains(&good(&["A/axis/x"])[0]), "{:?}", bench.shown());
    bench.serve("press", &[FoundTag { subtree: 1, ..found("A/axis/x", None) }]);
    bench.servers.changed.send_replace(());
    while bench.next().await.1 != ids {}
    bench.apply([device("press", &["A/state"], &[])]).await;
    assert_eq!(bench.shown().len(), 1, "{:?}", bench.shown());
    bench.apply([]).await;
    assert_eq!(bench.shown(), []);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_another_tag_s_is_left_out_with_an_alarm_until_it_is_free() {
    let mut bench = Bench::start().await;
    bench.serve(
        "press",
        &[
            found("B/t", None),
            found("A/x", None),
            found("A/x", None),
            found("A/state", None),
            found("PlantA/_gateways/gw-1/health", None),
        ],
    );
    let press = device("press", &["A/state"], &["A"]);
    let oven = device("oven", &["B/t"], &[]);
    bench.apply([oven.clone(), press.clone()]).await;
    let mut given = HashMap::from([bench.next().await, bench.next().await]);
    let ids = given.remove("press").unwrap();
    let is_some: Vec<bool> = ids.iter().map(Option::is_some).collect();
    assert_eq!(is_some, [false, true, false, false, false]);
    assert_eq!(bench.alarms(), ["found-paths-taken"]);
    let text = bench.report().alarms[0].text.clone();
    assert!(text.starts_with("3 of the tags found at device \"press\" are left out"), "{text}");
    assert!(text.contains("\"B/t\" is a tag of \"oven\""), "{text}");
    // The oven goes: its path is free, and the press is asked again.
    bench.apply([press.clone()]).await;
    let (name, ids) = bench.next().await;
    assert_eq!((name.as_str(), ids[0].is_some()), ("press", true));
    // It comes back: what is configured goes before what was found.
    bench.serve("press", &[found("B/t", None), found("A/x", None)]);
    bench.apply([oven, press.clone()]).await;
    let mut given = HashMap::from([bench.next().await, bench.next().await]);
    assert_eq!(given.remove("press").unwrap()[0], None);
    assert_eq!(bench.report().devices.iter().map(|it| it.tags).collect::<Vec<_>>(), [1, 2]);
    bench.apply([press]).await;
    bench.next().await;
    assert!(bench.alarms().is_empty(), "{:?}", bench.alarms());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_a_tag_is_in_the_catalog_once() {
    let mut bench = Bench::start().await;
    bench.servers.learned.lock().unwrap().insert("press".to_owned(), ValueKind::Text);
    bench.apply([device("press", &["A/state"], &[])]).await;
    bench.next().await;
    let id = bench.catalog().id_of(&path("A/state")).unwrap();
    let (kind, version) = (bench.catalog().resolve(id).unwrap().kind, bench.catalog().version());
    assert_eq!(kind, ValueKind::Text);
    // Neither another look nor a reload makes another version of it.
    bench.servers.changed.send_replace(());
    bench.next().await;
    bench.apply([device("press", &["A/state"], &[])]).await;
    assert_eq!(bench.catalog().version(), version);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_of_a_former_configuration_gives_no_numbers_away() {
    let mut bench = Bench::start().await;
    let former = device("press", &[], &["A"]);
    bench.apply([device("press", &["A/state"], &["A"])]).await;
    bench.next().await;
    let book = DeviceBook::new(Arc::clone(&bench.devices.roster), former.driver);
    let ids = book.define("press".into(), vec![found("A/x", None)]).await;
    assert_eq!(ids, [None]);
    assert_eq!(bench.shown(), good(&["A/state"]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_read_now_by_whichever_driver_has_them_across_reloads() {
    let mut bench = Bench::start().await;
    bench.serve("press", &[found("A/axis/x", None)]);
    bench.apply([device("press", &["A/state"], &["A/axis"]), device("oven", &["B/t"], &[])]).await;
    let mut given = HashMap::from([bench.next().await, bench.next().await]);
    let x = given.remove("press").unwrap()[0].unwrap();
    let id = |bench: &Bench, of: &str| bench.catalog().id_of(&path(of)).unwrap();
    let (state, t) = (id(&bench, "A/state"), id(&bench, "B/t"));
    let nine = || Ok(Value::I64(9));
    assert_eq!(bench.read_now(&[t, x, state, t]).await, [nine(), nine(), nine(), nine()]);
    // A fresh value is no sample: the record and the status stay as they are.
    assert!(bench.tags().iter().all(|tag| tag.v == 1), "{:?}", bench.tags());

    // The press is another one now, the oven has gone, and its tag with it.
    bench.apply([device("press", &["A/state", "A/more"], &["A/axis"])]).await;
    bench.next().await;
    let read = bench.read_now(&[t, id(&bench, "A/more"), state]).await;
    assert_eq!(read[1..], [nine(), nine()]);
    assert_eq!(read[0], Err("no such tag at present".to_owned()));
    let health = id(&bench, "PlantA/_gateways/gw-1/health");
    let read = bench.read_now(&[health]).await;
    assert!(read[0].as_ref().is_err_and(|why| why.contains("latest value")), "{read:?}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_answer_holds_up_no_other_and_nobody_beyond_the_deadline() {
    let board = Arc::new(crate::observe::state::tests::board());
    let meta =
        |id, device: &str| crate::observe::state::tests::meta(id, &format!("P/{id}"), device);
    let devices = ["press", "oven", "saw"].map(crate::observe::state::tests::device);
    board.configure(devices, [meta(1, "press"), meta(2, "oven"), meta(3, "saw")]);
    let fresh = FreshReads::new(Arc::clone(&board));
    let ((press, mut asked), (oven, _deaf), (saw, gone)) =
        (fresh_desk(), fresh_desk(), fresh_desk());
    drop(gone);
    for (name, desk) in [("press", press), ("oven", oven), ("saw", saw)] {
        fresh.put(name.into(), Some(Arc::new(desk)));
    }
    let answering = async {
        asked.arrive().await;
        asked.fail(Timestamp(1), Reason::Refused, 2, "exception 2");
    };
    let since = tokio::time::Instant::now();
    let reading = fresh.read(&[TagId(1), TagId(2), TagId(3), TagId(4)], since + SECOND);
    let (read, ()) = tokio::join!(reading, answering);
    assert_eq!(since.elapsed(), SECOND);
    let why: Vec<_> = read.iter().map(|it| it.error.as_deref().unwrap()).collect();
    assert_eq!(why[0], "exception 2");
    assert!(why[1].starts_with("device oven: not read within 1s"), "{why:?}");
    assert!(why[2].starts_with("device saw: its driver does not run"), "{why:?}");
    assert_eq!(why[3], "no such tag at present");
    let reasons: Vec<_> = read.iter().filter_map(|it| it.sample.quality.reason()).collect();
    let expected = [Reason::Refused, Reason::Timeout, Reason::NotConnected, Reason::Configuration];
    assert_eq!(reasons, expected);
}
