//! The identity and the roots in force, read again while the gateway runs, and replaced by one pointer swap.
//!
//! Handshakes ask here each time, so that nothing is restarted when a certificate is renewed. A file that cannot be used
//! is told, and what was in force stays so.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use landbridge_model::Timestamp;
use rustls::{
    Error, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{
    core::Core,
    pki::{Identity, PkiError, Texts, Validity, date},
    renewal::{LOOK, Look, Renewal},
    shared::now,
    transport::{Knock, provider},
    verifier::leads_to,
};

/// What is in force.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Counts identities; a link remembers with which it was made.
    pub(crate) serial: u64,
    pub(crate) identity: Identity,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    key: Arc<CertifiedKey>,
}

impl InForce {
    fn new(identity: Identity, serial: u64) -> Result<Self, PkiError> {
        let provider = provider();
        let key =
            CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider);
        let key = key.map_err(|problem| PkiError::Key { problem: problem.to_string() })?;
        let chain = |problem: Error| PkiError::Chain { problem: problem.to_string() };
        let roots = Arc::new(store(&identity.roots).map_err(chain)?);
        let clients = clients(&roots, &provider).map_err(chain)?;
        Ok(Self { serial, identity, roots, clients, key: Arc::new(key) })
    }

    /// Whether the next one may take its place at `now`.
    fn check(&self, now: Timestamp) -> Result<(), PkiError> {
        self.identity.check_time(now)?;
        leads_to(&self.roots, &self.identity.chain, now)
            .map_err(|problem| PkiError::Chain { problem: problem.to_string() })
    }
}

fn store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

fn clients(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|problem| Error::General(problem.to_string()))
}

/// Holds what is in force.
#[derive(Debug)]
pub(crate) struct Credentials {
    current: ArcSwap<InForce>,
    serials: watch::Sender<u64>,
}

impl Credentials {
    /// # Errors
    /// Where the key is another certificate's. Whether the chain leads to the roots, and now, is for peers to say: a
    /// gateway that starts too early or too late tells, and waits for better files.
    pub(crate) fn new(identity: Identity) -> Result<Self, PkiError> {
        let current = ArcSwap::from_pointee(InForce::new(identity, 0)?);
        Ok(Self { current, serials: watch::Sender::new(0) })
    }

    pub(crate) fn load(&self) -> Arc<InForce> {
        self.current.load_full()
    }

    /// Tells of every replacement from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.serials.subscribe()
    }

    /// Puts an identity of the same gateway in force, with its roots.
    ///
    /// # Errors
    /// Why it cannot be used at `now`.
    fn replace(&self, identity: Identity, now: Timestamp) -> Result<(), PkiError> {
        let before = self.load();
        let (of, id) = (before.identity.id(), identity.id());
        if (&of.set, &of.cluster, &of.gateway) != (&id.set, &id.cluster, &id.gateway) {
            return Err(PkiError::Kind {
                what: "the gateway's certificate",
                found: id.to_string(),
                wanted: of.to_string(),
            });
        }
        let same = identity.chain == before.identity.chain;
        let next = InForce::new(identity, if same { before.serial } else { before.serial + 1 })?;
        next.check(now)?;
        let serial = next.serial;
        self.current.store(Arc::new(next));
        self.serials.send_replace(serial);
        Ok(())
    }
}

/// Gives each handshake the certificate in force.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) of: Arc<Credentials>,
    /// Hears what the one who dials asks for, where that is to be known.
    pub(crate) knock: Option<Arc<Knock>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(knock) = &self.knock {
            knock.offers(hello.alpn());
        }
        Some(Arc::clone(&self.of.load().key))
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.of.load().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Keeps the credentials of a gateway fresh.
#[derive(Debug)]
pub(crate) struct Keeper {
    core: Arc<Core>,
    /// None where the identity is as it is.
    renewal: Option<Mutex<Renewal>>,
}

impl Keeper {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        let identity = &core.credentials.load().identity;
        let renewal = identity.source().map(|(source, texts)| {
            let draw = rand::random();
            Mutex::new(Renewal::new(texts.clone(), identity.valid(), source.issues(), draw))
        });
        if let Err(problem) = core.credentials.load().check(now()) {
            tracing::warn!("peers will refuse this gateway: {problem}");
        }
        Self { core: Arc::clone(core), renewal }
    }

    /// Looks at the files over and over, until the gateway ends.
    pub(crate) async fn run(self) {
        loop {
            self.look(now()).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.core.stop.cancelled() => return,
            }
        }
    }

    /// Looks at the files once, and takes what they hold if that can be used at `now`.
    pub(crate) async fn look(&self, now: Timestamp) {
        let current = self.core.credentials.load();
        if let (Some(renewal), Some((source, _))) = (&self.renewal, current.identity.source()) {
            let read = source.read().await;
            let mut renewal = renewal.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(texts) if renewal.look(&texts, now) == Look::Same => renewal.same(),
                Ok(texts) => {
                    let made = source.identity(texts.clone(), now);
                    let valid = made.as_ref().map(Identity::valid).ok();
                    let taken = made.and_then(|made| self.core.credentials.replace(made, now));
                    match (taken, valid) {
                        (Ok(()), Some(valid)) => {
                            self.took(&mut renewal, texts, valid, source.issues());
                        }
                        (Err(problem), _) => self.refused(&mut renewal, Some(texts), &problem),
                        (Ok(()), None) => {}
                    }
                }
                Err(problem) => self.refused(&mut renewal, None, &problem),
            }
            if renewal.reminds(now) {
                let until = date(renewal.until());
                tracing::warn!(
                    until,
                    "the certificate in force ends soon and has not been renewed: peers refuse this gateway then"
                );
            }
        }
        self.count(now);
    }

    fn took(&self, renewal: &mut Renewal, texts: Texts, valid: Validity, issues: bool) {
        renewal.took(texts, valid, issues);
        self.core.metrics.credentials_renewed();
        let until = date(valid.until);
        tracing::info!(until, "new certificates are in force: links are made anew");
    }

    fn refused(
        &self,
        renewal: &mut Renewal,
        texts: Option<Texts>,
        problem: &dyn std::fmt::Display,
    ) {
        if renewal.refused(texts) {
            self.core.metrics.credentials_refused();
            tracing::warn!(
                "new certificate files cannot be used, what was in force stays so: {problem}"
            );
        }
    }

    /// Tells how long what is in force lasts.
    fn count(&self, now: Timestamp) {
        let current = self.core.credentials.load();
        let [leaf, issuers @ ..] = &current.identity.chain[..] else { return };
        let roots = current.identity.roots.iter();
        // Of several roots the one that lasts longest: the others are on their way out.
        let root = roots.filter_map(|root| until(std::slice::from_ref(root))).max();
        let all = [
            ("gateway", until(std::slice::from_ref(leaf))),
            ("member", until(issuers)),
            ("root", root),
        ];
        for (certificate, until) in all {
            if let Some(until) = until {
                self.core.metrics.certificate_expires(certificate, seconds(until, now));
            }
        }
    }
}

fn until(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    Validity::of(chain).ok().map(|valid| valid.until)
}

/// From `now` to `until`, negative once that is over.
pub(crate) fn seconds(until: Timestamp, now: Timestamp) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    if until >= now { whole(until.since(now)) } else { -whole(now.since(until)) }
}
