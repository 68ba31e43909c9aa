//! Brings a lab up: what is there stays as it is, and what is missing is made.
//!
//! Each step can be done again. One that was half done when a lab was killed is done anew.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
    config::Kubeconfig,
};
use serde_json::Value;

use super::{
    Cluster, Lab, Steps,
    certificates::Certificates,
    commands::{AFTER_API, BEFORE_API, GIVES_WAY},
    files, host,
    host::Room,
    images, lock, network,
    options::Options,
    plan::{ClusterPlan, Places, Plan},
    state::Processes,
};
use crate::{programs, tell};

/// A program, and the package of Debian that it comes in.
const PACKAGES: &[(&str, &str)] = &[
    ("conntrack", "conntrack"),
    ("containerd", "containerd"),
    ("curl", "curl"),
    ("dash", "dash"),
    ("dig", "bind9-dnsutils"),
    ("host", "bind9-host"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mawk", "mawk"),
    ("nc.openbsd", "netcat-openbsd"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("ps", "procps"),
    ("runc", "runc"),
    ("socat", "socat"),
    ("unshare", "util-linux"),
];
/// Plugins of the container network, which are in no PATH.
const CNI: &str = "/usr/lib/cni/host-local";
const CNI_PACKAGE: &str = "containernetworking-plugins";
/// A cluster is there after half a minute on two idle cores.
const START: Duration = Duration::from_secs(180);
const ASKED: Duration = Duration::from_millis(100);
/// How much of a log is shown.
const SHOWN: usize = 3_000;

pub(crate) fn up(options: &Options) -> Result<Lab> {
    host::require_root()?;
    let _lock = lock(&options.name)?;
    let mut steps = Steps::begin();
    let plan = Plan::new(options.clone());
    remember(&plan)?;
    packages()?;
    steps.done("packages of Debian are there");
    programs(&plan)?;
    steps.done("programs are there");
    connect(&plan)?;
    for cluster in &plan.clusters {
        configure(&plan, cluster)?;
    }
    write_shared(&plan)?;
    steps.done("networks and files are there");
    let lab = Lab { plan };
    let mut processes = Processes::read(&lab.plan.places)?;
    start_wan(&lab, &mut processes)?;
    let rooms = lab.plan.clusters.iter().map(|cluster| enter(&lab.plan, cluster, &mut processes));
    let rooms = rooms.collect::<Result<Vec<Room>>>()?;
    for (cluster, room) in lab.plan.clusters.iter().zip(&rooms) {
        start(&lab.plan, cluster, room, BEFORE_API, &mut processes)?;
    }
    let archives = archives(&lab.plan)?;
    for (cluster, room) in lab.plan.clusters.iter().zip(&rooms) {
        import(cluster, room, &archives)?;
    }
    steps.done("images are there");
    lab.run(async || ready(&lab, &processes).await)?;
    steps.done("API servers answer");
    for (cluster, room) in lab.plan.clusters.iter().zip(&rooms) {
        start(&lab.plan, cluster, room, AFTER_API, &mut processes)?;
    }
    lab.run(async || nodes_ready(&lab, &processes).await)?;
    steps.done("nodes are ready");
    steps.all(&format!("lab {} is up ({options})", options.name));
    Ok(lab)
}

/// Writes down what the lab is made from, before anything else is there.
fn remember(plan: &Plan) -> Result<()> {
    let places = &plan.places;
    if let Ok(lab) = Lab::attach(&plan.options.name) {
        ensure!(
            *lab.options() == plan.options,
            "lab {} is up with {}: `cargo xtask lab down` comes first",
            plan.options.name,
            lab.options()
        );
        return Ok(());
    }
    fs::create_dir_all(&places.folder).with_context(|| places.folder.display().to_string())?;
    replace(&places.options(), &serde_json::to_string(&plan.options)?)
}

/// Writes a file as a whole or not at all.
pub(crate) fn replace(file: &Path, text: &str) -> Result<()> {
    let half = file.with_extension("half");
    fs::write(&half, text).with_context(|| half.display().to_string())?;
    Ok(fs::rename(half, file)?)
}

fn packages() -> Result<()> {
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder| folder.join(program)).any(|path: PathBuf| path.is_file())
    };
    let mut missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(CNI).is_file() {
        missing.push(CNI_PACKAGE);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    ensure!(
        is_there("apt-get"),
        "these packages of Debian are missing, install what is in them: {wanted}"
    );
    tell(&format!("installing {wanted}"));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        host::run(&mut command)
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[&install[..], &missing].concat())?;
    Ok(())
}

