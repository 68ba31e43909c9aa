//! Pure: structural schemas of custom resources: what is unknown is pruned, what has a default
//! gets it, and what is wrong is named field by field. OpenAPI v3 as far as our own and the
//! upstream multi-cluster CRDs use it; CEL rules are not run.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use crate::error::Cause;

/// One version's schema with its patterns compiled once.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    root: Value,
    patterns: BTreeMap<String, Regex>,
}

impl Schema {
    /// Takes `openAPIV3Schema` as JSON. Fails with the pattern that does not compile.
    pub(crate) fn new(root: Value) -> Result<Self, String> {
        let mut patterns = BTreeMap::new();
        collect_patterns(&root, &mut patterns)?;
        Ok(Self { root, patterns })
    }

    /// Prunes unknown fields and illegal nulls and fills defaults in. Returns the paths pruned.
    pub(crate) fn normalise(&self, object: &mut Value) -> Vec<String> {
        let mut pruned = Vec::new();
        normalise_fields(&self.root, object, "", true, &mut pruned);
        pruned
    }

    /// Everything that is wrong with `object`; empty when it is valid.
    pub(crate) fn validate(&self, object: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        self.check(&self.root, object, "", &mut causes);
        causes
    }

    fn check(&self, schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        if value.is_null() && flag(schema, "nullable") {
            return;
        }
        if let Some(wanted) = mismatch(schema, value) {
            causes.push(Cause::wrong_type(path, value, wanted));
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            let listed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            causes.push(Cause::unsupported(path, value, &listed.join(", ")));
        }
        match value {
            Value::Array(items) => self.check_items(schema, items, path, causes),
            Value::Number(number) => check_number(schema, number.as_f64(), value, path, causes),
            Value::Object(fields) => self.check_fields(schema, fields, path, causes),
            Value::String(string) => self.check_string(schema, string, path, causes),
            _ => {}
        }
    }

    fn check_string(&self, schema: &Value, string: &str, path: &str, causes: &mut Vec<Cause>) {
        let length = string.chars().count();
        if let Some(limit) = over(schema, "maxLength", length) {
            causes.push(Cause::too_long(
                path,
                &format!("may not be more than {limit} bytes"),
            ));
        }
        let value = Value::from(string);
        if let Some(limit) = under(schema, "minLength", length) {
            let message = format!("should be at least {limit} chars long");
            causes.push(Cause::invalid(path, &value, &message));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && self
                .patterns
                .get(pattern)
                .is_some_and(|regex| !regex.is_match(string))
        {
            causes.push(Cause::invalid(
                path,
                &value,
                &format!("should match '{pattern}'"),
            ));
        }
    }

    fn check_items(&self, schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
        if let Some(limit) = over(schema, "maxItems", items.len()) {
            let message = format!("must have at most {limit} items");
            causes.push(Cause {
                reason: "FieldValueTooMany",
                ..Cause::too_long(path, &message)
            });
        }
        if let Some(limit) = under(schema, "minItems", items.len()) {
            let message = format!("should have at least {limit} items");
            causes.push(Cause::invalid(path, &Value::from(items), &message));
        }
        for (index, twin) in duplicates(schema, items) {
            causes.push(Cause::duplicate(&format!("{path}[{index}]"), &twin));
        }
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.check(schema, item, &format!("{path}[{index}]"), causes);
            }
        }
    }

    fn check_fields(
        &self,
        schema: &Value,
        fields: &Map<String, Value>,
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        for required in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = required.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                causes.push(Cause::required(&join(path, name), ""));
            }
        }
        if let Some(limit) = over(schema, "maxProperties", fields.len()) {
            let message = format!("must have at most {limit} items");
            causes.push(Cause {
                reason: "FieldValueTooMany",
                ..Cause::too_long(path, &message)
            });
        }
        for (name, value) in fields {
            if let Some(schema) = property(schema, name) {
                self.check(schema, value, &join(path, name), causes);
            }
        }
    }
}

fn collect_patterns(schema: &Value, found: &mut BTreeMap<String, Regex>) -> Result<(), String> {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let regex = Regex::new(pattern).map_err(|_| pattern.to_owned())?;
        found.insert(pattern.to_owned(), regex);
    }
    let children = schema.as_object().into_iter().flat_map(Map::values);
    let items = schema.as_array().into_iter().flatten();
    children
        .chain(items)
        .try_for_each(|child| collect_patterns(child, found))
}

fn normalise_fields(
    schema: &Value,
    value: &mut Value,
    path: &str,
    whole_object: bool,
    pruned: &mut Vec<String>,
) {
    if let Value::Array(items) = value {
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter_mut().enumerate() {
                let embedded = flag(schema, "x-kubernetes-embedded-resource");
                normalise_fields(schema, item, &format!("{path}[{index}]"), embedded, pruned);
            }
        }
        return;
    }
    let Value::Object(fields) = value else { return };
    let typed = schema.get("properties").is_some() || schema.get("additionalProperties").is_some();
    let keep_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields")
        || (!typed && schema.get("type").is_none());
    fields.retain(|name, value| {
        if let Some(schema) = property(schema, name) {
            return !value.is_null() || flag(schema, "nullable");
        }
        let kept = keep_unknown
            || (whole_object && matches!(&**name, "apiVersion" | "kind" | "metadata"))
            || schema.get("additionalProperties") == Some(&Value::Bool(true));
        if !kept {
            pruned.push(join(path, name));
        }
        kept
    });
    for (name, schema) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Some(default) = schema.get("default")
            && !fields.contains_key(name)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
    for (name, value) in fields.iter_mut() {
        if whole_object && name == "metadata" {
            continue;
        }
        if let Some(schema) = property(schema, name) {
            let embedded = flag(schema, "x-kubernetes-embedded-resource");
            normalise_fields(schema, value, &join(path, name), embedded, pruned);
        }
    }
}

