//! Pure: the bytes of lists and watches as objects, one by one.
//!
//! Nothing is decoded before it is needed, and what is not asked for, such as the spec of an object that is gone, is
//! skipped. An object that cannot be read is known by its name at least.

use std::collections::VecDeque;

use bytes::Bytes;
use kube::{Resource, core::response::Status};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Change, Malformed, ObjectKey, course::Failure};

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The text of each object.
    pub(super) objects: VecDeque<Bytes>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
    /// The version of the whole listing.
    pub(super) version: String,
}

/// What a line of a watch says.
#[derive(Debug, PartialEq)]
pub(super) enum Line<K> {
    /// Nothing has changed up to this version.
    Bookmark(String),
    /// Something has changed, and this is the version of it.
    Change(Change<K>, String),
    /// The watch cannot go on.
    Failed(Failure),
}

#[derive(Deserialize)]
struct RawPage<'a> {
    metadata: PageMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMeta {
    #[serde(rename = "continue")]
    next: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What is read of an object of which nothing else is needed, or can be read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMeta {
    namespace: String,
    name: String,
    resource_version: String,
}

/// Reads what is around the objects of a page.
pub(super) fn page(body: &Bytes) -> Result<Page, String> {
    let raw: RawPage<'_> =
        serde_json::from_slice(body).map_err(|error| format!("this is no list: {error}"))?;
    let objects = raw.items.unwrap_or_default().into_iter();
    let objects = objects.map(|object| body.slice_ref(object.get().as_bytes())).collect();
    if raw.metadata.resource_version.is_empty() {
        return Err("a list without a resourceVersion cannot be followed".to_owned());
    }
    let next = Some(raw.metadata.next).filter(|next| !next.is_empty());
    Ok(Page { objects, next, version: raw.metadata.resource_version })
}

/// Reads an object of a page.
pub(super) fn listed<K: DeserializeOwned>(text: &[u8]) -> Change<K> {
    match serde_json::from_slice(text) {
        Ok(object) => Change::Apply(object),
        Err(error) => {
            let (key, _) = head(text);
            Change::Malformed(Malformed { key, error: error.to_string() })
        }
    }
}

/// Reads a line of a watch.
pub(super) fn line<K: DeserializeOwned + Resource>(text: &[u8]) -> Line<K> {
    let raw: RawLine<'_> = match serde_json::from_slice(text) {
        Ok(raw) => raw,
        Err(error) => {
            return Line::Failed(Failure::Away(format!("the watch cannot be understood: {error}")));
        }
    };
    let object = raw.object.get().as_bytes();
    match raw.kind {
        "ADDED" | "MODIFIED" => {
            let change = listed::<K>(object);
            let version = match &change {
                Change::Apply(object) => object.meta().resource_version.clone(),
                _ => Some(head(object).1),
            };
            Line::Change(change, version.unwrap_or_default())
        }
        "DELETED" => {
            let (key, version) = head(object);
            Line::Change(Change::Delete(key), version)
        }
        "BOOKMARK" => Line::Bookmark(head(object).1),
        "ERROR" => Line::Failed(serde_json::from_slice(object).map_or_else(
            |_| Failure::Away(format!("the API ends the watch: {}", raw.object)),
            |status| failure(&status),
        )),
        other => Line::Failed(Failure::Away(format!("the watch tells of something {other}"))),
    }
}

/// What it means that the API says no.
pub(super) fn failure(status: &Status) -> Failure {
    let too_new = || {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
    };
    // 410: what has changed since then is forgotten. Too large, or not understood: the API was restored from a copy,
    // or replaced by another one.
    let is_lost = status.code == 410
        || (status.code == 504 && too_new())
        || (status.code == 400 && status.message.contains("resource version"));
    if is_lost {
        return Failure::Lost;
    }
    Failure::Away(format!("{} ({} {})", status.message, status.code, status.reason))
}

