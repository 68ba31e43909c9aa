//! One cluster of the demo: an embedded Kubernetes API and service proxy, and Landbridge's real components on it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::Context;
use ipnet::Ipv4Net;
use kube::{Client, config::Kubeconfig};
use landbridge_api::wellknown::{
    CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY, SYSTEM_NAMESPACE, hub_namespace,
};
use landbridge_controller::Controller;
use landbridge_dns::DnsServer;
use landbridge_embedded::{Cluster, ClusterConfig, StartError, proxy::Proxy};
use landbridge_gateway::{Gateway, Register, pki};
use landbridge_model::{
    ClusterId, ClusterSetId, GatewayAddress, Hostname, Namespace, NetworkName, Timestamp,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{
    caller::Caller,
    echo::{Arrivals, Echo},
    layout::{Layout, Place},
    tasks::Tasks,
    wan::Wan,
    workload::Workload,
};
use crate::{
    admin::{self, Admin},
    exit::address_taken,
    kubernetes,
};

/// The set's name in the demo.
const SET: &str = "demo";

/// The address of the calling pod, the last number of it.
const CALLER_POD: u8 = 100;

/// ClusterIPs of the hub. Nothing there uses one.
const HUB_SERVICES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24);

/// The hub, and what members get from it when they join.
pub(super) struct Hub {
    cluster: Cluster,
    set: ClusterSetId,
    root: pki::Root,
}

/// One cluster, running.
pub(super) struct Site {
    /// Where it lives.
    pub(super) place: Place,
    cluster: Cluster,
    proxy: Proxy,
    /// A client of it.
    pub(super) client: Client,
    /// Its calling pod.
    pub(super) caller: Caller,
    /// The kubeconfig file for people.
    pub(super) kubeconfig: PathBuf,
}

impl Hub {
    /// Starts the hub with a place for each member, as joining would make it.
    pub(super) async fn start(layout: Layout, places: &[Place]) -> anyhow::Result<Self> {
        let cluster = start_api("hub", layout.hub(), HUB_SERVICES).await?;
        for place in places {
            let store = cluster.store();
            store.create(namespace(&hub_namespace(&place.name)))?;
            store.create(json!({
                "apiVersion": "landbridge.dev/v1alpha1",
                "kind": "Member",
                "metadata": {"name": place.name.as_str()},
                "spec": {"generation": 1, "network": place.name.as_str()},
            }))?;
        }
        let set = ClusterSetId::parse(SET)?;
        let root = pki::Root::generate(&set, now())?;
        Ok(Self { cluster, set, root })
    }

    /// The hub's API.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The hub's API, to be stopped.
    pub(super) fn into_cluster(self) -> Cluster {
        self.cluster
    }

    /// The identity that a member's gateway gets.
    fn identity(&self, cluster: &ClusterId) -> anyhow::Result<pki::Identity> {
        let now = now();
        let member = self.root.issue_member(cluster, now)?;
        let leaf = member.issue_gateway(1, &gateway_name()?, now)?;
        Ok(pki::Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &self.root.cert_pem())?)
    }

    /// A client of the hub that goes over a member's end of the wide area network.
    async fn client(&self, place: &Place) -> anyhow::Result<Client> {
        let kubeconfig = self.cluster.kubeconfig();
        let (direct, relayed) = (self.cluster.address().to_string(), place.to_hub().to_string());
        client(&kubeconfig.replace(&direct, &relayed)).await
    }
}

/// The wall clock, for the validity of certificates.
fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

fn gateway_name() -> anyhow::Result<Hostname> {
    Ok(Hostname::parse("gw-0")?)
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

async fn start_api(name: &str, listen: SocketAddr, services: Ipv4Net) -> anyhow::Result<Cluster> {
    let config = ClusterConfig {
        name: name.to_owned(),
        listen,
        service_range_v4: services,
        service_range_v6: None,
        crds: landbridge_api::crds::all(),
    };
    Cluster::start(config).await.map_err(|error| match error {
        StartError::Bind { address, source } => address_taken(address, &source),
        other => other.into(),
    })
}

async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    kubernetes::client_from(Kubeconfig::from_yaml(kubeconfig)?, None).await
}

impl Site {
    /// Starts a cluster with everything in it; its tasks go to `tasks`, its kubeconfig into `folder`.
    pub(super) async fn start(
        place: Place,
        hub: &Hub,
        wan: &Wan,
        folder: &Path,
        tasks: &mut Tasks,
    ) -> anyhow::Result<Self> {
        let name = place.name.clone();
        let cluster = start_api(name.as_str(), place.api(), place.services()).await?;
        let kubeconfig = folder.join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, cluster.kubeconfig())?;
        let client = client(&cluster.kubeconfig()).await?;
        prepare(&cluster, &place, &hub.set)?;

