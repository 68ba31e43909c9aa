//! One UDP flow: a client's datagrams keep their endpoint and have a socket of their own, bound to
//! the client's address, so that answers find back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

/// The largest datagram that IP carries.
pub(super) const MAX_DATAGRAM: usize = 65_535;

/// How long a flow lasts without a datagram: Linux's `nf_conntrack_udp_timeout_stream`, which is
/// what kube-proxy's flows last.
const IDLE: Duration = Duration::from_secs(120);

/// Moves datagrams both ways until the flow is idle, or its sender is dropped. Answers come from
/// `port`, the address that the client wrote to.
pub(super) async fn carry(
    mut datagrams: Receiver<Vec<u8>>,
    client: SocketAddr,
    endpoint: SocketAddr,
    port: &UdpSocket,
) -> io::Result<()> {
    let any = if endpoint.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let kept = client.ip().is_loopback() && client.is_ipv4() == endpoint.is_ipv4();
    let source = if kept { client.ip() } else { any };
    let socket = UdpSocket::bind(SocketAddr::new(source, 0)).await?;
    socket.connect(endpoint).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An endpoint that is not there shows as an error of either call; it may come back.
        let outcome = tokio::select! {
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => socket.send(&datagram).await,
                None => return Ok(()),
            },
            received = socket.recv(&mut buffer) => match received {
                Ok(length) => port.send_to(&buffer[..length], client).await,
                Err(error) => Err(error),
            },
            () = sleep(IDLE) => return Ok(()),
        };
        if let Err(error) = outcome {
            tracing::debug!(%client, %endpoint, %error, "a datagram is lost");
        }
    }
}
