//! Pure: how objects, lists and events are put into the form that a client accepts: as they are,
//! metadata only, or as a Table with printer columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Cause};
use crate::request::{Form, Query};
use crate::resource::Served;
use crate::state::{Key, State};
use crate::store::{EventKind, present};

/// How one request wants its objects shown.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub(crate) at: Served,
    pub(crate) form: Form,
    /// What a Table's rows carry: `Metadata` (default), `None` or `Object`.
    pub(crate) include_object: String,
}

/// A list as it goes over the wire.
#[derive(Serialize)]
struct List<'a> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Value,
    items: Vec<&'a Value>,
}

/// One page of a list, read from the state at one version.
pub(crate) struct Page {
    keys: Vec<Key>,
    items: Vec<Arc<Value>>,
    metadata: Value,
}

impl Page {
    /// Reads the page that a query asks for.
    pub(crate) fn read(
        state: &State,
        at: &Served,
        within: Option<&str>,
        query: &Query,
    ) -> Result<Self, ApiError> {
        let (version, behind) = position(state, query)?;
        let found = state.list(at, within, version)?;
        let mut rest = selected(&found, behind.as_ref(), query);
        let (mut keys, mut items) = (Vec::new(), Vec::new());
        for (key, object) in rest.by_ref().take(query.limit.unwrap_or(usize::MAX)) {
            items.push(present(at, object));
            keys.push(key.clone());
        }
        let mut metadata = json!({"resourceVersion": version.to_string()});
        let remaining = rest.count();
        if let Some(last) = keys.last().filter(|_| remaining > 0) {
            let token = format!("{version} {}/{}", last.namespace, last.name);
            metadata["continue"] = json!(BASE64URL_NOPAD.encode(token.as_bytes()));
            if query.selector.is_empty() {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        Ok(Self {
            keys,
            items,
            metadata,
        })
    }

    /// Where the page's objects stand.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The page in the form that was asked for.
    pub(crate) fn encode(self, style: &Style, now: Timestamp) -> Vec<u8> {
        let resource = &style.at.resource;
        let (api_version, kind) = match style.form {
            Form::Table => return bytes(&style.table(&self.items, &self.metadata, now)),
            Form::PartialObject => ("meta.k8s.io/v1".into(), "PartialObjectMetadataList".into()),
            Form::Object => (style.at.api_version(), format!("{}List", resource.kind)),
        };
        let partial: Vec<Value>;
        let items = if style.form == Form::Object {
            self.items.iter().map(|item| &**item).collect()
        } else {
            partial = self.items.iter().map(|item| partial_object(item)).collect();
            partial.iter().collect()
        };
        bytes(&List {
            api_version,
            kind,
            metadata: self.metadata,
            items,
        })
    }
}

impl Style {
    /// One object in the form that was asked for.
    pub(crate) fn object(&self, object: &Arc<Value>, now: Timestamp) -> Vec<u8> {
        match self.form {
            Form::Object => bytes(&**object),
            Form::PartialObject => bytes(&partial_object(object)),
            Form::Table => {
                let version = object["metadata"]["resourceVersion"].clone();
                let metadata = json!({"resourceVersion": version});
                bytes(&self.table(std::slice::from_ref(object), &metadata, now))
            }
        }
    }

    /// One line of a watch.
    pub(crate) fn event(&self, kind: EventKind, object: &Arc<Value>, now: Timestamp) -> Vec<u8> {
        let kind = match kind {
            EventKind::Added => "ADDED",
            EventKind::Deleted => "DELETED",
            EventKind::Modified => "MODIFIED",
        };
        line(kind, &self.object(object, now))
    }

    /// A bookmark: the version up to which everything has been told.
    pub(crate) fn bookmark(&self, version: u64, ends_initial_events: bool) -> Vec<u8> {
        let mut metadata =
            json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if ends_initial_events {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = match self.form {
            Form::Object => {
                json!({"apiVersion": self.at.api_version(), "kind": self.at.resource.kind})
            }
            Form::PartialObject => partial_object(&Value::Null),
            Form::Table => json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table",
                "columnDefinitions": [], "rows": []}),
        };
        object["metadata"] = metadata;
        line("BOOKMARK", &bytes(&object))
    }

    fn table(&self, items: &[Arc<Value>], metadata: &Value, now: Timestamp) -> Value {
        let columns = &self.at.version().columns;
        let definitions: Vec<Value> = columns
            .iter()
            .map(|column| {
                json!({"name": column.name, "type": column.kind, "format": column.format,
                    "description": column.description, "priority": column.priority})
            })
            .collect();
        let rows: Vec<Value> = items
            .iter()
            .map(|item| {
                let cells: Vec<Value> = columns
                    .iter()
                    .map(|column| column.cell(item, now))
                    .collect();
                let object = match self.include_object.as_str() {
                    "None" => Value::Null,
                    "Object" => (**item).clone(),
                    _ => partial_object(item),
                };
                json!({"cells": cells, "object": object})
            })
            .collect();
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows})
    }
}

