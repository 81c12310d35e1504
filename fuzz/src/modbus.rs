//! What a Modbus device answers: never a wrong value, whatever comes back.
//!
//! The input is the script of a PLC that speaks as it likes. The driver itself runs against it, on
//! paused time. Its registers say something else at each answer, so that an answer to an earlier
//! question shows when it is taken for the present one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_modbus::{
    Address, ByteStream, DataType, DeviceSpec, DialFuture, Dialer, LinkSpec, ModbusDevice, Order,
    Table, TagSpec, UnitId, decode_bit, decode_registers,
};
use tidegate_translator::{
    CancellationToken, Clock, Device as _, DeviceState, Missed, Quality, Sample, Sink, TagId,
    TagPath, Timestamp, Value,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

use crate::chain::START;
use crate::counting::Memory;
use crate::recipe::Recipe;
use crate::{KIB, Target, seed};

pub(crate) const TARGET: Target = Target {
    name: "modbus",
    run,
    seeds,
    words: &[
        &[0, 0, 0, 3, 7, 0x83, 2],
        &[0, 0, 0, 0],
        &[0xff, 0xff],
        &[3, 4],
        &[1, 2],
        &[0x83, 0x0b],
        &[7, 3, 4, 0, 1, 0, 2],
    ],
    // A header may claim 64 KiB of answer, which nobody may take on its word. The largest piece is
    // the protocol crate's read buffer; what is held is the runtime, and the PLC's side of it.
    memory: |length| Memory { held: 192 * KIB + 16 * length, largest: 20 * KIB + length },
    mutations: 600,
};

const UNIT: u8 = 7;
/// Polls that a script may spoil.
const POLLS: u64 = 6;
/// Requests whose answers are scripted; then the PLC is well again.
const SCRIPTED: u32 = 40;

fn run(bytes: &[u8]) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(drive(bytes));
}

async fn drive(script: &[u8]) {
    let plc = Plc(Arc::new(Mutex::new(Script { rest: script.to_vec(), ..Script::default() })));
    let sink = Arc::new(Told::default());
    let spec = spec();
    let ids: Vec<_> = (0..u32::try_from(spec.tags.len()).unwrap()).map(TagId).collect();
    let clock = Arc::new(Running(Instant::now()));
    let device =
        ModbusDevice::with_dialer(spec.clone(), ids, clock, Arc::new(plc.clone())).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(Box::new(device).run(sink.clone(), stop.clone()));
    sleep(spec.poll_every * u32::try_from(POLLS).unwrap()).await;
    stop.cancel();
    let ended = timeout(Duration::from_secs(1), task).await;
    ended.expect("the driver ends when it is told to").expect("the driver never panics");
    let said = &plc.0.lock().unwrap().said;
    for sample in sink.0.lock().unwrap().iter() {
        judge(&spec.tags[usize::try_from(sample.tag.0).unwrap()], sample, said);
    }
}

/// A value is one that some whole answer to the very question gave; else there is none.
fn judge(tag: &TagSpec, sample: &Sample, said: &[Answered]) {
    if let Quality::Bad(_) = sample.quality {
        assert_eq!(sample.value, Value::None, "a bad reading has no value");
        return;
    }
    let given = |answer: &&Answered| {
        answer
            .values
            .iter()
            .any(|(path, value)| path == tag.path.as_str() && value.is_same(&sample.value))
    };
    assert!(
        said.iter().any(|answer| given(&answer)),
        "{}: {:?} ({:?}) was never answered",
        tag.path,
        sample.value,
        sample.quality
    );
}

/// Three blocks of registers of one size and one of coils, so that one answer's shape fits the
/// other's question.
fn spec() -> DeviceSpec {
    let tag = |table: Table, offset: u16, kind: DataType, order: Order| TagSpec {
        path: TagPath::new(format!("P/{}/{offset}", table.word())).unwrap(),
        address: Address { table, offset, bit: None },
        kind,
        order,
        scale: 1.0,
        offset: 0.0,
        special: None,
    };
    let holding = |offset, kind, order| tag(Table::HoldingRegister, offset, kind, order);
    let mut tags = vec![
        holding(0, DataType::Uint16, Order::Abcd),
        holding(1, DataType::Int16, Order::Badc),
        holding(100, DataType::Float32, Order::Cdab),
        tag(Table::InputRegister, 0, DataType::Uint32, Order::Dcba),
    ];
    tags.extend((16..26).map(|at| tag(Table::Coil, at, DataType::Bool, Order::Abcd)));
    DeviceSpec {
        name: "press-1".into(),
        link: Arc::new(LinkSpec::tcp("plc".into(), 502)),
        unit: UnitId(UNIT),
        poll_every: Duration::from_secs(1),
        timeout: Duration::from_millis(200),
        pause_between: Duration::ZERO,
        max_gap: 0,
        max_registers: 125,
        max_bits: 2000,
        forbidden: Arc::default(),
        backoff: (Duration::from_millis(300), Duration::from_secs(1)),
        tags: tags.into(),
    }
}

