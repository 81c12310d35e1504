use proptest::prelude::*;

use super::*;

fn framed(body: &[u8]) -> Vec<u8> {
    [body, &crc16(body).to_le_bytes()].concat()
}

fn read(unit: u8, function: u8, start: u16, count: u16) -> Asked {
    let [s1, s0] = start.to_be_bytes();
    let [c1, c0] = count.to_be_bytes();
    Asked::new(unit, &[function, s1, s0, c1, c0]).unwrap()
}

fn answer(unit: u8, function: u8, data: &[u8]) -> Vec<u8> {
    framed(&[&[unit, function, u8::try_from(data.len()).unwrap()], data].concat())
}

/// Looks as the gate does: throws away what is not the answer, and returns it once it is there.
fn search(bytes: &[u8], asked: &Asked) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    loop {
        let gone = match find(&bytes, 0, Some(asked), true) {
            Found::Answer(at) => return Some(bytes[at].to_vec()),
            Found::Shadowed { at, .. } => return Some(bytes[at].to_vec()),
            Found::Echo(at) | Found::Stale { at, .. } => at.end,
            Found::More { .. } => return None,
        };
        bytes.drain(..gone);
    }
}

#[test]
fn a_request_is_framed_as_the_manuals_print_it() {
    let asked = read(1, 3, 0, 10);
    assert_eq!(asked.frame(), [0x01, 0x03, 0x00, 0x00, 0x00, 0x0A, 0xC5, 0xCD]);
    assert_eq!(Asked::of_frame(asked.frame()), Ok(asked));
    let identify = Asked::new(1, &[0x2B, 0x0E, 1, 0]).unwrap();
    assert_eq!(identify.frame(), [0x01, 0x2B, 0x0E, 0x01, 0x00, 0x70, 0x77]);
}

#[test]
fn what_writes_or_asks_for_nothing_is_refused() {
    for pdu in [
        &[5, 0, 1, 0xFF, 0][..],
        &[6, 0, 1, 0, 1],
        &[15, 0, 0, 0, 1, 1, 1],
        &[16, 0, 0, 0, 1, 2, 0, 1],
        &[23, 0, 0, 0, 1],
        &[8, 0, 0, 0, 0],
        &[0x2B, 0x0D, 0, 0],
        &[3, 0, 0, 0, 0],
        &[3, 0, 0, 0, 126],
        &[1, 0, 0, 0x07, 0xD1],
        &[3, 0, 0, 0],
        &[],
    ] {
        assert!(Asked::new(1, pdu).is_err(), "{pdu:?}");
    }
    assert!(Asked::new(0, &[3, 0, 0, 0, 1]).unwrap_err().contains("unit 0"));
}

#[test]
fn an_answer_must_be_of_the_unit_the_function_and_the_length_asked_for() {
    let asked = read(9, 3, 100, 2);
    let right = answer(9, 3, &[0, 1, 0, 2]);
    assert_eq!(find(&right, 0, Some(&asked), true), Found::Answer(0..9));
    for other in [
        answer(8, 3, &[0, 1, 0, 2]),
        answer(9, 4, &[0, 1, 0, 2]),
        answer(9, 3, &[0, 1]),
        answer(9, 3, &[0, 1, 0, 2, 0, 3]),
        framed(&[9, 0x84, 2]),
        framed(&[8, 0x83, 2]),
        framed(&[9, 6, 0, 1, 0, 2]),
        read(8, 3, 100, 2).frame().to_vec(),
    ] {
        let found = find(&other, 0, Some(&asked), true);
        assert!(matches!(&found, Found::Stale { at, .. } if *at == (0..other.len())), "{found:?}");
    }
    assert_eq!(find(&framed(&[9, 0x83, 2]), 0, Some(&asked), true), Found::Answer(0..5));
}

#[test]
fn a_stale_frame_says_whose_it_was_and_what_it_answered() {
    let asked = read(9, 3, 100, 2);
    let stale = |frame: &[u8]| match find(frame, 0, Some(&asked), true) {
        Found::Stale { unit, shape, .. } => (unit, shape),
        other => panic!("{other:?}"),
    };
    let shape = |function, bytes| Some(Shape { function, bytes });
    assert_eq!(stale(&answer(4, 3, &[1, 2, 3, 4])), (4, shape(3, 4)));
    assert_eq!(stale(&answer(9, 1, &[1])), (9, shape(1, 1)));
    assert_eq!(stale(&framed(&[9, 0x81, 2])), (9, shape(0x81, 0)));
    assert_eq!(stale(&framed(&[4, 16, 0, 0, 0, 9])), (4, None));
    let identification = framed(&[4, 0x2B, 0x0E, 1, 1, 0, 0, 1, 0, 2, b'a', b'b']);
    assert_eq!(stale(&identification), (4, shape(0x2B, 1)));
    // Nothing was asked: even what would fit is stale.
    let right = answer(9, 3, &[0, 1, 0, 2]);
    assert!(matches!(find(&right, 0, None, true), Found::Stale { unit: 9, .. }));
}

#[test]
fn an_identification_ends_where_its_objects_do() {
    let asked = Asked::new(4, &[0x2B, 0x0E, 1, 0]).unwrap();
    let whole = framed(
        &[&[4, 0x2B, 0x0E, 1, 0x81, 0, 0, 3, 0, 4][..], b"Acme", &[1, 0, 2, 3], b"1.0"].concat(),
    );
    for end in 0..whole.len() {
        let found = find(&whole[..end], 0, Some(&asked), true);
        assert_eq!(found, Found::More { keep: 0 }, "{end} bytes");
    }
    assert_eq!(find(&whole, 0, Some(&asked), true), Found::Answer(0..whole.len()));
    // With its echo before it.
    let heard = [asked.frame(), &whole].concat();
    assert_eq!(find(&heard, 0, Some(&asked), true), Found::Echo(0..7));
    assert_eq!(find(&heard[..7], 0, Some(&asked), false), Found::Echo(0..7));
    // A list that could not end within a frame is none.
    let endless = [4, 0x2B, 0x0E, 1, 0x81, 0, 0, 255, 0, 250, 1];
    assert!(matches!(find(&endless, 0, Some(&asked), true), Found::More { keep } if keep > 0));
}

