//! Pure: what clients ask before anything else: which groups, versions and kinds are served. There
//! are no OpenAPI documents, so that `kubectl create` needs `--validate=false`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::resource::{Resource, Version, api_version, precedence};

type Kinds = [Arc<Resource>];

/// The Kubernetes version whose behaviour is followed.
pub(crate) fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0+landbridge-embedded",
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "", "platform": ""})
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(crate) fn groups(kinds: &Kinds) -> Value {
    let named = versions(kinds).into_iter().filter(|(name, _)| !name.is_empty());
    let groups: Vec<Value> = named.map(|(name, versions)| group_object(name, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(crate) fn group(kinds: &Kinds, name: &str) -> Result<Value, ApiError> {
    let known = versions(kinds);
    let versions = known.get(name).ok_or_else(ApiError::unknown_path)?;
    let mut group = group_object(name, versions);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Ok(group)
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(crate) fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value, ApiError> {
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let mut entries = Vec::new();
    for (resource, served) in within(kinds, group, version)? {
        let (plural, namespaced) = (&resource.plural, resource.namespaced);
        entries.push(json!({"name": plural, "singularName": resource.singular,
            "namespaced": namespaced, "kind": resource.kind, "verbs": verbs,
            "shortNames": resource.short_names, "categories": resource.categories}));
        if served.status {
            entries.push(json!({"name": format!("{plural}/status"), "singularName": "",
                "namespaced": namespaced, "kind": resource.kind, "verbs": ["get", "patch", "update"]}));
        }
    }
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": api_version(group, version), "resources": entries}))
}

/// The versions of every group, the preferred one first.
fn versions(kinds: &Kinds) -> BTreeMap<&str, Vec<String>> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for resource in kinds {
        let names = resource.versions.iter().map(|version| version.name.clone());
        groups.entry(&resource.group).or_default().extend(names);
    }
    for known in groups.values_mut() {
        known.sort_by_key(|version| precedence(version));
        known.dedup();
    }
    groups
}

fn group_object(name: &str, versions: &[String]) -> Value {
    let entry = |version| json!({"groupVersion": api_version(name, version), "version": version});
    let entries: Vec<Value> = versions.iter().map(|version| entry(version)).collect();
    json!({"name": name, "preferredVersion": entries.first(), "versions": entries})
}

fn within<'a>(
    kinds: &'a Kinds,
    group: &str,
    version: &str,
) -> Result<Vec<(&'a Resource, &'a Version)>, ApiError> {
    let mine = kinds.iter().filter(|resource| resource.group == group);
    let served = mine.filter_map(|resource| {
        let found = resource.versions.iter().find(|known| known.name == version)?;
        Some((&**resource, found))
    });
    let found: Vec<_> = served.collect();
    if found.is_empty() { Err(ApiError::unknown_path()) } else { Ok(found) }
}
