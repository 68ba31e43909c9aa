//! The proxy's tasks: one for each listening port, and from it one for each connection or flow.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::pick::Picker;
use super::table::{Backends, Frontend, Protocol};
use super::udp::{Flows, MAX_DATAGRAM};
use super::{Context, tcp, udp};

/// How often idle UDP flows are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How long to wait after the operating system refused, so that a lasting error makes no busy loop.
const PAUSE: Duration = Duration::from_millis(20);

/// One listening port.
#[derive(Debug)]
pub(super) struct Listener {
    backends: watch::Sender<Arc<Backends>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

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
        let span = tracing::debug_span!("port", %protocol, %address);
        let task = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await?;
                let accept = accept(listener, receiver, cancel.clone(), context.clone());
                context.tasks.spawn(accept.instrument(span))
            }
            Protocol::Udp => {
                let socket = Arc::new(UdpSocket::bind(address).await?);
                let receive = receive(socket, receiver, cancel.clone(), context.clone());
                context.tasks.spawn(receive.instrument(span))
            }
        };
        Ok(Self {
            backends,
            cancel,
            task,
        })
    }

    /// Sends what comes from now on to other endpoints. Open connections stay where they are.
    pub(super) fn follow(&self, backends: Backends) {
        self.backends.send_if_modified(|known| {
            let differs = **known != backends;
            if differs {
                *known = Arc::new(backends);
            }
            differs
        });
    }

    /// Closes the port. When this returns it is free.
    pub(super) async fn close(self) {
        self.cancel.cancel();
        if self.task.await.is_err() {
            tracing::error!("the task of a port ended by a panic");
        }
    }
}

/// Accepts connections until cancelled.
async fn accept(
    listener: TcpListener,
    backends: watch::Receiver<Arc<Backends>>,
    cancel: CancellationToken,
    context: Context,
) {
    let mut picker = Picker::default();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, from)) => {
                let backends = Arc::clone(&backends.borrow());
                let now = context.started.elapsed();
                let endpoint =
                    picker.pick(&backends, from.ip(), now, rand::random_range(0..1 << 20));
                carry(client, from, endpoint, &context);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Spawns the task of one connection, or resets it when there is nowhere to go.
fn carry(client: TcpStream, from: SocketAddr, endpoint: Option<SocketAddr>, context: &Context) {
    let Some(endpoint) = endpoint else {
        return tcp::reset(&client);
    };
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

/// Forwards datagrams until cancelled.
async fn receive(
    socket: Arc<UdpSocket>,
    backends: watch::Receiver<Arc<Backends>>,
    cancel: CancellationToken,
    context: Context,
) {
    let mut picker = Picker::default();
    let mut flows = Flows::default();
    let mut sweep = interval(SWEEP);
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
            _ = sweep.tick() => {
                flows.expire(context.started.elapsed());
                continue;
            }
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive");
                sleep(PAUSE).await;
                continue;
            }
        };
        let now = context.started.elapsed();
        let backends = Arc::clone(&backends.borrow());
        if !flows.has(client, &backends) {
            flows.remove(client);
            let draw = rand::random_range(0..1 << 20);
            let endpoint = picker.pick(&backends, client.ip(), now, draw);
            open_flow(&mut flows, client, endpoint, &socket, &context).await;
        }
        if !flows.send(client, &buffer[..length], now) {
            context.count(|counters| &mut counters.dropped);
        }
    }
}

/// Opens a flow and spawns the task that brings its answers back.
async fn open_flow(
    flows: &mut Flows,
    client: SocketAddr,
    endpoint: Option<SocketAddr>,
    socket: &Arc<UdpSocket>,
    context: &Context,
) {
    let Some(endpoint) = endpoint else { return };
    if flows.is_full() {
        context.count(|counters| &mut counters.overflow);
        return;
    }
    match udp::connect(client.ip(), endpoint).await {
        Ok(outgoing) => {
            context.count(|counters| &mut counters.flows);
            let outgoing = Arc::new(outgoing);
            let token = context.cancel.child_token();
            let used = flows.insert(client, endpoint, Arc::clone(&outgoing), &token);
            let (back, started) = (Arc::clone(socket), context.started);
            let answers = async move {
                let answers = udp::answers(&outgoing, &back, client, &used, started);
                token.run_until_cancelled(answers).await;
            };
            context.tasks.spawn(answers.in_current_span());
        }
        Err(error) => tracing::debug!(%endpoint, %error, "the endpoint is not reached"),
    }
}
