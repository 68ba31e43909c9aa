//! In a member: its controller finds the hub at a listener of its gateways.
//!
//! Nobody else may go through it. Who connects is known by his address, as callers are; what the hub gives is guarded by its
//! own credentials besides, so that this keeps away those who would only knock.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use landbridge_model::{ClusterId, Namespace};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};

use super::{About, Listener, end};
use crate::{
    copy,
    core::Core,
    forward,
    links::{Link, Load},
    metrics::Direction,
    snapshot::Callers,
    transport::{RecvStream, SendStream},
    wire::{self, Answer, HubService, Refusal},
};

/// Connections of controllers at a time: what two replicas hold, several times over.
pub(super) const MOST_CLIENTS: usize = 256;
/// Those that may wait to be accepted.
const BACKLOG: u32 = 128;
/// The account of controllers.
const CONTROLLER: &str = "landbridge-controller";
/// How long a client waits in all until it is brought to the hub: a link that was lost is dialled anew in that time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one waits of whose pod this gateway has not heard: it may have begun just now.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How long the hub's gateway may take to answer: longer than it takes to find that the API does not.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a stream goes on over a link whose place another has taken. Clients of APIs resume watches at no cost; without
/// an end, one that uses its connections again would hold such a link for as long as its certificate lasts.
const RETIRED: Duration = Duration::from_secs(60);
/// The pause after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds a listener.
pub(super) fn bind(service: HubService, at: SocketAddr) -> io::Result<Listener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    let tcp = socket.listen(BACKLOG)?;
    Ok(Listener { service, address: tcp.local_addr()?, tcp: Mutex::new(Some(tcp)) })
}

/// Starts serving what was bound.
pub(crate) fn start(core: &Arc<Core>) {
    let Some(through) = &core.hub.settings.through else { return };
    for listener in &core.hub.listeners {
        let tcp = listener.tcp.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tcp) = tcp {
            let (core_of_task, hub) = (Arc::clone(core), through.cluster.clone());
            let at = (listener.service, listener.address);
            core.tasks.spawn("hub-listen", listen(core_of_task, tcp, at, hub));
        }
    }
}

