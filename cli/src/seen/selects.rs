//! Pure: which labels a selector means, as Kubernetes has it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Labels = BTreeMap<String, String>;

/// Whether a selector means what has these labels. An empty one means everything; one whose operator is not known, nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let mut equal = equal.map(|(key, value)| labels.get(key) == Some(value));
    let mut asked = selector.match_expressions.iter().flatten().map(|asked| {
        let value = labels.get(&asked.key);
        let is_listed =
            value.is_some_and(|value| asked.values.iter().flatten().any(|one| one == value));
        match asked.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal.all(|is| is) && asked.all(|is| is)
}

#[test]
fn selectors_mean_what_kubernetes_says() {
    use serde_json::json;
    let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
    for (selector, means) in [
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (json!({"matchLabels": {"app": "web", "tier": "x"}}), false),
        (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), true),
        (
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
            false,
        ),
        (
            json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}),
            true,
        ),
        (json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), false),
        (json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true),
        (json!({"matchExpressions": [{"key": "app", "operator": "Of later"}]}), false),
    ] {
        let read = serde_json::from_value(selector.clone()).unwrap();
        assert_eq!(selects(&read, &labels), means, "{selector}");
    }
}
