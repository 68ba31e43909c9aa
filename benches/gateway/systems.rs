//! Who carries calls from berlin to paris: our gateways, and those that others use for it.
//!
//! haproxy and stunnel prove with the same certificates, check those of the other end, and speak TLS 1.3 where both can.
//! Their settings are their defaults but for that.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use landbridge_benches::{
    child::Child,
    process::{cpu_of, pin, proportional},
};
use landbridge_xtask::{programs::crates, space::Space};

use super::{
    ground::{BERLIN, CORES, ECHO, GATEWAY, Ground, PARIS, POD, SERVICES, Service},
    load::{Clients, Order},
    pki::{Pki, text},
    pods::Pods,
    site::{LINK, Site},
    tunnels,
};

pub(crate) const OURS: &str = "landbridge";
pub(crate) const HAPROXY: &str = "haproxy";
pub(crate) const STUNNEL: &str = "stunnel";
pub(crate) const GOTATUN: &str = "gotatun";
pub(crate) const BORINGTUN: &str = "boringtun";
pub(crate) const DIRECT: &str = "direct";
/// It has no settings for two clusters without a control plane of its own kind: whoever has one compares by hand.
pub(crate) const ZTUNNEL: &str = "ztunnel";
/// Whoever carries does so within this time.
const START: Duration = Duration::from_secs(20);

/// The ground with pods in paris and clients in berlin.
pub(crate) struct Scene {
    pub(crate) ground: Ground,
    pub(crate) pki: Pki,
    pub(crate) pods: Pods,
    pub(crate) clients: Clients,
}

impl Scene {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let ground = Ground::new()?;
        let pki = Pki::new(ground.folder.path(), &["berlin", "paris"])?;
        let pods = Pods::start(&ground.paris, "paris")?;
        let clients = Clients::start(&ground.berlin)?;
        Ok(Self { ground, pki, pods, clients })
    }

    /// Starts a system and waits until it carries; none where its program is not there.
    pub(crate) fn start(&mut self, name: &'static str) -> anyhow::Result<Option<System>> {
        let system = match name {
            OURS => self.ours()?,
            DIRECT => System { name, processes: Vec::new(), sites: Vec::new() },
            HAPROXY | STUNNEL => {
                let Some(program) = on_the_path(name) else {
                    return Ok(None);
                };
                let start = |space, cluster| self.peer(name, Path::new(&program), space, cluster);
                let both =
                    [start(&self.ground.berlin, "berlin")?, start(&self.ground.paris, "paris")?];
                System { name, processes: both.into(), sites: Vec::new() }
            }
            GOTATUN | BORINGTUN => {
                let program = if name == GOTATUN { crates::GOTATUN } else { crates::BORINGTUN };
                let Some(processes) = tunnels::start(&self.ground, program)? else {
                    return Ok(None);
                };
                System { name, processes, sites: Vec::new() }
            }
            _ => return Ok(None),
        };
        self.wait(&system)?;
        Ok(Some(system))
    }

    fn ours(&self) -> anyhow::Result<System> {
        let Ground { berlin, paris, folder } = &self.ground;
        let near = Site::start("berlin", berlin, folder, &self.pki)?;
        let far = Site::start("paris", paris, folder, &self.pki)?;
        let link = |address| SocketAddr::from((address, LINK));
        near.knows("paris", &[link(PARIS)])?;
        far.knows("berlin", &[link(BERLIN)])?;
        far.exports()?;
        near.imports(&["paris"])?;
        let processes = vec![
            near.gateway(berlin, "gw-0", GATEWAY, link(BERLIN), false)?,
            far.gateway(paris, "gw-0", GATEWAY, link(PARIS), false)?,
        ];
        Ok(System { name: OURS, processes, sites: vec![near, far] })
    }

    /// A peer's entry in berlin, or its exit in paris.
    fn peer(
        &self,
        name: &str,
        program: &Path,
        space: &Space,
        cluster: &str,
    ) -> anyhow::Result<Child> {
        let (bundle, root) = self.pki.bundle(cluster)?;
        let folder = self.ground.folder.path();
        let file = folder.join(format!("{name}-{cluster}.cfg"));
        let is_entry = cluster == "berlin";
        let (settings, options): (_, &[&str]) = match name {
            HAPROXY => (haproxy(&bundle, &root, is_entry)?, &["-db", "-f"]),
            _ => (stunnel(&bundle, &root, is_entry)?, &[]),
        };
        fs::write(&file, settings)?;
        let log = File::create(file.with_extension("log"))?;
        let mut command = space.command(program);
        Ok(Child::start(command.args(options).arg(&file).stderr(log))?)
    }

    /// Waits until calls come through.
    fn wait(&mut self, system: &System) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let order = Order::Hold { at: system.at(&ECHO), connections: 1 };
            match self.clients.carry_out::<usize>(&order) {
                Ok(_) => break,
                Err(error) if begun.elapsed() > START => {
                    let logs = text(self.ground.folder.path());
                    return Err(error.context(format!("{} carries nothing: {logs}", system.name)));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        let _: usize = self.clients.carry_out(&Order::Release)?;
        Ok(())
    }
}