async fn listen(
    core: Arc<Core>,
    listener: TcpListener,
    (service, at): (HubService, SocketAddr),
    hub: ClusterId,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = core.draining.cancelled() => return,
        };
        match accepted {
            Ok((tcp, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                let about = About::new(Direction::Outbound, service, &hub, Some(from));
                client(&core, tcp, about, (at.ip(), from.ip()));
            }
            Err(error) => {
                core.metrics.accept_failures.inc();
                core.room.cannot_accept(&error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Takes somebody in who has connected from one address to another.
fn client(core: &Arc<Core>, tcp: TcpStream, about: About, (at, from): (IpAddr, IpAddr)) {
    let permit = match core.room.is_kept(&tcp) {
        false => Arc::clone(&core.hub.clients).try_acquire_owned().ok(),
        true => None,
    };
    let Some(permit) = permit else {
        core.room.refuses("too many connections to the hub");
        about.refused(core, Refusal::Overloaded.reason());
        return copy::reset(tcp);
    };
    let core_of_task = Arc::clone(core);
    core.tasks.spawn("hub-client", async move {
        let _permit = permit;
        let stop = core_of_task.stop.clone();
        tokio::select! {
            () = serve(&core_of_task, tcp, &about, (at, from)) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn serve(core: &Core, tcp: TcpStream, about: &About, (at, from): (IpAddr, IpAddr)) {
    copy::prepare(&tcp);
    let deadline = Instant::now() + PATIENCE;
    if !may_pass(core, at, from).await {
        tracing::warn!(
            client = %from, service = about.service.as_str(),
            "a connection to the hub is refused: it is not this cluster's controller"
        );
        about.refused(core, Refusal::Denied.reason());
        return copy::reset(tcp);
    }
    match open(core, about, deadline).await {
        Ok(Opened { link, send, recv, load }) => {
            let parts = async {
                tokio::select! {
                    () = async {
                        link.going.cancelled().await;
                        tokio::time::sleep(RETIRED).await;
                    } => "moved",
                    () = core.draining.cancelled() => Refusal::Draining.reason(),
                }
            };
            about.carry(core, tcp, (send, recv), parts).await;
            drop(load);
        }
        Err(reason) => {
            tracing::warn!(hub = %about.peer, service = about.service.as_str(), reason, "the hub is not reached");
            about.refused(core, reason);
            end(&tcp);
        }
    }
}

/// Waits a little for who it is to be known.
async fn may_pass(core: &Core, at: IpAddr, from: IpAddr) -> bool {
    let deadline = Instant::now() + UNKNOWN;
    let mut revisions = core.snapshots.subscribe();
    loop {
        if let Some(may) = passes(&core.snapshots.load().callers, &core.hub.system, at, from) {
            return may;
        }
        if timeout_at(deadline, revisions.changed()).await.is_err() {
            return false;
        }
    }
}

/// Whether somebody at an address may pass: the controller may, and whoever is on this machine where nobody else can come to
/// the listener. None where nobody knows him.
fn passes(callers: &Callers, system: &Namespace, at: IpAddr, from: IpAddr) -> Option<bool> {
    if at.is_loopback() && from.is_loopback() {
        return Some(true);
    }
    let workload = callers.get(&from)?;
    Some(workload.namespace == *system && workload.account.as_str() == CONTROLLER)
}

/// A stream whose other end is what was wanted of the hub.
struct Opened {
    link: Arc<Link>,
    send: SendStream,
    recv: RecvStream,
    load: Load,
}

/// Tries one link after the other, and waits for others as long as there is time.
///
/// # Errors
/// Why the last try failed, as one word.
async fn open(core: &Core, about: &About, deadline: Instant) -> Result<Opened, &'static str> {
    let mut changes = core.links.subscribe();
    // No more than there may be links.
    let mut tried = BTreeSet::new();
    let mut why = "no_link";
    loop {
        let links = core.links.to(&about.peer);
        if let Some(link) = choose(&links, &tried) {
            tried.insert(link.id);
            match attempt(link, about.service, deadline).await {
                Ok(opened) => return Ok(opened),
                Err(reason) => why = reason,
            }
            continue;
        }
        // Whoever says so speaks for all.
        if why == Refusal::NotHub.reason() || why == Refusal::ConnectFailed.reason() {
            return Err(why);
        }
        let reads = |link: &Arc<Link>| link.reads(wire::VERSION_HUB);
        if tried.is_empty() {
            why = if links.is_empty() || links.iter().any(reads) { "no_link" } else { "older" };
        }
        if timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(why);
        }
    }
}

/// The best link that was not tried: one of QUIC, with the fewest streams.
fn choose<'a>(links: &'a [Arc<Link>], tried: &BTreeSet<u64>) -> Option<&'a Arc<Link>> {
    let able = links.iter().filter(|link| {
        let view = link.view();
        let takes = view.state.takes_streams() && !view.draining;
        takes && link.reads(wire::VERSION_HUB) && !tried.contains(&link.id)
    });
    able.min_by_key(|link| (link.view().fallback, link.view().streams))
}

async fn attempt(
    link: &Arc<Link>,
    service: HubService,
    deadline: Instant,
) -> Result<Opened, &'static str> {
    let mut state = link.watch();
    let opened = async {
        let (mut send, mut recv, load) = link.open().await?;
        send.write_all(&wire::encode_hub(service)).await?;
        let answer = forward::answer(&mut recv).await?;
        Ok::<_, crate::transport::StreamError>((answer, send, recv, load))
    };
    tokio::select! {
        opened = opened => match opened {
            Ok((Answer::Connected, send, recv, load)) => {
                Ok(Opened { link: Arc::clone(link), send, recv, load })
            }
            Ok((Answer::Refused(refusal), ..)) => Err(refusal.reason()),
            Err(_) => Err("link_lost"),
        },
        _ = state.wait_for(|state| !state.takes_streams()) => Err(forward::SUSPECT),
        () = tokio::time::sleep_until(deadline.min(Instant::now() + ANSWER)) => Err("timeout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{ObjectName, Workload};

    #[test]
    fn only_the_controller_may_pass() {
        let system = Namespace::parse("landbridge-system").unwrap();
        let [controller, other, homonym, unknown] =
            [1, 2, 3, 4].map(|last| IpAddr::from([10, 244, 0, last]));
        let workload = |namespace: &str, account: &str| Workload {
            namespace: Namespace::parse(namespace).unwrap(),
            account: ObjectName::parse(account).unwrap(),
            pod: ObjectName::parse("pod-0").unwrap(),
        };
        let callers = Callers::from([
            (controller, workload("landbridge-system", CONTROLLER)),
            (other, workload("landbridge-system", "landbridge-dns")),
            (homonym, workload("shop", CONTROLLER)),
        ]);
        let pod = IpAddr::from([10, 244, 0, 9]);
        let passes = |at, from| passes(&callers, &system, at, from);
        assert_eq!(passes(pod, controller), Some(true));
        assert_eq!(passes(pod, other), Some(false));
        assert_eq!(passes(pod, homonym), Some(false));
        assert_eq!(passes(pod, unknown), None);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(passes(loopback, loopback), Some(true));
        assert_eq!(passes(pod, loopback), None, "others are on the machine's loopback too");
    }
}
