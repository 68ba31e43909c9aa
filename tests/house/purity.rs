//! A file that opens with `//! Pure:` decides, and does nothing else.

use crate::{
    source::Source,
    workspace::{Finding, none, sources},
};

/// What each pure file does without, and what it does instead.
const BANNED: &[(&str, &[&str])] = &[
    (
        "a decision does not wait: do it in the file that calls this one",
        &["async", ". await", "futures ::", "tokio ::", "tokio_util ::"],
    ),
    (
        "the clock is read elsewhere: take `now` as an argument",
        &["Instant :: now", "SystemTime", "Timestamp :: now", "UNIX_EPOCH", "Zoned :: now"],
    ),
    (
        "a decision reads and writes nothing: take what it needs as an argument and return what is to be done",
        &[
            "TcpListener",
            "TcpStream",
            "ToSocketAddrs",
            "UdpSocket",
            "hyper ::",
            "kube :: Api",
            "kube :: Client",
            "kube :: client",
            "quinn ::",
            "quinn_proto ::",
            "quinn_udp ::",
            "socket2 ::",
            "std :: env",
            "std :: fs",
            "std :: io",
            "std :: process",
            "std :: thread",
        ],
    ),
    (
        "chance comes in: take the draw as an argument",
        &[
            "OsRng",
            "getrandom ::",
            "rand :: random",
            "rand :: random_range",
            "rand :: rng",
            "rand :: rngs",
            "thread_rng",
        ],
    ),
    (
        "a decision says what it found, it does not log: return it",
        &["dbg !", "eprintln !", "log ::", "println !", "tracing ::"],
    ),
];

fn is_pure(source: &Source) -> bool {
    source.text.starts_with("//! Pure:")
}

/// What a pure file must not hold.
fn check(source: &Source) -> Vec<Finding> {
    if !is_pure(source) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (remedy, patterns) in BANNED {
        for pattern in *patterns {
            let path = pattern.replace(' ', "");
            let used = source
                .uses
                .iter()
                .filter(|used| brings_in(&used.text, &path))
                .map(|used| used.line);
            let mut lines: Vec<usize> = source.find(pattern).into_iter().chain(used).collect();
            lines.sort_unstable();
            lines.dedup();
            let says = format!("a pure file has `{path}`; {remedy}");
            found.extend(
                lines.into_iter().map(|line| Finding::new(&source.path, line, says.clone())),
            );
        }
    }
    found.sort_by_key(|finding| finding.line);
    found
}

/// Whether the path `used` brings in `banned` or something below it.
fn brings_in(used: &str, banned: &str) -> bool {
    banned.contains("::")
        && used
            .strip_prefix(banned)
            .is_some_and(|rest| rest.is_empty() || banned.ends_with(':') || rest.starts_with(':'))
}

/// In the model every file decides; its root only names them.
fn check_model(source: &Source) -> Option<Finding> {
    if source.test || !source.path.starts_with("model/src/") {
        return None;
    }
    if source.path == "model/src/lib.rs" {
        let function = source.functions.first()?;
        let says =
            format!("the root of the model only names its modules: move `{}`", function.name);
        return Some(Finding::new(&source.path, function.line, says));
    }
    (!is_pure(source)).then(|| {
        let says = "every file of the model decides: open it with `//! Pure:`, or move it to the crate that needs it";
        Finding::new(&source.path, 1, says)
    })
}

/// "Decisions are pure functions. `now` and random draws come in as arguments." "Files that decide open with
/// `//! Pure:` wherever they live, and a test holds them to it (no async, no clock, no IO, no unseeded randomness)."
#[test]
fn pure_files_keep_their_word() {
    none("a pure file is not", sources().iter().flat_map(check));
}

/// "`model/`: what the parts share: names, keys, the merge of exports; no IO."
#[test]
fn every_file_of_the_model_is_pure() {
    let sources = sources();
    assert!(
        sources.iter().any(|source| source.path == "model/src/lib.rs"),
        "the model has moved: tell this test where"
    );
    none("the model decides, no more", sources.iter().filter_map(check_model));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(code: &str) -> Vec<usize> {
        let text = format!("//! Pure: decides.\n{code}");
        check(&Source::read("x/src/a.rs", &text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn each_banned_thing_is_found_where_it_stands() {
        for (_, patterns) in BANNED {
            for pattern in *patterns {
                let code = format!("fn f() {{\n    {pattern} x\n}}\n");
                assert_eq!(lines(&code), [3], "{pattern}");
            }
        }
    }

    #[test]
    fn groups_of_uses_do_not_hide_it() {
        assert_eq!(lines("use std::{\n    fmt,\n    fs::{self, File},\n};"), [4]);
        assert_eq!(lines("use kube::{Client, ResourceExt};"), [2]);
        assert_eq!(lines("use tokio::sync::watch;"), [2]);
        assert_eq!(lines("use rand::{Rng, rng};"), [2]);
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        assert!(
            lines("/// Calls `Instant::now`, async.\nfn f(now: Instant) -> &str { \"std::fs\" }")
                .is_empty()
        );
        assert!(lines("use std::{net::IpAddr, fmt};\nuse rand::{Rng, RngExt};").is_empty());
        assert!(lines("#[cfg(test)]\nmod tests {\n    fn f() { std::fs::read() }\n}").is_empty());
        let other = Source::read("x/src/a.rs", "//! Not pure.\nuse std::fs;");
        assert_eq!(check(&other), []);
    }

    #[test]
    fn a_file_of_the_model_that_does_not_promise_is_found() {
        let found = |path: &str, text: &str| check_model(&Source::read(path, text)).is_some();
        assert!(found("model/src/a.rs", "//! Decides."));
        assert!(!found("model/src/a.rs", "//! Pure: decides."));
        assert!(!found("model/src/lib.rs", "//! The model.\nmod a;"));
        assert!(found("model/src/lib.rs", "//! The model.\nfn f() {}"));
        assert!(!found("api/src/a.rs", "//! Decides."));
    }
}
