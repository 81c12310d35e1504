use tidegate_modbus::{
    Address, Buses, DataType, DeviceSpec, LinkSpec, ModbusDevice, Order, Table, TagSpec, UnitId,
};
use tidegate_translator::{Clock, Device, Reading, TagId, TagPath, Timestamp, Value};

use super::*;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

fn tag(address: &str, kind: &str) -> TagSpec {
    let (table, offset) = address.split_once(':').unwrap();
    let (offset, bit) = match offset.split_once('.') {
        Some((offset, bit)) => (offset, Some(bit.parse().unwrap())),
        None => (offset, None),
    };
    let table = match table {
        "holding" => Table::HoldingRegister,
        "input" => Table::InputRegister,
        "coil" => Table::Coil,
        "discrete" => Table::DiscreteInput,
        other => panic!("no table {other}"),
    };
    let (kind, order) = match kind.split_once(' ') {
        Some((kind, "(cdab)")) => (kind, Order::Cdab),
        Some(other) => panic!("{other:?}"),
        None => (kind, Order::Abcd),
    };
    let kind = match kind {
        "bool" => DataType::Bool,
        "int16" => DataType::Int16,
        "uint16" => DataType::Uint16,
        "uint32" => DataType::Uint32,
        "uint64" => DataType::Uint64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        other => panic!("no type {other}"),
    };
    TagSpec {
        path: TagPath::new(address).unwrap(),
        address: Address { table, offset: offset.parse().unwrap(), bit },
        kind,
        order,
        scale: 1.0,
        offset: 0.0,
        special: None,
    }
}

/// Reads tags from a simulated PLC with the real translator.
async fn readings(behaviour: Behaviour, tags: Vec<TagSpec>) -> Vec<Reading> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, behaviour, stop.clone()));
    let ids: Vec<_> = (0..u32::try_from(tags.len()).unwrap()).map(TagId).collect();
    let spec = DeviceSpec {
        name: "sim".into(),
        link: Arc::new(LinkSpec::tcp("127.0.0.1".into(), port)),
        unit: UnitId(1),
        poll_every: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        pause_between: Duration::ZERO,
        max_gap: 16,
        max_registers: 125,
        max_bits: 2000,
        forbidden: Arc::default(),
        backoff: (Duration::from_secs(1), Duration::from_secs(1)),
        tags: tags.into(),
    };
    let device = ModbusDevice::new(spec, ids, Arc::new(Fixed), &Buses::new()).unwrap();
    let readings = device.read_once().await;
    stop.cancel();
    serving.await.unwrap();
    readings
}

#[tokio::test]
async fn every_documented_cell_of_the_press_is_read_in_its_range() {
    let tags = PRESS_MAP.iter().map(|entry| tag(entry.address, entry.kind)).collect();
    let readings = readings(Behaviour::default(), tags).await;
    let value = |name: &str| {
        let at = PRESS_MAP.iter().position(|entry| entry.name == name).unwrap();
        assert!(readings[at].quality.is_good(), "{name}: {:?}", readings[at]);
        readings[at].value.clone()
    };
    for entry in PRESS_MAP {
        let (value, kind) = (value(entry.name), entry.kind.split(' ').next().unwrap());
        let fits = match value {
            Value::Bool(_) => kind == "bool",
            Value::I64(_) => kind == "int16",
            Value::U64(_) => kind == "uint32" || kind == "uint64",
            Value::F32(_) => kind == "float32",
            Value::F64(_) => kind == "float64",
            _ => false,
        };
        assert!(fits, "{}: {value:?}", entry.name);
    }
    let within = |name: &str, low: f64, high: f64| {
        let number = value(name).as_f64().unwrap();
        assert!((low..=high).contains(&number), "{name} is {number}");
    };
    within("temperature", 80.0, 95.0);
    within("pressure", 90.0, 150.0);
    within("position", 0.0, 1000.0);
    within("oil-level", 999.0, 1000.0);
    assert!(value("temperature").is_same(&value("temperature-cdab")));
    let Value::U64(energy) = value("energy") else { panic!("energy") };
    assert!(energy >= 1 << 53);
}

