//! Pure: the answer to a packet, written from a snapshot.
//!
//! An answer that is too large for UDP first loses its additional section. If that is not enough it holds whole
//! records as far as they go and says by TC that there are more: most resolvers then ask over TCP, and those that
//! cannot have some addresses rather than none. A subset is never sent silently.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::{
    compile::{CLASS_IN, MAX_UDP, OPT_OCTETS, record_type},
    cookie::{Baked, Cookie, Jar, OPTION_OCTETS},
    entry::{Answer, Records},
    message::{self, COOKIE, Edns, Odd, Query, Rcode},
    name::{MAX_NAME, QUESTION_AT},
    snapshot::{Found, Snapshot},
};

/// What every client takes over UDP (RFC 1035 section 2.3.4).
const SMALLEST_UDP: usize = 512;
/// What the length before a message over TCP can tell (RFC 1035 section 4.2.2).
const MAX_TCP: usize = 65_535;
/// Where the counts of records are in a header, and the bit in the octet before them that says that there is more.
const COUNTS: std::ops::Range<usize> = 6..12;
const TRUNCATED: u8 = 0x02;

/// How a packet came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// With a length before it, on a connection.
    Tcp,
    /// As a datagram.
    Udp,
}

/// What is the same for all packets while the server runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether there is somebody to ask about other zones.
    pub(crate) forwards: bool,
    /// Of server cookies.
    pub(crate) jar: Jar,
}

/// What a packet is answered by, besides what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// When it came, in seconds since 1970.
    pub(crate) now: u32,
    /// What is the same for all.
    pub(crate) rules: &'a Rules,
    /// What there is.
    pub(crate) snapshot: &'a Snapshot,
    /// Where it came from.
    pub(crate) source: IpAddr,
    /// How it came.
    pub(crate) transport: Transport,
    /// Which of several records comes first, so that callers that take the first one spread over all.
    pub(crate) turn: usize,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// There is an answer.
    Answered {
        /// Whether the sender has shown that it receives what is sent to its address.
        known: bool,
        /// How it went.
        rcode: Rcode,
        /// The type that was asked for; none where the question could not be read.
        record_type: Option<u16>,
        /// Whether the answer says that there is more than it holds.
        truncated: bool,
    },
    /// Another has the answer, and is to be asked.
    Elsewhere,
    /// It was a response, and gets none.
    Response,
    /// It was too short to be answered.
    Short,
}

/// Has what `packet` asks for brought near. Where several packets have come, all are foreseen before the first is answered:
/// what one costs is to wait for memory, and the processor waits for many places at a time.
pub(crate) fn foresee(packet: &[u8], snapshot: &Snapshot) {
    if let Some(query) = message::plain(packet) {
        let mut lower = [0; MAX_NAME];
        snapshot.foresee(lowered(&query, &mut lower));
    }
}

/// Answers `packet` into `out`, which is empty afterwards where there is no answer.
pub(crate) fn respond(packet: &[u8], asked: Asked<'_>, out: &mut Vec<u8>) -> Outcome {
    out.clear();
    if let Some(query) = message::plain(packet) {
        return write(&query, asked, out);
    }
    match message::odd(packet) {
        Odd::Query(query) => write(&query, asked, out),
        Odd::Reject { id, operation, rcode, recursion_desired } => {
            let flags = 0x8000 | u16::from(operation) << 11 | u16::from(recursion_desired) << 8;
            out.extend_from_slice(&[0; QUESTION_AT]);
            set_header(out, id, flags | rcode as u16, [0; 4]);
            Outcome::Answered { known: false, rcode, record_type: None, truncated: false }
        }
        Odd::Response => Outcome::Response,
        Odd::Short => Outcome::Short,
    }
}