/// Builds what is not built yet, and puts it where commands find it by its name.
fn programs(plan: &Plan) -> Result<()> {
    let bin = plan.places.bin();
    fs::create_dir_all(&bin)?;
    for tool in programs::ALL {
        let program = tool.pinned()?;
        let link = bin.join(tool.name);
        if fs::read_link(&link).is_ok_and(|target| target == program) {
            continue;
        }
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(program, link)?;
    }
    Ok(())
}

/// Makes the network namespaces and what connects them, unless that was finished before.
fn connect(plan: &Plan) -> Result<()> {
    let finished = plan.places.folder.join("connected");
    let wan = plan.places.wan();
    let existing = host::network_namespaces(&plan.places.namespaces)?;
    if finished.exists() && existing.len() == plan.clusters.len() + 1 {
        return Ok(());
    }
    for namespace in existing {
        host::run(Command::new("ip").args(["netns", "delete", &namespace]))?;
    }
    let namespaces = plan.clusters.iter().map(|cluster| &cluster.namespace).chain([&wan]);
    for namespace in namespaces {
        host::run(Command::new("ip").args(["netns", "add", namespace]))?;
    }
    let batch = |namespace: &str, lines: &str| {
        host::feed(Command::new("ip").args(["-netns", namespace, "-batch", "-"]), lines)
    };
    batch(&wan, &network::wan(plan))?;
    host::within(&wan, || sysctls(network::WAN_SYSCTLS, "0"))?;
    for cluster in &plan.clusters {
        batch(&cluster.namespace, &network::cluster(plan, cluster))?;
        host::within(&cluster.namespace, || {
            sysctls(network::CLUSTER_SYSCTLS, "1")?;
            let programs = ["iptables-restore", "ip6tables-restore"];
            for (program, rules) in programs.iter().zip(network::masquerade(plan, cluster)) {
                if let Some(rules) = rules {
                    host::feed(Command::new(program).arg("--noflush"), &rules)?;
                }
            }
            Ok(())
        })?;
    }
    replace(&finished, "")
}

/// Sets what the namespace of this thread has below `/proc/sys/net`.
fn sysctls(names: &[&str], value: &str) -> Result<()> {
    for name in names {
        let file = Path::new("/proc/sys/net").join(name);
        fs::write(&file, value).with_context(|| {
            format!("{}: where it is missing, `modprobe br_netfilter` comes first", file.display())
        })?;
    }
    Ok(())
}

