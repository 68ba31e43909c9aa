//! The CustomResourceDefinitions of every kind that Landbridge reads or writes.
//!
//! Generated from the Rust types, so that what is installed and what is read cannot differ. The standard ones are
//! brought to what upstream publishes: no defaults, an optional `spec`, lists that are maps, two served versions and
//! the labels that keep a newer release from being downgraded.

pub mod installed;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSON, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{
    about::ClusterProperty,
    access::AccessPolicy,
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Member, Peer},
    mcs::v1beta1,
    traffic::TrafficPolicy,
};

/// The release of the Multi-Cluster Services API whose schema this is.
pub const MCS_RELEASE: &str = "v0.5.2";
/// On definitions of that API: the release that they are of.
const MCS_RELEASE_LABEL: &str = "multicluster.x-k8s.io/release-version";
/// On definitions of that API: how often the schema has changed within a release.
const MCS_REVISION_LABEL: &str = "multicluster.x-k8s.io/crd-schema-revision";
/// On all other definitions of ours: the version of Landbridge that they are of.
const APP_VERSION: &str = "app.kubernetes.io/version";

/// All of them: the standard ones first.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        mcs(v1beta1::ServiceExport::crd()),
        mcs(v1beta1::ServiceImport::crd()),
        approved(ClusterProperty::crd()),
        ClusterProfile::crd(),
        Member::crd(),
        ClusterExport::crd(),
        Peer::crd(),
        AccessPolicy::crd(),
        TrafficPolicy::crd(),
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
                ["ClusterSetIP", "Headless"].into_iter().map(|name| JSON(name.into())).collect(),
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
    labels.insert(MCS_RELEASE_LABEL.into(), MCS_RELEASE.into());
    labels.insert(MCS_REVISION_LABEL.into(), "0".into());
    crd
}

/// Says where a kind of a `k8s.io` group was agreed on: API servers take no such definition that does not.
fn approved(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata.annotations.get_or_insert_default().insert(
        "api-approved.kubernetes.io".into(),
        "https://github.com/kubernetes/enhancements/tree/master/keps/sig-multicluster/2149-clusterid".into(),
    );
    crd
}

