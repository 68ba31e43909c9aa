//! The workspace as it lies on the disk, and how a broken rule is told.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::source::{Source, test_modules};

/// A place where a rule is broken.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// The file, relative to the workspace.
    pub(crate) path: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong, and the remedy.
    pub(crate) says: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, says: impl Into<String>) -> Self {
        Self { path: path.into(), line, says: says.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.says)
    }
}

/// Fails the test that calls it, unless nothing was found.
#[track_caller]
pub(crate) fn none(rule: &str, findings: impl IntoIterator<Item = Finding>) {
    let lines: Vec<String> = findings.into_iter().map(|finding| format!("  {finding}")).collect();
    assert!(lines.is_empty(), "{rule}\n{}", lines.join("\n"));
}

/// The folder that holds the root manifest.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file of the workspace by its path in it.
pub(crate) fn read(path: &str) -> String {
    let file = root().join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of all files of the workspace but built ones, relative to it, sorted, with `/` between folders.
pub(crate) fn files() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                let relative = path.strip_prefix(&root).unwrap();
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// The Rust files, read; those that are only compiled for tests say so.
pub(crate) fn sources() -> Vec<Source> {
    let mut sources: Vec<Source> = files()
        .iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Source::read(path, &read(path)))
        .collect();
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let module = source.path.trim_end_matches(".rs");
        let inside = |test: &String| {
            module
                .strip_prefix(test.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        source.test |= tests.iter().any(inside);
    }
    sources
}

/// A table in Markdown: the cells of its rows, with the line each stands on, below the line that starts with `head`.
pub(crate) fn table(text: &str, head: &str) -> Vec<(usize, Vec<String>)> {
    text.lines()
        .enumerate()
        .skip_while(|(_, line)| !line.starts_with(head))
        .skip(2)
        .take_while(|(_, line)| line.starts_with('|'))
        .map(|(at, line)| {
            let cells = line.trim().trim_matches('|').split('|');
            (at + 1, cells.map(|cell| cell.trim().into()).collect())
        })
        .collect()
}

/// The texts between backticks, in order.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn a_table_is_read_by_its_head_up_to_its_end() {
    let text = "# x\n| other |\n| --- |\n| no |\n\n| crate | uses |\n| --- | --- |\n| `a` | `b`, `c` |\n\n| d |\n";
    let rows = table(text, "| crate |");
    assert_eq!(rows, [(8, vec!["`a`".into(), "`b`, `c`".into()])]);
    assert_eq!(quoted(&rows[0].1[1]).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
#[should_panic(expected = "a.rs:7: too long")]
fn a_finding_fails_the_test_and_says_where() {
    none("rule", [Finding::new("a.rs", 7, "too long")]);
}
