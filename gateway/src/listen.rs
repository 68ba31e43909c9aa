//! The allotted ports: every one that a slice names is listened on, and for a grace after none does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use landbridge_model::{AllottedPort, Protocol};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, UdpSocket},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{core::Core, forward, snapshot::Route, udp};

/// How long a port that no slice names any more is listened on: kube-proxies take their time to hear of it.
const GRACE: Duration = Duration::from_secs(5);
/// How soon a port that could not be bound is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How soon accepting is tried again after it failed, commonly because descriptors ran out: twice as late each time, up
/// to the longest.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const ACCEPT_RETRY_MOST: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted: a burst of one for each of many pods.
const BACKLOG: i32 = 4096;
/// Asked of the kernel for the datagrams of one port, which gives what `rmem_max` allows: 7 ms at 1 Gbit/s.
const SOCKET_BUFFER: usize = 1 << 20;

/// What a slice allots: TCP and UDP count apart.
type Number = (Protocol, AllottedPort);

/// What is listened on, as others may see it.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    bound: BTreeSet<(Protocol, u16)>,
    /// The newest snapshot whose ports have been tried.
    revision: Option<u64>,
}

impl Listeners {
    /// What is listened on, in order.
    pub(crate) fn bound(&self) -> Vec<(Protocol, u16)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bound.iter().copied().collect()
    }

    /// Whether every port of a snapshot that is complete has been tried.
    pub(crate) fn is_settled(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).revision.is_some()
    }

    fn set(&self, bound: BTreeSet<(Protocol, u16)>, revision: Option<u64>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bound = bound;
        seen.revision = revision.or(seen.revision);
    }
}

struct Listener {
    token: CancellationToken,
    unwanted: Option<Instant>,
}

/// Listens on what the snapshots ask for until the gateway drains.
pub(crate) async fn manage(core: Arc<Core>) {
    let mut bound: HashMap<Number, Listener> = HashMap::new();
    let mut failed: BTreeMap<Number, String> = BTreeMap::new();
    let mut revision = core.snapshots.subscribe();
    loop {
        let snapshot = core.snapshots.load();
        let carried = |protocol| matches!(protocol, Protocol::Tcp | Protocol::Udp);
        let routes = snapshot.routes.iter().filter(|((protocol, _), _)| carried(*protocol));
        let wanted: BTreeMap<Number, &Arc<Route>> =
            routes.map(|(number, route)| (*number, route)).collect();
        failed.retain(|number, _| wanted.contains_key(number));
        for (number, route) in &wanted {
            if !bound.contains_key(number) {
                bind(&core, *number, route, &mut bound, &mut failed);
            }
        }
        let now = Instant::now();
        unbind(&mut bound, &wanted, now);
        let ports = bound.keys().map(|(protocol, port)| (*protocol, port.number())).collect();
        core.listeners.set(ports, snapshot.synced.then_some(snapshot.revision));
        core.metrics.listeners.set(i64::try_from(bound.len()).unwrap_or(i64::MAX));
        let not_carried = snapshot.routes.len() - wanted.len();
        core.metrics.not_carried.set(i64::try_from(not_carried).unwrap_or(i64::MAX));
        let wake = wakeup(&bound, &failed, now);
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(wake) => {}
            () = core.draining.cancelled() => break,
        }
    }
    // Slices may name this gateway for a little longer: what still comes is served for as long as it is there.
    core.stop.cancelled().await;
}

fn bind(
    core: &Arc<Core>,
    number: Number,
    route: &Arc<Route>,
    bound: &mut HashMap<Number, Listener>,
    failed: &mut BTreeMap<Number, String>,
) {
    let (protocol, port) = number;
    let sockets: Result<Vec<Socket>, (IpAddr, io::Error)> = core
        .listen
        .iter()
        .map(|ip| {
            socket(protocol, SocketAddr::new(*ip, port.number())).map_err(|error| (*ip, error))
        })
        .collect();
    let started = sockets.and_then(|sockets| {
        let token = core.stop.child_token();
        for (socket, ip) in sockets.into_iter().zip(&core.listen) {
            start(core, socket, number, route, &token).map_err(|error| {
                token.cancel();
                (*ip, error)
            })?;
        }
        Ok(token)
    });
    match started {
        Ok(token) => {
            failed.remove(&number);
            bound.insert(number, Listener { token, unwanted: None });
        }
        Err((address, error)) => {
            core.metrics.listen_failures.inc();
            let message = error.to_string();
            // The same trouble is told once, not each second.
            if failed.insert(number, message.clone()).as_ref() != Some(&message) {
                let target = &route.target;
                tracing::error!(
                    %address, %protocol, %port, service = %target.service,
                    "cannot listen: {error}; find who holds the port, it is tried again"
                );
            }
        }
    }
}

