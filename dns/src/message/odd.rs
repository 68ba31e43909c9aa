//! Pure: packets that are not the plain question, read by `hickory-proto`.
//!
//! What its decoder must not see is turned away before it: packets too short for a header, responses, and numbers
//! of questions that no one asks, for each of which it would reserve memory.

use std::borrow::Cow;

use hickory_proto::{
    op::Message,
    rr::rdata::opt::{EdnsCode, EdnsOption},
};

use super::{Edns, Query, Rcode};
use crate::{compile::CLASS_IN, cookie::Cookie};

/// What to do with a packet.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Odd {
    /// Answer it.
    Query(Query<'static>),
    /// Say that it cannot be answered.
    Reject {
        /// Its id.
        id: u16,
        /// The operation that it asked for.
        operation: u8,
        /// Why not.
        rcode: Rcode,
        /// Whether it asked for recursion.
        recursion_desired: bool,
    },
    /// Say nothing: it is a response. Answering one could start a conversation between two servers.
    Response,
    /// Say nothing: there is not even an id to answer to.
    Short,
}

/// Reads any packet.
pub(crate) fn read(packet: &[u8]) -> Odd {
    let [id1, id2, flags1, _, questions1, questions2, ..] = *packet else {
        return Odd::Short;
    };
    if packet.len() < super::QUESTION_AT {
        return Odd::Short;
    }
    if flags1 & 0x80 != 0 {
        return Odd::Response;
    }
    let reject = |rcode| Odd::Reject {
        id: u16::from_be_bytes([id1, id2]),
        operation: (flags1 >> 3) & 0xf,
        rcode,
        recursion_desired: flags1 & 1 != 0,
    };
    if flags1 & 0x78 != 0 {
        return reject(Rcode::NotImp);
    }
    // RFC 9619: "A DNS message with OPCODE = 0 MUST NOT include a QDCOUNT parameter whose value is greater than 1".
    if !matches!([questions1, questions2], [0, 0 | 1]) {
        return reject(Rcode::FormErr);
    }
    let Ok(message) = Message::from_vec(packet) else {
        return reject(Rcode::FormErr);
    };
    let query = if questions2 == 1 { query(&message) } else { cookie_query(&message) };
    query.map_or_else(|| reject(Rcode::FormErr), Odd::Query)
}

fn edns(message: &Message) -> Option<Edns> {
    let edns = message.edns.as_ref()?;
    let cookie = match edns.options().get(EdnsCode::Cookie) {
        Some(EdnsOption::Unknown(_, data)) => Cookie::read(data),
        _ => Cookie::None,
    };
    Some(Edns {
        cookie,
        dnssec_ok: edns.flags().dnssec_ok,
        payload: edns.max_payload(),
        version: edns.version(),
    })
}

/// RFC 7873 section 5.4: "queries with an empty Question Section (a QDCOUNT of zero (0)), provided that an OPT record is
/// present with a COOKIE option". Without that there is nothing to answer.
fn cookie_query(message: &Message) -> Option<Query<'static>> {
    let edns = edns(message).filter(|edns| edns.cookie != Cookie::None)?;
    Some(Query {
        class: CLASS_IN,
        edns: Some(edns),
        id: message.metadata.id,
        name: Cow::Borrowed(&[]),
        record_type: 0,
        recursion_desired: message.metadata.recursion_desired,
    })
}

fn query(message: &Message) -> Option<Query<'static>> {
    let question = message.queries.first()?;
    let mut name = Vec::new();
    for label in question.name.iter() {
        name.push(u8::try_from(label.len()).ok()?);
        name.extend_from_slice(label);
    }
    name.push(0);
    Some(Query {
        class: question.query_class.into(),
        edns: edns(message),
        id: message.metadata.id,
        name: Cow::Owned(name),
        record_type: question.query_type.into(),
        recursion_desired: message.metadata.recursion_desired,
    })
}
