//! Pure: which namespaces are wanted by their labels, in the words of Kubernetes label selectors.
//!
//! ```text
//! team=red   team==red   team!=red   team in (red, blue)   team notin (red)   team   !team
//! ```
//! Terms are joined by commas and all have to hold. As in Kubernetes, `!=` and `notin` hold of what has no such label.

use std::{collections::BTreeMap, str::FromStr};

use landbridge_model::label::{is_key, is_value};
use thiserror::Error;

/// A label selector. One without terms selects everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Term {
    key: String,
    wants: Wants,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Wants {
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Present,
}

/// Everything that is wrong with the text of a selector.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("is no label selector: {}; write terms such as team=red, team in (red, blue) or !team, joined by commas", .0.join("; "))]
pub struct SelectorError(Vec<String>);

impl Selector {
    /// Whether something with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.terms.iter().all(|term| {
            let found = labels.and_then(|labels| labels.get(&term.key));
            match &term.wants {
                Wants::Absent => found.is_none(),
                Wants::In(values) => found.is_some_and(|found| values.contains(found)),
                Wants::NotIn(values) => found.is_none_or(|found| !values.contains(found)),
                Wants::Present => found.is_some(),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut terms, mut wrong) = (Vec::new(), Vec::new());
        for part in split(text) {
            match term(part) {
                Ok(term) => terms.push(term),
                Err(problem) => wrong.push(format!("{:?} {problem}", part.trim())),
            }
        }
        if wrong.is_empty() { Ok(Self { terms }) } else { Err(SelectorError(wrong)) }
    }
}

/// Splits at commas, except within the brackets of a set.
fn split(text: &str) -> Vec<&str> {
    let mut within = false;
    let parts = text.split(|c| {
        within = (within || c == '(') && c != ')';
        c == ',' && !within
    });
    parts.collect()
}

fn term(text: &str) -> Result<Term, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty");
    }
    if let Some((head, set)) = text.split_once('(') {
        let values = set.strip_suffix(')').ok_or("does not end with the ')' of its set")?;
        let values = values.split(',').map(|value| checked(value.trim(), is_value, BAD_VALUE));
        let values = values.collect::<Result<_, _>>()?;
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace).ok_or(NO_OPERATOR)?;
        let wants = match operator {
            "in" => Wants::In(values),
            "notin" => Wants::NotIn(values),
            _ => return Err(NO_OPERATOR),
        };
        return Ok(Term { key: checked(key.trim(), is_key, BAD_KEY)?, wants });
    }
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Term { key: checked(key.trim(), is_key, BAD_KEY)?, wants: Wants::Absent });
    }
    for (operator, wants) in
        [("!=", Wants::NotIn as fn(_) -> _), ("==", Wants::In), ("=", Wants::In)]
    {
        if let Some((key, value)) = text.split_once(operator) {
            let key = checked(key.trim(), is_key, BAD_KEY)?;
            let value = checked(value.trim(), is_value, BAD_VALUE)?;
            return Ok(Term { key, wants: wants(vec![value]) });
        }
    }
    Ok(Term { key: checked(text, is_key, BAD_KEY)?, wants: Wants::Present })
}

const BAD_KEY: &str = "does not name a label as Kubernetes allows it";
const BAD_VALUE: &str = "holds a value that no label can have";
const NO_OPERATOR: &str = "has a set without `in` or `notin` before it";

fn checked(
    text: &str,
    is_good: fn(&str) -> bool,
    problem: &'static str,
) -> Result<String, &'static str> {
    is_good(text).then(|| text.to_owned()).ok_or(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels of `team=red tier=` are two.
    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Kubernetes, "Labels and Selectors": "Equality-based" and "Set-based requirement", of which "the comma separator
    /// acts as a logical AND"; `!=` and `notin` also select "resources with no labels with the … key".
    #[test]
    fn selectors_mean_what_they_mean_in_kubernetes() {
        let red = labels("team=red env=prod example.com/owner=a");
        let bare = labels("");
        for (selector, of_red, of_bare) in [
            ("team=red", true, false),
            ("team==red", true, false),
            ("team = blue", false, false),
            ("team!=red", false, true),
            ("team in (red,blue)", true, false),
            ("team in ( blue , green )", false, false),
            ("team notin (red)", false, true),
            ("team notin (blue)", true, true),
            ("team", true, false),
            ("!team", false, true),
            ("example.com/owner in (a)", true, false),
            ("team in (red), env=prod, !gone", true, false),
            ("team in (red), env!=prod", false, false),
            ("team=", false, false),
            ("team notin ()", true, true),
        ] {
            let parsed: Selector = selector.parse().unwrap();
            assert_eq!(parsed.matches(Some(&red)), of_red, "{selector} of red");
            assert_eq!(parsed.matches(Some(&bare)), of_bare, "{selector} of bare");
            assert_eq!(parsed.matches(None), of_bare, "{selector} of nothing");
        }
        assert!(Selector::default().matches(None));
    }

    #[test]
    fn everything_that_is_wrong_with_a_selector_is_told_at_once() {
        let error = "team in red), a b, ,=x,x=?,!,team of (a),env in (prod".parse::<Selector>();
        let told = error.unwrap_err().to_string();
        for culprit in [
            "\"team in red)\" does not name a label",
            "\"a b\" does not name a label",
            "\"\" is empty",
            "\"=x\" does not name a label",
            "\"x=?\" holds a value",
            "\"!\" does not name a label",
            "\"team of (a)\" has a set without",
            "\"env in (prod\" does not end",
            "write terms such as",
        ] {
            assert!(told.contains(culprit), "{culprit} is not in {told}");
        }
    }
}
