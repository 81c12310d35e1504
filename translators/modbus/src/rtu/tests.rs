use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::sleep;

use super::crc::crc16;
use super::*;
use crate::spec::{Parity, SerialSpec, StopBits};

const UNIT: u8 = 9;

fn framed(body: &[u8]) -> Vec<u8> {
    [body, &crc16(body).to_le_bytes()].concat()
}

fn answer(unit: u8, function: u8, data: &[u8]) -> Vec<u8> {
    framed(&[&[unit, function, u8::try_from(data.len()).unwrap()], data].concat())
}

/// What the crate above writes for a read.
fn above(transaction: u8, function: u8, start: u16, count: u16) -> Vec<u8> {
    let [s1, s0] = start.to_be_bytes();
    let [c1, c0] = count.to_be_bytes();
    vec![0, transaction, 0, 0, 0, 6, UNIT, function, s1, s0, c1, c0]
}

fn serial(baud: u32) -> SerialSpec {
    let (parity, stop_bits) = (Parity::Even, StopBits::One);
    SerialSpec { port: "/dev/ttyUSB0".into(), baud, parity, stop_bits, rs485: None }
}

fn timing(baud: u32) -> Timing {
    Timing::serial(&serial(baud))
}

/// A gate, and the far end of its line.
struct Bench {
    gate: Gate<DuplexStream>,
    line: DuplexStream,
    witness: Witness,
}

impl Bench {
    fn new(chunk: usize) -> Self {
        let (ours, line) = duplex(chunk);
        let witness = Witness::default();
        Self { gate: Gate::new(ours, timing(115_200), witness.clone()), line, witness }
    }

    /// Asks, and returns what comes up when the line says `said` after the request.
    async fn ask(&mut self, request: &[u8], said: &[u8]) -> io::Result<Vec<u8>> {
        let length = request.len() - 4;
        let line = async {
            let mut asked = vec![0; length];
            self.line.read_exact(&mut asked).await.unwrap();
            self.line.write_all(said).await.unwrap();
            asked
        };
        let gate = async {
            self.gate.write_all(request).await?;
            self.gate.flush().await?;
            frame(&mut self.gate).await
        };
        let (asked, came) = tokio::join!(line, gate);
        assert_eq!(asked, framed(&request[6..]));
        came
    }

    async fn answers(&mut self, request: &[u8], said: &[u8], body: &[u8]) {
        let came = self.ask(request, said).await.unwrap();
        let length = u8::try_from(body.len()).unwrap();
        assert_eq!(came, [&request[..2], &[0, 0, 0, length], body].concat());
    }
}

async fn frame(gate: &mut Gate<DuplexStream>) -> io::Result<Vec<u8>> {
    let mut header = [0; 6];
    gate.read_exact(&mut header).await?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]]))];
    gate.read_exact(&mut rest).await?;
    Ok([&header[..], &rest].concat())
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_down_as_rtu_and_its_answer_comes_up_as_tcp() {
    for chunk in [1, 3, 64] {
        let mut bench = Bench::new(chunk);
        let right = answer(UNIT, 3, &[0, 7, 0, 8]);
        bench.answers(&above(1, 3, 100, 2), &right, &right[..right.len() - 2]).await;
        let no = framed(&[UNIT, 0x83, 2]);
        bench.answers(&above(2, 3, 100, 2), &no, &[UNIT, 0x83, 2]).await;
        let name = framed(&[UNIT, 0x2B, 0x0E, 1, 1, 0, 0, 1, 0, 2, b'a', b'b']);
        let identify = [0, 3, 0, 0, 0, 5, UNIT, 0x2B, 0x0E, 1, 0];
        bench.answers(&identify, &name, &name[..name.len() - 2]).await;
        assert_eq!(bench.witness.counts(), Counts::default());
    }
}

