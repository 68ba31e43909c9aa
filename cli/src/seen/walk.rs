//! Pure: the way of a call to one service, step by step as this cluster and its hub tell it: export, hub, import, DNS, port,
//! link, policy, endpoint. What is wrong first is what people have to see to; what comes after may only follow from it.

mod here;
mod there;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::{
    landbridge::ClusterExport,
    mcs::{ServiceExport, ServiceImport},
    wellknown::{CLUSTER_ID_PROPERTY, NETWORK_PROPERTY},
};
use landbridge_model::ServiceKey;
use serde::Serialize;

use super::{Asked, Facts, Unread, known};

/// How a step went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// Somebody should know.
    Note,
    /// It could not be looked at.
    Unknown,
    /// No call gets past it.
    Wrong,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Step {
    pub(crate) step: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) says: String,
    /// What to do; empty where that is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

impl Step {
    fn new(
        step: &'static str,
        verdict: Verdict,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { step, verdict, says: says.into(), remedy: remedy.into() }
    }

    fn good(step: &'static str, says: impl Into<String>) -> Self {
        Self::new(step, Verdict::Good, says, "")
    }

    fn note(step: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(step, Verdict::Note, says, remedy)
    }

    fn wrong(step: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(step, Verdict::Wrong, says, remedy)
    }

    fn unknown(step: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(step, Verdict::Unknown, says, remedy)
    }

    /// Why something could not be looked at.
    fn unread(step: &'static str, why: &Unread) -> Self {
        match why {
            Unread::Denied(what) => {
                Self::unknown(step, format!("you may not {what}"), "ask somebody who may")
            }
            Unread::NoKind => Self::wrong(
                step,
                "its kind is not served here",
                "run `landbridge init` or `landbridge join`: see `kinds` of `landbridge check`",
            ),
            Unread::NotAsked => Self::unknown(step, "it was not asked for", ""),
            Unread::Trouble(what) => Self::unknown(step, what.clone(), "ask again"),
        }
    }
}

/// What is known of one service.
struct Way<'a> {
    facts: &'a Facts,
    service: &'a ServiceKey,
    /// All slices of its namespace.
    slices: &'a Asked<Vec<EndpointSlice>>,
    /// What this cluster is called.
    own: &'a str,
    export: Option<&'a ServiceExport>,
    import: Option<&'a ServiceImport>,
    /// As the hub has them, by cluster.
    on_hub: BTreeMap<&'a str, &'a ClusterExport>,
}

/// Walks it.
pub(crate) fn walk(
    facts: &Facts,
    service: &ServiceKey,
    slices: &Asked<Vec<EndpointSlice>>,
) -> Vec<Step> {
    let is = |namespace: &Option<String>, name: &Option<String>| {
        namespace.as_deref() == Some(service.namespace.as_str())
            && name.as_deref() == Some(service.name.as_str())
    };
    let exports = known(&facts.exports).iter();
    let imports = known(&facts.imports).iter();
    let on_hub = known(&facts.hub.exports).iter().filter_map(|export| {
        let said = &export.spec.service;
        let is_it =
            said.namespace == service.namespace.as_str() && said.name == service.name.as_str();
        let cluster = export.metadata.namespace.as_deref()?.strip_prefix("cluster-")?;
        is_it.then_some((cluster, export))
    });
    let way = Way {
        facts,
        service,
        slices,
        own: facts.property(CLUSTER_ID_PROPERTY).unwrap_or_default(),
        export: exports.into_iter().find(|one| is(&one.metadata.namespace, &one.metadata.name)),
        import: imports.into_iter().find(|one| is(&one.metadata.namespace, &one.metadata.name)),
        on_hub: on_hub.collect(),
    };
    vec![
        there::export(&way),
        there::hub(&way),
        here::import(&way),
        here::dns(&way),
        here::port(&way),
        there::link(&way),
        here::policy(&way),
        there::endpoint(&way),
    ]
}

impl Way<'_> {
    /// All that export it, as far as is known here.
    fn exporters(&self) -> BTreeSet<&str> {
        let imported = self.import.iter().flat_map(|import| import.status.iter());
        let imported = imported.flat_map(|status| &status.clusters).map(|one| one.cluster.as_str());
        let own = self.export.map(|_| self.own);
        imported.chain(self.on_hub.keys().copied()).chain(own).collect()
    }

    /// Those that are reached through gateways, since they are of another network.
    fn across(&self) -> Vec<&str> {
        let own = self.network(self.own);
        let all = self.exporters().into_iter().filter(|one| *one != self.own);
        all.filter(|one| {
            let theirs = self.network(one);
            theirs.is_none() || theirs != own
        })
        .collect()
    }

    fn network(&self, cluster: &str) -> Option<&str> {
        let named = |name: &Option<String>| name.as_deref() == Some(cluster);
        let member = known(&self.facts.hub.members).iter().find(|one| named(&one.metadata.name));
        let peer = known(&self.facts.peers).iter().find(|one| named(&one.metadata.name));
        let profile = known(&self.facts.profiles).iter().find(|one| named(&one.metadata.name));
        let property = profile
            .and_then(|profile| profile.status.as_ref())
            .and_then(|status| status.properties.iter().find(|one| one.name == NETWORK_PROPERTY));
        member
            .map(|member| member.spec.network.as_str())
            .or_else(|| peer.map(|peer| peer.spec.network.as_str()))
            .or_else(|| property.map(|property| property.value.as_str()))
    }

    /// Slices of its namespace with a label of this value.
    fn labelled(&self, label: &str, value: &str) -> Vec<&EndpointSlice> {
        let has = |slice: &&EndpointSlice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(label)).is_some_and(|one| one == value)
        };
        known(self.slices).iter().filter(has).collect()
    }
}

/// How many endpoints take calls.
fn ready(slices: &[&EndpointSlice]) -> usize {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let is_ready = |conditions: Option<bool>| conditions.unwrap_or(true);
    endpoints.filter(|one| is_ready(one.conditions.as_ref().and_then(|all| all.ready))).count()
}

/// What is to be seen to, where anything is.
pub(crate) fn first_wrong(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|step| step.verdict == Verdict::Wrong)
}

#[cfg(test)]
mod tests;
