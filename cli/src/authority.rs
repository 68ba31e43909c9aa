//! The set's authority: lets clusters in that show a token, and renews what members have. It runs in the hub's cluster, and is
//! reached through the hub's gateways alone.
//!
//! ```text
//! stream ─► TLS (gateway::join::authority) ─► serve: HTTP ─► Authority: who may? (allowed) ─► hub: what there is of a member
//! ```
//!
//! Nothing of it is kept here: tokens, members and the root are objects of the hub's API, so that two of these may run.

pub(crate) mod allowed;
pub(crate) mod hub;
pub(crate) mod serve;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use landbridge_api::{
    convert,
    landbridge::Member,
    wellknown::{SIGNED_BY, TRUSTED_ROOTS},
};
use landbridge_gateway::{
    identity::GatewayId,
    join::{
        Left, Tokens, authority,
        message::{Answer, Hub, JOIN, Join, RENEW, Renew, Secret},
        token::Fingerprint,
        trust::{self, Trust},
    },
    pki::Request,
};
use landbridge_model::{ClusterId, Timestamp};
use rustls::ServerConfig;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Mutex;

use self::allowed::Denial;
use crate::exit;

/// How long a member's credential of the hub is asked for: so short that one which was stolen is worth little, so long that
/// a hub may be away for half a day. One that ended is renewed all the same, since it is asked for by certificate.
const CREDENTIAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the root is read again: it is changed once in years, and people wait for what they have changed.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// The most roots that a member can trust at a time: as many as its gateways read.
const MAX_ROOTS: usize = 8;
/// The authority's certificate lasts a day; another one is made well before.
const SHOWN: Duration = Duration::from_secs(8 * 60 * 60);

/// How members reach the hub's API.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) cluster: ClusterId,
    /// What the certificate of its API leads to, as PEM.
    pub(crate) ca: String,
    /// What that certificate is called.
    pub(crate) server_name: String,
}

/// What is signed with, and shown.
pub(crate) struct Keys {
    pub(crate) trust: Trust,
    pub(crate) tls: Arc<ServerConfig>,
    read: Instant,
    made: Instant,
}

/// The authority of one hub.
pub(crate) struct Authority {
    client: Client,
    tokens: Tokens,
    place: Place,
    keys: Mutex<Option<Arc<Keys>>>,
}

impl Authority {
    pub(crate) fn new(client: Client, place: Place) -> Self {
        Self { tokens: Tokens::new(client.clone()), client, place, keys: Mutex::new(None) }
    }

