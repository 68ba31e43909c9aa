//! Pure: what would become of each object: an API server's answer to a write that it does not make, beside what is there.

use serde_json::Value;

use super::Key;

/// How many fields of one object are named. What is shown is for a glance; `-o` of kubectl has all of it.
const MOST_FIELDS: usize = 3;

/// What becomes of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// There is none yet.
    Create,
    /// It is as it should be.
    Keep,
    /// These fields are others.
    Update(Vec<String>),
}

/// One object, and what becomes of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    pub(crate) key: Key,
    pub(crate) change: Change,
}

/// Compares what is there with what would be.
pub(crate) fn change(before: &Value, after: &Value) -> Change {
    let mut fields = Vec::new();
    differ(&stripped(before), &stripped(after), "", &mut fields);
    if fields.is_empty() { Change::Keep } else { Change::Update(fields) }
}

/// Without what an API server writes of its own accord.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["generation", "managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    object
}

/// The paths at which two values differ, a list of another length as a whole.
fn differ(before: &Value, after: &Value, path: &str, fields: &mut Vec<String>) {
    if fields.len() == MOST_FIELDS || before == after {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let gone = before.keys().filter(|key| !after.contains_key(*key));
            for key in after.keys().chain(gone) {
                let dot = if path.is_empty() { "" } else { "." };
                let [before, after] =
                    [before, after].map(|map| map.get(key).unwrap_or(&Value::Null));
                differ(before, after, &format!("{path}{dot}{key}"), fields);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (number, (before, after)) in before.iter().zip(after).enumerate() {
                differ(before, after, &format!("{path}[{number}]"), fields);
            }
        }
        _ => fields.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_api_server_writes_itself_is_no_change() {
        let before = json!({"metadata": {"name": "a", "resourceVersion": "1", "generation": 1,
            "managedFields": [1]}, "spec": {"replicas": 2}, "status": {"ready": 1}});
        let after = json!({"metadata": {"name": "a", "resourceVersion": "2", "generation": 2,
            "managedFields": [1, 2]}, "spec": {"replicas": 2}});
        assert_eq!(change(&before, &after), Change::Keep);
    }

    #[test]
    fn what_changes_is_named_by_its_path() {
        let pod = |image: &str, arguments: &[&str]| json!({"spec": {"containers": [{"image": image, "args": arguments}]}});
        let update =
            |fields: &[&str]| Change::Update(fields.iter().map(ToString::to_string).collect());
        assert_eq!(
            change(&pod("a:1", &["x"]), &pod("a:2", &["x", "y"])),
            update(&["spec.containers[0].args", "spec.containers[0].image"])
        );
        assert_eq!(change(&json!({"a": {"b": 1}}), &json!({"a": {}})), update(&["a.b"]));
        let many = json!({"a": 1, "b": 1, "c": 1, "d": 1});
        assert_eq!(change(&json!({}), &many), update(&["a", "b", "c"]));
    }
}