/// Starts serving the clients that come to a socket.
fn start(
    core: &Arc<Core>,
    socket: Socket,
    (protocol, port): Number,
    route: &Arc<Route>,
    token: &CancellationToken,
) -> io::Result<()> {
    let (core_of_task, route, token) = (Arc::clone(core), Arc::clone(route), token.clone());
    if protocol == Protocol::Udp {
        let socket = UdpSocket::from_std(socket.into())?;
        core.tasks.spawn("port", udp::port(core_of_task, socket, port, route, token));
    } else {
        let listener = TcpListener::from_std(socket.into())?;
        core.tasks.spawn("accept", accept(core_of_task, listener, port, route, token));
    }
    Ok(())
}

fn socket(protocol: Protocol, address: SocketAddr) -> io::Result<Socket> {
    let kind = if protocol == Protocol::Udp { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // Every address is every address: pods have one of each family.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    if protocol == Protocol::Udp {
        // Less is slower, not wrong.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
    } else {
        // A gateway that is started again need not wait for the connections of the one before.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// Ends what has been unwanted for longer than the grace.
fn unbind(
    bound: &mut HashMap<Number, Listener>,
    wanted: &BTreeMap<Number, &Arc<Route>>,
    now: Instant,
) {
    bound.retain(|port, listener| {
        if wanted.contains_key(port) {
            listener.unwanted = None;
            return true;
        }
        let since = *listener.unwanted.get_or_insert(now);
        let keep = now < since + GRACE;
        if !keep {
            listener.token.cancel();
        }
        keep
    });
}

fn wakeup(
    bound: &HashMap<Number, Listener>,
    failed: &BTreeMap<Number, String>,
    now: Instant,
) -> Instant {
    let grace = bound.values().filter_map(|listener| Some(listener.unwanted? + GRACE));
    let retry = (!failed.is_empty()).then(|| now + RETRY);
    // A day is as good as never.
    let never = now + Duration::from_secs(86_400);
    grace.chain(retry).min().unwrap_or(never)
}

/// Accepts clients on one port.
async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    port: AllottedPort,
    mut route: Arc<Route>,
    token: CancellationToken,
) {
    let mut pause = ACCEPT_RETRY;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        match accepted {
            Ok((client, address)) => {
                pause = ACCEPT_RETRY;
                // Through its grace a port means what it last meant.
                if let Some(now) = core.snapshots.load().routes.get(&(Protocol::Tcp, port)) {
                    route = Arc::clone(now);
                }
                forward::client(&core, client, address, port, &route);
            }
            Err(error) => {
                core.metrics.accept_failures.inc();
                core.room.cannot_accept(&error);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = token.cancelled() => return,
                }
                pause = (2 * pause).min(ACCEPT_RETRY_MOST);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> TcpListener {
        let socket = socket(Protocol::Tcp, address.parse().unwrap()).unwrap();
        TcpListener::from_std(socket.into()).unwrap()
    }

    #[tokio::test]
    async fn every_address_is_of_both_families() {
        let any = listener("[::]:0");
        let port = any.local_addr().unwrap().port();
        let v4 = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        let client = tokio::net::TcpStream::connect(v4).await.unwrap();
        let (_, from) = any.accept().await.unwrap();
        assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
        let one = listener("[::1]:0");
        let v4 =
            SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, one.local_addr().unwrap().port()));
        assert!(tokio::net::TcpStream::connect(v4).await.is_err());
    }

    /// Design, "Import": a gateway "listens until no slice names it, and a grace after".
    #[tokio::test(start_paused = true)]
    async fn a_port_is_listened_on_through_its_grace() {
        let port = (Protocol::Tcp, AllottedPort::FIRST);
        let token = CancellationToken::new();
        let listener = Listener { token: token.clone(), unwanted: None };
        let mut bound = HashMap::from([(port, listener)]);
        let route = Arc::new(crate::tests::route());
        let (wanted, nobody) = (BTreeMap::from([(port, &route)]), BTreeMap::new());
        let start = Instant::now();
        let second = Duration::from_secs(1);
        unbind(&mut bound, &nobody, start);
        unbind(&mut bound, &nobody, start + 4 * second);
        assert_eq!(wakeup(&bound, &BTreeMap::new(), start), start + GRACE);
        unbind(&mut bound, &wanted, start + 5 * second);
        unbind(&mut bound, &nobody, start + 6 * second);
        unbind(&mut bound, &nobody, start + 10 * second);
        assert!(!token.is_cancelled(), "it was wanted again in between");
        unbind(&mut bound, &nobody, start + 11 * second);
        assert!(token.is_cancelled() && bound.is_empty());
    }
}
