//! Serial ports: opened, taken for us alone, and set as configured, or an error that says which of
//! these failed and what helps.
//!
//! # Invariants
//! - A port that another program holds is left as it is: nothing is set before the lock is ours.
//! - What the driver did not take over is an error, never a line at another speed. A
//!   pseudo-terminal has no line: its settings mean nothing and are not compared.
//! - An adapter that is pulled out ends the stream; the next dial finds it where it is plugged in
//!   again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use serial2_tokio::rs4xx::{Rs485Config, TransceiverMode};
use serial2_tokio::{CharSize, FlowControl, KeepSettings, SerialPort, Settings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::dial::{ByteStream, DialError, DialFuture, Dialer};
use crate::spec::{Parity, Rs485, SerialSpec, StopBits};

/// The major numbers of pseudo-terminals' devices (Documentation/admin-guide/devices.txt).
const PSEUDO_TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// Opens a serial port.
#[derive(Debug, Clone)]
pub struct SerialDialer {
    spec: SerialSpec,
}

impl SerialDialer {
    /// A dialer for a port with its settings.
    #[must_use]
    pub const fn new(spec: SerialSpec) -> Self {
        Self { spec }
    }
}

impl Dialer for SerialDialer {
    /// Dropping the future does not stop an opening that hangs in a driver; its port is closed
    /// once that ends.
    fn dial(&self, _deadline: Instant) -> DialFuture<'_> {
        let spec = self.spec.clone();
        Box::pin(async move {
            let port = spec.port.clone();
            // A driver may hang in an opening or while it takes settings over.
            let opened = tokio::task::spawn_blocking(move || open(&spec)).await;
            let opened = opened
                .map_err(|stopped| SerialError::Failed { port, source: io::Error::other(stopped) });
            Ok(Box::new(opened.map_err(DialError::from)??) as Box<dyn ByteStream>)
        })
    }
}

/// Why a serial port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// There is no such device.
    #[error("no serial port {port}; plug the adapter in, or correct the address", port = port.display())]
    Absent {
        /// The configured port.
        port: PathBuf,
    },
    /// The user that runs this may not open it.
    #[error("permission denied on serial port {port}; add the user that runs tidegate to the group that owns it, mostly dialout", port = port.display())]
    Denied {
        /// The configured port.
        port: PathBuf,
    },
    /// What is there is something else.
    #[error("{port} is not a serial port; correct the address", port = port.display())]
    NotSerial {
        /// The configured port.
        port: PathBuf,
    },
    /// Another program, or another device section with other settings, holds it.
    #[error("serial port {port} is in use by another program; stop that one, or take another port", port = port.display())]
    Taken {
        /// The configured port.
        port: PathBuf,
    },
    /// The driver does not do what is asked for.
    #[error("serial port {port} does not take {setting}; choose one that its driver has", port = port.display())]
    Refused {
        /// The configured port.
        port: PathBuf,
        /// The key and its value.
        setting: String,
    },
    /// The driver does not turn the line round.
    #[error("serial port {port} has no direction control in its driver; set rs485 = \"off\" when the adapter turns the line round by itself", port = port.display())]
    NoDirectionControl {
        /// The configured port.
        port: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Something else.
    #[error("serial port {port} cannot be opened", port = port.display())]
    Failed {
        /// The configured port.
        port: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl SerialError {
    fn of(spec: &SerialSpec, source: io::Error) -> Self {
        let port = spec.port.clone();
        match Errno::from_io_error(&source) {
            // A port whose adapter was just pulled out is there for a while, and says one of these.
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::IO) => Self::Absent { port },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { port },
            Some(Errno::NOTTY | Errno::ISDIR | Errno::NOTDIR | Errno::LOOP) => {
                Self::NotSerial { port }
            }
            Some(Errno::BUSY) => Self::Taken { port },
            _ => Self::Failed { port, source },
        }
    }
}

/// An open port that is ours alone.
struct Port {
    port: SerialPort,
    /// Holds the lock, and goes after the port.
    _lock: File,
}

fn open(spec: &SerialSpec) -> Result<Port, SerialError> {
    let failed = |source| SerialError::of(spec, source);
    let lock = lock(spec)?;
    let mut port = SerialPort::open(&spec.port, KeepSettings).map_err(failed)?;
    // The lock keeps away those who ask for it; this keeps away everybody but root.
    rustix::termios::ioctl_tiocexcl(&lock).map_err(|error| failed(error.into()))?;
    let mut wanted = port.get_configuration().map_err(failed)?;
    put(spec, &mut wanted).map_err(|_| refused(spec, baud(spec)))?;
    let set = port.set_configuration(&wanted);
    if !is_pseudo_terminal(&lock) {
        let got = port.get_configuration().map_err(failed)?;
        if let Some(setting) = difference(spec, &wanted, &got) {
            return Err(refused(spec, setting));
        }
        set.map_err(|_| refused(spec, "raw eight-bit characters".to_owned()))?;
    }
    if let Some(rs485) = spec.rs485 {
        turn_round(&port, rs485).map_err(|source| SerialError::NoDirectionControl {
            port: spec.port.clone(),
            source,
        })?;
    }
    // What came before is for nobody.
    port.discard_input_buffer().map_err(failed)?;
    Ok(Port { port, _lock: lock })
}

fn lock(spec: &SerialSpec) -> Result<File, SerialError> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(&spec.port)
        .map_err(|source| SerialError::of(spec, source))?;
    // A lock on a file that is no port would be a riddle to its owner.
    rustix::termios::tcgetattr(&file).map_err(|error| SerialError::of(spec, error.into()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SerialError::Taken { port: spec.port.clone() }),
        Err(TryLockError::Error(source)) => Err(SerialError::of(spec, source)),
    }
}

