//! Raw bytes in words, for the person who looks for the cause of a fault.
//!
//! # Invariants
//! - Any bytes give words: nothing panics, and nothing is left out silently.
//! - The pieces of an explanation, put together, are the bytes that were given.
//! - Whether the frames are Modbus TCP or RTU is told by the request, which is ours and well
//!   formed.

use std::fmt::Write as _;

use crate::link::exception_word;

/// The header of Modbus TCP with the unit number.
const HEADER: usize = 7;
/// The longest RTU frame: unit, 253 bytes, and the checksum.
const MAX_RTU: usize = 256;
/// The longest run of bytes in which a frame is looked for at every place.
const MAX_SEARCH: usize = 2048;
/// Values shown of an answer.
const SHOWN: usize = 8;

/// How frames are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By a header with transaction and length.
    Tcp,
    /// By a checksum.
    Rtu,
}

/// Some bytes and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// What they say.
    pub text: String,
}

/// How a request of ours is framed.
#[must_use]
pub fn framing(sent: &[u8]) -> Framing {
    match header(sent) {
        Some(header) if header.total == sent.len() => Framing::Tcp,
        _ => Framing::Rtu,
    }
}

/// What a request of ours asks.
#[must_use]
pub fn request(sent: &[u8]) -> String {
    let frame = match framing(sent) {
        Framing::Tcp => sent.get(HEADER - 1..),
        Framing::Rtu => sent.get(..sent.len().saturating_sub(2)),
    };
    let Some((unit, pdu)) = frame.and_then(|frame| frame.split_first()) else {
        return "nothing".to_owned();
    };
    match *pdu {
        [function @ 1..=4, s0, s1, c0, c1] => {
            let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
            format!("read {} from {start} of unit {unit}", cells(function, usize::from(count)))
        }
        [43, 14, code, object] => {
            let what = match code {
                1 => "basic",
                2 => "regular",
                3 => "extended",
                _ => "single object of",
            };
            format!("read {what} identification of unit {unit}, from object {object} on")
        }
        [function, ..] => format!("function {function} of unit {unit}"),
        [] => format!("nothing of unit {unit}"),
    }
}

/// What came back, piece by piece.
#[must_use]
pub fn answers<'a>(sent: &[u8], received: &'a [u8]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut rest = received;
    while !rest.is_empty() {
        let (length, text) = match framing(sent) {
            Framing::Tcp => tcp(sent, rest),
            Framing::Rtu => rtu(sent, rest),
        };
        // At least one byte each time, so that this ends.
        let (bytes, after) = rest.split_at(length.clamp(1, rest.len()));
        pieces.push(Piece { bytes, text });
        rest = after;
    }
    pieces
}

struct Header {
    transaction: u16,
    total: usize,
}

/// A Modbus TCP header that can be one.
fn header(bytes: &[u8]) -> Option<Header> {
    let [t0, t1, 0, 0, l0, l1, ..] = *bytes else { return None };
    let length = u16::from_be_bytes([l0, l1]);
    let total = usize::from(length) + HEADER - 1;
    (2..=254).contains(&length).then(|| Header { transaction: u16::from_be_bytes([t0, t1]), total })
}

fn tcp(sent: &[u8], rest: &[u8]) -> (usize, String) {
    let Some(found) = header(rest) else { return (rest.len(), foreign(rest, Framing::Tcp)) };
    if rest.len() < found.total {
        let (have, total) = (rest.len(), found.total);
        return (have, format!("{have} of {total} bytes of an answer"));
    }
    let mut text = match rest.get(HEADER - 1..found.total) {
        Some([unit, pdu @ ..]) => answer(sent.get(HEADER - 1..).unwrap_or_default(), *unit, pdu),
        _ => "an empty answer".to_owned(),
    };
    let asked = header(sent).map(|header| header.transaction);
    if let Some(asked) = asked.filter(|asked| *asked != found.transaction) {
        let _ = write!(text, "; transaction {}, not {asked}", found.transaction);
    }
    (found.total, text)
}

fn rtu(sent: &[u8], rest: &[u8]) -> (usize, String) {
    if !sent.is_empty() && rest.starts_with(sent) {
        return (sent.len(), "our own request, echoed by the line".to_owned());
    }
    if let Some(length) = rtu_frame(rest) {
        let text = match rest.get(..length - 2) {
            Some([unit, pdu @ ..]) => answer(sent, *unit, pdu),
            _ => "an empty answer".to_owned(),
        };
        return (length, text);
    }
    let within = rest.len().min(MAX_SEARCH);
    let starts = |at: &usize| {
        let later = rest.get(*at..).unwrap_or_default();
        rtu_frame(later).is_some() || (!sent.is_empty() && later.starts_with(sent))
    };
    if let Some(at) = (1..within).find(starts) {
        return (at, format!("{} of noise", bytes(at)));
    }
    (rest.len(), foreign(rest, Framing::Rtu))
}

