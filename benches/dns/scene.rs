//! The services that all servers answer for: as objects of a real API, and as a zone file with the same names.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use kube::api::{Patch, PatchParams};
use landbridge_benches::report::Report;
use landbridge_xtask::apiserver;
use serde_json::{Value, json};

use crate::world::{
    self,
    real::{Cluster, IMPORT},
};

/// What is answered for.
pub(crate) const ZONE: &str = "clusterset.local";
/// Where all services are.
const NAMESPACE: &str = "shop";
/// Endpoints of a headless service, as the answer holds them.
pub(crate) const ENDPOINTS: usize = 3;
/// One headless service for so many others.
const HEADLESS_ONE_IN: usize = 10;
/// Addresses of services, of pods, and those that services change to: what they are has no meaning.
const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const PODS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
const CHANGED: Ipv4Addr = Ipv4Addr::new(10, 192, 0, 0);

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The address of a service.
    A,
    /// An address that a name does not have.
    NoData,
    /// A named port.
    Srv,
    /// The addresses of a headless service.
    Headless,
    /// A name that is not there.
    NxDomain,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::A, Self::NoData, Self::Srv, Self::Headless, Self::NxDomain];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::NoData => "NODATA",
            Self::Srv => "SRV",
            Self::Headless => "headless of 3",
            Self::NxDomain => "NXDOMAIN",
        }
    }

    /// The name that is asked for, by the number of a service, and the type as text and number.
    pub(crate) fn question(self, number: usize) -> (String, (&'static str, u16)) {
        let (a, aaaa, srv) = (("A", 1), ("AAAA", 28), ("SRV", 33));
        match self {
            Self::A => (service(number), a),
            Self::NoData => (service(number), aaaa),
            Self::Srv => (format!("_http._tcp.{}", service(number)), srv),
            Self::Headless => (below(&format!("db-{}", number / HEADLESS_ONE_IN)), a),
            Self::NxDomain => (below(&format!("none-{number}")), a),
        }
    }

    /// The response code and the number of records that every good server gives.
    pub(crate) fn expected(self) -> (u8, u8) {
        match self {
            Self::A | Self::Srv => (0, 1),
            Self::NoData => (0, 0),
            Self::Headless => (0, 3),
            Self::NxDomain => (3, 0),
        }
    }

    /// Questions for each of so many services as the load generator reads them, in an order that no cache likes.
    pub(crate) fn questions(self, services: usize) -> String {
        let mut text = String::new();
        for step in 0..services {
            // A step that has no divisor with the number of services visits all of them.
            let (name, (record_type, _)) = self.question(step * 7_919 % services);
            let _ = writeln!(text, "{name} {record_type}");
        }
        text
    }
}

/// The name of a ClusterSetIP service.
pub(crate) fn service(number: usize) -> String {
    below(&format!("web-{number}"))
}

fn below(name: &str) -> String {
    format!("{name}.{NAMESPACE}.svc.{ZONE}")
}

fn nth(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits() + u32::try_from(number).unwrap_or(0))
}

/// The address that a service has from the beginning.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    nth(SERVICES, number)
}

/// One that none has from the beginning.
pub(crate) fn changed(number: usize) -> Ipv4Addr {
    nth(CHANGED, number)
}

