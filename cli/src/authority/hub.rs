//! What the hub has of each member, and what a member has of the hub: made where it is let in, by whichever way.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    jiff,
};
use kube::{Api, Client, api::PostParams};
use landbridge_api::wellknown::hub_namespace;
use landbridge_model::{ClusterId, NetworkName};

use crate::{init::apply, manifests::hub};

/// The account of each member in its namespace on the hub.
const ACCOUNT: &str = "landbridge-member";

/// Namespace, account, rights, quota and `Member`: what is as it should be stays so.
///
/// # Errors
/// An API that refuses.
pub(crate) async fn admit(
    client: &Client,
    cluster: &ClusterId,
    network: &NetworkName,
    generation: u64,
) -> Result<()> {
    let mut objects = hub::far(cluster);
    objects.push(hub::record(cluster, network, generation)?);
    for object in &objects {
        apply::object(client, object, false).await.context("the hub")?;
    }
    apply::counted(client, cluster).await.context("the hub")
}

/// A bearer token.
pub(crate) struct Credential {
    pub(crate) token: String,
    pub(crate) until: jiff::Timestamp,
}

/// A token of the member's account on the hub. It is asked for so long; an API server may give less.
///
/// # Errors
/// An API that refuses.
pub(crate) async fn credential(
    client: &Client,
    cluster: &ClusterId,
    lasts: Duration,
) -> Result<Credential> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &hub_namespace(cluster));
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: i64::try_from(lasts.as_secs()).ok(),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
    let status = answer.context("a credential of the hub")?.status;
    let status =
        status.context("the hub gave no credential: its API server answered without one")?;
    Ok(Credential { token: status.token, until: status.expiration_timestamp.0 })
}
