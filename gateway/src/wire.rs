//! Pure: what two gateways say to each other on a stream before a connection's own bytes.
//!
//! ```text
//! stream, caller to server   [version][length: u16][header]   payload…   (of a service, or to the hub)
//! stream, server to caller   [version][code][length: u8][text] payload…
//! control stream, each way   [kind][length: u16][body] …
//! datagram of a UDP flow      [flow: varint] payload
//! ```
//!
//! The first three bytes of a header mean the same in every version, so that a gateway which does not speak one can
//! still say which it does. Whatever follows the fields that a version knows is left for later ones and ignored.

pub(crate) mod bytes;
mod control;
mod flow;
mod hub;

use landbridge_model::{Hostname, Namespace, PortKey, Protocol, ServiceKey, ServiceName};
use thiserror::Error;

pub(crate) use control::{Control, MAX_CONTROL, decode_control, encode_control};
pub(crate) use flow::{FRAME_PREFIX, MAX_PAYLOAD, decode_datagram, encode_datagram, encode_frame};
pub(crate) use hub::{HubService, encode_hub};

use self::bytes::{Reader, Writer};
use crate::caller::{ObjectName, Source, Workload};

/// The version of headers of TCP connections, and of answers: every gateway reads it.
pub(crate) const VERSION: u8 = 1;
/// The version of headers of UDP flows. The fields are the same; who reads it also knows what a flow is.
const VERSION_FLOWS: u8 = 2;
/// The version of headers of streams to the hub: who reads it also knows that kind.
pub(crate) const VERSION_HUB: u8 = 3;
/// Every version that this build reads.
pub(crate) const SPOKEN: &[u8] = &[VERSION, VERSION_FLOWS, VERSION_HUB];
/// Version and length: what comes before the header's own bytes.
pub(crate) const PREFIX: usize = 3;
/// The longest header: its fields at their longest are 800 bytes, the rest is room for later ones.
pub(crate) const MAX_HEADER: usize = 2048;
/// Version, code and length: what comes before an answer's own text.
pub(crate) const ANSWER_PREFIX: usize = 3;

/// What a stream is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// The service that was called.
    pub(crate) service: ServiceKey,
    /// The endpoint, for headless services.
    pub(crate) endpoint: Option<Hostname>,
    /// The service port; for an endpoint of a headless service its own port.
    pub(crate) port: PortKey,
    /// Who calls.
    pub(crate) source: Source,
    /// The caller's span, where the call has one. Gateways from before there were spans do not write it.
    pub(crate) trace: Option<TraceParent>,
    /// The name of a UDP flow that may go on by another stream: that of its pod's socket, for as long as the flow lasts.
    pub(crate) flow: Option<FlowName>,
}

/// Sixteen bytes by chance: nobody names a flow who was not told of it.
pub(crate) type FlowName = [u8; 16];

/// A span that another one follows, as W3C Trace Context has it: the trace is collected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TraceParent {
    /// The trace's id.
    pub(crate) trace: [u8; 16],
    /// The span's id.
    pub(crate) span: [u8; 8],
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum WireError {
    /// A field holds what it must not.
    #[error("{field} is not valid")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// The length is beyond what any peer has reason to send.
    #[error("{0} bytes are announced, more than a header can hold")]
    TooLong(usize),
    /// The bytes end before the fields do.
    #[error("it ends within {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// A version that this build does not read.
    #[error("version {0} is not spoken here")]
    Version(u8),
}

const KIND_SERVICE: u8 = 1;

/// The version that a header for this protocol is written in: an older peer goes on reading what it knows.
#[must_use]
pub(crate) fn version(protocol: Protocol) -> u8 {
    if protocol == Protocol::Udp { VERSION_FLOWS } else { VERSION }
}