/// Leaves of an answer what its question was, and says that there is more over TCP: no longer than what was asked. An
/// answer without a question is left empty.
pub(crate) fn cut(out: &mut Vec<u8>) {
    let question = out.get(QUESTION_AT..).and_then(message::question_length);
    match (out.get(4..6), question) {
        (Some([0, 1]), Some(length)) => out.truncate(QUESTION_AT + length),
        _ => return out.clear(),
    }
    out[2] |= TRUNCATED;
    out[COUNTS].fill(0);
}

/// What goes behind the question.
enum Body<'a> {
    /// Nothing, but that it is to be asked over TCP.
    Cut,
    /// Nothing, for others are to be asked.
    Elsewhere,
    Empty(Rcode),
    Records(Answer<'a>),
    /// The SOA record, as the answer.
    Soa,
    /// The SOA record, beside no answer (RFC 2308 section 2).
    Without(Rcode),
}

fn body<'a>(query: &Query<'_>, name: &[u8], cookie: Option<Baked>, asked: &Asked<'a>) -> Body<'a> {
    let shown = query.edns.map(|edns| edns.cookie).unwrap_or_default();
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Body::Empty(Rcode::BadVers);
    }
    if shown == Cookie::Malformed {
        return Body::Empty(Rcode::FormErr);
    }
    if asked.rules.jar.required && asked.transport == Transport::Udp {
        match cookie {
            // RFC 7873 section 5.2.3 lets a server "send a BADCOOKIE error response", by which the client learns ours.
            Some(Baked { known: false, .. }) => return Body::Empty(Rcode::BadCookie),
            // A client without cookies is told to use TCP, over which nobody can pretend to be another.
            None => return Body::Cut,
            Some(_) => {}
        }
    }
    if name.is_empty() {
        return Body::Empty(Rcode::NoError);
    }
    let transfer = matches!(query.record_type, record_type::AXFR | record_type::IXFR);
    if query.class != CLASS_IN || transfer {
        return Body::Empty(Rcode::Refused);
    }
    match asked.snapshot.find(name, query.record_type) {
        Found::Answer(answer) => Body::Records(answer),
        Found::NoData => Body::Without(Rcode::NoError),
        Found::NoName => Body::Without(Rcode::NxDomain),
        // Who does not ask for recursion is not served by it (RFC 1034 section 4.3.1).
        Found::Outside if asked.rules.forwards && query.recursion_desired => Body::Elsewhere,
        Found::Outside => Body::Empty(Rcode::Refused),
        Found::Soa => Body::Soa,
        Found::Unsynced => Body::Empty(Rcode::ServFail),
    }
}

fn write(query: &Query<'_>, asked: Asked<'_>, out: &mut Vec<u8>) -> Outcome {
    let mut lower = [0; MAX_NAME];
    let name = lowered(query, &mut lower);
    let baked =
        query.edns.and_then(|edns| asked.rules.jar.bake(edns.cookie, asked.source, asked.now));

    // The header is filled in at the end.
    out.extend_from_slice(&[0; QUESTION_AT]);
    let mut counts = [0; 4];
    if !name.is_empty() {
        out.extend_from_slice(&query.name);
        out.extend_from_slice(&query.record_type.to_be_bytes());
        out.extend_from_slice(&query.class.to_be_bytes());
        counts[0] = 1;
    }
    let room = limit(query.edns, asked.transport) - opt_octets(query.edns, baked);
    let body = body(query, name, baked, &asked);
    let (rcode, truncated) = match body {
        Body::Cut => (Rcode::NoError, true),
        Body::Elsewhere => {
            out.clear();
            return Outcome::Elsewhere;
        }
        Body::Empty(rcode) => (rcode, false),
        _ => sections(&body, name, room, &asked, &mut counts, out),
    };
    if let Some(edns) = query.edns {
        opt(edns, rcode, baked, out);
        counts[3] += 1;
    }
    // An answer for the zone is authoritative; one that it is not known, or not ours, is not.
    let authoritative = matches!(body, Body::Records(_) | Body::Soa | Body::Without(_));
    let flags = 0x8000
        | u16::from(authoritative) << 10
        | u16::from(truncated) << 9
        | u16::from(query.recursion_desired) << 8
        | u16::from(asked.rules.forwards) << 7
        | (rcode as u16 & 0xf);
    set_header(out, query.id, flags, counts);
    let known = asked.transport == Transport::Tcp || baked.is_some_and(|baked| baked.known);
    Outcome::Answered { known, rcode, record_type: Some(query.record_type), truncated }
}

