//! Pure: what a served kind is: its names, scope, versions and rules; built from the list of core
//! kinds here, or from a CustomResourceDefinition.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::columns::{self, Column};
use crate::object::{list, text};
use crate::schema::Schema;

/// One kind under one API group.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Under which name the objects are kept. The two Event groups share one.
    pub(crate) storage: Arc<str>,
    /// Whether `metadata.generation` counts changes of what is wished for.
    pub(crate) generation: bool,
    /// Whether an update without a resourceVersion overwrites.
    pub(crate) unconditional: bool,
    /// In discovery order: the preferred one first.
    pub(crate) versions: Vec<Version>,
}

/// One served version of a kind.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) status: bool,
    /// Whether objects are kept in this version's form.
    pub(crate) stored: bool,
    pub(crate) columns: Vec<Column>,
    pub(crate) shape: Shape,
}

/// How a version's objects are checked and cleaned.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A core kind: decoded into its Rust type and back, which drops what is unknown.
    Core(fn(Value) -> Result<Value, serde_json::Error>),
    /// A custom kind with its structural schema.
    Custom(Schema),
}

/// A kind in the version that a client speaks.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: Arc<Resource>,
    index: usize,
}

impl Served {
    /// `resource` in its version `version`, if that one is served.
    pub(crate) fn new(resource: &Arc<Resource>, version: &str) -> Option<Self> {
        let index = resource
            .versions
            .iter()
            .position(|known| known.name == version)?;
        Some(Self {
            resource: Arc::clone(resource),
            index,
        })
    }

    pub(crate) fn version(&self) -> &Version {
        &self.resource.versions[self.index]
    }

    /// `group/version`, or the version alone for the core group.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.resource.group, &self.version().name)
    }

    /// Whether this kind is named `plural` in the core group.
    pub(crate) fn is_core(&self, plural: &str) -> bool {
        self.resource.is_core(plural)
    }
}

impl Resource {
    /// `plural.group`, as messages and CRDs name it.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    /// Whether this kind is named `plural` in the core group.
    pub(crate) fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// Whether these are CustomResourceDefinitions.
    pub(crate) fn is_crd(&self) -> bool {
        self.plural == "customresourcedefinitions" && self.group == "apiextensions.k8s.io"
    }

    /// The version that is kept; the first one where none is marked.
    pub(crate) fn stored_api_version(&self) -> String {
        let stored = self.versions.iter().find(|version| version.stored);
        let version = stored.or_else(|| self.versions.first());
        api_version(&self.group, version.map_or("v1", |version| &version.name))
    }

    /// Reads a CRD. Fails with what the CRD lacks; served versions only.
    pub(crate) fn from_crd(crd: &Value) -> Result<Self, String> {
        let (group, plural) = (text(crd, "/spec/group"), text(crd, "/spec/names/plural"));
        let wanted = qualified(group, plural);
        if group.is_empty() || text(crd, "/metadata/name") != wanted {
            return Err(format!(
                "metadata.name: must be spec.names.plural+\".\"+spec.group: {wanted}"
            ));
        }
        let versions = list(crd, "/spec/versions");
        if versions
            .iter()
            .filter(|version| version["storage"] == true)
            .count()
            != 1
        {
            return Err("spec.versions: must have exactly one version marked as storage".into());
        }
        let served = versions.iter().filter(|version| version["served"] == true);
        let mut versions: Vec<Version> = served.map(custom_version).collect::<Result<_, _>>()?;
        versions.sort_by_key(|version| Reverse(precedence(&version.name)));
        let kind = text(crd, "/spec/names/kind");
        let singular = Some(text(crd, "/spec/names/singular")).filter(|name| !name.is_empty());
        let strings = |pointer: &str| -> Vec<String> {
            list(crd, pointer)
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Ok(Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: singular.map_or_else(|| kind.to_lowercase(), str::to_owned),
            short_names: strings("/spec/names/shortNames"),
            categories: strings("/spec/names/categories"),
            namespaced: text(crd, "/spec/scope") == "Namespaced",
            storage: wanted.into(),
            generation: true,
            unconditional: false,
            versions,
        })
    }
}

