//! The servers: how each is started, and when it answers for every service.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use landbridge_benches::{child::Child, process};
use landbridge_xtask::{apiserver::CONTEXT, programs};

use super::{
    ask::{Answer, Asker},
    roles::{HICKORY, OURS, REFLECTOR},
    scene::{self, Kind, Scene, ZONE},
};

/// How long a server may take to read everything.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long to wait before asking a server again that does not answer yet.
const ASKED: Duration = Duration::from_millis(50);
/// The core that servers have to themselves.
const SERVER_CORE: usize = 0;

/// A server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum System {
    CoreDns,
    Hickory,
    Knot,
    Nsd,
    Ours,
    Reflector,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CoreDns => "CoreDNS",
            Self::Hickory => HICKORY,
            Self::Knot => "Knot",
            Self::Nsd => "NSD",
            Self::Ours => OURS,
            Self::Reflector => REFLECTOR,
        }
    }

    /// Where it listens.
    fn place(self) -> SocketAddr {
        (Ipv4Addr::new(127, 60, 0, 10 + self as u8), 5_300).into()
    }
}

/// A server that answers.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Running {
    /// All of its processes.
    pub(crate) fn processes(&self) -> io::Result<Vec<u32>> {
        process::family(self.child.id())
    }

    /// Waits until it has so many addresses of a name.
    pub(crate) fn await_records(&self, name: &str, records: u8) -> anyhow::Result<()> {
        self.await_answer(name, |answer| answer.records == records)
    }

    /// Waits until it says of a name what is looked for.
    pub(crate) fn await_answer(
        &self,
        name: &str,
        good: impl Fn(Answer) -> bool,
    ) -> anyhow::Result<()> {
        let (mut asker, began) = (Asker::new(self.address)?, Instant::now());
        while !asker.ask(name, 1)?.is_some_and(&good) {
            ensure!(began.elapsed() < PATIENCE, "{name} is not answered within {PATIENCE:?}");
            std::thread::sleep(ASKED);
        }
        Ok(())
    }
}

/// Keeps this process, and with it the load generator and the API, off the core that servers have.
pub(crate) fn leave_the_servers_core() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let others: Vec<usize> = (0..cores).filter(|core| *core != SERVER_CORE).collect();
    if others.is_empty() {
        bail!("a server and the load each need a core of their own: this machine has one");
    }
    Ok(process::pin(std::process::id(), &others)?)
}

/// Starts a server and waits until it answers for so many services; none where its program is not there.
pub(crate) fn start(
    system: System,
    scene: &Scene,
    services: usize,
) -> anyhow::Result<Option<Running>> {
    let started = launch(system, scene, services)?;
    if let Some(server) = started.as_ref().filter(|_| system != System::Reflector) {
        // Lists come in the order of names.
        let last = (0..services).max_by_key(ToString::to_string).unwrap_or(0);
        server.await_records(&scene::service(last), 1)?;
        answers_all(server.address, services).with_context(|| system.name())?;
    }
    Ok(started)
}

/// Starts a server, which may have no answer yet.
pub(crate) fn launch(
    system: System,
    scene: &Scene,
    services: usize,
) -> anyhow::Result<Option<Running>> {
    let folder = tempfile::tempdir()?;
    let address = system.place();
    is_free(address).with_context(|| system.name())?;
    let own = |file: &Path| -> anyhow::Result<Option<Child>> {
        let role = [system.name(), &address.to_string(), &file.display().to_string()];
        let mut child = Child::own(&role)?;
        child.line()?;
        Ok(Some(child))
    };
    let child = match system {
        System::CoreDns => coredns(folder.path(), address, scene)?,
        System::Hickory => own(&zone(folder.path(), services)?)?,
        System::Knot => run(&mut knot(folder.path(), address, services)?)?,
        System::Nsd => run(&mut nsd(folder.path(), address, services)?)?,
        System::Ours => own(scene.kubeconfig())?,
        System::Reflector => own(Path::new("none"))?,
    };
    let Some(child) = child else {
        return Ok(None);
    };
    // What it starts later is pinned as it is.
    for process in process::family(child.id())? {
        process::pin(process, &[SERVER_CORE])?;
    }
    Ok(Some(Running { address, child, _folder: folder }))
}

