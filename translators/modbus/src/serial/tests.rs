use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::rtu::{Gate, Timing, Witness};

fn spec(port: impl Into<PathBuf>) -> SerialSpec {
    let (parity, stop_bits) = (Parity::Even, StopBits::Two);
    SerialSpec { port: port.into(), baud: 9600, parity, stop_bits, rs485: None }
}

/// A pseudo-terminal: the end that stands for the line, and the port's name.
fn line() -> (tokio::fs::File, SerialSpec) {
    let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&line).unwrap();
    unlockpt(&line).unwrap();
    let name = ptsname(&line, Vec::new()).unwrap().into_string().unwrap();
    (File::from(line).into(), spec(name))
}

async fn dial(spec: &SerialSpec) -> Result<Box<dyn ByteStream>, DialError> {
    SerialDialer::new(spec.clone()).dial(Instant::now() + Duration::from_secs(60)).await
}

async fn refusal(spec: &SerialSpec) -> SerialError {
    match dial(spec).await.err() {
        Some(DialError::Serial(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_and_answers_travel_over_a_port() {
    let (mut line, spec) = line();
    let port = dial(&spec).await.unwrap();
    let mut link = crate::LinkSpec::tcp(String::new(), 0);
    link.transport = crate::Transport::Rtu(spec);
    let mut gate = Gate::new(port, Timing::of(&link), Witness::default());
    gate.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 10]).await.unwrap();
    gate.flush().await.unwrap();
    let mut asked = [0; 8];
    line.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, [1, 3, 0, 0, 0, 10, 0xC5, 0xCD], "nothing on the way changes a byte");
    line.write_all(&[1, 0x83, 2, 0xC0, 0xF1]).await.unwrap();
    let mut answer = [0; 9];
    gate.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0, 1, 0, 0, 0, 3, 1, 0x83, 2]);
}

#[tokio::test]
async fn a_port_that_is_not_there_asks_for_the_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let error = refusal(&spec(dir.path().join("ttyUSB0"))).await;
    assert!(matches!(error, SerialError::Absent { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("ttyUSB0") && text.contains("plug the adapter in"), "{text}");
}

#[tokio::test]
async fn what_is_no_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for port in [file.as_path(), dir.path(), std::path::Path::new("/dev/null")] {
        let error = refusal(&spec(port)).await;
        assert!(matches!(error, SerialError::NotSerial { .. }), "{error:?}");
    }
}

#[test]
fn errors_of_the_system_are_told_by_their_remedy() {
    let of = |errno: Errno| SerialError::of(&spec("/dev/ttyS9"), errno.into());
    assert!(matches!(of(Errno::ACCESS), SerialError::Denied { .. }));
    assert!(of(Errno::ACCESS).to_string().contains("dialout"));
    assert!(matches!(of(Errno::BUSY), SerialError::Taken { .. }));
    for gone in [Errno::NOENT, Errno::NXIO, Errno::NODEV, Errno::IO] {
        assert!(matches!(of(gone), SerialError::Absent { .. }), "{gone}");
    }
    assert!(matches!(of(Errno::MFILE), SerialError::Failed { .. }));
}

#[tokio::test]
async fn a_taken_port_is_left_alone_until_it_is_free() {
    let (_line, mut spec) = line();
    let first = dial(&spec).await.unwrap();
    let speed = || {
        let port = File::open(&spec.port).unwrap();
        rustix::termios::tcgetattr(port).unwrap().output_speed()
    };
    assert_eq!(speed(), 9600);
    let (before, other) = (speed(), SerialSpec { baud: 1200, ..spec.clone() });
    let error = refusal(&other).await;
    assert!(matches!(error, SerialError::Taken { .. }), "{error:?}");
    assert!(error.to_string().contains("in use by another program"), "{error}");
    assert_eq!(speed(), before, "the settings of the other one were changed");
    drop(first);
    spec.baud = 19_200;
    dial(&spec).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_pulled_out_ends_and_works_again_once_it_is_back() {
    let (line, gone) = line();
    let mut port = dial(&gone).await.unwrap();
    drop(line);
    let end = port.read(&mut [0; 8]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(port.write_all(&[1]).await.is_err());
    drop(port);
    let error = refusal(&gone).await;
    assert!(matches!(error, SerialError::Absent { .. }), "{error:?}");
    let (_line, back) = super::tests::line();
    dial(&back).await.unwrap();
}

#[tokio::test]
async fn a_port_without_direction_control_says_so() {
    let (_line, mut spec) = line();
    spec.rs485 = Some(Rs485 {
        rts_high_on_send: true,
        delay_before_send: Duration::ZERO,
        delay_after_send: Duration::from_millis(1),
    });
    let error = refusal(&spec).await;
    assert!(matches!(error, SerialError::NoDirectionControl { .. }), "{error:?}");
    assert!(error.to_string().contains("rs485 = \"off\""), "{error}");
}

#[tokio::test]
async fn what_a_driver_does_not_take_over_is_named() {
    // A pseudo-terminal drops parity, as some adapters do.
    let (_line, mut spec) = line();
    let mut port = SerialPort::open(&spec.port, KeepSettings).unwrap();
    let mut told = |spec: &SerialSpec| {
        let mut wanted = port.get_configuration().unwrap();
        put(spec, &mut wanted).unwrap();
        let _ = port.set_configuration(&wanted);
        difference(spec, &wanted, &port.get_configuration().unwrap())
    };
    assert_eq!(told(&spec).as_deref(), Some("parity = \"even\""));
    spec.parity = Parity::None;
    assert_eq!(told(&spec), None);
    spec.baud = 250_000;
    assert_eq!(told(&spec), None, "a speed that has no constant of its own");
    let other = SerialSpec { baud: 300_000, ..spec.clone() };
    let settings = port.get_configuration().unwrap();
    assert_eq!(difference(&other, &settings, &settings).as_deref(), Some("baud-rate = 300000"));
    let text = refused(&other, "baud-rate = 300000".into()).to_string();
    assert!(text.contains("baud-rate = 300000"), "{text}");
}
