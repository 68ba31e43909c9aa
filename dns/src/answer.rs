//! Pure: the answer to a packet, written from a snapshot.
//!
//! An answer that is too large for UDP first loses its additional section. If that is not enough it holds whole
//! records as far as they go and says by TC that there are more: most resolvers then ask over TCP, and those that
//! cannot have some addresses rather than none. A subset is never sent silently.

#[cfg(test)]
mod tests;

use crate::{
    compile::{Answer, CLASS_IN, MAX_UDP, OPT_OCTETS, Records, record_type},
    message::{self, Edns, Odd, Query, Rcode},
    name::MAX_NAME,
    snapshot::{Found, Snapshot},
};

/// What every client takes over UDP (RFC 1035 section 2.3.4).
const SMALLEST_UDP: usize = 512;
/// What the length before a message over TCP can tell (RFC 1035 section 4.2.2).
const MAX_TCP: usize = 65_535;

/// How a packet came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// With a length before it, on a connection.
    Tcp,
    /// As a datagram.
    Udp,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// There is an answer.
    Answered {
        /// How it went.
        rcode: Rcode,
        /// The type that was asked for; none where the question could not be read.
        record_type: Option<u16>,
        /// Whether the answer says that there is more than it holds.
        truncated: bool,
    },
    /// It was a response, and gets none.
    Response,
    /// It was too short to be answered.
    Short,
}

/// Answers `packet` into `out`, which is empty afterwards where there is no answer. `turn` says which of several
/// records comes first, so that callers that take the first one spread over all.
pub(crate) fn respond(
    packet: &[u8],
    snapshot: &Snapshot,
    transport: Transport,
    turn: usize,
    out: &mut Vec<u8>,
) -> Outcome {
    out.clear();
    if let Some(query) = message::plain(packet) {
        return write(&query, snapshot, transport, turn, out);
    }
    match message::odd(packet) {
        Odd::Query(query) => write(&query, snapshot, transport, turn, out),
        Odd::Reject { id, operation, rcode, recursion_desired } => {
            let flags = 0x8000 | u16::from(operation) << 11 | u16::from(recursion_desired) << 8;
            header(out, id, flags | rcode as u16, [0; 4]);
            Outcome::Answered { rcode, record_type: None, truncated: false }
        }
        Odd::Response => Outcome::Response,
        Odd::Short => Outcome::Short,
    }
}

/// What goes behind the question.
enum Body<'a> {
    Empty(Rcode),
    Records(&'a Answer),
    /// The SOA record, as the answer.
    Soa,
    /// The SOA record, beside no answer (RFC 2308 section 2).
    Without(Rcode),
}

fn body<'a>(query: &Query<'_>, name: &[u8], snapshot: &'a Snapshot) -> Body<'a> {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Body::Empty(Rcode::BadVers);
    }
    let transfer = matches!(query.record_type, record_type::AXFR | record_type::IXFR);
    if query.class != CLASS_IN || transfer {
        return Body::Empty(Rcode::Refused);
    }
    match snapshot.find(name, query.record_type) {
        Found::Answer(answer) => Body::Records(answer),
        Found::NoData => Body::Without(Rcode::NoError),
        Found::NoName => Body::Without(Rcode::NxDomain),
        Found::Outside => Body::Empty(Rcode::Refused),
        Found::Soa => Body::Soa,
        Found::Unsynced => Body::Empty(Rcode::ServFail),
    }
}

fn write(
    query: &Query<'_>,
    snapshot: &Snapshot,
    transport: Transport,
    turn: usize,
    out: &mut Vec<u8>,
) -> Outcome {
    let mut lower = [0; MAX_NAME];
    let name = &mut lower[..query.name.len().min(MAX_NAME)];
    name.copy_from_slice(&query.name[..name.len()]);
    name.make_ascii_lowercase();
    let name = &*name;

    header(out, query.id, 0, [0; 4]);
    out.extend_from_slice(&query.name);
    out.extend_from_slice(&query.record_type.to_be_bytes());
    out.extend_from_slice(&query.class.to_be_bytes());
    let room = limit(query.edns, transport) - query.edns.map_or(0, |_| OPT_OCTETS);

    let (mut counts, mut truncated) = ([1, 0, 0, 0], false);
    let rcode = match body(query, name, snapshot) {
        Body::Empty(rcode) => rcode,
        Body::Records(answer) => {
            (counts[1], truncated) = records(&answer.records, turn, room, out);
            let additional = &answer.additional;
            if !truncated && out.len() + additional.bytes.len() <= room {
                out.extend_from_slice(&additional.bytes);
                counts[3] = count(additional.len());
            }
            Rcode::NoError
        }
        Body::Soa => {
            snapshot.soa.write(0, out);
            counts[1] = 1;
            Rcode::NoError
        }
        Body::Without(rcode) => {
            snapshot.soa.write(snapshot.zone_at(name).unwrap_or(0), out);
            counts[2] = 1;
            rcode
        }
    };
    if let Some(edns) = query.edns {
        opt(edns, rcode, out);
        counts[3] += 1;
    }
    // An answer for the zone is authoritative; one that it is not known, or not ours, is not.
    let authoritative = matches!(rcode, Rcode::NoError | Rcode::NxDomain);
    let flags = 0x8000
        | u16::from(authoritative) << 10
        | u16::from(truncated) << 9
        | u16::from(query.recursion_desired) << 8
        | (rcode as u16 & 0xf);
    set_header(out, flags, counts);
    Outcome::Answered { rcode, record_type: Some(query.record_type), truncated }
}

/// The octets that an answer may have.
fn limit(edns: Option<Edns>, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => MAX_TCP,
        Transport::Udp => edns.map_or(SMALLEST_UDP, |edns| usize::from(edns.payload).min(MAX_UDP)),
    }
}

/// Writes records beginning with the one whose turn it is; as many as there is room for. Tells how many those are,
/// and whether there are more.
fn records(records: &Records, turn: usize, room: usize, out: &mut Vec<u8>) -> (u16, bool) {
    let all = records.len();
    let first = turn.checked_rem(all).unwrap_or(0);
    let mut written = 0;
    for index in (first..all).chain(0..first) {
        let record = records.record(index);
        if out.len() + record.len() > room {
            return (written, true);
        }
        out.extend_from_slice(record);
        written += 1;
    }
    (written, false)
}

fn header(out: &mut Vec<u8>, id: u16, flags: u16, counts: [u16; 4]) {
    for number in [id, flags].into_iter().chain(counts) {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Fills in what is only known at the end of an answer that began with a header.
fn set_header(out: &mut [u8], flags: u16, counts: [u16; 4]) {
    let numbers = std::iter::once(flags).chain(counts);
    for (place, number) in out[2..].chunks_exact_mut(2).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// Our OPT record: our own payload size and version, the sender's DO bit, and what the header has no room for of
/// the response code (RFC 6891 section 6.1.3).
fn opt(edns: Edns, rcode: Rcode, out: &mut Vec<u8>) {
    out.push(0);
    let size = count(MAX_UDP);
    let flags = u16::from(edns.dnssec_ok) << 15;
    let high = u16::from(rcode as u8 >> 4) << 8;
    for number in [record_type::OPT, size, high, flags, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A number of records, each of which takes more than one octet of a message that 16 bits count.
fn count(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