/// The name that is asked for, as names are kept.
fn lowered<'a>(query: &Query<'_>, lower: &'a mut [u8; MAX_NAME]) -> &'a [u8] {
    let name = &mut lower[..query.name.len().min(MAX_NAME)];
    name.copy_from_slice(&query.name[..name.len()]);
    name.make_ascii_lowercase();
    name
}

/// Writes what the zone has to say, and how many records that is, in as much as there is `room` for.
fn sections(
    body: &Body<'_>,
    name: &[u8],
    room: usize,
    asked: &Asked<'_>,
    counts: &mut [u16; 4],
    out: &mut Vec<u8>,
) -> (Rcode, bool) {
    let soa = &asked.snapshot.soa;
    match body {
        Body::Cut | Body::Elsewhere => (Rcode::NoError, false),
        Body::Empty(rcode) => (*rcode, false),
        Body::Records(answer) => {
            let (written, truncated) = records(answer.records, asked.turn, room, out);
            counts[1] = written;
            let additional = answer.additional;
            if !truncated && out.len() + additional.bytes.len() <= room {
                out.extend_from_slice(additional.bytes);
                counts[3] = count(additional.len());
            }
            (Rcode::NoError, truncated)
        }
        Body::Soa => {
            soa.write(0, out);
            counts[1] = 1;
            (Rcode::NoError, false)
        }
        Body::Without(rcode) => {
            soa.write(asked.snapshot.zone_at(name).unwrap_or(0), out);
            counts[2] = 1;
            (*rcode, false)
        }
    }
}

/// The octets that an answer may have.
pub(crate) fn limit(edns: Option<Edns>, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => MAX_TCP,
        Transport::Udp => edns.map_or(SMALLEST_UDP, |edns| usize::from(edns.payload).min(MAX_UDP)),
    }
}

/// Writes records beginning with the one whose turn it is; as many as there is room for. Tells how many those are,
/// and whether there are more.
fn records(records: Records<'_>, turn: usize, room: usize, out: &mut Vec<u8>) -> (u16, bool) {
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

/// Fills in the header of an answer that began with room for it.
fn set_header(out: &mut [u8], id: u16, flags: u16, [questions, answers, others, more]: [u16; 4]) {
    let numbers = [id, flags, questions, answers, others, more];
    for (place, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
        *place = number.to_be_bytes();
    }
}

/// What our OPT record takes.
fn opt_octets(edns: Option<Edns>, baked: Option<Baked>) -> usize {
    edns.map_or(0, |_| OPT_OCTETS) + baked.map_or(0, |_| OPTION_OCTETS)
}

/// Our OPT record: our own payload size and version, the sender's DO bit, what the header has no room for of the
/// response code (RFC 6891 section 6.1.3), and a cookie where there was one.
fn opt(edns: Edns, rcode: Rcode, baked: Option<Baked>, out: &mut Vec<u8>) {
    out.push(0);
    let size = count(MAX_UDP);
    let flags = u16::from(edns.dnssec_ok) << 15;
    let high = u16::from(rcode as u8 >> 4) << 8;
    let length = baked.map_or(0, |_| count(OPTION_OCTETS));
    for number in [record_type::OPT, size, high, flags, length] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(baked) = baked {
        out.extend_from_slice(&COOKIE.to_be_bytes());
        out.extend_from_slice(&count(baked.both.len()).to_be_bytes());
        out.extend_from_slice(&baked.both);
    }
}

/// A number of records, each of which takes more than one octet of a message that 16 bits count.
fn count(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
