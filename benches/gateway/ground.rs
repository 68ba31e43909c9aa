//! Where the benchmarks of the gateway happen: namespaces with a cable between them, and the services of paris.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process,
};

use anyhow::Context as _;
use landbridge_benches::process::pin;
use landbridge_xtask::space::{self, Space};

/// What our namespaces are called: then come the process and a number.
const PREFIX: &str = "lbbench-";
/// The cores that everything shares, gateways and load.
pub(crate) const CORES: [usize; 2] = [0, 1];
/// Where clients find the gateway of their own cluster, and where a gateway finds its pods: the same in every cluster.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
/// A second replica.
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
pub(crate) const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
/// Where gateways of other clusters dial.
pub(crate) const BERLIN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
pub(crate) const PARIS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 12);
/// Pods do without the few ports that are allotted or listened on.
const PORTS: &str = "30000 65000";

/// A service of paris.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    /// Where its pod listens.
    pub(crate) target: u16,
    /// Where berlin's gateway does, or its peer's entry.
    pub(crate) entry: u16,
}

impl Service {
    const fn tcp(name: &'static str, number: u16) -> Self {
        Self { name, protocol: "TCP", target: 8_080 + number, entry: 10_000 + number }
    }

    /// Where a peer's exit listens for it.
    pub(crate) fn exit(&self) -> SocketAddr {
        (PARIS, self.entry + 10_000).into()
    }
}

/// Sends bytes for as long as somebody reads.
pub(crate) const BULK: Service = Service::tcp("bulk", 0);
/// Answers HTTP requests.
pub(crate) const HTTP: Service = Service::tcp("http", 1);
/// Sends back what it gets.
pub(crate) const ECHO: Service = Service::tcp("echo", 2);
/// Writes down what it is asked, and answers with its cluster's name.
pub(crate) const ASK: Service = Service::tcp("ask", 3);
/// Sends back each datagram.
pub(crate) const DATAGRAMS: Service =
    Service { name: "datagrams", protocol: "UDP", target: 8_084, entry: 10_004 };
pub(crate) const SERVICES: [Service; 5] = [BULK, HTTP, ECHO, ASK, DATAGRAMS];

/// Whether namespaces can be made here; this process and all that it starts then stay on [`CORES`].
pub(crate) fn prepare(programs: &[&str]) -> anyhow::Result<()> {
    space::prepare(PREFIX, programs)?;
    pin(process::id(), &CORES).context("this needs two cores")?;
    Ok(())
}

/// A namespace with the addresses that every cluster has, and settings of its own: the same congestion control for all.
pub(crate) fn space() -> anyhow::Result<Space> {
    let own = [GATEWAY, SECOND, POD].map(|address| format!("{address}/32"));
    let space = Space::new(PREFIX, &own.each_ref().map(String::as_str))?;
    let set = |name: &str, value: &str| {
        let write = format!("echo {value} >/proc/sys/net/ipv4/{name}");
        space.exec(&["sh", "-c", &write])
    };
    set("ip_local_port_range", PORTS)?;
    // A kernel may keep the first from namespaces; none that paces is compared with one that does not.
    set("tcp_congestion_control", "cubic").or_else(|_| set("tcp_congestion_control", "reno"))?;
    Ok(space)
}

/// The largest packet that the cable takes: Ethernet's, or with `--jumbo` what the networks of clouds carry.
pub(crate) fn mtu() -> u16 {
    if std::env::args().any(|arg| arg == "--jumbo") { 9_000 } else { 1_500 }
}

/// A namespace with a switch.
pub(crate) fn switch() -> anyhow::Result<Space> {
    Ok(Space::switch(PREFIX)?)
}

/// Two namespaces, joined by one cable.
pub(crate) struct Ground {
    pub(crate) berlin: Space,
    pub(crate) paris: Space,
    pub(crate) folder: Folder,
}

impl Ground {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (berlin, paris) = (space()?, space()?);
        berlin.cable(("wan", &format!("{BERLIN}/24")), &paris, "wan")?;
        paris.ip(&["address", "add", &format!("{PARIS}/24"), "dev", "wan"])?;
        for side in [&berlin, &paris] {
            side.ip(&["link", "set", "wan", "mtu", &mtu().to_string()])?;
        }
        Ok(Self { berlin, paris, folder: Folder::new()? })
    }
}

/// A folder for certificates, settings and logs, which goes with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("landbridge-bench-{}", process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Logs tell why something has failed.
        if !std::thread::panicking() && std::env::var_os("LANDBRIDGE_BENCH_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
