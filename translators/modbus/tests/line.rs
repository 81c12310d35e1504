//! RTU on a simulated line: every character takes its time both ways, and slaves answer late, twice
//! or not at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    LAST_POLL, Recorder, TokioClock, Told, assert_every_slot_accounted, begin, holding, spec,
};
use proptest::prelude::*;
use tidegate_modbus::{
    Buses, ByteStream, DeviceSpec, DialFuture, Dialer, LinkSpec, ModbusDevice, Parity, SerialSpec,
    StopBits, Transport, UnitId,
};
use tidegate_translator::{CancellationToken, DeviceState, TagId, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

const UNITS: u8 = 32;
/// What a slave takes to answer.
const LATENCY: Duration = Duration::from_millis(5);

/// How a slave behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Dead,
    /// Answers after this long, whether anybody still waits or not.
    Late(Duration),
    /// Says that no address exists, after this long.
    Refusing(Duration),
}

#[derive(Default)]
struct State {
    modes: BTreeMap<u8, Mode>,
    dials: usize,
    requests: Vec<(Duration, u8, u16)>,
    /// The shortest silence between an answer and the next request.
    silence: Option<Duration>,
}

/// One two-wire line at 19,200 baud, 11 bits a character. Register `a` of unit `u` holds
/// `256 u + a`.
#[derive(Clone)]
struct Line(Arc<Mutex<State>>, Instant);

impl Line {
    fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }

    fn port() -> SerialSpec {
        SerialSpec {
            port: PathBuf::from("/dev/ttyTEST"),
            baud: 19_200,
            parity: Parity::Even,
            stop_bits: StopBits::One,
            rs485: None,
        }
    }

    fn set(&self, units: impl IntoIterator<Item = u8>, mode: Mode) {
        self.0.lock().unwrap().modes.extend(units.into_iter().map(|unit| (unit, mode)));
    }

    fn asked(&self, unit: u8) -> Vec<(Duration, u16)> {
        let state = self.0.lock().unwrap();
        let of_unit = state.requests.iter().filter(|(_, to, _)| *to == unit);
        of_unit.map(|(at, _, count)| (*at, *count)).collect()
    }

    async fn serve(self, stream: DuplexStream) {
        let character = Self::port().character();
        let (mut from, to) = tokio::io::split(stream);
        let to = Arc::new(tokio::sync::Mutex::new((to, None::<Instant>)));
        let free = Arc::new(Mutex::new(None::<Instant>));
        let mut last_due: BTreeMap<u8, Instant> = BTreeMap::new();
        let mut request = [0; 8];
        while from.read_exact(&mut request).await.is_ok() {
            let now = Instant::now();
            let (unit, count) = (request[0], u16::from(request[5]));
            let silence = free.lock().unwrap().map(|end| now.saturating_duration_since(end));
            let mode = {
                let mut state = self.0.lock().unwrap();
                state.requests.push((self.1.elapsed(), unit, count));
                state.silence = [state.silence, silence].into_iter().flatten().min();
                state.modes.get(&unit).copied().unwrap_or(Mode::Live)
            };
            assert_eq!(crc(&request[..6]), request[6..], "the checksum of a request");
            let start = u16::from_be_bytes([request[2], request[3]]);
            let cells =
                (start..start + count).flat_map(|at| (u16::from(unit) * 256 + at).to_be_bytes());
            let right = || [unit, 3, request[5] * 2].into_iter().chain(cells).collect();
            let (latency, mut answer): (_, Vec<u8>) = match mode {
                Mode::Live => (LATENCY, right()),
                Mode::Late(after) => (after, right()),
                Mode::Refusing(after) => (after, vec![unit, 0x83, 2]),
                Mode::Dead => continue,
            };
            answer.extend(crc(&answer));
            // A slave answers in order, whatever the other slaves do.
            let due = now + 8 * character + latency;
            let due = last_due.get(&unit).map_or(due, |last| due.max(*last));
            last_due.insert(unit, due);
            let (to, free) = (Arc::clone(&to), Arc::clone(&free));
            tokio::spawn(async move {
                sleep_until(due).await;
                let (to, spoke_until) = &mut *to.lock().await;
                let mut at = spoke_until.map_or(due, |until| until.max(due));
                for byte in answer {
                    at += character;
                    sleep_until(at).await;
                    if to.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
                *spoke_until = Some(at);
                *free.lock().unwrap() = Some(at);
            });
        }
    }
}

fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

impl Dialer for Line {
    fn dial(&self, _deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move {
            self.0.lock().unwrap().dials += 1;
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(self.clone().serve(theirs));
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        })
    }
}

struct Member {
    spec: DeviceSpec,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Duration>,
}

/// Devices of ten registers each.
struct Fleet {
    line: Line,
    units: BTreeMap<u8, Member>,
}

impl Fleet {
    fn start(units: impl IntoIterator<Item = u8>, change: impl Fn(&mut DeviceSpec)) -> Self {
        let line = Line::new();
        let buses = Buses::with_dialer(Arc::new(line.clone()));
        let link =
            LinkSpec { transport: Transport::Rtu(Line::port()), ..LinkSpec::tcp(String::new(), 0) };
        let link = Arc::new(link);
        let member = |unit: u8| {
            let mut spec = DeviceSpec {
                name: format!("meter-{unit}"),
                link: Arc::clone(&link),
                unit: UnitId(unit),
                timeout: Duration::from_millis(300),
                backoff: (Duration::from_secs(1), Duration::from_secs(30)),
                ..spec((0..10).map(holding).collect())
            };
            change(&mut spec);
            let ids: Vec<_> = (0..u32::try_from(spec.tags.len()).unwrap()).map(TagId).collect();
            let clock = Arc::new(TokioClock(Instant::now()));
            let device = ModbusDevice::new(spec.clone(), ids, clock, &buses).unwrap();
            let (recorder, stop) = (Recorder::new(), CancellationToken::new());
            let task = begin(device, &recorder, &stop);
            (unit, Member { spec, recorder, stop, task })
        };
        let units = units.into_iter().map(member).collect();
        Self { line, units }
    }

    async fn stop(self) -> BTreeMap<u8, Told> {
        for member in self.units.values() {
            member.stop.cancel();
        }
        let mut all = BTreeMap::new();
        for (unit, member) in self.units {
            let ended = timeout(LAST_POLL, member.task).await.unwrap().unwrap();
            let told = std::mem::take(&mut *member.recorder.told.lock().unwrap());
            for (at, sample) in &told.samples {
                let tag = &member.spec.tags[usize::try_from(sample.tag.0).unwrap()];
                let expected = u64::from(unit) * 256 + u64::from(tag.address.offset);
                if sample.quality.is_good() {
                    assert_eq!(sample.value, Value::U64(expected), "unit {unit} at {at:?}");
                } else {
                    assert_eq!(sample.value, Value::None);
                }
            }
            assert_every_slot_accounted(&member.spec, &told, ended);
            all.insert(unit, told);
        }
        all
    }

    fn state(&self, unit: u8) -> DeviceState {
        self.units[&unit].recorder.told.lock().unwrap().states.last().unwrap().1
    }
}

fn good(told: &Told) -> usize {
    let good = |(_, sample): &&(Duration, tidegate_translator::Sample)| {
        sample.tag == TagId(0) && sample.quality.is_good()
    };
    told.samples.iter().filter(good).count()
}

