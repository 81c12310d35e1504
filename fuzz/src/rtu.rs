//! What an RTU line says: never a value that no whole frame to the very question gave.
//!
//! The input is a question and what is heard after it: pieces of bytes as they are, and pieces with
//! their checksum put right. What is believed is compared with a reader of its own, which knows no
//! more than what a frame looks like.

use tidegate_modbus::{Framing, Given, Question, Table, replay};

use crate::recipe::Recipe;
use crate::{KIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "rtu",
    run,
    seeds,
    words: &[&[1, 3, 2], &[0x83, 2], &[0x2b, 0x0e, 1], &[1, 3, 250], &[3, 0x10, 0, 20]],
    // Mostly the runtime. A line may say what it likes for ever, but 1,024 bytes of noise and nine
    // foreign frames end it.
    memory: |length| at_most(96 * KIB + 16 * length),
    mutations: 20000,
};

fn run(bytes: &[u8]) {
    let mut recipe = Recipe(bytes);
    let unit = 1 + recipe.byte() % 247;
    let function = 1 + recipe.byte() % 5;
    let pdu = if function == 5 {
        vec![0x2b, 0x0e, 1 + recipe.byte() % 4, recipe.byte() % 8]
    } else {
        let [s1, s0] = recipe.u16().to_be_bytes();
        // Whole bytes of bits: those beyond the last one asked for are not told.
        let count = 1 + recipe.byte() % 125;
        vec![function, s1, s0, 0, if function <= 2 { count.next_multiple_of(8) } else { count }]
    };
    let sent = framed(&[&[unit], pdu.as_slice()].concat());
    let heard = heard(&mut recipe, &sent);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let again =
        runtime.unwrap().block_on(replay(Framing::Rtu, &sent, &heard)).expect("a good request");
    assert_eq!(again.unit.0, unit);
    match again.outcome {
        Ok(given) => {
            let told = tell(again.question, &given);
            let frames = (0..heard.len()).filter_map(|at| frame(&heard[at..], &pdu, unit));
            assert!(frames.into_iter().any(|body| body == told), "{given:?} was never answered");
        }
        Err(why) => {
            if let Some(code) = why.strip_prefix("exception ") {
                let code: u8 = code.split(' ').next().unwrap().parse().unwrap();
                let no = framed(&[unit, pdu[0] | 0x80, code]);
                assert!(heard.windows(5).any(|it| it == no), "{why} was never answered");
            }
        }
    }
}

/// What comes back, piece by piece.
fn heard(recipe: &mut Recipe<'_>, sent: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    while !recipe.is_empty() && heard.len() < 4 * KIB {
        match recipe.byte() % 6 {
            0 => heard.extend_from_slice(recipe.bytes(255)),
            1 => heard.extend(framed(recipe.bytes(255))),
            2 => heard.extend_from_slice(sent),
            3 => {
                // The head of an answer of the right unit and function, cells that are anything.
                let cells = recipe.bytes(250);
                let count = u8::try_from(cells.len()).unwrap();
                heard.extend(framed(&[&[sent[0], sent[1], count], cells].concat()));
            }
            4 => heard.extend(framed(&[sent[0], sent[1] | 0x80, recipe.byte()])),
            _ => {
                // A whole frame inside another one.
                let inner = framed(&[&sent[..2], &[2], &[recipe.byte(), 7]].concat());
                let count = u8::try_from(inner.len() + 1).unwrap();
                heard.extend(framed(&[&[recipe.byte(), 3, count, 0], inner.as_slice()].concat()));
            }
        }
    }
    heard
}

/// The body of the answer that begins here, by the specification; its checksum is counted bit by
/// bit.
fn frame<'a>(bytes: &'a [u8], pdu: &[u8], unit: u8) -> Option<&'a [u8]> {
    let length = match pdu[0] {
        0x2b => {
            let mut end = 8;
            for _ in 0..*bytes.get(7)? {
                end += 2 + usize::from(*bytes.get(end + 1)?);
            }
            end
        }
        function => {
            let count = usize::from(pdu[4]);
            3 + if function <= 2 { count.div_ceil(8) } else { 2 * count }
        }
    };
    let body = bytes.get(..length)?;
    let fits = body[..2] == [unit, pdu[0]]
        && if pdu[0] == 0x2b {
            body[2..4] == pdu[1..3]
        } else {
            usize::from(body[2]) == length - 3
        };
    (fits && bytes.get(length..length + 2)? == checksum(body))
        .then_some(body)
        .map(|body| if pdu[0] == 0x2b { &body[8..] } else { &body[3..] })
}

/// The cells of an answer as they travel.
fn tell(question: Question, given: &Given) -> Vec<u8> {
    match (question, given) {
        (Question::Read { count, .. }, Given::Registers(registers)) => {
            assert_eq!(registers.len(), usize::from(count));
            registers.iter().flat_map(|register| register.to_be_bytes()).collect()
        }
        (
            Question::Read { table: Table::Coil | Table::DiscreteInput, count, .. },
            Given::Bits(bits),
        ) => {
            assert_eq!(bits.len(), usize::from(count));
            let byte =
                |bits: &[bool]| bits.iter().rev().fold(0, |all, bit| all << 1 | u8::from(*bit));
            bits.chunks(8).map(byte).collect()
        }
        (Question::Identification, Given::Objects(objects)) => objects
            .iter()
            .flat_map(|(id, value)| [&[*id, u8::try_from(value.len()).unwrap()], &**value].concat())
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [body, &checksum(body)].concat()
}

fn checksum(body: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in body {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    // Unit 1; two holding registers from 7 on.
    let ask = [0, 2, 7, 0, 1];
    let with = |name: &str, pieces: &[u8]| seed(name, [&ask, pieces].concat());
    vec![
        with("well", &[3, 4, 0, 7, 0, 8]),
        with("echo", &[2, 3, 4, 0, 7, 0, 8]),
        with("noise", &[0, 3, 1, 3, 4, 3, 4, 0, 7, 0, 8]),
        with("refused", &[4, 2]),
        with("inside", &[5, 9, 7, 3, 4, 0, 7, 0, 8]),
        with("late", &[3, 2, 0, 7, 3, 4, 0, 7, 0, 8]),
        with("begun", &[0, 3, 8, 3, 100, 3, 4, 0, 7, 0, 8]),
        with("broken", &[0, 9, 1, 3, 4, 0, 7, 0, 8, 1, 1]),
        seed("bits", [0, 0, 0x10, 3, 23, 2, 3, 3, 0xaa, 0xbb, 0xcc]),
        seed("named", [0, 4, 0, 0, 1, 12, 1, 0x2b, 0x0e, 1, 1, 0, 0, 1, 0, 2, b'a', b'b']),
        seed("one-named", [0, 4, 3, 2, 1, 12, 1, 0x2b, 0x0e, 4, 1, 0, 0, 1, 2, 2, b'a', b'b']),
    ]
}
