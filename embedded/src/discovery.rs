//! Pure: what clients ask before anything else: which groups, versions and kinds are served. The
//! OpenAPI documents say only what kubectl looks for in them: that the server itself checks
//! fields, so that kubectl does not insist on schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::resource::{Resource, Version, api_version};

type Kinds<'a> = &'a [Arc<Resource>];

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
pub(crate) fn groups(kinds: Kinds<'_>) -> Value {
    let groups: Vec<Value> = versions(kinds)
        .into_iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| group_object(name, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(crate) fn group(kinds: Kinds<'_>, name: &str) -> Result<Value, ApiError> {
    let known = versions(kinds);
    let versions = known.get(name).filter(|_| !name.is_empty());
    let mut group = group_object(name, versions.ok_or_else(ApiError::unknown_path)?);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Ok(group)
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(crate) fn resources(kinds: Kinds<'_>, group: &str, version: &str) -> Result<Value, ApiError> {
    let mut entries = Vec::new();
    for (resource, served) in within(kinds, group, version)? {
        let verbs = [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        let mut entry = json!({"name": resource.plural, "singularName": resource.singular,
            "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs});
        for (field, values) in [
            ("shortNames", &resource.short_names),
            ("categories", &resource.categories),
        ] {
            if !values.is_empty() {
                entry[field] = json!(values);
            }
        }
        entries.push(entry);
        if served.status {
            entries.push(json!({"name": format!("{}/status", resource.plural),
                "singularName": "", "namespaced": resource.namespaced, "kind": resource.kind,
                "verbs": ["get", "patch", "update"]}));
        }
    }
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": api_version(group, version), "resources": entries}))
}

/// `/openapi/v3`.
pub(crate) fn openapi_index(kinds: Kinds<'_>) -> Value {
    let mut paths = Map::new();
    for (group, versions) in versions(kinds) {
        for version in versions {
            let path = prefix(group, &version);
            let entry = json!({"serverRelativeURL": format!("/openapi/v3{path}")});
            paths.insert(path.trim_start_matches('/').to_owned(), entry);
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/<group>/<version>`.
pub(crate) fn openapi(kinds: Kinds<'_>, group: &str, version: &str) -> Result<Value, ApiError> {
    let mut paths = Map::new();
    for (resource, _) in within(kinds, group, version)? {
        let scope = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let path = format!(
            "{}{scope}/{}/{{name}}",
            prefix(group, version),
            resource.plural
        );
        let parameters: Vec<Value> = ["dryRun", "fieldValidation"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        let kind = json!({"group": group, "version": version, "kind": resource.kind});
        let patch = json!({"parameters": parameters, "responses": {},
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind});
        paths.insert(path, json!({"patch": patch}));
    }
    Ok(
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": paths, "components": {"schemas": {}}}),
    )
}

fn prefix(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}", api_version(group, version))
}

/// The versions of every group, the preferred one first.
fn versions<'a>(kinds: Kinds<'a>) -> BTreeMap<&'a str, Vec<String>> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for resource in kinds {
        let known = groups.entry(&resource.group).or_default();
        for version in &resource.versions {
            if !known.contains(&version.name) {
                known.push(version.name.clone());
            }
        }
    }
    for known in groups.values_mut() {
        crate::resource::sort_versions(known);
    }
    groups
}

fn group_object(name: &str, versions: &[String]) -> Value {
    let entries: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": entries.first(), "versions": entries})
}

fn within<'a>(
    kinds: Kinds<'a>,
    group: &str,
    version: &str,
) -> Result<Vec<(&'a Resource, &'a Version)>, ApiError> {
    let found: Vec<_> = kinds
        .iter()
        .filter(|resource| resource.group == group)
        .flat_map(|resource| {
            resource
                .versions
                .iter()
                .map(move |version| (&**resource, version))
        })
        .filter(|(_, known)| known.name == version)
        .collect();
    if found.is_empty() {
        Err(ApiError::unknown_path())
    } else {
        Ok(found)
    }
}
