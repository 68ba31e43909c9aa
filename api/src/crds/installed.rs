//! Pure: which definitions may be applied to a cluster that has some already.
//!
//! Others install the standard kinds too, perhaps newer ones, and whoever applies an older definition over a newer one
//! takes away what its users rely on. So a definition is applied only where there is none, or an older one.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{APP_VERSION, MCS_RELEASE_LABEL, MCS_REVISION_LABEL};
use crate::landbridge::GROUP;

/// A definition that is left as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Why, as the end of a sentence that begins with the name.
    pub why: String,
}

/// Of `ours`, those that may be applied where `installed` stand, and those that may not.
#[must_use]
pub fn applicable(
    ours: Vec<CustomResourceDefinition>,
    installed: &[CustomResourceDefinition],
) -> (Vec<CustomResourceDefinition>, Vec<Kept>) {
    let (mut apply, mut kept) = (Vec::new(), Vec::new());
    for crd in ours {
        let there = installed.iter().find(|there| there.metadata.name == crd.metadata.name);
        match there.and_then(|there| why_kept(&crd, there)) {
            Some(why) => kept.push(Kept { name: crd.metadata.name.unwrap_or_default(), why }),
            None => apply.push(crd),
        }
    }
    (apply, kept)
}

fn why_kept(ours: &CustomResourceDefinition, there: &CustomResourceDefinition) -> Option<String> {
    let names = |crd: &CustomResourceDefinition| -> Vec<String> {
        crd.spec.versions.iter().map(|version| version.name.clone()).collect()
    };
    let known = names(ours);
    if let Some(version) = names(there).into_iter().find(|version| !known.contains(version)) {
        return Some(format!("has version {version}, which this program does not know"));
    }
    let label =
        if text(ours, MCS_RELEASE_LABEL).is_some() { MCS_RELEASE_LABEL } else { APP_VERSION };
    let own = text(ours, label).unwrap_or_default();
    let Some(theirs) = text(there, label) else {
        // The Multi-Cluster Services API had no labels before it had releases, and our own kinds are nobody else's.
        let is_older = label == MCS_RELEASE_LABEL || ours.spec.group == GROUP;
        return (!is_older)
            .then(|| "is there already, and not of this program's making".to_owned());
    };
    let (said, own) = (release(theirs), release(own));
    if said < own || (said == own && revision(there) <= revision(ours)) {
        return None;
    }
    let revision = text(there, MCS_REVISION_LABEL);
    let revision = revision.map(|number| format!(", schema revision {number}"));
    Some(format!("is newer: release {theirs}{}", revision.unwrap_or_default()))
}

fn text<'a>(crd: &'a CustomResourceDefinition, label: &str) -> Option<&'a str> {
    crd.metadata.labels.as_ref()?.get(label).map(String::as_str)
}

/// `v0.5.2` as numbers that compare, then whether it is a release rather than a candidate for one.
fn release(text: &str) -> (Vec<u64>, bool) {
    let text = text.trim_start_matches('v');
    let (numbers, candidate) = text.split_once('-').unwrap_or((text, ""));
    let numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0)).collect();
    (numbers, candidate.is_empty())
}

fn revision(crd: &CustomResourceDefinition) -> u64 {
    text(crd, MCS_REVISION_LABEL).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{super::all, *};

    fn labelled(name: &str, label: &str, value: &str) -> CustomResourceDefinition {
        let crds = all().into_iter();
        let mut crd = crds.clone().find(|crd| crd.metadata.name.as_deref() == Some(name)).unwrap();
        let labels = crd.metadata.labels.get_or_insert_default();
        if value.is_empty() {
            labels.remove(label);
        } else {
            labels.insert(label.to_owned(), value.to_owned());
        }
        crd
    }

    const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";

    /// Upstream's labels are "meant to prevent CRD downgrades".
    #[test]
    fn a_newer_definition_is_left_as_it_is() {
        for (name, label, value, is_kept) in [
            (EXPORTS, MCS_RELEASE_LABEL, "v0.5.2", false),
            (EXPORTS, MCS_RELEASE_LABEL, "v0.5.0", false),
            (EXPORTS, MCS_RELEASE_LABEL, "v0.5.2-rc.1", false),
            (EXPORTS, MCS_RELEASE_LABEL, "v0.5.10", true),
            (EXPORTS, MCS_RELEASE_LABEL, "v1.0.0-rc.1", true),
            (EXPORTS, MCS_RELEASE_LABEL, "", false),
            (EXPORTS, MCS_REVISION_LABEL, "1", true),
            ("peers.landbridge.dev", APP_VERSION, "99.0.0", true),
            ("peers.landbridge.dev", APP_VERSION, "0.0.1", false),
            ("peers.landbridge.dev", APP_VERSION, "", false),
            ("clusterproperties.about.k8s.io", APP_VERSION, "", true),
            ("clusterproperties.about.k8s.io", APP_VERSION, "0.0.1", false),
        ] {
            let (apply, kept) = applicable(all(), &[labelled(name, label, value)]);
            let kept: Vec<&str> = kept.iter().map(|kept| kept.name.as_str()).collect();
            assert_eq!(kept, if is_kept { vec![name] } else { vec![] }, "{name} {label}={value}");
            assert_eq!(apply.len() + kept.len(), all().len());
        }
    }

    #[test]
    fn a_definition_with_a_version_that_we_do_not_know_is_left_as_it_is() {
        let mut there = labelled(EXPORTS, MCS_RELEASE_LABEL, "");
        let mut v1 = there.spec.versions[1].clone();
        v1.name = "v1".to_owned();
        there.spec.versions.push(v1);
        let (_, kept) = applicable(all(), &[there]);
        assert_eq!(kept[0].why, "has version v1, which this program does not know");
    }

    #[test]
    fn an_older_definition_is_replaced_and_what_is_missing_is_made() {
        let mut old = labelled(EXPORTS, MCS_RELEASE_LABEL, "");
        old.spec.versions.truncate(1);
        let (apply, kept) = applicable(all(), &[old]);
        assert_eq!((apply.len(), kept), (all().len(), Vec::new()));
        let (apply, kept) = applicable(all(), &[]);
        assert_eq!((apply.len(), kept), (all().len(), Vec::new()));
    }
}
