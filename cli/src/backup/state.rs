//! Pure: which objects of a hub are its state, and what becomes of them where they are brought back.
//!
//! The epoch says which state is the newer one: it is kept in the Secret `landbridge-root`, raised by each restore, told to
//! members whenever their credentials are renewed, and a member that has seen a higher one does not follow a lower one.

use data_encoding::BASE64;
use landbridge_api::wellknown::{ROOT_SECRET, SYSTEM_NAMESPACE, TRUST_NAMESPACE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::init::wanted::CHOICE;

/// In the Secret `landbridge-root`: which state of the hub it is.
pub(crate) const EPOCH: &str = "epoch";
/// What the Secrets of those who have left are called.
const LEFT: &str = "landbridge-left-";

/// All of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) cluster: String,
    pub(crate) cluster_set: String,
    pub(crate) root: Value,
    pub(crate) left: Vec<Value>,
    pub(crate) members: Vec<Value>,
    /// What was chosen at `landbridge init`; none where that has not made the hub.
    pub(crate) choice: Option<Value>,
}

/// Whether a Secret of the trust says who has left.
pub(crate) fn is_left(name: &str) -> bool {
    name.starts_with(LEFT)
}

/// An object without what the API server it comes from has written of its own accord.
pub(crate) fn portable(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = json!({"name": metadata["name"]});
    for field in ["annotations", "labels", "namespace"] {
        if !metadata[field].is_null() {
            kept[field] = metadata[field].clone();
        }
    }
    let mut portable = json!({"metadata": kept});
    for field in ["data", "spec", "type"] {
        if !object[field].is_null() {
            portable[field] = object[field].clone();
        }
    }
    // By this a cluster is told from another one of the same id.
    let uid = &object["status"]["clusterUid"];
    if !uid.is_null() {
        portable["status"] = json!({"clusterUid": uid});
    }
    portable
}

/// The epoch of a root's Secret; 0 where it says nothing.
pub(crate) fn epoch(root: &Value) -> u64 {
    let text = root["data"][EPOCH].as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// The certificate of a root's Secret, by which it is told from another one.
fn certificate(root: &Value) -> Option<&str> {
    root["data"]["root.pem"].as_str()
}

impl State {
    /// What is written of it before there are any kinds: the trust. `there` is the root of the cluster that it is brought to, if
    /// it has one.
    ///
    /// # Errors
    /// Another set's root, which all its members would be lost with.
    pub(crate) fn trust(&self, there: Option<&Value>) -> Result<Vec<Value>, String> {
        if there.is_some_and(|there| certificate(there) != certificate(&self.root)) {
            return Err(format!(
                "the cluster has another root in Secret {TRUST_NAMESPACE}/{ROOT_SECRET}, and the members of that one would be lost: restore to another cluster, or `landbridge uninstall` this one first"
            ));
        }
        let last = there.map(epoch).unwrap_or_default().max(epoch(&self.root));
        let raised = last.saturating_add(1).to_string();
        let mut root = typed(&self.root, "v1", "Secret");
        root["data"][EPOCH] = BASE64.encode(raised.as_bytes()).into();
        let left = self.left.iter().map(|secret| typed(secret, "v1", "Secret"));
        Ok([root].into_iter().chain(left).collect())
    }

    /// What was chosen, for `landbridge init` to read.
    pub(crate) fn choice(&self) -> Option<Value> {
        let choice = typed(self.choice.as_ref()?, "v1", "ConfigMap");
        let is_ours = choice["metadata"]["name"] == CHOICE
            && choice["metadata"]["namespace"] == SYSTEM_NAMESPACE;
        is_ours.then_some(choice)
    }

    /// What is written of each member; the rest of the hub's own cluster is made by `landbridge init`.
    pub(crate) fn members(&self) -> impl Iterator<Item = Returned> {
        self.members.iter().filter_map(returned)
    }

    /// The epoch that it is of once it is brought back beside `there`.
    pub(crate) fn raised(&self, there: Option<&Value>) -> u64 {
        there.map(epoch).unwrap_or_default().max(epoch(&self.root)).saturating_add(1)
    }
}

/// A member as it is written again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Returned {
    pub(crate) name: String,
    /// What joining writes of it.
    pub(crate) record: Value,
    /// What administrators have said of it besides: as somebody else's, so that joining again does not take it back.
    pub(crate) said: Value,
    pub(crate) status: Option<Value>,
}

