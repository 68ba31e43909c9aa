//! Pure: the pods of other clusters in this network, as the hub tells of them.
//!
//! They are reached without a gateway, so nothing but their members' heartbeats says that they are still there: those
//! of a member that is silent are withdrawn. A hub that cannot be read makes nobody silent.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use landbridge_api::convert::HubEndpoint;
use landbridge_model::{ClusterId, Export, IpFamily, Merged, PortKey, ServiceKind};

use super::{
    gateways::Gateways,
    headless::ports,
    home::{Group, is_ready},
    slices::{Route, route},
};
use crate::observed::{Observed, Problem};

/// The pods of other clusters in this network that serve an import.
#[derive(Default)]
pub(super) struct Remote {
    pub(super) groups: Vec<(ClusterId, Group)>,
    /// Endpoints that were refused.
    pub(super) problems: Vec<Problem>,
}

impl Remote {
    /// Whether a pod takes calls to a port, at addresses of a family.
    pub(super) fn is_ready(&self, family: IpFamily, port: PortKey) -> bool {
        self.groups.iter().any(|(_, group)| {
            group.family == family
                && group.ports.iter().any(|(key, _)| *key == port)
                && group.endpoints.iter().any(is_ready)
        })
    }
}

/// The pods of other clusters in this network that serve `merged`, and what is wrong with slices on the hub.
pub(super) fn remote(
    observed: &Observed,
    merged: &Merged,
    exports: &BTreeMap<&ClusterId, &Export>,
    gateways: &Gateways,
) -> Remote {
    type Pods = BTreeMap<IpAddr, Endpoint>;
    type Sort = (ClusterId, IpFamily, Vec<(PortKey, u16)>);
    let mut remote = Remote::default();
    let mut groups: BTreeMap<Sort, Pods> = BTreeMap::new();
    // Only clusters that share a machine have pods at loopback addresses: elsewhere they would be this node's own.
    let is_local = gateways.addresses().any(|address| address.is_loopback());
    for (key, row) in observed.hub_slices(&merged.service) {
        let Some(read) = row.kept.read() else {
            continue;
        };
        let Some(export) = exports.get(&read.cluster) else {
            continue;
        };
        let problem = |sentence: String| Problem {
            about: format!("EndpointSlice {key} on the hub"),
            sentence,
        };
        let refused = read.refused.iter().cloned().map(problem);
        remote.problems.extend(refused);
        let is_silent = observed.silent_members.contains(read.cluster.as_str());
        if export.kind != merged.kind
            || is_silent
            || route(observed, &merged.service, &read.cluster) != Route::Direct
        {
            continue;
        }
        let ports = ports(merged, export, &read);
        let ports: Vec<_> = ports.iter().map(|(key, at)| (*key, at.number.get())).collect();
        if ports.is_empty() && !merged.ports.is_empty() {
            continue;
        }
        let group = groups.entry((read.cluster.clone(), read.family, ports)).or_default();
        for endpoint in &read.endpoints {
            if endpoint.address.is_loopback() && !is_local {
                let sentence = format!(
                    "endpoint {} is refused: no pod of another cluster has a loopback address",
                    endpoint.address
                );
                remote.problems.push(problem(sentence));
                continue;
            }
            group.insert(endpoint.address, carried(merged.kind, endpoint));
        }
    }
    let groups = groups.into_iter().map(|((cluster, family, ports), pods)| {
        let mut endpoints: Vec<Endpoint> = pods.into_values().collect();
        let keys = ports.iter().map(|(key, _)| *key);
        if merged.kind == ServiceKind::ClusterSetIp
            && rests(observed, merged, exports, &cluster, keys)
        {
            endpoints.iter_mut().for_each(rest);
        }
        (cluster, Group { family, ports, endpoints })
    });
    remote.groups = groups.collect();
    remote
}

/// Whether a member is drained, and others serve each of these ports: then its pods get no new calls. Endpoints of headless
/// services are not among them: nobody else serves under their names.
fn rests(
    observed: &Observed,
    merged: &Merged,
    exports: &BTreeMap<&ClusterId, &Export>,
    cluster: &ClusterId,
    ports: impl Iterator<Item = PortKey>,
) -> bool {
    let is_drained = |id: &ClusterId| observed.member(id).is_some_and(|member| member.peer.drained);
    let serves = |id: &ClusterId| {
        let is_ready = exports.get(id).is_some_and(|export| export.is_ready());
        let is_own = *id == observed.config.cluster;
        let is_silent = observed.silent_members.contains(id.as_str());
        id != cluster && is_ready && (is_own || !is_drained(id) && !is_silent)
    };
    let mut ports = ports.filter_map(|key| merged.port(key));
    is_drained(cluster) && ports.all(|port| port.served_by.iter().any(serves))
}

/// What is open goes on, and nothing new comes.
fn rest(endpoint: &mut Endpoint) {
    if let Some(conditions) = &mut endpoint.conditions {
        conditions.ready = Some(false);
    }
}

/// A pod of another cluster as our slices have it: of no node of ours, no object of ours, and without hints, since
/// "hints on all or on none".
fn carried(kind: ServiceKind, endpoint: &HubEndpoint) -> Endpoint {
    let hostname = endpoint.hostname.as_ref().map(ToString::to_string);
    Endpoint {
        addresses: vec![endpoint.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        hostname: hostname.filter(|_| kind == ServiceKind::Headless),
        zone: endpoint.zone.clone(),
        ..Endpoint::default()
    }
}
