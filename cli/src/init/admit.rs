//! Lets a cluster into the set: its token is used up, the hub gets what it has of each member, and the cluster gets its
//! authority and a credential of the hub.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE};
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
use crate::{
    authority::hub,
    manifests::{HUB, settings::Settings},
};

/// How long a member's credential of the hub is asked for. Nothing renews it yet, so that it is long; an API server may give
/// less.
const CREDENTIAL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
        hub::admit(self.hub, cluster, network, *generation).await?;
        apply::authority(self.member, self.root, cluster, now).await?;
        self.credential().await
    }

    /// Gets a token of the member's account on the hub, and leaves it where the controller finds it.
    async fn credential(&self) -> Result<jiff::Timestamp> {
        let cluster = &self.settings.cluster;
        let given = hub::credential(self.hub, cluster, CREDENTIAL).await?;
        let config = joined::kubeconfig(self.server, cluster, &given.token);
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
        Ok(given.until)
    }
}
