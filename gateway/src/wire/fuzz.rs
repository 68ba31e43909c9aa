//! Whatever comes as a header, mutated from a corpus by a seed: `tests/fuzz/header` holds one stream's first bytes a file, as
//! hexadecimal digits.
//!
//! A run is the same each time, and a second long. `LANDBRIDGE_SEEDS` makes it longer, with seeds that count up; what it
//! finds becomes a file of the corpus.

use std::{fs, path::Path};

use super::*;

/// Headers for each seed.
const HEADERS: usize = 20_000;
/// Seeds of a usual run.
const SEEDS: u64 = 4;

/// Numbers that a seed gives (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/header");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let digits = fs::read_to_string(&path).unwrap();
        let digits = digits.trim();
        let octet = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let bytes = (0..digits.len()).step_by(2).map(octet).collect();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), bytes)
    };
    files.into_iter().map(read).collect()
}

fn mutate(bytes: &mut Vec<u8>, others: &[(String, Vec<u8>)], draw: &mut Draw) {
    for _ in 0..=draw.below(4) {
        let at = draw.below(bytes.len().max(1));
        match (draw.below(7), bytes.get_mut(at)) {
            (0, Some(octet)) => *octet ^= 1 << draw.below(8),
            (1, Some(octet)) => *octet = [0, 1, 4, 6, 17, 63, 0x7f, 0xff][draw.below(8)],
            (2, _) => bytes.truncate(at),
            (3, _) => bytes.insert(at, u8::try_from(draw.below(256)).unwrap()),
            (4, Some(_)) => {
                bytes.remove(at);
            }
            (5, _) => {
                let other = &others[draw.below(others.len())].1;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[draw.below(other.len())..]);
            }
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(4_096);
    }
}

/// No panic; no more is read than a header may have; and what is read is written and read again as the same.
#[track_caller]
fn check(bytes: &[u8], name: &str) -> bool {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return false;
    };
    let length = match decode_prefix(*prefix) {
        Ok(length) => length,
        Err(WireError::TooLong(length)) => {
            assert!(length > MAX_HEADER, "{name}");
            return false;
        }
        Err(WireError::Version(version)) => {
            assert!(!SPOKEN.contains(&version), "{name}");
            return false;
        }
        Err(error) => panic!("{name}: {error}"),
    };
    assert!(length <= MAX_HEADER, "{name}");
    let Some(body) = rest.get(..length) else {
        return false;
    };
    let Ok(request) = decode_request(prefix[0], body) else {
        return false;
    };
    let again = match &request {
        Request::Hub(service) => encode_hub(*service),
        Request::Service(header) => encode_header(header),
    };
    assert!(again.len() <= PREFIX + MAX_HEADER, "{name}: {} bytes", again.len());
    assert_eq!(decode_request(again[0], &again[PREFIX..]), Ok(request), "{name}");
    true
}

/// Every header of the corpus, and what becomes of it when it is damaged.
#[test]
fn headers_of_the_corpus_are_survived_whatever_is_done_to_them() {
    let corpus = corpus();
    assert!(corpus.len() > 20, "the corpus has gone");
    let read = corpus.iter().filter(|(name, bytes)| check(bytes, name)).count();
    assert!((8..corpus.len() - 8).contains(&read), "{read} of the corpus are headers");
    let seeds = std::env::var("LANDBRIDGE_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut read = 0;
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let mut draw = Draw(seed);
        for number in 0..HEADERS {
            let (name, bytes) = &corpus[draw.below(corpus.len())];
            let mut bytes = bytes.clone();
            mutate(&mut bytes, &corpus, &mut draw);
            read += usize::from(check(
                &bytes,
                &format!("seed {seed}, {number}, from {name}: {bytes:02x?}"),
            ));
        }
    }
    assert!(read > 1_000, "the damage must leave something to read: {read}");
}
