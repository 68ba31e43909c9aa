//! What is asked of the machine: commands, namespaces, control groups, processes. It decides nothing.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use super::proc;

/// Where `ip netns` keeps network namespaces.
const NETNS: &str = "/run/netns";
/// Enters a control group, then becomes a command.
const ENTER: &str = r#"echo $$ >"$1" && shift && exec "$@""#;
/// Makes a mount namespace in which containers and kubelets of a cluster may write where they always do: `/run` is
/// empty, and `/var/lib` and `/var/log` are two folders of the lab. Everything that they mount is seen in it alone, and
/// goes with the last process that is in it.
const HOLD: &str = r#"mount -t tmpfs lab /run && mkdir -p /run/netns /run/lock &&
mount --bind "$1/var-lib" /var/lib && mount --bind "$1/var-log" /var/log && : >"$1/mounted" && exec sleep infinity"#;
/// A mount namespace is there at once, and everything that was killed is gone; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// Where a process of a lab runs.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// Its control group, below the root of each hierarchy.
    pub(crate) cgroup: String,
    /// The name of its network namespace.
    pub(crate) network: String,
    /// The process that holds its mount namespace.
    pub(crate) mounts: Option<u32>,
    /// What programs are looked for in, before the PATH.
    pub(crate) bin: PathBuf,
    /// Its KUBECONFIG.
    pub(crate) kubeconfig: PathBuf,
}

impl Room {
    /// A command in its namespaces and its control group: whatever it is, it goes with the lab.
    pub(crate) fn command(&self, command: &[impl AsRef<OsStr>]) -> Result<Command> {
        let mut entered = enter(&self.cgroup)?;
        // `ip netns exec` would mount a new /sys, in which there are no control groups.
        entered.arg("nsenter").arg(format!("--net={NETNS}/{}", self.network));
        if let Some(holder) = self.mounts {
            entered.arg(format!("--mount=/proc/{holder}/ns/mnt"));
        }
        entered.arg("--").args(command);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.bin.clone()].into_iter().chain(std::env::split_paths(&path));
        let folders = folders.chain(["/usr/sbin".into(), "/sbin".into()]);
        // No folder of the PATH holds a colon, so it can be put together again.
        entered.env("PATH", std::env::join_paths(folders).unwrap_or(path));
        entered.env("KUBECONFIG", &self.kubeconfig);
        Ok(entered)
    }

    /// Starts a command that outlives us; what it says goes to `log`.
    pub(crate) fn start(&self, command: &[impl AsRef<OsStr>], log: &Path) -> Result<u32> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = self.command(command)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.process_group(0).current_dir("/").spawn()?.id())
    }
}

/// The beginning of a command that enters a control group first.
fn enter(cgroup: &str) -> Result<Command> {
    let mut command = Command::new("sh");
    command.args(["-c", ENTER, "enter"]).arg(make_cgroup(cgroup)?.join("cgroup.procs"));
    Ok(command)
}

/// Starts the process that holds a cluster's mount namespace, and waits until it is made.
pub(crate) fn hold_mounts(cgroup: &str, folder: &Path) -> Result<u32> {
    let mounted = folder.join("mounted");
    if mounted.exists() {
        fs::remove_file(&mounted)?;
    }
    for name in ["var-lib", "var-log"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let mut command = enter(cgroup)?;
    command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD, "hold"]);
    command.arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let pid = command.process_group(0).current_dir("/").spawn()?.id();
    wait("the mount namespace", || Ok(mounted.exists()))?;
    Ok(pid)
}

/// Runs a command to its end; what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    said(command, output)
}

/// Runs a command that reads `input`.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    });
    said(command, output)
}

