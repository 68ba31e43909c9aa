//! A crate uses only what the table in ARCHITECTURE.md lets it use, and the model nothing that does IO.
//!
//! The table is the rule: the test reads it, so that the page and the manifests cannot differ.

use std::{collections::BTreeMap, env, process::Command};

use serde_json::Value;

use crate::workspace::{Finding, none, quoted, read, root, table};

/// What the model may be built from: hashes, encodings, and errors. None reads a clock, waits, or does IO.
const MODEL: &[&str] = &[
    "block-buffer",
    "cfg-if",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "data-encoding",
    "digest",
    "hybrid-array",
    "landbridge-model",
    "proc-macro2",
    "quote",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "typenum",
    "unicode-ident",
];

/// What a crate uses of ours: in what ships, and in its tests alone.
#[derive(Debug, Default, Eq, PartialEq)]
struct Uses {
    shipped: Vec<String>,
    in_tests: Vec<String>,
}

/// The crates that the page lists, with the line of each.
fn listed(page: &str) -> BTreeMap<String, (usize, Uses)> {
    let names = |cell: Option<&String>| -> Vec<String> {
        let mut names: Vec<String> =
            cell.into_iter().flat_map(|cell| quoted(cell)).map(str::to_owned).collect();
        names.sort();
        names
    };
    table(page, "| crate |")
        .into_iter()
        .filter_map(|(line, cells)| {
            let name = quoted(cells.first()?).next()?.trim_end_matches('/').to_owned();
            let uses = Uses { shipped: names(cells.get(1)), in_tests: names(cells.get(2)) };
            Some((name, (line, uses)))
        })
        .collect()
}

/// The crates that there are, as `cargo metadata` tells them.
fn found(metadata: &Value) -> BTreeMap<String, Uses> {
    let short = |name: &Value| {
        let name = name.as_str()?;
        name.strip_prefix("landbridge-").map(str::to_owned)
    };
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut crates = BTreeMap::new();
    for package in array(&metadata["packages"]) {
        let Some(name) = short(&package["name"]) else {
            continue;
        };
        let mut uses = Uses::default();
        for dependency in array(&package["dependencies"]) {
            let Some(used) = short(&dependency["name"]) else {
                continue;
            };
            match dependency["kind"].as_str() {
                Some("dev") => uses.in_tests.push(used),
                _ => uses.shipped.push(used),
            }
        }
        uses.shipped.sort();
        uses.in_tests.sort();
        uses.in_tests.retain(|used| !uses.shipped.contains(used));
        crates.insert(name, uses);
    }
    crates
}

fn check(page: &str, metadata: &Value) -> Vec<Finding> {
    let listed = listed(page);
    let mut crates = found(metadata);
    let mut findings = Vec::new();
    let mut tell =
        |line: usize, says: String| findings.push(Finding::new("ARCHITECTURE.md", line, says));
    for (name, (line, allowed)) in &listed {
        let Some(uses) = crates.remove(name) else {
            tell(*line, format!("there is no crate `{name}`: take it out of the table"));
            continue;
        };
        for (kind, allowed, uses) in [
            ("uses", &allowed.shipped, &uses.shipped),
            ("uses in its tests", &allowed.in_tests, &uses.in_tests),
        ] {
            for used in uses.iter().filter(|used| !allowed.contains(used)) {
                let says = format!(
                    "`{name}` {kind} `{used}`, which this table forbids: take the dependency out of {name}/Cargo.toml, or give the reason for a new direction here"
                );
                tell(*line, says);
            }
            for unused in allowed.iter().filter(|allowed| !uses.contains(allowed)) {
                tell(
                    *line,
                    format!("`{name}` no longer {kind} `{unused}`: take it out of the table"),
                );
            }
        }
    }
    for name in crates.keys() {
        tell(1, format!("the crate `{name}` is in no row: say what it is and what it uses"));
    }
    findings
}

