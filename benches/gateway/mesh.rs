//! Two whole members: controllers write what gateways and clients follow, and each has two replicas of its gateway.
//!
//! berlin is the hub. Its clients follow the derived slices as kube-proxy does: a second late at most.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use landbridge_api::wellknown::{GATEWAYS, hub_namespace};
use landbridge_benches::child::Child;
use landbridge_embedded::Store;
use landbridge_model::ClusterId;
use landbridge_xtask::space::Space;
use serde_json::json;

use super::{
    ground::{ASK, BERLIN, GATEWAY, Ground, PARIS, SECOND},
    pki::Pki,
    site::{LINK, Site},
};

/// kube-proxy's minSyncPeriod: what it hears is in force so much later, where it has been busy just before.
const BEHIND: Duration = Duration::from_secs(1);
/// How often it is looked whether something has changed.
const LOOKED: Duration = Duration::from_millis(20);
/// Where the hub's API is reached from outside: an embedded one listens on loopback only.
const HUB: u16 = 6_443;
/// Where a gateway says how it is.
const ADMIN: u16 = 9_403;
const REPLICAS: [(&str, Ipv4Addr, u16); 2] = [("gw-0", GATEWAY, LINK), ("gw-1", SECOND, LINK + 1)];
const START: Duration = Duration::from_secs(120);

/// Both members.
pub(crate) struct Mesh {
    pub(crate) berlin: Member,
    pub(crate) paris: Member,
    pub(crate) entries: PathBuf,
    follows: Arc<AtomicBool>,
}

/// One of them.
pub(crate) struct Member {
    pub(crate) site: Site,
    wan: Ipv4Addr,
    pub(crate) gateways: Vec<Child>,
    _controller: Child,
}

impl Mesh {
    /// Starts everything on `ground`: paris exports so many services, and berlin imports them.
    pub(crate) fn start(ground: &Ground, pki: &Pki, services: usize) -> anyhow::Result<Self> {
        let Ground { berlin, paris, folder } = ground;
        let hub = Site::start("berlin", berlin, folder, pki)?;
        let far = Site::start("paris", paris, folder, pki)?;
        for id in ["berlin", "paris"] {
            let namespace = hub_namespace(&ClusterId::parse(id)?);
            hub.create(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            )?;
            hub.create(json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Member", "metadata": {"name": id},
                "spec": {"generation": 1, "network": id}}))?;
        }
        for site in [&hub, &far] {
            let name = "landbridge-system";
            site.create(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            )?;
        }
        for number in 0..services {
            far.export(&format!("web-{number}"), &ASK)?;
        }
        let door = SocketAddr::from((BERLIN, HUB));
        open(berlin, door, hub.api)?;
        let reach = format!("--hub-kubeconfig={}", hub.kubeconfig("hub-kubeconfig", door)?);
        let near = Member::start(hub, berlin, BERLIN, None)?;
        let far = Member::start(far, paris, PARIS, Some(reach))?;
        let entries = folder.path().join("entries");
        let follows = Arc::new(AtomicBool::new(true));
        follow(near.site.store.clone(), entries.clone(), Arc::clone(&follows));
        let mesh = Self { berlin: near, paris: far, entries, follows };
        mesh.settle(services)?;
        Ok(mesh)
    }

    /// Waits until every service is called at both replicas.
    fn settle(&self, services: usize) -> anyhow::Result<()> {
        let (begun, wanted) = (Instant::now(), services * REPLICAS.len());
        let known = || fs::read_to_string(&self.entries).map_or(0, |text| text.lines().count());
        while known() < wanted {
            ensure!(begun.elapsed() < START, "{} of {wanted} entries are there", known());
            thread::sleep(LOOKED);
        }
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.follows.store(false, Ordering::Relaxed);
    }
}