/// Writes a header with its prefix.
#[must_use]
pub(crate) fn encode_header(header: &Header) -> Vec<u8> {
    let mut body = Writer::default();
    body.u8(KIND_SERVICE);
    body.u8(protocol_code(header.port.protocol));
    body.u16(header.port.number.get());
    body.text(header.service.namespace.as_str());
    body.text(header.service.name.as_str());
    body.text(header.endpoint.as_ref().map_or("", |endpoint| endpoint.as_str()));
    let workload = header.source.workload.as_ref();
    body.text(workload.map_or("", |workload| workload.namespace.as_str()));
    body.text(workload.map_or("", |workload| workload.account.as_str()));
    body.text(workload.map_or("", |workload| workload.pod.as_str()));
    body.address(header.source.address);
    body.counted_u8(&header.trace.map(trace_bytes).unwrap_or_default());
    if let Some(flow) = header.flow {
        body.counted_u8(&flow);
    }
    let mut whole = Writer::default();
    whole.u8(version(header.port.protocol));
    whole.counted(&body.finish());
    whole.finish()
}

/// Reads the prefix of a header: how many bytes follow.
///
/// # Errors
/// [`WireError::TooLong`] first, so that no peer makes this one wait for bytes or hold them; then
/// [`WireError::Version`], to be answered with [`Refusal::UnsupportedVersion`].
pub(crate) fn decode_prefix(prefix: [u8; PREFIX]) -> Result<usize, WireError> {
    let length = usize::from(u16::from_be_bytes([prefix[1], prefix[2]]));
    if length > MAX_HEADER {
        return Err(WireError::TooLong(length));
    }
    if SPOKEN.contains(&prefix[0]) { Ok(length) } else { Err(WireError::Version(prefix[0])) }
}

/// What a stream is for, whatever that is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    /// Something that the hub gives.
    Hub(HubService),
    /// A service.
    Service(Header),
}

/// Reads what follows the prefix of a stream whose version is `version`: each version has its kind of streams.
///
/// # Errors
/// [`WireError`] says which field is at fault.
pub(crate) fn decode_request(version: u8, bytes: &[u8]) -> Result<Request, WireError> {
    if version == VERSION_HUB {
        hub::decode_hub(bytes).map(Request::Hub)
    } else {
        decode_header(bytes).map(Request::Service)
    }
}

/// Reads a service's header without its prefix.
///
/// # Errors
/// [`WireError`] says which field is at fault.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<Header, WireError> {
    let mut body = Reader::new(bytes);
    if body.u8("kind")? != KIND_SERVICE {
        return Err(WireError::Field { field: "kind" });
    }
    let protocol = protocol(body.u8("protocol")?)?;
    let number = body.u16("port")?;
    let service = ServiceKey {
        namespace: parsed("namespace", Namespace::parse(body.text("namespace")?))?,
        name: parsed("service", ServiceName::parse(body.text("service")?))?,
    };
    let endpoint = match body.text("endpoint")? {
        "" => None,
        hostname => Some(parsed("endpoint", Hostname::parse(hostname))?),
    };
    let workload =
        [body.text("source namespace")?, body.text("source account")?, body.text("source pod")?];
    Ok(Header {
        service,
        endpoint,
        port: PortKey {
            protocol,
            number: number.try_into().map_err(|_| WireError::Field { field: "port" })?,
        },
        source: Source {
            workload: workload_of(workload)?,
            address: body.address("source address")?,
        },
        trace: trace(&mut body)?,
        flow: flow(&mut body)?,
    })
}

fn trace_bytes(parent: TraceParent) -> Vec<u8> {
    [&parent.trace[..], &parent.span].concat()
}

/// Reads the caller's span. What has another length is of a later version: a call is not refused for what only people see.
fn trace(body: &mut Reader<'_>) -> Result<Option<TraceParent>, WireError> {
    if body.rest().is_empty() {
        return Ok(None);
    }
    let bytes = body.counted_u8("trace")?;
    let parent = bytes
        .split_first_chunk()
        .and_then(|(trace, rest)| Some(TraceParent { trace: *trace, span: rest.try_into().ok()? }));
    Ok(parent)
}

/// Reads a flow's name. One of another length is of a later version, and the flow begins anew.
fn flow(body: &mut Reader<'_>) -> Result<Option<FlowName>, WireError> {
    if body.rest().is_empty() {
        return Ok(None);
    }
    Ok(body.counted_u8("flow")?.try_into().ok())
}

