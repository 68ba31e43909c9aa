//! Whatever comes, mutated from a corpus by a seed: `tests/fuzz/dns` holds one packet a file, as hexadecimal digits.
//!
//! A run is the same each time, and a second long. `LANDBRIDGE_SEEDS` makes it longer, with seeds that count up; what it
//! finds becomes a file of the corpus.

use std::{fs, path::Path};

use hickory_proto::op::{Message, MessageType};

use super::{
    tests::{asked, rules},
    *,
};
use crate::fixture::{BERLIN, Draw, snapshot};

/// Packets for each seed.
const PACKETS: usize = 5_000;
/// Seeds of a usual run.
const SEEDS: u64 = 4;
/// What a header and an OPT record with a cookie take: the most that an answer without the question has.
const HEADER_AND_OPT: usize = 12 + OPT_OCTETS + OPTION_OCTETS;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/dns");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let digits = fs::read_to_string(&path).unwrap();
        let digits = digits.trim();
        let octet = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let packet = (0..digits.len()).step_by(2).map(octet).collect();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), packet)
    };
    files.into_iter().map(read).collect()
}

fn mutate(packet: &mut Vec<u8>, others: &[(String, Vec<u8>)], draw: &mut Draw) {
    for _ in 0..=draw.below(4) {
        let at = draw.below(packet.len().max(1));
        match (draw.below(7), packet.get_mut(at)) {
            (0, Some(octet)) => *octet ^= 1 << draw.below(8),
            (1, Some(octet)) => *octet = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff][draw.below(8)],
            (2, _) => packet.truncate(at),
            (3, _) => packet.insert(at, u8::try_from(draw.below(256)).unwrap()),
            (4, Some(_)) => {
                packet.remove(at);
            }
            (5, _) => {
                let other = &others[draw.below(others.len())].1;
                packet.truncate(at);
                packet.extend_from_slice(&other[draw.below(other.len())..]);
            }
            _ => packet.extend_from_within(at..),
        }
        packet.truncate(4_096);
    }
}

/// No panic; an answer to a query alone, with the sender's id; whole, no longer than it may be, and without more room
/// taken than answers need, whatever lengths the packet tells; the plain reader and the odd one agree.
#[track_caller]
fn check(packet: &[u8], snapshot: &Snapshot, transport: Transport, name: &str) {
    let rules = rules(false);
    let asked = asked(snapshot, &rules, transport);
    let mut out = Vec::new();
    foresee(packet, snapshot);
    let outcome = respond(packet, asked, &mut out);
    assert!(out.capacity() <= 8_192, "{name}: {} octets for an answer", out.capacity());
    let Outcome::Answered { record_type, .. } = outcome else {
        assert!(out.is_empty(), "{name}: {outcome:?}");
        return;
    };
    assert!(packet[2] & 0x80 == 0 && packet[..2] == out[..2], "{name}");
    let answer = Message::from_vec(&out).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(answer.metadata.message_type, MessageType::Response, "{name}");
    if record_type.is_none() {
        assert!(
            out.len() <= HEADER_AND_OPT,
            "{name}: nothing to say, said in {} octets",
            out.len()
        );
    }
    if transport == Transport::Udp {
        assert!(out.len() <= if answer.edns.is_some() { MAX_UDP } else { SMALLEST_UDP }, "{name}");
    }
    if let Some(query) = message::plain(packet) {
        let mut other = Vec::new();
        match message::odd(packet) {
            Odd::Query(odd) => write(&odd, asked, &mut other),
            odd => panic!("{name}: plain {query:?}, odd {odd:?}"),
        };
        assert_eq!(out, other, "{name}");
    }
}

/// Every packet of the corpus, and what becomes of it when it is damaged.
#[test]
fn packets_of_the_corpus_are_survived_whatever_is_done_to_them() {
    let corpus = corpus();
    assert!(corpus.len() > 20, "the corpus has gone");
    let snapshot =
        snapshot(&format!("import shop/web ClusterSetIP 10.96.7.7 | http=80/TCP\n{BERLIN}"));
    for (name, packet) in &corpus {
        for transport in [Transport::Tcp, Transport::Udp] {
            check(packet, &snapshot, transport, name);
        }
    }
    let seeds = std::env::var("LANDBRIDGE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let mut draw = Draw::new(seed);
        for number in 0..PACKETS {
            let (name, packet) = &corpus[draw.below(corpus.len())];
            let mut packet = packet.clone();
            mutate(&mut packet, &corpus, &mut draw);
            let transport = [Transport::Tcp, Transport::Udp][draw.below(2)];
            check(
                &packet,
                &snapshot,
                transport,
                &format!("seed {seed}, {number}, from {name}: {packet:02x?}"),
            );
        }
    }
}

/// What a forger can have sent to another for each octet that he sends himself, whatever he asks: no more than the
/// largest answer to the smallest question that has it, and with cookies required no more than he sends.
#[test]
fn what_a_forger_gains_is_bounded() {
    let endpoints: Vec<String> = (0..100).map(|pod| format!("db-{pod}@10.96.8.{pod}")).collect();
    let snapshot = snapshot(&format!(
        "import shop/db Headless | pg=5432/TCP\nslice shop/db paris IPv4 | pg=6432/TCP | {}",
        endpoints.join(" ")
    ));
    let mut out = Vec::new();
    for kind in ["A", "AAAA", "SRV", "ANY", "TXT", "NS", "SOA"] {
        for payload in [None, Some(512), Some(65_535)] {
            let question = crate::fixture::packet(&format!("db.shop.svc {kind}"), payload);
            let open = rules(false);
            respond(&question, asked(&snapshot, &open, Transport::Udp), &mut out);
            assert!(out.len() <= payload.map_or(SMALLEST_UDP, |_| MAX_UDP), "{kind}");
            if kind == "ANY" {
                // RFC 8482 section 4: "conserve resources and mitigate amplification".
                assert!(out.len() <= 2 * question.len(), "ANY in {} octets", out.len());
            }
            let closed = rules(true);
            respond(&question, asked(&snapshot, &closed, Transport::Udp), &mut out);
            assert!(out.len() <= question.len(), "{kind}: {} for {}", out.len(), question.len());
        }
    }
}
