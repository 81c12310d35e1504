//! Our client: one device whose polls follow each other without a pause.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidegate_modbus::{
    Address, Buses, DataType, DeviceSpec, LinkSpec, ModbusDevice, Order, Table, TagSpec, TcpDialer,
    UnitId,
};
use tidegate_translator::{
    CancellationToken, Clock, Device as _, DeviceState, Missed, Sample, Sink, TagId, TagPath,
    Timestamp,
};

use crate::{Failure, Run};

/// Polls end after so many requests, and the next one begins within a millisecond.
const REQUESTS_PER_POLL: u16 = 20_000;

/// What the figure is given for.
const TAGS: u16 = 10_000;

/// Counts samples.
#[derive(Default)]
struct Counter(AtomicU64);

impl Sink for Counter {
    fn samples(&self, batch: Vec<Sample>) {
        let good = batch.iter().filter(|sample| sample.quality.is_good()).count();
        self.0.fetch_add(u64::try_from(good).unwrap_or(0), Ordering::Relaxed);
    }

    fn missed(&self, _: Missed) {}

    fn state(&self, _: &Arc<str>, _: DeviceState, _: Option<String>) {}
}

struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

pub(crate) fn main(port: &str) -> Result<(), Failure> {
    let mut words = std::env::args().skip_while(|word| word != "--ours").skip(2);
    let width: u16 = words.next().unwrap_or_default().parse()?;
    let seconds: f64 = words.next().unwrap_or_default().parse()?;
    // As the daemon has it.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = runtime.block_on(read(port.parse()?, width, Duration::from_secs_f64(seconds)))?;
    let line = serde_json::to_string(&run)?;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

async fn read(port: u16, width: u16, lasts: Duration) -> Result<Run, Failure> {
    // With one register to a request every third one is a tag, so that no two can be joined.
    let (step, count) = if width == 1 { (3, REQUESTS_PER_POLL) } else { (1, TAGS) };
    let tag = |at: u16| {
        Ok(TagSpec {
            path: TagPath::new(format!("bench/{at}"))?,
            address: Address { table: Table::HoldingRegister, offset: at * step, bit: None },
            kind: DataType::Uint16,
            order: Order::Abcd,
            scale: 1.0,
            offset: 0.0,
            special: None,
        })
    };
    let tags = (0..count).map(tag).collect::<Result<Vec<_>, Failure>>()?;
    let ids: Vec<_> = (0..u32::from(count)).map(TagId).collect();
    let spec = DeviceSpec {
        name: "bench".to_owned(),
        link: Arc::new(LinkSpec::tcp("127.0.0.1".to_owned(), port)),
        unit: UnitId(1),
        poll_every: Duration::from_millis(1),
        timeout: Duration::from_secs(1),
        pause_between: Duration::ZERO,
        max_gap: 0,
        max_registers: width,
        max_bits: 2000,
        forbidden: Arc::default(),
        backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        tags: tags.into(),
    };
    let device = ModbusDevice::new(
        spec,
        ids,
        Arc::new(Wall),
        &Buses::with_dialer(Arc::new(TcpDialer::new("127.0.0.1".to_owned(), port))),
    )?;
    let (sink, stop) = (Arc::new(Counter::default()), CancellationToken::new());
    let driver = tokio::spawn(Box::new(device).run(Arc::clone(&sink) as _, stop.clone()));
    // The first polls connect and make tags known.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (start, cpu, before) = (Instant::now(), processor(), sink.0.load(Ordering::Relaxed));
    tokio::time::sleep(lasts).await;
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), processor() - cpu);
    let values = sink.0.load(Ordering::Relaxed) - before;
    stop.cancel();
    driver.await?;
    Ok(Run { requests: values / u64::from(width), values, seconds, cpu_seconds })
}

/// Processor time of this process so far, in seconds.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
