//! Real Kubernetes clusters on one machine, for tests with kubelet, kube-proxy, pods and a cluster DNS.
//!
//! | module | question |
//! | --- | --- |
//! | [`options`] | how many clusters, in which arrangement? |
//! | `plan`, `network`, `commands`, `files` | where is everything, and what is each program told? |
//! | `certificates`, `images` | who is who, and what runs in pods? |
//! | `state` | which processes are ours? |
//! | `up`, `down` | how does a lab come, and how does nothing of it stay? |
//! | [`install`] | how does Landbridge itself come to run on it? |
//! | `measure` | how long does it take from an export to a call? |
//! | `gather` | what does it look like to whoever has to understand a failure? |
//! | `host`, `proc` | what is asked of the machine |
//!
//! `tests/cluster/README.md` tells how to use it, and what is different from clusters elsewhere.

mod certificates;
mod commands;
mod down;
mod files;
mod gather;
mod host;
mod images;
pub mod install;
mod measure;
mod network;
pub mod options;
mod plan;
mod proc;
mod state;
mod up;

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use kube::{Client, Config, config::Kubeconfig};

pub use self::{
    down::{down, remains},
    host::require_root,
};
use self::{
    host::Room,
    install::RunAs,
    options::{Name, Options},
    plan::{ClusterPlan, Places, Plan},
    state::Processes,
};
use crate::{programs, tell};

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
}

/// One of its clusters.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    lab: &'a Lab,
    plan: &'a ClusterPlan,
}

impl Lab {
    /// Brings a lab up: all of it, or what is missing of it.
    ///
    /// # Errors
    /// Without root, where the lab is up with other options, or a step fails; then `down` takes away what is there.
    pub fn up(options: &Options) -> Result<Self> {
        up::up(options)
    }

    /// The lab that is up under this name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn attach(name: &Name) -> Result<Self> {
        let file = Places::of(name).options();
        let text = fs::read_to_string(&file)
            .with_context(|| format!("no lab {name} is up: `cargo xtask lab up` makes one"))?;
        let options = serde_json::from_str(&text)
            .with_context(|| format!("{}: `cargo xtask lab down` takes it away", file.display()))?;
        Ok(Self { plan: Plan::new(options) })
    }

    /// What it was made from.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.plan.options
    }

    /// Its clusters, in order.
    pub fn clusters(&self) -> impl Iterator<Item = Cluster<'_>> {
        self.plan.clusters.iter().map(|plan| Cluster { lab: self, plan })
    }

    /// A cluster by its number, from 1.
    ///
    /// # Errors
    /// Where it has fewer.
    pub fn cluster(&self, number: u8) -> Result<Cluster<'_>> {
        let found = self.clusters().find(|cluster| cluster.plan.number == number);
        found.with_context(|| {
            format!("there is no cluster {number}, only {}", self.options().clusters)
        })
    }

    /// Does something where all API servers are reachable: in the network between the clusters, on a thread of its own.
    ///
    /// # Errors
    /// Whatever `work` returns, or no lab.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
        host::within(&self.plan.places.wan(), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        })
    }

    /// One kubeconfig with a context for each cluster.
    ///
    /// # Errors
    /// Where the lab is half up.
    pub fn kubeconfig(&self) -> Result<String> {
        let file = self.plan.places.kubeconfig();
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// A command in the network between the clusters. It ends with the lab.
    ///
    /// # Errors
    /// Without root.
    pub fn command(&self, command: &[String]) -> Result<Command> {
        self.wan().command(command)
    }

    /// What runs and what does not, one line for each process.
    ///
    /// # Errors
    /// Where its record cannot be read.
    pub fn status(&self) -> Result<Vec<String>> {
        let processes = Processes::read(&self.plan.places)?;
        Ok(processes.describe())
    }

    /// Writes what it looks like into a folder: objects, logs, addresses, the packet filter.
    ///
    /// # Errors
    /// Where the folder cannot be written. What cannot be asked says why in its place.
    pub fn gather(&self, folder: &Path) -> Result<()> {
        gather::gather(self, folder)
    }

    /// Runs Landbridge on it: a set of its clusters, with the first one's API as the hub. Done again, it makes what is
    /// missing, and starts anew what runs another build of `program`, which [`install::built`] finds.
    ///
    /// # Errors
    /// Without root, where it is installed otherwise, or a step fails.
    pub fn install(&self, program: &Path, run_as: RunAs) -> Result<()> {
        install::install(self, program, run_as)
    }

    /// Gives every node the image of `program`, which is `landbridge` for what is run on the lab: for whoever installs it as
    /// on any cluster. The image's name.
    ///
    /// # Errors
    /// Without root, or where the image cannot be made.
    pub fn image(&self, program: &Path) -> Result<String> {
        install::image(self, program)
    }

    /// Starts components that were killed, where they run as processes: what kubelet does with pods.
    ///
    /// # Errors
    /// Where one does not become ready.
    pub fn resume(&self) -> Result<()> {
        install::resume(self)
    }

    /// What the components of Landbridge run as, where it is installed.
    #[must_use]
    pub fn installed(&self) -> Option<RunAs> {
        install::installed(self)
    }

    /// Takes Landbridge away, with all that it has written.
    ///
    /// # Errors
    /// Where something cannot be taken away; it can be said again.
    pub fn uninstall(&self) -> Result<()> {
        install::uninstall(self)
    }

    /// Exports this many Services of the first cluster, one after the other, and has a pod of the second call each; how
    /// long that took, by stage.
    ///
    /// # Errors
    /// Where Landbridge is not installed, or a call has no answer.
    pub fn measure(&self, exports: usize) -> Result<String> {
        measure::measure(self, exports)
    }

    fn wan(&self) -> Room {
        let places = &self.plan.places;
        Room {
            cgroup: places.wan_cgroup(),
            network: places.wan(),
            mounts: None,
            bin: places.bin(),
            kubeconfig: places.kubeconfig(),
        }
    }
}