    /// What is signed with now. While the API is away it is what it was.
    ///
    /// # Errors
    /// A cluster that is no hub, or an API that has never answered.
    pub(crate) async fn keys(&self) -> Result<Arc<Keys>> {
        let mut kept = self.keys.lock().await;
        if let Some(keys) = kept.as_ref().filter(|keys| keys.read.elapsed() < READ_AGAIN) {
            return Ok(Arc::clone(keys));
        }
        let read = match (self.tokens.trust().await, kept.as_ref()) {
            (Ok(read), _) => read,
            (Err(error), Some(keys)) if keys.made.elapsed() < SHOWN => {
                tracing::warn!("the set's root cannot be read again: {error}");
                return Ok(Arc::clone(keys));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let is_same = |keys: &&Arc<Keys>| {
            keys.trust.root.cert_pem() == read.root.cert_pem()
                && keys.trust.roots == read.roots
                && keys.made.elapsed() < SHOWN
        };
        let before = kept.as_ref().filter(is_same);
        let (tls, made) = match before {
            Some(keys) => (Arc::clone(&keys.tls), keys.made),
            None => (authority::server(&read.root, &read.roots, now())?, Instant::now()),
        };
        let keys = Arc::new(Keys { trust: read, tls, read: Instant::now(), made });
        *kept = Some(Arc::clone(&keys));
        Ok(keys)
    }

    /// Answers one question. `id` is whose certificate was shown.
    ///
    /// # Errors
    /// [`Denial`] for whoever asks.
    pub(crate) async fn answer(
        &self,
        path: &str,
        id: Option<&GatewayId>,
        body: &[u8],
    ) -> Result<Answer, Denial> {
        match path {
            JOIN => self.join(&read(body)?).await,
            RENEW => self.renew(id, &read(body)?).await,
            _ => Err(Denial::unreadable("there is nothing else here than /v1/join and /v1/renew")),
        }
    }

    async fn join(&self, asked: &Join) -> Result<Answer, Denial> {
        let joining = asked.check().map_err(|problem| Denial::unreadable(&problem))?;
        let (claim, now, cluster) = (joining.claim(), now(), &joining.cluster);
        // Whoever does not know the secret learns nothing of members.
        let record = self.tokens.look(&joining.secret, &claim, now).await?;
        let before = self.member(cluster).await?;
        let generation =
            allowed::joins(&joining, &record, before.as_ref(), &self.place.cluster, now)?;
        // One that comes back after it has left is of a later generation than all that it had.
        let left = Left::new(self.client.clone()).generation(cluster).await?;
        let generation = generation.max(left.saturating_add(1));
        let keys = self.keys().await.map_err(|error| trouble(&error))?;
        self.tokens.take(&joining.secret, &claim, now).await?;
        let signed = keys.trust.root.sign_member(cluster, &joining.request, now);
        let signed = signed.map_err(|error| Denial::trouble(error.to_string()))?;
        let admitted = hub::admit(&self.client, cluster, &joining.network, generation).await;
        admitted.map_err(|error| trouble(&error))?;
        tracing::info!(%cluster, generation, token = joining.secret.id(), "a cluster has joined");
        self.given(cluster, generation, Some(signed), &keys).await
    }

    async fn renew(&self, id: Option<&GatewayId>, asked: &Renew) -> Result<Answer, Denial> {
        let member = match id {
            Some(id) => self.member(&id.cluster).await?,
            None => None,
        };
        let id = allowed::renews(id, member.as_ref())?;
        let keys = self.keys().await.map_err(|error| trouble(&error))?;
        let request = asked.csr.as_deref().map(Request::from_pem).transpose();
        let request = request.map_err(|error| Denial::unreadable(&error.to_string()))?;
        let signed =
            request.map(|request| keys.trust.root.sign_member(&id.cluster, &request, now()));
        let signed = signed.transpose().map_err(|error| Denial::trouble(error.to_string()))?;
        if let Some(member) = &member {
            self.note(member, asked).await.map_err(|error| trouble(&error))?;
        }
        self.given(&id.cluster, id.generation, signed, &keys).await
    }

    /// Writes down which roots a member trusts, and which one has signed for it, for whoever changes them.
    async fn note(&self, member: &Member, asked: &Renew) -> Result<()> {
        // What it says is written where others read it: fingerprints, and nothing else.
        let known: Vec<String> =
            asked.roots.iter().take(MAX_ROOTS).filter_map(|text| print(text)).collect();
        let wanted = [
            (TRUSTED_ROOTS, known.join(",")),
            (SIGNED_BY, asked.signer.as_deref().and_then(print).unwrap_or_default()),
        ];
        let before = member.metadata.annotations.clone().unwrap_or_default();
        let is_known =
            |(name, said): &(&str, String)| said.is_empty() || before.get(*name) == Some(said);
        if wanted.iter().all(is_known) {
            return Ok(());
        }
        let members: Api<Member> = Api::all(self.client.clone());
        let name = member.metadata.name.clone().unwrap_or_default();
        let annotations: BTreeMap<&str, String> =
            wanted.into_iter().filter(|(_, said)| !said.is_empty()).collect();
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let written = members.patch(&name, &PatchParams::default(), &patch).await;
        written.map(drop).with_context(|| format!("Member {name}"))
    }

    async fn member(&self, cluster: &ClusterId) -> Result<Option<Member>, Denial> {
        let members: Api<Member> = Api::all(self.client.clone());
        let found = members.get_opt(cluster.as_str()).await;
        found.map_err(|error| Denial::trouble(format!("Member {cluster}: {error}")))
    }

    async fn given(
        &self,
        cluster: &ClusterId,
        generation: u64,
        chain: Option<String>,
        keys: &Keys,
    ) -> Result<Answer, Denial> {
        let given = async {
            let signer = trust::fingerprint(&keys.trust.root.cert_pem())?;
            anyhow::Ok(Answer {
                generation,
                chain,
                roots: keys.trust.roots.clone(),
                signer: signer.to_string(),
                epoch: keys.trust.epoch,
                hub: self.hub(cluster).await?,
            })
        };
        given.await.map_err(|error| trouble(&error))
    }

    /// The hub as `cluster` needs it. The hub's own controller reaches its API by its own account.
    async fn hub(&self, cluster: &ClusterId) -> Result<Hub> {
        let Place { cluster: own, ca, server_name } = self.place.clone();
        let members: Api<Member> = Api::all(self.client.clone());
        let what = || format!("Member {own}");
        let member = members.get(own.as_str()).await.with_context(what)?;
        let peer = convert::member_peer(&member)?;
        let (mut token, mut token_lasts) = (None, 0);
        if *cluster != own {
            let given = hub::credential(&self.client, cluster, CREDENTIAL).await?;
            let lasts = given.until.duration_since(jiff::Timestamp::now()).as_secs();
            token_lasts = u64::try_from(lasts).unwrap_or_default();
            token = Some(Secret::bearer(given.token));
        }
        Ok(Hub {
            cluster: own.to_string(),
            network: peer.network.to_string(),
            generation: peer.generation,
            region: peer.region.map(|region| region.to_string()),
            addresses: peer.gateways.iter().map(ToString::to_string).collect(),
            ca,
            server_name,
            token,
            token_lasts,
        })
    }
}

/// A fingerprint as it is written.
fn print(text: &str) -> Option<String> {
    text.parse::<Fingerprint>().ok().map(|print| print.to_string())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Denial> {
    serde_json::from_slice(body).map_err(|error| {
        // What it says of a field may hold what the field held.
        let (line, column) = (error.line(), error.column());
        Denial::unreadable(&format!("the question cannot be read at {line}:{column}"))
    })
}

fn trouble(error: &anyhow::Error) -> Denial {
    Denial::trouble(exit::line(error.as_ref()))
}

fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}
