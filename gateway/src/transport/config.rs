//! How QUIC and TLS are set.

use std::{sync::Arc, time::Duration};

use landbridge_model::ClusterId;
use quinn::{
    ClientConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    CipherSuite,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    version::TLS13,
};

use super::ALPN;
use crate::{
    credentials::{Credentials, Resolver},
    health::KEEP_ALIVE,
    verifier::{Dialled, Dialling, Trust},
};

/// A connection closes after so much silence: far beyond suspicion, so that a hiccup cuts nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Streams that a peer may have open at once on one connection: calls, not bytes, run out first.
const MAX_STREAMS: u32 = 16_384;
/// Datagrams too large to go as such that may be under way at once: 4 MiB at their largest.
const MAX_ALONE: u32 = 64;
/// Datagrams that may wait for the path, and for this process: 7 ms at 5 Gbit/s. What waits longer is of no use to
/// those who chose UDP.
const DATAGRAMS: usize = 4 << 20;
/// What one stream may have under way: 1 Gbit/s over 32 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// What all streams of a connection may have under way. A stream whose reader has stopped holds up to its own window
/// of it: 64 of those leave the others alone.
const CONNECTION_WINDOW: u32 = 256 << 20;
/// What is kept for sending again: as much as one direction has under way at 10 Gbit/s over 50 ms.
const SEND_WINDOW: u64 = 64 << 20;
/// Handshakes that may wait to be accepted: a thousand members that come back at once.
const MAX_INCOMING: usize = 1024;

/// Taken for the round trip before one was measured: RFC 9002's 333 ms would repeat a lost first packet after a second
/// only, and clusters are rarely that far apart.
const INITIAL_RTT: Duration = Duration::from_millis(100);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// The provider of cryptography. AES with keys of 128 bits comes first: it costs less than with 256, and neither will
/// be broken.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let preferred = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != preferred);
    Arc::new(provider)
}

/// Makes the configuration of each connection.
#[derive(Debug)]
pub(super) struct Configs {
    provider: Arc<CryptoProvider>,
    transport: Arc<TransportConfig>,
    trust: Arc<Trust>,
    credentials: Arc<Credentials>,
}

impl Configs {
    pub(super) fn new(
        credentials: Arc<Credentials>,
        trust: Arc<Trust>,
    ) -> Result<Self, BoxedError> {
        let transport = Arc::new(transport()?);
        Ok(Self { provider: provider(), transport, trust, credentials })
    }

    /// For being dialled: no tickets, no resumption, no early data, so that every connection is judged anew.
    pub(super) fn server(&self) -> Result<ServerConfig, BoxedError> {
        let verifier = Dialling { trust: Arc::clone(&self.trust) };
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(&self.credentials))));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.max_early_data_size = 0;
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        server.transport_config(Arc::clone(&self.transport));
        server.max_incoming(MAX_INCOMING);
        Ok(server)
    }

    /// For dialling `expected`.
    pub(super) fn client(&self, expected: &ClusterId) -> Result<ClientConfig, BoxedError> {
        let verifier = Dialled { trust: Arc::clone(&self.trust), expected: expected.clone() };
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver(Arc::clone(&self.credentials))));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::disabled();
        tls.enable_early_data = false;
        tls.enable_sni = false;
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        client.transport_config(Arc::clone(&self.transport));
        Ok(client)
    }
}

pub(super) fn transport() -> Result<TransportConfig, BoxedError> {
    let mut config = TransportConfig::default();
    config
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