/// The schema of one field: its own, or the one of all additional fields.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let own = schema
        .get("properties")
        .and_then(|properties| properties.get(name));
    own.or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|schema| schema.is_object())
    })
}

/// The type that `value` should have had, if it has another.
fn mismatch<'a>(schema: &'a Value, value: &Value) -> Option<&'a str> {
    if flag(schema, "x-kubernetes-int-or-string") {
        return (!value.is_i64() && !value.is_u64() && !value.is_string())
            .then_some("integer or string");
    }
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => true,
    };
    (!fits).then_some(wanted)
}

fn check_number(
    schema: &Value,
    number: Option<f64>,
    value: &Value,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let Some(number) = number else { return };
    if let Some(limit) = bound("minimum").filter(|limit| number < *limit) {
        let message = format!("should be greater than or equal to {limit}");
        causes.push(Cause::invalid(path, value, &message));
    }
    if let Some(limit) = bound("maximum").filter(|limit| number > *limit) {
        let message = format!("should be less than or equal to {limit}");
        causes.push(Cause::invalid(path, value, &message));
    }
}

/// Items of a `map` or `set` list whose key stands there already.
fn duplicates(schema: &Value, items: &[Value]) -> Vec<(usize, Value)> {
    let kind = schema
        .get("x-kubernetes-list-type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let names = schema
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array);
    let keys: Vec<Value> = match (kind, names) {
        ("set", _) => items.to_vec(),
        ("map", Some(names)) => items
            .iter()
            .map(|item| {
                let named = names.iter().filter_map(Value::as_str);
                named
                    .map(|name| item.get(name).cloned().unwrap_or_default())
                    .collect()
            })
            .collect(),
        _ => return Vec::new(),
    };
    let twins = keys
        .iter()
        .enumerate()
        .filter(|(index, key)| keys[..*index].contains(key));
    twins.map(|(index, key)| (index, key.clone())).collect()
}

fn over(schema: &Value, key: &str, found: usize) -> Option<u64> {
    schema
        .get(key)
        .and_then(Value::as_u64)
        .filter(|limit| found as u64 > *limit)
}

fn under(schema: &Value, key: &str, found: usize) -> Option<u64> {
    schema
        .get(key)
        .and_then(Value::as_u64)
        .filter(|limit| (found as u64) < *limit)
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::new(json!({
            "type": "object", "required": ["spec"],
            "properties": {
                "spec": {"type": "object", "required": ["type"], "properties": {
                    "type": {"type": "string", "enum": ["A", "B"]},
                    "ips": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4, "minLength": 2},
                    "count": {"type": "integer", "default": 3, "maximum": 5},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "port": {"x-kubernetes-int-or-string": true},
                    "list": {"type": "array", "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {"k": {"type": "string"}}}}
                }}
            }
        }))
        .unwrap()
    }

    fn check(spec: Value, fields: &[&str]) {
        let found = schema().validate(&json!({"spec": spec}));
        let found: Vec<&str> = found.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(found, fields, "{spec}");
    }

    #[test]
    fn wrong_fields_are_named() {
        check(json!({"type": "A"}), &[]);
        check(json!({}), &["spec.type"]);
        check(json!({"type": "C"}), &["spec.type"]);
        check(json!({"type": "A", "ips": ["a", "b", "c"]}), &["spec.ips"]);
        check(json!({"type": "A", "ips": ["a", 1]}), &["spec.ips[1]"]);
        check(
            json!({"type": "A", "name": "UPPER"}),
            &["spec.name", "spec.name"],
        );
        check(json!({"type": "A", "name": "a"}), &["spec.name"]);
        check(json!({"type": "A", "count": 6}), &["spec.count"]);
        check(json!({"type": "A", "count": "6"}), &["spec.count"]);
        check(json!({"type": "A", "labels": {"x": 1}}), &["spec.labels.x"]);
        check(json!({"type": "A", "port": true}), &["spec.port"]);
        check(json!({"type": "A", "port": "http"}), &[]);
        check(
            json!({"type": "A", "list": [{"k": "x"}, {"k": "x"}]}),
            &["spec.list[1]"],
        );
    }

    #[test]
    fn unknown_fields_and_nulls_go_and_defaults_come() {
        let mut object = json!({"kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}},
            "extra": 1, "spec": {"type": null, "zzz": {}, "any": {"deep": [1]}, "labels": {"l": "m"}}});
        let pruned = schema().normalise(&mut object);
        assert_eq!(pruned, ["extra", "spec.zzz"]);
        assert_eq!(
            object,
            json!({"kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"any": {"deep": [1]}, "labels": {"l": "m"}, "count": 3}})
        );
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_named() {
        assert_eq!(Schema::new(json!({"pattern": "("})).unwrap_err(), "(");
    }
}
