//! Where etcd, CoreDNS and the programs of Kubernetes come from: `go build` of the modules that are pinned in `tools/`.
//!
//! What is built lies in the user's cache, named by its version, so that neither `cargo clean` nor another checkout
//! builds it again. Where several processes want the same program, one builds it and the others wait. Programs of
//! crates.io are in [`crates`].

pub mod crates;

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use crate::tell;

/// How often a build says that it goes on.
const TOLD: Duration = Duration::from_secs(20);
/// How often a build is asked whether it is done.
const ASKED: Duration = Duration::from_millis(100);
const KUBERNETES: Module = Module {
    folder: "kubernetes",
    name: "k8s.io/kubernetes",
    go_mod: include_str!("../tools/kubernetes/go.mod"),
};

/// The DNS server of a cluster.
pub const COREDNS: Tool = Tool {
    name: "coredns",
    package: "github.com/coredns/coredns",
    module: Module {
        folder: "coredns",
        name: "github.com/coredns/coredns",
        go_mod: include_str!("../tools/coredns/go.mod"),
    },
};
/// Where an API server keeps its objects.
pub const ETCD: Tool = Tool {
    name: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    module: Module {
        folder: "etcd",
        name: "go.etcd.io/etcd/server/v3",
        go_mod: include_str!("../tools/etcd/go.mod"),
    },
};
/// The API server.
pub const KUBE_APISERVER: Tool =
    Tool::kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
/// Deployments, slices, garbage collection and the rest.
pub const KUBE_CONTROLLER_MANAGER: Tool =
    Tool::kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
/// What makes Services work on a node.
pub const KUBE_PROXY: Tool = Tool::kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");
/// What gives a pod its node.
pub const KUBE_SCHEDULER: Tool =
    Tool::kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");
/// What people talk to a cluster with.
pub const KUBECTL: Tool = Tool::kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
/// What runs pods on a node.
pub const KUBELET: Tool = Tool::kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");

/// All that can be built here, what takes longest first.
pub const ALL: [Tool; 8] = [
    KUBE_APISERVER,
    KUBE_CONTROLLER_MANAGER,
    KUBE_SCHEDULER,
    KUBELET,
    KUBE_PROXY,
    KUBECTL,
    ETCD,
    COREDNS,
];

/// One program, and how it is built.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What it is called.
    pub name: &'static str,
    package: &'static str,
    module: Module,
}

/// A module that programs are pinned by.
#[derive(Clone, Copy, Debug)]
struct Module {
    /// Its folder below `tools/`.
    folder: &'static str,
    /// The module that holds the programs, as `go.mod` requires it.
    name: &'static str,
    go_mod: &'static str,
}

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source does not build, or could not be fetched: what `go` has said tells more.
    #[error("go build of {name} ended with {status}: see what it said above")]
    Build {
        /// The program.
        name: &'static str,
        /// How `go` ended.
        status: ExitStatus,
    },
    /// The cache cannot be written, most often.
    #[error("{name} cannot be built in {}: {problem}", cache.display())]
    Cache {
        /// The program.
        name: &'static str,
        /// Where it would lie.
        cache: PathBuf,
        /// What the system says.
        problem: io::Error,
    },
    /// Nothing is there to build it with.
    #[error(
        "there is neither {name} nor Go to build it with: install Go, or set KUBEBUILDER_ASSETS"
    )]
    NoGo {
        /// The program.
        name: &'static str,
    },
}

impl Tool {
    const fn kubernetes(name: &'static str, package: &'static str) -> Self {
        Self { name, package, module: KUBERNETES }
    }

