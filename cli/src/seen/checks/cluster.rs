//! Pure: what a cluster is, whatever runs in it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use landbridge_api::{
    crds,
    crds::installed::applicable,
    wellknown::{CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY},
};
use landbridge_model::{ClusterId, ClusterSetId};

use super::{Check, Facts, Finding, counted};
use crate::init::checks::OLDEST;

/// What our definitions say of the release that they are of.
const RELEASE: &str = "app.kubernetes.io/version";

pub(super) fn server(facts: &Facts) -> Vec<Finding> {
    let (major, minor, version) = &facts.server;
    let (least, at_least) = OLDEST;
    if (*major, *minor) < OLDEST {
        let says = format!("Kubernetes {version} is too old");
        let remedy = format!("upgrade it to {least}.{at_least} at least");
        return vec![Check::Server.wrong(says, remedy)];
    }
    vec![Check::Server.good(format!("Kubernetes {version}"))]
}

/// Whether `init` and `join` may do what they do. Where they have done it, that is nobody's question.
pub(super) fn permissions(facts: &Facts) -> Vec<Finding> {
    let denied = match Check::Permissions.of(&facts.denied) {
        Ok(denied) if !facts.is_installed() => denied,
        Ok(_) => return Vec::new(),
        Err(found) => return found,
    };
    if denied.is_empty() {
        return vec![
            Check::Permissions.good("everything that `landbridge init` and `landbridge join` do"),
        ];
    }
    let says = format!("you may not {}", denied.join(", "));
    vec![Check::Permissions.wrong(
        says,
        "have an administrator of the cluster run `landbridge init` or `landbridge join`",
    )]
}

pub(super) fn kinds(facts: &Facts) -> Vec<Finding> {
    let check = Check::Kinds;
    let there = match check.of(&facts.definitions) {
        Ok(there) => there,
        Err(found) => return found,
    };
    let name = |crd: &CustomResourceDefinition| crd.metadata.name.clone().unwrap_or_default();
    let release =
        |crd: &CustomResourceDefinition| crd.metadata.labels.as_ref()?.get(RELEASE).cloned();
    let ours = crds::all();
    let known = ours.len();
    let of_there =
        |name_: &str| there.iter().find(|crd| crd.metadata.name.as_deref() == Some(name_));
    let missing: Vec<String> =
        ours.iter().map(name).filter(|name| of_there(name).is_none()).collect();
    if missing.len() == known && !facts.is_installed() {
        return vec![
            check.good("none is there yet: `landbridge init` and `landbridge join` bring them"),
        ];
    }
    let mut found = Vec::new();
    if !missing.is_empty() && facts.is_installed() {
        let says = format!("not there: {}", missing.join(", "));
        found.push(check.wrong(says, "run `landbridge init` or `landbridge join` again, or apply what `landbridge crds` prints"));
    }
    let (applied, kept) = applicable(ours, there);
    found.extend(kept.iter().map(|kept| {
        let says = format!("{} {}", kept.name, kept.why);
        check.note(says, "take the `landbridge` that it came with; this one leaves it as it is")
    }));
    let older = applied.iter().filter(|crd| {
        let there = of_there(&name(crd)).and_then(release);
        there.is_some_and(|there| Some(there) != release(crd))
    });
    let older: Vec<String> = older.map(name).collect();
    if !older.is_empty() {
        let says = format!("of an older release than this program: {}", older.join(", "));
        found.push(
            check.note(
                says,
                "run `landbridge init` or `landbridge join` again with the new --image",
            ),
        );
    }
    check.found(found, format!("{} are there", counted(known - missing.len(), "kind")))
}

