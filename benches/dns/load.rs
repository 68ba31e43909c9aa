//! dnsperf, and what it costs a server to answer it.

use std::{fs, io, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use landbridge_benches::process::cpu_of;

use super::{scene::Kind, systems::Running};

/// The load generator.
pub(crate) const DNSPERF: &str = "dnsperf";
/// How many queries are under way at a time: enough that the server never waits, few enough for a socket's buffer.
const UNDER_WAY: &str = "100";
/// How many seconds a query is waited for.
const LOST_AFTER: &str = "2";

/// What a run has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// CPU time of all processes of the server for each query, in microseconds.
    pub(crate) micros: f64,
    /// Queries a second.
    pub(crate) rate: f64,
    /// Queries that were never answered.
    pub(crate) lost: f64,
}

/// Whether there is a load generator.
pub(crate) fn is_there() -> bool {
    Command::new(DNSPERF).arg("-h").output().is_ok()
}

/// Asks a server for all of one kind, over and over for so long; `most` bounds the rate.
pub(crate) fn run(
    server: &Running,
    kind: Kind,
    services: usize,
    time: Duration,
    most: Option<f64>,
) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir()?;
    let questions = folder.path().join("questions");
    fs::write(&questions, kind.questions(services))?;
    let processes = server.processes()?;
    let before = cpu_of(processes.iter().copied())?;
    let said = dnsperf(server.address, &questions.display().to_string(), time, most)?;
    let taken = cpu_of(processes)?.saturating_sub(before);
    let count = |what: &str| -> anyhow::Result<f64> {
        let found = said.lines().find_map(|line| line.trim().strip_prefix(what));
        let number = found.and_then(|rest| rest.split_whitespace().next());
        number.context("dnsperf did not say it")?.parse().with_context(|| what.to_owned())
    };
    let completed = count("Queries completed:")?;
    ensure!(completed > 0.0, "no query was answered:\n{said}");
    let micros = taken.as_secs_f64() * 1e6 / completed;
    Ok(Run { micros, rate: count("Queries per second:")?, lost: count("Queries lost:")? })
}

fn dnsperf(
    address: SocketAddr,
    questions: &str,
    time: Duration,
    most: Option<f64>,
) -> io::Result<String> {
    let mut command = Command::new(DNSPERF);
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let seconds = time.as_secs().max(1).to_string();
    command.args(["-s", &ip, "-p", &port, "-d", questions, "-l", &seconds]);
    command.args(["-q", UNDER_WAY, "-t", LOST_AFTER]);
    if let Some(most) = most {
        command.args(["-Q", &format!("{most:.0}")]);
    }
    let said = command.output()?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
