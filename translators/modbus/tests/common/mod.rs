//! A PLC that answers over an in-memory stream and misbehaves as told, and a sink that keeps
//! everything. Time is tokio's paused clock.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    missing_docs,
    reason = "shared by test binaries that each use a part of it"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_modbus::{
    Address, ByteStream, DataType, DeviceSpec, DialError, DialFuture, Dialer, LinkSpec,
    ModbusDevice, Order, Special, Table, TagSpec, UnitId,
};
use tidegate_translator::{
    CancellationToken, Clock, Device, DeviceState, FaultReport, LossCause, Missed, Quality,
    ReadNow, Reason, Sample, Sink, TagId, TagPath, Timestamp, Value,
};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub const PERIOD: Duration = Duration::from_secs(1);

/// How long a driver may take to end.
pub const LAST_POLL: Duration = Duration::from_millis(1_001);

pub fn holding(offset: u16) -> TagSpec {
    tag(Table::HoldingRegister, offset, DataType::Uint16)
}

pub fn tag(table: Table, offset: u16, kind: DataType) -> TagSpec {
    TagSpec {
        path: TagPath::new(format!("P/{}/{offset}", table.word())).unwrap(),
        address: Address { table, offset, bit: None },
        kind,
        order: Order::Abcd,
        scale: 1.0,
        offset: 0.0,
        special: None,
    }
}

/// One poll a second, 400 ms per request, back-off from 1 to 4 s, nothing bridged.
pub fn spec(tags: Vec<TagSpec>) -> DeviceSpec {
    DeviceSpec {
        name: "press-1".into(),
        link: Arc::new(LinkSpec::tcp("plc".into(), 502)),
        unit: UnitId(7),
        poll_every: PERIOD,
        timeout: Duration::from_millis(400),
        pause_between: Duration::ZERO,
        max_gap: 0,
        max_registers: 125,
        max_bits: 2000,
        forbidden: Arc::default(),
        backoff: (Duration::from_secs(1), Duration::from_secs(4)),
        tags: tags.into(),
    }
}

/// Three blocks of equal size, so that an answer to another one would fit by its length.
pub fn three_blocks() -> DeviceSpec {
    spec([0, 1, 100, 101, 200, 201].map(holding).to_vec())
}

/// What the PLC does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    RefuseConnect,
    HangConnect,
    Silent,
    /// Answers after this long, on whatever connection is open by then.
    Late(Duration),
    WrongTransaction,
    WrongUnit,
    WrongFunction,
    OtherTable,
    FewerRegisters,
    MoreRegisters,
    CountBeyondLength,
    CountBelowLength,
    OddCount,
    NoRegisters,
    Oversize,
    LengthZero,
    LengthTwo,
    WrongProtocol,
    Garbage,
    ByteASecond,
    CloseAfter(usize),
    Twice,
    PreviousFirst,
    Unasked,
    Exception(u8),
    ExceptionOfOtherFunction,
    /// Refuses reads that touch this register.
    Hole(u16),
    /// Closes the connection on reads that touch this register.
    Poison(u16),
    /// Takes this long for each answer.
    Slow(Duration),
    /// Closes the connection when nothing was asked for this long.
    IdleClose(Duration),
    /// Reads of more than this many cells are "illegal data value".
    AtMost(u16),
    /// Is silent when asked for registers.
    OnlyBits,
    /// Says that it is busy to this many requests of the same kind before it answers one.
    Busy(u32),
}

#[derive(Debug)]
pub struct PlcState {
    pub fault: Fault,
    pub dials: u32,
    pub requests: Vec<(u8, u16, u16)>,
    busy: BTreeMap<(u8, u16, u16), u32>,
}

/// Register `a` of any table holds `a`, so a value from the wrong place shows.
#[derive(Clone)]
pub struct Plc(pub Arc<Mutex<PlcState>>);