/// A question, and what one answer to it says of each tag.
#[derive(Debug)]
struct Answered {
    values: Vec<(String, Value)>,
}

#[derive(Debug, Default)]
struct Script {
    rest: Vec<u8>,
    requests: u32,
    said: Vec<Answered>,
}

/// What the PLC does next.
#[derive(Debug)]
struct Deed {
    bytes: Vec<u8>,
    pause: Duration,
    then_close: bool,
    silent: bool,
}

#[derive(Clone)]
struct Plc(Arc<Mutex<Script>>);

impl Dialer for Plc {
    fn dial(&self, _deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(self.clone().serve(theirs));
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        })
    }
}

impl Plc {
    async fn serve(self, mut stream: DuplexStream) {
        let mut wire = Wire::default();
        let mut before = Vec::new();
        loop {
            let mut request = [0; 12];
            if stream.read_exact(&mut request).await.is_err() {
                return;
            }
            let deed = self.deed(&request, &mut before);
            wire.asked(&request);
            let answers = wire.sent(&deed.bytes);
            self.0.lock().unwrap().said.extend(answers);
            if deed.silent {
                continue;
            }
            let (first, second) = deed.bytes.split_at(deed.bytes.len() / 2);
            let mut broken = stream.write_all(first).await.is_err();
            if !deed.pause.is_zero() {
                sleep(deed.pause).await;
            }
            broken |= stream.write_all(second).await.is_err();
            if broken || deed.then_close {
                return;
            }
        }
    }

    fn deed(&self, request: &[u8; 12], before: &mut Vec<u8>) -> Deed {
        let mut script = self.0.lock().unwrap();
        script.requests += 1;
        let right = right_answer(request, script.requests);
        let text = std::mem::take(&mut script.rest);
        let mut recipe = Recipe(&text);
        let (mut then_close, mut silent, mut pause) = (false, false, Duration::ZERO);
        let scripted = script.requests <= SCRIPTED && !recipe.is_empty();
        let bytes = match if scripted { recipe.byte() % 12 } else { 0 } {
            0 => right.clone(),
            1 => {
                let mut patched = right.clone();
                for _ in 0..=recipe.byte() % 3 {
                    let at = usize::from(recipe.byte()) % patched.len();
                    patched[at] = recipe.byte();
                }
                patched
            }
            2 => recipe.bytes(255).to_vec(),
            3 => frame(request, request[6], recipe.bytes(255)),
            4 => {
                silent = true;
                Vec::new()
            }
            5 => {
                then_close = true;
                right[..usize::from(recipe.byte()) % (right.len() + 1)].to_vec()
            }
            6 => [right.as_slice(), right.as_slice()].concat(),
            7 => [before.as_slice(), right.as_slice()].concat(),
            8 => [recipe.bytes(64), right.as_slice()].concat(),
            9 => {
                pause = Duration::from_millis(u64::from(recipe.byte()) * 3);
                right.clone()
            }
            10 => {
                // Another unit or transaction, everything else right.
                let mut other = right.clone();
                let at = [0, 1, 6][recipe.choice(3)];
                other[at] = other[at].wrapping_add(1 + recipe.byte() % 3);
                other
            }
            _ => {
                // A count that is not the one asked for, in a frame of the length that fits it.
                let cells = recipe.bytes(250);
                let count = u8::try_from(cells.len()).unwrap().wrapping_add(recipe.byte() % 2);
                frame(request, request[6], &[&[request[7], count], cells].concat())
            }
        };
        script.rest = recipe.0.to_vec();
        before.clone_from(&right);
        Deed { bytes, pause, then_close, silent }
    }
}

/// One frame to the request's transaction.
fn frame(request: &[u8; 12], unit: u8, pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
    [&request[..2], &[0, 0], &length, &[unit], pdu].concat()
}

/// The answer of a PLC that is well; `salt` makes it another one each time.
fn right_answer(request: &[u8; 12], salt: u32) -> Vec<u8> {
    let start = u16::from_be_bytes([request[8], request[9]]);
    let count = u16::from_be_bytes([request[10], request[11]]);
    let cell = |at: u16| {
        let mixed = (u32::from(at) + 1).wrapping_mul(0x9e37_79b1).wrapping_add(salt * 0x3779);
        u16::from_le_bytes([mixed.to_le_bytes()[1], mixed.to_le_bytes()[2]])
    };
    let cells: Vec<u8> = if request[7] <= 2 {
        (0..count.div_ceil(8)).map(|at| cell(start + at).to_le_bytes()[0]).collect()
    } else {
        (0..count).flat_map(|at| cell(start + at).to_be_bytes()).collect()
    };
    let bytes = u8::try_from(cells.len()).unwrap();
    frame(request, request[6], &[&[request[7], bytes], cells.as_slice()].concat())
}