/// Key and version of an object: as much of them as can be read.
fn head(text: &[u8]) -> (ObjectKey, String) {
    let Head { metadata } = serde_json::from_slice(text).unwrap_or_default();
    let key = ObjectKey { namespace: metadata.namespace, name: metadata.name };
    (key, metadata.resource_version)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn told(line: &serde_json::Value) -> Line<ConfigMap> {
        super::line(line.to_string().as_bytes())
    }

    fn named(name: &str) -> ObjectKey {
        ObjectKey { namespace: "shop".into(), name: name.into() }
    }

    fn object(name: &str, data: &serde_json::Value) -> serde_json::Value {
        json!({"metadata": {"namespace": "shop", "name": name, "resourceVersion": "7"}, "data": data})
    }

    /// "One bad object hurts only itself."
    #[test]
    fn of_a_page_each_object_is_read_for_itself() {
        let body = json!({
            "kind": "ConfigMapList",
            "metadata": {"resourceVersion": "9", "continue": "b", "remainingItemCount": 3},
            "items": [object("a", &json!({"v": "1"})), object("b", &json!("bad")), {"data": 7}],
        });
        let page = page(&Bytes::from(body.to_string())).unwrap();
        assert_eq!((page.next.as_deref(), page.version.as_str()), (Some("b"), "9"));
        let changes: Vec<Change<ConfigMap>> =
            page.objects.iter().map(|text| listed(text)).collect();
        let Change::Apply(a) = &changes[0] else { panic!("{changes:?}") };
        assert_eq!(ObjectKey::of(&a.metadata), named("a"));
        let Change::Malformed(b) = &changes[1] else { panic!("{changes:?}") };
        assert_eq!(b.key, named("b"));
        assert!(b.error.contains("bad"), "{b:?}");
        assert!(matches!(&changes[2], Change::Malformed(bad) if bad.key == ObjectKey::default()));
    }

    #[test]
    fn the_last_page_names_no_other_and_an_empty_one_may_have_no_items() {
        let body =
            Bytes::from(r#"{"metadata":{"resourceVersion":"9","continue":""},"items":null}"#);
        let page = page(&body).unwrap();
        assert_eq!((page.next, page.objects.len()), (None, 0));
        assert!(super::page(&Bytes::from("{}")).is_err());
        assert!(super::page(&Bytes::from("<html>")).is_err());
        let unversioned = Bytes::from(r#"{"metadata":{},"items":[]}"#);
        assert!(super::page(&unversioned).is_err());
    }

    #[test]
    fn lines_tell_of_changes_and_of_the_version_that_they_lead_to() {
        for kind in ["ADDED", "MODIFIED"] {
            let line = told(&json!({"type": kind, "object": object("a", &json!({"v": "1"}))}));
            assert!(
                matches!(&line, Line::Change(Change::Apply(_), version) if version == "7"),
                "{line:?}"
            );
        }
        let bad = told(&json!({"type": "ADDED", "object": object("a", &json!([]))}));
        assert!(
            matches!(&bad, Line::Change(Change::Malformed(bad), version) if bad.key == named("a") && version == "7"),
            "{bad:?}"
        );
        let gone = told(&json!({"type": "DELETED", "object": object("a", &json!("bad"))}));
        assert_eq!(gone, Line::Change(Change::Delete(named("a")), "7".into()));
        let bookmark = json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "12"}});
        let bookmark = told(&json!({"type": "BOOKMARK", "object": bookmark}));
        assert_eq!(bookmark, Line::Bookmark("12".into()));
    }

    #[test]
    fn of_errors_those_that_a_new_listing_mends_are_told_apart() {
        let error = |code: u16, message: &str, causes: serde_json::Value| {
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": "R",
                "message": message, "details": {"causes": causes}});
            told(&json!({"type": "ERROR", "object": status}))
        };
        let lost = Line::Failed(Failure::Lost);
        assert_eq!(error(410, "too old resource version: 1 (7)", json!([])), lost);
        let large = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large"}]);
        assert_eq!(error(504, "Timeout", large), lost);
        assert_eq!(error(400, "Invalid value: \"x\": invalid resource version", json!([])), lost);
        for (code, message) in [(504, "Timeout"), (500, "etcd"), (403, "forbidden"), (429, "slow")]
        {
            let told = error(code, message, json!([]));
            let Line::Failed(Failure::Away(why)) = told else { panic!("{told:?}") };
            assert!(why.contains(message) && why.contains(&code.to_string()), "{why}");
        }
        for text in ["", "{", r#"{"type":"ODD","object":{}}"#, r#"{"type":"ERROR","object":1}"#] {
            let told = line::<ConfigMap>(text.as_bytes());
            assert!(matches!(told, Line::Failed(Failure::Away(_))), "{text}: {told:?}");
        }
    }
}
