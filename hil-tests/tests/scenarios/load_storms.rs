//! A PLC that resets every connection, refuses every request, or every second one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_hil_tests::{Rig, outage, vitals};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::CATCH_UP;

/// A storm's length.
const STORM: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
enum Storm {
    /// Each connection is reset as soon as something is asked.
    Resets,
    /// Each request is refused, with one exception after the other.
    Exceptions,
    /// Every second request for everything is refused, and each for a part: a value of the counter
    /// is one poll of everything.
    Flapping,
}

/// Stands between the cable and the PLC.
async fn stand_between(storm: Storm, plc: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut number = 0_u8;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One device, one connection at a time.
            let _ = talk(storm, stream, plc, &mut number).await;
        }
    });
    (address, task)
}

async fn talk(
    storm: Storm,
    mut stream: TcpStream,
    plc: SocketAddr,
    number: &mut u8,
) -> std::io::Result<()> {
    let mut behind = TcpStream::connect(plc).await?;
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await?;
        let whole = request[11] == 9;
        *number = number.wrapping_add(u8::from(whole));
        match storm {
            Storm::Resets => return stream.set_zero_linger(),
            Storm::Flapping if whole && number.is_multiple_of(2) => {
                behind.write_all(&request).await?;
                let mut head = [0; 6];
                behind.read_exact(&mut head).await?;
                let mut rest = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]]))];
                behind.read_exact(&mut rest).await?;
                stream.write_all(&head).await?;
                stream.write_all(&rest).await?;
            }
            Storm::Exceptions | Storm::Flapping => {
                let code = [2, 4, 6][usize::from(*number / 2 % 3)];
                let [t0, t1, p0, p1, _, _, unit, function, ..] = request;
                let refusal = [t0, t1, p0, p1, 0, 3, unit, function | 0x80, code];
                stream.write_all(&refusal).await?;
            }
        }
    }
}

/// Only a new connection goes another way.
async fn plug_into(rig: &mut Rig, address: SocketAddr) {
    rig.cable.cut_closed().await.unwrap();
    rig.cable.lead_to(address).await.unwrap();
    rig.cable.restore().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_from_a_plc_flood_no_log_burn_no_processor_and_leave_a_whole_record() {
    let mut rig = Rig::running().await.unwrap();
    rig.polls(10).await.unwrap();
    let pid = rig.gateway.pid().unwrap();
    let plc = rig.plc.address().unwrap();
    for storm in [Storm::Resets, Storm::Exceptions, Storm::Flapping] {
        let (address, between) = stand_between(storm, plc).await;
        let logged = rig.gateway.log().unwrap().lines().count();
        let (used, begun) = (vitals::cpu_time(pid).unwrap(), Instant::now());
        plug_into(&mut rig, address).await;
        tokio::time::sleep(outage(STORM)).await;
        let (took, used) = (begun.elapsed(), vitals::cpu_time(pid).unwrap() - used);
        let log = rig.gateway.log().unwrap();
        let said: Vec<_> = log.lines().skip(logged).collect();
        eprintln!("{storm:?}: {} lines, {used:?} of {took:?}", said.len());
        // Some for each change, and then a summary at most each second.
        let most = 20 + usize::try_from(took.as_secs()).unwrap() * 2;
        assert!(said.len() <= most, "{storm:?}: {} lines: {said:#?}", said.len());
        assert!(used < took / 2, "{storm:?}: {used:?} of {took:?}");
        between.abort();
        plug_into(&mut rig, plc).await;
        rig.polls(5).await.unwrap();
    }
    rig.gateway.must_be_running().unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    // An answer under way at each of the six changes.
    assert!(findings.named_holes.len() <= 6, "{findings:?}");
    for cause in ["device-silent", "device-refused"] {
        assert!(claim.losses.iter().any(|loss| loss.cause == cause), "{cause}: {claim:?}");
    }
}
