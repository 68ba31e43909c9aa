//! Where kube-apiserver and etcd come from: `KUBEBUILDER_ASSETS`, what was built here before, the PATH, or `go build` of
//! the modules that are pinned in `tools/`.
//!
//! What is built lies in the user's cache, named by its version, so that neither `cargo clean` nor another checkout
//! builds it again. Where there is no Go, the whole rung is skipped with a line that says so, unless
//! `LANDBRIDGE_CONTROL_PLANE=required`.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// How often a build says that it goes on.
const TOLD: Duration = Duration::from_secs(20);

/// The programs of a control plane.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) kube_apiserver: PathBuf,
}

/// One program, and how it is built.
struct Tool {
    name: &'static str,
    /// The folder of its module below `tools/`.
    folder: &'static str,
    /// The module that holds it, as `go.mod` requires it.
    module: &'static str,
    package: &'static str,
    go_mod: &'static str,
}

const ETCD: Tool = Tool {
    name: "etcd",
    folder: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    package: "go.etcd.io/etcd/server/v3",
    go_mod: include_str!("tools/etcd/go.mod"),
};
const KUBE_APISERVER: Tool = Tool {
    name: "kube-apiserver",
    folder: "kubernetes",
    module: "k8s.io/kubernetes",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    go_mod: include_str!("tools/kubernetes/go.mod"),
};

/// The programs, built where they are not there. Ends the process where they cannot be had.
pub(crate) fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs { etcd: find(&ETCD), kube_apiserver: find(&KUBE_APISERVER) })
}

fn find(tool: &Tool) -> PathBuf {
    let cache = cache();
    let built = cache.join(format!("{}-{}", tool.name, tool.version()));
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(tool.name));
    if let Some(found) = assets.into_iter().chain([built.clone()]).find(|path| path.is_file()) {
        return found;
    }
    if let Some(found) = on_the_path(tool.name) {
        return found;
    }
    if on_the_path("go").is_none() {
        skip(&format!(
            "there is neither {} (KUBEBUILDER_ASSETS, PATH) nor Go to build it with",
            tool.name
        ));
    }
    tool.build(&cache, &built);
    built
}

/// Ends the process: nothing of this rung can be said.
///
/// A single test cannot be skipped once it runs, so the first one ends all, before any other has begun.
fn skip(why: &str) -> ! {
    if env::var("LANDBRIDGE_CONTROL_PLANE").is_ok_and(|value| value == "required") {
        panic!("the control-plane rung is required, but {why}");
    }
    tell(&format!("skipped: {why}"));
    process::exit(0)
}

/// Says it where the test harness does not hold it back.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "control plane: {line}");
}

fn on_the_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn cache() -> PathBuf {
    let home = env::var_os("XDG_CACHE_HOME").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    home.join("landbridge").join("control-plane")
}

impl Tool {
    fn version(&self) -> &'static str {
        let required = self.go_mod.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            line.strip_prefix(self.module)?.trim().split(' ').next()
        });
        required.expect("go.mod requires the module that the program is in")
    }

    /// Builds it beside its place and moves it there, so that nobody runs half a program.
    fn build(&self, cache: &Path, built: &Path) {
        fs::create_dir_all(cache).unwrap();
        let lock = File::create(cache.join(".lock")).unwrap();
        lock.lock().unwrap();
        if built.is_file() {
            return;
        }
        let begun = Instant::now();
        let name = self.name;
        tell(&format!("building {name} {}, once: some minutes", self.version()));
        let half = cache.join(format!(".{name}.{}", process::id()));
        let variable = "k8s.io/component-base/version";
        let mut numbers = self.version().trim_start_matches('v').split('.');
        let flags = format!(
            "-s -w -X {variable}.gitVersion={} -X {variable}.gitMajor={} -X {variable}.gitMinor={}",
            self.version(),
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        let mut build = Command::new("go")
            .current_dir(
                Path::new(env!("CARGO_MANIFEST_DIR")).join("control_plane/tools").join(self.folder),
            )
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .args([half.as_os_str(), self.package.as_ref()])
            .spawn()
            .unwrap();
        let mut told = Instant::now();
        let status = loop {
            if let Some(status) = build.try_wait().unwrap() {
                break status;
            }
            if told.elapsed() > TOLD {
                told = Instant::now();
                tell(&format!("building {name}: {} s", begun.elapsed().as_secs()));
            }
            thread::sleep(Duration::from_millis(100));
        };
        assert!(status.success(), "go build of {name}: {status}");
        fs::rename(&half, built).unwrap();
    }
}

#[test]
fn versions_are_those_of_the_pinned_modules() {
    assert!(KUBE_APISERVER.version().starts_with("v1."));
    assert!(ETCD.version().starts_with("v3."));
}
