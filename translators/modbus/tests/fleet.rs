//! Many units behind one way: fairness, dead units, dead gateways, caps, pauses, comings and goings.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    LAST_POLL, Recorder, TokioClock, Told, assert_every_slot_accounted, begin, holding, spec,
};
use tidegate_modbus::{
    Buses, ByteStream, DeviceSpec, DialError, DialFuture, Dialer, LinkSpec, ModbusDevice, UnitId,
};
use tidegate_translator::{CancellationToken, DeviceState, LossCause, TagId, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

/// How a unit behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Dead,
    /// The gateway says so after this long.
    Unreachable(Duration),
}

#[derive(Debug)]
struct State {
    dead: BTreeMap<u8, Mode>,
    refusing: bool,
    latency: Duration,
    dials: usize,
    open: usize,
    most: usize,
    requests: Vec<(Duration, u8)>,
}

/// Units 1 to 247; register `a` of unit `u` holds `256 u + a`.
#[derive(Clone)]
struct Gateway(Arc<Mutex<State>>, Instant);

impl Gateway {
    fn new(latency: Duration) -> Self {
        let state = State {
            dead: BTreeMap::new(),
            refusing: false,
            latency,
            dials: 0,
            open: 0,
            most: 0,
            requests: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)), Instant::now())
    }

    fn set(&self, units: impl IntoIterator<Item = u8>, mode: Mode) {
        self.0.lock().unwrap().dead.extend(units.into_iter().map(|unit| (unit, mode)));
    }

    fn refuse(&self, refusing: bool) {
        self.0.lock().unwrap().refusing = refusing;
    }

    fn dials(&self) -> usize {
        self.0.lock().unwrap().dials
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().most
    }

    /// When a unit was asked.
    fn asked(&self, unit: u8) -> Vec<Duration> {
        let state = self.0.lock().unwrap();
        state.requests.iter().filter(|(_, to)| *to == unit).map(|(at, _)| *at).collect()
    }

    async fn serve(self, mut stream: DuplexStream) {
        {
            let mut state = self.0.lock().unwrap();
            state.open += 1;
            state.most = state.most.max(state.open);
        }
        let mut request = [0; 12];
        while stream.read_exact(&mut request).await.is_ok() {
            let unit = request[6];
            let (mode, latency) = {
                let mut state = self.0.lock().unwrap();
                state.requests.push((self.1.elapsed(), unit));
                (state.dead.get(&unit).copied().unwrap_or(Mode::Live), state.latency)
            };
            let (pause, pdu) = match mode {
                Mode::Live => {
                    let start = u16::from_be_bytes([request[8], request[9]]);
                    let cells = (start..start + u16::from(request[11]))
                        .flat_map(|at| (u16::from(unit) * 256 + at).to_be_bytes());
                    (latency, [3, 2 * request[11]].into_iter().chain(cells).collect())
                }
                Mode::Dead => (Duration::from_secs(86_400), vec![]),
                Mode::Unreachable(after) => (after, vec![0x83, 0x0b]),
            };
            match timeout(pause, stream.read_u8()).await {
                Err(_) => {}
                Ok(Err(_)) => break,
                Ok(Ok(_)) => panic!("a second request before the first one was answered"),
            }
            let length = u8::try_from(pdu.len() + 1).unwrap();
            let reply = [&request[..4], &[0, length, unit], &pdu].concat();
            if stream.write_all(&reply).await.is_err() {
                break;
            }
        }
        self.0.lock().unwrap().open -= 1;
    }
}

impl Dialer for Gateway {
    fn dial(&self, _deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move {
            {
                let mut state = self.0.lock().unwrap();
                state.dials += 1;
                if state.refusing {
                    let source = std::io::ErrorKind::ConnectionRefused.into();
                    return Err(DialError::Connect { endpoint: "gateway:502".into(), source });
                }
            }
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(self.clone().serve(theirs));
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        })
    }
}

