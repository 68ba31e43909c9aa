//! Dialling: two connections to the same gateway, made one link.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::StatusCode;
use landbridge_model::ClusterId;
use rustls_pki_types::ServerName;
use tokio::{net::TcpSocket, sync::oneshot};
use tokio_rustls::TlsConnector;

use super::{
    BACK, Connection, DIALLED, DIALLER, Ends, FORWARD, Tcp,
    half::{self, Lost, Tie},
    incoming,
    io::{self, Secured, Socket},
    pair::NAME,
    shared::Shared,
    stream::{RecvStream, SendStream, stream_error},
    unreachable,
};
use crate::transport::{ConnectError, HANDSHAKE, StreamError};

/// The name that is asked for in a handshake. It is not sent and not checked: certificates name SPIFFE ids.
pub(super) const SERVER_NAME: &str = "landbridge";
/// How often a second connection is dialled where a load balancer brings it to another replica than the first: of three
/// replicas none is missed by a hundred dials but one.
const TRIES: usize = 12;

impl Tcp {
    /// Dials a gateway of `expected`, and knows that it has taken this one.
    pub(in crate::transport) async fn dial(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        match tokio::time::timeout(HANDSHAKE, self.connect(address, expected)).await {
            Ok(result) => result,
            Err(_) => Err(unreachable("the handshake took too long")),
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        let (forward, mut back) = tokio::try_join!(
            self.secure(address, expected, FORWARD),
            self.secure(address, expected, BACK),
        )?;
        let mut tries = 1;
        while back.chain() != forward.chain() {
            if tries >= TRIES {
                return Err(unreachable("each connection is brought to another gateway"));
            }
            tries += 1;
            back = self.secure(address, expected, BACK).await?;
        }
        self.tie(forward, back).await
    }

    /// Makes one of the two connections.
    async fn secure(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
        protocol: &[u8],
    ) -> Result<Secured, ConnectError> {
        let config = self.tls.client(expected, protocol).map_err(|error| unreachable(&error))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| unreachable(&error))?;
        let dialled = async {
            let tcp = self.socket(address)?.connect(address).await?;
            TlsConnector::from(Arc::new(config)).connect(name, Socket::new(tcp)).await
        };
        let secured = Secured::new(dialled.await.map_err(|error| io::lost(&error))?);
        match secured.protocol() {
            Some(spoken) if spoken == protocol => Ok(secured),
            _ => Err(ConnectError::Refused("it does not speak HTTP/2 of links".to_owned())),
        }
    }

    /// Of the same address as the one that is dialled, where that is one.
    fn socket(&self, to: SocketAddr) -> std::io::Result<TcpSocket> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let own: IpAddr = self.address.ip();
        if !own.is_unspecified() && own.is_ipv4() == to.is_ipv4() {
            socket.bind(SocketAddr::new(own, 0))?;
        }
        Ok(socket)
    }

    /// Makes one link of both connections, as their dialler.
    async fn tie(&self, forward: Secured, back: Secured) -> Result<Connection, ConnectError> {
        let name = format!("{:0NAME$x}", rand::random::<u128>());
        let (chain, remote) = (forward.chain(), forward.remote_address());
        let remote = remote.map_err(|error| unreachable(&error))?;
        let shared = Arc::new(Shared::new([forward.heard(), back.heard()]));
        let (lost, lost_back) = (Lost(forward.lost()), Lost(back.lost()));
        let (requests, client) = match half::client(forward).await {
            Ok(begun) => begun,
            Err(error) => return Err(lost.by(&error)),
        };
        let server = match half::server(back).await {
            Ok(server) => server,
            Err(error) => return Err(lost_back.by(&error)),
        };
        let (sink, incoming) = incoming(DIALLED, Some(name.clone()));
        let (tied, ties) = oneshot::channel();
        let run = half::run_client(Arc::clone(&shared), client, Some(ties), lost);
        self.tasks.spawn("link-over-tcp", run);
        let run = half::run_server(Arc::clone(&shared), server, sink, None, lost_back);
        self.tasks.spawn("link-over-tcp", run);
        // From here on whatever goes wrong ends both of them.
        let ends = Ends { shared: Arc::clone(&shared), requests, side: DIALLER };
        let tie = async {
            let (send, response) = half::open(&ends.requests, half::TIE, Some(&name)).await?;
            let response = response.await.map_err(|error| stream_error(&error))?;
            if response.status() != StatusCode::OK {
                return Err(StreamError::Reset);
            }
            let send = SendStream::new(send, 0, Arc::clone(&shared));
            Ok(Tie { send, recv: RecvStream::accepted(response.into_body()) })
        };
        match tie.await {
            // Whoever runs the connection may have gone with it.
            Ok(tie) => drop(tied.send(tie)),
            Err(error) => return Err(ends.why(error).await),
        }
        Connection::new(ends, incoming, chain, remote).await
    }
}
