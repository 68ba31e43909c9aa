//! Pure: small readers and writers over JSON objects, so that the rest never indexes into what
//! a client sent and a wrong type reads as "absent" instead of panicking.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The string at a JSON pointer, or "" when there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The list at a JSON pointer, or an empty one.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// How many members the map at a JSON pointer has.
pub(crate) fn size(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, Map::len)
}

/// The map under `key`, made when it is missing or is something else.
pub(crate) fn map<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let slot = as_map(object).entry(key).or_insert(Value::Null);
    as_map(slot)
}

/// `value` as a map; anything else is replaced by an empty one.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value
        .as_object_mut()
        .expect("anything else was replaced by a map just above")
}

/// Puts a string under `metadata.<key>`.
pub(crate) fn set_meta(object: &mut Value, key: &str, value: impl Into<Value>) {
    map(object, "metadata").insert(key.to_owned(), value.into());
}

/// Copies `metadata.<key>` from `from`, or removes it when `from` has none.
pub(crate) fn keep_meta(object: &mut Value, from: &Value, key: &str) {
    keep(map(object, "metadata"), from.get("metadata"), key);
}

/// Copies `key` from `from`, or removes it when `from` has none.
pub(crate) fn keep(object: &mut Map<String, Value>, from: Option<&Value>, key: &str) {
    match from.and_then(|from| from.get(key)) {
        Some(value) => object.insert(key.to_owned(), value.clone()),
        None => object.remove(key),
    };
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`, or "" for cluster-scoped objects.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// A time as Kubernetes writes `metav1.Time`: UTC, whole seconds.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
