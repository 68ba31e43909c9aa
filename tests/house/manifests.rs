//! Every crate obeys the workspace's lints, and what is not ours comes from crates.io.

use crate::workspace::{Finding, files, none, read, root};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The lines of a manifest, each with its number and the section it stands in.
fn entries(manifest: &str) -> Vec<(usize, String, String)> {
    let mut section = String::new();
    let mut entries = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).into();
        } else {
            entries.push((at + 1, section.clone(), line.into()));
        }
    }
    entries
}

fn check_lints(path: &str, manifest: &str) -> Option<Finding> {
    let obeys = entries(manifest)
        .iter()
        .any(|(_, section, line)| section == "lints" && line.replace(' ', "") == "workspace=true");
    (!obeys).then(|| {
        let says =
            "the crate has rules of its own: write `[lints]` and below it `workspace = true`";
        Finding::new(path, 1, says)
    })
}

fn check_dependencies(path: &str, manifest: &str) -> Vec<Finding> {
    let dependency =
        |section: &str| section.ends_with("dependencies") && !section.starts_with("workspace");
    entries(manifest)
        .into_iter()
        .filter(|(_, section, line)| {
            dependency(section) && line.contains('=') && !line.starts_with('#')
        })
        .filter(|(_, _, line)| {
            let line = line.replace(' ', "");
            !line.contains(".workspace=true") && !line.contains("{workspace=true")
        })
        .map(|(at, ..)| {
            let says = "a version of its own: put it under `[workspace.dependencies]` and write `.workspace = true` here";
            Finding::new(path, at, says)
        })
        .collect()
}

fn check_sources(path: &str, lock: &str) -> Vec<Finding> {
    lock.lines()
        .enumerate()
        .filter_map(|(at, line)| Some((at + 1, line.strip_prefix("source = ")?)))
        .filter(|(_, source)| source.trim_matches('"') != CRATES_IO)
        .map(|(at, source)| {
            Finding::new(path, at, format!("{source} is not crates.io: use a published crate"))
        })
        .collect()
}

fn check_members(manifest: &str, crates: &[String]) -> Vec<Finding> {
    let members: String = manifest
        .lines()
        .skip_while(|line| !line.starts_with("members"))
        .take_while(|line| !line.is_empty())
        .collect();
    crates
        .iter()
        .filter(|name| !members.contains(&format!("\"{name}\"")))
        .map(|name| {
            let says = "no member of the workspace: add it to `members` in the root manifest";
            Finding::new(&format!("{name}/Cargo.toml"), 1, says)
        })
        .collect()
}

/// The programs that `cargo run` runs where none is named.
fn check_runs(manifests: &[String]) -> Vec<Finding> {
    let runs: Vec<&str> = manifests
        .iter()
        .flat_map(|manifest| manifest.lines())
        .filter_map(|line| line.strip_prefix("default-run = "))
        .collect();
    let says = "`cargo run` must run `landbridge`, whatever other programs there are: write `default-run = \"landbridge\"` here, and nowhere else";
    let right = runs == ["\"landbridge\""];
    if right { Vec::new() } else { vec![Finding::new("cli/Cargo.toml", 1, says)] }
}

/// The folders that hold a crate.
fn crates() -> Vec<String> {
    files().iter().filter_map(|path| path.strip_suffix("/Cargo.toml")).map(str::to_owned).collect()
}

/// One table of lints for the workspace.
#[test]
fn every_crate_obeys_the_workspaces_lints() {
    let manifests = crates().into_iter().map(|name| format!("{name}/Cargo.toml"));
    none(
        "a crate is not held to the rules",
        manifests.filter_map(|path| check_lints(&path, &read(&path))),
    );
}

/// One place says which version of a library is used.
#[test]
fn versions_stand_in_the_root_manifest() {
    let manifests = crates().into_iter().map(|name| format!("{name}/Cargo.toml"));
    none(
        "a version is chosen twice",
        manifests.flat_map(|path| check_dependencies(&path, &read(&path))),
    );
}

/// Every folder with a manifest is built, tested and linted with the rest.
#[test]
fn every_crate_is_a_member() {
    none("a crate is left out", check_members(&read("Cargo.toml"), &crates()));
}

/// The first line of the README works: `cargo run --release -- demo`.
#[test]
fn landbridge_runs_where_no_program_is_named() {
    let manifests: Vec<String> =
        crates().into_iter().map(|name| read(&format!("{name}/Cargo.toml"))).collect();
    none("another program may run", check_runs(&manifests));
}

/// What is built here is what everybody builds: no mirror, no fork, no replaced source.
#[test]
fn libraries_come_from_crates_io() {
    none("a library comes from elsewhere", check_sources("Cargo.lock", &read("Cargo.lock")));
    for name in ["config", "config.toml"] {
        let path = format!(".cargo/{name}");
        if root().join(&path).exists() {
            let text = read(&path);
            let replaced = text
                .lines()
                .enumerate()
                .filter(|(_, line)| line.starts_with("[source") || line.starts_with("[registr"))
                .map(|(at, _)| {
                    let says = "where crates come from is the business of the machine: take it out";
                    Finding::new(&path, at + 1, says)
                });
            none("a source is replaced", replaced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_with_rules_of_its_own_is_found() {
        assert_eq!(check_lints("a", "[package]\n[lints]\nworkspace = true\n"), None);
        assert!(check_lints("a", "[package]\nworkspace = true\n").is_some());
        assert!(check_lints("a", "[lints.rust]\nunsafe_code = \"allow\"\n").is_some());
    }

    #[test]
    fn a_version_outside_the_root_is_found() {
        let manifest = "[package]\nversion = \"1\"\n[dependencies]\na.workspace = true\nb = { workspace = true }\nc = \"1\"\n[dev-dependencies]\nd = { path = \"../d\" }\n[target.'cfg(target_os = \"linux\")'.dependencies]\ne = \"1\"\n";
        let lines: Vec<usize> =
            check_dependencies("a", manifest).iter().map(|found| found.line).collect();
        assert_eq!(lines, [6, 8, 10]);
    }

    #[test]
    fn a_program_that_takes_the_place_of_ours_is_found() {
        let found = |texts: &[&str]| {
            let manifests: Vec<String> = texts.iter().map(ToString::to_string).collect();
            check_runs(&manifests).len()
        };
        let ours = "[package]\ndefault-run = \"landbridge\"\n";
        assert_eq!(found(&[ours, "[package]\n"]), 0);
        assert_eq!(found(&["[package]\n"]), 1);
        assert_eq!(found(&[ours, "[package]\ndefault-run = \"x\"\n"]), 1);
    }

    #[test]
    fn a_mirror_is_found() {
        let lock = format!(
            "source = \"{CRATES_IO}\"\nname = \"a\"\nsource = \"git+https://example.org/a\"\n"
        );
        let found = check_sources("Cargo.lock", &lock);
        assert_eq!((found.len(), found[0].line), (1, 3));
    }

    #[test]
    fn a_crate_that_is_left_out_is_found() {
        let crates = ["a".to_owned(), "b/c".to_owned()];
        let found = check_members("[workspace]\nmembers = [\n  \"a\",\n]\n\n# \"b/c\"\n", &crates);
        assert_eq!((found.len(), found[0].path.as_str()), (1, "b/c/Cargo.toml"));
    }
}