/// The last line of a watch that cannot go on.
pub(crate) fn error_event(error: &ApiError) -> Vec<u8> {
    line("ERROR", &bytes(&error.status()))
}

/// What a delete answers when nothing is left of the object.
pub(crate) fn deleted(at: &Served, object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {
        "name": metadata["name"], "group": at.resource.group, "kind": at.resource.plural,
        "uid": metadata["uid"]}})
}

pub(crate) fn bytes(value: &impl Serialize) -> Vec<u8> {
    // Maps with string keys and plain values always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

/// The version to read a list at, and the key behind which it goes on.
fn position(state: &State, query: &Query) -> Result<(u64, Option<Key>), ApiError> {
    let current = state.version();
    if let Some(token) = &query.from {
        if query.version.is_some() {
            let message = "specifying resource version is not allowed when using continue";
            return Err(ApiError::bad_request(message));
        }
        let place = parse_token(token);
        let (version, key) =
            place.ok_or_else(|| ApiError::bad_request("continue key is not valid"))?;
        return Ok((version, Some(key)));
    }
    let asked = query.version.unwrap_or(0);
    if asked > current {
        return Err(ApiError::version_ahead(asked, current));
    }
    match query.matching.as_str() {
        "Exact" if asked > 0 => Ok((asked, None)),
        "" | "NotOlderThan" => Ok((current, None)),
        _ => Err(ApiError::bad_request(
            "resourceVersionMatch: Forbidden: is Exact or NotOlderThan, and needs resourceVersion",
        )),
    }
}

fn parse_token(token: &str) -> Option<(u64, Key)> {
    let text = String::from_utf8(BASE64URL_NOPAD.decode(token.as_bytes()).ok()?).ok()?;
    let (version, key) = text.split_once(' ')?;
    let (namespace, name) = key.split_once('/')?;
    let key = Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Some((version.parse().ok()?, key))
}

fn selected<'a>(
    found: &'a BTreeMap<Key, Arc<Value>>,
    behind: Option<&Key>,
    query: &Query,
) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
    let behind = behind.cloned();
    let selector = query.selector.clone();
    found
        .iter()
        .filter(move |(key, _)| behind.as_ref().is_none_or(|behind| *key > behind))
        .filter(move |(_, object)| selector.matches(object))
}

/// Refuses the combinations of a streamed list that kube-apiserver refuses.
pub(crate) fn check_initial_events(at: &Served, query: &Query) -> Result<(), ApiError> {
    if query.initial_events.is_some() && query.matching != "NotOlderThan" {
        let message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let cause = Cause::forbidden("resourceVersionMatch", message);
        return Err(ApiError::invalid(&at.resource, "", &[cause]));
    }
    Ok(())
}

fn partial_object(object: &Value) -> Value {
    let mut partial = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"});
    partial["metadata"] = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    partial
}

fn line(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut line = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line
}
