//! How TLS is set, whatever carries it: both ends show their certificates, and nothing of one connection is of use to
//! another.

use std::sync::Arc;

use landbridge_model::ClusterId;
use rustls::{
    CipherSuite, ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    version::TLS13,
};

use crate::{
    credentials::{Credentials, Resolver},
    verifier::{Dialled, Dialling, Trust},
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

/// Makes the configuration of each connection.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    trust: Arc<Trust>,
    credentials: Arc<Credentials>,
}

impl Tls {
    pub(super) fn new(credentials: Arc<Credentials>, trust: Arc<Trust>) -> Self {
        Self { provider: provider(), trust, credentials }
    }

    /// For being dialled: no tickets, no resumption, no early data, so that every connection is judged anew.
    pub(super) fn server(&self, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let verifier = Dialling { trust: Arc::clone(&self.trust) };
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(&self.credentials))));
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
            .with_client_cert_resolver(Arc::new(Resolver(Arc::clone(&self.credentials))));
        tls.alpn_protocols = vec![protocol.to_vec()];
        tls.resumption = Resumption::disabled();
        tls.enable_early_data = false;
        tls.enable_sni = false;
        Ok(tls)
    }
}
