//! The proxy's tasks: one for each listening port, and from it one for each connection or flow.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::pick::Picker;
use super::table::{Backends, Frontend, Protocol};
use super::{Context, tcp, udp};

/// How long to wait after the operating system refused, so that a lasting error makes no busy loop.
const PAUSE: Duration = Duration::from_millis(20);

/// How many clients one UDP port has at a time. A flow costs a descriptor, of which a process
/// usually may have 1,024, and a buffer of 64 KiB.
const MAX_FLOWS: usize = 512;

/// How many datagrams wait for a flow's task: a burst of a resolver's or a game's client.
const MAX_WAITING: usize = 64;

/// One listening port.
#[derive(Debug)]
pub(super) struct Listener {
    backends: watch::Sender<Arc<Backends>>,
    cancel: CancellationToken,
    task: JoinHandle<Option<()>>,
}

/// What a port's task works with.
struct Port {
    picker: Picker,
    backends: watch::Receiver<Arc<Backends>>,
    context: Context,
}

/// The endpoint of a client's UDP flow, and the way to its task, which ends when this is dropped.
type Flow = (SocketAddr, mpsc::Sender<Vec<u8>>);

impl Listener {
    /// Binds the port and starts its task.
    pub(super) async fn open(
        frontend: Frontend,
        backends: Backends,
        context: &Context,
    ) -> io::Result<Self> {
        let (backends, receiver) = watch::channel(Arc::new(backends));
        let cancel = context.cancel.child_token();
        let Frontend { protocol, address } = frontend;
        let (picker, shared) = (Picker::default(), context.clone());
        let port = Port { picker, backends: receiver, context: shared };
        let (ends, span) = (cancel.clone(), tracing::debug_span!("port", %protocol, %address));
        let task = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await?;
                let accept = ends.run_until_cancelled_owned(port.accept(listener));
                context.tasks.spawn(accept.instrument(span))
            }
            Protocol::Udp => {
                let socket = Arc::new(UdpSocket::bind(address).await?);
                let receive = ends.run_until_cancelled_owned(port.receive(socket));
                context.tasks.spawn(receive.instrument(span))
            }
        };
        Ok(Self { backends, cancel, task })
    }

    /// Sends what comes from now on to other endpoints. Open connections stay where they are.
    pub(super) fn follow(&self, backends: Backends) {
        self.backends.send_replace(Arc::new(backends));
    }

    /// Closes the port. When this returns it is free.
    pub(super) async fn close(self) {
        self.cancel.cancel();
        if self.task.await.is_err() {
            tracing::error!("the task of a port ended by a panic");
        }
    }
}

impl Port {
    /// Chooses an endpoint for a client.
    fn pick(&mut self, client: SocketAddr) -> Option<SocketAddr> {
        let (now, draw) = (self.context.started.elapsed(), rand::random_range(0..1 << 20));
        self.picker.pick(&self.backends.borrow(), client.ip(), now, draw)
    }

    /// Accepts connections for ever.
    async fn accept(mut self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((client, from)) => match self.pick(from) {
                    Some(endpoint) => carry(client, from, endpoint, &self.context),
                    None => tcp::reset(&client),
                },
                Err(error) => {
                    tracing::debug!(%error, "cannot accept");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Receives datagrams for ever.
    async fn receive(mut self, socket: Arc<UdpSocket>) {
        let mut flows = BTreeMap::new();
        let mut buffer = vec![0; udp::MAX_DATAGRAM];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, client)) => {
                    let flow = self.flow(&mut flows, client, &socket);
                    let datagram = buffer[..length].to_vec();
                    if flow.is_none_or(|flow| flow.try_send(datagram).is_err()) {
                        self.context.count(|counters| &mut counters.dropped);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot receive");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The client's flow: the one that it has, if its endpoint still is one, or a new one.
    fn flow(
        &mut self,
        flows: &mut BTreeMap<SocketAddr, Flow>,
        client: SocketAddr,
        socket: &Arc<UdpSocket>,
    ) -> Option<mpsc::Sender<Vec<u8>>> {
        let known = flows.get(&client).filter(|(_, flow)| !flow.is_closed());
        if let Some((endpoint, flow)) = known
            && self.backends.borrow().endpoints.contains(endpoint)
        {
            return Some(flow.clone());
        }
        flows.remove(&client);
        let endpoint = self.pick(client)?;
        if flows.len() >= MAX_FLOWS {
            flows.retain(|_, (_, flow)| !flow.is_closed());
        }
        if flows.len() >= MAX_FLOWS {
            self.context.count(|counters| &mut counters.overflow);
            return None;
        }
        let (flow, datagrams) = mpsc::channel(MAX_WAITING);
        flows.insert(client, (endpoint, flow.clone()));
        let (port, cancel) = (Arc::clone(socket), self.context.cancel.clone());
        let carry = async move {
            let carry = udp::carry(datagrams, client, endpoint, &port);
            if let Some(Err(error)) = cancel.run_until_cancelled(carry).await {
                tracing::debug!(%endpoint, %error, "the endpoint is not reached");
            }
        };
        self.context.tasks.spawn(carry.in_current_span());
        Some(flow)
    }
}

/// Spawns the task of one connection.
fn carry(client: TcpStream, from: SocketAddr, endpoint: SocketAddr, context: &Context) {
    let Ok(place) = Arc::clone(&context.places).try_acquire_owned() else {
        context.count(|counters| &mut counters.overflow);
        return tcp::reset(&client);
    };
    let context = context.clone();
    let tasks = context.tasks.clone();
    let connection = async move {
        let forward = async {
            match tcp::connect(from.ip(), endpoint).await {
                Ok(server) => {
                    context.count(|counters| &mut counters.connections);
                    tcp::splice(client, server).await;
                }
                Err(error) => {
                    context.count(|counters| &mut counters.failed);
                    tracing::debug!(%endpoint, %error, "the endpoint is not reached");
                    tcp::reset(&client);
                }
            }
        };
        context.cancel.run_until_cancelled(forward).await;
        drop(place);
    };
    tasks.spawn(connection.in_current_span());
}
