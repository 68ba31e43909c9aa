//! Takes a lab away, whatever state it is in: also one that was never finished, or whose processes were killed.
//!
//! Nothing is asked to end in order: containers, kubelets and API servers of one lab are of no use to each other any
//! more, and their mounts go with the last of them. What is ours is told by three things, none of which another program
//! can have: the record of processes, the control group, and the names of network namespaces.

use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{Steps, host, lock, options::Name, plan::Places, state::Processes};

/// Ends all of a lab and removes what it made. Where there is none, nothing happens.
///
/// # Errors
/// Without root, or where something of it cannot be removed; the rest is gone then, and `down` can be said again.
pub fn down(name: &Name) -> Result<()> {
    host::require_root()?;
    let _lock = lock(name)?;
    let mut steps = Steps::begin();
    let places = Places::of(name);
    for pid in Processes::read(&places)?.all_running() {
        host::signal(pid, Signal::SIGKILL)?;
    }
    host::end_cgroup(&places.cgroup)?;
    steps.done("processes and containers ended");
    for namespace in host::network_namespaces(&places.namespaces)? {
        host::run(Command::new("ip").args(["netns", "delete", &namespace]))?;
    }
    host::remove_folder(&places.folder)?;
    steps.done("namespaces and files removed");
    Ok(())
}

/// What there still is of a lab: nothing, once it is down.
///
/// # Errors
/// Where the machine cannot be asked.
pub fn remains(name: &Name) -> Result<Vec<String>> {
    let places = Places::of(name);
    let mut found = host::network_namespaces(&places.namespaces)?;
    found.extend(host::members(&places.cgroup)?.iter().map(|pid| format!("process {pid}")));
    found.extend(host::cgroups(&places.cgroup)?.iter().map(|group| group.display().to_string()));
    if places.folder.exists() {
        found.push(places.folder.display().to_string());
    }
    Ok(found)
}