fn workload_of(parts: [&str; 3]) -> Result<Option<Workload>, WireError> {
    if parts == ["", "", ""] {
        return Ok(None);
    }
    let [namespace, account, pod] = parts;
    Ok(Some(Workload {
        namespace: parsed("source namespace", Namespace::parse(namespace))?,
        account: parsed("source account", ObjectName::parse(account))?,
        pod: parsed("source pod", ObjectName::parse(pod))?,
    }))
}

fn parsed<T, E>(field: &'static str, result: Result<T, E>) -> Result<T, WireError> {
    result.map_err(|_| WireError::Field { field })
}

/// The numbers of IANA's protocol registry.
fn protocol_code(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Sctp => 132,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn protocol(code: u8) -> Result<Protocol, WireError> {
    match code {
        6 => Ok(Protocol::Tcp),
        17 => Ok(Protocol::Udp),
        132 => Ok(Protocol::Sctp),
        _ => Err(WireError::Field { field: "protocol" }),
    }
}

/// Why a stream was not connected. Each of them says that nothing was delivered, so that the caller may try
/// elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// No endpoint accepted a connection.
    ConnectFailed,
    /// A policy forbids it.
    Denied,
    /// This gateway is about to go.
    Draining,
    /// The header cannot be read.
    Malformed,
    /// The service is exported but has no ready endpoint for this port.
    NoEndpoint,
    /// This cluster is no hub, or its gateways are not told where what it gives is.
    NotHub,
    /// This cluster does not export that service and port.
    NotExported,
    /// This gateway has just begun and has not read what its cluster exports.
    NotReady,
    /// This gateway carries as much as it can.
    Overloaded,
    /// The header's version is not spoken; these are.
    UnsupportedVersion(Vec<u8>),
}

impl Refusal {
    /// One word for metrics and logs.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::Denied => "denied",
            Self::Draining => "draining",
            Self::Malformed => "malformed",
            Self::NoEndpoint => "no_endpoint",
            Self::NotHub => "not_hub",
            Self::NotExported => "not_exported",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::UnsupportedVersion(_) => "unsupported_version",
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::ConnectFailed => 1,
            Self::Denied => 2,
            // To a caller it is the same that one has not come yet: every version tries another gateway.
            Self::Draining | Self::NotReady => 3,
            Self::Malformed => 4,
            Self::NoEndpoint => 5,
            Self::NotExported => 6,
            Self::Overloaded => 7,
            Self::UnsupportedVersion(_) => 8,
            Self::NotHub => 9,
        }
    }
}

const CODE_CONNECTED: u8 = 0;

/// What the server's gateway answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// An endpoint has accepted; its bytes follow.
    Connected,
    /// Nothing was delivered.
    Refused(Refusal),
}

/// Writes an answer.
#[must_use]
pub(crate) fn encode_answer(answer: &Answer) -> Vec<u8> {
    let (code, text) = match answer {
        Answer::Connected => (CODE_CONNECTED, &[][..]),
        Answer::Refused(Refusal::UnsupportedVersion(spoken)) => (8, &spoken[..]),
        Answer::Refused(refusal) => (refusal.code(), &[][..]),
    };
    let mut whole = Writer::default();
    whole.u8(VERSION);
    whole.u8(code);
    whole.counted_u8(text);
    whole.finish()
}

/// Reads the prefix of an answer: its code and how many bytes follow (at most 255).
#[must_use]
pub(crate) fn answer_prefix(prefix: [u8; ANSWER_PREFIX]) -> (u8, usize) {
    (prefix[1], usize::from(prefix[2]))
}

/// Reads an answer from its code and what follows. A code that this build does not know is a refusal all the same:
/// only [`Answer::Connected`] says that something may be delivered.
#[must_use]
pub(crate) fn decode_answer(code: u8, text: &[u8]) -> Answer {
    Answer::Refused(match code {
        CODE_CONNECTED => return Answer::Connected,
        1 => Refusal::ConnectFailed,
        3 => Refusal::Draining,
        4 => Refusal::Malformed,
        5 => Refusal::NoEndpoint,
        6 => Refusal::NotExported,
        7 => Refusal::Overloaded,
        8 => Refusal::UnsupportedVersion(text.to_vec()),
        9 => Refusal::NotHub,
        _ => Refusal::Denied,
    })
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