impl Plc {
    pub fn new(fault: Fault) -> Self {
        let (requests, busy) = (Vec::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(PlcState { fault, dials: 0, requests, busy })))
    }

    pub fn set(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    pub fn fault(&self) -> Fault {
        self.0.lock().unwrap().fault
    }

    pub fn dials(&self) -> u32 {
        self.0.lock().unwrap().dials
    }

    pub fn requests(&self) -> usize {
        self.0.lock().unwrap().requests.len()
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut previous: Option<Vec<u8>> = None;
        loop {
            let mut head = [0; 7];
            let idle = match self.fault() {
                Fault::IdleClose(after) => after,
                _ => Duration::from_secs(86_400),
            };
            match tokio::time::timeout(idle, stream.read_exact(&mut head)).await {
                Ok(Ok(_)) => {}
                _ => return,
            }
            let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
            let mut pdu = vec![0; length - 1];
            if stream.read_exact(&mut pdu).await.is_err() {
                return;
            }
            assert_eq!(head[6], 7, "the unit of a request");
            let function = pdu[0];
            let start = u16::from_be_bytes([pdu[1], pdu[2]]);
            let count = u16::from_be_bytes([pdu[3], pdu[4]]);
            let fault = {
                let mut state = self.0.lock().unwrap();
                state.requests.push((function, start, count));
                state.fault
            };
            let right = frame(&head, &answer(function, start, count));
            let alive =
                self.misbehave(&mut stream, fault, &head, &right, previous.as_deref()).await;
            if !alive {
                return;
            }
            previous = Some(right);
        }
    }

    /// Sends what the fault makes of the right answer; `false` closes the connection.
    async fn misbehave(
        &self,
        stream: &mut DuplexStream,
        fault: Fault,
        head: &[u8; 7],
        right: &[u8],
        previous: Option<&[u8]>,
    ) -> bool {
        let (function, body) = (right[7], &right[9..]);
        let touches = |address: u16| {
            let requests = &self.0.lock().unwrap().requests;
            let &(_, start, count) = requests.last().unwrap();
            (start..start + count).contains(&address)
        };
        let is_busy = |times: u32| {
            let mut state = self.0.lock().unwrap();
            let request = *state.requests.last().unwrap();
            let said = state.busy.entry(request).or_default();
            *said = if *said < times { *said + 1 } else { 0 };
            *said > 0
        };
        let patched = |at: usize, byte: u8| {
            let mut bytes = right.to_vec();
            bytes[at] = byte;
            bytes
        };
        let bytes = match fault {
            Fault::None | Fault::RefuseConnect | Fault::HangConnect | Fault::IdleClose(_) => {
                right.to_vec()
            }
            Fault::Silent => return true,
            Fault::OnlyBits if function > 2 => return true,
            Fault::Late(after) | Fault::Slow(after) => {
                // Meanwhile the client may have gone; then nobody listens any more.
                sleep(after).await;
                right.to_vec()
            }
            Fault::WrongTransaction => patched(0, right[0].wrapping_add(0x40)),
            Fault::WrongUnit => patched(6, 8),
            Fault::WrongFunction => patched(7, 0x55),
            Fault::OtherTable => {
                patched(7, if function <= 2 { 3 - function } else { 7 - function })
            }
            Fault::FewerRegisters => frame(head, &pdu(function, &body[..body.len() - 2])),
            Fault::MoreRegisters => frame(head, &pdu(function, &[body, &[0, 9]].concat())),
            Fault::CountBeyondLength => patched(8, right[8] + 2),
            Fault::CountBelowLength => patched(8, right[8] - 2),
            Fault::OddCount => patched(8, right[8] - 1),
            Fault::NoRegisters => frame(head, &pdu(function, &[])),
            Fault::Oversize => patched(4, 0xff),
            Fault::LengthZero => [&right[..4], &[0, 0], &right[6..]].concat(),
            Fault::LengthTwo => [&right[..4], &[0, 2], &right[6..]].concat(),
            Fault::WrongProtocol => patched(3, 1),
            Fault::Garbage => (0..255_u8).map(|i| i.wrapping_mul(37).wrapping_add(11)).collect(),
            Fault::ByteASecond => {
                for byte in right {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return false;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
                return true;
            }
            Fault::CloseAfter(bytes) => {
                let _ = stream.write_all(&right[..bytes.min(right.len())]).await;
                return false;
            }
            Fault::Twice => [right, right].concat(),
            Fault::PreviousFirst => [previous.unwrap_or_default(), right].concat(),
            Fault::Unasked => {
                let mut other = right.to_vec();
                other[1] = other[1].wrapping_add(1);
                [&other, right].concat()
            }
            Fault::Exception(code) => frame(head, &[function | 0x80, code]),
            Fault::ExceptionOfOtherFunction => frame(head, &[0x80 | (function ^ 1), 2]),
            Fault::Hole(address) if touches(address) => frame(head, &[function | 0x80, 2]),
            Fault::Poison(address) if touches(address) => return false,
            Fault::Busy(times) if is_busy(times) => frame(head, &[function | 0x80, 6]),
            Fault::AtMost(most) if self.0.lock().unwrap().requests.last().unwrap().2 > most => {
                frame(head, &[function | 0x80, 3])
            }
            Fault::Hole(_)
            | Fault::Poison(_)
            | Fault::AtMost(_)
            | Fault::OnlyBits
            | Fault::Busy(_) => right.to_vec(),
        };
        assert!(!has_more(stream), "a second request before the first one was answered");
        stream.write_all(&bytes).await.is_ok()
    }
}

/// Whether bytes wait to be read; none are taken from a client that waits for its answer.
fn has_more(stream: &mut DuplexStream) -> bool {
    let mut byte = [0];
    let mut buf = tokio::io::ReadBuf::new(&mut byte);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let read = std::pin::Pin::new(stream).poll_read(&mut context, &mut buf);
    read.is_ready() && !buf.filled().is_empty()
}

fn pdu(function: u8, body: &[u8]) -> Vec<u8> {
    [&[function, u8::try_from(body.len()).unwrap()], body].concat()
}

fn answer(function: u8, start: u16, count: u16) -> Vec<u8> {
    let body: Vec<u8> = if function <= 2 {
        let mut bytes = vec![0; usize::from(count).div_ceil(8)];
        for bit in 0..count {
            if expected_bit(start + bit) {
                bytes[usize::from(bit / 8)] |= 1 << (bit % 8);
            }
        }
        bytes
    } else {
        (start..=start + (count - 1)).flat_map(u16::to_be_bytes).collect()
    };
    pdu(function, &body)
}

/// The coil at an address.
pub fn expected_bit(address: u16) -> bool {
    (address ^ (address >> 3)) & 1 == 1
}

fn frame(head: &[u8; 7], pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
    [&head[..4], &length, &head[6..7], pdu].concat()
}

impl Dialer for Plc {
    fn dial(&self, _deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move {
            let fault = {
                let mut state = self.0.lock().unwrap();
                state.dials += 1;
                state.fault
            };
            match fault {
                Fault::RefuseConnect => Err(DialError::Connect {
                    endpoint: "plc:502".into(),
                    source: std::io::ErrorKind::ConnectionRefused.into(),
                }),
                Fault::HangConnect => std::future::pending().await,
                _ => {
                    let (ours, theirs) = tokio::io::duplex(1024);
                    tokio::spawn(self.clone().serve(theirs));
                    Ok(Box::new(ours) as Box<dyn ByteStream>)
                }
            }
        })
    }
}