    /// The one that is called so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|tool| tool.name == name)
    }

    /// The version that is pinned, as `v1.2.3`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        let required = self.module.go_mod.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            line.strip_prefix(self.module.name)?.trim().split(' ').next()
        });
        required.expect("go.mod requires the module that the program is in, as a test says")
    }

    /// The program in any version: from `KUBEBUILDER_ASSETS`, from what was built here before, or from the PATH; built
    /// where it is in none of them.
    ///
    /// # Errors
    /// Where there is no Go, or the build fails.
    pub fn find(&self) -> Result<PathBuf, Error> {
        let assets =
            env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(self.name));
        let found = assets.into_iter().chain([self.place()]).find(|path| path.is_file());
        found.or_else(|| on_the_path(self.name)).map_or_else(|| self.pinned(), Ok)
    }

    /// The program in the pinned version, built where it was not yet.
    ///
    /// # Errors
    /// Where there is no Go, or the build fails.
    pub fn pinned(&self) -> Result<PathBuf, Error> {
        let place = self.place();
        if place.is_file() {
            return Ok(place);
        }
        if on_the_path("go").is_none() {
            return Err(Error::NoGo { name: self.name });
        }
        let cannot = |problem| Error::Cache { name: self.name, cache: built(), problem };
        let lock = self.lock().map_err(cannot)?;
        // Whoever held the lock may have built it.
        if !place.is_file() {
            let half = built().join(format!(".{}.half", self.name));
            let status = self.build(&half).map_err(cannot)?;
            if !status.success() {
                return Err(Error::Build { name: self.name, status });
            }
            // Moved to its place when it is whole, so that nobody runs half a program.
            fs::rename(&half, &place).map_err(cannot)?;
        }
        drop(lock);
        Ok(place)
    }

    /// Where it lies once it is built.
    fn place(&self) -> PathBuf {
        built().join(format!("{}-{}", self.name, self.version()))
    }

    /// One build at a time, of all processes: two are no faster than one after the other, and need twice the memory.
    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(built())?;
        let file = File::create(built().join(".lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                tell(&format!("{}: waiting for another process that builds", self.name));
                file.lock()?;
            }
        }
        Ok(file)
    }

    fn build(&self, to: &Path) -> io::Result<ExitStatus> {
        let name = self.name;
        tell(&format!("building {name} {}, once: some minutes at most", self.version()));
        let begun = Instant::now();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.module.folder);
        let build = Command::new("go")
            .current_dir(folder)
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-ldflags", &self.flags(), "-o"])
            .args([to.as_os_str(), self.package.as_ref()])
            .spawn()?;
        let status = wait(name, build, begun)?;
        tell(&format!("{name}: {status} after {} s", begun.elapsed().as_secs()));
        Ok(status)
    }

    /// Without symbols, and with the version in it: clients refuse a Kubernetes of version 0.
    fn flags(&self) -> String {
        let variable = "k8s.io/component-base/version";
        let mut numbers = self.version().trim_start_matches('v').split('.');
        format!(
            "-s -w -X {variable}.gitVersion={} -X {variable}.gitMajor={} -X {variable}.gitMinor={}",
            self.version(),
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        )
    }
}

fn wait(name: &str, mut build: Child, begun: Instant) -> io::Result<ExitStatus> {
    let mut told = Instant::now();
    loop {
        if let Some(status) = build.try_wait()? {
            return Ok(status);
        }
        if told.elapsed() > TOLD {
            told = Instant::now();
            tell(&format!("building {name}: {} s", begun.elapsed().as_secs()));
        }
        thread::sleep(ASKED);
    }
}

fn on_the_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Where programs lie that were built.
fn built() -> PathBuf {
    cache("programs")
}

/// A folder of what is kept for this user, outside of any checkout.
pub(crate) fn cache(name: &str) -> PathBuf {
    let home = env::var_os("XDG_CACHE_HOME").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    home.join("landbridge").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_pinned_modules() {
        for tool in ALL {
            let mut numbers = tool.version().trim_start_matches('v').split('.');
            assert!(numbers.all(|number| number.parse::<u32>().is_ok()), "{tool:?}");
        }
        assert!(ETCD.version().starts_with("v3."));
        assert!(KUBELET.flags().contains("version.gitMajor=1 "), "{}", KUBELET.flags());
    }

    /// `go mod tidy` takes out of a module what its `tools.go` does not import, and the build with it.
    #[test]
    fn every_program_is_imported_where_it_is_pinned() {
        for tool in ALL {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(tool.module.folder);
            let imports = fs::read_to_string(file.join("tools.go")).unwrap();
            assert!(imports.contains(&format!("_ \"{}\"\n", tool.package)), "{tool:?}");
            assert_eq!(Tool::named(tool.name).unwrap().package, tool.package);
        }
    }
}
