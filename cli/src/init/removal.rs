//! Pure: what is removed of a member, and in which order: what runs first, so that it writes nothing again, then what it may do
//! and what it was told, last the kinds and namespaces that all of it is of and in.

use landbridge_model::ClusterId;
use serde_json::Value;

use super::Key;
use crate::command::output::table;

/// The groups whose kinds are nobody's but ours.
const OURS: &str = ".landbridge.dev";

/// All that is to be removed, of the objects that were once applied.
pub(crate) fn order(wanted: &[Value], standard_kinds: bool) -> Vec<Key> {
    let is_shared = |key: &Key| key.kind == "CustomResourceDefinition" && !key.name.ends_with(OURS);
    let mut keys: Vec<Key> = wanted.iter().rev().map(Key::of).collect();
    keys.retain(|key| standard_kinds || !is_shared(key));
    keys.sort_by_key(|key| match key.kind.as_str() {
        "Deployment" => 0,
        // Whoever still runs for a moment can write nothing any more.
        "ClusterRoleBinding" | "RoleBinding" => 1,
        "CustomResourceDefinition" => 3,
        "Namespace" => 4,
        _ => 2,
    });
    keys
}

/// What people are shown of it.
pub(crate) fn shown(keys: &[Key], cluster: &ClusterId) -> String {
    let row = |key: &Key| ["  remove".to_owned(), key.kind.clone(), key.place()];
    let rows: Vec<[String; 3]> = keys.iter().map(row).collect();
    format!(
        "Takes {cluster} out of its set, with all that the controller has written\n{}",
        table(&rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        init::{choice::Choice, wanted},
        manifests::settings::{Settings, testing::settings},
    };

    fn keys(standard_kinds: bool) -> Vec<Key> {
        let settings = Settings { crds: false, own_hub: true, ..settings("nodeport") };
        let wanted = wanted::all(&settings, &Choice::default(), landbridge_api::crds::all());
        order(&wanted.unwrap(), standard_kinds)
    }

    #[test]
    fn what_runs_goes_first_and_what_all_is_in_goes_last() {
        let keys = keys(false);
        let first: Vec<&str> = keys.iter().take(4).map(|key| key.kind.as_str()).collect();
        assert_eq!(first, ["Deployment"; 4]);
        let last: Vec<&str> = keys.iter().rev().take(3).map(|key| key.kind.as_str()).collect();
        assert_eq!(last, ["Namespace"; 3]);
        let at = |kind: &str| keys.iter().position(|key| key.kind == kind).unwrap();
        assert!(at("ClusterRoleBinding") < at("ClusterRole"));
        assert!(at("Member") < at("CustomResourceDefinition"));
    }

    #[test]
    fn kinds_of_the_standard_stay_unless_they_are_asked_for() {
        let standard =
            |keys: &[Key]| keys.iter().filter(|key| key.name.ends_with(".x-k8s.io")).count();
        assert_eq!(standard(&keys(false)), 0);
        assert_eq!(standard(&keys(true)), 3);
    }
}
