//! Inputs from seeds: changes bytes, numbers and tokens, and moves, duplicates and mixes parts.

use std::ops::Range;

use crate::Target;

/// The largest mutated input.
pub const MAX_INPUT_BYTES: usize = 64 << 10;

/// The most changes to one input.
const MAX_CHANGES: usize = 8;

/// SplitMix64 (Steele, Lea and Flood 2014): small, and a stream is a function of its seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A stream for one execution.
    pub fn new(seed: u64, target: &str, index: u64) -> Self {
        let name = target.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut random = Self(seed ^ name.rotate_left(17));
        let start = random.next() ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(start)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// One of `items`.
    pub fn choose<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> Option<&'a T> {
        items.get(self.below(items.len())).copied()
    }

    /// A part of `0..len`, more often short than long.
    fn range(&mut self, len: usize) -> Range<usize> {
        if len == 0 {
            return 0..0;
        }
        let longest = match self.below(4) {
            0 => 1,
            1 => 8,
            2 => 64,
            _ => len,
        };
        let start = self.below(len);
        start..(start + 1 + self.below(longest)).min(len)
    }
}

/// Numbers at which programs break, as text.
const NUMBERS: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "64",
    "127",
    "128",
    "255",
    "256",
    "4096",
    "65535",
    "65536",
    "1000000",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "1e308",
    "1e-320",
    "0.5",
];

/// Values of unexpected types.
const VALUES: [&str; 12] = [
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "nan",
    "inf",
    "\"\\u0000\"",
    "\"\u{202e}\u{1f99c}\"",
    "-0.0",
];

/// Pieces of text that are rare in human-written text.
const CHARACTERS: [&str; 14] = [
    "\0",
    "\u{301}",
    "\u{feff}",
    "\u{200d}",
    "\u{2028}",
    "\u{1f99c}",
    "\u{10ffff}",
    "\u{fffd}",
    "\r\n",
    "\t",
    "  ",
    "^",
    "\\",
    "\u{ad}",
];

/// The input of an execution: a function of (seed, target, index). The first inputs are the seeds themselves.
pub fn input(target: &Target, seed: u64, index: u64) -> Vec<u8> {
    let seeds = target.seeds();
    if let Some(whole) = usize::try_from(index).ok().and_then(|index| seeds.get(index)) {
        return whole.clone();
    }
    let mut random = Random::new(seed, target.name, index);
    let mut bytes = seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    // Few changes pass more checks, many reach more code.
    let changes = 1 + random.below(1 + random.clone().below(MAX_CHANGES));
    for _ in 0..changes {
        change(&mut bytes, &mut random, target, seeds);
        bytes.truncate(MAX_INPUT_BYTES);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut Random, target: &Target, seeds: &[Vec<u8>]) {
    match random.below(20) {
        0 => flip_bit(bytes, random),
        1 => set_byte(bytes, random),
        2 => set_number(bytes, random),
        3 => drop(bytes.drain(random.range(bytes.len()))),
        4 => bytes.truncate(random.below(bytes.len() + 1)),
        5 => insert_random(bytes, random),
        6 => repeat_range(bytes, random),
        7 => move_range(bytes, random),
        8 => splice(bytes, random, seeds),
        9 => insert_text(bytes, random, &CHARACTERS),
        10 => insert_text(bytes, random, target.dictionary),
        11 => nest(bytes, random),
        12 => repeat_line(bytes, random),
        13 => swap_tokens(bytes, random),
        14 => copy_token(bytes, random, seeds),
        15 | 16 => replace_token(bytes, random, &NUMBERS, is_number),
        17 => replace_token(bytes, random, &VALUES, |_| true),
        18 => replace_token(bytes, random, target.dictionary, |token| token.starts_with(b"\"")),
        _ => step_number(bytes, random),
    }
}

fn flip_bit(bytes: &mut [u8], random: &mut Random) {
    let at = random.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set_byte(bytes: &mut [u8], random: &mut Random) {
    let at = random.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'\n', random.next() as u8][random.below(9)];
    }
}

/// Overwrites two, four or eight bytes with a little-endian number at which programs break.
fn set_number(bytes: &mut [u8], random: &mut Random) {
    let number: u64 = match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => (1 << random.below(64)) - 1,
        4 => bytes.len() as u64,
        _ => random.next(),
    };
    let width = [2, 4, 8][random.below(3)];
    let start = random.below(bytes.len());
    for (byte, new) in bytes.iter_mut().skip(start).zip(&number.to_le_bytes()[..width]) {
        *byte = *new;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    bytes.splice(at..at, new.iter().copied());
}

fn insert_random(bytes: &mut Vec<u8>, random: &mut Random) {
    let new: Vec<u8> = (0..1 + random.below(16)).map(|_| random.next() as u8).collect();
    let at = random.below(bytes.len() + 1);
    insert(bytes, at, &new);
}

