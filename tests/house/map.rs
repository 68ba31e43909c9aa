//! ARCHITECTURE.md names what is there, and only that.

use std::collections::BTreeSet;

use crate::workspace::{Finding, files, none, quoted, read, root};

const PAGE: &str = "ARCHITECTURE.md";
/// Two pages: what is longer is not read.
const LONGEST: usize = 200;

/// Folders at the top that the page does not name.
fn check_folders(page: &str, folders: &BTreeSet<String>) -> Vec<Finding> {
    folders
        .iter()
        .filter(|folder| !page.contains(&format!("`{folder}/`")))
        .map(|folder| {
            let says = format!("`{folder}/` is missing: say what it is for");
            Finding::new(PAGE, 1, says)
        })
        .collect()
}

/// Files and folders that the page names and that are not there.
fn check_names(page: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in page.lines().enumerate() {
        for name in quoted(line) {
            let path = name.trim_end_matches('/');
            let names_a_path = path.contains('/') && path.ends_with(".rs") || name.ends_with('/');
            if names_a_path
                && !name.starts_with('/')
                && !name.contains([' ', '<', '*'])
                && !exists(path)
            {
                let says = format!("`{name}` is not there: take it out, or write where it went");
                found.push(Finding::new(PAGE, at + 1, says));
            }
        }
    }
    found
}

/// "Every folder appears; a change that breaks an invariant edits the line."
#[test]
fn every_folder_is_on_the_map() {
    let folders: BTreeSet<String> = files()
        .iter()
        .filter_map(|path| path.split_once('/'))
        .map(|(folder, _)| folder.to_owned())
        .filter(|folder| !folder.starts_with('.'))
        .collect();
    none("a folder is not on the map", check_folders(&read(PAGE), &folders));
}

/// A map that names what is gone leads nowhere.
#[test]
fn the_map_names_only_what_is_there() {
    none("the map is out of date", check_names(&read(PAGE), |path| root().join(path).exists()));
}

/// Two pages, so that it is read before the first change and not after.
#[test]
fn the_map_stays_short() {
    let lines = read(PAGE).lines().count();
    assert!(lines <= LONGEST, "{PAGE} has {lines} lines: say it in {LONGEST}");
}

#[test]
fn a_folder_that_is_missing_and_a_file_that_is_gone_are_found() {
    let page =
        "| `api/` | types |\n`api/src/gone.rs` and `/metrics/`, `cluster-<id>/`, `a::b`\n`cli/`\n";
    let folders = ["api".to_owned(), "dns".to_owned()].into();
    let found = check_folders(page, &folders);
    assert_eq!(found.len(), 1);
    assert!(found[0].says.contains("`dns/`"));
    let found = check_names(page, |path| path == "api");
    let lines: Vec<usize> = found.iter().map(|found| found.line).collect();
    assert_eq!(lines, [2, 3]);
}
