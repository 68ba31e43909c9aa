//! Questions for other zones, asked of the resolvers that were named, whose answers are kept as long as they say.
//!
//! This is for clusters whose pods ask this server for everything. The usual way is the other one round: the cluster's
//! own DNS server forwards one zone here.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
};

use crate::{
    answer::{Outcome, Transport, limit},
    compile::MAX_UDP,
    message::{self, Odd, Rcode},
    name::label_starts,
};

/// The most questions that wait for others at a time; beyond it a question is dropped, and its client asks again. Each
/// takes a few kilobytes and at most [`TIMEOUT`] times [`ATTEMPTS`].
pub(crate) const MAX_ASKING: usize = 512;
/// How long a resolver is waited for: what a client waits for us is five seconds, as a rule.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often each is asked.
const ATTEMPTS: usize = 2;
/// How many answers are kept: some megabytes.
const CACHE: u64 = 4_096;
/// How long answers are kept at most, whatever they say.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A question that came over UDP.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) packet: Vec<u8>,
    pub(crate) reply: Reply,
}

/// Whom to send the answer to, and from where.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) from: SocketAddr,
    pub(crate) socket: Arc<UdpSocket>,
}

/// What another answered, and what became of the question; none where it cannot be read after all.
pub(crate) type Forwarded = Option<(Vec<u8>, Outcome)>;

/// Asks others.
pub(crate) struct Forwarder {
    resolver: TokioResolver,
}

impl Forwarder {
    /// Asks the resolvers at `upstream`.
    ///
    /// # Errors
    /// As the library has it; that there is no source of chance would be one.
    pub(crate) fn new(upstream: &[SocketAddr]) -> Result<Self, NetError> {
        let servers = upstream.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.attempts = ATTEMPTS;
        options.cache_size = CACHE;
        options.negative_max_ttl = Some(LONGEST);
        options.positive_max_ttl = Some(LONGEST);
        options.preserve_intermediates = true;
        options.timeout = TIMEOUT;
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { resolver: builder.build()? })
    }

    /// The answer to `packet`.
    pub(crate) async fn answer(&self, packet: &[u8], transport: Transport) -> Forwarded {
        let query = match message::plain(packet) {
            Some(query) => query,
            None => match message::odd(packet) {
                Odd::Query(query) => query,
                Odd::Reject { .. } | Odd::Response | Odd::Short => return None,
            },
        };
        let labels = label_starts(&query.name).map(|start| {
            let end = start + 1 + usize::from(query.name[start]);
            &query.name[start + 1..end]
        });
        let mut name = Name::from_labels(labels).ok()?;
        name.set_fqdn(true);
        let record_type = RecordType::from(query.record_type);
        let mut reply = Message::new(query.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        let mut question = Query::query(name.clone(), record_type);
        question.set_query_class(DNSClass::IN);
        reply.add_query(question);
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(MAX_UDP).unwrap_or(u16::MAX));
            reply.set_edns(edns);
        }
        fill(&mut reply, self.resolver.lookup(name, record_type).await);
        let room = limit(query.edns, transport);
        let (bytes, truncated) = fitted(reply, room)?;
        let rcode = match bytes[3] & 0xf {
            0 => Rcode::NoError,
            3 => Rcode::NxDomain,
            5 => Rcode::Refused,
            _ => Rcode::ServFail,
        };
        let record_type = Some(query.record_type);
        Some((bytes, Outcome::Answered { known: true, rcode, record_type, truncated }))
    }
}

/// What was found, or was not.
fn fill(reply: &mut Message, found: Result<hickory_resolver::lookup::Lookup, NetError>) {
    match found {
        Ok(lookup) => {
            reply.answers = lookup.answers().to_vec();
            // Time has passed since a kept answer came.
            let left = lookup.valid_until().saturating_duration_since(std::time::Instant::now());
            let left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
            for record in &mut reply.answers {
                record.ttl = record.ttl.min(left);
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            reply.metadata.response_code = none.response_code;
            reply.authorities =
                none.soa.map(|soa| soa.into_record_of_rdata()).into_iter().collect();
        }
        Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused))) => {
            reply.metadata.response_code = ResponseCode::Refused;
        }
        Err(_) => reply.metadata.response_code = ResponseCode::ServFail,
    }
}

/// The bytes of an answer; of one that is too long, that it is.
fn fitted(mut reply: Message, room: usize) -> Option<(Vec<u8>, bool)> {
    let whole = reply.to_vec().ok()?;
    if whole.len() <= room {
        return Some((whole, false));
    }
    reply.metadata.truncation = true;
    reply.answers.clear();
    reply.authorities.clear();
    reply.to_vec().ok().map(|cut| (cut, true))
}
