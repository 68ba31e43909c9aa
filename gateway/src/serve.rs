//! The receiving side: a peer's gateway has opened a stream.
//!
//! A stream reaches a ready endpoint of a Service that this cluster exports, or at the hub what that gives its members, and
//! nothing else, whatever its header says. Which cluster calls stands in the peer's certificate; what the header tells of the caller is believed about
//! that cluster alone.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use landbridge_model::Protocol;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    caller::Caller,
    copy::{self, Counters, Prefix},
    core::Core,
    hub,
    links::Link,
    metrics::{Direction, Open},
    open::{About, Guard},
    pool::Taken,
    proxy::{self, ProxyHeader},
    room,
    route::{
        affinity::Key,
        outlier,
        pods::{self, PodChoice},
    },
    snapshot::{ExportedService, Snapshot},
    spans::CallSpan,
    transport::{RecvStream, SendStream, StreamError},
    udp,
    wire::{self, Answer, Header, Refusal, Request, WireError},
};

/// How long a header may take: it fits one datagram, so only a slow or hostile peer needs more than a round trip.
const HEADER: Duration = Duration::from_secs(5);
/// How long one pod may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// The most pods that are tried for one call: the caller's gateway waits for no more.
const MAX_PODS: usize = 3;

/// Takes a stream of a peer. It is refused with a reason where there are too many, or where this gateway goes.
pub(crate) fn stream(core: &Arc<Core>, link: &Arc<Link>, send: SendStream, recv: RecvStream) {
    let permit = Arc::clone(&core.inbound).try_acquire_owned();
    let refusal = match &permit {
        _ if core.draining.is_cancelled() => Some(Refusal::Draining),
        _ if !core.snapshots.load().synced => Some(Refusal::NotReady),
        Err(_) => {
            core.room.refuses("too many calls of peers");
            Some(Refusal::Overloaded)
        }
        Ok(_) => None,
    };
    let (core, link) = (Arc::clone(core), Arc::clone(link));
    let open = core.metrics.open(Direction::Inbound);
    let stop = core.stop.clone();
    let tasks = Arc::clone(&core);
    tasks.tasks.spawn("stream", async move {
        let served = async {
            match refusal {
                Some(refusal) => {
                    core.metrics.connection(Direction::Inbound, refusal.reason());
                    refuse(&core, send, refusal).await;
                }
                None => serve(&core, &link, send, recv, (permit.ok(), open)).await,
            }
        };
        tokio::select! {
            () = served => {}
            () = stop.cancelled() => {}
        }
    });
}

/// What a connection takes up, until it is dropped.
type Place = (Option<OwnedSemaphorePermit>, Open);

async fn serve(
    core: &Core,
    link: &Arc<Link>,
    send: SendStream,
    mut recv: RecvStream,
    place: Place,
) {
    let peer = link.peer();
    let header = match told_header(core, link, &mut recv).await {
        Ok(Request::Service(header)) => header,
        Ok(Request::Hub(service)) => {
            // These have bounds of their own, and nobody who goes waits for their end.
            drop(place);
            return hub::serve(core, link, service, (send, recv)).await;
        }
        Err(Some(refusal)) => return refuse(core, send, refusal).await,
        Err(None) => return,
    };
    let caller = Caller { cluster: peer.cluster.clone(), source: header.source.clone() };
    let about = about(core, &header, &caller);
    let span = CallSpan::inbound(&core.tracer, header.trace);
    let told = |refusal: &Refusal, span: CallSpan| {
        tracing::info!(
            peer = %peer, service = %header.service, port = %header.port, caller = %caller,
            reason = refusal.reason(), "a stream is refused"
        );
        core.opened.refused(&about, refusal.reason(), span);
        if *refusal == Refusal::Denied {
            core.denied(&header.service, &caller);
        }
    };
    let snapshot = core.snapshots.load();
    let admitted = admit(&snapshot, &header, &caller);
    if header.port.protocol == Protocol::Udp {
        // Flows have bounds of their own.
        drop(place);
        let served = match admitted {
            Ok(()) => udp::flow(core, link, &header, (&about, span), (send, recv)).await,
            Err(refusal) => Err((refusal, send, span)),
        };
        if let Err((refusal, send, span)) = served {
            told(&refusal, span);
            core.metrics.flow(Direction::Inbound, refusal.reason());
            refuse(core, send, refusal).await;
        }
        return;
    }
    let connected = match admitted {
        Ok(()) => connect(core, &snapshot, &header, &caller).await,
        Err(refusal) => Err(refusal),
    };
    let Pod { tcp: pod, address, taken: _taken, _place } = match connected {
        Ok(pod) => pod,
        Err(refusal) => {
            told(&refusal, span);
            core.metrics.connection(Direction::Inbound, refusal.reason());
            return refuse(core, send, refusal).await;
        }
    };
    core.metrics.connection(Direction::Inbound, "connected");
    let open = core.opened.open(About { pod: Some(address), ..about.clone() }, span);
    carry(core, open, &header, &caller, pod, (send, recv)).await;
}