        let end = wan.connect(&place, hub.cluster.address()).await;
        let end = end.map_err(|(address, error)| address_taken(address, &error))?;
        tasks.spawn(format!("{name}/wan"), |shutdown| async move {
            end.run(shutdown).await;
            Ok(())
        });
        let proxy = Proxy::start(name.as_str(), cluster.store())?;
        start_gateway(&place, hub, client.clone(), tasks).await?;
        start_controller(&place, hub, client.clone(), tasks).await?;
        start_dns(&place, client.clone(), tasks).await?;
        let caller = Caller::new(
            place.pod(CALLER_POD),
            place.dns(),
            Arc::new(AtomicU64::new(first_id(&place))),
        )?;
        Ok(Self { place, cluster, proxy, client, caller, kubeconfig })
    }

    /// Stops what is not a task: the service proxy and the API.
    pub(super) async fn stop(self) {
        self.proxy.stop().await;
        self.cluster.stop().await;
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.place.name.as_str()
    }

    /// The address of its calling pod, from which people can call too.
    pub(super) fn caller_address(&self) -> Ipv4Addr {
        self.place.pod(CALLER_POD)
    }

    /// Creates a workload's Service, and echo pods behind it.
    pub(super) async fn deploy(
        &self,
        workload: &Workload,
        arrivals: &Arrivals,
        tasks: &mut Tasks,
    ) -> anyhow::Result<()> {
        let store = self.cluster.store();
        let (within, name) = (workload.key.namespace.as_str(), workload.key.name.as_str());
        if store.get(("v1", "Namespace"), ("", within)).is_err() {
            store.create(namespace(within))?;
            self.run_pod(within, "client", "client", self.caller_address())?;
        }
        let mut pods = Vec::new();
        for (number, address) in
            workload.pod_numbers().map(|number| self.place.pod(number)).enumerate()
        {
            let pod_name = format!("{name}-{number}");
            self.run_pod(within, &pod_name, name, address)?;
            for port in workload.echo_ports() {
                let listen = (address, port.number).into();
                let echo =
                    Echo::bind(listen, self.place.name.clone(), pod_name.clone(), arrivals.clone())
                        .await;
                let echo = echo.map_err(|error| address_taken(listen, &error))?;
                tasks.spawn(format!("{}/{pod_name}", self.name()), |shutdown| async move {
                    echo.run(shutdown).await;
                    Ok(())
                });
            }
            pods.push((pod_name, address));
        }
        store.create(typed("v1", "Service", &workload.service)?)?;
        store.create(workload.endpoints(&pods))?;
        Ok(())
    }

    /// Creates a pod and reports that it runs; a status in the object that is created is not taken.
    fn run_pod(
        &self,
        within: &str,
        name: &str,
        service_account: &str,
        address: Ipv4Addr,
    ) -> anyhow::Result<()> {
        let store = self.cluster.store();
        let mut pod = pod(within, name, service_account, address);
        pod["metadata"]["resourceVersion"] =
            store.create(pod.clone())?["metadata"]["resourceVersion"].clone();
        store.update_status(pod)?;
        Ok(())
    }
}

/// A pod, and its status as the kubelet would report it.
fn pod(within: &str, name: &str, service_account: &str, address: Ipv4Addr) -> Value {
    let address = address.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": within, "name": name},
        "spec": {"serviceAccountName": service_account, "containers": [{"name": "main", "image": "demo"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0, "image": "demo", "imageID": ""}],
        },
    })
}

/// An object with the type that Kubernetes' own kinds leave out of their Rust types.
fn typed(api_version: &str, kind: &str, object: &impl serde::Serialize) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

/// Calls are told apart over all clusters: each counts from a number of its own.
fn first_id(place: &Place) -> u64 {
    u64::try_from(place.index).unwrap_or_default() << 32
}

/// Makes the objects that a cluster has before anything of Landbridge runs in it, and who it is.
fn prepare(cluster: &Cluster, place: &Place, set: &ClusterSetId) -> anyhow::Result<()> {
    let store = cluster.store();
    store.create(namespace(SYSTEM_NAMESPACE))?;
    for (name, value) in
        [(CLUSTER_ID_PROPERTY, place.name.as_str()), (CLUSTER_SET_PROPERTY, set.as_str())]
    {
        store.create(json!({
            "apiVersion": "about.k8s.io/v1beta1",
            "kind": "ClusterProperty",
            "metadata": {"name": name},
            "spec": {"value": value},
        }))?;
    }
    Ok(())
}

async fn start_gateway(
    place: &Place,
    hub: &Hub,
    client: Client,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix(admin::PREFIX);
    let config = landbridge_gateway::Config {
        cluster: place.name.clone(),
        set: hub.set.clone(),
        name: gateway_name()?,
        system_namespace: Namespace::parse(SYSTEM_NAMESPACE)?,
        listen: vec![place.gateway().into()],
        link: place.link(),
        identity: hub.identity(&place.name)?,
        register: Some(Register { admin_port: place.gateway_admin().port() }),
        operation: landbridge_gateway::Operation::default(),
    };
    let gateway = Gateway::bind(config, client, &mut registry).await?;
    let admin = Admin::gateway(gateway.handle(), registry);
    tasks
        .serve(format!("{}/gateway", place.name), place.gateway_admin(), admin, |stop| {
            gateway.run(stop)
        })
        .await
}

async fn start_controller(
    place: &Place,
    hub: &Hub,
    client: Client,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix(admin::PREFIX);
    let config = landbridge_controller::Config {
        advertise: vec![GatewayAddress(place.public())],
        ..landbridge_controller::Config::new(
            place.name.clone(),
            hub.set.clone(),
            NetworkName::parse(place.name.as_str())?,
            Namespace::parse(SYSTEM_NAMESPACE)?,
        )
    };
    let controller =
        Controller::bind(config, client, hub.client(place).await?, &mut registry).await?;
    let admin = Admin::controller(controller.handle(), registry);
    tasks
        .serve(format!("{}/controller", place.name), place.controller_admin(), admin, |stop| {
            controller.run(stop)
        })
        .await
}

async fn start_dns(place: &Place, client: Client, tasks: &mut Tasks) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix(admin::PREFIX);
    let config =
        landbridge_dns::Config { listen: vec![place.dns()], ..landbridge_dns::Config::default() };
    let server = DnsServer::bind(config, client, &mut registry).await.context("the DNS server")?;
    let admin = Admin::dns(server.handle(), registry);
    tasks
        .serve(format!("{}/dns", place.name), place.dns_admin(), admin, |stop| server.run(stop))
        .await
}
