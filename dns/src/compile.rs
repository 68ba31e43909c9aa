//! Pure: the records of a name as the bytes that answers hold.
//!
//! A message that answers one question has its name at a fixed place, so everything behind the question, pointers
//! included, is known when the snapshot is built. What is left for a query is to copy.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::Ttl,
    entry::{Entry, Section},
    name::{Name, QUESTION_AT, pointer},
    zone::{Data, Node, Zone},
};

/// The record types that are answered or treated in a way of their own (RFC 1035, 2782, 3596, 6891, 8482).
pub(crate) mod record_type {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// The class of the Internet (RFC 1035 section 3.2.4).
pub(crate) const CLASS_IN: u16 = 1;
/// The largest answer over UDP, and what the OPT record says of it: what passes every common path in one piece
/// (RFC 9715).
pub(crate) const MAX_UDP: usize = 1232;
/// The seconds that the schema version may be cached (MCS DNS specification: 28800).
const VERSION_TTL: u32 = 28_800;
/// The SOA's refresh, retry and expiry in seconds. Nothing transfers this zone; they are CoreDNS's.
const SOA_TIMERS: [u32; 3] = [7_200, 1_800, 86_400];
/// Among records of one name all are alike: any weight but zero says so (RFC 2782).
const SRV_WEIGHT: u16 = 100;

/// The seconds that others may keep records, by kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ttls {
    /// Addresses, and what else the zone itself has.
    pub(crate) addresses: u32,
    /// Negative answers (RFC 2308 section 5): the SOA record's own, and its minimum.
    pub(crate) negative: u32,
    /// SRV records.
    pub(crate) ports: u32,
}

impl From<Ttl> for Ttls {
    fn from(ttl: Ttl) -> Self {
        // RFC 2181 section 8: "an unsigned number, with a minimum value of 0, and a maximum value of 2147483647".
        let seconds =
            |ttl: Duration| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).min(u32::MAX >> 1);
        Self {
            addresses: seconds(ttl.addresses),
            negative: seconds(ttl.negative),
            ports: seconds(ttl.ports),
        }
    }
}

/// Compiles what `name` has.
pub(crate) fn entry(name: &Name, node: &Node, ttls: Ttls) -> Entry {
    let mut sections: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for data in &node.records {
        let (record_type, ttl, rdata) = rdata(name, data, ttls);
        let record = record(&pointer(0), record_type, ttl, &rdata);
        sections.entry(record_type).or_default().push(record);
    }
    let answers = sections.into_iter().map(|(record_type, records)| {
        let records = Section::gather(records);
        let additional = if matches!(record_type, record_type::NS | record_type::SRV) {
            additional(name, node, ttls, records.octets())
        } else {
            Section::default()
        };
        (record_type, [records, additional])
    });
    Entry::new(name, &answers.collect::<Vec<_>>())
}

/// The addresses of targets, if they and the answer fit a message over UDP together. Elsewhere they would be bytes
/// that are kept for each port of each large service and hardly ever sent.
fn additional(name: &Name, node: &Node, ttls: Ttls, answer: usize) -> Section {
    let section = Section::gather(node.additional.iter().map(|(target, address)| {
        let data = Data::from(*address);
        let (record_type, ttl, rdata) = rdata(name, &data, ttls);
        record(&target.compressed(name), record_type, ttl, &rdata)
    }));
    let question = name.wire().len() + 4;
    if QUESTION_AT + question + answer + section.octets() + OPT_OCTETS <= MAX_UDP
        && section.len() == node.additional.len()
    {
        section
    } else {
        Section::default()
    }
}

/// What an OPT record without options takes (RFC 6891 section 6.1.2).
pub(crate) const OPT_OCTETS: usize = 11;

fn rdata(question: &Name, data: &Data, ttls: Ttls) -> (u16, u32, Vec<u8>) {
    let ttl = ttls.addresses;
    match data {
        Data::A(address) => (record_type::A, ttl, address.octets().to_vec()),
        Data::Aaaa(address) => (record_type::AAAA, ttl, address.octets().to_vec()),
        Data::Ns(server) => (record_type::NS, ttl, server.compressed(question)),
        Data::Srv { target, port } => {
            // Priority, weight, port. "Name compression is not to be used" for the target (RFC 2782).
            let mut rdata = [0, SRV_WEIGHT, *port].map(u16::to_be_bytes).concat();
            rdata.extend_from_slice(target.wire());
            (record_type::SRV, ttls.ports, rdata)
        }
        Data::Txt(text) => (record_type::TXT, VERSION_TTL, character_string(text)),
    }
}

/// A character string (RFC 1035 section 3.3), cut at the 255 octets that one holds.
fn character_string(text: &str) -> Vec<u8> {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    let mut written = vec![u8::try_from(bytes.len()).unwrap_or(0)];
    written.extend_from_slice(bytes);
    written
}

fn record(owner: &[u8], record_type: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut written = owner.to_vec();
    written.extend_from_slice(&record_type.to_be_bytes());
    written.extend_from_slice(&CLASS_IN.to_be_bytes());
    written.extend_from_slice(&ttl.to_be_bytes());
    // Every rdata here is at most a name and six octets.
    let length = u16::try_from(rdata.len()).unwrap_or(0);
    written.extend_from_slice(&length.to_be_bytes());
    written.extend_from_slice(rdata);
    written
}

/// RFC 8482 section 4.2: the answer to ANY, "a HINFO RR synthesized" in place of everything there is.
pub(crate) fn any(ttl: u32) -> Entry {
    let rdata = [character_string("RFC8482"), character_string("")].concat();
    let records = Section::gather([record(&pointer(0), record_type::HINFO, ttl, &rdata)]);
    Entry::new(&Name::root(), &[(record_type::ANY, [records, Section::default()])])
}

/// The zone's SOA record. Its names end in the zone, which lies at a different place of the question for each name
/// that does not exist, so its three pointers are written when it is sent.
#[derive(Debug)]
pub(crate) struct Soa {
    bytes: Box<[u8]>,
    pointers: [usize; 3],
}

impl Soa {
    /// Compiles it. `serial` should grow from snapshot to snapshot.
    pub(crate) fn new(zone: &Zone, negative: u32, serial: u32) -> Self {
        let apex = zone.apex().clone();
        let mut rdata = zone.name_server().compressed(&apex);
        let first = rdata.len() - 2;
        rdata.extend_from_slice(b"\x0ahostmaster");
        rdata.extend_from_slice(&pointer(0));
        let second = rdata.len() - 2;
        rdata.extend_from_slice(&serial.to_be_bytes());
        for timer in SOA_TIMERS {
            rdata.extend_from_slice(&timer.to_be_bytes());
        }
        rdata.extend_from_slice(&negative.to_be_bytes());
        let bytes = record(&pointer(0), record_type::SOA, negative, &rdata);
        let start = bytes.len() - rdata.len();
        Self { bytes: bytes.into(), pointers: [0, start + first, start + second] }
    }

    /// Writes it behind a question in whose name the zone begins at `zone_at`.
    pub(crate) fn write(&self, zone_at: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for at in self.pointers {
            out[start + at..start + at + 2].copy_from_slice(&pointer(zone_at));
        }
    }
}
