//! How a cluster comes by what makes it a member, over a stream to the set's authority, and keeps it from ending.
//!
//! ```text
//! landbridge join ─► Job landbridge-enroll ─► a gateway of the hub ─► authority: POST /v1/join
//!                         │ writes
//!                         ▼
//!        Secrets landbridge-member, landbridge-hub; Peer of the hub
//!                         ▲ renews
//!                      keeper, in the controller ─► Service landbridge-hub ═ link ═► authority: POST /v1/renew
//! ```

pub(crate) mod ask;
pub(crate) mod job;
pub(crate) mod keeper;
pub(crate) mod kept;
pub(crate) mod rehome;

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use landbridge_api::{landbridge::Peer, wellknown::SYSTEM_NAMESPACE};
use landbridge_gateway::{
    join::{
        authority::{self, Known},
        message::{Answer, JOIN, Join},
        token::Token,
    },
    pki::MemberKey,
};
use landbridge_model::{ClusterId, NetworkName};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};

use self::ask::AskError;
use crate::{init::MANAGER, manifests::MEMBER};

/// How often the authority is asked before somebody has to look: a gateway that has just come may not have found it yet.
const TRIES: u32 = 8;
/// After the first failure; twice that after the next, and so on.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// How long one question may take, with all that the authority writes to the hub before it answers.
const PATIENCE: Duration = Duration::from_secs(40);

/// A cluster that joins.
pub(crate) struct Enrollment<'a> {
    pub(crate) member: &'a Client,
    pub(crate) token: &'a Token,
    pub(crate) cluster: &'a ClusterId,
    pub(crate) network: &'a NetworkName,
    /// Of its namespace `kube-system`.
    pub(crate) uid: &'a str,
}

impl Enrollment<'_> {
    /// Does it, with streams to a gateway of the hub that `dial` opens; how often the cluster has joined.
    ///
    /// # Errors
    /// A hub that is not reached, or refuses; an API that refuses.
    pub(crate) async fn carry_out<S, E>(&self, dial: impl AsyncFn() -> Result<S, E>) -> Result<u64>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        E: fmt::Display,
    {
        let key = self.key().await?;
        let join = Join {
            secret: (&self.token.secret).into(),
            cluster: self.cluster.to_string(),
            uid: self.uid.to_owned(),
            network: self.network.to_string(),
            csr: key.request()?,
        };
        let answer = Box::pin(self.asked(&join, &dial)).await?;
        self.keep(&key, &answer).await?;
        Ok(answer.generation)
    }

    /// The key that the authority is to know this cluster again by, where an answer is lost: it is written down first.
    async fn key(&self) -> Result<MemberKey> {
        let secrets: Api<Secret> = Api::namespaced(self.member.clone(), SYSTEM_NAMESPACE);
        let kept = secrets.get_opt(job::NAME).await.context("the Secret of this Job")?;
        if let Some(key) = kept.as_ref().and_then(|kept| kept::text(kept, job::KEY)) {
            return Ok(MemberKey::from_pem(key)?);
        }
        let key = MemberKey::generate()?;
        let secret = kept::secret(job::NAME, [(job::KEY, key.to_pem())]);
        // Under a name of its own: what `landbridge join` applies of the same Secret is not this.
        let params = PatchParams::apply("landbridge-enroll").force();
        let written = secrets.patch(job::NAME, &params, &Patch::Apply(&secret)).await;
        written.context("the Secret of this Job")?;
        Ok(key)
    }

    async fn asked<S, E>(
        &self,
        join: &Join,
        dial: &impl AsyncFn() -> Result<S, E>,
    ) -> Result<Answer>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        E: fmt::Display,
    {
        let known = Known::Fingerprint(self.token.root);
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let once = async {
                let stream = dial().await.map_err(|error| AskError::Stream(error.to_string()))?;
                let stream = authority::connect(stream, &known, &self.token.set, None).await;
                ask::ask(stream?, JOIN, join).await
            };
            let asked = time::timeout(PATIENCE, Box::pin(once)).await;
            match asked.unwrap_or(Err(AskError::Silent(PATIENCE))) {
                Ok(answer) => return Ok(answer),
                Err(error) if left > 0 && error.may_pass() => {
                    tracing::warn!("the authority was not reached, which may pass: {error}");
                    time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AskError::Silent(PATIENCE).into())
    }

    /// Writes down what the authority has given. A cluster that has joined before gets it in place of what it had.
    async fn keep(&self, key: &MemberKey, answer: &Answer) -> Result<()> {
        let chain = answer.chain.as_deref().context("the authority has signed nothing")?;
        let given = kept::Given { answer, token: self.token, cluster: self.cluster };
        let secrets: Api<Secret> = Api::namespaced(self.member.clone(), SYSTEM_NAMESPACE);
        let params = PatchParams::apply(MANAGER).force();
        let all = [kept::member(chain, &key.to_pem(), &answer.roots, &answer.signer), given.hub()?];
        for secret in all {
            let name = secret.metadata.name.clone().unwrap_or_default();
            let written = secrets.patch(&name, &params, &Patch::Apply(&secret)).await;
            written.with_context(|| format!("Secret {SYSTEM_NAMESPACE}/{name}"))?;
        }
        self.peer(&given.peer()).await
    }

    /// The controller reaches the hub through a link, and a link needs a Peer: later the controller writes it itself.
    async fn peer(&self, wanted: &Peer) -> Result<()> {
        let peers: Api<Peer> = Api::all(self.member.clone());
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let written = match peers.create(&PostParams::default(), wanted).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let spec = Patch::Merge(json!({"spec": wanted.spec}));
                peers.patch(&name, &PatchParams::default(), &spec).await
            }
            written => written,
        };
        written.map(drop).with_context(|| format!("Peer {name}"))
    }
}

/// What is mounted where gateways look for it.
pub(crate) const MEMBER_SECRET: &str = MEMBER.secret;
