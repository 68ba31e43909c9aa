//! The text speaks of the project, not of the machine that it was written on.

use std::{env, fs};

use crate::workspace::{Finding, files, none, root};

/// Folders of people's own. Written in two parts, so that this file may be read like any other.
const PERSONAL: &[&str] = &[concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];

/// Lines that hold a path below one of `folders`.
fn check(path: &str, text: &str, folders: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for folder in folders {
            let starts = line
                .match_indices(folder.as_str())
                // `a/root/b` is a path inside something.
                .any(|(from, _)| {
                    !line[..from].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c))
                });
            if starts {
                let says = format!(
                    "`{folder}` is a place on one machine: write a path inside the project"
                );
                found.push(Finding::new(path, at + 1, says));
            }
        }
    }
    found
}

/// The folders of this machine that no committed text should name: people's own, and where the workspace lies.
fn folders() -> Vec<String> {
    let mut folders: Vec<String> = PERSONAL.iter().map(|&folder| folder.into()).collect();
    let here = [Some(root()), env::var_os("HOME").map(Into::into)];
    for path in here.into_iter().flatten() {
        // A single name, as in a container, may be an ordinary word of an URL.
        if path.components().count() > 2 {
            folders.push(format!("{}/", path.display()));
        }
    }
    folders
}

/// No absolute paths of one machine in what everybody reads.
#[test]
fn no_text_names_a_place_on_one_machine() {
    let folders = folders();
    let mut found = Vec::new();
    for path in files() {
        // What is not text has nothing to read.
        if let Ok(text) = fs::read_to_string(root().join(&path)) {
            found.extend(check(&path, &text, &folders));
        }
    }
    none("a path of one machine", found);
}

#[test]
fn a_path_of_one_machine_is_found_and_one_inside_the_project_is_not() {
    let folders = folders();
    let lines = |text: &str| -> Vec<usize> {
        check("a.md", text, &folders).iter().map(|found| found.line).collect()
    };
    let there = format!("see\n{}src/a.rs\n", PERSONAL[0]);
    assert_eq!(lines(&there), [2]);
    let key = format!("pki{}key.pem and certificates{}x", PERSONAL[2], PERSONAL[2]);
    assert!(lines(&key).is_empty());
    if root().components().count() > 2 {
        assert_eq!(lines(&format!("cd {}/api", root().display())), [1]);
    }
}