/// What a driver told, each with the time since the recorder was made.
#[derive(Debug, Default)]
pub struct Told {
    pub samples: Vec<(Duration, Sample)>,
    pub missed: Vec<(Duration, Missed)>,
    pub states: Vec<(Duration, DeviceState, Option<String>)>,
    pub faults: Vec<FaultReport>,
}

pub struct Recorder {
    since: Instant,
    pub told: Mutex<Told>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { since: Instant::now(), told: Mutex::default() })
    }
}

impl Sink for Recorder {
    fn samples(&self, batch: Vec<Sample>) {
        assert!(!batch.is_empty(), "an empty batch");
        let at = self.since.elapsed();
        self.told.lock().unwrap().samples.extend(batch.into_iter().map(|sample| (at, sample)));
    }

    fn missed(&self, missed: Missed) {
        let at = self.since.elapsed();
        self.told.lock().unwrap().missed.push((at, missed));
    }

    fn state(&self, _device: &Arc<str>, state: DeviceState, why: Option<String>) {
        let at = self.since.elapsed();
        self.told.lock().unwrap().states.push((at, state, why));
    }

    fn fault(&self, _device: &Arc<str>, fault: FaultReport) {
        self.told.lock().unwrap().faults.push(fault);
    }
}

/// Wall time that runs with tokio's clock from a fixed date.
pub struct TokioClock(pub Instant);

pub const WALL: i64 = 1_700_000_000_000_000_000;

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(WALL + i64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }
}

