//! The receiving side: a peer's gateway has opened a flow. Each has a connected socket to one pod, whose answers go
//! back on the link that the flow came by.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use landbridge_model::Protocol;
use tokio::{net::UdpSocket, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{BURST, Listed, READ, Sink, places::Place, readable};
use crate::{
    core::Core,
    flows::{Activity, Ends},
    links::Link,
    metrics::{DatagramCounters, Direction},
    open::About,
    pool::Taken,
    room, serve,
    snapshot::Snapshot,
    spans::CallSpan,
    transport::{RecvStream, SendStream},
    wire::{self, Answer, Header, Refusal},
};

/// How much longer than the caller's gateway this one waits in silence: the end of a flow is the caller's to say.
const SLACK: Duration = Duration::from_secs(5);

/// How a flow ends whose pod does not listen: the system says so, and the pod has failed.
const REFUSED: &str = "refused";

/// Serves a flow whose header has been read.
///
/// # Errors
/// Why it is not served, and the stream on which to say so.
pub(crate) async fn flow(
    core: &Core,
    link: &Arc<Link>,
    header: &Header,
    (about, span): (&About, CallSpan),
    (mut send, recv): (SendStream, RecvStream),
) -> Result<(), (Refusal, SendStream, CallSpan)> {
    let Ok(permit) = Arc::clone(&core.inbound_flows).try_acquire_owned() else {
        core.room.refuses("too many flows of peers");
        return Err((Refusal::Overloaded, send, span));
    };
    let cluster = &about.caller.cluster;
    let place = match core.places.take_over(cluster, header) {
        Some(place) => place,
        None => match connect(core, &core.snapshots.load(), header).await {
            Ok((pod, taken)) => Place::new(header, pod, taken),
            Err(refusal) => return Err((refusal, send, span)),
        },
    };
    let place = Arc::new(place);
    let _kept = core.places.keep(cluster, header, &place);
    let (pod, taken) = (&place.pod, &place.taken);
    let address = taken.key().1;
    core.metrics.flow(Direction::Inbound, "connected");
    let open = core.metrics.open_flow(Direction::Inbound);
    let mut in_table = core.opened.open(About { pod: Some(address), ..about.clone() }, span);
    let activity = Arc::new(Activity::new(Instant::now()));
    let counters = |direction| {
        core.metrics.datagrams(direction, link.peer().cluster.as_str(), in_table.tally())
    };
    let sink = Arc::new(Sink {
        socket: Arc::clone(pod),
        client: None,
        activity: Arc::clone(&activity),
        refused: CancellationToken::new(),
        counters: counters(Direction::Inbound),
    });
    // Datagrams may come as soon as the answer is out.
    let listed = Listed::new(link, send.number(), Arc::clone(&sink));
    let connected = send.write_all(&wire::encode_answer(&Answer::Connected)).await;
    let answers = Answers { core, pod, listed: &listed, activity: &activity };
    let outbound = counters(Direction::Outbound);
    let ended = tokio::select! {
        ended = answers.carry(&outbound) => ended,
        ended = early(core, recv, &sink), if connected.is_ok() => ended,
        () = sink.refused.cancelled() => REFUSED,
        () = place.left.cancelled() => "moved",
        () = silence(&activity) => "silence",
        why = in_table.cut(None) => why,
    };
    match ended {
        REFUSED => serve::failed(core, header, address, 1),
        _ if activity.is_answered() => core.pods.succeeded(taken.key()),
        _ => {}
    }
    in_table.ends(ended);
    let caller = &about.caller;
    tracing::debug!(service = %header.service, %caller, ended, "a flow has ended");
    drop((permit, open));
    Ok(())
}

/// A socket to a ready pod.
///
/// # Errors
/// Why there is none.
pub(super) async fn connect(
    core: &Core,
    snapshot: &Snapshot,
    header: &Header,
) -> Result<(UdpSocket, Taken<(Protocol, SocketAddr)>), Refusal> {
    let exported = snapshot.exports.get(&header.service).ok_or(Refusal::NotExported)?;
    let mut refusal = Refusal::ConnectFailed;
    for address in serve::order(core, snapshot, exported, header)? {
        match socket(core, address).await {
            Ok(socket) => return Ok((socket, core.pods.take(&(Protocol::Udp, address)))),
            Err(error) if room::is_own(&error) => {
                core.room.refuses(&error.to_string());
                refusal = Refusal::Overloaded;
            }
            Err(error) => {
                tracing::info!(service = %header.service, pod = %address, "a pod is not reached: {error}");
            }
        }
    }
    Err(refusal)
}

async fn socket(core: &Core, pod: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match pod {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = core.room.bind(SocketAddr::new(any, 0)).await?;
    socket.connect(pod).await?;
    // Sending without waiting needs the system's word that there is room.
    socket.writable().await?;
    Ok(socket)
}

/// What a pod answers.
struct Answers<'a> {
    core: &'a Core,
    pod: &'a UdpSocket,
    listed: &'a Listed,
    activity: &'a Activity,
}

impl Answers<'_> {
    /// Sends it on until the pod does not listen any more.
    async fn carry(&self, counters: &DatagramCounters) -> &'static str {
        while readable(self.pod).await.is_ok() {
            if READ.with_borrow_mut(|scratch| self.burst(scratch, counters)).is_err() {
                break;
            }
            tokio::task::coop::consume_budget().await;
        }
        REFUSED
    }

    fn burst(&self, scratch: &mut [u8], counters: &DatagramCounters) -> io::Result<()> {
        for _ in 0..BURST {
            match self.pod.try_recv(scratch) {
                Ok(count) => {
                    self.activity.answered(Instant::now());
                    self.listed.send(&scratch[..count], &self.core.metrics, counters);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Brings the datagrams that followed the header to the pod, and waits for the end of the flow.
async fn early(core: &Core, mut recv: RecvStream, sink: &Sink) -> &'static str {
    loop {
        let mut length = [0; wire::FRAME_PREFIX];
        if recv.read_exact(&mut length).await.is_err() {
            return "caller";
        }
        let mut payload = vec![0; usize::from(u16::from_be_bytes(length))];
        if recv.read_exact(&mut payload).await.is_err() {
            return "caller";
        }
        sink.take(&payload, &core.metrics);
    }
}

/// Waits until neither side has said anything for long.
async fn silence(activity: &Activity) {
    loop {
        let ends = activity.ends() + SLACK;
        if ends <= Instant::now() {
            return;
        }
        sleep_until(ends.into()).await;
    }
}
