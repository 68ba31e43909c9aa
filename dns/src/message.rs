//! Pure: what a packet asks.
//!
//! Nearly every packet is one plain question, perhaps with an OPT record: those are read here by hand, in one pass
//! and without an allocation. Everything odd goes to `hickory-proto`, in [`mod@odd`]. Both make the same [`Query`],
//! so that one piece of code answers them, and a test holds them to the same reading.

mod odd;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::{
    compile::record_type,
    cookie::Cookie,
    name::{MAX_LABEL, MAX_NAME},
};

pub(crate) use crate::name::QUESTION_AT;

pub(crate) use odd::{Odd, read as odd};

/// What an answer says of how it went (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Rcode {
    /// Records, or the name exists without such records.
    NoError = 0,
    /// The question cannot be read.
    FormErr = 1,
    /// The zone is not known yet.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// The operation is not one that this server has.
    NotImp = 4,
    /// Not this server's to answer.
    Refused = 5,
    /// A version of EDNS that this server does not speak.
    BadVers = 16,
    /// The cookie is missing or not this server's (RFC 7873 section 8).
    BadCookie = 23,
}

impl Rcode {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::NoError,
        Self::FormErr,
        Self::ServFail,
        Self::NxDomain,
        Self::NotImp,
        Self::Refused,
        Self::BadVers,
        Self::BadCookie,
    ];

    /// As operators write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
            Self::BadCookie => "BADCOOKIE",
        }
    }
}

/// What an OPT record told (RFC 6891).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Edns {
    /// What its first COOKIE option holds.
    pub(crate) cookie: Cookie,
    /// DNSSEC records are wanted. There are none; the bit goes back as it came (RFC 3225 section 3).
    pub(crate) dnssec_ok: bool,
    /// The largest answer over UDP that the sender takes, in octets.
    pub(crate) payload: u16,
    /// The version that the sender speaks.
    pub(crate) version: u8,
}

/// A question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Query<'a> {
    /// The class, IN as a rule.
    pub(crate) class: u16,
    /// What its OPT record told, if it had one.
    pub(crate) edns: Option<Edns>,
    /// By which the sender knows the answer.
    pub(crate) id: u16,
    /// The name in wire form, in the case that it came in. Empty where nothing is asked but for a cookie (RFC 7873
    /// section 5.4).
    pub(crate) name: Cow<'a, [u8]>,
    /// The type of record.
    pub(crate) record_type: u16,
    /// Whether the sender asked for recursion. There is none; the bit goes back as it came.
    pub(crate) recursion_desired: bool,
}

/// The code of the COOKIE option (RFC 7873 section 4).
pub(crate) const COOKIE: u16 = 10;
/// EDNS options that `hickory-proto` looks into, and so may refuse: NSID and client subnet.
const LOOKED_INTO: [u16; 2] = [3, 8];

/// Reads the plain question: a query with one question, nothing else but one OPT record, and nothing behind it.
/// None for everything else, which may still be a good query.
pub(crate) fn plain(packet: &[u8]) -> Option<Query<'_>> {
    let mut rest = packet;
    let id = number(&mut rest)?;
    let flags = number(&mut rest)?;
    // A response, or another operation than QUERY. What the other bits say is of no consequence here.
    if flags & 0xf800 != 0 {
        return None;
    }
    let counts = [(); 4].map(|()| number(&mut rest));
    let [Some(1), Some(0), Some(0), Some(additional @ (0 | 1))] = counts else {
        return None;
    };
    let length = name_length(packet.get(QUESTION_AT..)?)?;
    let (name, mut rest) = rest.split_at_checked(length)?;
    let record_type = number(&mut rest)?;
    let class = number(&mut rest)?;
    let edns = if additional == 1 { Some(opt(&mut rest)?) } else { None };
    rest.is_empty().then_some(Query {
        class,
        edns,
        id,
        name: Cow::Borrowed(name),
        record_type,
        recursion_desired: flags & 0x0100 != 0,
    })
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u16::from_be_bytes(*bytes))
}

/// The length of the question at the beginning of `bytes`: a name, a type and a class.
pub(crate) fn question_length(bytes: &[u8]) -> Option<usize> {
    let length = name_length(bytes)? + 4;
    (length <= bytes.len()).then_some(length)
}

/// The length of an uncompressed name at the beginning of `bytes`.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = usize::from(*bytes.get(at)?);
        at += 1 + label;
        if label > MAX_LABEL || at > MAX_NAME {
            return None;
        }
        if label == 0 {
            return Some(at);
        }
    }
}

/// Reads an OPT record whose options need no looking into.
fn opt(rest: &mut &[u8]) -> Option<Edns> {
    let (0, behind) = rest.split_first().map(|(root, behind)| (*root, behind))? else {
        return None;
    };
    *rest = behind;
    if number(rest)? != record_type::OPT {
        return None;
    }
    // RFC 6891 section 6.2.3: "Values lower than 512 MUST be treated as equal to 512."
    let payload = number(rest)?.max(512);
    let [_extended_rcode, version] = number(rest)?.to_be_bytes();
    let flags = number(rest)?;
    let length = number(rest)?;
    let (mut options, behind) = rest.split_at_checked(usize::from(length))?;
    *rest = behind;
    let mut cookie = Cookie::None;
    while !options.is_empty() {
        let code = number(&mut options)?;
        if LOOKED_INTO.contains(&code) {
            return None;
        }
        let length = number(&mut options)?;
        let (data, behind) = options.split_at_checked(usize::from(length))?;
        options = behind;
        // Of several the first one counts (RFC 7873 section 5.2).
        if code == COOKIE && cookie == Cookie::None {
            cookie = Cookie::read(data);
        }
    }
    Some(Edns { cookie, dnssec_ok: flags & 0x8000 != 0, payload, version })
}