/// Makes condition and cluster lists maps by their key, as the API conventions want it, holds conditions to what the
/// conventions say of them, and takes out what only the generator needs: defaults, titles, and nulls, which an API
/// server prunes where a field may not be null.
fn tidy(crd: &mut CustomResourceDefinition) {
    let labels = crd.metadata.labels.get_or_insert_default();
    if !labels.contains_key(MCS_RELEASE_LABEL) {
        labels.insert(APP_VERSION.into(), env!("CARGO_PKG_VERSION").into());
    }
    for version in &mut crd.spec.versions {
        let Some(root) = root(version) else { continue };
        plain(root);
        root.title = None;
        for (name, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            let schema = JSONSchemaProps { type_: Some(kind.into()), ..JSONSchemaProps::default() };
            let properties = root.properties.get_or_insert_default();
            properties.insert(name.into(), schema);
        }
        if let Some(conditions) = property(root, &["status", "conditions"])
            && let Some(JSONSchemaPropsOrArray::Schema(one)) = &mut conditions.items
        {
            limit_condition(one);
        }
        for (list, key) in [("conditions", "type"), ("clusters", "cluster"), ("properties", "name")]
        {
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
    path.iter().try_fold(schema, |schema, name| schema.properties.as_mut()?.get_mut(*name))
}

/// The limits of `metav1.Condition`, which a status is checked against like everything else.
fn limit_condition(condition: &mut JSONSchemaProps) {
    if let Some(message) = property(condition, &["message"]) {
        message.max_length = Some(32_768);
    }
    if let Some(generation) = property(condition, &["observedGeneration"]) {
        generation.minimum = Some(0.0);
    }
    if let Some(reason) = property(condition, &["reason"]) {
        reason.max_length = Some(1_024);
        reason.min_length = Some(1);
        reason.pattern = Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".into());
    }
    if let Some(status) = property(condition, &["status"]) {
        let values = ["True", "False", "Unknown"];
        status.enum_ = Some(values.map(|value| JSON(value.into())).to_vec());
    }
    if let Some(kind) = property(condition, &["type"]) {
        kind.max_length = Some(316);
        // A qualified name: an optional DNS subdomain and a slash, then a label.
        let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
        let name = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
        kind.pattern = Some(format!("^({label}(\\.{label})*/)?({name})$"));
    }
}

/// Without defaults and nulls, all the way down.
fn plain(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        plain(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        plain(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        plain(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(name: &str) -> CustomResourceDefinition {
        all().into_iter().find(|crd| crd.metadata.name.as_deref() == Some(name)).unwrap()
    }

    /// "v1alpha1 (served, not storage) and v1beta1 (served, storage). Schemas are identical".
    #[test]
    fn the_standard_kinds_are_served_in_both_versions() {
        for name in ["serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io"]
        {
            let versions = crd(name).spec.versions;
            let told: Vec<_> =
                versions.iter().map(|v| (v.name.as_str(), v.served, v.storage)).collect();
            assert_eq!(told, [("v1alpha1", true, false), ("v1beta1", true, true)]);
            assert_eq!(versions[0].schema, versions[1].schema);
            assert!(versions[0].subresources.as_ref().unwrap().status.is_some());
        }
    }

    /// Upstream: "No `default:` … anywhere", spec optional, `type` an enum, at most two addresses, ports required.
    #[test]
    fn the_schema_of_imports_is_upstreams() {
        let mut version = crd("serviceimports.multicluster.x-k8s.io").spec.versions.remove(1);
        let schema = root(&mut version).unwrap();
        assert!(!serde_json::to_string(&schema).unwrap().contains("\"default\""));
        assert_eq!(schema.required, None);
        let spec = property(schema, &["spec"]).unwrap();
        assert_eq!(spec.required.clone().unwrap(), ["ports", "type"]);
        assert_eq!(property(spec, &["ips"]).unwrap().max_items, Some(2));
        let kinds: Vec<_> = property(spec, &["type"]).unwrap().enum_.clone().unwrap();
        assert_eq!(
            kinds.iter().map(|json| json.0.as_str().unwrap()).collect::<Vec<_>>(),
            ["ClusterSetIP", "Headless"]
        );
        let status = property(schema, &["status", "clusters"]).unwrap();
        assert_eq!(status.x_kubernetes_list_map_keys.clone().unwrap(), ["cluster"]);
        let presence = property(schema, &["status", "endpointSliceObjects"]).unwrap();
        assert!(presence.enum_.is_some());
    }

    /// What a user or an API server sends as null is left out, and a condition that no client could read is refused.
    #[test]
    fn no_field_may_be_null_and_conditions_have_their_limits() {
        for crd in all() {
            let text = serde_json::to_string(&crd).unwrap();
            assert!(!text.contains("\"nullable\""), "{text}");
        }
        let mut version = crd("serviceexports.multicluster.x-k8s.io").spec.versions.remove(0);
        let schema = root(&mut version).unwrap();
        let conditions = property(schema, &["status", "conditions"]).unwrap();
        let Some(JSONSchemaPropsOrArray::Schema(condition)) = &mut conditions.items else {
            panic!("no schema of one condition");
        };
        let mut limit = |name: &str| property(condition, &[name]).unwrap().clone();
        assert_eq!(limit("message").max_length, Some(32_768));
        assert_eq!(limit("reason").min_length, Some(1));
        assert_eq!(limit("status").enum_.unwrap().len(), 3);
        assert_eq!(limit("observedGeneration").minimum, Some(0.0));
        assert!(limit("type").pattern.is_some());
    }

    /// "protected groups must have approval annotation": those below k8s.io and kubernetes.io, and no others.
    #[test]
    fn kinds_of_protected_groups_say_where_they_were_approved() {
        for crd in all() {
            let group = &crd.spec.group;
            let is_protected = [".k8s.io", ".kubernetes.io"].iter().any(|end| group.ends_with(end))
                && !group.ends_with(".x-k8s.io");
            let annotations = crd.metadata.annotations.unwrap_or_default();
            let is_approved = annotations.contains_key("api-approved.kubernetes.io");
            assert_eq!(is_approved, is_protected, "{group}");
        }
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