/// The length of the RTU frame that begins here: the one that its function asks for, or else the
/// shortest with a right checksum.
fn rtu_frame(bytes: &[u8]) -> Option<usize> {
    let expected = match *bytes {
        [_, 0x80..=0xFF, ..] => Some(5),
        [_, 1..=4, count, ..] => Some(usize::from(count) + 5),
        _ => None,
    };
    let right = |length: usize| {
        bytes.get(..length).is_some_and(|frame| length >= 4 && checksum(frame) == 0)
    };
    if let Some(expected) = expected {
        return Some(expected).filter(|length| right(*length));
    }
    let (mut sum, mut at) = (0xFFFF, 0);
    for byte in bytes.iter().take(MAX_RTU) {
        sum = step(sum, *byte);
        at += 1;
        if sum == 0 && at >= 4 {
            return Some(at);
        }
    }
    None
}

/// The checksum of RTU; of a whole frame with its own checksum it is 0.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |sum, byte| step(sum, *byte))
}

fn step(sum: u16, byte: u8) -> u16 {
    (0..8).fold(
        sum ^ u16::from(byte),
        |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xA001 } else { sum >> 1 }
        },
    )
}

/// An answer's unit and data, against the request's (unit, function and so on).
fn answer(asked: &[u8], unit: u8, pdu: &[u8]) -> String {
    let mut text = match *pdu {
        [function @ 0x80..=0xFF, code] => {
            let word = exception_word(code);
            let mut text = format!("exception {code} ({word}) from unit {unit}");
            differs(&mut text, "function", function & 0x7F, asked.get(1));
            text
        }
        [function @ 1..=4, count, ref data @ ..] => {
            let mut text = values(function, unit, data, asked);
            if usize::from(count) != data.len() {
                let _ = write!(text, "; its byte count says {count}");
            }
            differs(&mut text, "function", function, asked.get(1));
            text
        }
        [43, 14, ..] => format!("identification of unit {unit}: {}", readable(pdu)),
        [function, ..] => {
            let mut text = format!("answer to function {function} from unit {unit}");
            differs(&mut text, "function", function, asked.get(1));
            text
        }
        [] => format!("an empty answer from unit {unit}"),
    };
    differs(&mut text, "unit", unit, asked.first());
    text
}

fn differs(text: &mut String, what: &str, got: u8, asked: Option<&u8>) {
    if let Some(asked) = asked.filter(|asked| **asked != got) {
        let _ = write!(text, "; {what} {got}, not {asked}");
    }
}

/// The values of an answer, and what is wrong with their number.
fn values(function: u8, unit: u8, data: &[u8], asked: &[u8]) -> String {
    let wanted = match *asked {
        [_, wanted, _, _, c0, c1, ..] if wanted == function => {
            Some(usize::from(u16::from_be_bytes([c0, c1])))
        }
        _ => None,
    };
    let mut text;
    let mut shown = String::new();
    if function <= 2 {
        // Bits travel in whole bytes, so how many there are only the question tells.
        let carried = data.len() * 8;
        let count = wanted.filter(|wanted| wanted.div_ceil(8) == data.len()).unwrap_or(carried);
        text = format!("{} from unit {unit}", cells(function, count));
        for at in 0..count.min(2 * SHOWN) {
            let bit = data.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            shown.push(if bit { '1' } else { '0' });
        }
        if count > 2 * SHOWN {
            shown.push('…');
        }
        if let Some(wanted) = wanted.filter(|wanted| wanted.div_ceil(8) != data.len()) {
            let _ = write!(text, ", not {wanted}");
        }
    } else {
        let count = data.len() / 2;
        text = format!("{} from unit {unit}", cells(function, count));
        for pair in data.chunks_exact(2).take(SHOWN) {
            let value = pair.iter().fold(0_u16, |value, byte| value << 8 | u16::from(*byte));
            let _ = write!(shown, "{}{value}", if shown.is_empty() { "" } else { " " });
        }
        if count > SHOWN {
            shown.push_str(" …");
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != count) {
            let _ = write!(text, ", not {wanted}");
        }
        if data.len() % 2 == 1 {
            text.push_str(" and half of one");
        }
    }
    if !shown.is_empty() {
        let _ = write!(text, ": {shown}");
    }
    text
}

/// Bytes that are no frame of the framing that is spoken.
fn foreign(rest: &[u8], framing: Framing) -> String {
    let count = bytes(rest.len());
    match (rest, framing) {
        ([0x15..=0x17, 3, 0..=4, ..], _) => {
            format!("{count} of TLS: the device wants protocol \"modbus-tls\"")
        }
        ([b'H', b'T', b'T', b'P', b'/', ..], _) => format!("{count} of HTTP: a web server"),
        ([b'S', b'S', b'H', b'-', ..], _) => format!("{count} of SSH"),
        (_, Framing::Tcp) if rtu_frame(rest).is_some() => {
            format!("{count} of Modbus RTU: the device wants protocol \"modbus-rtu-over-tcp\"")
        }
        (_, Framing::Rtu) if header(rest).is_some_and(|header| header.total <= rest.len()) => {
            format!("{count} of Modbus TCP: the device wants protocol \"modbus-tcp\"")
        }
        (_, Framing::Tcp) => format!("{count} that are no Modbus TCP: \"{}\"", readable(rest)),
        (_, Framing::Rtu) => format!("{count} without a frame whose checksum is right"),
    }
}