#[tokio::test(start_paused = true)]
async fn a_line_of_32_units_is_used_to_nine_tenths_of_what_it_allows() {
    // More than the line can do, so that somebody always waits.
    let fleet = Fleet::start(1..=UNITS, |spec| spec.poll_every = Duration::from_millis(700));
    sleep(Duration::from_secs(10)).await;
    let (before, began) = (fleet.line.0.lock().unwrap().requests.len(), Instant::now());
    sleep(Duration::from_secs(120)).await;
    let exchanges = fleet.line.0.lock().unwrap().requests.len() - before;
    let character = Line::port().character();
    // A request of 8 characters, the slave, an answer of 25, and the silence before the next.
    let least = character * (8 + 25) + character * 7 / 2 + LATENCY;
    let used = least * u32::try_from(exchanges).unwrap();
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
    println!("{exchanges} exchanges of at least {least:?} in {:?}: {share:.3}", began.elapsed());
    assert!(share >= 0.9, "{share}");
    let silence = fleet.line.0.lock().unwrap().silence.unwrap();
    assert!(silence >= character * 7 / 2, "a request {silence:?} after an answer");
    let told = fleet.stop().await;
    let rates: Vec<_> = told.values().map(good).collect();
    let (least, most) = (rates.iter().min().unwrap(), rates.iter().max().unwrap());
    assert!(most - least <= most / 10, "units take turns: {rates:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_on_a_line_costs_one_request_for_each_back_off_and_the_others_little() {
    let fleet = Fleet::start(1..=UNITS, |_| {});
    fleet.line.set([13], Mode::Dead);
    sleep(Duration::from_secs(300)).await;
    let asked = fleet.line.asked(13);
    let mut pause = Duration::from_secs(1);
    for pair in asked.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap >= pause / 2, "asked again after {gap:?}: {asked:?}");
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    assert!(asked.len() >= 10, "{asked:?}");
    assert_eq!(fleet.line.0.lock().unwrap().dials, 1, "the port stays open");
    fleet.line.set([13], Mode::Live);
    sleep(Duration::from_secs(33)).await;
    assert_eq!(fleet.state(13), DeviceState::Live);
    for (unit, told) in fleet.stop().await {
        let good = good(&told);
        assert!(unit == 13 || good >= 300, "unit {unit} was read {good} times of 333");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_time_out_a_unit_is_asked_for_less_before_it_is_believed() {
    let fleet = Fleet::start([1, 2], |_| {});
    sleep(Duration::from_secs(10)).await;
    fleet.line.set([1], Mode::Late(Duration::from_millis(500)));
    let before = fleet.line.asked(1).len();
    sleep(Duration::from_secs(1)).await;
    fleet.line.set([1], Mode::Live);
    sleep(Duration::from_secs(4)).await;
    let counts: Vec<_> = fleet.line.asked(1)[before..].iter().map(|(_, count)| *count).collect();
    assert_eq!(counts[..3], [10, 9, 10], "{counts:?}");
    assert_eq!(fleet.state(1), DeviceState::Live);
    fleet.stop().await;
}

fn any_mode() -> impl Strategy<Value = Mode> {
    // Time-out and rest together are 2.3 s: later than that no answer may come.
    let late = || (0u64..2_200).prop_map(Duration::from_millis);
    prop_oneof![
        2 => Just(Mode::Live),
        1 => Just(Mode::Dead),
        3 => late().prop_map(Mode::Late),
        1 => late().prop_map(Mode::Refusing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Three blocks of one size, so that an answer to another one would fit.
    #[test]
    fn late_answers_never_give_a_wrong_value_nor_lose_count(
        modes in prop::collection::vec((1u8..4, any_mode(), 1u64..3_000), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let fleet = Fleet::start(1..=3, |spec| {
                spec.tags = [0, 1, 2, 50, 51, 52, 100, 101, 102].map(holding).to_vec().into();
                spec.backoff = (Duration::from_millis(300), Duration::from_secs(5));
                spec.poll_every = Duration::from_millis(400);
            });
            for (unit, mode, millis) in modes {
                fleet.line.set([unit], mode);
                sleep(Duration::from_millis(millis)).await;
            }
            fleet.line.set(1..=3, Mode::Live);
            for _ in 0..70 {
                sleep(Duration::from_secs(10)).await;
                if (1..=3).all(|unit| fleet.state(unit) == DeviceState::Live) {
                    break;
                }
            }
            for unit in 1..=3 {
                assert_eq!(fleet.state(unit), DeviceState::Live);
            }
            fleet.stop().await;
        });
    }
}