/// Running devices, one for each unit.
struct Fleet {
    gateway: Gateway,
    units: BTreeMap<u8, Member>,
    /// One for as long as the fleet lives.
    buses: Buses,
}

struct Member {
    spec: DeviceSpec,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Duration>,
}

impl Fleet {
    fn new(latency: Duration) -> Self {
        let gateway = Gateway::new(latency);
        let buses = Buses::with_dialer(Arc::new(gateway.clone()));
        Self { gateway, units: BTreeMap::new(), buses }
    }

    /// Ten registers of each unit in one block each second, and a second for each answer.
    fn start(&mut self, units: impl IntoIterator<Item = u8>, change: impl Fn(&mut DeviceSpec)) {
        for unit in units {
            let mut spec = DeviceSpec {
                name: format!("meter-{unit}"),
                unit: UnitId(unit),
                timeout: Duration::from_secs(1),
                backoff: (Duration::from_secs(1), Duration::from_secs(60)),
                ..spec((0..10).map(holding).collect())
            };
            change(&mut spec);
            let ids: Vec<_> = (0..10).map(TagId).collect();
            let clock = Arc::new(TokioClock(Instant::now()));
            let device = ModbusDevice::new(spec.clone(), ids, clock, &self.buses).unwrap();
            let (recorder, stop) = (Recorder::new(), CancellationToken::new());
            let task = begin(device, &recorder, &stop);
            self.units.insert(unit, Member { spec, recorder, stop, task });
        }
    }

    /// Stops one unit's device and checks what must always hold.
    async fn stop(&mut self, unit: u8) -> Told {
        let member = self.units.remove(&unit).unwrap();
        member.stop.cancel();
        let ended = timeout(LAST_POLL, member.task).await.unwrap().unwrap();
        let told = std::mem::take(&mut *member.recorder.told.lock().unwrap());
        for (at, sample) in &told.samples {
            if sample.quality.is_good() {
                let expected = u64::from(unit) * 256 + u64::from(sample.tag.0);
                assert_eq!(sample.value, Value::U64(expected), "unit {unit} at {at:?}");
            } else {
                assert_eq!(sample.value, Value::None);
            }
        }
        assert_every_slot_accounted(&member.spec, &told, ended);
        told
    }

    async fn stop_all(&mut self) -> BTreeMap<u8, Told> {
        let units: Vec<_> = self.units.keys().copied().collect();
        for member in self.units.values() {
            member.stop.cancel();
        }
        let mut all = BTreeMap::new();
        for unit in units {
            all.insert(unit, self.stop(unit).await);
        }
        all
    }

    fn states(&self) -> Vec<DeviceState> {
        let state = |member: &Member| member.recorder.told.lock().unwrap().states.last().unwrap().1;
        self.units.values().map(state).collect()
    }

    async fn until_all_are(&self, state: DeviceState, patience: Duration) -> Duration {
        let began = Instant::now();
        while self.states().iter().any(|of| *of != state) {
            assert!(began.elapsed() < patience, "{:?} after {patience:?}", self.states());
            sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    }
}

/// How many good readings of tag 0 came in this time.
fn good(told: &Told, from: Duration, to: Duration) -> usize {
    let good = |(at, sample): &&(Duration, _)| {
        let sample: &tidegate_translator::Sample = sample;
        (from..to).contains(at) && sample.tag == TagId(0) && sample.quality.is_good()
    };
    told.samples.iter().filter(good).count()
}

/// The gaps between requests to a dead unit are those of its back-off, never less.
fn assert_one_request_for_each_back_off(
    asked: &[Duration],
    (first, largest): (Duration, Duration),
) {
    let mut pause = first;
    for pair in asked.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= pause / 2, "asked again after {gap:?} of {pause:?}: {asked:?}");
        pause = (pause * 2).min(largest);
    }
}