/// What carries calls.
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) processes: Vec<Child>,
    sites: Vec<Site>,
}

impl System {
    /// Where clients find a service.
    pub(crate) fn at(&self, service: &Service) -> SocketAddr {
        match self.name {
            DIRECT => (PARIS, service.target).into(),
            GOTATUN | BORINGTUN => (tunnels::INSIDE, service.target).into(),
            _ => (GATEWAY, service.entry).into(),
        }
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Child::id)
    }

    /// CPU seconds of both ends together.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(cpu_of(self.pids())?.as_secs_f64())
    }

    /// Bytes that both ends hold.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let held: std::io::Result<Vec<u64>> = self.pids().map(proportional).collect();
        Ok(held?.into_iter().sum::<u64>() as f64)
    }

    /// Puts it and its load on the first core alone, or on all that are shared again.
    pub(crate) fn confine(&self, scene: &Scene, alone: bool) -> anyhow::Result<()> {
        let cores = if alone { &CORES[..1] } else { &CORES };
        for pid in self.pids().chain([scene.pods.id(), scene.clients.id()]) {
            pin(pid, cores)?;
        }
        Ok(())
    }
}

fn haproxy(bundle: &Path, root: &Path, is_entry: bool) -> anyhow::Result<String> {
    let tls = format!("ssl crt {} ca-file {} verify required", text(bundle), text(root));
    let mut settings = format!(
        "global\n  maxconn 8000\n  nbthread {}\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\n",
        CORES.len()
    );
    for service in SERVICES.iter().filter(|service| service.protocol == "TCP") {
        let (name, entry, exit) = (service.name, service.entry, service.exit());
        if is_entry {
            write!(
                settings,
                "listen {name}\n  bind {GATEWAY}:{entry}\n  server far {exit} {tls}\n"
            )?;
        } else {
            let target = service.target;
            write!(settings, "listen {name}\n  bind {exit} {tls}\n  server pod {POD}:{target}\n")?;
        }
    }
    Ok(settings)
}

fn stunnel(bundle: &Path, root: &Path, is_entry: bool) -> anyhow::Result<String> {
    let (bundle, root) = (text(bundle), text(root));
    let mut settings = format!(
        "foreground = yes\npid =\ndebug = err\ncert = {bundle}\nCAfile = {root}\nverifyChain = yes\n"
    );
    for service in SERVICES.iter().filter(|service| service.protocol == "TCP") {
        let (name, entry, exit) = (service.name, service.entry, service.exit());
        let (client, accept, connect) = if is_entry {
            ("yes", format!("{GATEWAY}:{entry}"), exit.to_string())
        } else {
            ("no", exit.to_string(), format!("{POD}:{}", service.target))
        };
        write!(settings, "[{name}]\nclient = {client}\naccept = {accept}\nconnect = {connect}\n")?;
    }
    Ok(settings)
}

/// Where a program is that is not ours.
pub(crate) fn on_the_path(name: &str) -> Option<std::path::PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}