#[tokio::test(start_paused = true)]
async fn noise_echo_and_foreign_frames_before_an_answer_are_thrown_away_and_counted() {
    for chunk in [1, 64] {
        let mut bench = Bench::new(chunk);
        let request = above(1, 3, 100, 2);
        let right = answer(UNIT, 3, &[0, 7, 0, 8]);
        let late = answer(UNIT, 3, &[0, 7]);
        let other = answer(8, 4, &[0, 7, 0, 8]);
        let said =
            [&[0xFF, 0][..], &framed(&request[6..]), &[0], &late, &other, &[9, 3], &right].concat();
        bench.answers(&request, &said, &right[..7]).await;
        let counts = bench.witness.counts();
        assert_eq!(counts, Counts { stale_frames: 2, noise_bytes: 5, echoes: 1 });
        let stale = bench.witness.take_stale();
        assert_eq!(stale, [(UnitId(UNIT), Shape::read(3, 1)), (UnitId(8), Shape::read(4, 2))]);
        assert_eq!(bench.witness.take_stale(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_a_request_is_never_its_answer() {
    let mut bench = Bench::new(64);
    let (old, right) = (answer(UNIT, 3, &[0, 1, 0, 2]), answer(UNIT, 3, &[0, 7, 0, 8]));
    bench.line.write_all(&old).await.unwrap();
    bench.answers(&above(1, 3, 100, 2), &right, &right[..7]).await;
    assert_eq!(bench.witness.counts().stale_frames, 1);
    assert_eq!(bench.witness.take_stale(), [], "it says nothing of the request that follows it");
    bench.line.write_all(&old).await.unwrap();
    bench.answers(&above(1, 4, 100, 1), &answer(UNIT, 4, &[0, 1]), &[UNIT, 4, 2, 0, 1]).await;
    assert_eq!(bench.witness.take_stale(), [(UnitId(UNIT), Shape::read(3, 2))]);
    // Behind an answer as well.
    let twice = [right.as_slice(), &old].concat();
    bench.answers(&above(2, 3, 100, 2), &twice, &right[..7]).await;
    bench.answers(&above(3, 3, 100, 2), &right, &right[..7]).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_inside_a_longer_frame_is_thrown_away_with_it() {
    let mut bench = Bench::new(1);
    let request = above(1, 3, 100, 1);
    let outer = answer(8, 3, &[&[1][..], &answer(UNIT, 3, &[0, 7])].concat());
    let right = answer(UNIT, 3, &[0, 8]);
    bench.answers(&request, &[outer, right.clone()].concat(), &right[..5]).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_behind_what_looks_like_a_frame_passes_once_the_line_is_quiet() {
    let mut bench = Bench::new(64);
    let right = answer(UNIT, 3, &[0, 8]);
    // The head of a long answer of unit 8, never to be completed.
    let said = [&[8, 3, 100][..], &right].concat();
    bench.answers(&above(1, 3, 100, 1), &said, &right[..5]).await;
    let mut closing = Bench::new(64);
    let gate = async {
        closing.gate.write_all(&above(1, 3, 100, 1)).await.unwrap();
        closing.gate.flush().await.unwrap();
        frame(&mut closing.gate).await
    };
    let line = async {
        closing.line.read_exact(&mut [0; 8]).await.unwrap();
        closing.line.write_all(&said).await.unwrap();
        closing.line.shutdown().await.unwrap();
    };
    let (came, ()) = tokio::join!(gate, line);
    assert_eq!(came.unwrap()[6..], right[..5], "nothing can follow the end");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_both_echo_and_answer_is_judged_by_the_lines_past() {
    let twenty_bits = above(1, 1, 0x0310, 20);
    let both = framed(&twenty_bits[6..]);
    assert_eq!(both, answer(UNIT, 1, &[0x10, 0, 20]));
    let right = answer(UNIT, 1, &[0xAA, 0xBB, 0x0C]);
    let plain = (above(2, 3, 100, 1), answer(UNIT, 3, &[0, 8]));
    // Nothing is known: it is skipped.
    let mut bench = Bench::new(64);
    bench.answers(&twenty_bits, &[&both[..], &right].concat(), &right[..6]).await;
    // The line has no echo: it is the answer.
    let mut bench = Bench::new(64);
    for _ in 0..CLEAN {
        bench.answers(&plain.0, &plain.1, &plain.1[..5]).await;
    }
    bench.answers(&twenty_bits, &both, &both[..6]).await;
    // The line has an echo, and had it before it was opened anew.
    let witness = bench.witness.clone();
    let heard = [&framed(&plain.0[6..])[..], &plain.1].concat();
    bench.answers(&plain.0, &heard, &plain.1[..5]).await;
    let mut anew = Bench::new(64);
    anew.gate = Gate::new(std::mem::replace(&mut anew.line, duplex(1).0), timing(9600), witness);
    (anew.gate.inner, anew.line) = duplex(64);
    anew.answers(&twenty_bits, &[&both[..], &right].concat(), &right[..6]).await;
}

#[tokio::test(start_paused = true)]
async fn garbage_for_ever_is_an_error() {
    let mut bench = Bench::new(64);
    bench.gate.write_all(&above(1, 3, 100, 1)).await.unwrap();
    bench.gate.flush().await.unwrap();
    let (mut read, mut write) = tokio::io::split(bench.line);
    tokio::spawn(async move {
        read.read_exact(&mut [0; 8]).await.unwrap();
        while write.write_all(&[UNIT, 3, 7, 250, 3]).await.is_ok() {}
    });
    let error = frame(&mut bench.gate).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("noise"), "{error}");
    assert!(bench.witness.noise() > MAX_NOISE);
}

#[tokio::test(start_paused = true)]
async fn foreign_frames_for_ever_are_an_error() {
    let mut bench = Bench::new(64);
    let error = bench.ask(&above(1, 3, 100, 1), &answer(8, 3, &[0, 1]).repeat(9)).await;
    assert!(error.unwrap_err().to_string().contains("frames of others"));
    assert_eq!(bench.witness.counts().stale_frames, 9);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_ends_is_lost_and_not_read_again() {
    let mut bench = Bench::new(64);
    bench.gate.write_all(&above(1, 3, 100, 1)).await.unwrap();
    bench.gate.flush().await.unwrap();
    drop(bench.line);
    let error = frame(&mut bench.gate).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    bench.gate.write_all(&above(2, 3, 100, 1)).await.unwrap();
    let error = bench.gate.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test(start_paused = true)]
async fn what_writes_never_reaches_the_line() {
    let mut bench = Bench::new(64);
    let write = [0, 1, 0, 0, 0, 6, UNIT, 6, 0, 1, 0, 1];
    let error = bench.gate.write_all(&write).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("function 6"), "{error}");
    drop(bench.gate);
    assert_eq!(bench.line.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_line_is_silent_for_three_and_a_half_characters_before_a_request() {
    // Start bit, eight data bits, parity, stop bit.
    let character = |baud: f64| Duration::from_secs_f64(11.0 / baud);
    for (baud, silence) in [
        (1200, character(1200.0) * 7 / 2),
        (9600, character(9600.0) * 7 / 2),
        (19_200, character(19_200.0) * 7 / 2),
        (38_400, Duration::from_micros(1750)),
        (115_200, Duration::from_micros(1750)),
    ] {
        let (ours, mut line) = duplex(64);
        let mut gate = Gate::new(ours, timing(baud), Witness::default());
        let talker = async {
            // The tail of somebody's frame, a byte every two characters.
            for _ in 0..10 {
                line.write_all(&[0x55]).await.unwrap();
                sleep(character(f64::from(baud)) * 2).await;
            }
            let last = Instant::now() - character(f64::from(baud)) * 2;
            line.read_exact(&mut [0; 8]).await.unwrap();
            Instant::now() - last
        };
        let asker = async {
            tokio::task::yield_now().await;
            gate.write_all(&above(1, 3, 0, 1)).await.unwrap();
            gate.flush().await.unwrap();
        };
        let (silent, ()) = tokio::join!(talker, asker);
        // The runtime's clock has a grain of a millisecond.
        assert!(silent + Duration::from_millis(1) >= silence, "{baud}: {silent:?} of {silence:?}");
        if baud > 2400 {
            assert!(silent <= silence + Duration::from_millis(4), "{baud}: {silent:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_turnaround_comes_on_top_of_the_silence() {
    let mut link = LinkSpec::tcp("plc".into(), 502);
    link.turnaround = Duration::from_millis(40);
    for (transport, silence) in [
        (Transport::Rtu(serial(9600)), Duration::from_micros(4010)),
        (Transport::RtuOverTcp(crate::Endpoint { host: "s".into(), port: 1 }), FAST_SILENCE),
    ] {
        link.transport = transport;
        let (ours, mut line) = duplex(64);
        let mut gate = Gate::new(ours, Timing::of(&link), Witness::default());
        let right = answer(UNIT, 3, &[0, 8]);
        let mut answered = None;
        for transaction in 1..4 {
            let asker = async {
                gate.write_all(&above(transaction, 3, 0, 1)).await.unwrap();
                gate.flush().await.unwrap();
                frame(&mut gate).await.unwrap();
                Instant::now()
            };
            let slave = async {
                line.read_exact(&mut [0; 8]).await.unwrap();
                let asked = Instant::now();
                sleep(Duration::from_millis(3)).await;
                line.write_all(&right).await.unwrap();
                asked
            };
            let (done, asked) = tokio::join!(asker, slave);
            if let Some(before) = answered.replace(done) {
                let waited = asked - before;
                assert!(waited >= link.turnaround + silence, "{waited:?}");
                assert!(waited <= link.turnaround + silence + Duration::from_millis(2));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_never_quiet_gets_no_request() {
    let mut bench = Bench::new(64);
    let (_read, mut write) = tokio::io::split(bench.line);
    let talker = tokio::spawn(async move {
        while write.write_all(&[0x55; 20]).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::task::yield_now().await;
    bench.gate.write_all(&above(1, 3, 0, 1)).await.unwrap();
    let error = bench.gate.flush().await.unwrap_err();
    assert!(error.to_string().contains("not quiet before a request"), "{error}");
    let error = bench.gate.drain(Duration::from_millis(5), Duration::from_millis(50)).await;
    assert!(error.unwrap_err().to_string().contains("within 50ms"));
    talker.abort();
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_line_is_quiet_and_remembers_the_late_answers() {
    let mut bench = Bench::new(64);
    let late = answer(UNIT, 3, &[0, 1, 0, 2]);
    let (_read, mut write) = tokio::io::split(bench.line);
    let slave = async {
        write.write_all(&[0, 0]).await.unwrap();
        sleep(Duration::from_millis(15)).await;
        write.write_all(&late[..4]).await.unwrap();
        sleep(Duration::from_millis(15)).await;
        write.write_all(&late[4..]).await.unwrap();
        Instant::now()
    };
    let drain = async {
        let drained = bench.gate.drain(Duration::from_millis(20), Duration::from_secs(1)).await;
        (drained.unwrap(), Instant::now())
    };
    let (last, (drained, end)) = tokio::join!(slave, drain);
    assert_eq!(drained, 11);
    assert!(end >= last + Duration::from_millis(20));
    assert_eq!(bench.witness.take_stale(), [(UnitId(UNIT), Shape::read(3, 2))]);
}
