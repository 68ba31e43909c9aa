//! The demo's wide area network: what lies between the clusters, and can be cut.
//!
//! Each cluster has a public address that passes UDP on to its gateway, as a NAT does, and a way to the hub's API.
//! Cutting a cluster off loses every packet from and to it and stalls its way to the hub; nothing is closed and
//! nobody is told, as when a cable is cut.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::layout::{Layout, Place};

/// The largest datagram that QUIC sends over loopback, and some more.
const DATAGRAM: usize = 65_535;

/// Peers that one public address serves at once: every gateway of the largest demo, with room for redials.
const MOST_FLOWS: usize = 64;

/// Which clusters are cut off.
#[derive(Clone, Debug)]
pub(super) struct Wan {
    layout: Layout,
    cut: Arc<Vec<watch::Sender<bool>>>,
}

/// One cluster's end of the network, its addresses taken.
#[derive(Debug)]
pub(super) struct End {
    wan: Wan,
    index: usize,
    gateway: SocketAddr,
    public: Arc<UdpSocket>,
    hub: SocketAddr,
    to_hub: TcpListener,
}

impl Wan {
    /// A network for `count` clusters, none cut off.
    pub(super) fn new(layout: Layout, count: usize) -> Self {
        Self { layout, cut: Arc::new((0..count).map(|_| watch::Sender::new(false)).collect()) }
    }

    /// Loses everything from and to a cluster from now on.
    pub(super) fn cut(&self, index: usize) {
        self.cut[index].send_replace(true);
    }

    /// Passes everything again.
    pub(super) fn restore(&self, index: usize) {
        self.cut[index].send_replace(false);
    }

    fn passes(&self, index: usize, other: IpAddr) -> bool {
        let other = self.layout.cluster_of(other).and_then(|other| self.cut.get(other));
        !*self.cut[index].borrow() && other.is_none_or(|cut| !*cut.borrow())
    }

    /// Takes a cluster's addresses on the network.
    ///
    /// # Errors
    /// The address that could not be taken, and why.
    pub(super) async fn connect(
        &self,
        place: &Place,
        hub: SocketAddr,
    ) -> Result<End, (SocketAddr, io::Error)> {
        let public =
            UdpSocket::bind(place.public()).await.map_err(|error| (place.public(), error))?;
        let to_hub =
            TcpListener::bind(place.to_hub()).await.map_err(|error| (place.to_hub(), error))?;
        Ok(End {
            wan: self.clone(),
            index: place.index,
            gateway: place.link(),
            public: Arc::new(public),
            hub,
            to_hub,
        })
    }
}

impl End {
    /// Passes packets and connections on until told to stop.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut packet = vec![0; DATAGRAM];
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.to_hub.accept() => {
                    if let Ok((member, _)) = accepted {
                        tasks.spawn(stall_on_cut(member, self.hub, self.wan.cut[self.index].subscribe()));
                    }
                }
                received = self.public.recv_from(&mut packet) => {
                    let Ok((length, source)) = received else { continue };
                    if !self.wan.passes(self.index, source.ip()) {
                        continue;
                    }
                    if let Some(flow) = self.flow(&mut flows, source, &mut tasks).await {
                        // A gateway that is not there yet is a lost packet, as on any network.
                        let _ = flow.send(&packet[..length]).await;
                    }
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// The socket that stands for `source` towards the gateway; none where there are too many.
    async fn flow(
        &self,
        flows: &mut HashMap<SocketAddr, Arc<UdpSocket>>,
        source: SocketAddr,
        tasks: &mut JoinSet<()>,
    ) -> Option<Arc<UdpSocket>> {
        if let Some(flow) = flows.get(&source) {
            return Some(Arc::clone(flow));
        }
        if flows.len() >= MOST_FLOWS {
            return None;
        }
        let inside =
            Arc::new(UdpSocket::bind((self.public.local_addr().ok()?.ip(), 0)).await.ok()?);
        inside.connect(self.gateway).await.ok()?;
        flows.insert(source, Arc::clone(&inside));
        tasks.spawn(replies(
            self.wan.clone(),
            self.index,
            Arc::clone(&inside),
            Arc::clone(&self.public),
            source,
        ));
        Some(inside)
    }
}

/// Carries what the gateway sends back to `source`.
async fn replies(
    wan: Wan,
    index: usize,
    inside: Arc<UdpSocket>,
    public: Arc<UdpSocket>,
    source: SocketAddr,
) {
    let mut packet = vec![0; DATAGRAM];
    loop {
        match inside.recv(&mut packet).await {
            Ok(length) if wan.passes(index, source.ip()) => {
                let _ = public.send_to(&packet[..length], source).await;
            }
            Ok(_) => {}
            // An ICMP refusal from a gateway that is not there yet; the next packet finds out anew.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Carries one connection to the hub, and holds its bytes back while the cluster is cut off.
async fn stall_on_cut(member: TcpStream, hub: SocketAddr, cut: watch::Receiver<bool>) {
    let Ok(hub) = TcpStream::connect(hub).await else {
        return;
    };
    // A network passes a packet on when it comes: held back for the next one, an object takes 40 ms more.
    if member.set_nodelay(true).and_then(|()| hub.set_nodelay(true)).is_err() {
        return;
    }
    let (member_read, member_write) = member.into_split();
    let (hub_read, hub_write) = hub.into_split();
    tokio::join!(
        copy_while_whole(member_read, hub_write, cut.clone()),
        copy_while_whole(hub_read, member_write, cut)
    );
}

async fn copy_while_whole(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0
            || cut.wait_for(|cut| !cut).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A network of one cluster on addresses that nothing else in these tests uses.
    async fn network(octet: u8) -> (Wan, Place, UdpSocket, CancellationToken) {
        let layout = Layout::new(octet);
        let place = layout.places(1).remove(0);
        let gateway = UdpSocket::bind(place.link()).await.unwrap();
        let wan = Wan::new(layout, 1);
        let end = wan.connect(&place, layout.hub()).await.unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(end.run(shutdown.clone()));
        (wan, place, gateway, shutdown)
    }

    async fn heard(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut packet = [0; 64];
        let waited =
            tokio::time::timeout(Duration::from_millis(200), socket.recv_from(&mut packet)).await;
        waited.ok().and_then(Result::ok).map(|(length, from)| (packet[..length].to_vec(), from))
    }

    #[tokio::test]
    async fn packets_pass_both_ways_until_the_cluster_is_cut_off() {
        let (wan, place, gateway, shutdown) = network(231).await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer.send_to(b"hello", place.public()).await.unwrap();
        let (packet, flow) = heard(&gateway).await.unwrap();
        assert_eq!(packet, b"hello");
        gateway.send_to(b"welcome", flow).await.unwrap();
        assert_eq!(heard(&peer).await.unwrap(), (b"welcome".to_vec(), place.public()));

        wan.cut(0);
        peer.send_to(b"lost", place.public()).await.unwrap();
        gateway.send_to(b"lost", flow).await.unwrap();
        assert_eq!(heard(&gateway).await, None);
        assert_eq!(heard(&peer).await, None);

        wan.restore(0);
        peer.send_to(b"again", place.public()).await.unwrap();
        assert_eq!(heard(&gateway).await.unwrap(), (b"again".to_vec(), flow));
        shutdown.cancel();
    }
}
