//! Pure: how a cluster stands in its set, in the form that programs are told and people are shown.

use std::collections::{BTreeMap, BTreeSet};

use landbridge_api::wellknown::{
    CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY, NETWORK_PROPERTY, REGION_PROPERTY, VERSION_PROPERTY,
};
use landbridge_model::Timestamp;
use serde::Serialize;

use super::{
    Facts, Unread,
    checks::{self, Finding, Level, condition, version},
    known,
};
use crate::init::progress::progress;

/// All of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) cluster: String,
    pub(crate) cluster_set: String,
    /// Whether this cluster keeps the set's Members.
    pub(crate) is_hub: bool,
    pub(crate) kubernetes: String,
    pub(crate) components: Vec<Component>,
    pub(crate) members: Vec<Member>,
    pub(crate) links: Vec<Link>,
    pub(crate) exports: Vec<Export>,
    pub(crate) imports: Vec<Import>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) ready: i32,
    pub(crate) wanted: i32,
    /// As its pods say.
    pub(crate) versions: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    pub(crate) cluster: String,
    /// Whether it is the cluster that was asked.
    pub(crate) is_own: bool,
    pub(crate) network: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) kubernetes: Option<String>,
    /// `Alive`, or why not.
    pub(crate) state: Option<String>,
    /// What it said last, by its own clock; where the hub was asked.
    pub(crate) heartbeat: Option<String>,
    /// Where its gateways are dialled.
    pub(crate) gateways: Vec<String>,
}

/// Of one gateway of this cluster to one peer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Link {
    pub(crate) peer: String,
    /// Empty where no gateway has told of the peer.
    pub(crate) gateway: String,
    pub(crate) state: String,
    pub(crate) transport: Option<String>,
    pub(crate) round_trip_micros: Option<u64>,
    pub(crate) since: Option<String>,
    pub(crate) last_error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Export {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) is_ready: bool,
    /// Why it is not.
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Import {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) ips: Vec<String>,
    /// Who exports it, the oldest first.
    pub(crate) clusters: Vec<String>,
    pub(crate) is_ready: bool,
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub(crate) what: String,
    pub(crate) ends: Option<String>,
    pub(crate) seconds_left: Option<u64>,
    /// Why it is not known when it ends.
    pub(crate) unknown: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    pub(crate) check: &'static str,
    /// `ok`, `note` or `wrong`.
    pub(crate) level: &'static str,
    pub(crate) says: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
    pub(crate) page: String,
}

/// What the facts add up to.
pub(crate) fn of(facts: &Facts) -> Report {
    let own = facts.property(CLUSTER_ID_PROPERTY).unwrap_or_default().to_owned();
    Report {
        is_hub: facts.is_hub(&own),
        cluster_set: facts.property(CLUSTER_SET_PROPERTY).unwrap_or_default().to_owned(),
        kubernetes: facts.server.2.clone(),
        components: components(facts),
        members: members(facts, &own),
        links: links(facts),
        exports: exports(facts),
        imports: imports(facts),
        certificates: facts.certificates.iter().map(|one| certificate(one, facts.now)).collect(),
        problems: findings(&checks::problems(facts)),
        cluster: own,
    }
}

/// For a program.
pub(crate) fn findings(found: &[Finding]) -> Vec<Problem> {
    let one = |finding: &Finding| Problem {
        check: finding.check.name(),
        level: match finding.level {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Wrong => "wrong",
        },
        says: finding.says.clone(),
        remedy: finding.remedy.clone(),
        page: finding.check.page(),
    };
    found.iter().map(one).collect()
}

fn components(facts: &Facts) -> Vec<Component> {
    let all = known(&facts.deployments).iter().map(progress);
    all.map(|one| {
        let part = one.name.trim_start_matches("landbridge-");
        let versions: BTreeSet<&str> = facts.components_of(part).filter_map(version).collect();
        let versions = versions.into_iter().map(str::to_owned).collect();
        Component { ready: one.ready, wanted: one.wanted, versions, name: one.name }
    })
    .collect()
}

