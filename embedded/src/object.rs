//! Pure: small readers and writers over JSON objects, so that the rest never indexes into what
//! a client sent and a wrong type reads as "absent" instead of panicking.

use serde_json::{Map, Value};

/// The string at a JSON pointer, or "" when there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, or an empty one.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of the list at a JSON pointer.
pub(crate) fn strings<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    list(object, pointer).iter().filter_map(Value::as_str)
}

/// The members of the map at a JSON pointer.
pub(crate) fn members<'a>(
    object: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// The map under `key`, made when it is missing or is something else.
pub(crate) fn map<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    as_map(as_map(object).entry(key).or_insert(Value::Null))
}

/// `value` as a map; anything else is replaced by an empty one.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("anything else was replaced by a map just above")
}

/// Puts a value under `metadata.<key>`.
pub(crate) fn set_meta(object: &mut Value, key: &str, value: impl Into<Value>) {
    map(object, "metadata").insert(key.to_owned(), value.into());
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
