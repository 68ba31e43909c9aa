//! Pure: how objects, lists and events are put into the form that a client accepts: as they are,
//! or as a Table with printer columns.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::request::{Form, Query};
use crate::resource::Served;
use crate::state::{Key, State};
use crate::store::{EventKind, present};

/// How one request wants its objects shown.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub(crate) at: Served,
    pub(crate) form: Form,
}

/// One page of a list, read from the state at one version.
pub(crate) struct Page {
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
        let mut rest = found
            .into_iter()
            .filter(|(key, _)| behind.as_ref().is_none_or(|behind| key > behind))
            .filter(|(_, object)| query.selector.matches(object));
        let page: Vec<_> = rest.by_ref().take(query.limit.unwrap_or(usize::MAX)).collect();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        let remaining = rest.count();
        if let Some((last, _)) = page.last().filter(|_| remaining > 0) {
            let token = format!("{version} {}/{}", last.0, last.1);
            metadata["continue"] = json!(BASE64URL_NOPAD.encode(token.as_bytes()));
        }
        let items = page.iter().map(|(_, object)| present(at, object)).collect();
        Ok(Self { items, metadata })
    }

    /// The page in the form that was asked for.
    pub(crate) fn encode(&self, style: &Style, now: Timestamp) -> Value {
        let (api_version, kind) = (style.at.api_version(), &style.at.resource.kind);
        match style.form {
            Form::Object => {
                let items: Vec<&Value> = self.items.iter().map(|item| &**item).collect();
                json!({"apiVersion": api_version, "kind": format!("{kind}List"),
                    "metadata": self.metadata, "items": items})
            }
            Form::Table => style.table(&self.items, &self.metadata, now),
        }
    }
}

impl Style {
    /// One object in the form that was asked for.
    pub(crate) fn object(&self, object: &Arc<Value>, now: Timestamp) -> Value {
        match self.form {
            Form::Object => (**object).clone(),
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                self.table(std::slice::from_ref(object), &metadata, now)
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
    pub(crate) fn bookmark(&self, version: u64, now: Timestamp) -> Vec<u8> {
        let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        let object = match self.form {
            Form::Table => self.table(&[], &metadata, now),
            Form::Object => json!({"apiVersion": self.at.api_version(),
                "kind": self.at.resource.kind, "metadata": metadata}),
        };
        line("BOOKMARK", &object)
    }

    fn table(&self, items: &[Arc<Value>], metadata: &Value, now: Timestamp) -> Value {
        let columns = &self.at.version().columns;
        let definitions: Vec<Value> = columns.iter().map(|column| column.definition()).collect();
        let row = |item: &Arc<Value>| {
            let cells: Vec<Value> = columns.iter().map(|column| column.cell(item, now)).collect();
            json!({"cells": cells, "object": partial(item)})
        };
        let rows: Vec<Value> = items.iter().map(row).collect();
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows})
    }
}

/// The last line of a watch that cannot go on.
pub(crate) fn error_event(error: &ApiError) -> Vec<u8> {
    line("ERROR", &error.status())
}

/// What a delete answers when nothing is left of the object.
pub(crate) fn deleted(at: &Served, object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {
        "name": metadata["name"], "group": at.resource.group, "kind": at.resource.plural,
        "uid": metadata["uid"]}})
}

/// The version to read a list at, and the key behind which it goes on.
fn position(state: &State, query: &Query) -> Result<(u64, Option<Key>), ApiError> {
    let asked = query.version.unwrap_or(0);
    if asked > state.version {
        return Err(ApiError::version_ahead(asked, state.version));
    }
    match (&query.from, query.matching.as_str()) {
        (Some(token), "") if asked == 0 => {
            let (version, key) = parse_token(token)
                .ok_or_else(|| ApiError::new(400, "continue key is not valid"))?;
            Ok((version, Some(key)))
        }
        (None, "Exact") if asked > 0 => Ok((asked, None)),
        (None, "" | "NotOlderThan") => Ok((state.version, None)),
        _ => Err(ApiError::new(
            400,
            "resourceVersionMatch is Exact or NotOlderThan and needs resourceVersion; continue allows neither",
        )),
    }
}

fn parse_token(token: &str) -> Option<(u64, Key)> {
    let token = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
    let token = String::from_utf8(token).ok()?;
    let (version, key) = token.split_once(' ')?;
    let (namespace, name) = key.split_once('/')?;
    Some((version.parse().ok()?, (namespace.to_owned(), name.to_owned())))
}

fn partial(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

fn line(kind: &str, object: &Value) -> Vec<u8> {
    format!("{}\n", json!({"type": kind, "object": object})).into_bytes()
}
