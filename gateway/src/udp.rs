//! UDP services: flows of datagrams between clients and pods.
//!
//! ```text
//!  client ─► port ─► flow ─► route ─► link ═ datagrams ═ link ─► sink ─► pod
//! ```
//!
//! A flow is a client's address at one allotted port. Its stream is opened as a connection's is, and lives as long as
//! the flow does: whoever ends it, by silence or for want of room, the other side hears of it there. The datagrams
//! themselves go beside the stream. What cannot go on at once is dropped and counted: whoever chose UDP counts on
//! losses, and prefers them to waiting.

mod client;
mod places;
mod serve;

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use tokio::{io::Interest, net::UdpSocket};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{client::port, places::Places, serve::flow};
use crate::{
    core::Core,
    flows::Activity,
    links::Link,
    metrics::{DatagramCounters, Metrics},
    transport::{Datagrams, Dropped},
    wire,
};

/// How many datagrams one task takes from a socket before others have their turn.
const BURST: usize = 64;

thread_local! {
    /// Belongs to a worker, not to a flow.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; wire::MAX_PAYLOAD].into());
}

/// Where what the peer sends for a flow comes out.
#[derive(Debug)]
pub(crate) struct Sink {
    socket: Arc<UdpSocket>,
    /// The client, on the sending side; the socket of a pod is connected.
    client: Option<SocketAddr>,
    activity: Arc<Activity>,
    /// Cancelled when nobody listens there any more.
    refused: CancellationToken,
    counters: DatagramCounters,
}

impl Sink {
    /// Brings a datagram to the flow's own end, or drops it.
    fn take(&self, payload: &[u8], metrics: &Metrics) {
        let now = Instant::now();
        let sent = if let Some(client) = self.client {
            self.activity.answered(now);
            self.socket.try_send_to(payload, client)
        } else {
            self.activity.asked(now);
            self.socket.try_send(payload)
        };
        match sent {
            Ok(_) => self.counters.count(payload.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                metrics.datagram_dropped("socket_full");
            }
            // What became of the datagram before; this one is not sent then.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                metrics.datagram_dropped("refused");
                self.refused.cancel();
            }
            Err(_) => metrics.datagram_dropped("socket"),
        }
    }
}

/// Waits until there is something to read.
///
/// # Errors
/// What became of a datagram that was sent: nobody listens there.
async fn readable(socket: &UdpSocket) -> io::Result<()> {
    let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
    if ready.is_error() {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        // Somebody else has heard of it.
        let heard = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = socket.try_io(Interest::ERROR, heard);
    }
    Ok(())
}

/// The flows of one link, by number.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// As many as there may be streams.
    sinks: Mutex<HashMap<u64, Arc<Sink>>>,
}

impl Flows {
    fn get(&self, flow: u64) -> Option<Arc<Sink>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).get(&flow).cloned()
    }
}

/// A flow that a link knows; not any more, once this is dropped.
#[derive(Debug)]
struct Listed {
    link: Arc<Link>,
    flow: u64,
}

impl Listed {
    fn new(link: &Arc<Link>, flow: u64, sink: Arc<Sink>) -> Self {
        let mut sinks = link.flows.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.insert(flow, sink);
        drop(sinks);
        Self { link: Arc::clone(link), flow }
    }

    /// Sends a datagram to the other end of the flow, or drops it.
    fn send(&self, payload: &[u8], metrics: &Metrics, counters: &DatagramCounters) {
        let datagram = wire::encode_datagram(self.flow, payload);
        match self.link.connection.send_datagram(&datagram) {
            Ok(()) => counters.count(payload.len()),
            Err(Dropped::Full) => metrics.datagram_dropped("link_full"),
            Err(Dropped::Lost) => metrics.datagram_dropped("link_lost"),
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut sinks = self.link.flows.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.remove(&self.flow);
    }
}

/// Takes what a peer sends for the flows of a link, until the link is gone.
pub(crate) async fn receive(core: Arc<Core>, link: Arc<Link>, mut datagrams: Datagrams) {
    while let Ok(datagram) = datagrams.next().await {
        deliver(&core, &link, datagram);
        tokio::task::coop::consume_budget().await;
    }
}

fn deliver(core: &Core, link: &Link, datagram: Bytes) {
    let Some((flow, payload)) = wire::decode_datagram(datagram) else {
        return core.metrics.datagram_dropped("malformed");
    };
    match link.flows.get(flow) {
        Some(sink) => sink.take(&payload, &core.metrics),
        // Its flow has ended while it was under way.
        None => core.metrics.datagram_dropped("no_flow"),
    }
}
