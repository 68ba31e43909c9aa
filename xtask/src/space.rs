//! Network namespaces and the cables between them, for tests and benchmarks. All of it goes with what stands here, and
//! what a process that was killed has left goes when the next one begins.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps its names.
const NETNS: &str = "/run/netns";

/// A network namespace.
#[derive(Debug)]
pub struct Space {
    name: String,
}

impl Space {
    /// A new one, with a loopback interface that has these addresses besides its own. Its name begins with `prefix`:
    /// then come the process and a number.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn new(prefix: &str, addresses: &[&str]) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let space = Self { name: format!("{prefix}{}-{next}", process::id()) };
        run(&["ip", "netns", "add", &space.name])?;
        space.ip(&["link", "set", "lo", "up"])?;
        for address in addresses {
            space.ip(&["address", "add", address, "dev", "lo"])?;
        }
        Ok(space)
    }

    /// A new one with a switch that others are plugged into.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn switch(prefix: &str) -> io::Result<Self> {
        let space = Self::new(prefix, &[])?;
        space.ip(&["link", "add", "switch", "type", "bridge"])?;
        space.ip(&["link", "set", "switch", "up"])?;
        Ok(space)
    }

    /// `ip` in this namespace.
    ///
    /// # Errors
    /// Where it refuses, with what it says.
    pub fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        run(&[&["ip", "-n", &self.name], arguments].concat())
    }

    /// Another command in this namespace, to its end.
    ///
    /// # Errors
    /// Where it fails, with what it says.
    pub fn exec(&self, command: &[&str]) -> io::Result<()> {
        run(&[&["ip", "netns", "exec", &self.name], command].concat())
    }

    /// A program that will be started in this namespace, with the id that `ip` is started with.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// A cable to another namespace, from the interface `here` with its address to the interface `there`.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn cable(&self, here: (&str, &str), other: &Self, there: &str) -> io::Result<()> {
        let (name, address) = here;
        let pair = ["link", "add", name, "type", "veth", "peer", "name", there, "netns"];
        self.ip(&[&pair[..], &[&other.name]].concat())?;
        if !address.is_empty() {
            self.ip(&["address", "add", address, "dev", name])?;
        }
        self.ip(&["link", "set", name, "up"])?;
        other.ip(&["link", "set", there, "up"])
    }

    /// Puts an interface of this namespace into its switch.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn plug(&self, interface: &str) -> io::Result<()> {
        self.ip(&["link", "set", interface, "master", "switch"])
    }

    /// Runs `work` on a thread that is in this namespace to its end, and does not wait for it.
    ///
    /// # Errors
    /// Where the namespace cannot be opened.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<thread::JoinHandle<io::Result<T>>> {
        let file = File::open(Path::new(NETNS).join(&self.name))?;
        Ok(thread::spawn(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        }))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Takes away what processes that are gone have left below `prefix`, and tries whether namespaces can be made.
///
/// # Errors
/// Why they cannot.
pub fn prepare(prefix: &str, programs: &[&str]) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(io::Error::other("it needs root: it makes network namespaces"));
    }
    for program in ["ip"].iter().chain(programs) {
        if Command::new(program).arg("-V").output().is_err() {
            return Err(io::Error::other(format!("there is no {program}")));
        }
    }
    for entry in fs::read_dir(NETNS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            clear(&name);
        }
    }
    let probe = format!("{prefix}{}-probe", process::id());
    run(&["ip", "netns", "add", &probe])
        .map_err(|why| io::Error::other(format!("namespaces cannot be made here: {why}")))?;
    run(&["ip", "netns", "delete", &probe])
}

/// Ends what runs in a namespace whose maker is gone, and takes it away.
fn clear(name: &str) {
    let inside = Command::new("ip").args(["netns", "pids", name]).output();
    let inside = inside.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
    for pid in inside.unwrap_or_default().split_whitespace() {
        let _ = Command::new("kill").args(["-KILL", pid]).output();
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).output();
}

fn run(command: &[&str]) -> io::Result<()> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let done = Command::new(program).args(arguments).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("{}: {said}", command.join(" "))))
}
