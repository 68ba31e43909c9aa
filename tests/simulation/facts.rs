//! What people have exported, read from their own objects alone, and what that adds up to: written apart from the
//! model, so that the two may disagree.

use std::collections::{BTreeMap, BTreeSet};

use landbridge_api::wellknown::IMPORT;
use landbridge_model::{ClusterId, ServiceKey};

use crate::{thing::Sort, world::World};

/// Name, number and protocol of a port.
pub(crate) type Port = (Option<String>, i32, String);

/// One cluster's export of a service.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) cluster: usize,
    pub(crate) id: ClusterId,
    pub(crate) kind: &'static str,
    pub(crate) affinity: String,
    pub(crate) timeout: Option<i32>,
    pub(crate) policy: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Whether an AccessPolicy is for it.
    pub(crate) guarded: bool,
    ports: Vec<Port>,
    since: i64,
}

impl Fact {
    /// Whether two exports disagree in anything.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let says = |fact: &Self| {
            let ports: BTreeSet<Port> = fact.ports.iter().cloned().collect();
            let (labels, annotations) = (fact.labels.clone(), fact.annotations.clone());
            let affinity = (fact.affinity.clone(), fact.timeout);
            (fact.kind, ports, labels, annotations, affinity, fact.policy.clone())
        };
        says(self) != says(other)
    }

    /// Whether its Service has any of these ports, by number and protocol.
    pub(crate) fn serves(&self, ports: &[Port]) -> bool {
        let has = |port: &Port| self.ports.iter().any(|own| (own.1, &own.2) == (port.1, &port.2));
        ports.iter().any(has)
    }
}

/// "Ports, oldest first: one is dropped when its name is taken, then when its (protocol, number) is taken."
pub(crate) fn union(facts: &[Fact], revision: u32) -> Vec<Port> {
    let mut union: Vec<Port> = Vec::new();
    for port in facts.iter().flat_map(|fact| &fact.ports) {
        let is_taken = |known: &Port| known.0 == port.0 || (known.1, &known.2) == (port.1, &port.2);
        if !union.iter().any(is_taken) {
            union.push(port.clone());
        }
    }
    if revision > 1 {
        union.reverse();
    }
    union
}

impl World {
    /// All exports of a service that count, the oldest first.
    pub(crate) fn facts(&self, service: &ServiceKey) -> Vec<Fact> {
        let all = (0..self.clusters.len()).filter_map(|cluster| self.fact(cluster, service));
        let mut all: Vec<Fact> = all.collect();
        all.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
        all
    }

    fn fact(&self, cluster: usize, service: &ServiceKey) -> Option<Fact> {
        let (namespace, name) = (service.namespace.as_str(), service.name.as_str());
        let state = &self.clusters[cluster];
        let member = self.hub.get(Sort::Member, "", state.id.as_str())?;
        let member = &member.member()?.spec;
        let is_allowed =
            member.namespaces.as_ref().is_none_or(|all| all.iter().any(|one| one == namespace));
        let export = state.api.get(Sort::ServiceExport, namespace, name)?;
        let found = state.api.get(Sort::Service, namespace, name)?;
        let spec = found.service()?.spec.clone()?;
        let is_valid =
            spec.type_.as_deref() != Some("ExternalName") && found.annotation(IMPORT).is_none();
        if !is_allowed || member.suspended || !is_valid {
            return None;
        }
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        let affinity = spec.session_affinity.filter(|_| !is_headless);
        let affinity = affinity.unwrap_or_else(|| "None".to_owned());
        let timeout = spec.session_affinity_config.and_then(|config| config.client_ip);
        let timeout = timeout.and_then(|client| client.timeout_seconds);
        let asked = export.service_export()?.asked().cloned().unwrap_or_default();
        let ports =
            spec.ports.into_iter().flatten().map(|port| {
                (port.name, port.port, port.protocol.unwrap_or_else(|| "TCP".to_owned()))
            });
        Some(Fact {
            cluster,
            id: state.id.clone(),
            kind: if is_headless { "Headless" } else { "ClusterSetIP" },
            timeout: timeout.filter(|_| affinity == "ClientIP"),
            affinity,
            policy: spec.internal_traffic_policy,
            labels: asked.exported_labels.unwrap_or_default(),
            annotations: asked.exported_annotations.unwrap_or_default(),
            guarded: [name, "everything"]
                .iter()
                .any(|policy| state.api.get(Sort::AccessPolicy, namespace, policy).is_some()),
            ports: ports.collect(),
            since: self.since(cluster, service)?,
        })
    }
}
