//! Functions fit a screen and files a head.

use crate::{
    source::Source,
    workspace::{Finding, none, sources},
};

/// Lines from `fn` to the closing brace: a screen.
const LONGEST_FUNCTION: usize = 70;
/// Lines of code in a file, without comments and tests.
const LONGEST_FILE: usize = 500;
/// Lines of code in all of `embedded`, so that it stays what it is for: the demo and fast tests.
const EMBEDDED: usize = 3000;

/// Files and functions that are too long, each with its reason. This list only shrinks.
const ALLOWED: &[(&str, &str)] = &[];

fn check(source: &Source) -> Vec<Finding> {
    if source.test {
        return Vec::new();
    }
    let mut found = Vec::new();
    for function in &source.functions {
        let lines = function.last - function.line + 1;
        if lines > LONGEST_FUNCTION {
            let says = format!(
                "`{}` has {lines} lines: a function has at most {LONGEST_FUNCTION}; take the steps out and name them",
                function.name
            );
            found.push(Finding::new(&source.path, function.line, says));
        }
    }
    let lines = source.lines_of_code();
    if lines > LONGEST_FILE {
        let says = format!(
            "{lines} lines of code: a file has at most {LONGEST_FILE}; it is a sign of a missing room"
        );
        found.push(Finding::new(&source.path, 1, says));
    }
    found
}

fn check_total(sources: &[Source], folder: &str, most: usize) -> Option<Finding> {
    let lines: usize = sources
        .iter()
        .filter(|source| !source.test && source.path.starts_with(folder))
        .map(Source::lines_of_code)
        .sum();
    (lines > most).then(|| {
        let says = format!("{lines} lines of code where {most} are enough: take something out");
        Finding::new(folder, 1, says)
    })
}

/// "Functions stay within a screen (70 lines), files within 500 lines of code; a longer one is a sign of a missing
/// room."
#[test]
fn functions_fit_a_screen_and_files_a_head() {
    let found: Vec<Finding> = sources().iter().flat_map(check).collect();
    for (path, reason) in ALLOWED {
        assert!(
            found.iter().any(|finding| finding.path == *path),
            "{path} is short enough now: take it off the list ({reason})"
        );
    }
    let allowed = |finding: &Finding| ALLOWED.iter().any(|(path, _)| finding.path == *path);
    none("too long", found.into_iter().filter(|finding| !allowed(finding)));
}

/// "At most 3,000 lines in all: it is for the demo and for tests in milliseconds, never for production."
#[test]
fn the_embedded_kubernetes_stays_small() {
    none("the embedded Kubernetes grows", check_total(&sources(), "embedded/src/", EMBEDDED));
}

#[test]
fn long_functions_and_files_are_found_and_tests_may_be_long() {
    let body = |lines: usize| format!("fn long() {{\n{}}}\n", "    call();\n".repeat(lines));
    let found = |path: &str, text: &str| check(&Source::read(path, text));
    assert_eq!(found("x/src/a.rs", &body(68)), []);
    assert_eq!(found("x/tests/a.rs", &body(600)), []);
    let [function] = &found("x/src/a.rs", &body(69))[..] else { panic!("one finding") };
    assert_eq!(function.line, 1);
    let text = format!("//! Many.\n\n// {}\n{}", "not code\n//".repeat(600), "f();\n".repeat(501));
    assert_eq!(found("x/src/a.rs", &text).len(), 1);
    assert_eq!(found("x/src/a.rs", &text.replacen("f();\n", "", 1)), []);
}

#[test]
fn a_total_counts_a_folder_and_not_its_neighbours() {
    let sources = [
        Source::read("a/src/x.rs", "f();\ng();"),
        Source::read("a/src/y.rs", "f();"),
        Source::read("b/src/z.rs", "f();"),
        Source::read("a/tests/z.rs", "f();"),
    ];
    assert_eq!(check_total(&sources, "a/src/", 3), None);
    assert!(check_total(&sources, "a/src/", 2).is_some());
}
