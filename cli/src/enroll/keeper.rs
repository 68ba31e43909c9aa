//! Keeps what makes a cluster a member from ending: its authority, its credential of the hub, and the roots that it trusts.
//!
//! It runs in the controller. Each of several replicas may do it: whoever writes second finds that he does, and reads again.

use std::{sync::atomic::AtomicI64, time::Duration};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};
use landbridge_gateway::{
    join::{
        authority::{self, Known},
        message::{Answer, RENEW, Renew},
        trust,
    },
    pki::{Member, MemberKey},
};
use landbridge_model::{ClusterSetId, Hostname, Timestamp};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::{net::TcpStream, time};
use tokio_util::sync::CancellationToken;

use super::{
    MEMBER_SECRET, ask,
    kept::{EPOCH, MEMBER_CERT, MEMBER_KEY, ROOTS, SIGNER, TOKEN, text},
};
use crate::{exit::line, manifests::HUB};

/// How often the authority is asked, at least: roots that are to be trusted are heard of within this.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How long it takes until what a Secret says is in every pod that mounts it.
const MOUNTED: Duration = Duration::from_secs(3 * 60);
/// After a failure; twice that after the next, and so on. What a link needs to come back is in between.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// An authority lasts 90 days; one that ends within this is made anew.
pub(crate) const RENEWED: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// By this name the member shows itself: it is no gateway, and nobody dials it.
const NAME: &str = "keeper";

/// What is to be done with what a member keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Due {
    /// Whether a new intermediate is.
    intermediate: bool,
}

/// Whether an intermediate that lasts `until`, of the root `signer`, is to be replaced now that `signs` is what signs.
fn due(until: Timestamp, now: Timestamp, signer: Option<&str>, signs: Option<&str>) -> Due {
    let ends = until.since(now) < RENEWED;
    let is_old = matches!((signer, signs), (Some(signer), Some(signs)) if signer != signs);
    Due { intermediate: ends || is_old }
}

/// When to ask again: at half of what a token lasts, and once an hour.
fn next(token_lasts: u64) -> Duration {
    let half = Duration::from_secs(token_lasts / 2);
    if token_lasts == 0 { EVERY } else { half.clamp(PAUSE, EVERY) }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

/// What operators see of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    renewals: Family<Labels, Counter>,
    until: Gauge<i64, AtomicI64>,
}

impl Counts {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let help = "Times that credentials of the member were renewed, by what came of it";
        registry.register("controller_renewals", help, counts.renewals.clone());
        let help = "When the member's credential of the hub ends, in seconds since 1970; 0 where it has none";
        registry.register(
            "controller_hub_token_expiry_timestamp_seconds",
            help,
            counts.until.clone(),
        );
        counts
    }

    fn count(&self, result: &'static str) {
        self.renewals.get_or_create(&Labels { result }).inc();
    }
}

/// What is renewed, and where it is asked for.
pub(crate) struct Keeper {
    /// The cluster's own API.
    pub(crate) local: Client,
    /// Where the authority is reached: a name, which is looked up each time, and a port.
    pub(crate) authority: String,
    pub(crate) set: ClusterSetId,
    pub(crate) generation: u64,
    pub(crate) namespace: String,
    pub(crate) counts: Counts,
}

