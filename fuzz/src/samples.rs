//! Bodies of sample frames.

use tidegate_journal::Codec;
use tidegate_record::samples::{
    DecodeError, MAX_BODY_BYTES, MAX_COLUMN_BYTES, MAX_SAMPLES, Packer, decode,
};
use tidegate_translator::{Sample, Value};

use crate::chain::readings;
use crate::{MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "samples",
    run,
    seeds,
    words: &[&[0x80; 9], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0x7f]],
    // 32768 samples at 96 bytes, twice: as they were read, and as they were packed and read again.
    memory: |length| at_most(16 * MIB + 16 * length),
    mutations: 8000,
};

fn run(bytes: &[u8]) {
    let [which, c0, c1, c2, c3, body @ ..] = bytes else { return };
    let count = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
    let codec = match which % 3 {
        0 => Codec::Plain,
        1 => Codec::Columns,
        _ => Codec::ColumnsLz4,
    };
    let read = read(codec, count, body);
    if codec == Codec::Columns && body.len() <= MAX_COLUMN_BYTES {
        // The same columns behind LZ4 are the same samples, or the same fault.
        let packed = lz4_flex::compress_prepend_size(body);
        match (&read, decode(Codec::ColumnsLz4, count, &packed)) {
            (Some((count_there, samples)), _) if *count_there != count => {
                let again = decode(Codec::ColumnsLz4, *count_there, &packed);
                same(&again.expect("the same samples"), samples);
            }
            (Some((_, samples)), again) => same(&again.expect("the same samples"), samples),
            (None, again) => assert!(again.is_err()),
        }
    }
    if let Some((_, samples)) = read {
        comes_back(&samples);
    }
}

/// What the body holds, under the count of the header or else under its own.
fn read(codec: Codec, count: u32, body: &[u8]) -> Option<(u32, Vec<Sample>)> {
    let (count, samples) = match decode(codec, count, body) {
        Err(DecodeError::Count { header, body: there }) => {
            assert_eq!(header, count);
            assert_ne!(u64::from(count), there);
            let there = u32::try_from(there).ok()?;
            (there, decode(codec, there, body))
        }
        other => (count, other),
    };
    let samples = samples.ok()?;
    assert_eq!(samples.len(), usize::try_from(count).unwrap(), "as many as the header says");
    assert!(samples.len() <= MAX_SAMPLES);
    Some((count, samples))
}

/// Packed again, all of them are there bit for bit, by tag.
fn comes_back(samples: &[Sample]) {
    let packing = Packer::new().pack(samples);
    assert_eq!(packing.refused, [], "what stood in a frame fits one");
    let mut from = 0;
    for body in &packing.bodies {
        assert!(body.bytes.len() <= MAX_BODY_BYTES);
        let read = decode(body.codec, body.count, &body.bytes).expect("its own body");
        let mut expected = samples[from..from + read.len()].to_vec();
        from += read.len();
        expected.sort_by_key(|sample| sample.tag);
        same(&read, &expected);
    }
    assert_eq!(from, samples.len());
}

fn same(a: &[Sample], b: &[Sample]) {
    assert_eq!(a.len(), b.len());
    let bare = |sample: &Sample| Sample { value: Value::None, ..sample.clone() };
    for (a, b) in a.iter().zip(b) {
        assert!(a.value.is_same(&b.value) && bare(a) == bare(b), "{a:?} is not {b:?}");
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, scans) in [("one", 1), ("three", 3), ("many", 60)] {
        for body in Packer::new().pack(&readings(0, scans)).bodies {
            let count = body.count.to_le_bytes();
            let with = |codec: u8, bytes: &[u8]| [&[codec], count.as_slice(), bytes].concat();
            match body.codec {
                Codec::Plain => seeds.push(seed(name, with(0, &body.bytes))),
                Codec::Columns => seeds.push(seed(name, with(1, &body.bytes))),
                Codec::ColumnsLz4 => {
                    let columns = lz4_flex::decompress_size_prepended(&body.bytes).unwrap();
                    seeds.push(seed(&format!("{name}-columns"), with(1, &columns)));
                    seeds.push(seed(name, with(2, &body.bytes)));
                }
            }
        }
    }
    let plain = postcard::to_stdvec(&0_u8).unwrap();
    seeds.push(seed("plain-none", [&[0, 0, 0, 0, 0], plain.as_slice()].concat()));
    let single = Packer::new().pack(&readings(0, 1)[..1]).bodies.remove(0);
    seeds.push(seed("plain-one", [&[0, 1, 0, 0, 0], single.bytes.as_slice()].concat()));
    seeds
}
