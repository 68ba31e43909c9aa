//! Pure: what people are told of checks, of a plan, and of what was done.

use std::fmt::Write as _;

use landbridge_gateway::join::token::Token;
use landbridge_model::{ClusterId, ClusterSetId};

use super::{
    checks::{Finding, Level, Role},
    plan::{Change, Step},
};
use crate::command::output::table;

/// What was found, a line for each check.
pub(crate) fn findings(found: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let level = match finding.level {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Wrong => "WRONG",
        };
        [format!("  {level}"), finding.check.to_owned(), finding.says.clone()]
    };
    let rows: Vec<[String; 3]> = found.iter().map(row).collect();
    format!("Checks\n{}", table(&rows))
}

/// What stands in the way, in one line for the end.
pub(crate) fn obstacles(found: &[Finding]) -> Option<String> {
    let wrong: Vec<&str> = found
        .iter()
        .filter(|finding| finding.level == Level::Wrong)
        .map(|finding| finding.check)
        .collect();
    let things = if wrong.len() == 1 { "thing stands" } else { "things stand" };
    (!wrong.is_empty()).then(|| {
        format!("{} {things} in the way ({}): nothing was changed", wrong.len(), wrong.join(", "))
    })
}

/// What would change; what stays as it is is counted.
pub(crate) fn plan(steps: &[Step], cluster: &ClusterId, set: &ClusterSetId, role: &Role) -> String {
    let mut rows = Vec::new();
    for Step { key, change } in steps {
        let (what, fields) = match change {
            Change::Keep => continue,
            Change::Create => ("create", String::new()),
            Change::Update(fields) => ("change", fields.join(", ")),
        };
        rows.push([format!("  {what}"), key.kind.clone(), key.place(), fields]);
    }
    let kept = steps.len() - rows.len();
    let role = match role {
        Role::Hub => "hub",
        Role::Member(_) => "member",
    };
    let mut text = format!("Plan for {cluster}, {role} of set {set}\n{}", table(&rows));
    if kept > 0 {
        let are = if kept == 1 { "object is as it" } else { "objects are as they" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {kept} {are} should be");
    }
    text
}

/// That it is done, and what comes next.
pub(crate) fn done(cluster: &ClusterId, set: &ClusterSetId) -> String {
    format!(
        "{cluster} is the hub of set {set} and its first member.\nLet another cluster in with what this prints:\n  landbridge token issue\n"
    )
}

/// That a member dials its hub elsewhere.
pub(crate) fn rehomed(token: &Token) -> String {
    let all: Vec<String> = token.addresses.iter().map(ToString::to_string).collect();
    format!("The gateways of {} are dialled at {} from now on.\n", token.hub, all.join(", "))
}

/// The same of a member, whose credential of the hub ends at `until`.
pub(crate) fn joined(
    cluster: &ClusterId,
    set: &ClusterSetId,
    until: Option<jiff::Timestamp>,
) -> String {
    let until = until.map_or_else(String::new, |until| {
        format!(
            "Its credential of the hub ends at {until}: before that, join again with a new token.\n"
        )
    });
    format!("{cluster} is a member of set {set}.\n{until}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Key;

    fn finding(check: &'static str, level: Level, says: &str) -> Finding {
        Finding { check, level, says: says.into() }
    }

    fn step(kind: &str, namespace: &str, name: &str, change: Change) -> Step {
        let [kind, version, namespace, name] = [kind, "v1", namespace, name].map(str::to_owned);
        Step { key: Key { kind, version, namespace, name }, change }
    }

    #[test]
    fn checks_are_lines_and_the_wrong_ones_are_counted() {
        let found = [
            finding("server", Level::Good, "Kubernetes v1.34.2"),
            finding("permissions", Level::Wrong, "you may not create namespaces"),
            finding("dns", Level::Note, "there is no Corefile"),
        ];
        assert_eq!(
            findings(&found),
            "Checks\n\
             \u{20} ok      server        Kubernetes v1.34.2\n\
             \u{20} WRONG   permissions   you may not create namespaces\n\
             \u{20} note    dns           there is no Corefile\n"
        );
        assert_eq!(
            obstacles(&found).unwrap(),
            "1 thing stands in the way (permissions): nothing was changed"
        );
        assert_eq!(obstacles(&found[..1]), None);
    }

    #[test]
    fn a_plan_names_what_changes_and_counts_the_rest() {
        let steps = [
            step("Namespace", "", "landbridge-system", Change::Keep),
            step("Deployment", "landbridge-system", "landbridge-dns", Change::Create),
            step(
                "Service",
                "landbridge-system",
                "landbridge-link",
                Change::Update(vec!["spec.type".into()]),
            ),
        ];
        assert_eq!(
            plan(&steps, &"paris".parse().unwrap(), &"prod".parse().unwrap(), &Role::Hub),
            "Plan for paris, hub of set prod\n\
             \u{20} create   Deployment   landbridge-system/landbridge-dns\n\
             \u{20} change   Service      landbridge-system/landbridge-link   spec.type\n\
             \u{20} 1 object is as it should be\n"
        );
    }
}