fn returned(member: &Value) -> Option<Returned> {
    let name = member["metadata"]["name"].as_str()?.to_owned();
    let mut said = typed(member, "landbridge.dev/v1alpha1", "Member");
    let status = said.as_object_mut().and_then(|fields| fields.remove("status"));
    let mut spec = json!({});
    for field in ["generation", "network"] {
        let value = said["spec"].as_object_mut().and_then(|fields| fields.remove(field));
        spec[field] = value.unwrap_or_default();
    }
    let record = json!({"apiVersion": said["apiVersion"], "kind": said["kind"], "metadata": {"name": name}, "spec": spec});
    Some(Returned { name, record, said, status })
}

fn typed(object: &Value, version: &str, kind: &str) -> Value {
    let mut typed = object.clone();
    typed["apiVersion"] = version.into();
    typed["kind"] = kind.into();
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, epoch: &str) -> Value {
        portable(&json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": name, "namespace": "landbridge-trust", "uid": "u", "resourceVersion": "7",
                "labels": {"app.kubernetes.io/managed-by": "landbridge.dev"}},
            "data": {"root.pem": "QQ==", "epoch": BASE64.encode(epoch.as_bytes())}}))
    }

    fn state() -> State {
        let member = json!({"metadata": {"name": "berlin", "generation": 2, "uid": "u"},
            "spec": {"generation": 3, "network": "b", "suspended": true},
            "status": {"clusterUid": "u1", "heartbeat": "2026-09-21T14:00:00Z"}});
        State {
            cluster: "paris".into(),
            cluster_set: "prod".into(),
            root: secret("landbridge-root", "4"),
            left: vec![secret("landbridge-left-oslo", "1")],
            members: vec![portable(&member)],
            choice: None,
        }
    }

    #[test]
    fn what_a_server_has_written_is_left_out_and_the_uid_of_a_cluster_is_kept() {
        let state = state();
        let root = state.root["metadata"].as_object().unwrap();
        assert_eq!(root.keys().collect::<Vec<_>>(), ["labels", "name", "namespace"]);
        let member = state.members().next().unwrap();
        assert_eq!(member.name, "berlin");
        assert_eq!(member.record["spec"], json!({"generation": 3, "network": "b"}));
        assert_eq!(member.said["spec"], json!({"suspended": true}));
        assert_eq!(member.said["metadata"], json!({"name": "berlin"}));
        assert_eq!(member.status, Some(json!({"clusterUid": "u1"})));
    }

    /// "Members follow the highest hub epoch."
    #[test]
    fn each_restore_raises_the_epoch_above_all_that_is_known() {
        let state = state();
        for (there, raised) in [(None, 5), (Some("2"), 5), (Some("9"), 10)] {
            let there = there.map(|epoch| secret("landbridge-root", epoch));
            let trust = state.trust(there.as_ref()).unwrap();
            assert_eq!(trust.len(), 2);
            assert_eq!((epoch(&trust[0]), state.raised(there.as_ref())), (raised, raised));
        }
        assert_eq!(epoch(&json!({"data": {}})), 0);
    }

    #[test]
    fn another_sets_root_is_not_written_over() {
        let mut there = secret("landbridge-root", "1");
        there["data"]["root.pem"] = "Qg==".into();
        let told = state().trust(Some(&there)).unwrap_err();
        assert!(told.contains("another root") && told.contains("landbridge uninstall"), "{told}");
    }
}