/// A server that a killed benchmark has left would answer in place of the one that is measured, which then costs nothing.
fn is_free(address: SocketAddr) -> anyhow::Result<()> {
    UdpSocket::bind(address).map(drop).with_context(|| {
        format!("{address} is taken, by a server of a run that was killed: end it")
    })
}

fn run(command: &mut Command) -> io::Result<Option<Child>> {
    match Child::start(command.stderr(Stdio::null())) {
        Ok(child) => Ok(Some(child)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn zone(folder: &Path, services: usize) -> io::Result<PathBuf> {
    let zone = folder.join("zone");
    fs::write(&zone, scene::zone_file(services))?;
    Ok(zone)
}

/// One server process, without the limit on answers that Debian's sets, and without what it adds to answers.
fn nsd(folder: &Path, address: SocketAddr, services: usize) -> io::Result<Command> {
    let (zone, at) = (zone(folder, services)?, folder.display());
    let config = folder.join("nsd.conf");
    let (ip, port, zone) = (address.ip(), address.port(), zone.display());
    fs::write(
        &config,
        format!(
            "server:\n  server-count: 1\n  ip-address: {ip}\n  port: {port}\n  username: \"\"\n  zonesdir: \"{at}\"\n  \
             pidfile: \"\"\n  xfrdfile: \"{at}/xfrd\"\n  zonelistfile: \"{at}/zones\"\n  logfile: \"{at}/log\"\n  \
             rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  minimal-responses: yes\n  \
             hide-version: yes\nremote-control:\n  control-enable: no\nzone:\n  name: {ZONE}\n  zonefile: \"{zone}\"\n"
        ),
    )?;
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(config);
    Ok(command)
}

/// One thread for UDP.
fn knot(folder: &Path, address: SocketAddr, services: usize) -> io::Result<Command> {
    let (zone, at) = (zone(folder, services)?, folder.display());
    let config = folder.join("knot.conf");
    fs::write(
        &config,
        format!(
            "server:\n  listen: {}@{}\n  rundir: \"{at}\"\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             log:\n  - target: stderr\n    any: error\ndatabase:\n  storage: \"{at}\"\nzone:\n  - domain: {ZONE}\n    \
             file: \"{}\"\n    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n",
            address.ip(),
            address.port(),
            zone.display()
        ),
    )?;
    let mut command = Command::new("knotd");
    command.arg("-c").arg(config);
    Ok(command)
}

/// Its own plugin for Kubernetes has had the zone of the set since 1.12.2. It reads the same API as ours, and runs on as
/// many cores. None where there is no Go to build it with.
fn coredns(folder: &Path, address: SocketAddr, scene: &Scene) -> anyhow::Result<Option<Child>> {
    let Ok(program) = programs::COREDNS.find() else {
        return Ok(None);
    };
    let config = folder.join("Corefile");
    fs::write(
        &config,
        format!(
            "{ZONE}:{} {{\n  bind {}\n  kubernetes {ZONE} {{\n    kubeconfig {} {CONTEXT}\n    multicluster {ZONE}\n  }}\n}}\n",
            address.port(),
            address.ip(),
            scene.kubeconfig().display(),
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-conf").arg(config).arg("-quiet").env("GOMAXPROCS", "1").stderr(Stdio::null());
    Ok(Some(Child::start(&mut command)?))
}

/// Every server answers for the same services: all of them by address, and one in each other way.
fn answers_all(address: SocketAddr, services: usize) -> anyhow::Result<()> {
    let mut asker = Asker::new(address)?;
    let began = Instant::now();
    for number in 0..services {
        let name = scene::service(number);
        // Others than ours may begin before they have read everything, or change what they have one by one.
        loop {
            let answer = asker.ask(&name, 1)?;
            if answer.is_some_and(|answer| {
                answer.code == 0 && answer.records == 1 && answer.last[0] == 10
            }) {
                break;
            }
            ensure!(began.elapsed() < PATIENCE, "{name} is answered with {answer:?}");
        }
    }
    for kind in Kind::ALL {
        let (name, (_, record_type)) = kind.question(services - 1);
        let answer = asker.ask(&name, record_type)?.with_context(|| name.clone())?;
        ensure!(
            (answer.code, answer.records) == kind.expected(),
            "{name} is answered with {answer:?}"
        );
    }
    Ok(())
}
