//! What a Peer's status says about the links of this gateway to it.
//!
//! Written when it changes, at most once a second: a merge patch of this replica's own entry and of the condition that
//! all replicas' entries add up to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use landbridge_api::{
    condition::{self, Wanted},
    landbridge::{LinkStatus, Peer},
};
use landbridge_model::{ClusterId, Hostname, Timestamp};
use serde_json::json;
use tokio::time::Instant;

use crate::{core::Core, links::Link, transport::ConnectError};

/// The least time between two writes.
const PACE: Duration = Duration::from_secs(1);
/// How soon all is compared with the objects again though no link has changed: they may have been made anew, and what
/// another replica says may have changed.
const REFRESH: Duration = Duration::from_secs(30);
/// The longest error that is written: an object is for reading.
const MAX_ERROR: usize = 512;

/// What is written of one peer: the state, and what went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    state: &'static str,
    reason: &'static str,
    transport: Option<&'static str>,
    error: Option<String>,
}

/// Keeps the status of every peer until the gateway ends, then takes its own entries back.
pub(crate) async fn keep(core: Arc<Core>, client: Client, gateway: Hostname) {
    let peers: Api<Peer> = Api::all(client);
    let mut told: BTreeMap<ClusterId, Told> = BTreeMap::new();
    let mut compared = Instant::now();
    let mut revisions = core.snapshots.subscribe();
    let mut links = core.links.subscribe();
    loop {
        let snapshot = core.snapshots.load();
        told.retain(|cluster, _| snapshot.peers.contains_key(cluster));
        for cluster in snapshot.peers.keys() {
            let now = tell(&core.links.to(cluster), core.links.failure(cluster));
            if told.get(cluster) == Some(&now) && compared.elapsed() < REFRESH {
                continue;
            }
            match write(&core, &peers, cluster, &gateway, &now).await {
                Ok(()) => drop(told.insert(cluster.clone(), now)),
                Err(error) => {
                    core.metrics.status_failures.inc();
                    tracing::debug!(peer = %cluster, "cannot write the status: {error}");
                }
            }
        }
        if compared.elapsed() >= REFRESH {
            compared = Instant::now();
        }
        tokio::select! {
            () = tokio::time::sleep(PACE) => {}
            () = core.leaving.cancelled() => break,
        }
        let behind = told.len() < core.snapshots.load().peers.len();
        tokio::select! {
            _ = revisions.changed() => {}
            _ = links.changed() => {}
            () = tokio::time::sleep(if behind { PACE } else { REFRESH }) => {}
            () = core.leaving.cancelled() => break,
        }
    }
    for cluster in told.keys() {
        let gone = json!({"status": {"links": {gateway.as_str(): null}}});
        // Whoever reads a stale entry also finds the gateway itself gone.
        let _ = peers
            .patch_status(cluster.as_str(), &PatchParams::default(), &Patch::Merge(&gone))
            .await;
    }
}

