//! Pods, decoded slim: a gateway needs to know who has which address, and clusters have many pods.

use std::{borrow::Cow, net::IpAddr};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use landbridge_model::Namespace;
use serde::Deserialize;

use crate::caller::{ObjectName, Workload};

/// The fields of a Pod that are read; everything else is skipped while decoding.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SlimPod {
    /// Name, namespace and whether it is being deleted.
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    service_account_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default, rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodIp {
    #[serde(default)]
    ip: String,
}

/// What a pod says about its addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodView {
    /// Its addresses, as long as they may be its own.
    pub(crate) ips: Vec<IpAddr>,
    /// Who it is; none for a pod that shares its node's address, is going, or has no valid name.
    pub(crate) workload: Option<Workload>,
}

impl SlimPod {
    /// What this pod says about its addresses; none where it has none any more.
    #[must_use]
    pub(crate) fn view(&self) -> Option<PodView> {
        // The addresses of pods that have ended are given to others.
        if matches!(self.status.phase.as_str(), "Failed" | "Succeeded") {
            return None;
        }
        let ips: Vec<IpAddr> =
            self.status.pod_ips.iter().filter_map(|pod_ip| pod_ip.ip.parse().ok()).collect();
        let known = !self.spec.host_network && self.metadata.deletion_timestamp.is_none();
        (!ips.is_empty())
            .then(|| PodView { ips, workload: known.then(|| self.workload()).flatten() })
    }

    fn workload(&self) -> Option<Workload> {
        let account = match self.spec.service_account_name.as_str() {
            "" => "default",
            account => account,
        };
        Some(Workload {
            namespace: Namespace::parse(self.metadata.namespace.as_deref()?).ok()?,
            account: ObjectName::parse(account).ok()?,
            pod: ObjectName::parse(self.metadata.name.as_deref()?).ok()?,
        })
    }
}

impl Resource for SlimPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: impl Fn(&mut serde_json::Value)) -> Option<(usize, Option<String>)> {
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": "cart-0"},
            "spec": {"serviceAccountName": "cart", "containers": [{"name": "a", "image": "b"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.9"}, {"ip": "fd00::9"}]},
        });
        change(&mut pod);
        let pod: SlimPod = serde_json::from_value(pod).unwrap();
        let view = pod.view()?;
        let workload = view.workload;
        Some((view.ips.len(), workload.map(|w| format!("{}/{}/{}", w.namespace, w.account, w.pod))))
    }

    #[test]
    fn a_running_pod_is_known_by_its_addresses() {
        assert_eq!(check(|_| ()), Some((2, Some("shop/cart/cart-0".into()))));
        let unnamed = check(|pod| pod["spec"] = json!({}));
        assert_eq!(unnamed, Some((2, Some("shop/default/cart-0".into()))));
    }

    /// Design, "Identity and access": "Unknown, hostNetwork, terminal or ambiguous callers match no account rule".
    #[test]
    fn pods_that_share_or_lose_their_address_are_nobody() {
        assert_eq!(check(|pod| pod["spec"]["hostNetwork"] = json!(true)), Some((2, None)));
        let going = |pod: &mut serde_json::Value| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        };
        assert_eq!(check(going), Some((2, None)));
        assert_eq!(check(|pod| pod["status"]["phase"] = json!("Succeeded")), None);
        assert_eq!(check(|pod| pod["status"] = json!({})), None);
        assert_eq!(check(|pod| pod["metadata"]["name"] = json!("Not A Name")), Some((2, None)));
    }
}