/// Runs a device, and tells how long it ran.
pub fn begin(
    device: ModbusDevice,
    recorder: &Arc<Recorder>,
    stop: &CancellationToken,
) -> JoinHandle<Duration> {
    let since = Instant::now();
    let running = Box::new(device).run(recorder.clone(), stop.clone());
    tokio::spawn(async move {
        running.await;
        since.elapsed()
    })
}

/// A running driver.
pub struct Run {
    pub plc: Plc,
    pub recorder: Arc<Recorder>,
    pub spec: DeviceSpec,
    since: Instant,
    pub desk: Arc<dyn ReadNow>,
    stop: CancellationToken,
    task: JoinHandle<Duration>,
}

impl Run {
    pub fn start(spec: DeviceSpec, fault: Fault) -> Self {
        let plc = Plc::new(fault);
        let recorder = Recorder::new();
        let since = Instant::now();
        let device = device(&spec, &plc);
        let desk = device.fresh().unwrap();
        let stop = CancellationToken::new();
        let task = begin(device, &recorder, &stop);
        Self { plc, recorder, spec, since, desk, stop, task }
    }

    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    pub async fn for_secs(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    /// Stops the driver and checks everything that must always hold. Returns what it told.
    pub async fn stop(self) -> Told {
        self.stop.cancel();
        let ended = tokio::time::timeout(LAST_POLL, self.task)
            .await
            .expect("the driver ends with the poll that is under way, or without it")
            .unwrap();
        let told = std::mem::take(&mut *self.recorder.told.lock().unwrap());
        assert_never_wrong(&self.spec, &told);
        assert_every_slot_accounted(&self.spec, &told, ended);
        told
    }
}

pub fn device(spec: &DeviceSpec, plc: &Plc) -> ModbusDevice {
    let ids: Vec<_> = (0..u32::try_from(spec.tags.len()).unwrap()).map(TagId).collect();
    let clock = Arc::new(TokioClock(Instant::now()));
    ModbusDevice::with_dialer(spec.clone(), ids, clock, Arc::new(plc.clone())).unwrap()
}

pub fn tag_of<'a>(spec: &'a DeviceSpec, sample: &Sample) -> &'a TagSpec {
    &spec.tags[usize::try_from(sample.tag.0).unwrap()]
}

pub fn expected(tag: &TagSpec) -> Value {
    let at = tag.address.offset;
    match tag.kind {
        DataType::Bool => Value::Bool(expected_bit(at)),
        DataType::Uint16 => Value::U64(at.into()),
        DataType::Uint32 => Value::U64(u64::from(at) << 16 | u64::from(at + 1)),
        _ => panic!("not used here"),
    }
}

/// A sample is the right value, good, at a time before now; or bad without a value.
pub fn assert_never_wrong(spec: &DeviceSpec, told: &Told) {
    for (at, sample) in &told.samples {
        let tag = tag_of(spec, sample);
        match sample.quality {
            Quality::Good => {
                assert_eq!(sample.value, expected(tag), "{} at {at:?}", tag.path);
                assert_eq!(sample.status, 0);
            }
            Quality::Bad(_) => assert_eq!(sample.value, Value::None, "{} at {at:?}", tag.path),
            Quality::Uncertain(_) => panic!("no register here is uncertain: {sample:?}"),
        }
        let acquired = Duration::from_nanos(u64::try_from(sample.acquired.0 - WALL).unwrap());
        assert_eq!(acquired, *at, "acquired when it was handed over");
        assert_eq!((sample.source, sample.server), (None, None));
    }
}

/// Samples and missed readings together are the slots due, and no slot is reported twice.
pub fn assert_every_slot_accounted(spec: &DeviceSpec, told: &Told, ended: Duration) {
    let (readings, begun) = readings_due(spec, ended);
    let samples = u64::try_from(told.samples.len()).unwrap();
    let missed: u64 = told.missed.iter().map(|(_, missed)| missed.count.unwrap()).sum();
    // A driver that is stopped between slots owes nothing for the next one.
    assert_eq!(samples + missed, readings, "{samples} samples and {missed} missed");
    for (_, missed) in &told.missed {
        assert!(missed.from <= missed.to, "{missed:?}");
        assert!(missed.count > Some(0), "{missed:?}");
        let first = Timestamp(WALL);
        let last = Timestamp(WALL + i64::try_from(begun.as_nanos()).unwrap());
        assert!(missed.from >= first && missed.to <= last, "{missed:?} not in {first:?}..{last:?}");
    }
}