/// Joins a stream and a pod until both have ended, or a policy does not allow it any more.
async fn carry(
    core: &Core,
    mut open: Guard,
    header: &Header,
    caller: &Caller,
    mut pod: TcpStream,
    (mut send, recv): (SendStream, RecvStream),
) {
    let connected = wire::encode_answer(&Answer::Connected);
    // A policy may have changed before the connection was there to be cut.
    if admit(&core.snapshots.load(), header, caller) == Err(Refusal::Denied) {
        open.ends("denied");
        return copy::reset(pod);
    }
    if send.write_all(&connected).await.is_err() {
        open.ends("link_lost");
        return copy::reset(pod);
    }
    let counters = Counters {
        sent: core.metrics.bytes(Direction::Outbound, caller.cluster.as_str()),
        received: core.metrics.bytes(Direction::Inbound, caller.cluster.as_str()),
        tally: open.tally(),
    };
    let ended = tokio::select! {
        ended = copy::both(&mut pod, send, recv, Prefix::default(), &counters) => ended,
        why = open.cut(None) => {
            open.ends(why);
            return copy::reset(pod);
        }
    };
    match ended {
        Ok(send) => {
            open.ends("done");
            core.arrived(send).await;
        }
        Err(error) => {
            tracing::debug!(service = %header.service, caller = %caller, "reset: {error}");
            open.ends("reset");
            copy::reset(pod);
        }
    }
}

/// What is told of a stream of a peer.
fn about(core: &Core, header: &Header, caller: &Caller) -> About {
    About {
        direction: Direction::Inbound,
        caller: caller.clone(),
        service: header.service.clone(),
        port: header.port,
        endpoint: header.endpoint.clone(),
        cluster: Some(core.cluster.clone()),
        pod: None,
    }
}

/// Reads the header of a stream; tells of one that cannot be read.
///
/// # Errors
/// How the stream is refused; not at all where it has ended by itself.
async fn told_header(
    core: &Core,
    link: &Link,
    recv: &mut RecvStream,
) -> Result<Request, Option<Refusal>> {
    let peer = link.peer();
    match timeout(HEADER, read_header(recv)).await {
        Ok(Ok(header)) => Ok(header),
        Ok(Err(HeaderError::Wire(error))) => {
            tracing::warn!(peer = %peer, "a stream is refused: its header is not readable: {error}");
            let refusal = match error {
                WireError::Version(_) => Refusal::UnsupportedVersion(wire::SPOKEN.to_vec()),
                _ => Refusal::Malformed,
            };
            core.metrics.connection(Direction::Inbound, refusal.reason());
            Err(Some(refusal))
        }
        Ok(Err(HeaderError::Stream(error))) => {
            core.metrics.connection(Direction::Inbound, "header_lost");
            tracing::debug!(peer = %peer, "a stream ended before its header: {error}");
            Err(None)
        }
        Err(_) => {
            tracing::warn!(peer = %peer, "a stream is refused: its header did not come");
            core.metrics.connection(Direction::Inbound, "malformed");
            Err(Some(Refusal::Malformed))
        }
    }
}

/// Whether who calls may call that. Own pods that call through this gateway are not asked: what they could call
/// without it is theirs to call.
fn admit(snapshot: &Snapshot, header: &Header, caller: &Caller) -> Result<(), Refusal> {
    let exported = snapshot.exports.get(&header.service).ok_or(Refusal::NotExported)?;
    exported.admit(caller, header.port, header.endpoint.as_ref())
}

pub(crate) async fn refuse(core: &Core, mut send: SendStream, refusal: Refusal) {
    core.metrics.refused(refusal.reason());
    // A peer that does not wait for the answer, or does not take it, does not need it.
    let answer = wire::encode_answer(&Answer::Refused(refusal));
    if let Ok(Ok(())) = timeout(HEADER, send.write_all(&answer)).await {
        send.finish();
    }
}

enum HeaderError {
    Stream(StreamError),
    Wire(WireError),
}

impl From<StreamError> for HeaderError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl From<WireError> for HeaderError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

async fn read_header(recv: &mut RecvStream) -> Result<Request, HeaderError> {
    let mut prefix = [0; wire::PREFIX];
    recv.read_exact(&mut prefix).await?;
    let mut bytes = vec![0; wire::decode_prefix(prefix)?];
    recv.read_exact(&mut bytes).await?;
    Ok(wire::decode_request(prefix[0], &bytes)?)
}