/// As the inventory here says, which every member has; and as the hub says, where it was asked.
fn members(facts: &Facts, own: &str) -> Vec<Member> {
    let mut all: BTreeMap<String, Member> = BTreeMap::new();
    for profile in known(&facts.profiles) {
        let name = profile.metadata.name.clone().unwrap_or_default();
        let status = profile.status.clone().unwrap_or_default();
        let property = |name: &str| {
            let found = status.properties.iter().find(|one| one.name == name);
            found.map(|one| one.value.clone())
        };
        let healthy = condition(&status.conditions, "ControlPlaneHealthy");
        all.insert(
            name,
            Member {
                network: property(NETWORK_PROPERTY),
                region: property(REGION_PROPERTY),
                version: property(VERSION_PROPERTY),
                kubernetes: status.version.as_ref().and_then(|version| version.kubernetes.clone()),
                state: healthy.map(|one| one.reason.clone()),
                ..Member::default()
            },
        );
    }
    for member in known(&facts.hub.members) {
        let one = all.entry(member.metadata.name.clone().unwrap_or_default()).or_default();
        let status = member.status.clone().unwrap_or_default();
        one.network = Some(member.spec.network.clone());
        one.version = status.version.or_else(|| one.version.take());
        one.kubernetes = status.kubernetes_version.or_else(|| one.kubernetes.take());
        one.heartbeat = status.heartbeat.map(|at| at.0.to_string());
        one.gateways = status.gateways.into_iter().map(|one| one.address).collect();
        if member.spec.suspended {
            one.state = Some("Suspended".into());
        }
    }
    for peer in known(&facts.peers) {
        let one = all.entry(peer.metadata.name.clone().unwrap_or_default()).or_default();
        one.network.get_or_insert_with(|| peer.spec.network.clone());
        if one.gateways.is_empty() {
            one.gateways = peer.spec.gateways.iter().map(|one| one.address.clone()).collect();
        }
    }
    all.into_iter()
        .map(|(cluster, member)| Member { is_own: cluster == own, cluster, ..member })
        .collect()
}

fn links(facts: &Facts) -> Vec<Link> {
    let mut all = Vec::new();
    for peer in known(&facts.peers) {
        let name = peer.metadata.name.clone().unwrap_or_default();
        let links = peer.status.clone().unwrap_or_default().links;
        if links.is_empty() {
            let [gateway, state] = [String::new(), "Unknown".to_owned()];
            all.push(Link {
                peer: name,
                gateway,
                state,
                transport: None,
                round_trip_micros: None,
                since: None,
                last_error: None,
            });
            continue;
        }
        all.extend(links.into_iter().map(|(gateway, link)| Link {
            peer: name.clone(),
            gateway,
            state: link.state,
            transport: link.transport,
            round_trip_micros: link.round_trip_micros,
            since: link.since.map(|at| at.0.to_string()),
            last_error: link.last_error,
        }));
    }
    all
}

fn exports(facts: &Facts) -> Vec<Export> {
    let all = known(&facts.exports).iter().map(|export| {
        let conditions = export.conditions();
        let is = |type_: &str| condition(conditions, type_).is_some_and(|one| one.status == "True");
        let not = ["Valid", "Ready"]
            .into_iter()
            .find_map(|type_| condition(conditions, type_).filter(|one| one.status != "True"));
        Export {
            namespace: export.metadata.namespace.clone().unwrap_or_default(),
            name: export.metadata.name.clone().unwrap_or_default(),
            is_ready: is("Ready"),
            reason: not.map(|one| one.reason.clone()),
        }
    });
    all.collect()
}

fn imports(facts: &Facts) -> Vec<Import> {
    let all = known(&facts.imports).iter().map(|import| {
        let ready = condition(import.conditions(), "Ready");
        let clusters = import.status.iter().flat_map(|status| &status.clusters);
        Import {
            namespace: import.metadata.namespace.clone().unwrap_or_default(),
            name: import.metadata.name.clone().unwrap_or_default(),
            type_: import.spec.type_.clone(),
            ips: import.spec.ips.clone(),
            clusters: clusters.map(|one| one.cluster.clone()).collect(),
            is_ready: ready.is_some_and(|one| one.status == "True"),
            reason: ready.filter(|one| one.status != "True").map(|one| one.reason.clone()),
        }
    });
    all.collect()
}

fn certificate(certificate: &super::Certificate, now: Timestamp) -> Certificate {
    let what = certificate.what.clone();
    match &certificate.until {
        Ok(until) => Certificate {
            what,
            ends: jiff::Timestamp::from_millisecond(until.as_millis())
                .ok()
                .map(|at| at.to_string()),
            seconds_left: Some(until.since(now).as_secs()),
            unknown: None,
        },
        Err(why) => {
            let unknown = match why {
                Unread::Denied(denied) => format!("you may not {denied}"),
                Unread::NoKind | Unread::NotAsked => "it was not asked for".to_owned(),
                Unread::Trouble(why) => why.clone(),
            };
            Certificate { what, ends: None, seconds_left: None, unknown: Some(unknown) }
        }
    }
}
