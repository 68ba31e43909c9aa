//! Every file says what it is and why it is there.

use crate::{
    source::Source,
    workspace::{Finding, none, sources},
};

/// A reader skips what is longer.
const LONGEST: usize = 15;
/// A table of modules is not read but looked up; the root of a crate may have one.
const LONGEST_OF_A_CRATE: usize = 30;

fn check(source: &Source) -> Option<Finding> {
    let lines = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .count();
    let root = ["lib.rs", "main.rs"]
        .iter()
        .any(|name| source.path.ends_with(name));
    let most = if root { LONGEST_OF_A_CRATE } else { LONGEST };
    let words = source.text.lines().next().map_or(0, |line| {
        line.trim_start_matches("//!").split_whitespace().count()
    });
    if lines == 0 {
        let says = "no header: open with `//!`, what the file is and why it is there";
        Some(Finding::new(&source.path, 1, says))
    } else if words < 3 {
        let says = "the header says nothing: write what the file is and why it is there";
        Some(Finding::new(&source.path, 1, says))
    } else if lines > most {
        let says = format!("a header of {lines} lines: say it in {most}");
        Some(Finding::new(&source.path, most + 1, says))
    } else {
        None
    }
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
    assert_eq!(line(&"//! word by word\n".repeat(16)), Some((16, true)));
}
