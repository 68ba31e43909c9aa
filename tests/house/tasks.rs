//! Only the top of a component starts tasks, and nothing that is fed from outside grows without bound.

use crate::{
    source::Source,
    workspace::{Finding, none, quoted, read, sources, table},
};

/// Starts a task or a thread, as a call.
const SPAWNS: &[&str] = &["spawn", "spawn_blocking", "spawn_local", "spawn_on"];
/// A queue without a bound.
const UNBOUNDED: &[&str] =
    &["UnboundedReceiver", "UnboundedSender", "mpsc :: unbounded", "unbounded_channel"];

/// The files that ARCHITECTURE.md lets start tasks, with the line that does.
fn allowed(architecture: &str) -> Vec<(usize, String)> {
    table(architecture, "| file that starts tasks |")
        .into_iter()
        .filter_map(|(line, cells)| Some((line, quoted(cells.first()?).next()?.to_owned())))
        .collect()
}

/// Lines that start a task. A call that gives a name first is to the component's own set of tasks, which ends and
/// awaits them: what counts is who starts those.
fn starts(source: &Source) -> impl Iterator<Item = usize> {
    source.tokens.windows(3).filter_map(|window| {
        let [call, open, first] = window else {
            return None;
        };
        let is_named = first.text.starts_with('"') || first.text == "format";
        let is_start = SPAWNS.contains(&call.text.as_str()) && open.text == "(";
        (is_start && !is_named).then_some(call.line)
    })
}

fn check(sources: &[Source], allowed: &[(usize, String)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut used = Vec::new();
    for source in sources.iter().filter(|source| !source.test) {
        for line in starts(source) {
            if allowed.iter().any(|(_, path)| *path == source.path) {
                used.push(source.path.as_str());
            } else {
                let says = "a task starts here: let the top of the component start it, or list this file under Tasks in ARCHITECTURE.md";
                found.push(Finding::new(&source.path, line, says));
            }
        }
    }
    let idle = allowed.iter().filter(|(_, path)| !used.contains(&path.as_str()));
    found.extend(idle.map(|(line, path)| {
        let says = format!("`{path}` starts no task: take it out of the table");
        Finding::new("ARCHITECTURE.md", *line, says)
    }));
    found
}

fn check_bounds(source: &Source) -> Vec<Finding> {
    if source.test {
        return Vec::new();
    }
    let lines = UNBOUNDED.iter().flat_map(|pattern| source.find(pattern));
    let std_channel = source
        .uses
        .iter()
        .filter(|used| used.text.starts_with("std::sync::mpsc"))
        .map(|used| used.line);
    let says = "a queue without a bound: give it one, say beside it where the number comes from, count what overflows";
    lines.chain(std_channel).map(|line| Finding::new(&source.path, line, says)).collect()
}

/// "Only the top of a component spawns tasks. Each task has a name, a shutdown token and a drain."
#[test]
fn only_the_top_of_a_component_starts_tasks() {
    let allowed = allowed(&read("ARCHITECTURE.md"));
    assert!(!allowed.is_empty(), "ARCHITECTURE.md has no table of the files that start tasks");
    none("a task is started elsewhere", check(&sources(), &allowed));
}

/// "Everything is bounded, with the reason for the number beside it, and overflow is counted."
#[test]
fn no_queue_is_without_a_bound() {
    none("unbounded", sources().iter().flat_map(check_bounds));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "x\n\n| file that starts tasks | which |\n| --- | --- |\n| `a/src/run.rs` | all |\n";

    #[test]
    fn a_task_is_started_where_the_table_says() {
        let allowed = allowed(TABLE);
        let run = Source::read("a/src/run.rs", "fn f() { tokio::spawn(g()) }");
        assert_eq!(check(std::slice::from_ref(&run), &allowed), []);
        for call in
            ["tokio::spawn(g())", "set.spawn(g())", "std::thread::spawn(g)", "spawn_blocking(g)"]
        {
            let other = Source::read("a/src/plan.rs", &format!("fn f() {{\n{call}\n}}"));
            let found = check(&[run.clone(), other], &allowed);
            assert_eq!(found.len(), 1, "{call}");
            assert_eq!((found[0].path.as_str(), found[0].line), ("a/src/plan.rs", 2));
        }
        let named = "fn f() { tasks.spawn(\"dial\", g()); tasks.spawn(format!(\"{n}/wan\"), g()) }";
        let named = Source::read("a/src/plan.rs", named);
        assert_eq!(check(&[run.clone(), named], &allowed), []);
        let test = Source::read("a/src/plan.rs", "#[cfg(test)] mod t { fn f() { spawn(g()) } }");
        assert_eq!(check(&[run, test], &allowed), []);
    }

    #[test]
    fn a_file_that_no_longer_starts_any_leaves_the_table() {
        let found = check(&[Source::read("a/src/run.rs", "fn f() {}")], &allowed(TABLE));
        assert_eq!((found.len(), found[0].line), (1, 5));
    }

    #[test]
    fn queues_without_a_bound_are_found() {
        let lines = |code: &str| -> Vec<usize> {
            let source = Source::read("a/src/a.rs", code);
            check_bounds(&source).iter().map(|found| found.line).collect()
        };
        assert_eq!(lines("\nfn f() { mpsc::unbounded_channel() }"), [2]);
        assert_eq!(lines("use futures::channel::mpsc;\nfn f() { mpsc::unbounded() }"), [2]);
        assert_eq!(lines("use std::sync::{Arc, mpsc::channel};"), [1]);
        assert!(lines("use tokio::sync::mpsc;\nfn f() { mpsc::channel(16) }").is_empty());
    }
}
