//! Lets a cluster into the set: its token is used up, the hub gets what it has of each member, and the cluster gets its
//! authority and a credential of the hub.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE, hub_namespace};
use landbridge_gateway::{
    join::{
        Tokens,
        record::Claim,
        token::{Fingerprint, Token},
    },
    pki::Root,
};
use landbridge_model::{ClusterId, Timestamp};

use super::{
    MANAGER, apply,
    joined::{self, Server},
};
use crate::manifests::{HUB, hub, settings::Settings};

/// How long a member's credential of the hub is asked for. Nothing renews it yet, so that it is long; an API server may give
/// less.
const CREDENTIAL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The account of each member in its namespace on the hub.
const ACCOUNT: &str = "landbridge-member";

/// Who is let in where.
pub(crate) struct Admission<'a> {
    pub(crate) member: &'a Client,
    pub(crate) hub: &'a Client,
    pub(crate) server: &'a Server,
    pub(crate) root: &'a Root,
    pub(crate) token: &'a Token,
    pub(crate) settings: &'a Settings,
    /// Of the cluster's namespace `kube-system`: by this it is known again where it has to ask twice.
    pub(crate) uid: &'a str,
}

/// Who shows a token. The same cluster may show it twice, since it is known by what no other has.
pub(crate) fn claim(cluster: &ClusterId, uid: &str) -> Claim {
    Claim { cluster: cluster.clone(), key: Fingerprint::of(uid.as_bytes()) }
}

impl Admission<'_> {
    /// Does it; until when the credential lasts.
    ///
    /// # Errors
    /// A token that lets nobody in, before anything is changed on the hub; an API that refuses.
    pub(crate) async fn carry_out(&self, now: Timestamp) -> Result<jiff::Timestamp> {
        let Settings { cluster, network, generation, .. } = self.settings;
        let claim = claim(cluster, self.uid);
        Tokens::new(self.hub.clone()).take(&self.token.secret, &claim, now).await?;
        let mut objects = hub::far(cluster);
        objects.push(hub::record(cluster, network, *generation)?);
        for object in &objects {
            apply::object(self.hub, object, false).await.context("the hub")?;
        }
        apply::counted(self.hub, cluster).await.context("the hub")?;
        apply::authority(self.member, self.root, cluster, now).await?;
        self.credential().await
    }

    /// Gets a token of the member's account on the hub, and leaves it where the controller finds it.
    async fn credential(&self) -> Result<jiff::Timestamp> {
        let cluster = &self.settings.cluster;
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.hub.clone(), &hub_namespace(cluster));
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: i64::try_from(CREDENTIAL.as_secs()).ok(),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
        let status = answer.context("a credential of the hub")?.status;
        let status =
            status.context("the hub gave no credential: its API server answered without one")?;
        let config = joined::kubeconfig(self.server, cluster, &status.token);
        let text = serde_norway::to_string(&config)?;
        let secret = Secret {
            data: Some([("kubeconfig".to_owned(), ByteString(text.into_bytes()))].into()),
            metadata: ObjectMeta {
                labels: Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into()),
                name: Some(HUB.secret.into()),
                namespace: Some(SYSTEM_NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.member.clone(), SYSTEM_NAMESPACE);
        let params = PatchParams::apply(MANAGER).force();
        let written = secrets.patch(HUB.secret, &params, &Patch::Apply(&secret)).await;
        written.context("the credential of the hub")?;
        Ok(status.expiration_timestamp.0)
    }
}