fn insert_text(bytes: &mut Vec<u8>, random: &mut Random, texts: &[&str]) {
    let Some(text) = random.choose(texts) else { return };
    let at = random.below(bytes.len() + 1);
    let times = [1, 1, 1, 2, 300][random.below(5)];
    insert(bytes, at, text.repeat(times).as_bytes());
}

fn repeat_range(bytes: &mut Vec<u8>, random: &mut Random) {
    let part = bytes[random.range(bytes.len())].to_vec();
    let times = [1, 1, 2, 10, 1000][random.below(5)].min(MAX_INPUT_BYTES / part.len().max(1));
    let at = random.below(bytes.len() + 1);
    insert(bytes, at, &part.repeat(times));
}

fn move_range(bytes: &mut Vec<u8>, random: &mut Random) {
    let part: Vec<u8> = bytes.drain(random.range(bytes.len())).collect();
    let at = random.below(bytes.len() + 1);
    insert(bytes, at, &part);
}

fn splice(bytes: &mut Vec<u8>, random: &mut Random, seeds: &[Vec<u8>]) {
    let Some(other) = seeds.get(random.below(seeds.len())) else {
        return;
    };
    let part = other[random.range(other.len())].to_vec();
    let range = random.range(bytes.len());
    bytes.splice(range, part);
}

/// Opens lists, objects or groups many times over; half the time they are closed again.
fn nest(bytes: &mut Vec<u8>, random: &mut Random) {
    let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("a.", ""), ("[[", "]]")][random.below(5)];
    let times = [3, 40, 70, 200, MAX_INPUT_BYTES / open.len()][random.below(5)];
    let is_closed = random.below(2) == 0;
    let mut new = open.repeat(times);
    if is_closed {
        new.push_str(&close.repeat(times));
    }
    match tokens(bytes).get(random.below(tokens(bytes).len())).cloned() {
        Some(token) => drop(bytes.splice(token, new.into_bytes())),
        None => bytes.extend(new.into_bytes()),
    }
}

fn repeat_line(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let is_end = |byte: &u8| matches!(byte, b'\n' | b',');
    let start = bytes[..at].iter().rposition(is_end).map_or(0, |end| end + 1);
    let end = bytes[at..]
        .iter()
        .position(is_end)
        .map_or(bytes.len(), |end| at + end + 1);
    let line = bytes[start..end].to_vec();
    let times = [1, 1, 2, 50][random.below(4)];
    insert(bytes, end, &line.repeat(times));
}

/// The positions of strings, numbers and words.
fn tokens(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at = (at + 1).min(bytes.len());
                found.push(start..at);
            }
            byte if is_word(byte) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                found.push(start..at);
            }
            _ => at += 1,
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

fn is_number(token: &[u8]) -> bool {
    token
        .iter()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
}

fn replace_token(bytes: &mut Vec<u8>, random: &mut Random, by: &[&str], is_wanted: impl Fn(&[u8]) -> bool) {
    let wanted: Vec<_> = tokens(bytes)
        .into_iter()
        .filter(|token| is_wanted(&bytes[token.clone()]))
        .collect();
    if let (Some(token), Some(new)) = (wanted.get(random.below(wanted.len())).cloned(), random.choose(by)) {
        bytes.splice(token, new.bytes());
    }
}

/// A number one higher or lower.
fn step_number(bytes: &mut Vec<u8>, random: &mut Random) {
    let numbers: Vec<_> = tokens(bytes)
        .into_iter()
        .filter(|token| is_number(&bytes[token.clone()]))
        .collect();
    let Some(token) = numbers.get(random.below(numbers.len())).cloned() else {
        return;
    };
    let text = String::from_utf8_lossy(&bytes[token.clone()]).into_owned();
    if let Ok(number) = text.parse::<i64>() {
        let stepped = if random.below(2) == 0 {
            number.wrapping_add(1)
        } else {
            number.wrapping_sub(1)
        };
        bytes.splice(token, stepped.to_string().into_bytes());
    }
}

fn swap_tokens(bytes: &mut Vec<u8>, random: &mut Random) {
    let tokens = tokens(bytes);
    let mut picked = [random.below(tokens.len()), random.below(tokens.len())];
    picked.sort_unstable();
    let [Some(first), Some(second)] = picked.map(|index| tokens.get(index).cloned()) else {
        return;
    };
    if first.end <= second.start {
        let [one, two] = [&first, &second].map(|token| bytes[token.clone()].to_vec());
        bytes.splice(second, one);
        bytes.splice(first, two);
    }
}

/// Replaces a token by one of any seed.
fn copy_token(bytes: &mut Vec<u8>, random: &mut Random, seeds: &[Vec<u8>]) {
    let Some(other) = seeds.get(random.below(seeds.len())) else {
        return;
    };
    let (from, to) = (tokens(other), tokens(bytes));
    if let (Some(from), Some(to)) = (from.get(random.below(from.len())), to.get(random.below(to.len()))) {
        bytes.splice(to.clone(), other[from.clone()].to_vec());
    }
}
