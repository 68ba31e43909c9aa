//! The CustomResourceDefinitions of every kind that Landbridge reads or writes.
//!
//! Generated from the Rust types, so that what is installed and what is read cannot differ. The standard ones are
//! brought to what upstream publishes: no defaults, an optional `spec`, lists that are maps, two served versions and
//! the labels that keep a newer release from being downgraded.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;

use crate::{
    about::ClusterProperty,
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Member, Peer},
    mcs::v1beta1,
};

/// The release of the Multi-Cluster Services API whose schema this is.
pub const MCS_RELEASE: &str = "v0.5.2";

/// All of them: the standard ones first.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        mcs(v1beta1::ServiceExport::crd()),
        mcs(v1beta1::ServiceImport::crd()),
        ClusterProperty::crd(),
        ClusterProfile::crd(),
        Member::crd(),
        ClusterExport::crd(),
        Peer::crd(),
    ];
    crds.iter_mut().for_each(tidy);
    crds
}

/// Serves v1alpha1 beside v1beta1, with the same schema, as upstream does.
fn mcs(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut stored = crd.spec.versions.remove(0);
    if let Some(root) = root(&mut stored) {
        // Upstream asks for no spec; what is inside one is checked all the same.
        root.required = None;
        if let Some(ips) = property(root, &["spec", "ips"]) {
            ips.max_items = Some(2);
        }
        if let Some(families) = property(root, &["spec", "ipFamilies"]) {
            families.max_items = Some(2);
        }
        if let Some(kind) = property(root, &["spec", "type"]) {
            kind.enum_ = Some(
                ["ClusterSetIP", "Headless"]
                    .into_iter()
                    .map(|name| JSON(name.into()))
                    .collect(),
            );
        }
        if let Some(ports) = property(root, &["spec", "ports"]) {
            ports.x_kubernetes_list_type = Some("atomic".into());
        }
    }
    let alpha = CustomResourceDefinitionVersion {
        name: "v1alpha1".into(),
        storage: false,
        ..stored.clone()
    };
    crd.spec.versions = vec![alpha, stored];
    let labels = crd.metadata.labels.get_or_insert_default();
    labels.insert(
        "multicluster.x-k8s.io/release-version".into(),
        MCS_RELEASE.into(),
    );
    labels.insert(
        "multicluster.x-k8s.io/crd-schema-revision".into(),
        "0".into(),
    );
    crd
}

/// Makes condition and cluster lists maps by their key, as the API conventions want it, and takes out defaults that
/// only the generator needs.
fn tidy(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        let Some(root) = root(version) else { continue };
        without_defaults(root);
        for (list, key) in [
            ("conditions", "type"),
            ("clusters", "cluster"),
            ("properties", "name"),
        ] {
            if let Some(schema) = property(root, &["status", list]) {
                schema.x_kubernetes_list_type = Some("map".into());
                schema.x_kubernetes_list_map_keys = Some(vec![key.into()]);
            }
        }
    }
}

fn root(version: &mut CustomResourceDefinitionVersion) -> Option<&mut JSONSchemaProps> {
    version.schema.as_mut()?.open_api_v3_schema.as_mut()
}

fn property<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(schema, |schema, name| {
        schema.properties.as_mut()?.get_mut(*name)
    })
}

fn without_defaults(schema: &mut JSONSchemaProps) {
    schema.default = None;
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        without_defaults(property);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(name: &str) -> CustomResourceDefinition {
        all()
            .into_iter()
            .find(|crd| crd.metadata.name.as_deref() == Some(name))
            .unwrap()
    }

    /// "v1alpha1 (served, not storage) and v1beta1 (served, storage). Schemas are identical".
    #[test]
    fn the_standard_kinds_are_served_in_both_versions() {
        for name in [
            "serviceexports.multicluster.x-k8s.io",
            "serviceimports.multicluster.x-k8s.io",
        ] {
            let versions = crd(name).spec.versions;
            let told: Vec<_> = versions
                .iter()
                .map(|v| (v.name.as_str(), v.served, v.storage))
                .collect();
            assert_eq!(told, [("v1alpha1", true, false), ("v1beta1", true, true)]);
            assert_eq!(versions[0].schema, versions[1].schema);
            assert!(versions[0].subresources.as_ref().unwrap().status.is_some());
        }
    }

    /// Upstream: "No `default:` … anywhere", spec optional, `type` an enum, at most two addresses, ports required.
    #[test]
    fn the_schema_of_imports_is_upstreams() {
        let mut version = crd("serviceimports.multicluster.x-k8s.io")
            .spec
            .versions
            .remove(1);
        let schema = root(&mut version).unwrap();
        assert!(
            !serde_json::to_string(&schema)
                .unwrap()
                .contains("\"default\"")
        );
        assert_eq!(schema.required, None);
        let spec = property(schema, &["spec"]).unwrap();
        assert_eq!(spec.required.clone().unwrap(), ["ports", "type"]);
        assert_eq!(property(spec, &["ips"]).unwrap().max_items, Some(2));
        let kinds: Vec<_> = property(spec, &["type"]).unwrap().enum_.clone().unwrap();
        assert_eq!(
            kinds
                .iter()
                .map(|json| json.0.as_str().unwrap())
                .collect::<Vec<_>>(),
            ["ClusterSetIP", "Headless"]
        );
        let status = property(schema, &["status", "clusters"]).unwrap();
        assert_eq!(
            status.x_kubernetes_list_map_keys.clone().unwrap(),
            ["cluster"]
        );
        let presence = property(schema, &["status", "endpointSliceObjects"]).unwrap();
        assert!(presence.enum_.is_some());
    }

    #[test]
    fn every_kind_has_columns_to_read() {
        for crd in all() {
            let version = &crd.spec.versions[0];
            assert!(
                version.additional_printer_columns.is_some(),
                "{:?} has none",
                crd.metadata.name
            );
        }
    }
}
