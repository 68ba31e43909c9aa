//! Pure: structural schemas of custom resources: what is unknown is pruned, what has a default
//! gets it, and what is wrong is named field by field. CEL rules and list keys are not looked at.

use jsonschema::error::ValidationErrorKind as Wrong;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::Value;

use crate::error::Cause;
use crate::object::members;

/// One version's schema.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    root: Value,
    validator: Validator,
}

impl Schema {
    /// Takes `openAPIV3Schema` as JSON. Fails with what makes no sense in it.
    pub(crate) fn new(root: Value) -> Result<Self, String> {
        // The draft that OpenAPI 3.0 extends.
        let validator = jsonschema::options().with_draft(Draft::Draft4).build(&root);
        let validator = validator.map_err(|error| error.to_string())?;
        Ok(Self { root, validator })
    }

    /// Prunes unknown fields and illegal nulls, and fills defaults in.
    pub(crate) fn normalise(&self, object: &mut Value) {
        normalise(&self.root, object, true);
    }

    /// Everything that is wrong with `object`, which is normalised; empty when it is valid.
    pub(crate) fn validate(&self, object: &Value) -> Vec<Cause> {
        // JSON Schema knows no `nullable`. Other nulls have been pruned, except within lists.
        let wrong = self.validator.iter_errors(object).filter(|one| !one.instance().is_null());
        wrong.map(|one| cause(&one)).collect()
    }
}

/// A mistake in kube-apiserver's words, as far as clients look at them.
fn cause(wrong: &ValidationError<'_>) -> Cause {
    let path = wrong.instance_path().as_str();
    match wrong.kind() {
        Wrong::Required { property } => {
            let path = format!("{path}/{}", property.as_str().unwrap_or_default());
            Cause::new(&field(&path), "Required value")
        }
        Wrong::Enum { options } => {
            let found = wrong.instance();
            let message = format!("Unsupported value: {found}: supported values: {options}");
            Cause::new(&field(path), message)
        }
        Wrong::MaxItems { limit } => {
            Cause::new(&field(path), format!("Too many: must have at most {limit} items"))
        }
        Wrong::MaxLength { limit } => {
            Cause::new(&field(path), format!("Too long: may not be more than {limit} bytes"))
        }
        _ => Cause::invalid(&field(path), wrong.instance(), &wrong.masked().to_string()),
    }
}

/// A JSON pointer in the words of Kubernetes: `/spec/ips/1` is `spec.ips[1]`.
fn field(pointer: &str) -> String {
    let mut field = String::new();
    for part in pointer.split('/').skip(1) {
        let index = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (before, after) = if index { ("[", "]") } else { (".", "") };
        field.extend([before, &part.replace("~1", "/").replace("~0", "~"), after]);
    }
    field.trim_start_matches('.').to_owned()
}

fn normalise(schema: &Value, value: &mut Value, whole: bool) {
    if let (Value::Array(items), Some(schema)) = (&mut *value, schema.get("items")) {
        items.iter_mut().for_each(|item| normalise(schema, item, false));
    }
    let Value::Object(fields) = value else { return };
    let whole = whole || flag(schema, "x-kubernetes-embedded-resource");
    let of_whole = |name: &str| whole && matches!(name, "apiVersion" | "kind" | "metadata");
    let keep_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields")
        || flag(schema, "additionalProperties");
    fields.retain(|name, value| match property(schema, name) {
        Some(schema) => !value.is_null() || flag(schema, "nullable"),
        None => keep_unknown || of_whole(name),
    });
    for (name, schema) in members(schema, "/properties") {
        if let Some(default) = schema.get("default") {
            fields.entry(name).or_insert_with(|| default.clone());
        }
    }
    for (name, value) in fields.iter_mut().filter(|(name, _)| !of_whole(name)) {
        if let Some(schema) = property(schema, name) {
            normalise(schema, value, false);
        }
    }
}

/// The schema of one field: its own, or the one of all additional fields.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let own = schema.get("properties").and_then(|properties| properties.get(name));
    own.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
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
                    "port": {"x-kubernetes-int-or-string": true},
                    "gone": {"type": "string", "nullable": true}
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
        check(json!({"type": "A", "port": "http"}), &[]);
        check(json!({"type": "A", "gone": null}), &[]);
    }

    #[test]
    fn unknown_fields_and_nulls_go_and_defaults_come() {
        let mut object = json!({"kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}},
            "extra": 1, "spec": {"type": null, "zzz": {}, "any": {"deep": [1]}, "labels": {"l": "m"}}});
        schema().normalise(&mut object);
        assert_eq!(
            object,
            json!({"kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"any": {"deep": [1]}, "labels": {"l": "m"}, "count": 3}})
        );
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_named() {
        let refused = Schema::new(json!({"pattern": "("})).unwrap_err();
        assert!(refused.contains("\"(\""), "{refused}");
    }
}