#[test]
fn one_object_is_answered_by_that_object_alone() {
    let asked = Asked::new(4, &[0x2B, 0x0E, 4, 2]).unwrap();
    let one = |object: u8| framed(&[4, 0x2B, 0x0E, 4, 0x81, 0, 0, 1, object, 1, b'x']);
    assert!(matches!(find(&one(2), 0, Some(&asked), true), Found::Answer(_)));
    assert!(matches!(find(&one(1), 0, Some(&asked), true), Found::Stale { .. }));
}

#[test]
fn a_frame_inside_a_longer_one_is_not_the_answer() {
    let asked = read(9, 3, 100, 1);
    let inner = answer(9, 3, &[0, 7]);
    let outer = answer(8, 3, &[&[1][..], &inner].concat());
    assert_eq!(outer.len() - inner.len(), 6);
    for end in 0..outer.len() {
        let found = find(&outer[..end], 0, Some(&asked), true);
        match found {
            Found::More { keep: 0 } => assert!(end < 11, "{end}"),
            Found::Shadowed { keep: 0, .. } => assert!(end >= 11, "{end}"),
            other => panic!("{end} bytes: {other:?}"),
        }
    }
    let found = find(&outer, 0, Some(&asked), true);
    assert!(matches!(found, Found::Stale { unit: 8, .. }), "{found:?}");
}

#[test]
fn a_read_of_17_to_24_bits_may_be_answered_by_its_own_request() {
    // Start 0x0310, 20 bits: byte count 3 is the high byte of the start.
    let asked = read(9, 1, 0x0310, 20);
    let same = answer(9, 1, &[0x10, 0, 20]);
    assert_eq!(same, asked.frame());
    assert_eq!(find(&same, 0, Some(&asked), true), Found::Echo(0..8));
    assert_eq!(find(&same, 0, Some(&asked), false), Found::Answer(0..8));
}

/// Bytes like those on a line: whole frames, pieces, headers, anything.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let header = (0u8..12, 0u8..8, any::<u8>()).prop_map(|(a, b, c)| vec![a, b, c]);
    let frame = (1u8..12, 1u8..5, prop::collection::vec(any::<u8>(), 1..20))
        .prop_map(|(unit, function, data)| answer(unit, function, &data));
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        header,
        frame.clone(),
        frame.prop_map(|mut frame| {
            frame.truncate(frame.len() / 2);
            frame
        }),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_found_is_intact_and_fits(
        bytes in noise(),
        unit in 1u8..12,
        function in 1u8..5,
        count in 1u16..12,
    ) {
        let asked = read(unit, function, 7, count);
        if let Some(frame) = search(&bytes, &asked) {
            prop_assert!(is_intact(&frame));
            prop_assert_eq!(frame[0], unit);
            if frame[1] == function {
                prop_assert_eq!(frame.len(), usize::from(asked.shape().bytes) + 5);
                prop_assert_eq!(frame[2], asked.shape().bytes);
            } else {
                prop_assert_eq!((frame[1], frame.len()), (function | 0x80, 5));
            }
        }
    }

    #[test]
    fn looking_again_after_each_byte_finds_what_one_look_finds(
        bytes in noise(),
        count in 1u16..6,
        data in any::<u64>(),
    ) {
        let asked = read(3, 3, 7, count);
        let right = answer(3, 3, &data.to_be_bytes().repeat(2)[..usize::from(count) * 2]);
        let bytes = [bytes, right].concat();
        let (mut held, mut checked) = (Vec::new(), 0);
        let mut found = None;
        for byte in &bytes {
            held.push(*byte);
            loop {
                let gone = match find(&held, checked, Some(&asked), true) {
                    Found::Answer(at) | Found::Shadowed { at, .. } => {
                        found.get_or_insert(held[at].to_vec());
                        break;
                    }
                    Found::Echo(at) | Found::Stale { at, .. } => at.end,
                    Found::More { keep } => {
                        held.drain(..keep);
                        checked = held.len();
                        break;
                    }
                };
                held.drain(..gone);
                checked = 0;
            }
            prop_assert!(held.len() <= MAX_FRAME || found.is_some());
        }
        prop_assert!(found.is_some() || search(&bytes, &asked).is_none());
    }

    #[test]
    fn noise_that_makes_no_frame_with_the_answer_never_hides_it(
        noise in prop::collection::vec(any::<u8>(), 0..40),
        data in prop::collection::vec(any::<u8>(), 4),
        unit in 1u8..=247,
    ) {
        let asked = read(unit, 3, 7, 2);
        let right = answer(unit, 3, &data);
        let bytes = [noise.as_slice(), &right].concat();
        let found = search(&bytes, &asked);
        // A frame by chance, one in 65,536 for each place where one could begin, may reach into
        // the answer; that is the one excuse.
        let by_chance = (0..noise.len()).any(|at| {
            lengths(&bytes[at..]).into_iter().flatten().any(|length| {
                length > noise.len() - at && bytes[at..].get(..length).is_some_and(is_intact)
            })
        });
        prop_assert!(by_chance || found == Some(right));
    }
}