#[tokio::test(start_paused = true)]
async fn one_dead_unit_of_32_costs_the_others_less_than_a_tenth_of_their_rate() {
    for mode in [Mode::Dead, Mode::Unreachable(Duration::from_millis(900))] {
        let mut fleet = Fleet::new(Duration::from_millis(20));
        fleet.gateway.set([13], mode);
        fleet.start(1..=32, |_| {});
        sleep(Duration::from_secs(300)).await;
        let asked = fleet.gateway.asked(13);
        assert_one_request_for_each_back_off(
            &asked,
            (Duration::from_secs(1), Duration::from_secs(60)),
        );
        assert!(asked.len() >= 8, "{asked:?}");
        let told = fleet.stop_all().await;
        for (unit, told) in told.iter().filter(|(unit, _)| **unit != 13) {
            let good = good(told, Duration::ZERO, Duration::from_secs(300));
            assert!(good >= 270, "{mode:?}: unit {unit} was read {good} times of 300");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_dies_costs_one_request_more_than_one_for_each_back_off() {
    let mut fleet = Fleet::new(Duration::from_millis(20));
    fleet.start(1..=32, |_| {});
    sleep(Duration::from_secs(60)).await;
    fleet.gateway.set([13], Mode::Dead);
    let before = fleet.gateway.asked(13).len();
    sleep(Duration::from_secs(300)).await;
    let asked = fleet.gateway.asked(13).split_off(before);
    // The first may be repeated once, on a connection that is new.
    let backoff = (Duration::from_secs(1), Duration::from_secs(60));
    assert_one_request_for_each_back_off(&asked[1..], backoff);
    fleet.gateway.set([13], Mode::Live);
    let took = fleet.until_all_are(DeviceState::Live, Duration::from_secs(63)).await;
    assert!(took > Duration::ZERO);
    fleet.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn eight_dead_units_of_32_cost_the_others_less_than_a_tenth_of_their_rate() {
    // A back-off so short that eight dead units could keep the bus busy for ever.
    let backoff = (Duration::from_secs(1), Duration::from_secs(4));
    let mut fleet = Fleet::new(Duration::from_millis(20));
    fleet.gateway.set(1..=8, Mode::Dead);
    fleet.start(1..=32, |spec| spec.backoff = backoff);
    sleep(Duration::from_secs(900)).await;
    let mut fewest = usize::MAX;
    for unit in 1..=8 {
        let asked = fleet.gateway.asked(unit);
        assert_one_request_for_each_back_off(&asked, backoff);
        fewest = fewest.min(asked.len());
        // One probe each 12.5 s for all of them.
        assert!((6..=13).contains(&asked.len()), "unit {unit}: {asked:?}");
    }
    let told = fleet.stop_all().await;
    for (unit, told) in told.iter().filter(|(unit, _)| **unit > 8) {
        // Each one has to be asked once before anything is known of it.
        let good = good(told, Duration::from_secs(20), Duration::from_secs(900));
        assert!(good >= 792, "unit {unit} was read {good} times of 880; {fewest} probes each");
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_were_dead_and_come_back_all_are_live_again_soon() {
    let mut fleet = Fleet::new(Duration::from_millis(20));
    fleet.start(1..=32, |_| {});
    sleep(Duration::from_secs(30)).await;
    fleet.gateway.set(1..=32, Mode::Dead);
    fleet.until_all_are(DeviceState::Down, Duration::from_secs(70)).await;
    sleep(Duration::from_secs(600)).await;
    fleet.gateway.set(1..=32, Mode::Live);
    // The largest back-off, a slot, and the probes that are still under way.
    let took = fleet.until_all_are(DeviceState::Live, Duration::from_secs(66)).await;
    println!("all live again after {took:?}");
    fleet.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_gateway_costs_one_attempt_for_each_back_off_and_not_one_for_each_unit() {
    let mut fleet = Fleet::new(Duration::from_millis(20));
    fleet.start(1..=32, |spec| spec.backoff = (Duration::from_secs(4), Duration::from_secs(4)));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.gateway.dials(), 1);
    fleet.gateway.refuse(true);
    // The connection that stands breaks by one silence.
    fleet.gateway.set([1], Mode::Dead);
    fleet.until_all_are(DeviceState::Down, Duration::from_secs(4)).await;
    fleet.gateway.set([1], Mode::Live);
    let before = fleet.gateway.dials();
    sleep(Duration::from_secs(100)).await;
    let dials = fleet.gateway.dials() - before;
    assert!((25..=50).contains(&dials), "{dials} attempts in 100 s, one each 2 to 4 s");
    let asked: usize = (1..=32).map(|unit| fleet.gateway.asked(unit).len()).sum();
    fleet.gateway.refuse(false);
    fleet.until_all_are(DeviceState::Live, Duration::from_secs(6)).await;
    let asked = (1..=32).map(|unit| fleet.gateway.asked(unit).len()).sum::<usize>() - asked;
    assert!(asked < 32 * 6, "{asked} requests: nobody is probed more than polled");
    fleet.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn ten_devices_keep_the_cap_on_connections_and_use_what_it_allows() {
    for cap in [1, 3] {
        let mut fleet = Fleet::new(Duration::from_millis(50));
        fleet.start(1..=10, |spec| {
            let mut link = LinkSpec::tcp("gateway".into(), 502);
            link.max_connections = cap;
            spec.link = Arc::new(link);
            spec.poll_every = Duration::from_millis(600);
        });
        sleep(Duration::from_secs(60)).await;
        assert_eq!(fleet.gateway.most(), usize::from(cap));
        for (unit, told) in fleet.stop_all().await {
            assert_eq!(told.missed, [], "unit {unit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_after_each_poll_where_that_is_asked_for() {
    let mut fleet = Fleet::new(Duration::from_millis(20));
    fleet.start([1], |spec| {
        let mut link = LinkSpec::tcp("gateway".into(), 502);
        link.close_after_poll = true;
        spec.link = Arc::new(link);
        spec.max_registers = 2;
    });
    sleep(Duration::from_secs(10)).await;
    let polls = fleet.gateway.asked(1).len() / 5;
    assert_eq!(fleet.gateway.dials(), polls);
    assert_eq!(fleet.stop(1).await.missed, []);
}

#[tokio::test(start_paused = true)]
async fn a_pause_between_requests_of_one_unit_leaves_the_bus_to_the_others() {
    let pause = Duration::from_millis(200);
    let mut fleet = Fleet::new(Duration::from_millis(10));
    // Four requests a poll, a pause before each, and twice the same unit.
    fleet.start([1], |spec| (spec.pause_between, spec.max_registers) = (pause, 3));
    fleet.start([2], |spec| spec.poll_every = Duration::from_millis(20));
    sleep(Duration::from_secs(60)).await;
    let asked = fleet.gateway.asked(1);
    assert!(asked.len() > 4 * 55, "{}", asked.len());
    for pair in asked.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= pause + Duration::from_millis(10), "{gap:?}");
    }
    let told = fleet.stop_all().await;
    // What is missed is the poll that the stop cut off.
    assert!(told[&1].missed.iter().all(|(_, missed)| missed.cause == LossCause::NotRunning));
    let good = good(&told[&2], Duration::ZERO, Duration::from_secs(60));
    assert!(good > 2_700, "unit 2 was read {good} times of 3000");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_goes_leaves_the_connection_to_the_others_and_the_last_one_closes_it() {
    let mut fleet = Fleet::new(Duration::from_millis(20));
    fleet.start([1, 2], |_| {});
    sleep(Duration::from_secs(10)).await;
    // Between polls, when nothing of it is under way.
    while fleet.gateway.asked(1).last().unwrap().as_millis() + 500
        > fleet.gateway.1.elapsed().as_millis()
    {
        sleep(Duration::from_millis(10)).await;
    }
    fleet.stop(1).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.gateway.dials(), 1);
    fleet.start([1], |_| {});
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.gateway.dials(), 1);
    let told = fleet.stop(2).await;
    assert_eq!(told.missed, []);
    assert_eq!(fleet.gateway.0.lock().unwrap().open, 1);
    fleet.stop(1).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(fleet.gateway.0.lock().unwrap().open, 0);
}