/// The kinds that are there without any CRD.
pub(crate) fn core_kinds() -> Vec<Resource> {
    let crd = roundtrip::<CustomResourceDefinition>;
    vec![
        core(
            "",
            "ConfigMap",
            "configmaps",
            &["cm"],
            roundtrip::<ConfigMap>,
        ),
        core("", "Event", "events", &["ev"], roundtrip::<Event>),
        core(
            "events.k8s.io",
            "Event",
            "events",
            &["ev"],
            roundtrip::<NewEvent>,
        ),
        Resource {
            namespaced: false,
            ..core(
                "",
                "Namespace",
                "namespaces",
                &["ns"],
                roundtrip::<Namespace>,
            )
        },
        Resource {
            categories: vec!["all".into()],
            ..core("", "Pod", "pods", &["po"], roundtrip::<Pod>)
        },
        core("", "Secret", "secrets", &[], roundtrip::<Secret>),
        Resource {
            categories: vec!["all".into()],
            ..core("", "Service", "services", &["svc"], roundtrip::<Service>)
        },
        Resource {
            unconditional: false,
            ..core(
                "coordination.k8s.io",
                "Lease",
                "leases",
                &[],
                roundtrip::<Lease>,
            )
        },
        Resource {
            generation: true,
            ..core(
                "discovery.k8s.io",
                "EndpointSlice",
                "endpointslices",
                &[],
                roundtrip::<EndpointSlice>,
            )
        },
        Resource {
            namespaced: false,
            generation: true,
            unconditional: false,
            categories: vec!["api-extensions".into()],
            ..core(
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                &["crd", "crds"],
                crd,
            )
        },
    ]
}

/// Puts versions into the order in which Kubernetes prefers them.
pub(crate) fn sort_versions(versions: &mut [String]) {
    versions.sort_by_key(|version| Reverse(precedence(version)));
}

/// `group/version`, or the version alone for the core group.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

fn core(
    group: &str,
    kind: &str,
    plural: &str,
    short_names: &[&str],
    decode: fn(Value) -> Result<Value, serde_json::Error>,
) -> Resource {
    // Events are kept once, in the newer group's form.
    let storage = if plural == "events" {
        "events"
    } else {
        &qualified(group, plural)
    };
    let status = ["CustomResourceDefinition", "Namespace", "Pod", "Service"].contains(&kind);
    Resource {
        group: group.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: short_names.iter().map(|name| (*name).to_owned()).collect(),
        categories: Vec::new(),
        namespaced: true,
        storage: storage.into(),
        generation: false,
        unconditional: true,
        versions: vec![Version {
            name: "v1".into(),
            status,
            stored: true,
            columns: columns::core(kind),
            shape: Shape::Core(decode),
        }],
    }
}

fn custom_version(version: &Value) -> Result<Version, String> {
    let name = text(version, "/name").to_owned();
    let Some(schema) = version.pointer("/schema/openAPIV3Schema") else {
        return Err(format!(
            "spec.versions[{name}].schema.openAPIV3Schema: Required value"
        ));
    };
    let schema = Schema::new(schema.clone())
        .map_err(|pattern| format!("spec.versions[{name}].schema: bad pattern: {pattern}"))?;
    Ok(Version {
        status: version.pointer("/subresources/status").is_some(),
        stored: version["storage"] == true,
        columns: columns::custom(list(version, "/additionalPrinterColumns"))?,
        shape: Shape::Custom(schema),
        name,
    })
}

/// Orders versions as Kubernetes prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, others.
fn precedence(version: &str) -> (u8, u32, u32) {
    let numbers = |rest: &str, word: &str| -> Option<(u32, u32)> {
        let (major, minor) = rest.split_once(word)?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    if let Ok(major) = rest.parse() {
        return (3, major, 0);
    }
    if let Some((major, minor)) = numbers(rest, "beta") {
        return (2, major, minor);
    }
    numbers(rest, "alpha").map_or((0, 0, 0), |(major, minor)| (1, major, minor))
}

fn roundtrip<T: DeserializeOwned + Serialize>(object: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(object)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_preferred_as_kubernetes_prefers_them() {
        let mut versions = ["v1alpha1", "v1beta1", "foo", "v2", "v1", "v11", "v1beta10"];
        versions.sort_by_key(|version| Reverse(precedence(version)));
        assert_eq!(
            versions,
            ["v11", "v2", "v1", "v1beta10", "v1beta1", "v1alpha1", "foo"]
        );
    }

    #[test]
    fn a_crd_that_cannot_be_served_says_why() {
        let crd = |name: &str, versions: Value| {
            json!({"metadata": {"name": name}, "spec": {"group": "example.com", "scope": "Cluster",
                "names": {"plural": "things", "kind": "Thing"}, "versions": versions}})
        };
        let version = json!([{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]);
        let thing = Resource::from_crd(&crd("things.example.com", version.clone())).unwrap();
        assert_eq!(
            (thing.singular.as_str(), thing.namespaced),
            ("thing", false)
        );
        assert!(
            Resource::from_crd(&crd("wrong", version))
                .unwrap_err()
                .contains("things.example.com")
        );
        assert!(
            Resource::from_crd(&crd("things.example.com", json!([])))
                .unwrap_err()
                .contains("storage")
        );
    }
}
