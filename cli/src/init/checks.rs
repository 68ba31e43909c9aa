//! Pure: what stands in the way of making a cluster a hub, and what its people should know. All of it at once, each with
//! what to do.

use std::collections::BTreeMap;

use landbridge_api::{
    crds::installed::Kept,
    wellknown::{CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY, ROOT_SECRET, TRUST_NAMESPACE},
};
use landbridge_gateway::join::token::Fingerprint;
use landbridge_model::{ClusterId, ClusterSetId};

use super::Key;

/// The oldest minor version that serves all that is applied: ValidatingAdmissionPolicies of `admissionregistration.k8s.io/v1`,
/// and pods that sleep before they end.
pub(crate) const OLDEST: (u32, u32) = (1, 30);

/// How a check went.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Somebody should know.
    Note,
    /// Nothing is changed until this is right.
    Wrong,
}

/// What one check has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// What was looked at; a name that stays.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    pub(crate) says: String,
}

/// What a cluster is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// The hub of a set.
    Hub,
    /// A member of a set whose hub is this cluster.
    Member(ClusterId),
}

/// What there is in a cluster that is to become a hub or a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The version of its API server: major, minor, and as it writes it.
    pub(crate) server: (u32, u32, String),
    /// What whoever asks may not do, as `patch deployments.apps`.
    pub(crate) denied: Vec<String>,
    /// Definitions that are left as they are.
    pub(crate) kept: Vec<Kept>,
    /// Properties that say who the cluster is.
    pub(crate) properties: BTreeMap<String, String>,
    /// The root that is there, and of which set; or why it cannot be used.
    pub(crate) root: Option<Result<(ClusterSetId, Fingerprint), String>>,
    /// Whether the cluster reaches a hub elsewhere.
    pub(crate) follows_a_hub: bool,
    /// What is wrong with telling the cluster's own DNS of ours.
    pub(crate) dns: Option<String>,
    /// Objects that an API server would not take as they are, and why.
    pub(crate) refused: Vec<(Key, String)>,
    /// Whether gateways are told where peers reach them.
    pub(crate) is_advertised: bool,
}

/// Looks at everything, in the order in which people would.
pub(crate) fn all(
    seen: &Seen,
    cluster: &ClusterId,
    set: &ClusterSetId,
    role: &Role,
) -> Vec<Finding> {
    let mut found = rights(seen);
    found.push(identity(seen, cluster, set, role));
    found.push(match role {
        Role::Hub => trust(seen, set),
        Role::Member(hub) => no_trust(seen, hub),
    });
    found.extend(kinds(seen));
    found.extend(seen.refused.iter().map(refused));
    found.push(dns(seen));
    found.extend((!seen.is_advertised).then(|| Finding {
        check: "address",
        level: Level::Note,
        says: match role {
            Role::Hub => format!("no other member can dial the gateways of {cluster}, and no token can be issued: once it is known where they are reached, run this again with --advertise"),
            Role::Member(_) => format!("no other member can dial the gateways of {cluster}: it dials them, which is right behind a NAT"),
        },
    }));
    found
}

/// What is looked at where most of it may not be read.
pub(crate) fn rights(seen: &Seen) -> Vec<Finding> {
    vec![server(seen), permissions(seen)]
}

fn finding(check: &'static str, wrong: Option<String>, good: impl Into<String>) -> Finding {
    match wrong {
        Some(says) => Finding { check, level: Level::Wrong, says },
        None => Finding { check, level: Level::Good, says: good.into() },
    }
}

fn server(seen: &Seen) -> Finding {
    let (major, minor, version) = &seen.server;
    let (least, at_least) = OLDEST;
    let wrong = ((*major, *minor) < OLDEST).then(|| {
        format!("Kubernetes {version} is too old: upgrade it to {least}.{at_least} at least")
    });
    finding("server", wrong, format!("Kubernetes {version}"))
}

fn permissions(seen: &Seen) -> Finding {
    let wrong = (!seen.denied.is_empty()).then(|| {
        format!(
            "you may not {}: ask an administrator of the cluster to run this",
            seen.denied.join(", ")
        )
    });
    finding("permissions", wrong, "everything that is needed")
}

fn identity(seen: &Seen, cluster: &ClusterId, set: &ClusterSetId, role: &Role) -> Finding {
    let differs = |property: &str, wanted: &str, flag: &str| {
        let said = seen.properties.get(property).filter(|said| *said != wanted)?;
        Some(format!(
            "the cluster says that it is {said:?} (ClusterProperty {property}), not {wanted:?}: leave {flag} out, or `landbridge uninstall` first"
        ))
    };
    let wrong = differs(CLUSTER_ID_PROPERTY, cluster.as_str(), "--cluster")
        .or_else(|| differs(CLUSTER_SET_PROPERTY, set.as_str(), "--cluster-set"))
        .or_else(|| {
            (seen.follows_a_hub && *role == Role::Hub).then(|| {
                "the cluster is a member of a set whose hub is elsewhere (Secret landbridge-system/landbridge-hub): a hub belongs to its own set".to_owned()
            })
        });
    finding("identity", wrong, format!("{cluster} of set {set}"))
}

fn trust(seen: &Seen, set: &ClusterSetId) -> Finding {
    let place = format!("Secret {TRUST_NAMESPACE}/{ROOT_SECRET}");
    match &seen.root {
        None => finding("trust", None, "a root will be made"),
        Some(Err(problem)) => finding("trust", Some(problem.clone()), ""),
        Some(Ok((found, _))) if found != set => finding(
            "trust",
            Some(format!(
                "{place} is the root of set {found}, not of {set}: give --cluster-set {found}"
            )),
            "",
        ),
        Some(Ok((_, fingerprint))) => {
            finding("trust", None, format!("the root is there: SHA-256 {fingerprint}"))
        }
    }
}

