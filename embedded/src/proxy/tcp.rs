//! One TCP connection through the proxy: dialled from the client's own address, spliced both ways,
//! half-close and reset passed on as what they are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long an endpoint may take to answer. On loopback an answer takes microseconds; the rest is
/// for a machine that is very busy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Dials `endpoint`, from `source` when that is a loopback address, so that the endpoint sees who
/// calls.
pub(super) async fn connect(source: IpAddr, endpoint: SocketAddr) -> io::Result<TcpStream> {
    let socket = if endpoint.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if source.is_loopback() && source.is_ipv4() == endpoint.is_ipv4() {
        choose_port_late(&socket);
        socket.bind(SocketAddr::new(source, 0))?;
    }
    match timeout(CONNECT_TIMEOUT, socket.connect(endpoint)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Moves bytes both ways until both sides have finished, or one fails.
pub(super) async fn splice(mut client: TcpStream, mut server: TcpStream) {
    for stream in [&client, &server] {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small writes may be late");
        }
    }
    // An end of one direction is passed on by the copy; any error is a reset by one of the two.
    if copy_bidirectional(&mut client, &mut server).await.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Makes the coming close a reset.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a reset becomes a plain close");
    }
}

/// Lets the kernel choose the port when it knows the destination, so that an address has 28,000
/// ports towards every endpoint and not altogether (ip(7), `IP_BIND_ADDRESS_NO_PORT`).
#[cfg(target_os = "linux")]
fn choose_port_late(socket: &TcpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
    if let Err(error) = setsockopt(socket, IpBindAddressNoPort, &true) {
        tracing::debug!(%error, "ports are chosen early");
    }
}

#[cfg(not(target_os = "linux"))]
fn choose_port_late(_: &TcpSocket) {}
