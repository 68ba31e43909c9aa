//! How QUIC is set.

use std::{sync::Arc, time::Duration};

use landbridge_model::ClusterId;
use quinn_proto::{
    ClientConfig, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use super::join;
use crate::{
    health::KEEP_ALIVE,
    transport::{
        ALPN, CONNECTION_WINDOW, DATAGRAMS, IDLE, MAX_STREAMS, STREAM_WINDOW,
        tls::{BoxedError, Tls},
    },
};

/// Datagrams too large to go as such that may be under way at once: 4 MiB at their largest.
const MAX_ALONE: u32 = 64;
/// What is kept for sending again: as much as one direction has under way at 10 Gbit/s over 50 ms.
const SEND_WINDOW: u64 = 64 << 20;
/// Handshakes that may wait to be accepted: a thousand members that come back at once.
const MAX_INCOMING: usize = 1024;

/// Taken for the round trip before one was measured: RFC 9002's 333 ms would repeat a lost first packet after a second
/// only, and clusters are rarely that far apart.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The largest datagram that is looked for on a path, in bytes of UDP payload: a jumbo frame of 9,000 bytes, as networks of
/// clouds and data centres carry them, without what IPv6 and UDP add. A sixth as many packets cost a sixth as much. Where
/// the path takes no more than Ethernet's usual 1,500, finding that out takes a few more probes.
const MOST_DATAGRAM: u16 = 9_000 - 48;

/// Makes the configuration of each connection.
#[derive(Debug)]
pub(super) struct Configs {
    transport: Arc<TransportConfig>,
    tls: Arc<Tls>,
}

impl Configs {
    pub(super) fn new(tls: Arc<Tls>) -> Result<Self, BoxedError> {
        Ok(Self { transport: Arc::new(transport()?), tls })
    }

    /// For being dialled.
    pub(super) fn server(&self) -> Result<ServerConfig, BoxedError> {
        let tls = QuicServerConfig::try_from(self.tls.server(&[ALPN])?)?;
        let mut server;
        if self.tls.has_door() {
            let transport;
            (server, transport) = join::server(&self.tls, tls)?;
            server.transport_config(Arc::new(transport));
        } else {
            server = ServerConfig::with_crypto(Arc::new(tls));
            server.transport_config(Arc::clone(&self.transport));
        }
        server.max_incoming(MAX_INCOMING);
        Ok(server)
    }

    /// For dialling `expected`.
    pub(super) fn client(&self, expected: &ClusterId) -> Result<ClientConfig, BoxedError> {
        let tls = self.tls.client(expected, ALPN)?;
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        client.transport_config(Arc::clone(&self.transport));
        Ok(client)
    }
}

/// The same for every socket: how much of a datagram is taken.
pub(super) fn endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // Fails only below what QUIC demands of every path.
    let _ = config.max_udp_payload_size(MOST_DATAGRAM);
    config
}

pub(super) fn transport() -> Result<TransportConfig, BoxedError> {
    let mut config = TransportConfig::default();
    let mut sizes = MtuDiscoveryConfig::default();
    sizes.upper_bound(MOST_DATAGRAM);
    config
        .mtu_discovery_config(Some(sizes))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        // One of them is the control stream.
        .max_concurrent_uni_streams(VarInt::from_u32(1 + MAX_ALONE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE.try_into()?))
        .datagram_send_buffer_size(DATAGRAMS)
        .datagram_receive_buffer_size(Some(DATAGRAMS));
    Ok(config)
}
