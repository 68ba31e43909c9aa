//! TLS over TCP at the door: what comes after the handshake is what is carried, as it is.

use std::{net::SocketAddr, sync::Arc};

use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    dial::SERVER_NAME,
    io::{self, Secured, Socket},
    unreachable,
};
use crate::transport::{ConnectError, HANDSHAKE, join, tls};

impl Secured {
    /// Whether it wants to join and has shown no certificate.
    pub(super) fn joins(&self) -> bool {
        self.protocol() == Some(join::ALPN)
    }
}

/// Knocks at the door of a gateway.
pub(crate) async fn dial(address: SocketAddr) -> Result<Secured, ConnectError> {
    match tokio::time::timeout(HANDSHAKE, connect(address)).await {
        Ok(result) => result,
        Err(_) => Err(unreachable("the handshake took too long")),
    }
}

async fn connect(address: SocketAddr) -> Result<Secured, ConnectError> {
    let config = tls::joining().map_err(|error| unreachable(&error))?;
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| unreachable(&error))?;
    let dialled = async {
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, Socket::new(tcp)).await
    };
    let no_door = || ConnectError::Refused(join::NO_DOOR.to_owned());
    let secured = Secured::new(dialled.await.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        if tls == Some(&alert) { no_door() } else { io::lost(&error) }
    })?);
    if secured.joins() { Ok(secured) } else { Err(no_door()) }
}
