//! The least of a PLC: Modbus TCP, every register holds how often it was asked.
//!
//! # Invariants
//! - It listens on a port that the operating system chose, on this machine alone.
//! - What it does not understand loses its connection.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// A PLC on a thread of its own, for as long as this program runs.
pub(crate) struct Plc {
    address: SocketAddr,
}

impl Plc {
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { address })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

fn serve(mut stream: TcpStream) {
    let mut asked = 0_u16;
    // Header and request of the functions that read: transaction, protocol, length, unit,
    // function, first register, count.
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        asked = asked.wrapping_add(1);
        let Some(answer) = answer(&request, asked) else { return };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The answer to one request to read holding or input registers.
fn answer(request: &[u8; 12], asked: u16) -> Option<Vec<u8>> {
    let [t0, t1, 0, 0, 0, 6, unit, function @ (3 | 4), _, _, 0, count @ 1..=125] = *request else {
        return None;
    };
    let bytes = count * 2;
    let mut answer = vec![t0, t1, 0, 0, 0, bytes + 3, unit, function, bytes];
    for _ in 0..count {
        answer.extend(asked.to_be_bytes());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_count_how_often_they_were_asked() {
        let request = [0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2];
        let answered = answer(&request, 258).unwrap();
        assert_eq!(answered, [0, 9, 0, 0, 0, 7, 1, 3, 4, 1, 2, 1, 2]);
    }

    #[test]
    fn what_is_no_reading_of_registers_is_not_answered() {
        for request in [
            [0, 9, 0, 0, 0, 6, 1, 6, 0, 0, 0, 2],
            [0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 126],
            [0, 9, 0, 1, 0, 6, 1, 3, 0, 0, 0, 1],
        ] {
            assert_eq!(answer(&request, 1), None, "{request:?}");
        }
    }
}