async fn write(
    core: &Core,
    peers: &Api<Peer>,
    cluster: &ClusterId,
    gateway: &Hostname,
    told: &Told,
) -> Result<(), kube::Error> {
    let now = jiff::Timestamp::now();
    let peer = peers.get(cluster.as_str()).await?;
    let generation = peer.metadata.generation;
    let status = peer.status.unwrap_or_default();
    let before = status.links.get(gateway.as_str());
    let link = LinkStatus {
        state: told.state.to_owned(),
        transport: told.transport.map(str::to_owned),
        round_trip_micros: round_trip(&core.links.to(cluster)),
        since: before
            .filter(|before| before.state == told.state)
            .and_then(|before| before.since.clone())
            .or(Some(Time(now))),
        last_error: told.error.clone(),
    };
    let mut links = status.links.clone();
    links.insert(gateway.to_string(), link.clone());
    let wanted = connected(&links, told);
    let now = Timestamp::from_millis(now.as_millisecond());
    let conditions = condition::apply(&status.conditions, &[wanted], generation, now);
    let same = before.is_some_and(|before| {
        (&before.state, &before.transport, &before.last_error)
            == (&link.state, &link.transport, &link.last_error)
    });
    if same && conditions == status.conditions {
        return Ok(());
    }
    // Absent fields of a merge patch would keep their old value: an error that is over is nulled.
    let mut link = json!(link);
    if told.error.is_none() {
        link["lastError"] = json!(null);
    }
    if told.transport.is_none() {
        link["transport"] = json!(null);
    }
    let patch = json!({"status": {"links": {gateway.as_str(): link}, "conditions": conditions}});
    peers
        .patch_status(cluster.as_str(), &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
}

fn round_trip(links: &[Arc<Link>]) -> Option<u64> {
    let shortest = links.iter().map(|link| link.connection.heard().1).min()?;
    u64::try_from(shortest.as_micros()).ok()
}

/// What to say of the links to one peer and the last failure to dial it.
fn tell(links: &[Arc<Link>], failure: Option<ConnectError>) -> Told {
    let takes = links.iter().filter(|link| link.state().takes_streams());
    if let Some(over) = takes.map(|link| link.connection.carrier()).min() {
        let transport = Some(over.as_str());
        return Told { state: "Connected", reason: "Connected", transport, error: None };
    }
    if !links.is_empty() {
        return Told {
            state: "Suspect",
            reason: "Suspect",
            transport: None,
            error: Some("the peer has fallen silent".to_owned()),
        };
    }
    let (state, reason) = match &failure {
        None | Some(ConnectError::Unreachable(_)) => ("Dialing", "Dialing"),
        Some(ConnectError::CertificateInvalid(_)) => ("Refused", "CertificateInvalid"),
        Some(ConnectError::Refused(why)) if why.contains("not listed") => ("Refused", "NotListed"),
        Some(ConnectError::Refused(_)) => ("Refused", "Refused"),
    };
    Told {
        state,
        reason,
        transport: None,
        error: failure.map(|error| error.to_string().chars().take(MAX_ERROR).collect()),
    }
}

/// What the links of all replicas add up to: a peer that one of them reaches is connected.
fn connected(links: &BTreeMap<String, LinkStatus>, told: &Told) -> Wanted {
    let reached = links.iter().find(|(_, link)| link.state == "Connected");
    match reached {
        Some((gateway, _)) => {
            Wanted::new("Connected", true, "Connected", format!("gateway {gateway} holds a link"))
        }
        None => Wanted::new(
            "Connected",
            false,
            told.reason,
            told.error.clone().unwrap_or_else(|| "no link stands yet".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Option<ConnectError>) -> (&'static str, &'static str) {
        let told = tell(&[], failure);
        (told.state, told.reason)
    }

    /// Examples C: "Dialing, Suspect, Refused, CertificateInvalid, NotListed".
    #[test]
    fn a_peer_without_a_link_is_told_with_its_reason() {
        let error = |text: &str| text.to_owned();
        assert_eq!(check(None), ("Dialing", "Dialing"));
        assert_eq!(
            check(Some(ConnectError::Unreachable(error("timed out")))),
            ("Dialing", "Dialing")
        );
        assert_eq!(
            check(Some(ConnectError::CertificateInvalid(error("of another set")))),
            ("Refused", "CertificateInvalid")
        );
        assert_eq!(
            check(Some(ConnectError::Refused(error("closed by peer: not listed")))),
            ("Refused", "NotListed")
        );
        assert_eq!(check(Some(ConnectError::Refused(error("tls")))), ("Refused", "Refused"));
    }

    #[test]
    fn one_replica_that_reaches_the_peer_is_enough() {
        let link = |state: &str| LinkStatus { state: state.to_owned(), ..LinkStatus::default() };
        let told = tell(&[], Some(ConnectError::Unreachable("timed out".to_owned())));
        let mut links = BTreeMap::from([("gw-0".to_owned(), link("Dialing"))]);
        let wanted = connected(&links, &told);
        assert_eq!((wanted.status, wanted.reason.as_str()), (Some(false), "Dialing"));
        links.insert("gw-1".to_owned(), link("Connected"));
        assert_eq!(connected(&links, &told).status, Some(true));
    }
}