/// Writes a cluster's certificates and files, unless that was finished before.
fn configure(plan: &Plan, cluster: &ClusterPlan) -> Result<()> {
    let finished = cluster.folder.join("configured");
    if finished.exists() {
        return Ok(());
    }
    let net_d = cluster.folder.join("var-lib/cni/net.d");
    for folder in [&net_d, &cluster.folder.join("logs"), &cluster.folder.join("var-log")] {
        fs::create_dir_all(folder)?;
    }
    let certificates = Certificates::generate(cluster)?;
    let pairs = [
        ("accounts.pub", "accounts.key", &certificates.accounts),
        ("apiserver.crt", "apiserver.key", &certificates.api_server),
        ("ca.crt", "ca.key", &certificates.ca),
        ("kubelet-client.crt", "kubelet-client.key", &certificates.kubelet_client),
    ];
    for (cert, key, pair) in pairs {
        fs::write(cluster.folder.join(cert), &pair.cert)?;
        fs::write(cluster.folder.join(key), &pair.key)?;
    }
    for (user, pair) in &certificates.users {
        let kubeconfig = files::kubeconfig(cluster, &certificates.ca.cert, pair);
        let file = cluster.folder.join(format!("{user}.kubeconfig"));
        fs::write(file, serde_norway::to_string(&kubeconfig)?)?;
    }
    for (file, value) in [
        (cluster.folder.join("kubelet.yaml"), files::kubelet(plan, cluster)),
        (cluster.folder.join("kube-proxy.yaml"), files::kube_proxy(plan, cluster)),
        (net_d.join("10-lab.conflist"), files::cni(cluster)),
    ] {
        // JSON is YAML too.
        fs::write(file, serde_json::to_string_pretty(&value)?)?;
    }
    fs::write(cluster.folder.join("containerd.toml"), files::containerd())?;
    fs::write(cluster.folder.join("Corefile"), files::corefile(cluster))?;
    fs::write(cluster.folder.join("corefile.sh"), files::corefile_follower(cluster))?;
    replace(&finished, "")
}

/// Writes what all clusters share.
fn write_shared(plan: &Plan) -> Result<()> {
    let admins = plan.clusters.iter().map(|cluster| {
        let file = cluster.file("admin.kubeconfig");
        Kubeconfig::read_from(&file).context(file)
    });
    let merged = files::merged(admins.collect::<Result<_>>()?);
    replace(&plan.places.kubeconfig(), &serde_norway::to_string(&merged)?)?;
    replace(&plan.nodes_resolv_conf(), &files::resolv_conf())?;
    replace(&wan_corefile(&plan.places), &files::wan_corefile())
}

fn wan_corefile(places: &Places) -> PathBuf {
    places.folder.join("wan.Corefile")
}

/// Starts the resolver of the outside network.
fn start_wan(lab: &Lab, processes: &mut Processes) -> Result<()> {
    let places = &lab.plan.places;
    let name = "wan/resolver";
    if processes.running(name).is_none() {
        let corefile = wan_corefile(places).display().to_string();
        let command = ["coredns", "-conf", &corefile];
        let pid = lab.wan().start(&command, &places.folder.join("wan.log"))?;
        processes.record(places, name, pid)?;
    }
    Ok(())
}

/// What the process is called that holds a cluster's mount namespace.
pub(crate) fn holder(cluster: &ClusterPlan) -> String {
    format!("{}/mounts", cluster.name)
}

pub(crate) fn room(plan: &Plan, cluster: &ClusterPlan, holder: u32) -> Room {
    Room {
        cgroup: cluster.host_cgroup.clone(),
        network: cluster.namespace.clone(),
        mounts: Some(holder),
        bin: plan.places.bin(),
        kubeconfig: cluster.file("admin.kubeconfig").into(),
    }
}

/// The namespaces of a cluster's node. Where the mounts were lost, whatever was still running in them ends.
fn enter(plan: &Plan, cluster: &ClusterPlan, processes: &mut Processes) -> Result<Room> {
    let name = holder(cluster);
    if let Some(holder) = processes.running(&name) {
        return Ok(room(plan, cluster, holder));
    }
    for cgroup in [&cluster.host_cgroup, &cluster.pods_cgroup] {
        host::end_cgroup(cgroup)?;
    }
    host::make_pods_cgroup(&cluster.pods_cgroup)?;
    let holder = host::hold_mounts(&cluster.host_cgroup, &cluster.folder)?;
    processes.record(&plan.places, &name, holder)?;
    Ok(room(plan, cluster, holder))
}

/// Starts those parts of a cluster that do not run.
fn start(
    plan: &Plan,
    cluster: &ClusterPlan,
    room: &Room,
    parts: &[super::commands::Part],
    processes: &mut Processes,
) -> Result<()> {
    for part in parts {
        let name = format!("{}/{}", cluster.name, part.name());
        if processes.running(&name).is_none() {
            let nice = GIVES_WAY.map(str::to_owned).into_iter().filter(|_| part.gives_way());
            let command: Vec<String> = nice.chain(part.command(cluster)).collect();
            let pid = room.start(&command, &cluster.log(part.name()))?;
            processes.record(&plan.places, &name, pid)?;
        }
    }
    Ok(())
}