#[tokio::test]
async fn inputs_mirror_holding_registers_and_discrete_inputs_mirror_coils() {
    let pairs = ["holding:9", "input:9"].map(|at| tag(at, "uint16"));
    let registers = readings(Behaviour::default(), pairs.to_vec()).await;
    assert_eq!(registers[0].value, registers[1].value);
    let pairs = ["coil:0", "discrete:0"].map(|at| tag(at, "bool"));
    let bits = readings(Behaviour::default(), pairs.to_vec()).await;
    assert_eq!(bits[0].value, bits[1].value);
}

#[tokio::test]
async fn a_cell_that_does_not_exist_is_refused_and_the_others_are_read() {
    let tags = ["holding:0", "holding:20", "coil:2", "coil:3"];
    let tags = tags.map(|at| tag(at, if at.starts_with('c') { "bool" } else { "uint16" }));
    let good: Vec<_> = readings(Behaviour::default(), tags.to_vec()).await;
    let good: Vec<_> = good.iter().map(|reading| reading.quality.is_good()).collect();
    assert_eq!(good, [true, false, true, false]);
}

#[tokio::test]
async fn a_dropping_plc_drops_and_goes_on() {
    let behaviour = Behaviour { drop_every: NonZeroU32::new(2), ..Behaviour::default() };
    // The second block meets the closed connection, the third a new one.
    let tags = ["coil:0", "input:0", "holding:0"];
    let tags = tags.map(|at| tag(at, if at == "coil:0" { "bool" } else { "uint16" }));
    let good: Vec<_> = readings(behaviour, tags.to_vec()).await;
    assert_eq!(good.iter().filter(|reading| reading.quality.is_good()).count(), 2);
}

#[test]
fn counters_count_steps_and_no_two_are_alike() {
    let step = Duration::from_millis(100);
    let counter = |at: Duration, n: u16| {
        let memory = Memory::at(Profile::Counter, at, step);
        u32::from(memory.register(2 * n).unwrap()) << 16
            | u32::from(memory.register(2 * n + 1).unwrap())
    };
    assert_eq!(counter(Duration::ZERO, 0), 0);
    assert_eq!(counter(Duration::from_millis(99), 0), 0);
    assert_eq!(counter(Duration::from_millis(100), 0), 1);
    assert_eq!(counter(Duration::from_secs(6_553_600), 0), 65_536_000);
    assert_eq!(counter(Duration::from_secs(1), 32_767), 32_777);
}

#[test]
fn requests_outside_the_rules_are_refused_as_the_specification_says() {
    let memory = Memory::at(Profile::Address, Duration::ZERO, Duration::from_secs(1));
    for (request, reply) in [
        (&[3, 0, 0, 0, 126][..], &[0x83, 3][..]),
        (&[3, 0, 0, 0, 0], &[0x83, 3]),
        (&[1, 0, 0, 7, 209], &[0x81, 3]),
        (&[4, 255, 255, 0, 2], &[0x84, 2]),
        (&[6, 0, 0, 0, 1], &[0x86, 1]),
        (&[3, 0, 0], &[0x83, 3]),
        (&[3, 255, 255, 0, 1], &[3, 2, 255, 255]),
        (&[1, 0, 0, 0, 9], &[1, 2, 0b1001_0110, 1]),
    ] {
        assert_eq!(answer(request, &memory), reply, "{request:?}");
    }
}

#[test]
fn the_documentation_lists_every_cell_as_it_is() {
    let page = include_str!("../../../docs/sim.md");
    for Entry { address, kind, name, behaviour } in PRESS_MAP {
        let row = format!("| `{address}` | {kind} | {name} | {behaviour} |");
        assert!(page.contains(&row), "docs/sim.md lacks the row\n{row}");
    }
}