/// The bytes of one connection, read as the specification says: frame after frame from its
/// beginning, until something cannot be a frame.
#[derive(Debug, Default)]
struct Wire {
    requests: BTreeMap<u16, [u8; 12]>,
    waiting: Vec<u8>,
    lost: bool,
}

impl Wire {
    fn asked(&mut self, request: &[u8; 12]) {
        self.requests.insert(u16::from_be_bytes([request[0], request[1]]), *request);
    }

    /// The answers that are complete with these bytes.
    fn sent(&mut self, bytes: &[u8]) -> Vec<Answered> {
        self.waiting.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while !self.lost && self.waiting.len() >= 7 {
            let length = usize::from(u16::from_be_bytes([self.waiting[4], self.waiting[5]]));
            self.lost = self.waiting[2..4] != [0, 0] || !(3..=254).contains(&length);
            if self.lost || self.waiting.len() < 6 + length {
                break;
            }
            let whole: Vec<u8> = self.waiting.drain(..6 + length).collect();
            let request = self.requests.get(&u16::from_be_bytes([whole[0], whole[1]]));
            answers.extend(request.and_then(|request| answered(request, &whole)));
        }
        answers
    }
}

/// What the frame says of each tag, when it is an answer to this request.
fn answered(request: &[u8; 12], whole: &[u8]) -> Option<Answered> {
    let start = u16::from_be_bytes([request[8], request[9]]);
    let count = u16::from_be_bytes([request[10], request[11]]);
    let function = request[7];
    let bytes = usize::from(if function <= 2 { count.div_ceil(8) } else { 2 * count });
    let cells = whole.get(9..)?;
    let fits = whole[6] == UNIT
        && whole[7] == function
        && usize::from(whole[8]) == bytes
        && cells.len() == bytes;
    if !fits {
        return None;
    }
    let table = match function {
        1 => Table::Coil,
        3 => Table::HoldingRegister,
        _ => Table::InputRegister,
    };
    let spec = spec();
    let here = spec.tags.iter().filter(|tag| tag.address.table == table);
    let value = |tag: &TagSpec| {
        let at = usize::from(tag.address.offset.checked_sub(start)?);
        if function <= 2 {
            let bit = (cells.get(at / 8)? >> (at % 8)) & 1 == 1;
            return (at < usize::from(count)).then(|| decode_bit(tag, bit).value);
        }
        let width = usize::from(tag.kind.registers());
        let words = cells.get(2 * at..2 * (at + width))?.chunks_exact(2);
        let words: Vec<u16> = words.map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
        decode_registers(tag, &words).map(|decoded| decoded.value)
    };
    let values = here.filter_map(|tag| Some((tag.path.to_string(), value(tag)?))).collect();
    Some(Answered { values })
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<Sample>>);

impl Sink for Told {
    fn samples(&self, batch: Vec<Sample>) {
        self.0.lock().unwrap().extend(batch);
    }

    fn missed(&self, missed: Missed) {
        assert!(missed.from <= missed.to, "{missed:?}");
        assert!(missed.count > Some(0), "{missed:?}");
    }

    fn state(&self, _device: &Arc<str>, _state: DeviceState, _why: Option<String>) {}
}

struct Running(Instant);

impl Clock for Running {
    fn now(&self) -> Timestamp {
        Timestamp(START + i64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    vec![
        seed("well", [0]),
        seed("patched", [1, 0, 7, 0x55, 1, 1, 8, 3, 6, 8, 1, 2, 0, 0x40, 1, 1]),
        seed("garbage", [2, 9, 0, 0, 0, 0, 0xff, 0xff, 7, 3, 4, 0, 2, 3, 1, 2, 3]),
        seed("exception", [3, 2, 0x83, 2, 3, 2, 0x83, 11, 3, 1, 3, 3, 0]),
        seed("silent", [4, 4, 0, 4]),
        seed("cut", [5, 0, 0, 5, 7, 0, 5, 9, 0]),
        seed("twice", [6, 6, 6, 0, 7, 7, 7, 0, 6]),
        seed("unasked", [8, 8, 0, 1, 0, 0, 0, 3, 7, 3, 0, 9, 200]),
        seed("late", [9, 60, 9, 100, 9, 255, 0]),
        seed("another", [10, 0, 0, 1, 0, 10, 1, 0, 0, 0, 10, 2, 0, 2, 0]),
        seed("count", [11, 4, 1, 2, 3, 4, 0, 11, 6, 1, 2, 3, 4, 5, 6, 0, 11, 4, 1, 2, 3, 4, 1]),
    ]
}