fn said(command: &Command, output: io::Result<Output>) -> Result<String> {
    let name = || {
        let words = command.get_args().map(|word| word.to_string_lossy());
        format!("{} {}", command.get_program().display(), words.collect::<Vec<_>>().join(" "))
    };
    let output = output.with_context(name)?;
    if !output.status.success() {
        bail!("{}: {}\n{}", name(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks until it is so, or for too long.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether this process may do what a lab needs.
///
/// # Errors
/// Where it is not root.
pub fn require_root() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "it needs root: a lab makes namespaces, mounts and control groups. Run it with `sudo -E`, or in a container or a machine of your own"
    );
    Ok(())
}

/// Network namespaces whose names begin so.
pub(crate) fn network_namespaces(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(NETNS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Does something in a network namespace: on a thread of its own, which is in it to its end.
pub(crate) fn within<T: Send>(
    namespace: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let file = File::open(Path::new(NETNS).join(namespace))
        .with_context(|| format!("there is no namespace {namespace}"))?;
    let done = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join()
    });
    // A panic in there is a panic here: of a test that fails.
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// When a process began, if it still runs.
pub(crate) fn running_since(pid: u32) -> Option<u64> {
    proc::running_since(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("process {pid}")),
    }
}

/// Tells processes to end, and kills those that have not within their time.
pub(crate) fn end(pids: &[u32], time: Duration) -> Result<()> {
    let begun = Instant::now();
    let running = || pids.iter().copied().filter(|pid| running_since(*pid).is_some());
    for pid in running() {
        signal(pid, Signal::SIGTERM)?;
    }
    while running().next().is_some() && begun.elapsed() < time {
        thread::sleep(PAUSE);
    }
    for pid in running() {
        signal(pid, Signal::SIGKILL)?;
    }
    wait("the end of what was killed", || Ok(running().next().is_none()))
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let found = proc::cgroup_hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
    ensure!(!found.is_empty(), "no control groups are mounted: mount cgroup2 on /sys/fs/cgroup");
    Ok(found)
}

/// Makes a control group in the one hierarchy that our own processes are told by.
fn make_cgroup(cgroup: &str) -> Result<PathBuf> {
    let hierarchies = hierarchies()?;
    let folder = hierarchies[0].join(cgroup.trim_start_matches('/'));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Makes the control group that a kubelet puts its pods below: in every hierarchy, or it refuses to start.
pub(crate) fn make_pods_cgroup(cgroup: &str) -> Result<()> {
    for top in hierarchies()? {
        let mut folder = top;
        for name in cgroup.split('/').filter(|name| !name.is_empty()) {
            let above = folder.clone();
            folder.push(name);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            // Version 1 lets nobody run in a group that was given no processors and no memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let is_empty = |text: String| text.trim().is_empty();
                if fs::read_to_string(folder.join(file)).is_ok_and(is_empty) {
                    let given = fs::read_to_string(above.join(file))?;
                    fs::write(folder.join(file), given.trim())?;
                }
            }
        }
    }
    Ok(())
}

/// A control group and those in it, in every hierarchy, deepest first.
pub(crate) fn cgroups(cgroup: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let tops = hierarchies()?;
    let mut open: Vec<PathBuf> =
        tops.iter().map(|top| top.join(cgroup.trim_start_matches('/'))).collect();
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        open.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
        found.push(folder);
    }
    found.reverse();
    Ok(found)
}

/// The processes in a control group and those below.
pub(crate) fn members(cgroup: &str) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for folder in cgroups(cgroup)? {
        // It may go while it is read.
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Kills whatever is in a control group of ours until nothing is, and takes the group away.
pub(crate) fn end_cgroup(cgroup: &str) -> Result<()> {
    wait("the end of what was killed", || {
        let members = members(cgroup)?;
        for pid in &members {
            signal(*pid, Signal::SIGKILL)?;
        }
        // Whoever ended and was not waited for is still listed, and cannot be killed any more.
        Ok(members.iter().all(|pid| running_since(*pid).is_none()))
    })?;
    wait("the end of control groups", || {
        let left = cgroups(cgroup)?;
        Ok(left.iter().filter(|folder| fs::remove_dir(folder).is_err()).count() == 0)
    })
}

/// Takes away what is still mounted below a folder, and the folder.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    for place in proc::mounts_below(&mountinfo, &folder.display().to_string()) {
        run(Command::new("umount").args(["--lazy", &place]))?;
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| folder.display().to_string())
        }
        _ => Ok(()),
    }
}