/// A hub has a set of its own, and members that rely on it.
fn no_trust(seen: &Seen, hub: &ClusterId) -> Finding {
    let wrong = seen.root.as_ref().map(|_| {
        format!("this cluster is a hub itself (Secret {TRUST_NAMESPACE}/{ROOT_SECRET}), and has its own set: join another cluster")
    });
    finding("trust", wrong, format!("{hub} signs for it"))
}

fn kinds(seen: &Seen) -> Vec<Finding> {
    let kept = seen.kept.iter().map(|kept| Finding {
        check: "kinds",
        level: Level::Note,
        says: format!("{} {}: it is left as it is", kept.name, kept.why),
    });
    kept.collect()
}

fn refused((key, why): &(Key, String)) -> Finding {
    let (kind, place) = (&key.kind, key.place());
    Finding { check: "objects", level: Level::Wrong, says: format!("{kind} {place}: {why}") }
}

fn dns(seen: &Seen) -> Finding {
    match &seen.dns {
        None => finding("dns", None, "CoreDNS will ask our server for clusterset.local"),
        Some(says) => Finding { check: "dns", level: Level::Note, says: says.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { server: (1, 34, "v1.34.2".into()), is_advertised: true, ..Seen::default() }
    }

    fn wrong(seen: &Seen) -> Vec<String> {
        let [cluster, set] = ["paris", "prod"];
        let all = all(seen, &cluster.parse().unwrap(), &set.parse().unwrap(), &Role::Hub);
        let wrong = all.into_iter().filter(|finding| finding.level == Level::Wrong);
        wrong.map(|finding| format!("{}: {}", finding.check, finding.says)).collect()
    }

    #[test]
    fn a_bare_cluster_has_nothing_in_the_way() {
        assert_eq!(wrong(&seen()), Vec::<String>::new());
    }

    #[test]
    fn what_stands_in_the_way_is_told_with_what_to_do() {
        let root = |set: &str| Some(Ok((set.parse().unwrap(), Fingerprint::of(b"root"))));
        let key = Key {
            kind: "Service".into(),
            version: "v1".into(),
            namespace: "a".into(),
            name: "b".into(),
        };
        let property = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
        for (seen, told) in [
            (
                Seen { server: (1, 29, "v1.29.4".into()), ..seen() },
                "server: Kubernetes v1.29.4 is too old: upgrade it to 1.30 at least",
            ),
            (
                Seen {
                    denied: vec!["create namespaces".into(), "patch deployments.apps".into()],
                    ..seen()
                },
                "permissions: you may not create namespaces, patch deployments.apps: ask an administrator of the cluster to run this",
            ),
            (
                Seen { properties: property(CLUSTER_ID_PROPERTY, "tokyo"), ..seen() },
                "identity: the cluster says that it is \"tokyo\" (ClusterProperty cluster.clusterset.k8s.io), not \"paris\": leave --cluster out, or `landbridge uninstall` first",
            ),
            (
                Seen { properties: property(CLUSTER_SET_PROPERTY, "test"), ..seen() },
                "identity: the cluster says that it is \"test\" (ClusterProperty clusterset.k8s.io), not \"prod\": leave --cluster-set out, or `landbridge uninstall` first",
            ),
            (
                Seen { follows_a_hub: true, ..seen() },
                "identity: the cluster is a member of a set whose hub is elsewhere (Secret landbridge-system/landbridge-hub): a hub belongs to its own set",
            ),
            (
                Seen { root: root("test"), ..seen() },
                "trust: Secret landbridge-trust/landbridge-root is the root of set test, not of prod: give --cluster-set test",
            ),
            (Seen { root: Some(Err("it is half".into())), ..seen() }, "trust: it is half"),
            (Seen { refused: vec![(key, "no".into())], ..seen() }, "objects: Service a/b: no"),
        ] {
            assert_eq!(wrong(&seen), [told]);
        }
        assert_eq!(wrong(&Seen { root: root("prod"), ..seen() }), Vec::<String>::new());
    }

    #[test]
    fn a_hub_joins_no_other_set() {
        let root = Some(Ok(("prod".parse().unwrap(), Fingerprint::of(b"root"))));
        let role = Role::Member("tokyo".parse().unwrap());
        let [cluster, set] = ["paris", "prod"];
        let of = |seen: &Seen| all(seen, &cluster.parse().unwrap(), &set.parse().unwrap(), &role);
        let wrong = of(&Seen { root, ..seen() });
        assert!(wrong.iter().any(|one| one.check == "trust" && one.level == Level::Wrong));
        // Whoever follows a hub may join it again.
        let again = of(&Seen { follows_a_hub: true, ..seen() });
        assert!(again.iter().all(|one| one.level != Level::Wrong), "{again:?}");
    }

    #[test]
    fn what_people_should_know_stops_nothing() {
        let kept = Kept {
            name: "serviceexports.multicluster.x-k8s.io".into(),
            why: "is newer: release v0.6.0".into(),
        };
        let seen = Seen {
            kept: vec![kept],
            dns: Some("it has none".into()),
            is_advertised: false,
            ..seen()
        };
        assert_eq!(wrong(&seen), Vec::<String>::new());
        let all = all(&seen, &"paris".parse().unwrap(), &"prod".parse().unwrap(), &Role::Hub);
        let notes = all.iter().filter(|finding| finding.level == Level::Note);
        let notes: Vec<&str> = notes.map(|finding| finding.check).collect();
        assert_eq!(notes, ["kinds", "dns", "address"]);
    }
}
