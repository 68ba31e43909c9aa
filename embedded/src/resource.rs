//! Pure: what a served kind is: its names, scope, versions and rules; built from the list of core
//! kinds here, or from a CustomResourceDefinition.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::columns::{self, Column};
use crate::object::{list, strings, text};
use crate::schema::Schema;

/// One kind under one API group.
#[derive(Debug, Default)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Under which name the objects are kept.
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

/// A field of a CRD, and what is wrong with it.
pub(crate) type Flaw = (&'static str, String);

/// A kind in the version that a client speaks.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: Arc<Resource>,
    index: usize,
}

impl Served {
    /// `resource` in its version `version`, if that one is served.
    pub(crate) fn new(resource: &Arc<Resource>, version: &str) -> Option<Self> {
        let mut known = resource.versions.iter();
        let index = known.position(|known| known.name == version)?;
        let resource = Arc::clone(resource);
        Some(Self { resource, index })
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
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.plural, self.group)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Reads a CRD; its served versions only.
    pub(crate) fn from_crd(crd: &Value) -> Result<Self, Flaw> {
        let own = |pointer| text(crd, pointer).to_owned();
        let all = |pointer| strings(crd, pointer).map(str::to_owned).collect();
        let mut made = Self {
            group: own("/spec/group"),
            kind: own("/spec/names/kind"),
            plural: own("/spec/names/plural"),
            singular: own("/spec/names/singular"),
            short_names: all("/spec/names/shortNames"),
            categories: all("/spec/names/categories"),
            namespaced: text(crd, "/spec/scope") == "Namespaced",
            generation: true,
            ..Self::default()
        };
        if made.singular.is_empty() {
            made.singular = made.kind.to_lowercase();
        }
        made.storage = made.qualified().into();
        if made.group.is_empty() || *made.storage != own("/metadata/name") {
            let message = "Invalid value: must be spec.names.plural+\".\"+spec.group";
            return Err(("metadata.name", message.to_owned()));
        }
        let mut stored = 0;
        for version in list(crd, "/spec/versions") {
            if version["storage"] == true {
                stored += 1;
                made.stored_api_version = api_version(&made.group, text(version, "/name"));
            }
            if version["served"] == true {
                made.versions.push(custom_version(version)?);
            }
        }
        if stored != 1 {
            let message = "Invalid value: must have exactly one version marked as storage version";
            return Err(("spec.versions", message.to_owned()));
        }
        made.versions.sort_by_key(|version| precedence(&version.name));
        Ok(made)
    }
}

/// The kinds that are there without any CRD.
pub(crate) fn core_kinds() -> Vec<Resource> {
    let mut slices = core("discovery.k8s.io", "EndpointSlice", "", roundtrip::<EndpointSlice>);
    slices.generation = true;
    let mut leases = core("coordination.k8s.io", "Lease", "", roundtrip::<Lease>);
    leases.unconditional = false;
    let mut namespaces = core("", "Namespace", "ns", roundtrip::<Namespace>);
    namespaces.namespaced = false;
    let mut pods = core("", "Pod", "po", roundtrip::<Pod>);
    let mut services = core("", "Service", "svc", roundtrip::<Service>);
    for workload in [&mut pods, &mut services] {
        workload.categories.push("all".into());
    }
    let events = core("events.k8s.io", "Event", "ev", roundtrip::<Event>);
    let (kind, decode) = ("CustomResourceDefinition", roundtrip::<CustomResourceDefinition>);
    let mut crds = core("apiextensions.k8s.io", kind, "crd", decode);
    (crds.namespaced, crds.generation, crds.unconditional) = (false, true, false);
    let maps = core("", "ConfigMap", "cm", roundtrip::<ConfigMap>);
    let secrets = core("", "Secret", "", roundtrip::<Secret>);
    vec![maps, crds, slices, events, leases, namespaces, pods, secrets, services]
}

/// `group/version`, or the version alone for the core group.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    let slash = if group.is_empty() { "" } else { "/" };
    format!("{group}{slash}{version}")
}

/// A namespaced core kind in `v1`, without generation, and with unconditional updates.
fn core(group: &str, kind: &str, short_name: &str, decode: Decode) -> Resource {
    let singular = kind.to_lowercase();
    let statuses = ["CustomResourceDefinition", "Namespace", "Pod", "Service"];
    let version = Version {
        name: "v1".into(),
        status: statuses.contains(&kind),
        columns: columns::core(kind),
        shape: Shape::Core(decode),
    };
    let mut short_names = vec![short_name.to_owned()];
    short_names.retain(|name| !name.is_empty());
    let mut made = Resource {
        group: group.to_owned(),
        kind: kind.to_owned(),
        plural: format!("{singular}s"),
        singular,
        short_names,
        stored_api_version: api_version(group, "v1"),
        namespaced: true,
        unconditional: true,
        versions: vec![version],
        ..Resource::default()
    };
    made.storage = made.qualified().into();
    made
}

fn custom_version(version: &Value) -> Result<Version, Flaw> {
    let schema = version.pointer("/schema/openAPIV3Schema");
    let missing = || ("spec.versions.schema.openAPIV3Schema", "Required value".to_owned());
    let schema = schema.ok_or_else(missing)?.clone();
    let pattern = |pattern| ("spec.versions.schema", format!("Invalid value: pattern {pattern}"));
    let path = |path| ("spec.versions.additionalPrinterColumns", format!("Invalid value: {path}"));
    Ok(Version {
        name: text(version, "/name").to_owned(),
        status: version.pointer("/subresources/status").is_some(),
        columns: columns::custom(list(version, "/additionalPrinterColumns")).map_err(path)?,
        shape: Shape::Custom(Schema::new(schema).map_err(pattern)?),
    })
}

/// Orders versions as Kubernetes prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, others.
pub(crate) fn precedence(version: &str) -> impl Ord + use<> {
    std::cmp::Reverse(kube_core::Version::parse(version).priority())
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
        versions.sort_by_key(|version| precedence(version));
        assert_eq!(versions, ["v11", "v2", "v1", "v1beta10", "v1beta1", "v1alpha1", "foo"]);
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
        assert_eq!((thing.singular.as_str(), thing.namespaced), ("thing", false));
        let field = |crd: Value| Resource::from_crd(&crd).unwrap_err().0;
        assert_eq!(field(crd("wrong", version)), "metadata.name");
        assert_eq!(field(crd("things.example.com", json!([]))), "spec.versions");
    }
}
