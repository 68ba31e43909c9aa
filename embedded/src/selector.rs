//! Pure: label and field selectors, parsed once per request and asked for every object.

use serde_json::Value;

use crate::error::ApiError;
use crate::object::{name, namespace};

/// What a list or a watch is narrowed to. Every requirement has to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// One requirement on a label or a field.
#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    /// The values of which one is wanted; any value when there are none.
    values: Vec<String>,
    /// Whether the opposite is required.
    negated: bool,
}

impl Selector {
    /// Reads the two query parameters. A malformed selector, or a field other than the two that
    /// every kind has, is a 400, as in kube-apiserver.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        let parse = |part: &&str, read: fn(&str) -> Option<Requirement>| {
            let refuse = || ApiError::new(400, format!("unable to parse requirement: \"{part}\""));
            read(part).ok_or_else(refuse)
        };
        let labels = split_outside_brackets(labels);
        let fields: Vec<&str> = fields.split(',').filter(|part| !part.is_empty()).collect();
        Ok(Self {
            labels: labels.iter().map(|part| parse(part, parse_label)).collect::<Result<_, _>>()?,
            fields: fields.iter().map(|part| parse(part, parse_field)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether `object` is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let field = |key: &str| match key {
            "metadata.name" => Some(name(object)),
            _ => Some(namespace(object)),
        };
        self.labels.iter().all(|requirement| requirement.holds(label(&requirement.key)))
            && self.fields.iter().all(|requirement| requirement.holds(field(&requirement.key)))
    }
}

impl Requirement {
    fn new(key: &str, values: Vec<String>, negated: bool) -> Option<Self> {
        let key = key.trim();
        let legal = !key.is_empty() && !key.contains([' ', '(', ')', '!', '=']);
        legal.then(|| Self { key: key.to_owned(), values, negated })
    }

    fn holds(&self, found: Option<&str>) -> bool {
        let wanted = |found| self.values.is_empty() || self.values.iter().any(|one| one == found);
        found.is_some_and(wanted) != self.negated
    }
}

/// Splits at commas, except within the brackets of a set.
fn split_outside_brackets(labels: &str) -> Vec<&str> {
    let mut within = false;
    let parts = labels.split(|c| {
        within = (within || c == '(') && c != ')';
        c == ',' && !within
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// `key in (a,b)`, `key notin (a,b)`, `key=a`, `key==a`, `key!=a`, `key` or `!key`.
fn parse_label(part: &str) -> Option<Requirement> {
    if let Some((head, set)) = part.split_once('(') {
        let values = set.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned());
        let (key, word) = head.trim().rsplit_once(' ')?;
        let negated = ["in", "notin"].iter().position(|known| *known == word)? == 1;
        return Requirement::new(key, values.collect(), negated);
    }
    if part.contains('=') {
        return parse_equality(part);
    }
    let bare = part.strip_prefix('!');
    Requirement::new(bare.unwrap_or(part), Vec::new(), bare.is_some())
}

fn parse_field(part: &str) -> Option<Requirement> {
    let known = ["metadata.name", "metadata.namespace"];
    parse_equality(part).filter(|requirement| known.contains(&requirement.key.as_str()))
}

fn parse_equality(part: &str) -> Option<Requirement> {
    let unequal = part.split_once("!=");
    let (key, value) = unequal.or_else(|| part.split_once('='))?;
    let value = value.strip_prefix('=').unwrap_or(value).trim().to_owned();
    Requirement::new(key, vec![value], unequal.is_some())
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
        assert_eq!(Selector::parse("", "spec.color=red").unwrap_err().code(), 400);
        assert_eq!(Selector::parse("", "metadata.name").unwrap_err().code(), 400);
    }
}