pub(super) fn identity(facts: &Facts) -> Vec<Finding> {
    let check = Check::Identity;
    if let Err(found) = check.of(&facts.properties)
        && !found.is_empty()
    {
        return found;
    }
    let (id, set) = (facts.property(CLUSTER_ID_PROPERTY), facts.property(CLUSTER_SET_PROPERTY));
    let (id, set) = match (id, set) {
        (Some(id), Some(set)) => (id, set),
        (None, None) if !facts.is_installed() => {
            return vec![check.good("it does not say yet what it is called")];
        }
        (id, _) => {
            let name = if id.is_none() { CLUSTER_ID_PROPERTY } else { CLUSTER_SET_PROPERTY };
            let says = format!("there is no ClusterProperty {name}");
            return vec![check.wrong(says, "run `landbridge init` or `landbridge join` again")];
        }
    };
    let problem = ClusterId::parse(id).err().map(|error| (CLUSTER_ID_PROPERTY, error.to_string()));
    let problem = problem.or_else(|| {
        ClusterSetId::parse(set).err().map(|error| (CLUSTER_SET_PROPERTY, error.to_string()))
    });
    if let Some((name, error)) = problem {
        let says = format!("ClusterProperty {name} cannot be used: {error}");
        return vec![check.wrong(says, "correct it")];
    }
    let chosen = facts.choice.as_ref().ok().and_then(|choice| choice.as_ref()?.get("cluster"));
    if let Some(chosen) = chosen.filter(|chosen| *chosen != id) {
        let says = format!("it says that it is {id:?}, and has joined as {chosen:?}");
        return vec![check.wrong(says, format!("correct ClusterProperty {CLUSTER_ID_PROPERTY}"))];
    }
    vec![check.good(format!("{id} of set {set}"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::{
        checks::Level,
        testing::{bare, healthy, told},
    };

    #[test]
    fn a_server_that_is_too_old_is_told() {
        let old = Facts { server: (1, 29, "v1.29.4".into()), ..bare() };
        assert_eq!(
            told(&server(&old)),
            ["WRONG Kubernetes v1.29.4 is too old → upgrade it to 1.30 at least"]
        );
    }

    #[test]
    fn who_may_not_install_is_told_what_he_may_not() {
        let denied = Facts { denied: Ok(vec!["create namespaces".into()]), ..bare() };
        assert_eq!(
            told(&permissions(&denied)),
            [
                "WRONG you may not create namespaces → have an administrator of the cluster run `landbridge init` or `landbridge join`"
            ]
        );
        assert_eq!(permissions(&Facts { denied: denied.denied, ..healthy() }), Vec::new());
    }

    #[test]
    fn kinds_that_are_missing_newer_or_older_are_told() {
        let with = |change: fn(&mut Vec<CustomResourceDefinition>)| {
            let mut all = crds::all();
            change(&mut all);
            told(&kinds(&Facts { definitions: Ok(all), ..healthy() }))
        };
        let missing = with(|all| {
            all.retain(|crd| crd.metadata.name.as_deref() != Some("peers.landbridge.dev"))
        });
        assert_eq!(
            missing,
            [
                "WRONG not there: peers.landbridge.dev → run `landbridge init` or `landbridge join` again, or apply what `landbridge crds` prints"
            ]
        );
        fn release(all: &mut [CustomResourceDefinition], release: &str) {
            let crd = all
                .iter_mut()
                .find(|crd| crd.metadata.name.as_deref() == Some("peers.landbridge.dev"));
            let labels = crd.unwrap().metadata.labels.get_or_insert_default();
            labels.insert(RELEASE.into(), release.into());
        }
        let newer = with(|all| release(all, "99.0.0"));
        assert_eq!(
            newer,
            [
                "note peers.landbridge.dev is newer: release 99.0.0 → take the `landbridge` that it came with; this one leaves it as it is"
            ]
        );
        let older = with(|all| release(all, "0.0.1"));
        assert_eq!(
            older,
            [
                "note of an older release than this program: peers.landbridge.dev → run `landbridge init` or `landbridge join` again with the new --image"
            ]
        );
    }

    #[test]
    fn a_cluster_says_one_thing_of_itself() {
        let of = |all: &[(&str, &str)]| {
            let all = all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let facts = Facts { properties: Ok(all.collect()), ..healthy() };
            identity(&facts).into_iter().map(|one| (one.level, one.says)).collect::<Vec<_>>()
        };
        let set = (CLUSTER_SET_PROPERTY, "prod");
        for (properties, level, says) in [
            (vec![(CLUSTER_ID_PROPERTY, "paris"), set], Level::Good, "paris of set prod"),
            (
                vec![(CLUSTER_ID_PROPERTY, "paris")],
                Level::Wrong,
                "there is no ClusterProperty clusterset.k8s.io",
            ),
            (vec![set], Level::Wrong, "there is no ClusterProperty cluster.clusterset.k8s.io"),
            (
                vec![(CLUSTER_ID_PROPERTY, "tokyo"), set],
                Level::Wrong,
                "it says that it is \"tokyo\", and has joined as \"paris\"",
            ),
        ] {
            assert_eq!(of(&properties), [(level, says.to_owned())]);
        }
        let bad = of(&[(CLUSTER_ID_PROPERTY, "A B"), set]);
        assert!(
            bad[0].1.starts_with("ClusterProperty cluster.clusterset.k8s.io cannot be used: "),
            "{bad:?}"
        );
    }
}