fn put(spec: &SerialSpec, settings: &mut Settings) -> io::Result<()> {
    settings.set_raw();
    settings.set_char_size(CharSize::Bits8);
    settings.set_flow_control(FlowControl::None);
    settings.set_parity(match spec.parity {
        Parity::Even => serial2_tokio::Parity::Even,
        Parity::Odd => serial2_tokio::Parity::Odd,
        Parity::None => serial2_tokio::Parity::None,
    });
    settings.set_stop_bits(match spec.stop_bits {
        StopBits::One => serial2_tokio::StopBits::One,
        StopBits::Two => serial2_tokio::StopBits::Two,
    });
    settings.set_baud_rate(spec.baud)
}

/// The first setting that the driver did not take over.
fn difference(spec: &SerialSpec, wanted: &Settings, got: &Settings) -> Option<String> {
    // Clocks are divided by whole numbers. At 2.5 % off, the last bit of a character is still
    // read in its own half.
    let near = got.get_baud_rate().is_ok_and(|rate| rate.abs_diff(spec.baud) <= spec.baud / 40);
    if !near {
        return Some(baud(spec));
    }
    if wanted.get_parity().ok() != got.get_parity().ok() {
        return Some(format!("parity = \"{}\"", word(spec.parity)));
    }
    if wanted.get_stop_bits().ok() != got.get_stop_bits().ok() {
        let bits = if spec.stop_bits == StopBits::Two { 2 } else { 1 };
        return Some(format!("stop-bits = {bits}"));
    }
    None
}

fn baud(spec: &SerialSpec) -> String {
    format!("baud-rate = {}", spec.baud)
}

const fn word(parity: Parity) -> &'static str {
    match parity {
        Parity::Even => "even",
        Parity::Odd => "odd",
        Parity::None => "none",
    }
}

fn refused(spec: &SerialSpec, setting: String) -> SerialError {
    SerialError::Refused { port: spec.port.clone(), setting }
}

fn turn_round(port: &SerialPort, rs485: Rs485) -> io::Result<()> {
    let mut mode = Rs485Config::new();
    mode.set_invert_rts(!rs485.rts_high_on_send);
    mode.set_delay_before_send(rs485.delay_before_send);
    mode.set_delay_after_send(rs485.delay_after_send);
    port.set_rs4xx_mode(mode)?;
    match port.get_rs4xx_mode()? {
        TransceiverMode::Rs485(got) if got.get_invert_rts() != rs485.rts_high_on_send => Ok(()),
        _ => Err(io::Error::other("the driver did not take the direction of RTS over")),
    }
}

fn is_pseudo_terminal(port: &File) -> bool {
    port.metadata().is_ok_and(|about| PSEUDO_TERMINALS.contains(&rustix::fs::major(about.rdev())))
}

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_read(cx, buf)
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.port).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