fn cells(function: u8, count: usize) -> String {
    let word = match function {
        1 => "coil",
        2 => "discrete input",
        3 => "holding register",
        _ => "input register",
    };
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn bytes(count: usize) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// The letters and digits in the bytes, and points for the rest.
fn readable(bytes: &[u8]) -> String {
    let visible = |byte: &u8| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { '·' };
    let mut text: String = bytes.iter().take(60).map(visible).collect();
    if bytes.len() > 60 {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A read of 2 holding registers from 100 of unit 3.
    const TCP: [u8; 12] = [0, 42, 0, 0, 0, 6, 3, 3, 0, 100, 0, 2];

    fn sealed(frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        frame.extend(checksum(&frame.clone()).to_le_bytes());
        frame
    }

    fn said(sent: &[u8], received: &[u8]) -> Vec<String> {
        answers(sent, received).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        // The example of the serial line specification's appendix: 02 07 gives 41 12.
        assert_eq!(checksum(&[2, 7]).to_le_bytes(), [0x41, 0x12]);
    }

    #[test]
    fn requests_are_told_as_a_person_would_ask() {
        assert_eq!(request(&TCP), "read 2 holding registers from 100 of unit 3");
        let rtu = sealed(&[3, 1, 0, 5, 0, 1]);
        assert_eq!(request(&rtu), "read 1 coil from 5 of unit 3");
        let identify = sealed(&[9, 43, 14, 1, 0]);
        let said = "read basic identification of unit 9, from object 0 on";
        assert_eq!(request(&identify), said);
    }

    #[test]
    fn answers_over_tcp_say_what_is_wrong_with_them() {
        for (received, text) in [
            (
                &[0, 42, 0, 0, 0, 7, 3, 3, 4, 0, 7, 1, 0][..],
                "2 holding registers from unit 3: 7 256",
            ),
            (&[0, 42, 0, 0, 0, 3, 3, 0x83, 2], "exception 2 (illegal data address) from unit 3"),
            (
                &[0, 41, 0, 0, 0, 5, 3, 3, 2, 0, 7],
                "1 holding register from unit 3, not 2: 7; transaction 41, not 42",
            ),
            (
                &[0, 42, 0, 0, 0, 7, 4, 4, 4, 0, 7, 1, 0],
                "2 input registers from unit 4: 7 256; function 4, not 3; unit 4, not 3",
            ),
            (&[0, 42, 0, 0, 0, 7, 3], "7 of 13 bytes of an answer"),
            (
                &[0x15, 3, 1, 0, 2, 2, 0x28],
                "7 bytes of TLS: the device wants protocol \"modbus-tls\"",
            ),
            (b"login: ", "7 bytes that are no Modbus TCP: \"login: \""),
        ] {
            assert_eq!(said(&TCP, received), [text]);
        }
        let rtu = sealed(&[3, 0x83, 2]);
        let said = said(&TCP, &rtu);
        assert!(said[0].contains("modbus-rtu-over-tcp"), "{said:?}");
    }

    #[test]
    fn a_line_with_echo_noise_and_an_answer_is_taken_apart() {
        let sent = sealed(&[3, 3, 0, 100, 0, 2]);
        let answer = sealed(&[3, 3, 4, 0, 7, 1, 0]);
        let late = sealed(&[5, 0x83, 0x0B]);
        let line = [&sent[..], &[0xFF, 0], &late, &answer, &[9, 9, 9]].concat();
        let word = exception_word(0x0B);
        let expected = [
            "our own request, echoed by the line".to_owned(),
            "2 bytes of noise".to_owned(),
            format!("exception 11 ({word}) from unit 5; unit 5, not 3"),
            "2 holding registers from unit 3: 7 256".to_owned(),
            "3 bytes without a frame whose checksum is right".to_owned(),
        ];
        assert_eq!(said(&sent, &line), expected);
    }

    #[test]
    fn bits_are_shown_as_many_as_were_asked_for() {
        let sent = sealed(&[3, 2, 0, 0, 0, 10]);
        assert_eq!(
            said(&sent, &sealed(&[3, 2, 2, 0b101, 0b10])),
            ["10 discrete inputs from unit 3: 1010000001"]
        );
        assert_eq!(
            said(&sent, &sealed(&[3, 2, 1, 0b101])),
            ["8 discrete inputs from unit 3, not 10: 10100000"]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_told_and_none_is_left_out(
            sent: Vec<u8>,
            received in prop::collection::vec(any::<u8>(), 0..700),
            shape in 0..3,
        ) {
            let sent = match shape {
                0 => TCP.to_vec(),
                1 => sealed(&TCP[6..]),
                _ => sent,
            };
            let _ = request(&sent);
            let pieces = answers(&sent, &received);
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
            prop_assert_eq!(&all, &received);
            prop_assert!(pieces.iter().all(|piece| !piece.text.is_empty()));
        }
    }
}