/// Makes the archives of all images.
fn archives(plan: &Plan) -> Result<Vec<PathBuf>> {
    let folder = plan.places.folder.join("images");
    fs::create_dir_all(&folder)?;
    let mut archives = Vec::new();
    for (number, image) in images::IMAGES.iter().enumerate() {
        let archive = folder.join(format!("{number}.tar"));
        if !archive.exists() {
            let half = archive.with_extension("half");
            fs::write(&half, image.archive().context(image.name)?)?;
            fs::rename(half, &archive)?;
        }
        archives.push(archive);
    }
    Ok(archives)
}

fn import(cluster: &ClusterPlan, room: &Room, archives: &[PathBuf]) -> Result<()> {
    let finished = cluster.folder.join("imported");
    if finished.exists() {
        return Ok(());
    }
    let socket = format!("/proc/{}/root/run/containerd/containerd.sock", room.mounts.unwrap_or(1));
    host::wait("containerd", || Ok(Path::new(&socket).exists()))
        .with_context(|| end_of(&cluster.log("containerd")))?;
    for archive in archives {
        images::import(room, archive)?;
    }
    replace(&finished, "")
}

/// Waits for each API server, and gives it the objects of the cluster's DNS.
async fn ready(lab: &Lab, processes: &Processes) -> Result<()> {
    for cluster in lab.clusters() {
        let client = cluster.client().await?;
        let begun = Instant::now();
        let name = format!("{}/kube-apiserver", cluster.name());
        loop {
            let mut request = http::Request::new(Vec::new());
            *request.uri_mut() = http::Uri::from_static("/readyz");
            let Err(error) = client.request_text(request).await else {
                break;
            };
            if begun.elapsed() > START || processes.running(&name).is_none() {
                bail!("{name}: {error}\n{}", end_of(&cluster.plan.log("kube-apiserver")));
            }
            tokio::time::sleep(ASKED).await;
        }
        for object in files::dns_objects(&lab.plan, cluster.plan) {
            create(&client, object, begun).await.with_context(|| name.clone())?;
        }
    }
    Ok(())
}

/// Creates an object unless it is there. What makes the default objects of a new cluster may be a moment behind.
async fn create(client: &Client, object: Value, begun: Instant) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        None => Api::all_with(client.clone(), &resource),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    // Not left to the refusal of a second one: a Service that is there is refused for its address, not for its name.
    let name = object.metadata.name.clone().unwrap_or_default();
    if api.get_opt(&name).await?.is_some() {
        return Ok(());
    }
    loop {
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 && begun.elapsed() < START => {
                tokio::time::sleep(ASKED).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn nodes_ready(lab: &Lab, processes: &Processes) -> Result<()> {
    let begun = Instant::now();
    for cluster in lab.clusters() {
        let client = cluster.client().await?;
        let kubelet = format!("{}/kubelet", cluster.name());
        while !node_ready(&client, cluster).await? {
            if begun.elapsed() > START || processes.running(&kubelet).is_none() {
                let log = end_of(&cluster.plan.log("kubelet"));
                bail!("the node of {} is not ready\n{log}", cluster.name());
            }
            tokio::time::sleep(ASKED).await;
        }
    }
    Ok(())
}

/// Whether a cluster's node is ready, and pods have the account that they run as.
async fn node_ready(client: &Client, cluster: Cluster<'_>) -> Result<bool> {
    let Some(node) = Api::<Node>::all(client.clone()).get_opt(&cluster.node()).await? else {
        return Ok(false);
    };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    Ok(ready && accounts.get_opt("default").await?.is_some())
}

/// The end of what a program has said.
pub(crate) fn end_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(SHOWN);
    format!("{}:\n{}", log.display(), String::from_utf8_lossy(&text[from..]))
}
