//! Pure: which TrafficPolicy is in force for what is imported, and what that means for its calls.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use landbridge_api::{
    convert::ConvertError,
    traffic::{Locality, TrafficPolicy, TrafficPolicySpec, precedence},
    watch::ObjectKey,
};
use landbridge_model::{ClusterId, ServiceKey};

use super::store::{Read, Store};
use crate::route::{
    outlier,
    rules::{CallRules, Capacity, Rules, Spill},
};

/// A TrafficPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrafficView {
    metadata: ObjectMeta,
    service: ServiceKey,
    rules: Arc<Rules>,
    call: CallRules,
}

pub(super) fn read_policy(object: &TrafficPolicy) -> Read<TrafficView> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let error = |field: &str, problem: &dyn ToString| ConvertError {
        object: format!("TrafficPolicy {}", ObjectKey::of(&object.metadata)),
        field: field.to_owned(),
        problem: problem.to_string(),
    };
    let read = || {
        let service = ServiceKey::parse(namespace, &object.spec.service)
            .map_err(|problem| error("spec.service", &problem))?;
        let rules = rules(&object.spec).map_err(|problem| error("spec.clusters", &problem))?;
        let metadata = ObjectMeta {
            name: object.metadata.name.clone(),
            creation_timestamp: object.metadata.creation_timestamp.clone(),
            ..ObjectMeta::default()
        };
        Ok(TrafficView { metadata, service, rules: Arc::new(rules), call: call(&object.spec) })
    };
    read().into()
}

fn rules(spec: &TrafficPolicySpec) -> Result<Rules, landbridge_model::NameError> {
    let weights = spec
        .clusters
        .iter()
        .map(|one| ClusterId::parse(&one.cluster).map(|cluster| (cluster, u32::from(one.weight))));
    let weights = weights.collect::<Result<_, _>>()?;
    let usual = Rules::default();
    let outliers = spec.outliers.as_ref().map_or(usual.outliers, |said| outlier::Settings {
        failures: said.failures.map_or(usual.outliers.failures, u32::from),
        base: said
            .seconds
            .map_or(usual.outliers.base, |seconds| Duration::from_secs(seconds.into())),
        most: said.most_percent.unwrap_or(usual.outliers.most),
    });
    Ok(Rules {
        weights: (!spec.clusters.is_empty()).then_some(weights),
        anywhere: spec.locality == Some(Locality::Anywhere),
        spill: spec.spill_over.as_ref().map(|said| Spill {
            healthy: said.healthy_percent.map(u32::from),
            calls: said.connections,
        }),
        outliers,
    })
}

fn call(spec: &TrafficPolicySpec) -> CallRules {
    let timeouts = spec.timeouts.as_ref();
    let connect = timeouts.and_then(|timeouts| timeouts.connect_seconds);
    let idle = timeouts.and_then(|timeouts| timeouts.idle_seconds);
    CallRules {
        connect: connect.map(|seconds| Duration::from_secs(seconds.into())),
        idle: idle.map(|seconds| Duration::from_secs(seconds.into())),
        retries: spec.retries.map(usize::from),
        replay_safe: spec.replay_safe,
    }
}

/// The policies that are in force, by the service that they are for.
pub(super) struct Traffic<'a>(HashMap<&'a ServiceKey, &'a TrafficView>);

impl<'a> Traffic<'a> {
    pub(super) fn of(store: &'a Store<TrafficView>) -> Self {
        let mut in_force: HashMap<&ServiceKey, &TrafficView> = HashMap::new();
        for policy in store.iter() {
            let known = in_force.entry(&policy.service).or_insert(policy);
            if precedence(&policy.metadata, &known.metadata).is_lt() {
                *known = policy;
            }
        }
        Self(in_force)
    }

    /// What holds for calls to a service.
    pub(super) fn for_service(&self, service: &ServiceKey) -> (Arc<Rules>, CallRules) {
        match self.0.get(service) {
            Some(policy) => (Arc::clone(&policy.rules), policy.call),
            None => (Arc::default(), CallRules::default()),
        }
    }
}

/// The endpoints of a cluster, as its MCS slice tells them where a policy needs to know: `3/4` are ready.
pub(super) fn capacity(text: &str) -> Option<Capacity> {
    let (ready, total) = text.split_once('/')?;
    Some(Capacity { ready: ready.parse().ok()?, total: total.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: &Value) -> (Rules, CallRules) {
        let object: TrafficPolicy = serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "web"}, "spec": spec,
        }))
        .unwrap();
        match read_policy(&object) {
            Read::Ours(view) => (Rules::clone(&view.rules), view.call),
            _ => panic!("not read"),
        }
    }

    #[test]
    fn what_a_policy_does_not_say_is_as_usual() {
        assert_eq!(check(&json!({"service": "web"})), (Rules::default(), CallRules::default()));
    }

    #[test]
    fn what_a_policy_says_is_in_force() {
        let (rules, call) = check(&json!({
            "service": "web", "locality": "Anywhere",
            "clusters": [{"cluster": "paris", "weight": 90}],
            "spillOver": {"healthyPercent": 70, "connections": 1000},
            "timeouts": {"connectSeconds": 3, "idleSeconds": 60},
            "outliers": {"failures": 2, "seconds": 5, "mostPercent": 20},
            "retries": 0, "replaySafe": true,
        }));
        assert_eq!(rules.weights.unwrap()[&ClusterId::parse("paris").unwrap()], 90);
        assert_eq!(rules.spill, Some(Spill { healthy: Some(70), calls: Some(1_000) }));
        let five = Duration::from_secs(5);
        assert_eq!(rules.outliers, outlier::Settings { failures: 2, base: five, most: 20 });
        let (connect, idle) = (Some(Duration::from_secs(3)), Some(Duration::from_secs(60)));
        assert_eq!(call, CallRules { connect, idle, retries: Some(0), replay_safe: true });
    }
}
