//! Pure: label and field selectors, parsed once per request and asked for every object.

use serde_json::Value;

use crate::error::ApiError;
use crate::object::{name, namespace, text};

/// What a list or a watch is narrowed to. Every requirement has to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

/// One requirement on labels. `values` is used by `In` and `NotIn` only.
#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Exists,
    In,
    NotExists,
    NotIn,
}

impl Selector {
    /// Reads the two query parameters. A malformed selector or a field that the API does not
    /// select by is a 400, as in kube-apiserver.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self {
            labels: parse_labels(labels)?,
            fields: parse_fields(fields)?,
        })
    }

    /// Whether nothing is selected by, so that counts of the rest are known.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether `object` is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels
            .iter()
            .all(|requirement| requirement.matches(object))
            && self.fields.iter().all(|(field, equal, wanted)| {
                (field_value(object, field).is_some_and(|found| found == wanted)) == *equal
            })
    }
}

impl Requirement {
    fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let found = labels
            .and_then(|labels| labels.get(&self.key))
            .and_then(Value::as_str);
        let listed = found.is_some_and(|found| self.values.iter().any(|value| value == found));
        match self.operator {
            Operator::Exists => found.is_some(),
            Operator::In => listed,
            Operator::NotExists => found.is_none(),
            Operator::NotIn => !listed,
        }
    }
}

/// The fields that can be selected by: the two of every kind, and the few that kubectl and
/// common clients use on core kinds.
const FIELDS: [(&str, &str); 9] = [
    ("involvedObject.kind", "/regarding/kind"),
    ("involvedObject.name", "/regarding/name"),
    ("involvedObject.namespace", "/regarding/namespace"),
    ("involvedObject.uid", "/regarding/uid"),
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
    ("spec.nodeName", "/spec/nodeName"),
    ("status.phase", "/status/phase"),
    ("type", "/type"),
];

fn field_value<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    match field {
        "metadata.name" => Some(name(object)),
        "metadata.namespace" => Some(namespace(object)),
        _ => FIELDS
            .iter()
            .find(|(known, _)| *known == field)
            .map(|(_, path)| text(object, path)),
    }
}

fn parse_fields(fields: &str) -> Result<Vec<(String, bool, String)>, ApiError> {
    let parts = fields.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (field, equal, value) = split_equality(part).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "unable to parse field selector: invalid selector '{part}'"
                ))
            })?;
            if !FIELDS.iter().any(|(known, _)| *known == field) {
                let message = format!("field label not supported: {field}");
                return Err(ApiError::bad_request(message));
            }
            Ok((field.to_owned(), equal, value.to_owned()))
        })
        .collect()
}

fn parse_labels(labels: &str) -> Result<Vec<Requirement>, ApiError> {
    split_outside_brackets(labels)
        .into_iter()
        .map(|part| {
            parse_requirement(part).ok_or_else(|| {
                ApiError::bad_request(format!("unable to parse requirement: \"{part}\""))
            })
        })
        .collect()
}

/// Splits at commas, except within the brackets of a set.
fn split_outside_brackets(labels: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    labels
        .split(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

fn parse_requirement(part: &str) -> Option<Requirement> {
    let requirement = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        let legal = !key.is_empty() && !key.contains([' ', '(', ')', '!', '=']);
        legal.then(|| Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    };
    if let Some((head, set)) = part.split_once('(') {
        let values = set
            .strip_suffix(')')?
            .split(',')
            .map(|value| value.trim().to_owned());
        let (key, word) = head.trim().rsplit_once(' ')?;
        let operator = match word {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return None,
        };
        return requirement(key, operator, values.collect());
    }
    if let Some((key, equal, value)) = split_equality(part) {
        let operator = if equal { Operator::In } else { Operator::NotIn };
        return requirement(key, operator, vec![value.trim().to_owned()]);
    }
    match part.strip_prefix('!') {
        Some(key) => requirement(key, Operator::NotExists, Vec::new()),
        None => requirement(part, Operator::Exists, Vec::new()),
    }
}

/// `a=b`, `a==b` or `a!=b`; the middle says whether equality is meant.
fn split_equality(part: &str) -> Option<(&str, bool, &str)> {
    if let Some((key, value)) = part.split_once("!=") {
        return Some((key, false, value));
    }
    let (key, value) = part.split_once('=')?;
    Some((key, true, value.strip_prefix('=').unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: &str, fields: &str, expected: bool) {
        let object = json!({"metadata": {"name": "web", "namespace": "shop",
            "labels": {"app": "web", "tier": "front", "example.com/x": ""}}});
        let selector = Selector::parse(labels, fields).unwrap();
        assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
    }

    #[test]
    fn equality_and_sets() {
        check("app=web", "", true);
        check("app==web,tier=front", "", true);
        check("app!=web", "", false);
        check("missing!=web", "", true);
        check("app in (web, api),tier notin (back)", "", true);
        check("app notin (web)", "", false);
        check("app,!missing,example.com/x=", "", true);
        check("!app", "", false);
        check("", "metadata.name=web,metadata.namespace!=other", true);
        check("", "metadata.name=api", false);
    }

    #[test]
    fn malformed_is_refused() {
        for bad in ["app in web", "a b", "=x", "app like (x)", "(x)"] {
            assert_eq!(Selector::parse(bad, "").unwrap_err().code(), 400, "{bad}");
        }
        assert_eq!(
            Selector::parse("", "spec.color=red").unwrap_err().code(),
            400
        );
        assert_eq!(
            Selector::parse("", "metadata.name").unwrap_err().code(),
            400
        );
    }
}
