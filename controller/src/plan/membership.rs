//! Pure: who are the peers, and what does this member say of itself?

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use landbridge_api::{
    condition::{self, Wanted},
    convert,
    landbridge::{MemberStatus, Peer, PeerSpec},
    watch::ObjectKey,
    wellknown::{APP_MANAGED_BY, LANDBRIDGE},
};
use landbridge_model::{MERGE_REVISION, Timestamp};
use serde_json::json;

use super::{Kind, Object, Plan, Write, versioned};
use crate::observed::{MemberView, Observed, is_ours};

/// The version that a member tells.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn cluster_scoped(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: String::new(),
        name: name.to_owned(),
    }
}

/// The namespace that Landbridge lives in: gateways that run as plain processes write their slices there.
pub(super) fn home(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let name = observed.config.system_namespace.as_str();
    if observed.namespaces.find(&cluster_scoped(name)).is_none() {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(label()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        plan.step([Write::Create(Object::Namespace(Box::new(namespace)))]);
    }
    plan
}

fn label() -> BTreeMap<String, String> {
    BTreeMap::from([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())])
}

/// Every other member is a peer; one that is gone, or whose Member cannot be read, is no peer any more, or stays the
/// peer that it was.
pub(super) fn peers(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut writes = Vec::new();
    for (key, row) in observed.members.rows() {
        if key.name == observed.config.cluster.as_str() {
            continue;
        }
        wanted.insert(&key.name);
        let spec = peer_spec(&row.kept);
        match observed.peers.row(&cluster_scoped(&key.name)) {
            None => {
                let mut peer = Peer::new(&key.name, spec);
                peer.metadata.labels = Some(label());
                writes.push(Write::Create(Object::Peer(Box::new(peer))));
            }
            Some(row) if row.kept.0 == spec => {}
            Some(row) if !is_ours(&row.kept.1.metadata) => plan.problem(
                format!("Peer {}", key.name),
                "is not ours and says other things than the hub: delete it",
            ),
            Some(row) => {
                let mut peer = row.kept.1.clone();
                peer.spec = spec;
                versioned(&mut peer.metadata, &row.version);
                writes.push(Write::Update(Object::Peer(Box::new(peer))));
            }
        }
    }
    for (key, row) in observed.peers.rows() {
        let is_member =
            wanted.contains(key.name.as_str()) || observed.members.malformed().contains_key(key);
        if !is_member && is_ours(&row.kept.1.metadata) {
            writes.push(Write::Delete {
                kind: Kind::Peer,
                key: key.clone(),
                uid: Some(row.uid.clone()),
            });
        }
    }
    plan.step(writes);
    plan
}

fn peer_spec(member: &MemberView) -> PeerSpec {
    PeerSpec {
        generation: i64::try_from(member.peer.generation).unwrap_or(i64::MAX),
        network: member.peer.network.to_string(),
        gateways: convert::gateway_endpoints(&member.peer.gateways),
    }
}

/// What this member says of itself, when it is time to say it again or when something of it has changed.
pub(super) fn member(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let config = &observed.config;
    let Some(view) = observed.member(&config.cluster) else {
        plan.problem(
            format!("Member {}", config.cluster),
            "is not on the hub: the cluster has not joined the set, or has been removed from it",
        );
        return plan;
    };
    if view.peer.network != config.network {
        plan.problem(
            format!("Member {}", config.cluster),
            format!(
                "says network {:?}, this controller was told {:?}: correct one of them",
                view.peer.network, config.network
            ),
        );
    }
    let healthy = if view.suspended {
        Wanted::new(
            "Healthy",
            false,
            "Suspended",
            "An administrator has suspended the member.",
        )
    } else {
        Wanted::new("Healthy", true, "Alive", "")
    };
    let wanted = MemberStatus {
        heartbeat: view.status.heartbeat.clone(),
        version: Some(VERSION.to_owned()),
        merge_revision: Some(MERGE_REVISION),
        region: config.region.clone(),
        gateways: convert::gateway_endpoints(&config.advertise),
        conditions: condition::apply(&view.status.conditions, &[healthy], None, now),
    };
    let said = view.status.heartbeat.as_ref();
    let said = said.map(|time| Timestamp::from_millis(time.0.as_millisecond()));
    // A heartbeat of the future was said by a clock that has been set back since.
    // A tenth early is due too, or a timer that fires a moment early would skip a beat.
    let is_due = |said| said > now || now.since(said) * 10 >= config.heartbeat * 9;
    let is_due = said.is_none_or(is_due);
    if is_due || wanted != view.status {
        let wanted = MemberStatus {
            heartbeat: Some(MicroTime(convert::time(now))),
            ..wanted
        };
        plan.step([Write::Status {
            kind: Kind::Member,
            key: cluster_scoped(config.cluster.as_str()),
            status: json!(wanted),
        }]);
    }
    plan
}

/// Members of whom nothing is heard cannot say so themselves. Of those that are heard, the one with the lowest id
/// says it, so that a hundred members do not write the same sentence. Links, not this, decide about what goes
/// through gateways; a member that comes back says that it is well.
pub(super) fn liveness(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let silent = |key: &ObjectKey| observed.silent_members.contains(&key.name);
    let speaker = observed
        .members
        .rows()
        .map(|(key, _)| key)
        .find(|key| !silent(key));
    if speaker.is_none_or(|speaker| speaker.name != observed.config.cluster.as_str()) {
        return plan;
    }
    let missed = Wanted::new(
        "Healthy",
        false,
        "HeartbeatMissed",
        "The member's controller has not been heard of for 10 seconds.",
    );
    let writes = observed
        .members
        .rows()
        .filter(|(key, _)| silent(key))
        .filter_map(|(key, row)| {
            let current = &row.kept.status.conditions;
            let conditions = condition::apply(current, std::slice::from_ref(&missed), None, now);
            (conditions != *current).then(|| Write::Status {
                kind: Kind::Member,
                key: key.clone(),
                status: json!({ "conditions": conditions }),
            })
        });
    plan.step(writes);
    plan
}
