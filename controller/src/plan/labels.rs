//! Pure: which exported labels and annotations every importer's API can take.
//!
//! What an importer would refuse is refused at the source, where somebody can do something about it: the rest of
//! the export stands, and the condition `Degraded` says what was left out.

use std::collections::BTreeMap;

use landbridge_model::label::{is_key, is_value};

/// Kubernetes allows 262,144 bytes of annotations on an object; the import needs a few of its own.
const MOST_ANNOTATION_BYTES: usize = 262_144 - 4_096;

/// What was asked for, without what importers cannot take.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Carried {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// Keys of domains that are not the exporter's to use.
    pub(super) reserved: Vec<String>,
    /// Keys and values that no API server takes.
    pub(super) invalid: Vec<String>,
    /// The size of the annotations, where it is more than an object can have.
    pub(super) too_large: Option<usize>,
}

pub(super) fn carried(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Carried {
    let mut carried = Carried::default();
    for (key, value) in labels {
        if is_reserved(key) {
            carried.reserved.push(key.clone());
        } else if is_key(key) && is_value(value) {
            carried.labels.insert(key.clone(), value.clone());
        } else {
            carried.invalid.push(key.clone());
        }
    }
    for (key, value) in annotations {
        if is_reserved(key) {
            carried.reserved.push(key.clone());
        } else if is_key(key) {
            carried.annotations.insert(key.clone(), value.clone());
        } else {
            carried.invalid.push(key.clone());
        }
    }
    let sizes = carried.annotations.iter().map(|(key, value)| key.len() + value.len());
    let size: usize = sizes.sum();
    if size > MOST_ANNOTATION_BYTES {
        carried.annotations.clear();
        carried.too_large = Some(size);
    }
    carried
}

/// Kubernetes reserves `kubernetes.io` and `k8s.io` and what is below them; `app.kubernetes.io` is for everybody's
/// use. Ours are read as ours.
fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    let below = |parent: &str| {
        domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    domain != "app.kubernetes.io"
        && (below("kubernetes.io") || below("k8s.io") || below("landbridge.dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let entries = entries.iter();
        entries.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Design, "Export": "keys of `kubernetes.io` and `k8s.io` other than `app.kubernetes.io` are dropped".
    #[test]
    fn reserved_keys_are_dropped() {
        let given = map(&[
            ("app.kubernetes.io/name", "web"),
            ("example.com/team", "red"),
            ("k8s.io/a", "x"),
            ("kubernetes.io/b", "x"),
            ("landbridge.dev/import", "x"),
            ("multicluster.kubernetes.io/service-name", "x"),
            ("notk8s.io/c", "x"),
            ("team", "red"),
            ("topology.kubernetes.io/zone", "x"),
        ]);
        let carried = carried(&given, &given);
        let kept: Vec<&str> = carried.labels.keys().map(String::as_str).collect();
        assert_eq!(kept, ["app.kubernetes.io/name", "example.com/team", "notk8s.io/c", "team"]);
        assert_eq!(carried.labels, carried.annotations);
        assert_eq!(carried.reserved.len(), 10);
        assert!(carried.invalid.is_empty());
    }

    #[test]
    fn what_an_api_server_refuses_is_refused_here() {
        let long = "a".repeat(64);
        let bad = map(&[
            ("", "x"),
            ("a b", "x"),
            ("a/b/c", "x"),
            ("Upper.example/x", "x"),
            ("value", "not a value"),
            ("long-value", &long),
            (&long, "x"),
            ("-a", "x"),
            ("/a", "x"),
        ]);
        let labels = carried(&bad, &BTreeMap::new());
        assert_eq!(labels.labels, BTreeMap::new());
        assert_eq!(labels.invalid.len(), bad.len());
        let annotations = carried(&BTreeMap::new(), &map(&[("a", "any text\nat all")]));
        assert_eq!(annotations.annotations.len(), 1);
    }

    #[test]
    fn annotations_that_no_object_can_hold_are_left_out_whole() {
        let huge = "x".repeat(300_000);
        let carried = carried(&BTreeMap::new(), &map(&[("huge", &huge), ("small", "x")]));
        assert!(carried.annotations.is_empty());
        assert_eq!(carried.too_large, Some(300_000 + 4 + 5 + 1));
    }
}