/// The import of a ClusterSetIP service.
pub(crate) fn import(number: usize) -> Value {
    json!({
        "apiVersion": IMPORT.0, "kind": IMPORT.1,
        "metadata": {"namespace": NAMESPACE, "name": format!("web-{number}")},
        "spec": {
            "type": "ClusterSetIP", "ips": [address(number)], "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        },
    })
}

/// The import of a headless service.
pub(crate) fn headless(number: usize) -> Value {
    json!({
        "apiVersion": IMPORT.0, "kind": IMPORT.1,
        "metadata": {"namespace": NAMESPACE, "name": format!("db-{number}")},
        "spec": {
            "type": "Headless", "ipFamilies": ["IPv4"],
            "ports": [{"name": "pg", "protocol": "TCP", "port": 5432}],
        },
    })
}

/// The slice with the endpoints of a service.
pub(crate) fn slice(service: &str, number: usize, endpoints: usize) -> Value {
    let name = format!("{service}-{number}");
    let pods: Vec<Value> = (0..endpoints)
        .map(|pod| {
            json!({
                "addresses": [nth(PODS, number * endpoints + pod)],
                "conditions": {"ready": true}, "hostname": format!("{service}-{pod}"),
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": NAMESPACE, "name": format!("{name}-paris-v4"), "labels": {
            "multicluster.kubernetes.io/service-name": name,
            "multicluster.kubernetes.io/source-cluster": "paris",
            "endpointslice.kubernetes.io/managed-by": "landbridge.dev",
        }},
        "addressType": "IPv4", "ports": [{"name": "pg", "protocol": "TCP", "port": 6432}],
        "endpoints": pods,
    })
}

/// A real API server and what it holds.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// With a namespace and these objects in it.
    pub(crate) async fn with(name: &'static str, objects: Vec<Value>) -> anyhow::Result<Self> {
        let cluster = Cluster::start(name).await?;
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, cluster.server.kubeconfig())?;
        cluster.create(world::namespace(NAMESPACE)).await?;
        cluster.create_all(objects).await?;
        Ok(Self { cluster, kubeconfig, _folder: folder })
    }

    /// With so many services, and headless ones beside them.
    pub(crate) async fn filled(services: usize) -> anyhow::Result<Self> {
        let mut objects: Vec<Value> = (0..services).map(import).collect();
        for number in 0..services / HEADLESS_ONE_IN {
            objects.extend([headless(number), slice("db", number, ENDPOINTS)]);
        }
        Self::with("dns", objects).await
    }

    /// By which servers find the API.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Gives a service another address.
    pub(crate) async fn change(&self, number: usize, to: Ipv4Addr) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"ips": [to]}}));
        let name = format!("web-{number}");
        let imports = self.cluster.api(IMPORT, NAMESPACE);
        imports.patch(&name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Has everything listed anew: the API goes away and returns without its history, and with something written that
    /// no watch of imports and slices has heard of.
    pub(crate) async fn forget(&self) -> anyhow::Result<()> {
        self.cluster.create(world::namespace(&format!("beside-{}", moment()))).await?;
        self.cluster.server.stop();
        self.cluster.server.resume().await?;
        Ok(())
    }
}

/// A number that is another each time: the clock's.
pub(crate) fn moment() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_micros()
}

/// Whether there is an API server; it is told to be missing where there is none.
pub(crate) fn is_there(report: &mut Report) -> bool {
    match apiserver::TOOLS.iter().try_for_each(|tool| tool.find().map(drop)) {
        Ok(()) => true,
        Err(missing) => {
            report.missing(&format!("kube-apiserver and etcd: {missing}"));
            false
        }
    }
}

/// The same as [`Scene::filled`] as a zone file.
pub(crate) fn zone_file(services: usize) -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL 5\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A 127.0.0.1\n\
         dns-version 28800 TXT 1.0.0\n"
    );
    for number in 0..services {
        let name = format!("web-{number}.{NAMESPACE}.svc");
        let _ = writeln!(text, "{name} A {}", address(number));
        let _ = writeln!(text, "{name} SRV 0 100 80 {name}");
        let _ = writeln!(text, "_http._tcp.{name} SRV 0 100 80 {name}");
    }
    for number in 0..services / HEADLESS_ONE_IN {
        let name = format!("db-{number}.{NAMESPACE}.svc");
        for pod in 0..ENDPOINTS {
            let (host, ip) =
                (format!("db-{pod}.paris.{name}"), nth(PODS, number * ENDPOINTS + pod));
            let _ = writeln!(text, "{name} A {ip}");
            let _ = writeln!(text, "{host} A {ip}");
            let _ = writeln!(text, "{name} SRV 0 100 6432 {host}");
            let _ = writeln!(text, "_pg._tcp.{name} SRV 0 100 6432 {host}");
        }
    }
    text
}
