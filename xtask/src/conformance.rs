//! The cases of `tests/cluster` on labs of each arrangement, and the table of how they went.
//!
//! | module | question |
//! | --- | --- |
//! | [`table`] | what does the report say? |
//!
//! Each arrangement has a lab of its own for as long as it takes. The cases are those of the test binary, so that what
//! the report says is what a test run would have said.

mod table;

use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use self::table::{Report, Run};
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

/// Which arrangements are played.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Which {
    /// Every combination of options, and long waits.
    #[arg(long)]
    pub all: bool,
    /// Those in which clusters reach each other's pods, or those in which they do not [default: both].
    #[arg(long, value_enum)]
    pub network: Option<Network>,
}

impl Display for Which {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.all {
            f.write_str(" --all")?;
        }
        match self.network.and_then(|network| network.to_possible_value()) {
            Some(network) => write!(f, " --network {}", network.get_name()),
            None => Ok(()),
        }
    }
}

/// Runs all cases: in two arrangements that have each option once, or in every one, and writes the report.
///
/// It is written after each arrangement, so that a run that is cut off leaves what it has.
///
/// # Errors
/// Without root, or where a case fails or a lab does not come up: the others are played and the report is written then
/// too.
pub fn conformance(root: &Path, name: &Name, which: Which, report: &Path) -> Result<()> {
    lab::require_root()?;
    build(root)?;
    if let Some(folder) = report.parent() {
        fs::create_dir_all(folder)?;
    }
    let arrangements = arrangements(name, which);
    let mut so_far = Report {
        command: format!("cargo xtask conformance{which}"),
        commit: commit(root),
        planned: arrangements.len(),
        runs: Vec::new(),
        versions: versions(),
    };
    for (options, run_as) in arrangements {
        so_far.runs.push(run(root, &options, run_as, which.all)?);
        write(report, &so_far)?;
    }
    tell(&format!("written to {}", report.display()));
    let failed: usize = so_far.runs.iter().map(Run::failed).sum();
    ensure!(
        failed == 0,
        "{failed} cases failed: what the clusters looked like is in target/cluster"
    );
    Ok(())
}

/// Writes it whole or not at all, since the run may be cut off meanwhile.
fn write(path: &Path, report: &Report) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    fs::write(&beside, report.to_string()).with_context(|| beside.display().to_string())?;
    fs::rename(&beside, path).with_context(|| path.display().to_string())
}

/// The arrangements: the two that a change must pass, or all. What Landbridge runs as changes from one to the next.
fn arrangements(name: &Name, which: Which) -> Vec<(Options, RunAs)> {
    let options = |network, stack, proxy| Options {
        name: name.clone(),
        network,
        proxy,
        stack,
        ..Options::default()
    };
    let mut found = Vec::new();
    if which.all {
        for network in Network::value_variants() {
            for stack in Stack::value_variants() {
                for proxy in Proxy::value_variants() {
                    for run_as in RunAs::value_variants() {
                        found.push((options(*network, *stack, *proxy), *run_as));
                    }
                }
            }
        }
    } else {
        found.push((options(Network::Shared, Stack::Dual, Proxy::Iptables), RunAs::Processes));
        found.push((options(Network::Overlapping, Stack::V4, Proxy::Nftables), RunAs::Pods));
    }
    found.retain(|(options, _)| which.network.is_none_or(|network| network == options.network));
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

/// One arrangement: its lab comes, runs all cases, and goes. Where it does not come, the run has that to say.
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
    let trouble = play(root, options, run_as, all, &lines).err().map(|error| format!("{error:#}"));
    if let Some(trouble) = &trouble {
        tell(&format!("not played: {trouble}"));
    }
    let seconds = begun.elapsed().as_secs();
    lab::down(&options.name)?;
    let mut cases = Vec::new();
    if lines.exists() {
        let text = fs::read_to_string(&lines).with_context(|| lines.display().to_string())?;
        for line in text.lines() {
            cases.push(serde_json::from_str(line).with_context(|| lines.display().to_string())?);
        }
        fs::remove_file(&lines)?;
    }
    Ok(Run { arrangement, seconds, cases, trouble })
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
        let [one, two] = &arrangements(&name, Which::default())[..] else { panic!("two") };
        assert_ne!(one.0.network, two.0.network);
        assert_ne!(one.0.stack, two.0.stack);
        assert_ne!(one.0.proxy, two.0.proxy);
        assert_ne!(one.1, two.1);
        let all = arrangements(&name, Which { all: true, network: None });
        assert_eq!(all.len(), 16);
        assert!(all.contains(one) && all.contains(two));
    }

    #[test]
    fn the_arrangements_of_one_network_and_of_the_other_are_all() {
        let name = Name::default();
        for all in [false, true] {
            let mut halves = Vec::new();
            for network in [Network::Overlapping, Network::Shared] {
                let half = arrangements(&name, Which { all, network: Some(network) });
                assert!(half.iter().all(|(options, _)| options.network == network));
                halves.extend(half);
            }
            let whole = arrangements(&name, Which { all, network: None });
            assert_eq!(halves.len(), whole.len());
            assert!(whole.iter().all(|one| halves.contains(one)));
        }
    }

    #[test]
    fn the_report_quotes_the_command_that_wrote_it() {
        assert_eq!(Which::default().to_string(), "");
        let which = Which { all: true, network: Some(Network::Shared) };
        assert_eq!(which.to_string(), " --all --network shared");
    }

    #[test]
    fn a_report_takes_the_place_of_the_one_before_and_leaves_nothing_beside_it() {
        let folder = std::env::temp_dir().join(format!("conformance-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("report.md");
        for commit in ["one", "two"] {
            let report = Report {
                command: "cargo xtask conformance".into(),
                commit: commit.into(),
                planned: 2,
                runs: Vec::new(),
                versions: Vec::new(),
            };
            write(&path, &report).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), report.to_string());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
