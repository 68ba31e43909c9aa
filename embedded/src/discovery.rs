//! Pure: what clients ask before anything else: which groups, versions and kinds are served. The
//! OpenAPI documents say only what kubectl looks for in them: that the server itself checks
//! fields, so that kubectl does not insist on schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

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
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
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

/// `/openapi/v3`.
pub(crate) fn openapi_index(kinds: &Kinds) -> Value {
    let mut paths = Map::new();
    for (group, versions) in versions(kinds) {
        for version in versions {
            let path = prefix(group, &version);
            let entry = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
            paths.insert(path, entry);
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/<group>/<version>`.
pub(crate) fn openapi(kinds: &Kinds, group: &str, version: &str) -> Result<Value, ApiError> {
    let mut paths = Map::new();
    for (resource, _) in within(kinds, group, version)? {
        let kind = json!({"group": group, "version": version, "kind": resource.kind});
        let parameters = json!([{"name": "fieldValidation", "in": "query"}]);
        let patch = json!({"parameters": parameters, "responses": {},
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind});
        let path = format!("/{}/{}/{{name}}", prefix(group, version), resource.plural);
        paths.insert(path, json!({"patch": patch}));
    }
    Ok(
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34.0"}, "paths": paths}),
    )
}

fn prefix(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", api_version(group, version))
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
