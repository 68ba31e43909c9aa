//! A cluster becomes the hub of a set, or a member: what is needed, what there is, what is to be done, and then
//! that it is done.
//!
//! ```text
//! facts ─► checks ─► (wrong? nothing is changed) ─► plan ─► shown ─► apply ─► wait
//! ```
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`choice`] | what do people choose, now and before? |
//! | [`wanted`] | which objects make it? |
//! | [`facts`] | what is in the cluster, and what would an API server make of ours? |
//! | [`checks`] | what stands in the way? |
//! | [`plan`] | what would change? |
//! | [`shown`] | what are people told of that? |
//! | [`apply`] | does it |
//! | [`admit`], [`joined`] | how does the hub let a cluster in? |
//! | [`removal`], [`remove`] | what is taken out again, in which order? |
//! | [`wait`](mod@wait), [`progress`] | is it so? |

pub(crate) mod admit;
pub(crate) mod apply;
pub(crate) mod checks;
pub(crate) mod choice;
pub(crate) mod facts;
pub(crate) mod joined;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod removal;
pub(crate) mod remove;
pub(crate) mod shown;
pub(crate) mod wait;
pub(crate) mod wanted;

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

/// Who writes these objects, as API servers keep it beside each field.
pub(crate) const MANAGER: &str = "landbridge";

/// Which object.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(crate) kind: String,
    pub(crate) version: String,
    /// Empty for what is in none.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// Of an object as it is written.
    pub(crate) fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            kind: text(&object["kind"]),
            version: text(&object["apiVersion"]),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
        }
    }

    /// What an API server calls its kind.
    pub(crate) fn resource(&self) -> ApiResource {
        let (group, version) = self.version.split_once('/').unwrap_or(("", &self.version));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &self.kind))
    }

    /// Where it is asked for.
    pub(crate) fn api(&self, client: Client) -> Api<DynamicObject> {
        let resource = self.resource();
        if self.namespace.is_empty() {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, &self.namespace, &resource)
        }
    }

    /// As kubectl writes it, without its kind.
    pub(crate) fn place(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}
