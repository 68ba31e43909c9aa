//! Every file says what it is and why it is there.

use crate::{
    source::Source,
    workspace::{Finding, none, sources},
};

/// A reader skips what is longer. Tables and diagrams do not count: they are looked at, not read.
const LONGEST: usize = 15;

fn check(source: &Source) -> Option<Finding> {
    let header: Vec<&str> =
        source.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let Some(first) = header.first() else {
        let says = "no header: open with `//!`, what the file is and why it is there";
        return Some(Finding::new(&source.path, 1, says));
    };
    let words = first.split_whitespace().count();
    let lines = sentences(&header);
    if words < 3 {
        let says = "the header says nothing: write what the file is and why it is there";
        Some(Finding::new(&source.path, 1, says))
    } else if lines > LONGEST {
        let says = format!("a header of {lines} lines: say it in {LONGEST}");
        Some(Finding::new(&source.path, 1, says))
    } else {
        None
    }
}

/// Lines of a header that are neither in a table nor in a diagram.
fn sentences(header: &[&str]) -> usize {
    let mut diagram = false;
    let mut count = 0;
    for line in header.iter().map(|line| line.trim()) {
        if line.starts_with("```") {
            diagram = !diagram;
        } else if !diagram && !line.starts_with('|') {
            count += 1;
        }
    }
    count
}

/// "Every file opens with `//!`: what it is and why it is there."
#[test]
fn every_file_opens_with_what_it_is() {
    none("a file has no header", sources().iter().filter_map(check));
}

#[test]
fn a_missing_an_empty_and_an_endless_header_are_found() {
    let line = |text: &str| {
        check(&Source::read("x/src/a.rs", text)).map(|found| (found.line, found.says.len() > 20))
    };
    assert_eq!(line("//! Reads what was written.\n"), None);
    assert_eq!(line("// Reads what was written.\n"), Some((1, true)));
    assert_eq!(line("\n//! Reads what was written.\n"), Some((1, true)));
    assert_eq!(line("//! placeholder\n"), Some((1, true)));
    let long = "//! word by word\n".repeat(15);
    assert_eq!(line(&long), None);
    assert_eq!(line(&format!("{long}//!\n")), Some((1, true)));
    assert_eq!(line(&format!("{long}//! | a | b |\n//! ```text\n//! a ─► b\n//! ```\n")), None);
}