impl Member {
    fn start(
        site: Site,
        space: &Space,
        wan: Ipv4Addr,
        hub: Option<String>,
    ) -> anyhow::Result<Self> {
        let advertise = REPLICAS.map(|(_, _, port)| format!("--advertise={wan}:{port}"));
        let arguments: Vec<String> = advertise.into_iter().chain(hub).collect();
        let controller = site.component(space, "controller", "one", &arguments)?;
        let mut member = Self { site, wan, gateways: Vec::new(), _controller: controller };
        for replica in 0..REPLICAS.len() {
            let gateway = member.gateway(space, replica)?;
            member.gateways.push(gateway);
        }
        Ok(member)
    }

    fn gateway(&self, space: &Space, replica: usize) -> anyhow::Result<Child> {
        let (name, listen, port) = REPLICAS[replica];
        self.site.gateway(space, name, listen, (self.wan, port).into(), true)
    }

    /// Restarts a replica as Kubernetes does, and waits until it is ready.
    pub(crate) fn restart(&mut self, space: &Space, replica: usize) -> anyhow::Result<()> {
        let gateway = &mut self.gateways[replica];
        let done = Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status()?;
        ensure!(done.success(), "a gateway has ended by itself");
        let status = gateway.ended()?;
        ensure!(status.success(), "a gateway that was told to end: {status}");
        self.gateways[replica] = self.gateway(space, replica)?;
        let (begun, admin) = (Instant::now(), SocketAddr::from((REPLICAS[replica].1, ADMIN)));
        while !is_ready(space, admin)? {
            ensure!(begun.elapsed() < START, "a gateway is never ready");
            thread::sleep(LOOKED);
        }
        Ok(())
    }

    /// How many writes its API has taken.
    pub(crate) fn writes(&self) -> anyhow::Result<u64> {
        Ok(self.site.store.list(("v1", "Namespace"), None)?.version)
    }
}

/// Lets connections in at `door`, in the namespace `space`, and on to `to`.
fn open(space: &Space, door: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let opened = space.start(move || -> io::Result<()> {
        let listener = TcpListener::bind(door)?;
        // Threads stay in the namespace of the one that starts them.
        thread::spawn(move || {
            for outer in listener.incoming().map_while(Result::ok) {
                // Who is not let in tries again.
                let _ = TcpStream::connect(to).and_then(|inner| join(outer, inner));
            }
        });
        Ok(())
    })?;
    opened.join().map_err(|_| anyhow::anyhow!("a door has panicked"))???;
    Ok(())
}

fn join(outer: TcpStream, inner: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(outer.try_clone()?, inner.try_clone()?), (inner, outer)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

fn is_ready(space: &Space, admin: SocketAddr) -> anyhow::Result<bool> {
    let asked = space.start(move || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let answer = asked.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))??;
    Ok(answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
}

/// Writes down where clients are sent, whenever that has changed, and as late as kube-proxy would be.
fn follow(store: Store, file: PathBuf, follows: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut known = String::new();
        while follows.load(Ordering::Relaxed) {
            let now = entries(&store);
            if now != known {
                thread::sleep(if known.is_empty() { Duration::ZERO } else { BEHIND });
                known = entries(&store);
                let half = file.with_extension("half");
                // Where the folder is gone, so are the clients.
                let _ = fs::write(&half, &known).and_then(|()| fs::rename(&half, &file));
            }
            thread::sleep(LOOKED);
        }
    });
}

/// Every endpoint of every derived slice that kube-proxy would use, at the first port.
fn entries(store: &Store) -> String {
    let Ok(listing) = store.list(("discovery.k8s.io/v1", "EndpointSlice"), None) else {
        return String::new();
    };
    let mut lines = Vec::new();
    for slice in listing.items {
        if slice["metadata"]["annotations"][GATEWAYS] != "true" {
            continue;
        }
        let Some(port) = slice["ports"][0]["port"].as_u64() else { continue };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let addresses = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str());
        lines.extend(addresses.map(|address| format!("{address}:{port}\n")));
    }
    lines.sort();
    lines.concat()
}
