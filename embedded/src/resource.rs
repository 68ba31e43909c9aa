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
use crate::object::{list, strings, text};
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
    /// In which version they are kept.
    pub(crate) stored_api_version: String,
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
    pub(crate) columns: Vec<Column>,
    pub(crate) shape: Shape,
}

/// How a version's objects are checked and cleaned.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A core kind: decoded into its Rust type and back, which drops what is unknown.
    Core(Decode),
    /// A custom kind with its structural schema.
    Custom(Schema),
}

type Decode = fn(Value) -> Result<Value, serde_json::Error>;

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
}

impl Resource {
    /// `plural.group`, as messages and CRDs name it.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Reads a CRD. Fails with the field and what it lacks; serves the served versions only.
    pub(crate) fn from_crd(crd: &Value) -> Result<Self, String> {
        let (group, plural) = (text(crd, "/spec/group"), text(crd, "/spec/names/plural"));
        let (wanted, kind) = (qualified(group, plural), text(crd, "/spec/names/kind"));
        if group.is_empty() || kind.is_empty() || text(crd, "/metadata/name") != wanted {
            return Err(format!(
                "metadata.name: must be spec.names.plural+\".\"+spec.group: {wanted}"
            ));
        }
        let versions = list(crd, "/spec/versions");
        let mut stored = versions.iter().filter(|version| version["storage"] == true);
        let (Some(storage), None) = (stored.next(), stored.next()) else {
            return Err("spec.versions: must have exactly one version marked as storage".into());
        };
        let served = versions.iter().filter(|version| version["served"] == true);
        let mut versions: Vec<Version> = served.map(custom_version).collect::<Result<_, _>>()?;
        versions.sort_by_key(|version| Reverse(precedence(&version.name)));
        let singular = Some(text(crd, "/spec/names/singular")).filter(|name| !name.is_empty());
        Ok(Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: singular.map_or_else(|| kind.to_lowercase(), str::to_owned),
            short_names: strings(crd, "/spec/names/shortNames")
                .map(str::to_owned)
                .collect(),
            categories: strings(crd, "/spec/names/categories")
                .map(str::to_owned)
                .collect(),
            namespaced: text(crd, "/spec/scope") == "Namespaced",
            storage: wanted.into(),
            stored_api_version: api_version(group, text(storage, "/name")),
            generation: true,
            unconditional: false,
            versions,
        })
    }
}

/// The kinds that are there without any CRD.
pub(crate) fn core_kinds() -> Vec<Resource> {
    let mut slices = core(
        "discovery.k8s.io",
        "EndpointSlice",
        "",
        roundtrip::<EndpointSlice>,
    );
    slices.generation = true;
    let mut leases = core("coordination.k8s.io", "Lease", "", roundtrip::<Lease>);
    leases.unconditional = false;
    let mut namespaces = core("", "Namespace", "ns", roundtrip::<Namespace>);
    namespaces.namespaced = false;
    let (mut pods, mut services) = (
        core("", "Pod", "po", roundtrip::<Pod>),
        core("", "Service", "svc", roundtrip::<Service>),
    );
    for workload in [&mut pods, &mut services] {
        workload.categories.push("all".into());
    }
    let mut events = core("", "Event", "ev", roundtrip::<Event>);
    let newer = core("events.k8s.io", "Event", "ev", roundtrip::<NewEvent>);
    (events.storage, events.stored_api_version) =
        (newer.storage.clone(), "events.k8s.io/v1".into());
    let decode = roundtrip::<CustomResourceDefinition>;
    let mut crds = core(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "crd",
        decode,
    );
    (crds.namespaced, crds.generation, crds.unconditional) = (false, true, false);
    let maps = core("", "ConfigMap", "cm", roundtrip::<ConfigMap>);
    let secrets = core("", "Secret", "", roundtrip::<Secret>);
    vec![
        maps, crds, slices, events, newer, leases, namespaces, pods, secrets, services,
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

/// A namespaced core kind in `v1`, without generation, and with unconditional updates.
fn core(group: &str, kind: &str, short_name: &str, decode: Decode) -> Resource {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let status = ["CustomResourceDefinition", "Namespace", "Pod", "Service"].contains(&kind);
    let (columns, shape) = (columns::core(kind), Shape::Core(decode));
    Resource {
        group: group.to_owned(),
        kind: kind.to_owned(),
        storage: qualified(group, &plural).into(),
        stored_api_version: api_version(group, "v1"),
        plural,
        singular,
        short_names: [short_name]
            .iter()
            .filter(|one| !one.is_empty())
            .map(|one| (*one).into())
            .collect(),
        categories: Vec::new(),
        namespaced: true,
        generation: false,
        unconditional: true,
        versions: vec![Version {
            name: "v1".into(),
            status,
            columns,
            shape,
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
    let bad = |pattern| format!("spec.versions[{name}].schema: bad pattern: {pattern}");
    let shape = Shape::Custom(Schema::new(schema.clone()).map_err(bad)?);
    let status = version.pointer("/subresources/status").is_some();
    let columns = columns::custom(list(version, "/additionalPrinterColumns"))?;
    Ok(Version {
        name,
        status,
        columns,
        shape,
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
