//! Pure: what a member keeps of its membership: its authority and how the hub is reached, as Secrets, and the hub as a Peer.

use std::collections::BTreeMap;

use anyhow::Result;
use data_encoding::BASE64;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::{
    landbridge::{GatewayEndpoint, Peer, PeerSpec},
    wellknown::{APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE},
};
use landbridge_gateway::join::{
    message::{Answer, Hub},
    token::Token,
};
use landbridge_model::ClusterId;
use serde_json::{Value, json};

use super::MEMBER_SECRET;
use crate::manifests::HUB;

/// Where the controller reaches the hub's API: the member's own gateways, which bring it there over a link.
pub(crate) const HUB_SERVER: &str = "https://landbridge-hub.landbridge-system.svc:6443";

/// In the Secret of the cluster's authority.
pub(crate) const MEMBER_CERT: &str = "member.pem";
pub(crate) const MEMBER_KEY: &str = "member-key.pem";
pub(crate) const ROOTS: &str = "root.pem";
/// The SHA-256 of the root that signed it.
pub(crate) const SIGNER: &str = "signer";

/// In the Secret of the hub.
pub(crate) const KUBECONFIG: &str = "kubeconfig";
pub(crate) const TOKEN: &str = "token";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const GENERATION: &str = "generation";
pub(crate) const CLUSTER: &str = "cluster";
pub(crate) const ADDRESSES: &str = "addresses";

/// A Secret of ours in a member.
pub(crate) fn secret<const N: usize>(name: &str, data: [(&str, String); N]) -> Secret {
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    Secret {
        data: Some(BTreeMap::from(data)),
        metadata: ObjectMeta {
            labels: Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into()),
            name: Some(name.into()),
            namespace: Some(SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

/// A field of one, as text.
pub(crate) fn text<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let value = secret.data.as_ref()?.get(name)?;
    std::str::from_utf8(&value.0).ok()
}

/// The cluster's authority.
pub(crate) fn member(chain: &str, key: &str, roots: &str, signer: &str) -> Secret {
    let data = [(MEMBER_CERT, chain), (MEMBER_KEY, key), (ROOTS, roots), (SIGNER, signer)];
    secret(MEMBER_SECRET, data.map(|(name, text)| (name, text.to_owned())))
}

/// What the authority has given to a cluster that shows a token.
pub(crate) struct Given<'a> {
    pub(crate) answer: &'a Answer,
    pub(crate) token: &'a Token,
    pub(crate) cluster: &'a ClusterId,
}

impl Given<'_> {
    /// How the hub is reached. The bearer token is a file of its own, since it is read again whenever it is renewed.
    ///
    /// # Errors
    /// Never for what is built here: only if it could not be written as YAML.
    pub(crate) fn hub(&self) -> Result<Secret> {
        let Answer { generation, epoch, hub, .. } = self.answer;
        let config = serde_norway::to_string(&kubeconfig(hub, self.cluster))?;
        let token = hub.token.as_ref().map(|token| token.text().to_owned()).unwrap_or_default();
        Ok(secret(
            HUB.secret,
            [
                (KUBECONFIG, config),
                (TOKEN, token),
                (EPOCH, epoch.to_string()),
                (GENERATION, generation.to_string()),
                (CLUSTER, hub.cluster.clone()),
                (ADDRESSES, self.addresses().join(",")),
            ],
        ))
    }

    /// The hub as gateways need it before the controller has heard of it.
    pub(crate) fn peer(&self) -> Peer {
        let Hub { cluster, generation, network, region, .. } = &self.answer.hub;
        let addresses = self.addresses().into_iter();
        let spec = PeerSpec {
            generation: i64::try_from(*generation).unwrap_or(i64::MAX),
            network: network.clone(),
            region: region.clone(),
            gateways: addresses.map(|address| GatewayEndpoint { address }).collect(),
            ..PeerSpec::default()
        };
        let mut peer = Peer::new(cluster, spec);
        peer.metadata.labels = Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into());
        peer
    }

    /// Where the hub is dialled: as it says itself, and where it says nothing, as the token does.
    fn addresses(&self) -> Vec<String> {
        let said = &self.answer.hub.addresses;
        if said.is_empty() {
            self.token.addresses.iter().map(ToString::to_string).collect()
        } else {
            said.clone()
        }
    }
}

