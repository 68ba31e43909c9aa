//! A cluster in a namespace: an embedded API, the objects in it, and gateways that watch it.
//!
//! What its controller would write is written here: benchmarks of the gateway do without one.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use landbridge_api::wellknown::{
    GATEWAYS, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, SERVICE_NAME, SOURCE_CLUSTER,
};
use landbridge_benches::child::Child;
use landbridge_embedded::{Cluster, ClusterConfig, Store};
use landbridge_model::{ServiceKey, derived};
use landbridge_xtask::space::Space;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    ground::{Folder, GATEWAY, POD, SERVICES, Service},
    pki::{Pki, program, text},
};

/// Where gateways are dialled.
pub(crate) const LINK: u16 = 4433;
const NAMESPACE: &str = "shop";
/// The port of every service.
const PORT: u16 = 80;
/// An API is there within this time.
const START: Duration = Duration::from_secs(20);

/// A cluster that runs, in a namespace that somebody else keeps.
pub(crate) struct Site {
    /// Where its API is, in its namespace.
    pub(crate) api: SocketAddr,
    pub(crate) store: Store,
    name: &'static str,
    folder: PathBuf,
    pki: Pki,
    stop: CancellationToken,
    running: Option<thread::JoinHandle<std::io::Result<anyhow::Result<()>>>>,
}

impl Site {
    pub(crate) fn start(
        name: &'static str,
        space: &Space,
        folder: &Folder,
        pki: &Pki,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (tell, told) = mpsc::channel();
        let until = stop.clone();
        let running = space.start(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let cluster = Cluster::start(ClusterConfig {
                    name: name.into(),
                    listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                    service_range_v4: "10.96.0.0/16".parse()?,
                    service_range_v6: None,
                    crds: landbridge_api::crds::all(),
                })
                .await?;
                tell.send((cluster.address(), cluster.store().clone()))?;
                until.cancelled().await;
                cluster.stop().await;
                Ok(())
            })
        })?;
        let (address, store) = told.recv_timeout(START).context("an embedded API")?;
        let folder = folder.path().join(name);
        fs::create_dir_all(&folder)?;
        let running = Some(running);
        let site = Self { api: address, store, name, folder, pki: pki.clone(), stop, running };
        site.kubeconfig("kubeconfig", address)?;
        site.create(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        )?;
        Ok(site)
    }

    pub(crate) fn create(&self, object: Value) -> anyhow::Result<()> {
        self.store.create(object)?;
        Ok(())
    }

    /// How programs reach its API at `address`, as a file.
    pub(crate) fn kubeconfig(&self, name: &str, address: SocketAddr) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: own\n\
             clusters: [{{name: own, cluster: {{server: \"http://{address}\"}}}}]\n\
             users: [{{name: own, user: {{}}}}]\n\
             contexts: [{{name: own, context: {{cluster: own, user: own}}}}]\n"
        );
        fs::write(&path, kubeconfig)?;
        Ok(text(&path))
    }

    /// A component of this cluster as a process, with what all of them are told. `space` is the cluster's.
    pub(crate) fn component(
        &self,
        space: &Space,
        component: &str,
        name: &str,
        arguments: &[String],
    ) -> anyhow::Result<Child> {
        let path = self.folder.join(format!("{component}-{name}.log"));
        let log = File::options().create(true).append(true).open(path)?;
        let mut command = space.command(&program()?);
        command
            .args([component, "--cluster", self.name, "--cluster-set", "demo", "--name", name])
            .arg(format!("--kubeconfig={}", text(&self.folder.join("kubeconfig"))))
            .args(arguments)
            .stderr(log);
        Ok(Child::start(&mut command)?)
    }

    /// A gateway of this cluster as a process; one that registers itself is told to controllers.
    pub(crate) fn gateway(
        &self,
        space: &Space,
        name: &str,
        listen: Ipv4Addr,
        link: SocketAddr,
        register: bool,
    ) -> anyhow::Result<Child> {
        let member = self.pki.member(self.name);
        let file = |option: &str, name: &str| format!("--{option}={}", text(&member.join(name)));
        let arguments = [
            format!("--listen={listen}"),
            format!("--link-listen={link}"),
            file("member-cert", "member.pem"),
            file("member-key", "member-key.pem"),
            file("tls-ca", "root.pem"),
            format!("--register={register}"),
        ];
        self.component(space, "gateway", name, &arguments)
    }

    /// Lists a member that is dialled at `addresses`.
    pub(crate) fn knows(&self, cluster: &str, addresses: &[SocketAddr]) -> anyhow::Result<()> {
        let gateways: Vec<Value> =
            addresses.iter().map(|address| json!({"address": address.to_string()})).collect();
        self.create(json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": cluster},
            "spec": {"generation": 1, "network": cluster, "gateways": gateways}}))
    }

    /// Exports every service.
    pub(crate) fn exports(&self) -> anyhow::Result<()> {
        let all = SERVICES.iter();
        all.map(|service| (service.name, service))
            .try_for_each(|(name, own)| self.export(name, own))
    }

    /// Exports a service, under this name.
    pub(crate) fn export(&self, name: &str, service: &Service) -> anyhow::Result<()> {
        let Service { protocol, target, .. } = service;
        let named = json!({"namespace": NAMESPACE, "name": name});
        self.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": named,
            "spec": {"selector": {"app": name},
                "ports": [{"name": "own", "protocol": protocol, "port": PORT, "targetPort": target}]}}))?;
        self.create(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": NAMESPACE, "name": format!("{name}-x7k2p"),
                "labels": {KUBE_SERVICE_NAME: name}},
            "ports": [{"name": "own", "protocol": protocol, "port": target}],
            "endpoints": [{"addresses": [POD.to_string()], "conditions": {"ready": true}}]}))?;
        self.create(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": named}))
    }

    /// Imports every service of `clusters`.
    pub(crate) fn imports(&self, clusters: &[&str]) -> anyhow::Result<()> {
        for service in SERVICES {
            self.import(&service, clusters)?;
        }
        Ok(())
    }

    fn import(&self, service: &Service, clusters: &[&str]) -> anyhow::Result<()> {
        let Service { name, protocol, entry, .. } = service;
        let derived = derived::service(&ServiceKey::parse(NAMESPACE, name)?).to_string();
        let gateway = json!([{"addresses": [GATEWAY.to_string()], "conditions": {"ready": true}}]);
        let port = |name: &str| json!([{"name": name, "protocol": protocol, "port": entry}]);
        let derived_port = format!("{}-{PORT}", protocol.to_lowercase());
        self.create(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": NAMESPACE, "name": format!("{derived}-gw-v4"),
                "labels": {KUBE_SERVICE_NAME: derived, MANAGED_BY: LANDBRIDGE},
                "annotations": {IMPORT: name, GATEWAYS: "true"}},
            "ports": port(&derived_port), "endpoints": gateway}))?;
        for cluster in clusters {
            self.create(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"namespace": NAMESPACE, "name": format!("{name}-{cluster}-v4"),
                    "labels": {SERVICE_NAME: name, SOURCE_CLUSTER: cluster, MANAGED_BY: LANDBRIDGE}},
                "ports": port("own"), "endpoints": gateway}))?;
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
