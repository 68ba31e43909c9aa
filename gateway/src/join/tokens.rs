//! The tokens on the hub: made, listed, taken back, and used up.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use landbridge_api::wellknown::{JOIN_TOKEN, ROOT_SECRET, TRUST_NAMESPACE};
use landbridge_model::Timestamp;
use thiserror::Error;

use super::{
    record::{Claim, Record, RecordError, Refusal, id_of, secret_name},
    token::TokenSecret,
    trust::{self, Trust, TrustError},
};
use crate::pki::Root;

/// How many there may be at a time. Whoever joins more clusters in a day than this does it by a program, which can take
/// back what it has used.
pub const MAX_TOKENS: usize = 200;
/// How long a token that lets nobody in any more can still be listed: somebody may ask what became of it.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Each time somebody else has written the record, it has been used: the second time there is nothing more to try.
const TRIES: usize = 3;

/// Why something cannot be done with tokens.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The hub's API does not answer, or refuses.
    #[error("the hub's API cannot {what}: {problem}")]
    Api {
        /// What it was asked for.
        what: &'static str,
        /// What it says.
        #[source]
        problem: Box<kube::Error>,
    },
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already: revoke some of `landbridge token list`")]
    Full,
    /// Somebody writes the same record again and again.
    #[error("the token is being used by others at the same time: see `landbridge token list`")]
    Contended,
    /// There is no root.
    #[error(
        "this cluster is not the hub of a set: it has no Secret {TRUST_NAMESPACE}/{ROOT_SECRET}"
    )]
    NoRoot,
    /// A record that cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The token lets nobody in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The root cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// One token of a listing.
#[derive(Debug)]
pub struct Listed {
    /// What it is called.
    pub id: String,
    /// What is known of it, or why that cannot be read.
    pub record: Result<Record, RecordError>,
}

/// The Secrets of the hub's trust.
#[derive(Clone, Debug)]
pub struct Tokens {
    secrets: Api<Secret>,
}

impl Tokens {
    /// On the hub that `client` leads to. Nothing is sent yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { secrets: Api::namespaced(client, TRUST_NAMESPACE) }
    }

    /// The set's root.
    ///
    /// # Errors
    /// [`StoreError`]: where the cluster is no hub, above all.
    pub async fn root(&self) -> Result<Root, StoreError> {
        Ok(self.trust().await?.root)
    }

    /// The root, and all that is trusted beside it.
    ///
    /// # Errors
    /// [`StoreError`]: where the cluster is no hub, above all.
    pub async fn trust(&self) -> Result<Trust, StoreError> {
        let kept = self.secrets.get_opt(ROOT_SECRET).await;
        let kept = kept.map_err(api("be asked for the set's root"))?;
        Ok(trust::read_all(&kept.ok_or(StoreError::NoRoot)?)?)
    }

    /// Keeps a new token, and forgets those that have let nobody in for a day.
    ///
    /// # Errors
    /// [`StoreError`]: where there are too many, or the API refuses.
    pub async fn issue(
        &self,
        secret: &TokenSecret,
        record: &Record,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let all = self.list().await?;
        let (old, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|listed| {
            listed.record.as_ref().is_ok_and(|record| now.since(record.expires) > KEPT)
        });
        for listed in old {
            self.revoke(&listed.id).await?;
        }
        if kept.len() >= MAX_TOKENS {
            return Err(StoreError::Full);
        }
        let object = record.to_secret(&secret.id());
        let made = self.secrets.create(&PostParams::default(), &object).await;
        made.map(drop).map_err(api("keep a token"))
    }

    /// All of them, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::Api`].
    pub async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let params = ListParams::default().labels(JOIN_TOKEN);
        let listed = self.secrets.list(&params).await.map_err(api("list tokens"))?;
        let mut all: Vec<Listed> = listed
            .iter()
            .filter_map(|secret| {
                let id = id_of(secret)?.to_owned();
                Some(Listed { id, record: Record::read(secret) })
            })
            .collect();
        let age = |listed: &Listed| listed.record.as_ref().ok().map(|record| record.issued);
        all.sort_by(|a, b| age(a).cmp(&age(b)).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// Forgets one; what was known of it, or none where there is no such token.
    ///
    /// # Errors
    /// [`StoreError::Api`].
    pub async fn revoke(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        let name = secret_name(id);
        let found = self.secrets.get_opt(&name).await.map_err(api("be asked for a token"))?;
        let Some(secret) = found else { return Ok(None) };
        match self.secrets.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            deleted => {
                deleted.map_err(api("take a token back"))?;
                Ok(Some(Listed { id: id.to_owned(), record: Record::read(&secret) }))
            }
        }
    }

    /// What [`Self::take`] would say now, without using anything up: for who looks before he leaps.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it lets `claim` not in.
    pub async fn look(
        &self,
        secret: &TokenSecret,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Record, StoreError> {
        Ok(self.found(secret).await?.1.admit(secret, claim, now)?)
    }

    /// Uses a token up: once this has returned, it lets nobody else in.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it lets `claim` not in.
    pub async fn take(
        &self,
        secret: &TokenSecret,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Record, StoreError> {
        let id = secret.id();
        for _ in 0..TRIES {
            let (version, record) = self.found(secret).await?;
            let used = record.admit(secret, claim, now)?;
            if used == record {
                return Ok(record);
            }
            let mut object = used.to_secret(&id);
            object.metadata.resource_version = version;
            let name = secret_name(&id);
            match self.secrets.replace(&name, &PostParams::default(), &object).await {
                Ok(_) => return Ok(used),
                // Somebody was quicker, or it was just taken back.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(problem) => return Err(api("use a token up")(problem)),
            }
        }
        Err(StoreError::Contended)
    }

    /// The record of a token, and its version.
    async fn found(&self, secret: &TokenSecret) -> Result<(Option<String>, Record), StoreError> {
        let found = self.secrets.get_opt(&secret_name(&secret.id())).await;
        let found = found.map_err(api("be asked for a token"))?.ok_or(Refusal::Unknown)?;
        Ok((found.metadata.resource_version.clone(), Record::read(&found)?))
    }
}

fn api(what: &'static str) -> impl Fn(kube::Error) -> StoreError {
    move |problem| StoreError::Api { what, problem: Box::new(problem) }
}