fn check_tree(tree: &str, allowed: &[&str]) -> Vec<Finding> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !allowed.contains(name))
        .map(|name| {
            let says = format!("the model is built from `{name}`: do without it, or make sure that it knows no clock, no IO and no async, and list it in tests/house/directions.rs");
            Finding::new("model/Cargo.toml", 1, says)
        })
        .collect()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output =
        Command::new(cargo).args(arguments).arg("--locked").current_dir(root()).output().unwrap();
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// ```text
/// model ◄── api ◄── controller, dns, gateway ◄── cli
///                   embedded ◄── cli, tests ──► xtask
/// ```
/// "Never: dns, gateway and controller on one another; anything on `tests`."
#[test]
fn crates_use_what_the_table_lets_them() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    none("a direction is broken", check(&read("ARCHITECTURE.md"), &metadata));
}

/// "Never: `model` on tokio, kube-client, hickory, quinn, hyper, the clock or an unseeded random number."
#[test]
fn the_model_is_built_from_pure_libraries() {
    let tree = cargo(&["tree", "-p", "landbridge-model", "-e", "normal", "--prefix", "none"]);
    assert!(tree.starts_with("landbridge-model "), "{tree}");
    none("the model does more than decide", check_tree(&tree, MODEL));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "\
| crate | uses | in its tests also | holds |
| --- | --- | --- | --- |
| `model/` | | | names |
| `api/` | `model` | `embedded` | types |
| `embedded/` | | | a small API |
";

    fn package(name: &str, uses: &[&str], in_tests: &[&str]) -> Value {
        let dependency =
            |name: &&str, kind: Value| json!({"name": format!("landbridge-{name}"), "kind": kind});
        let shipped = uses.iter().map(|name| dependency(name, Value::Null));
        let tests = in_tests.iter().map(|name| dependency(name, json!("dev")));
        let mut dependencies: Vec<Value> = shipped.chain(tests).collect();
        dependencies.push(json!({"name": "tokio", "kind": null}));
        json!({"name": format!("landbridge-{name}"), "dependencies": dependencies})
    }

    fn told(packages: &[Value]) -> Vec<String> {
        check(PAGE, &json!({"packages": packages})).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn what_the_table_says_is_right() {
        let packages = [
            package("model", &[], &[]),
            package("api", &["model"], &["embedded"]),
            package("embedded", &[], &[]),
        ];
        assert!(told(&packages).is_empty());
    }

    #[test]
    fn a_new_direction_a_stale_one_and_an_unknown_crate_are_found() {
        let packages = [
            package("model", &["api"], &[]),
            package("api", &["embedded", "model"], &[]),
            package("dns", &[], &[]),
        ];
        let told = told(&packages);
        let is_told = |line: &str, words: &str| {
            told.iter().any(|finding| finding.starts_with(line) && finding.contains(words))
        };
        assert!(is_told("ARCHITECTURE.md:3:", "`model` uses `api`"), "{told:?}");
        assert!(is_told("ARCHITECTURE.md:4:", "`api` uses `embedded`"), "{told:?}");
        assert!(
            is_told("ARCHITECTURE.md:4:", "no longer uses in its tests `embedded`"),
            "{told:?}"
        );
        assert!(is_told("ARCHITECTURE.md:5:", "no crate `embedded`"), "{told:?}");
        assert!(is_told("ARCHITECTURE.md:1:", "`dns` is in no row"), "{told:?}");
        assert_eq!(told.len(), 5);
    }

    #[test]
    fn a_library_that_the_model_must_not_have_is_found() {
        let tree = "landbridge-model v0.1.0 (x)\nsha2 v0.11.0\nsyn v2.0.1 (*)\ntokio v1.0.0\n";
        let found = check_tree(tree, MODEL);
        assert_eq!(found.len(), 1);
        assert!(found[0].says.contains("`tokio`"));
    }
}
