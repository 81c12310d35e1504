//! The words for raw bytes of a Modbus line: any bytes are told, and none is left out.

use tidegate_modbus::probe::wording::{Framing, answers, framing, request};

use crate::{KIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "wording",
    run,
    seeds,
    words: &[
        &[0, 42, 0, 0, 0, 6, 3, 3, 0, 100, 0, 2],
        &[0, 42, 0, 0, 0, 3, 3, 0x83, 2],
        &[0, 0, 0, 6],
        &[3, 3, 4],
        &[0x83, 2],
        &[43, 14, 1, 0],
        &[0x15, 3, 1],
        b"HTTP/",
    ],
    // Each piece of at least one byte has its words.
    memory: |length| at_most(16 * KIB + 256 * length),
    mutations: 3000,
};

/// The first byte says how long the request is; the rest came back.
fn run(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (sent, received) = rest.split_at(usize::from(length % 16).min(rest.len()));
    let rtu = sealed(sent);
    for sent in [sent, &rtu] {
        assert!(!request(sent).is_empty(), "a request without words");
        let pieces = answers(sent, received);
        let mut told = 0;
        for piece in &pieces {
            assert!(!piece.text.is_empty() && !piece.bytes.is_empty(), "{piece:?}");
            assert!(piece.text.len() < 2 * KIB, "{} bytes of words", piece.text.len());
            assert_eq!(received.get(told..told + piece.bytes.len()), Some(piece.bytes));
            told += piece.bytes.len();
        }
        assert_eq!(told, received.len(), "bytes were left out");
    }
    // An answer that is whole and right is told as one, whatever comes before and after it.
    if framing(&rtu) == Framing::Rtu {
        let answer = sealed(&[3, 0x83, 2]);
        let line = [&answer[..], received].concat();
        let first = answers(&rtu, &line).into_iter().next().expect("a first piece");
        let echoed = line.starts_with(&rtu);
        assert!(
            echoed || first.text.starts_with("exception 2 (illegal data address)"),
            "{first:?}"
        );
    }
}

fn sealed(frame: &[u8]) -> Vec<u8> {
    let sum = frame.iter().fold(0xFFFF_u16, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xA001 } else { sum >> 1 }
        })
    });
    [frame, &sum.to_le_bytes()].concat()
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let tcp = [0, 42, 0, 0, 0, 6, 3, 3, 0, 100, 0, 2];
    let answer = [0, 42, 0, 0, 0, 7, 3, 3, 4, 0, 7, 1, 0];
    let rtu = sealed(&[3, 3, 0, 100, 0, 2]);
    let late = sealed(&[3, 3, 2, 0, 9]);
    let right = sealed(&[3, 3, 4, 0, 7, 1, 0]);
    vec![
        seed("tcp", [&[12], &tcp[..], &answer].concat()),
        seed("refused", [&[12], &tcp[..], &[0, 42, 0, 0, 0, 3, 3, 0x83, 2]].concat()),
        seed("broken-off", [&[12], &tcp[..], &answer[..9]].concat()),
        seed("line", [&[6], &rtu[..6], &rtu, &[0xFF], &late, &right, &[1]].concat()),
        seed("tls", [&[12], &tcp[..], &[0x15, 3, 1, 0, 2, 2, 40]].concat()),
        seed("identify", [&[4], &[3, 43, 14, 1, 0][..4], &sealed(&[3, 43, 14, 1, 1])].concat()),
        seed("nothing", vec![0]),
    ]
}
