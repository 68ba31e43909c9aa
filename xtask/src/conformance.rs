//! The cases of `tests/cluster` on labs of each arrangement, and the table of how they went.
//!
//! | module | question |
//! | --- | --- |
//! | [`table`] | what does the report say? |
//!
//! Each arrangement has a lab of its own for as long as it takes. The cases are those of the test binary, so that what
//! the report says is what a test run would have said.

mod table;

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use self::table::{Line, Report, Run};
use crate::{
    lab::{
        self, Lab,
        install::{self, RunAs},
        options::{Name, Network, Options, Proxy, Stack},
    },
    programs::{COREDNS, ETCD, KUBELET},
    tell,
};

/// As many as wait for something at the same time, where each works little.
const THREADS: &str = "6";
/// Which tests are cases.
const CASES: [&str; 2] = ["beyond::", "conformance::"];

/// Runs all cases: in two arrangements that have each option once, or in every one, and writes the report.
///
/// # Errors
/// Without root, where a lab does not come up, or where a case fails: the report is written then too.
pub fn conformance(root: &Path, name: &Name, all: bool, report: &Path) -> Result<()> {
    lab::require_root()?;
    build(root)?;
    let mut runs = Vec::new();
    for (options, run_as) in arrangements(name, all) {
        runs.push(run(root, &options, run_as, all)?);
    }
    let failed: usize = runs.iter().map(Run::failed).sum();
    let report_of = Report { all, commit: commit(root), versions: versions(), runs };
    if let Some(folder) = report.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(report, report_of.to_string()).with_context(|| report.display().to_string())?;
    tell(&format!("written to {}", report.display()));
    ensure!(
        failed == 0,
        "{failed} cases failed: what the clusters looked like is in target/cluster"
    );
    Ok(())
}

/// The arrangements: the two that a change must pass, or all. What Landbridge runs as changes from one to the next.
fn arrangements(name: &Name, all: bool) -> Vec<(Options, RunAs)> {
    let options = |network, stack, proxy| Options {
        name: name.clone(),
        network,
        proxy,
        stack,
        ..Options::default()
    };
    if !all {
        return vec![
            (options(Network::Shared, Stack::Dual, Proxy::Iptables), RunAs::Processes),
            (options(Network::Overlapping, Stack::V4, Proxy::Nftables), RunAs::Pods),
        ];
    }
    let mut found = Vec::new();
    for network in Network::value_variants() {
        for stack in Stack::value_variants() {
            for proxy in Proxy::value_variants() {
                for run_as in RunAs::value_variants() {
                    found.push((options(*network, *stack, *proxy), *run_as));
                }
            }
        }
    }
    found
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    command
}

fn build(root: &Path) -> Result<()> {
    for arguments in [
        &["build", "--locked", "--workspace", "--bins"][..],
        &["test", "--locked", "--workspace", "--test", "cluster", "--no-run"],
    ] {
        let status = cargo(root, arguments).status().context("cargo")?;
        ensure!(status.success(), "cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// One arrangement: its lab comes, runs all cases, and goes.
fn run(root: &Path, options: &Options, run_as: RunAs, all: bool) -> Result<Run> {
    let run_as_word = run_as.to_possible_value().map(|one| one.get_name().to_owned());
    let arrangement = format!("{options}, {}", run_as_word.unwrap_or_default());
    tell(&format!("── {arrangement}"));
    lab::down(&options.name)?;
    let lines = root.join("target").join(format!("conformance-{}.lines", options.name));
    if lines.exists() {
        fs::remove_file(&lines)?;
    }
    let begun = Instant::now();
    let played = play(root, options, run_as, all, &lines);
    let seconds = begun.elapsed().as_secs();
    lab::down(&options.name)?;
    played?;
    let text = fs::read_to_string(&lines).with_context(|| lines.display().to_string())?;
    let cases: serde_json::Result<Vec<Line>> = text.lines().map(serde_json::from_str).collect();
    fs::remove_file(&lines)?;
    Ok(Run { arrangement, seconds, cases: cases? })
}

fn play(root: &Path, options: &Options, run_as: RunAs, all: bool, lines: &Path) -> Result<()> {
    let lab = Lab::up(options)?;
    lab.install(&install::built()?, run_as)?;
    let test = ["test", "--locked", "--workspace", "--test", "cluster", "--"];
    let mut tests = cargo(root, &[&test[..], &CASES].concat());
    tests
        .env("LANDBRIDGE_CLUSTER", "required")
        .env("LANDBRIDGE_LAB", options.name.as_str())
        .env("LANDBRIDGE_REPORT", lines)
        .env("RUST_TEST_THREADS", THREADS);
    if all {
        tests.env("LANDBRIDGE_ALL", "1");
    }
    // That some fail is for the report to say.
    tests.status().context("cargo")?;
    Ok(())
}

/// What the report is about.
fn commit(root: &Path) -> String {
    let git =
        Command::new("git").current_dir(root).args(["rev-parse", "--short=12", "HEAD"]).output();
    let said = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_default()
}

/// What it ran with.
fn versions() -> Vec<(&'static str, String)> {
    let said = |program: &str, flag: &str| {
        let output = Command::new(program).arg(flag).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    };
    vec![
        ("Kubernetes", KUBELET.version().into()),
        ("etcd", ETCD.version().into()),
        ("CoreDNS", COREDNS.version().into()),
        ("containerd", said("containerd", "--version")),
        ("Linux", said("uname", "-r")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_arrangements_have_each_option_once_and_all_are_sixteen() {
        let name = Name::default();
        let [one, two] = &arrangements(&name, false)[..] else { panic!("two") };
        assert_ne!(one.0.network, two.0.network);
        assert_ne!(one.0.stack, two.0.stack);
        assert_ne!(one.0.proxy, two.0.proxy);
        assert_ne!(one.1, two.1);
        let all = arrangements(&name, true);
        assert_eq!(all.len(), 16);
        assert!(all.contains(one) && all.contains(two));
    }
}
