//! Pure: who are the peers, and what does this member say of itself?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
use landbridge_model::Timestamp;
use serde_json::json;

use super::{Kind, Object, Plan, Write, versioned};
use crate::observed::{MemberView, Observed, is_ours};

/// How many members a message names.
const MOST_TOLD: usize = 5;
/// The version that a member tells.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn cluster_scoped(name: &str) -> ObjectKey {
    ObjectKey { namespace: String::new(), name: name.to_owned() }
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
            // While the hub cannot be read, somebody may have said where it has gone (`join --rehome`): what was read before is
            // no reason to take that back.
            Some(row) if observed.members.trouble().is_some() && is_ours(&row.kept.1.metadata) => {}
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
        region: member.peer.region.as_ref().map(ToString::to_string),
        drained: member.peer.drained,
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
    if let Some(uid) = observed.duplicate() {
        plan.problem(
            format!("Member {}", config.cluster),
            format!(
                "is told by another cluster too, whose namespace kube-system has uid {uid}: give one of the two another id; until then this one neither exports nor imports anew"
            ),
        );
        return plan;
    }
    let healthy = if view.suspended {
        Wanted::new("Healthy", false, "Suspended", "An administrator has suspended the member.")
    } else {
        Wanted::new("Healthy", true, "Alive", "")
    };
    let wanted = MemberStatus {
        heartbeat: view.status.heartbeat.clone(),
        version: Some(VERSION.to_owned()),
        kubernetes_version: observed
            .kubernetes
            .clone()
            .or_else(|| view.status.kubernetes_version.clone()),
        merge_revision: Some(observed.rulebook().newest()),
        region: config.region.clone(),
        gateways: convert::gateway_endpoints(&config.advertise),
        cluster_uid: observed
            .cluster_uid()
            .map(str::to_owned)
            .or_else(|| view.status.cluster_uid.clone()),
        conditions: condition::apply(
            &view.status.conditions,
            &[Some(healthy), Some(compatible(observed)), drained(view)]
                .into_iter()
                .flatten()
                .collect::<Vec<Wanted>>(),
            view.generation,
            now,
        ),
    };
    let is_due = is_due(view, config.heartbeat, now);
    if is_due || wanted != view.status {
        let wanted = MemberStatus { heartbeat: Some(MicroTime(convert::time(now))), ..wanted };
        let write = Write::Status {
            kind: Kind::Member,
            key: cluster_scoped(config.cluster.as_str()),
            status: json!(wanted),
        };
        let news = plan.ask(observed, Some(write.clone()));
        plan.step(is_due.then_some(write).or(news));
    }
    plan
}

/// Whether it is time for the next heartbeat. One of the future was said by a clock that has been set back since. A
/// tenth early is due too, or a timer that fires a moment early would skip a beat.
fn is_due(view: &MemberView, every: Duration, now: Timestamp) -> bool {
    let said = view.status.heartbeat.as_ref();
    let said = said.map(|time| Timestamp::from_millis(time.0.as_millisecond()));
    said.is_none_or(|said| said > now || now.since(said) * 10 >= every * 9)
}

/// Whether others leave it alone; nothing is said of one that they never have.
fn drained(view: &MemberView) -> Option<Wanted> {
    if view.peer.drained {
        let message = "Other members send it no new calls while another one serves.";
        return Some(Wanted::new("Drained", true, "Drained", message));
    }
    let was = view.status.conditions.iter().any(|had| had.type_ == "Drained");
    was.then(|| Wanted::new("Drained", false, "Serving", ""))
}

/// Whether this member can merge by rules that every other one knows. Each says it of itself: nobody writes the
/// status of another one.
fn compatible(observed: &Observed) -> Wanted {
    let too_old: Vec<&str> = observed.too_old().take(MOST_TOLD).collect();
    if too_old.is_empty() {
        let message = format!("The set merges by revision {}.", observed.merge_revision());
        return Wanted::new("Compatible", true, "Compatible", message);
    }
    let message = format!(
        "Members {} know no merge rules that version {VERSION} knows: upgrade them.",
        too_old.join(", ")
    );
    Wanted::new("Compatible", false, "RevisionTooOld", message)
}
