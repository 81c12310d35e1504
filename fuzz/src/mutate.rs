//! New inputs from old ones, the same for the same seed.

/// Sebastiano Vigna's splitmix64: enough to choose places, and the same everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// The longest input that is made.
const LONGEST: usize = 64 * 1024;

/// One to five changes to `input`; `other` lends parts, `words` are put in whole.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(5) {
        change(&mut out, other, words, random);
    }
    out.truncate(LONGEST);
    out
}

fn change(out: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    let at = random.below(out.len() + 1);
    let longest = if random.below(4) == 0 { 4096 } else { 16 };
    let length = 1 + random.below(longest);
    let end = (at + length).min(out.len());
    match random.below(9) {
        0 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = out.get_mut(at) {
                *byte = random.byte();
            }
        }
        2 => {
            let edge = EDGES[random.below(EDGES.len())];
            let width = [1, 2, 4, 8][random.below(4)];
            let bytes = if random.below(2) == 0 { edge.to_le_bytes() } else { edge.to_be_bytes() };
            let bytes = if random.below(2) == 0 { &bytes[..width] } else { &bytes[8 - width..] };
            overwrite(out, at, bytes);
        }
        3 => drop(out.drain(at..end)),
        4 => {
            let bytes: Vec<u8> = (0..length.min(16)).map(|_| random.byte()).collect();
            drop(out.splice(at..at, bytes));
        }
        5 => {
            let copied = out[at..end].to_vec();
            let to = random.below(out.len() + 1);
            drop(out.splice(to..to, copied));
        }
        6 => {
            let from = random.below(other.len() + 1);
            let part = &other[from..(from + length).min(other.len())];
            if random.below(2) == 0 {
                drop(out.splice(at..at, part.iter().copied()));
            } else {
                overwrite(out, at, part);
            }
        }
        7 => match words.len() {
            0 => out.truncate(at),
            count => {
                let word = words[random.below(count)];
                if random.below(2) == 0 {
                    drop(out.splice(at..at, word.iter().copied()));
                } else {
                    overwrite(out, at, word);
                }
            }
        },
        _ => out.truncate(at),
    }
}

fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in out.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
