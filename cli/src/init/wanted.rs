//! Pure: the objects of a member, and of one that is the hub, in the order in which they can be made: namespaces, kinds, and then
//! everything that is in or of them. Secrets are not among them: those are made once and never written over.

use k8s_openapi::{
    api::core::v1::ConfigMap,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE};
use landbridge_gateway::join::trust;
use serde_json::Value;

use super::choice::Choice;
use crate::manifests::{self, hub, settings::Settings};

/// The ConfigMap that holds what was chosen.
pub(crate) const CHOICE: &str = "landbridge";
/// Where it is, for people.
pub(crate) const CHOICE_PLACE: &str = "landbridge-system/landbridge";

/// All of them, with these definitions.
///
/// # Errors
/// Never for what is built here: only if an object could not be written as JSON.
pub(crate) fn all(
    settings: &Settings,
    choice: &Choice,
    definitions: Vec<CustomResourceDefinition>,
) -> serde_json::Result<Vec<Value>> {
    let Settings { cluster, network, generation, .. } = settings;
    let mut all = manifests::all(settings)?;
    for definition in definitions {
        all.push(serde_json::to_value(definition)?);
    }
    all.push(serde_json::to_value(chosen(choice))?);
    if settings.own_hub {
        all.push(serde_json::to_value(trust::namespace())?);
        all.extend(hub::all());
        all.extend(hub::own(cluster));
        all.push(hub::record(cluster, network, *generation)?);
    }
    // A stable sort: what comes first within each is as it was.
    all.sort_by_key(|object| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("CustomResourceDefinition") => 1,
        // Whoever is asked what the cluster is called is told once everything else is there.
        Some("ClusterProperty") => 3,
        _ => 2,
    });
    Ok(all)
}

/// What was chosen, for the next time.
fn chosen(choice: &Choice) -> ConfigMap {
    ConfigMap {
        data: Some(choice.to_data()),
        metadata: ObjectMeta {
            labels: Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into()),
            name: Some(CHOICE.into()),
            namespace: Some(SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

/// The names of the definitions among objects.
pub(crate) fn kinds(all: &[Value]) -> Vec<String> {
    let is_kind = |object: &&Value| object["kind"] == "CustomResourceDefinition";
    let kinds = all.iter().filter(is_kind);
    kinds.filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{init::Key, manifests::settings::testing::settings};

    #[test]
    fn every_object_is_there_once_and_after_what_it_is_in() {
        let settings = Settings { crds: false, own_hub: true, ..settings("nodeport") };
        let all = all(&settings, &Choice::default(), landbridge_api::crds::all()).unwrap();
        let mut namespaces = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for object in &all {
            let key = Key::of(object);
            assert!(key.namespace.is_empty() || namespaces.contains(&key.namespace), "{key:?}");
            if key.kind == "Namespace" {
                namespaces.insert(key.name.clone());
            }
            assert!(seen.insert(key.clone()), "{key:?} is there twice");
        }
        assert_eq!(
            namespaces,
            ["cluster-paris", "landbridge-system", "landbridge-trust"].map(str::to_owned).into()
        );
        let at = |kind: &str| all.iter().position(|object| object["kind"] == kind).unwrap();
        assert!(at("CustomResourceDefinition") < at("Member"));
        assert!(at("Deployment") < at("ClusterProperty"));
        assert!(all.iter().all(|object| object["kind"] != "Secret"));
    }
}