impl Keeper {
    /// Renews until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE;
        loop {
            let asked = time::timeout(PATIENCE, Box::pin(self.once()));
            let Some(asked) = stop.run_until_cancelled(asked).await else { return };
            let wait = match asked.unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}")))
            {
                Ok(wait) => {
                    self.counts.count("renewed");
                    pause = PAUSE;
                    wait
                }
                Err(error) => {
                    self.counts.count("failed");
                    tracing::warn!(
                        "the member's credentials were not renewed: {}",
                        line(error.as_ref())
                    );
                    let wait = pause;
                    pause = (pause * 2).min(MAX_PAUSE);
                    wait
                }
            };
            if stop.run_until_cancelled(time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Asks once, and writes what is new; when to ask again.
    async fn once(&self) -> Result<Duration> {
        let member = self.secret(MEMBER_SECRET).await?.with_context(|| {
            format!("there is no Secret {}/{MEMBER_SECRET}: join the cluster", self.namespace)
        })?;
        let part = |name: &str| {
            text(&member, name).with_context(|| format!("{MEMBER_SECRET}: {name} is missing"))
        };
        let now = now();
        let kept = Member::from_pem(part(MEMBER_CERT)?, part(MEMBER_KEY)?)?;
        let (roots, signer) = (part(ROOTS)?, text(&member, SIGNER));
        let mut key = due(kept.valid()?.until, now, None, None).key()?;
        let mut answer = self.ask(&kept, roots, signer, key.as_ref()).await?;
        // The root that signs is another one since: its intermediate is asked for at once.
        if key.is_none() {
            key = due(kept.valid()?.until, now, signer, Some(&answer.signer)).key()?;
            if key.is_some() {
                answer = self.ask(&kept, &answer.roots, signer, key.as_ref()).await?;
            }
        }
        let hub = self.secret(HUB.secret).await?;
        if let Some(hub) = hub {
            self.take_hub(hub, &answer).await?;
        }
        let is_changed = self.take_member(member, &answer, key.as_ref()).await?;
        let Answer { hub, .. } = &answer;
        let until = now.as_millis() / 1000 + i64::try_from(hub.token_lasts).unwrap_or_default();
        self.counts.until.set(if hub.token.is_some() { until } else { 0 });
        // Whoever changes roots waits for members to say that they have heard of it.
        Ok(if is_changed { MOUNTED } else { next(hub.token_lasts) })
    }

    async fn ask(
        &self,
        kept: &Member,
        roots: &str,
        signer: Option<&str>,
        key: Option<&MemberKey>,
    ) -> Result<Answer> {
        let name = Hostname::parse(NAME)?;
        let leaf = kept.issue_gateway(self.generation, &name, now())?;
        let csr = key.map(MemberKey::request).transpose()?;
        let known = trust::fingerprints(roots)?.iter().map(ToString::to_string).collect();
        let stream = TcpStream::connect(&self.authority).await;
        let stream =
            stream.with_context(|| format!("the way to the authority, {}", self.authority))?;
        let known_by = Known::Roots(roots.to_owned());
        let stream = authority::connect(stream, &known_by, &self.set, Some(&leaf)).await;
        let stream = stream.context("the authority")?;
        Ok(ask::ask(stream, RENEW, &Renew { csr, roots: known, signer: signer.map(str::to_owned) })
            .await?)
    }

    /// Keeps the token. A hub that was restored from an older state than one that was seen is not followed.
    async fn take_hub(&self, mut hub: Secret, answer: &Answer) -> Result<()> {
        let seen = text(&hub, EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        if answer.epoch < seen {
            return Err(anyhow!(
                "the hub's state is of epoch {}, and {seen} was seen already: it was restored from an old backup; restore a newer one there",
                answer.epoch
            ));
        }
        let token = answer.hub.token.as_ref().map(|token| token.text().to_owned());
        let all = [token.map(|token| (TOKEN, token)), Some((EPOCH, answer.epoch.to_string()))];
        put(&mut hub, all.into_iter().flatten());
        self.replace(hub).await
    }

    async fn take_member(
        &self,
        mut member: Secret,
        answer: &Answer,
        key: Option<&MemberKey>,
    ) -> Result<bool> {
        let before = member.clone();
        put(&mut member, [(ROOTS, answer.roots.clone())]);
        if let Some((chain, key)) = answer.chain.as_ref().zip(key) {
            // What does not belong together would stop every gateway that starts.
            let renewed = Member::from_pem(chain, &key.to_pem())?;
            let kept = text(&before, MEMBER_CERT).unwrap_or_default();
            anyhow::ensure!(
                renewed.cluster()
                    == Member::from_pem(kept, text(&before, MEMBER_KEY).unwrap_or_default())?
                        .cluster(),
                "the authority has signed for another cluster"
            );
            put(
                &mut member,
                [
                    (MEMBER_CERT, chain.clone()),
                    (MEMBER_KEY, key.to_pem()),
                    (SIGNER, answer.signer.clone()),
                ],
            );
            tracing::info!("the cluster's authority was renewed");
        } else if text(&member, SIGNER).is_none() {
            // One that is from before this was written down, and is not to be replaced.
            put(&mut member, [(SIGNER, answer.signer.clone())]);
        }
        let is_changed = member.data != before.data;
        if is_changed {
            self.replace(member).await?;
        }
        Ok(is_changed)
    }

    async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let all: Api<Secret> = Api::namespaced(self.local.clone(), &self.namespace);
        let found = all.get_opt(name).await;
        found.with_context(|| format!("Secret {}/{name}", self.namespace))
    }

    /// On the very version that was read: another replica may have been quicker.
    async fn replace(&self, secret: Secret) -> Result<()> {
        let all: Api<Secret> = Api::namespaced(self.local.clone(), &self.namespace);
        let name = secret.metadata.name.clone().unwrap_or_default();
        match all.replace(&name, &PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::debug!("another replica has renewed {name}");
                Ok(())
            }
            written => {
                written.map(drop).with_context(|| format!("Secret {}/{name}", self.namespace))
            }
        }
    }
}

impl Due {
    /// A new key, where an intermediate is due: one that was stolen with the old one is of no use then.
    fn key(self) -> Result<Option<MemberKey>> {
        Ok(self.intermediate.then(MemberKey::generate).transpose()?)
    }
}

fn put(secret: &mut Secret, fields: impl IntoIterator<Item = (&'static str, String)>) {
    let data = secret.data.get_or_insert_default();
    for (name, text) in fields {
        data.insert(name.to_owned(), ByteString(text.into_bytes()));
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_millis(days * DAY)
    }

    #[test]
    fn an_intermediate_is_replaced_after_a_third_of_its_life_or_when_another_root_signs() {
        let due = |now, signer, signs| due(at(90), at(now), signer, signs).intermediate;
        assert!(!due(29, None, None) && due(31, None, None));
        assert!(due(1, Some("a"), Some("b")) && !due(1, Some("a"), Some("a")));
        // Of one that does not say who signed it nothing is known.
        assert!(!due(1, None, Some("b")));
    }

    /// "renewed at half of what was given", and roots are heard of within an hour.
    #[test]
    fn a_token_is_renewed_at_half_of_what_it_lasts_and_everything_once_an_hour() {
        assert_eq!(next(86_400), EVERY);
        assert_eq!(next(600), Duration::from_secs(300));
        assert_eq!(next(0), EVERY);
        assert_eq!(next(2), PAUSE);
    }
}
