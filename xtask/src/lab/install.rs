//! Landbridge on a lab: what makes its clusters a set, and the components in each.
//!
//! Every step can be done again: what is there stays as it is, what is missing is made, and what ran another build of
//! the program is started anew. The first cluster's API is the hub.

mod objects;
mod pods;
mod processes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use self::processes::Component;
use super::{
    Cluster, Lab, Steps, files, host, lock,
    plan::Places,
    state::Processes,
    up::{end_of, replace},
};

/// What the program is called, here and beside xtask's own.
const PROGRAM: &str = "landbridge";
/// Components are ready within two seconds on an idle machine.
const START: Duration = Duration::from_secs(90);
const ASKED: Duration = Duration::from_millis(100);
/// A component that is told to end has this long to drain.
const DRAIN: Duration = Duration::from_secs(15);
/// How long definitions take to be served, at most.
const ESTABLISHED: &str = "--timeout=60s";
/// Longer than anybody leaves a lab standing, in kubectl's words.
const TOKENS: &str = "--duration=8760h";

/// What components run as.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RunAs {
    /// Plain processes on the node.
    #[default]
    Processes,
    /// Pods, of what `landbridge manifests` prints.
    Pods,
}

/// What is installed, as it is written down.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Installed {
    run_as: RunAs,
    /// Tells builds of the program apart.
    build: String,
}

impl Installed {
    fn file(places: &Places) -> PathBuf {
        places.folder.join("installed.json")
    }

    fn read(places: &Places) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(Self::file(places)).ok()?).ok()
    }
}

/// The program `landbridge` beside the one that runs: as `cargo build` leaves both.
///
/// # Errors
/// Where it has not been built.
pub fn built() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests are in a folder below.
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(PROGRAM)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "there is no {PROGRAM} beside {}: build it with `cargo build --workspace --bins`, or name one with --program",
            own.display()
        )
    })
}

/// What is installed, if anything is.
pub(crate) fn installed(lab: &Lab) -> Option<RunAs> {
    Installed::read(&lab.plan.places).map(|installed| installed.run_as)
}

/// Makes the lab's clusters a set, and runs Landbridge in each.
pub(crate) fn install(lab: &Lab, program: &Path, run_as: RunAs) -> Result<()> {
    host::require_root()?;
    let _lock = lock(&lab.options().name)?;
    let mut steps = Steps::begin();
    let places = &lab.plan.places;
    let now = Installed { run_as, build: build(program)? };
    if let Some(before) = Installed::read(places).filter(|before| *before != now) {
        ensure!(
            before.run_as == run_as,
            "Landbridge is installed otherwise: `cargo xtask lab uninstall` comes first"
        );
        // Pods are changed one by one.
        end(lab)?;
    }
    put(program, &places.bin().join(PROGRAM))?;
    replace(&Installed::file(places), &serde_json::to_string(&now)?)?;
    definitions(lab)?;
    steps.done("definitions are there");
    lab.cluster(1)?.apply(&objects::hub(&lab.plan))?;
    if run_as == RunAs::Processes {
        for cluster in lab.clusters() {
            cluster.apply(&objects::member(cluster.plan))?;
        }
    }
    for cluster in lab.clusters() {
        credentials(lab, cluster, run_as)?;
    }
    counted(lab)?;
    certificates(lab)?;
    steps.done("the set, its accounts and certificates are there");
    match run_as {
        RunAs::Processes => {
            start(lab)?;
            ready(lab)?;
        }
        RunAs::Pods => {
            let image = pods::image(lab, &now.build)?;
            steps.done("the image is there");
            pods::apply(lab, &image)?;
            pods::ready(lab)?;
        }
    }
    steps.done("components are ready");
    for cluster in lab.clusters() {
        let servers = dns_servers(cluster, run_as);
        let servers: Vec<String> =
            servers.into_iter().map(|server| format!("--server={server}")).collect();
        tell_dns(cluster, "enable", &servers)?;
    }
    steps.all("Landbridge runs");
    Ok(())
}

/// Puts the program on a lab's path, and its image on every node, and runs nothing; the image's name.
pub(crate) fn image(lab: &Lab, program: &Path) -> Result<String> {
    host::require_root()?;
    let _lock = lock(&lab.options().name)?;
    put(program, &lab.plan.places.bin().join(PROGRAM))?;
    pods::image(lab, &build(program)?)
}

/// Starts what does not run.
pub(crate) fn resume(lab: &Lab) -> Result<()> {
    if installed(lab) != Some(RunAs::Processes) {
        return Ok(());
    }
    let _lock = lock(&lab.options().name)?;
    start(lab)?;
    ready(lab)
}

