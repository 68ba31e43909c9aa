//! Memory and CPU of processes as the kernel counts them, and the cores that they run on.
//!
//! Two cores shared with the load generator hide how fast a server is; what it costs does not depend on who else runs.
//! All of this is Linux's; elsewhere it is an error that says so.

use std::{collections::BTreeSet, fs, io, time::Duration};

/// The kernel counts CPU time for `/proc` in hundredths of a second on every architecture that Linux is built for
/// (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What a process has taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// What it holds now, in bytes.
    pub resident: u64,
    /// The most that it has held since it began, or since [`reset_peak`].
    pub peak: u64,
}

/// What a process holds and has held.
///
/// # Errors
/// Where there is no such process.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_memory(&text).ok_or_else(|| io::Error::other("/proc tells nothing of memory"))
}

/// What a process holds, in bytes, with pages that it shares with others counted in parts: of several processes of one
/// system the sum is what the system holds.
///
/// # Errors
/// Where there is no such process, or it is somebody else's.
pub fn proportional(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    field(&text, "Pss:").ok_or_else(|| io::Error::other("/proc tells nothing of shared memory"))
}

/// Lets the peak of a process begin at what it holds now.
///
/// # Errors
/// Where there is no such process, or it is somebody else's.
pub fn reset_peak(pid: u32) -> io::Result<()> {
    // proc(5): "5 … Reset the peak resident set size ("high water mark") to the process's current resident set size".
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The CPU time that a process has taken, in user mode and in the kernel for it.
///
/// # Errors
/// Where there is no such process.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu(&text).ok_or_else(|| io::Error::other("/proc tells nothing of CPU time"))
}

/// The same of all processes of a system together.
///
/// # Errors
/// Where one of them is gone.
pub fn cpu_of(pids: impl IntoIterator<Item = u32>) -> io::Result<Duration> {
    pids.into_iter().map(cpu).sum()
}

/// A process and all that it has started, and they.
///
/// # Errors
/// Where there is no such process.
pub fn family(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        for task in threads(pid)? {
            // It may have ended just now.
            let path = format!("/proc/{pid}/task/{task}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(found)
}

/// Lets a process run on these cores only, with all of its threads and what they start.
///
/// # Errors
/// Where there is no such process or core.
pub fn pin(pid: u32, cores: &[usize]) -> io::Result<()> {
    let mut pinned = BTreeSet::new();
    // A thread that was started meanwhile may have been started by one that was not pinned yet.
    loop {
        let found: BTreeSet<u32> = threads(pid)?.into_iter().collect();
        let new: Vec<u32> = found.difference(&pinned).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            match pin_thread(thread, cores) {
                // It has ended meanwhile.
                Err(error) if thread != pid && is_gone(&error) => {}
                other => other?,
            }
            pinned.insert(thread);
        }
    }
}

#[cfg(target_os = "linux")]
fn pin_thread(thread: u32, cores: &[usize]) -> io::Result<()> {
    use nix::{
        sched::{CpuSet, sched_setaffinity},
        unistd::Pid,
    };

    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    let thread = i32::try_from(thread).map_err(io::Error::other)?;
    Ok(sched_setaffinity(Pid::from_raw(thread), &set)?)
}

#[cfg(not(target_os = "linux"))]
fn pin_thread(_: u32, _: &[usize]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "threads are pinned on Linux only"))
}

fn is_gone(error: &io::Error) -> bool {
    // ESRCH, which has no kind.
    error.raw_os_error() == Some(3)
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let folders = fs::read_dir(format!("/proc/{pid}/task"))?;
    let names = folders.filter_map(|folder| folder.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// A line of /proc that tells an amount of memory, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn parse_memory(status: &str) -> Option<Memory> {
    Some(Memory { resident: field(status, "VmRSS:")?, peak: field(status, "VmHWM:")? })
}

fn parse_cpu(stat: &str) -> Option<Duration> {
    // The second field is the program's name in brackets, which may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let user: u32 = fields.nth(11)?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let status = "Name:\tbench\nVmPeak:\t  9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { resident: 1 << 20, peak: 2 << 20 }));
        assert_eq!(parse_memory("Name:\tzombie\n"), None);
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_cpu("7"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_taken_something() {
        let own = std::process::id();
        let taken = memory(own).unwrap();
        assert!(taken.resident > 0 && taken.peak > 0);
        assert!(proportional(own).unwrap() > 0);
        assert!(cpu(own).is_ok() && cpu_of([own, u32::MAX]).is_err());
        assert!(family(own).unwrap().contains(&own));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_is_pinned_stays_on_its_core() {
        let child = std::process::Command::new("sleep").arg("600").spawn();
        let mut child = child.unwrap();
        let pinned = pin(child.id(), &[0]);
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        pinned.unwrap();
        let allowed = status.unwrap();
        let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.map(str::trim), Some("0"));
    }
}
