//! Pure: what tools of others are told of the set's members, in each cluster: a ClusterProfile (KEP-4322) and a Lease.
//!
//! KEP-1645 "EndpointSlice": "We recommend creating leases to represent connectivity with source clusters." Each is
//! renewed while something is heard of its member, by this cluster's own clock, so that a monitor which takes away the
//! slices of lost clusters can go by it. A hub that cannot be read makes nobody silent: then all are renewed.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::Resource;
use landbridge_api::{
    condition::{self, Wanted},
    convert,
    inventory::{
        ClusterManager, ClusterProfile, ClusterProfileSpec, ClusterProfileStatus, ClusterVersion,
        Property,
    },
    watch::ObjectKey,
    wellknown::{
        APP_MANAGED_BY, CLUSTER_ID_PROPERTY, CLUSTER_MANAGER, CLUSTER_SET, CLUSTER_SET_PROPERTY,
        LANDBRIDGE, NETWORK_PROPERTY, REGION_PROPERTY, SOURCE_CLUSTER, VERSION_PROPERTY,
        member_lease,
    },
};
use landbridge_model::Timestamp;
use serde_json::json;

use super::{Kind, Object, Plan, Write, versioned};
use crate::observed::{MemberView, Observed, Row, is_ours};

/// How old a Lease becomes before it is renewed, and for how long it holds: as kubelets keep those of nodes, which an
/// API server bears by the thousand.
const RENEWAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if observed.member_leases.is_synced() {
        leases(&mut plan, observed, now);
    }
    if observed.cluster_profiles.is_synced() && observed.is_hub_synced() {
        profiles(&mut plan, observed, now);
    }
    plan
}

/// Whether something is heard of a member. This cluster need not be told of itself.
fn is_heard(observed: &Observed, member: &str) -> bool {
    member == observed.config.cluster.as_str() || !observed.silent_members.contains(member)
}

fn within(observed: &Observed, name: &str) -> ObjectKey {
    let namespace = observed.config.system_namespace.to_string();
    ObjectKey { namespace, name: name.to_owned() }
}

fn leases(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let mut writes = Vec::new();
    // As long as the hub was not read since the start, who is a member is what the Leases say.
    for (key, _) in observed.members.rows().filter(|_| observed.is_hub_synced()) {
        let name = within(observed, &member_lease(&key.name));
        if observed.member_leases.row(&name).is_none() {
            let lease = lease(Lease::default(), &name, &key.name, now);
            writes.push(Write::Create(Object::Lease(Box::new(lease))));
        }
    }
    for (key, row) in observed.member_leases.rows() {
        let labels = row.kept.metadata.labels.as_ref();
        let member = labels.and_then(|labels| labels.get(SOURCE_CLUSTER));
        let Some(member) = member.filter(|member| key.name == member_lease(member)) else {
            continue;
        };
        if !is_ours(&row.kept.metadata) {
            plan.problem(
                format!("Lease {key}"),
                "is not ours and has the name of one that is: rename or delete it",
            );
        } else if is_gone(observed, member) {
            writes.push(delete(Kind::Lease, key, row));
        } else if is_heard(observed, member) && is_due(&row.kept, now) {
            let mut lease = lease(row.kept.clone(), key, member, now);
            versioned(&mut lease.metadata, &row.version);
            writes.push(Write::Update(Object::Lease(Box::new(lease))));
        }
    }
    plan.step(writes);
}

/// Whether there is no such member any more. One that cannot be read is still there.
fn is_gone(observed: &Observed, member: &str) -> bool {
    let key = ObjectKey { namespace: String::new(), name: member.to_owned() };
    observed.is_hub_synced()
        && observed.members.find(&key).is_none()
        && !observed.members.malformed().contains_key(&key)
}

fn delete<K>(kind: Kind, key: &ObjectKey, row: &Row<K>) -> Write {
    Write::Delete { kind, key: key.clone(), uid: Some(row.uid.clone()) }
}

/// A tenth early is due too, as for heartbeats; what was renewed in the future was so by a clock since set back.
fn is_due(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let renewed = renewed.map(|time| Timestamp::from_millis(time.0.as_millisecond()));
    renewed.is_none_or(|at| at > now || now.since(at) * 10 >= RENEWAL * 9)
}

fn lease(lease: Lease, key: &ObjectKey, member: &str, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels(&[(SOURCE_CLUSTER, member)])),
            ..lease.metadata
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(member.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(convert::time(now))),
            ..lease.spec.unwrap_or_default()
        }),
    }
}