/// A pod that has accepted.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) tcp: TcpStream,
    pub(crate) address: SocketAddr,
    /// The call counts for the pod while this lives.
    pub(crate) taken: Taken<(Protocol, SocketAddr)>,
    /// The connection takes one of those that there may be while this lives.
    _place: OwnedSemaphorePermit,
}

/// Connects to a ready pod for a call, and tells it who calls if its export asks for that.
///
/// # Errors
/// Why not. Nothing was delivered then: where a pod was told who calls it had not seen a byte of the caller's own.
pub(crate) async fn connect(
    core: &Core,
    snapshot: &Snapshot,
    header: &Header,
    caller: &Caller,
) -> Result<Pod, Refusal> {
    let exported = snapshot.exports.get(&header.service).ok_or(Refusal::NotExported)?;
    if header.port.protocol != Protocol::Tcp {
        return Err(Refusal::NotExported);
    }
    let Ok(place) = Arc::clone(&core.to_pods).try_acquire_owned() else {
        core.room.refuses("too many connections to pods");
        return Err(Refusal::Overloaded);
    };
    let mut refusal = Refusal::ConnectFailed;
    for address in order(core, snapshot, exported, header)? {
        // It counts while it is tried: others who choose meanwhile see that.
        let key = (Protocol::Tcp, address);
        let taken = core.pods.take(&key);
        match timeout(CONNECT, core.room.connect(address)).await {
            Ok(Ok(mut tcp)) => {
                copy::prepare(&tcp);
                if !exported.proxy_protocol || introduce(&mut tcp, address, caller).await {
                    core.pods.succeeded(&key);
                    return Ok(Pod { tcp, address, taken, _place: place });
                }
                failed(core, header, address, 1);
            }
            // Another pod may be reached all the same, where it is ports that are missing.
            Ok(Err(error)) if room::is_own(&error) => {
                core.room.refuses(&error.to_string());
                refusal = Refusal::Overloaded;
            }
            Ok(Err(error)) => {
                tracing::info!(service = %header.service, pod = %address, "a pod does not accept: {error}");
                failed(core, header, address, 1);
            }
            Err(_) => {
                tracing::info!(service = %header.service, pod = %address, "a pod does not answer");
                // Each try of one that is gone costs a client two seconds, so that one is enough.
                failed(core, header, address, PODS.failures);
            }
        }
    }
    Err(refusal)
}

/// The pods that a call may be brought to, the best first.
///
/// # Errors
/// Why there are none.
pub(crate) fn order(
    core: &Core,
    snapshot: &Snapshot,
    exported: &ExportedService,
    header: &Header,
) -> Result<Vec<SocketAddr>, Refusal> {
    let found = exported.destinations(header.port, header.endpoint.as_ref())?;
    let keys: Vec<(Protocol, SocketAddr)> =
        found.iter().map(|pod| (header.port.protocol, pod.address)).collect();
    let standings = core.pods.standings(keys.iter(), Instant::now());
    let pods = found.iter().zip(standings).map(|(pod, standing)| PodChoice {
        address: pod.address,
        is_near: pod.zone.is_some() && pod.zone == snapshot.zone.as_ref(),
        load: standing.load,
        out_until: standing.out_until,
        warmth: standing.warmth,
    });
    let source = header.source.address.filter(|_| exported.by_client);
    let affinity = source.map(|address| Key::of(address.ip()));
    let pods: Vec<PodChoice> = pods.collect();
    Ok(pods::order(&pods, affinity, &PODS, MAX_PODS, rand::random))
}

/// When a pod is left out for a while. What a cluster exports is its own to judge: no policy of importers says it.
const PODS: outlier::Settings =
    outlier::Settings { failures: 3, base: Duration::from_secs(10), most: 50 };

/// Counts a pod's failure, and tells where it is left out for that.
pub(crate) fn failed(core: &Core, header: &Header, pod: SocketAddr, count: u32) {
    if core.pods.failed(&(header.port.protocol, pod), count, &PODS) {
        core.metrics.ejected("pod");
        tracing::warn!(service = %header.service, %pod, "a pod fails: others get its calls for a while");
    }
}

/// Tells a pod who calls. Says whether that worked.
async fn introduce(pod: &mut TcpStream, address: SocketAddr, caller: &Caller) -> bool {
    let header = ProxyHeader {
        addresses: caller.source.address.map(|source| (source, address)),
        caller: Some(caller.to_string()),
    };
    pod.write_all(&proxy::encode(&header)).await.is_ok()
}
