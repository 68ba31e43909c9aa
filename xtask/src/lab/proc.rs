//! Pure: what the kernel's text files say: processes and mounts.

use std::path::PathBuf;

/// Whether a process still runs and when it began, in ticks since the machine's start, of `/proc/<pid>/stat`.
///
/// A number is given again to another process, but not with the same beginning. One that ended and was not waited for
/// runs no longer.
pub(crate) fn running_since(stat: &str) -> Option<u64> {
    // A name may hold spaces and parentheses: what follows the last one is safe to split.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let since = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "X" | "Z")).then_some(since)
}

/// Where the hierarchies of control groups are mounted, of `/proc/self/mountinfo`: version 2 first, which has all
/// processes.
pub(crate) fn cgroup_hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let mut found: Vec<(&str, PathBuf)> = mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let place = mount.split(' ').nth(4)?;
            let kind = filesystem.split(' ').next()?;
            matches!(kind, "cgroup" | "cgroup2").then(|| (kind, place.into()))
        })
        .collect();
    found.sort_by_key(|(kind, _)| *kind != "cgroup2");
    found.into_iter().map(|(_, place)| place).collect()
}

/// Mounts below a folder, of `/proc/self/mountinfo`, deepest first.
pub(crate) fn mounts_below(mountinfo: &str, folder: &str) -> Vec<String> {
    let below = format!("{folder}/");
    let mut found: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| place.starts_with(&below))
        .map(str::to_owned)
        .collect();
    found.sort_by_key(|place| std::cmp::Reverse(place.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_when_it_began() {
        let stat = |state: &str| {
            format!("77 (a) b) {state} 1 77 77 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 9 0 4711 1 2 3")
        };
        assert_eq!(running_since(&stat("S")), Some(4711));
        assert_eq!(running_since(&stat("Z")), None);
        assert_eq!(running_since(""), None);
    }

    #[test]
    fn mounts_and_hierarchies_are_found() {
        let mountinfo = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/pids rw,relatime shared:1 - cgroup cgroup rw,pids
27 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
40 1 0:30 / /a/b rw - tmpfs tmpfs rw
41 1 0:31 / /a/b/c rw - tmpfs tmpfs rw
42 1 0:31 / /ab rw - tmpfs tmpfs rw
";
        let found = cgroup_hierarchies(mountinfo);
        assert_eq!(found, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"].map(PathBuf::from));
        assert_eq!(mounts_below(mountinfo, "/a"), ["/a/b/c", "/a/b"]);
    }
}