/// Takes Landbridge away, with all that it has written.
pub(crate) fn uninstall(lab: &Lab) -> Result<()> {
    host::require_root()?;
    let _lock = lock(&lab.options().name)?;
    let mut steps = Steps::begin();
    if Installed::read(&lab.plan.places).is_none() {
        return Ok(());
    }
    for cluster in lab.clusters() {
        tell_dns(cluster, "disable", &[])?;
    }
    end(lab)?;
    steps.done("components have ended");
    for cluster in lab.clusters() {
        pods::delete(cluster)?;
        for (kind, label) in objects::WRITTEN {
            cluster.kubectl(&["delete", kind, "--all-namespaces", "--selector", label])?;
        }
        cluster.delete(&objects::member(cluster.plan))?;
    }
    lab.cluster(1)?.delete(&objects::hub(&lab.plan))?;
    let definitions = crds(lab)?;
    for cluster in lab.clusters() {
        cluster.delete(&definitions)?;
    }
    steps.done("objects are gone");
    host::remove_folder(&pki(&lab.plan.places))?;
    for cluster in lab.clusters() {
        for user in objects::USERS {
            remove(&user.kubeconfig(cluster.plan))?;
        }
    }
    remove(&Installed::file(&lab.plan.places))?;
    steps.all("Landbridge is gone");
    Ok(())
}

/// What `/debug/snapshot` is asked for at, by the name of who answers. None where nobody can be asked.
pub(crate) fn snapshots(lab: &Lab, cluster: Cluster<'_>) -> Vec<(String, String)> {
    let asked = |component: Component| {
        let url = format!("http://{}/debug/snapshot", component.admin(cluster.plan)?);
        Some((component.name(), url))
    };
    match Installed::read(&lab.plan.places).map(|installed| installed.run_as) {
        None => Vec::new(),
        Some(RunAs::Pods) => pods::snapshots(cluster).unwrap_or_default(),
        Some(RunAs::Processes) => {
            Component::of(cluster.plan).into_iter().filter_map(asked).collect()
        }
    }
}

/// Where the cluster's DNS finds ours.
fn dns_servers(cluster: Cluster<'_>, run_as: RunAs) -> Vec<String> {
    match run_as {
        RunAs::Pods => pods::servers(),
        RunAs::Processes => processes::dns_addresses(cluster.plan),
    }
}

/// What a build is told by: nobody writes another one at the same time.
fn build(program: &Path) -> Result<String> {
    let metadata = fs::metadata(program).with_context(|| program.display().to_string())?;
    let since = metadata.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!("{}-{}", metadata.len(), since.as_nanos()))
}

/// Copies a program, so that what runs stays the same while it is built anew.
fn put(program: &Path, place: &Path) -> Result<()> {
    let half = place.with_extension("half");
    fs::copy(program, &half).with_context(|| program.display().to_string())?;
    Ok(fs::rename(half, place)?)
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| file.display().to_string())
        }
        _ => Ok(()),
    }
}

fn pki(places: &Places) -> PathBuf {
    places.folder.join("pki")
}

/// Runs `landbridge` to its end; what it printed.
fn run(lab: &Lab, arguments: &[&str]) -> Result<String> {
    host::run(Command::new(lab.plan.places.bin().join(PROGRAM)).args(arguments))
}

fn crds(lab: &Lab) -> Result<String> {
    run(lab, &["crds"])
}

/// Installs the kinds, and waits until each is served.
fn definitions(lab: &Lab) -> Result<()> {
    let crds = crds(lab)?;
    for cluster in lab.clusters() {
        cluster.apply(&crds)?;
    }
    for cluster in lab.clusters() {
        cluster.kubectl(&["wait", "--for=condition=Established", ESTABLISHED, "crds", "--all"])?;
    }
    Ok(())
}

/// Gives each component a kubeconfig with a token of its own account, and no other rights.
fn credentials(lab: &Lab, cluster: Cluster<'_>, run_as: RunAs) -> Result<()> {
    // Pods have the tokens that the kubelet gives them.
    let wanted = |user: &objects::User| user.of_hub || run_as == RunAs::Processes;
    for user in objects::USERS.into_iter().filter(wanted) {
        let file = user.kubeconfig(cluster.plan);
        if file.exists() {
            continue;
        }
        let of = if user.of_hub { lab.cluster(1)? } else { cluster };
        let namespace = user.namespace(cluster.plan);
        let create = ["create", "token", user.account, "--namespace", &namespace, TOKENS];
        let token = of.kubectl(&create)?;
        let ca = of.plan.folder.join("ca.crt");
        let ca = fs::read_to_string(&ca).with_context(|| ca.display().to_string())?;
        let kubeconfig = files::kubeconfig_with_token(of.plan, &ca, token.trim());
        replace(&file, &serde_norway::to_string(&kubeconfig)?)?;
    }
    Ok(())
}

