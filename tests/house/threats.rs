//! docs/security.md names a test for each threat, and it has to be there: a defence that nothing holds is a claim.

use crate::workspace::{Finding, none, quoted, read, root};

const PAGE: &str = "docs/security.md";
/// What the tables of threats have at their head.
const HELD: &str = "held by";

/// Rows of threats that name no test, or one that is not there. `text` is that of a file, where there is one.
fn check(page: &str, text: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut in_table = false;
    for (at, line) in page.lines().enumerate() {
        let Some(cells) = line.strip_prefix('|').map(|rest| rest.trim_end_matches('|')) else {
            in_table = false;
            continue;
        };
        let last = cells.rsplit('|').next().unwrap_or_default().trim();
        if last == HELD {
            in_table = true;
        } else if in_table && !last.starts_with("---") {
            found.extend(missing(last, &text).map(|says| Finding::new(PAGE, at + 1, says)));
        }
    }
    found
}

/// What is wrong with the last cell of a row.
fn missing(cell: &str, text: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut names = quoted(cell);
    let file = names.next().unwrap_or_default();
    let Some(text) = text(file) else {
        return Some(format!("`{file}` is not there: name the file of the test"));
    };
    let gone = names.find(|name| !text.contains(&format!("fn {name}(")));
    gone.map(|name| format!("{file} has no test `{name}`: name the one that holds it"))
}

/// "The threat model, what is not defended, each threat with its test."
#[test]
fn every_threat_names_a_test_that_is_there() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    let page = read(PAGE);
    assert!(page.lines().filter(|line| line.contains(HELD)).count() > 3, "no tables");
    none("a threat has no test", check(&page, text));
}

#[test]
fn a_test_that_is_gone_is_found() {
    let page = "| threat | held by |\n| --- | --- |\n| a | `x.rs` `stands` |\n| b | `x.rs` `gone` |\n\n| c | none |\n| threat | held by |\n| --- | --- |\n| d | `y.rs` |\n| e | nothing |\n";
    let text = |path: &str| (path == "x.rs").then(|| "fn stands() {}".to_owned());
    let lines: Vec<usize> = check(page, text).iter().map(|found| found.line).collect();
    assert_eq!(lines, [4, 9, 10]);
}