/// How many readings were due, and when the last one was. The grid is read off the first slots of
/// a device that answers, so nothing of the driver's own arithmetic is used.
pub fn readings_due(spec: &DeviceSpec, ended: Duration) -> (u64, Duration) {
    let mut by_interval: BTreeMap<Duration, u64> = BTreeMap::new();
    for tag in spec.tags.iter() {
        *by_interval.entry(tag.poll_every().unwrap_or(spec.poll_every)).or_default() += 1;
    }
    let intervals: Vec<_> = by_interval.keys().copied().collect();
    let firsts = first_intervals(&spec.name, &intervals);
    let (mut readings, mut begun) = (0, Duration::ZERO);
    for ((period, tags), first) in by_interval.into_iter().zip(firsts) {
        let Some(rest) = ended.checked_sub(first) else {
            readings += tags;
            continue;
        };
        let more = u32::try_from(rest.as_nanos() / period.as_nanos()).unwrap();
        begun = begun.max(first + period * more);
        readings += tags * (2 + u64::from(more));
    }
    (readings, begun)
}

/// The time from slot 0 to slot 1 of a device's groups, observed.
fn first_intervals(name: &str, intervals: &[Duration]) -> Vec<Duration> {
    type Seen = BTreeMap<(String, Vec<Duration>), Vec<Duration>>;
    thread_local! {
        static SEEN: std::cell::RefCell<Seen> = const { std::cell::RefCell::new(BTreeMap::new()) };
    }
    let key = (name.to_owned(), intervals.to_vec());
    if let Some(seen) = SEEN.with_borrow(|seen| seen.get(&key).cloned()) {
        return seen;
    }
    let (name, intervals) = key.clone();
    let observed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let tags = (0..).zip(&intervals).map(|(at, every)| every_so_often(holding(at), *every));
            let longest = intervals.iter().max().copied().unwrap_or_default();
            let spec = DeviceSpec { name, ..spec(tags.collect()) };
            let plc = Plc::new(Fault::None);
            let recorder = Recorder::new();
            let device = device(&spec, &plc);
            let stop = CancellationToken::new();
            let task = tokio::spawn(Box::new(device).run(recorder.clone(), stop.clone()));
            sleep(longest * 2).await;
            stop.cancel();
            task.await.unwrap();
            let told = recorder.told.lock().unwrap();
            let times = |tag| qualities(&told, tag).into_iter().map(|(at, _)| at);
            let first = |tag| times(tag).nth(1).unwrap() - times(tag).next().unwrap();
            (0..u32::try_from(intervals.len()).unwrap()).map(first).collect::<Vec<_>>()
        })
    })
    .join()
    .unwrap();
    SEEN.with_borrow_mut(|seen| seen.insert(key, observed.clone()));
    observed
}

/// The tag with an interval of its own.
pub fn every_so_often(tag: TagSpec, poll_every: Duration) -> TagSpec {
    let special = Special { poll_every: Some(poll_every), ..Special::default() };
    TagSpec { special: Some(Arc::new(special)), ..tag }
}

/// The samples of one tag, as (time, quality).
pub fn qualities(told: &Told, tag: u32) -> Vec<(Duration, Quality)> {
    let of_tag = told.samples.iter().filter(|(_, sample)| sample.tag == TagId(tag));
    of_tag.map(|(at, sample)| (*at, sample.quality)).collect()
}

/// When each tag's last sample before `until` was given, and its quality.
pub fn standing(told: &Told, until: Duration) -> BTreeMap<u32, Quality> {
    let mut standing = BTreeMap::new();
    for (at, sample) in &told.samples {
        if *at <= until {
            standing.insert(sample.tag.0, sample.quality);
        }
    }
    standing
}

pub fn missed(told: &Told, cause: LossCause) -> u64 {
    let of_cause = told.missed.iter().filter(|(_, missed)| missed.cause == cause);
    of_cause.map(|(_, missed)| missed.count.unwrap()).sum()
}

pub fn bad(reason: Reason) -> Quality {
    Quality::Bad(reason)
}
