//! Pure: structural schemas of custom resources: what is unknown is pruned, what has a default
//! gets it, and what is wrong is named field by field. OpenAPI v3 as far as our own and the
//! upstream multi-cluster CRDs use it; numeric bounds, list keys and CEL rules are not looked at.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::error::Cause;
use crate::object::{members, strings};

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
        normalise(&self.root, object, "", &mut pruned);
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
            causes.push(Cause::invalid(path, value, &format!("must be of type {wanted}")));
            return;
        }
        let allowed = schema.get("enum").and_then(Value::as_array);
        if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
            let listed = allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("Unsupported value: {value}: supported values: {listed}");
            causes.push(Cause::new(path, message));
        }
        match value {
            Value::Array(items) => {
                check_size(schema, "Items", items.len(), path, causes);
                for (index, item) in items.iter().enumerate() {
                    let schema = schema.get("items").unwrap_or(&Value::Null);
                    self.check(schema, item, &format!("{path}[{index}]"), causes);
                }
            }
            Value::Object(fields) => {
                let required = strings(schema, "/required");
                for name in required.filter(|name| !fields.contains_key(*name)) {
                    causes.push(Cause::new(&join(path, name), "Required value"));
                }
                for (name, value) in fields {
                    let schema = property(schema, name).unwrap_or(&Value::Null);
                    self.check(schema, value, &join(path, name), causes);
                }
            }
            Value::String(string) => {
                check_size(schema, "Length", string.chars().count(), path, causes);
                let pattern = schema.get("pattern").and_then(Value::as_str).unwrap_or_default();
                if self.patterns.get(pattern).is_some_and(|regex| !regex.is_match(string)) {
                    causes.push(Cause::invalid(path, value, &format!("should match '{pattern}'")));
                }
            }
            _ => {}
        }
    }
}

/// `maxItems`, `minItems`, `maxLength` and `minLength`.
fn check_size(schema: &Value, of: &str, found: usize, path: &str, causes: &mut Vec<Cause>) {
    let bound = |word: &str| schema.get(format!("{word}{of}")).and_then(Value::as_u64);
    if let Some(limit) = bound("max").filter(|limit| found as u64 > *limit) {
        let word = if of == "Items" { "Too many" } else { "Too long" };
        causes.push(Cause::new(path, format!("{word}: {found}: may not be more than {limit}")));
    }
    if let Some(limit) = bound("min").filter(|limit| (found as u64) < *limit) {
        causes.push(Cause::invalid(
            path,
            &found.into(),
            &format!("should be at least {limit} long"),
        ));
    }
}

fn collect_patterns(schema: &Value, found: &mut BTreeMap<String, Regex>) -> Result<(), String> {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let regex = Regex::new(pattern).map_err(|_| pattern.to_owned())?;
        found.insert(pattern.to_owned(), regex);
    }
    let items = schema.as_array().into_iter().flatten();
    let mut children = members(schema, "").map(|(_, child)| child).chain(items);
    children.try_for_each(|child| collect_patterns(child, found))
}

fn normalise(schema: &Value, value: &mut Value, path: &str, pruned: &mut Vec<String>) {
    if let Value::Array(items) = value {
        for (index, item) in items.iter_mut().enumerate() {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            normalise(schema, item, &format!("{path}[{index}]"), pruned);
        }
    }
    let Value::Object(fields) = value else { return };
    let whole = path.is_empty() || flag(schema, "x-kubernetes-embedded-resource");
    let of_whole = |name: &str| whole && matches!(name, "apiVersion" | "kind" | "metadata");
    let keep_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields")
        || schema.get("additionalProperties") == Some(&Value::Bool(true))
        || schema.is_null();
    fields.retain(|name, value| {
        if let Some(schema) = property(schema, name) {
            return !value.is_null() || flag(schema, "nullable");
        }
        let kept = keep_unknown || of_whole(name);
        if !kept {
            pruned.push(join(path, name));
        }
        kept
    });
    for (name, schema) in members(schema, "/properties") {
        if let Some(default) = schema.get("default") {
            fields.entry(name).or_insert_with(|| default.clone());
        }
    }
    for (name, value) in fields.iter_mut().filter(|(name, _)| !of_whole(name)) {
        if let Some(schema) = property(schema, name) {
            normalise(schema, value, &join(path, name), pruned);
        }
    }
}

/// The schema of one field: its own, or the one of all additional fields.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let own = schema.get("properties").and_then(|properties| properties.get(name));
    own.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// The type that `value` should have had, if it has another.
fn mismatch<'a>(schema: &'a Value, value: &Value) -> Option<&'a str> {
    let whole = value.is_i64() || value.is_u64();
    if flag(schema, "x-kubernetes-int-or-string") {
        return (!whole && !value.is_string()).then_some("integer or string");
    }
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => whole,
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => true,
    };
    (!fits).then_some(wanted)
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
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
                    "count": {"type": "integer", "default": 3},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "port": {"x-kubernetes-int-or-string": true}
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
        check(json!({"type": "A", "name": "UPPER"}), &["spec.name", "spec.name"]);
        check(json!({"type": "A", "name": "a"}), &["spec.name"]);
        check(json!({"type": "A", "count": "6"}), &["spec.count"]);
        check(json!({"type": "A", "labels": {"x": 1}}), &["spec.labels.x"]);
        check(json!({"type": "A", "port": true}), &["spec.port"]);
        check(json!({"type": "A", "port": "http"}), &[]);
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
