//! How TLS is set, whatever carries it: both ends show their certificates, and nothing of one connection is of use to
//! another.
//!
//! Who has no certificate yet may knock at the door, where there is one: it offers that protocol and no other, which is known
//! before a certificate is asked for. Whether one is asked for is settled for each connection by itself, so that whoever
//! names a protocol of links, beside that of the door or without it, has to show one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use landbridge_model::ClusterId;
use rustls::{
    CipherSuite, ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    version::TLS13,
};

use super::join;
use crate::{
    credentials::{Credentials, Resolver},
    verifier::{Dialled, Dialling, Trust, Whoever},
};

pub(super) type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// The provider of cryptography. AES with keys of 128 bits comes first: it costs less than with 256, and neither will
/// be broken.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let preferred = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != preferred);
    Arc::new(provider)
}

/// What one connection that comes in has asked for.
#[derive(Debug, Default)]
pub(crate) struct Knock(AtomicBool);

impl Knock {
    /// Takes down the protocols that it offers. Of two hellos the later one counts, as it does for the protocol.
    pub(crate) fn offers<'a>(&self, protocols: Option<impl Iterator<Item = &'a [u8]>>) {
        let mut protocols = protocols.into_iter().flatten();
        let joins = protocols.next() == Some(join::ALPN) && protocols.next().is_none();
        self.0.store(joins, Ordering::Relaxed);
    }

    /// Whether it wants to join and nothing else: then it need not say who it is.
    pub(crate) fn joins(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the configuration of each connection.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    trust: Arc<Trust>,
    credentials: Arc<Credentials>,
    has_door: bool,
}

impl Tls {
    pub(super) fn new(credentials: Arc<Credentials>, trust: Arc<Trust>, has_door: bool) -> Self {
        Self { provider: provider(), trust, credentials, has_door }
    }

    /// Whether those may knock that have no certificate yet.
    pub(super) fn has_door(&self) -> bool {
        self.has_door
    }

    /// For being dialled by those who show a certificate.
    pub(super) fn server(&self, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        self.dialled(protocols, None)
    }

    /// The same with the door, where there is one. For one connection and no other.
    pub(super) fn server_of_one(&self, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        if self.has_door {
            self.dialled(&[protocols, &[join::ALPN]].concat(), Some(Arc::default()))
        } else {
            self.server(protocols)
        }
    }

    /// No tickets, no resumption, no early data, so that every connection is judged anew.
    fn dialled(
        &self,
        protocols: &[&[u8]],
        knock: Option<Arc<Knock>>,
    ) -> Result<ServerConfig, rustls::Error> {
        let verifier = Dialling { trust: Arc::clone(&self.trust), knock: knock.clone() };
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Resolver { of: Arc::clone(&self.credentials), knock }));
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.max_early_data_size = 0;
        Ok(tls)
    }

    /// For dialling `expected`.
    pub(super) fn client(
        &self,
        expected: &ClusterId,
        protocol: &[u8],
    ) -> Result<ClientConfig, rustls::Error> {
        let verifier = Dialled { trust: Arc::clone(&self.trust), expected: expected.clone() };
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver {
                of: Arc::clone(&self.credentials),
                knock: None,
            }));
        dials(&mut tls, protocol);
        Ok(tls)
    }
}

/// For knocking at the door of whoever is there.
pub(super) fn joining() -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = Whoever::new(&provider);
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    dials(&mut tls, join::ALPN);
    Ok(tls)
}

fn dials(tls: &mut ClientConfig, protocol: &[u8]) {
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = false;
}
