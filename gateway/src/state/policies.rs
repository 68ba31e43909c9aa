//! Pure: which AccessPolicies are in force for what is exported.
//!
//! Nothing is open by mistake: one that cannot be read, and of which nothing is known, lets nobody in who is let in by no
//! other, to anything of its namespace, since nobody knows what it would have been for.

use std::collections::{BTreeMap, BTreeSet};

use landbridge_api::{access::AccessPolicy, convert::ConvertError};
use landbridge_model::ServiceKey;

use super::store::{Read, Store};
use crate::access::Rule;

/// An AccessPolicy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PolicyView {
    namespace: String,
    /// The Service that it is for; none where it is for all of its namespace.
    service: Option<String>,
    rules: Vec<Rule>,
}

pub(super) fn read_policy(object: &AccessPolicy) -> Read<PolicyView> {
    let metadata = &object.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let rules = object.spec.allow.iter().enumerate().map(|(at, rule)| {
        Rule::read(rule).map_err(|problem| ConvertError {
            object: format!("AccessPolicy {namespace}/{name}"),
            field: format!("spec.allow[{at}]"),
            problem,
        })
    });
    let rules: Result<Vec<Rule>, ConvertError> = rules.collect();
    let service = object.spec.service.clone();
    rules.map(|rules| PolicyView { namespace, service, rules }).into()
}

/// The policies by the namespace that they are of.
pub(super) struct Policies<'a> {
    readable: BTreeMap<&'a str, Vec<&'a PolicyView>>,
    unreadable: BTreeSet<&'a str>,
}

impl<'a> Policies<'a> {
    pub(super) fn of(store: &'a Store<PolicyView>) -> Self {
        let mut readable: BTreeMap<&str, Vec<&PolicyView>> = BTreeMap::new();
        for policy in store.iter() {
            readable.entry(&policy.namespace).or_default().push(policy);
        }
        let unreadable = store.unknown().map(|key| key.namespace.as_str());
        Self { readable, unreadable: unreadable.collect() }
    }

    /// The rules of all that are in force for a service; none where none is, and whoever is of the set may call.
    pub(super) fn rules(&self, service: &ServiceKey) -> Option<Vec<Rule>> {
        let namespace = service.namespace.as_str();
        let all = self.readable.get(namespace).into_iter().flatten();
        let is_for = |policy: &&&PolicyView| {
            policy.service.as_ref().is_none_or(|name| name == service.name.as_str())
        };
        let in_force: Vec<&PolicyView> = all.filter(is_for).copied().collect();
        let is_guarded = !in_force.is_empty() || self.unreadable.contains(namespace);
        is_guarded.then(|| in_force.into_iter().flat_map(|policy| policy.rules.clone()).collect())
    }
}
