//! Network namespaces, the cables between them, and the rules in them. All of it goes with what stands here, and what a
//! test that was killed has left goes when the next one begins.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use landbridge_xtask::rung::NETWORK;
use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps its names.
const NETNS: &str = "/run/netns";
/// What ours are called: then come the process and a number.
const PREFIX: &str = "lbnet-";

/// A network namespace.
pub(crate) struct Space {
    name: String,
}

impl Space {
    /// A new one, with a loopback interface that has these addresses besides its own.
    pub(crate) fn new(addresses: &[&str]) -> Self {
        static READY: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        READY.call_once(prepare);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let space = Self { name: format!("{PREFIX}{}-{next}", process::id()) };
        run(&["ip", "netns", "add", &space.name]);
        space.ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            space.ip(&["address", "add", address, "dev", "lo"]);
        }
        space
    }

    /// `ip` in this namespace.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        run(&[&["ip", "-n", &self.name], arguments].concat());
    }

    /// Another command in this namespace.
    pub(crate) fn exec(&self, command: &[&str]) {
        run(&[&["ip", "netns", "exec", &self.name], command].concat());
    }

    /// A cable to another namespace, from the interface `here` with its address to the interface `there`.
    pub(crate) fn cable(&self, here: (&str, &str), other: &Self, there: &str) {
        let (name, address) = here;
        let pair = ["link", "add", name, "type", "veth", "peer", "name", there, "netns"];
        self.ip(&[&pair[..], &[&other.name]].concat());
        if !address.is_empty() {
            self.ip(&["address", "add", address, "dev", name]);
        }
        self.ip(&["link", "set", name, "up"]);
        other.ip(&["link", "set", there, "up"]);
    }

    /// Puts an interface of this namespace into its switch.
    pub(crate) fn plug(&self, interface: &str) {
        self.ip(&["link", "set", interface, "master", "switch"]);
    }

    /// Runs `work` on a thread that is in this namespace to its end, and does not wait for it.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let file = File::open(Path::new(NETNS).join(&self.name)).unwrap();
        thread::spawn(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A namespace with a switch that others are plugged into.
pub(crate) fn switch() -> Space {
    let space = Space::new(&[]);
    space.ip(&["link", "add", "switch", "type", "bridge"]);
    space.ip(&["link", "set", "switch", "up"]);
    space
}

/// Ends the process where there can be no namespaces, and takes away those of processes that are gone.
fn prepare() {
    if !nix::unistd::geteuid().is_root() {
        NETWORK.skip("it needs root: it makes network namespaces");
    }
    for program in ["ip", "nft"] {
        if Command::new(program).arg("-V").output().is_err() {
            NETWORK.skip(&format!("there is no {program}"));
        }
    }
    for entry in fs::read_dir(NETNS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).status();
        }
    }
    let probe = format!("{PREFIX}{}-probe", process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).output().unwrap();
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        NETWORK.skip(&format!("namespaces cannot be made here: {why}"));
    }
    run(&["ip", "netns", "delete", &probe]);
}

fn run(command: &[&str]) {
    let done = Command::new(command[0]).args(&command[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", command.join(" "));
}