fn labels(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = more.iter().chain(&[(APP_MANAGED_BY, LANDBRIDGE)]);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn profiles(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let (mut objects, mut statuses) = (Vec::new(), Vec::new());
    for (member, row) in observed.members.rows() {
        let key = within(observed, &member.name);
        let known = observed.cluster_profiles.row(&key);
        if observed.cluster_profiles.malformed().contains_key(&key) {
            continue;
        }
        match known {
            None => {
                let profile = profile(observed, &key);
                objects.push(Write::Create(Object::ClusterProfile(Box::new(profile))));
            }
            Some(row) if !is_ours(&row.kept.metadata) => {
                plan.problem(
                    format!("ClusterProfile {key}"),
                    "is another cluster manager's and has the name of a member: rename or delete it",
                );
                continue;
            }
            Some(_) => {}
        }
        let current = known.map(|row| &row.kept);
        statuses.extend(status(observed, &key, &row.kept, current, now));
    }
    let known = observed.cluster_profiles.rows();
    let gone = known.filter(|(key, row)| {
        is_ours(&row.kept.metadata)
            && key.namespace == observed.config.system_namespace.as_str()
            && is_gone(observed, &key.name)
    });
    objects.extend(gone.map(|(key, row)| delete(Kind::ClusterProfile, key, row)));
    plan.step(objects);
    plan.step(statuses);
}

/// A new one. Its display name is for people to change, and nothing else of it ever does.
fn profile(observed: &Observed, key: &ObjectKey) -> ClusterProfile {
    let mut profile = ClusterProfile::new(
        &key.name,
        ClusterProfileSpec {
            display_name: Some(key.name.clone()),
            cluster_manager: ClusterManager { name: LANDBRIDGE.to_owned() },
        },
    );
    let set = observed.config.set.as_str();
    let metadata = profile.meta_mut();
    metadata.namespace = Some(key.namespace.clone());
    metadata.labels = Some(labels(&[(CLUSTER_MANAGER, LANDBRIDGE), (CLUSTER_SET, set)]));
    profile
}

fn status(
    observed: &Observed,
    key: &ObjectKey,
    member: &MemberView,
    current: Option<&ClusterProfile>,
    now: Timestamp,
) -> Option<Write> {
    let generation = current.map_or(Some(1), |profile| profile.metadata.generation);
    let current = current.and_then(|profile| profile.status.clone()).unwrap_or_default();
    let told = &member.status;
    let properties = [
        (CLUSTER_ID_PROPERTY, Some(key.name.as_str())),
        (CLUSTER_SET_PROPERTY, Some(observed.config.set.as_str())),
        (NETWORK_PROPERTY, Some(member.peer.network.as_str())),
        (REGION_PROPERTY, told.region.as_deref()),
        (VERSION_PROPERTY, told.version.as_deref()),
    ];
    let is_ours = |property: &Property| properties.iter().any(|(name, _)| *name == property.name);
    let of_others = current.properties.iter().filter(|property| !is_ours(property)).cloned();
    let ours = properties.iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?.to_owned();
        Some(Property { name: (*name).to_owned(), value, last_observed_time: None })
    });
    let kubernetes = told.kubernetes_version.clone();
    let wanted = ClusterProfileStatus {
        conditions: condition::apply(
            &current.conditions,
            &[healthy(observed, &key.name, member)],
            generation,
            now,
        ),
        version: kubernetes
            .map(|version| ClusterVersion { kubernetes: Some(version) })
            .or_else(|| current.version.clone()),
        properties: of_others.chain(ours).collect(),
    };
    (wanted != current).then(|| Write::Status {
        kind: Kind::ClusterProfile,
        key: key.clone(),
        status: json!(wanted),
    })
}

/// What is heard of a member says whether its controller lives and can read and write; of one that is silent nothing
/// is known.
fn healthy(observed: &Observed, name: &str, member: &MemberView) -> Wanted {
    const TYPE: &str = "ControlPlaneHealthy";
    if !is_heard(observed, name) {
        let message = "Nothing is heard of the member's controller.";
        return Wanted::new(TYPE, None, "HeartbeatMissed", message);
    }
    if member.status.heartbeat.is_none() {
        let message = "The member has joined, and its controller has not been heard yet.";
        return Wanted::new(TYPE, None, "NotHeardYet", message);
    }
    Wanted::new(TYPE, true, "Alive", "")
}