/// Says on the hub that members have used nothing of what they may, where that is not known yet.
///
/// kube-controller-manager says it up to six minutes after a kind is installed, and until then the hub refuses exports.
/// From then on the API server counts by itself.
fn counted(lab: &Lab) -> Result<()> {
    let hub = lab.cluster(1)?;
    for cluster in lab.clusters() {
        let (namespace, quota) = (objects::hub_namespace(cluster.plan), objects::QUOTA);
        let quota = ["resourcequota", quota, "--namespace", &namespace];
        let get = [&["get"], &quota[..], &["--output=json"]].concat();
        let object: serde_json::Value = serde_json::from_str(&hub.kubectl(&get)?)?;
        if let Some(status) = objects::counted(&object) {
            let patch = ["--subresource=status", "--type=merge", "--patch", &status];
            hub.kubectl(&[&["patch"], &quota[..], &patch].concat())?;
        }
    }
    Ok(())
}

/// Makes the set's root and an authority for each cluster. A gateway gets its certificate when it is started.
fn certificates(lab: &Lab) -> Result<()> {
    let folder = pki(&lab.plan.places);
    let root = folder.join("root").display().to_string();
    if !folder.join("root").exists() {
        run(lab, &["pki", "root", "--set", objects::SET, "--out", &root])?;
    }
    for cluster in lab.clusters() {
        let member = folder.join(cluster.name());
        if !member.exists() {
            let out = member.display().to_string();
            let id = cluster.name();
            run(lab, &["pki", "member", "--root", &root, "--cluster", id, "--out", &out])?;
        }
    }
    Ok(())
}

/// Starts components that do not run.
fn start(lab: &Lab) -> Result<()> {
    let places = &lab.plan.places;
    let mut processes = Processes::read(places)?;
    for cluster in lab.clusters() {
        let room = cluster.room()?;
        for component in Component::of(cluster.plan) {
            let name = component.process(cluster.plan);
            if processes.running(&name).is_some() {
                continue;
            }
            if let Some(gateway) = component.gateway() {
                let folder = pki(places).join(cluster.name());
                let (member, out) = (folder.display().to_string(), folder.join(gateway));
                let out = out.display().to_string();
                let issue = ["pki", "gateway", "--member", &member, "--name", gateway];
                run(lab, &[&issue[..], &["--out", &out, "--force"]].concat())?;
            }
            let command = component.command(&lab.plan, cluster.plan, &pki(places));
            let pid = room.start(&command, &cluster.plan.log(&component.name()))?;
            processes.record(places, &name, pid)?;
        }
    }
    Ok(())
}

/// Waits until each component says that it is ready.
fn ready(lab: &Lab) -> Result<()> {
    let begun = std::time::Instant::now();
    for cluster in lab.clusters() {
        for component in Component::of(cluster.plan) {
            let Some(admin) = component.admin(cluster.plan) else { continue };
            let url = format!("http://{admin}/readyz");
            let ask = ["curl", "--silent", "--max-time", "5", &url].map(str::to_owned);
            loop {
                let said = cluster.command(&ask)?.output()?.stdout;
                if said.starts_with(b"ready") {
                    break;
                }
                if begun.elapsed() > START {
                    let log = end_of(&cluster.plan.log(&component.name()));
                    let name = component.process(cluster.plan);
                    bail!("{name} is not ready: {}\n{log}", String::from_utf8_lossy(&said));
                }
                std::thread::sleep(ASKED);
            }
        }
    }
    Ok(())
}

/// Ends all components, in order where they do it within their time.
fn end(lab: &Lab) -> Result<()> {
    let places = &lab.plan.places;
    let mut processes = Processes::read(places)?;
    let clusters = lab.plan.clusters.iter();
    let of = |cluster| Component::of(cluster).into_iter().map(move |one| one.process(cluster));
    let names: Vec<String> = clusters.flat_map(of).collect();
    let running: Vec<u32> = names.iter().filter_map(|name| processes.running(name)).collect();
    host::end(&running, DRAIN)?;
    processes.forget(places, &names)
}

/// Tells the cluster's DNS of ours, or that it is no more.
fn tell_dns(cluster: Cluster<'_>, what: &str, servers: &[String]) -> Result<()> {
    let command = [PROGRAM, "dns", what].map(str::to_owned);
    let command: Vec<String> = command.into_iter().chain(servers.iter().cloned()).collect();
    host::run(&mut cluster.command(&command)?).map(drop)
}
