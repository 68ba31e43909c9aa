//! Tells a member where its hub has gone: where its gateways are dialled, and nothing else.

use anyhow::{Context, Result};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use landbridge_api::{convert, landbridge::Peer, wellknown::SYSTEM_NAMESPACE};
use landbridge_gateway::join::{token::Token, trust};
use serde_json::json;

use super::{MEMBER_SECRET, kept};
use crate::{exit::Usage, manifests::HUB};

/// Writes the addresses of a token where gateways and the next join look for them.
///
/// # Errors
/// A cluster that is no member of the token's set, or has not joined through a link; an API that refuses.
pub(crate) async fn rehome(client: &Client, token: &Token) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let found = async |name: &str| {
        let found = secrets.get_opt(name).await;
        found.with_context(|| format!("Secret {SYSTEM_NAMESPACE}/{name}"))
    };
    let (hub, member) = (found(HUB.secret).await?, found(MEMBER_SECRET).await?);
    let mut hub = belongs(hub, member.as_ref(), token)?;
    let addresses: Vec<String> = token.addresses.iter().map(ToString::to_string).collect();
    let data = hub.data.get_or_insert_default();
    data.insert(kept::ADDRESSES.into(), ByteString(addresses.join(",").into_bytes()));
    let written = secrets.replace(HUB.secret, &PostParams::default(), &hub).await;
    written.with_context(|| format!("Secret {SYSTEM_NAMESPACE}/{}", HUB.secret))?;
    let peers: Api<Peer> = Api::all(client.clone());
    let gateways = convert::gateway_endpoints(&token.addresses);
    let patch = Patch::Merge(json!({"spec": {"gateways": gateways}}));
    let written = peers.patch(token.hub.as_str(), &PatchParams::default(), &patch).await;
    written.map(drop).with_context(|| format!("Peer {}", token.hub))
}

/// The Secret of the hub, where the token is of that hub.
fn belongs(hub: Option<Secret>, member: Option<&Secret>, token: &Token) -> Result<Secret> {
    let joined = hub.filter(|hub| kept::text(hub, kept::CLUSTER).is_some()).zip(member);
    let Some((hub, member)) = joined else {
        let problem = "this cluster is no member that reaches its hub through a link";
        return Err(Usage(format!("{problem}: leave --rehome out to join")).into());
    };
    let of = kept::text(&hub, kept::CLUSTER).unwrap_or_default();
    if of != token.hub.as_str() {
        let problem = format!("the token is of hub {}, and this cluster's hub is {of}", token.hub);
        return Err(Usage(format!("{problem}: issue one there")).into());
    }
    let roots = trust::fingerprints(kept::text(member, kept::ROOTS).unwrap_or_default())?;
    if !roots.contains(&token.root) {
        let problem = "the token is of another root than this cluster trusts";
        return Err(Usage(format!("{problem}: issue one on the hub that it has joined")).into());
    }
    if token.addresses.is_empty() {
        return Err(Usage("the token names no address: issue one with --address".into()).into());
    }
    Ok(hub)
}

#[cfg(test)]
mod tests {
    use landbridge_gateway::{join::token::TokenSecret, pki::Root};
    use landbridge_model::{GatewayAddress, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn root() -> Root {
        Root::generate(&"prod".parse().unwrap(), NOW).unwrap()
    }

    fn token(root: &Root, hub: &str) -> Token {
        Token {
            set: "prod".parse().unwrap(),
            hub: hub.parse().unwrap(),
            cluster: None,
            addresses: vec![GatewayAddress("198.51.100.1:4433".parse().unwrap())],
            root: trust::fingerprint(&root.cert_pem()).unwrap(),
            expires: NOW,
            secret: TokenSecret::new([1; 32]),
        }
    }

    #[test]
    fn only_a_token_of_its_own_hub_moves_a_member() {
        let (own, other) = (root(), root());
        let hub = || Some(kept::secret("landbridge-hub", [(kept::CLUSTER, "paris".into())]));
        let member = kept::member("chain", "key", &own.cert_pem(), "signer");
        assert!(belongs(hub(), Some(&member), &token(&own, "paris")).is_ok());
        let bare = Some(kept::secret("landbridge-hub", [(kept::KUBECONFIG, String::new())]));
        for (hub, token, told) in [
            (None, token(&own, "paris"), "is no member that reaches its hub through a link"),
            (bare, token(&own, "paris"), "is no member that reaches its hub through a link"),
            (hub(), token(&own, "tokyo"), "this cluster's hub is paris"),
            (hub(), token(&other, "paris"), "another root than this cluster trusts"),
        ] {
            let error = belongs(hub, Some(&member), &token).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