/// By what a member's controller comes to the hub through a link.
fn kubeconfig(hub: &Hub, cluster: &ClusterId) -> Value {
    let mut server = json!({"server": HUB_SERVER, "tls-server-name": hub.server_name});
    if !hub.ca.is_empty() {
        server["certificate-authority-data"] = BASE64.encode(hub.ca.as_bytes()).into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "hub",
        "clusters": [{"name": "hub", "cluster": server}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": cluster.as_str()}}],
        "users": [{"name": cluster.as_str(), "user": {"tokenFile": HUB.file(TOKEN)}}],
    })
}

#[cfg(test)]
pub(super) mod testing {
    use landbridge_gateway::join::message;

    use super::*;

    pub(in super::super) fn answer() -> Answer {
        Answer {
            generation: 3,
            chain: Some("chain".into()),
            roots: "roots".into(),
            signer: "ab".into(),
            epoch: 1,
            hub: Hub {
                cluster: "paris".into(),
                network: "europe".into(),
                generation: 2,
                region: None,
                addresses: vec!["192.0.2.1:4433".into()],
                ca: "CA".into(),
                server_name: "kubernetes.default.svc".into(),
                token: Some(message::Secret::bearer("bearer".into())),
                token_lasts: 86_400,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use landbridge_gateway::join::token::{Fingerprint, TokenSecret};
    use landbridge_model::{GatewayAddress, Timestamp};

    use super::{testing::answer, *};

    fn token() -> Token {
        Token {
            set: "prod".parse().unwrap(),
            hub: "paris".parse().unwrap(),
            cluster: None,
            addresses: vec![GatewayAddress("198.51.100.1:4433".parse().unwrap())],
            root: Fingerprint::of(b"root"),
            expires: Timestamp::from_millis(0),
            secret: TokenSecret::new([1; 32]),
        }
    }

    #[test]
    fn the_controller_reaches_the_hub_by_way_of_its_own_gateways() {
        let (answer, token, cluster) = (answer(), token(), "berlin".parse().unwrap());
        let given = Given { answer: &answer, token: &token, cluster: &cluster };
        let secret = given.hub().unwrap();
        let config: Value = serde_norway::from_str(text(&secret, KUBECONFIG).unwrap()).unwrap();
        let hub = &config["clusters"][0]["cluster"];
        assert_eq!(hub["server"], "https://landbridge-hub.landbridge-system.svc:6443");
        assert_eq!(hub["tls-server-name"], "kubernetes.default.svc");
        assert_eq!(hub["certificate-authority-data"], BASE64.encode(b"CA"));
        // It is read again whenever it is renewed, without a restart.
        let user = json!({"tokenFile": "/etc/landbridge/hub/token"});
        assert_eq!(config["users"][0]["user"], user);
        assert_eq!(text(&secret, TOKEN), Some("bearer"));
        assert_eq!(text(&secret, GENERATION), Some("3"));
    }

    #[test]
    fn the_hub_is_dialled_where_it_says_or_where_the_token_did() {
        let (mut answer, token, cluster) = (answer(), token(), "berlin".parse().unwrap());
        let peer = |answer: &Answer| {
            Given { answer, token: &token, cluster: &cluster }.peer().spec.gateways[0]
                .address
                .clone()
        };
        assert_eq!(peer(&answer), "192.0.2.1:4433");
        answer.hub.addresses.clear();
        assert_eq!(peer(&answer), "198.51.100.1:4433");
    }
}