impl Cluster<'_> {
    /// Its context: `c1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// What its node is called.
    #[must_use]
    pub fn node(&self) -> String {
        self.plan.node()
    }

    /// A client that may do everything; it works inside [`Lab::run`].
    ///
    /// # Errors
    /// Where the lab is half up.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.plan.file("admin.kubeconfig"))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// A command on its node: in its network and among its mounts, with its KUBECONFIG. It ends with the lab.
    ///
    /// # Errors
    /// Where the cluster does not run.
    pub fn command(&self, command: &[String]) -> Result<Command> {
        self.room()?.command(command)
    }

    /// Runs a command in a pod, as `kubectl exec` does, for at most `seconds`; `pod` is its name, with what else
    /// `kubectl` is to be told.
    ///
    /// # Errors
    /// Where the cluster does not run. What the command itself says of failing is in the output.
    pub fn exec(&self, pod: &[&str], seconds: u32, command: &[&str]) -> Result<Output> {
        let kubectl = ["timeout".into(), seconds.to_string(), "kubectl".into(), "exec".into()];
        let command = pod.iter().chain(&["--"]).chain(command).map(ToString::to_string);
        let command: Vec<String> = kubectl.into_iter().chain(command).collect();
        Ok(self.command(&command)?.output()?)
    }

    /// Runs `kubectl` as an administrator; what it printed.
    ///
    /// # Errors
    /// What it says of failing.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let command = ["kubectl"].iter().chain(arguments).map(ToString::to_string);
        host::run(&mut self.command(&command.collect::<Vec<_>>())?)
    }

    /// Creates or changes the objects of a text.
    ///
    /// # Errors
    /// What `kubectl` says of failing.
    pub fn apply(&self, objects: &str) -> Result<()> {
        let command = ["kubectl", "apply", "--filename", "-"].map(str::to_owned);
        host::feed(&mut self.command(&command)?, objects).map(drop)
    }

    /// Deletes the objects of a text, as far as they are there.
    ///
    /// # Errors
    /// What `kubectl` says of failing.
    pub fn delete(&self, objects: &str) -> Result<()> {
        let command = ["kubectl", "delete", "--ignore-not-found", "--filename", "-"];
        host::feed(&mut self.command(&command.map(str::to_owned))?, objects).map(drop)
    }

    /// The id of a process of its node, such as `landbridge-gateway-v4`, if it runs.
    ///
    /// # Errors
    /// Where the record of processes cannot be read.
    pub fn process(&self, name: &str) -> Result<Option<u32>> {
        let processes = Processes::read(&self.lab.plan.places)?;
        Ok(processes.running(&format!("{}/{name}", self.name())))
    }

    fn room(&self) -> Result<Room> {
        let processes = Processes::read(&self.lab.plan.places)?;
        let holder = processes.running(&up::holder(self.plan));
        let holder = holder
            .with_context(|| format!("{} does not run: `cargo xtask lab up`", self.name()))?;
        Ok(up::room(&self.lab.plan, self.plan, holder))
    }
}

/// Becomes a command on a node, or between the clusters.
///
/// # Errors
/// Only where it does not become the command.
pub fn exec(name: &Name, place: &str, command: &[String]) -> Result<()> {
    require_root()?;
    ensure!(!command.is_empty(), "which command? `cargo xtask lab exec 1 -- kubectl get nodes`");
    let lab = Lab::attach(name)?;
    let mut command = if place == "wan" {
        lab.command(command)?
    } else {
        let number = place.trim_start_matches('c').parse();
        let number = number.with_context(|| format!("{place} is neither a cluster nor `wan`"))?;
        lab.cluster(number)?.command(command)?
    };
    bail!(command.exec())
}

/// One process at a time brings labs of one name up or down.
fn lock(name: &Name) -> Result<File> {
    let folder = programs::cache("locks");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = File::create(folder.join(format!("lab-{name}")))?;
    file.lock()?;
    Ok(file)
}

/// Says what is done and how long it took.
struct Steps {
    begun: Instant,
    last: Instant,
}

impl Steps {
    fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now }
    }

    /// `what` is done.
    fn done(&mut self, what: &str) {
        let took = self.last.elapsed().as_secs_f32();
        self.last = Instant::now();
        tell(&format!("{what} ({took:.1} s)"));
    }

    fn all(&self, what: &str) {
        tell(&format!("{what} after {:.1} s", self.begun.elapsed().as_secs_f32()));
    }
}
