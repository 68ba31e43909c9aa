//! A lab that goes leaves nothing on the machine, however it ends: it has a name of its own beside the one that is up.

use std::{fs, process::Command, sync::RwLockWriteGuard, time::Duration};

use landbridge_xtask::lab::{
    self, Lab,
    options::{Name, Options},
};

use crate::{becomes, gate, the_lab};

/// The lab of one test, taken away whatever becomes of it.
pub(crate) struct Other(pub(crate) Name, #[expect(dead_code, reason = "held")] Nobody);

type Nobody = RwLockWriteGuard<'static, ()>;

impl Other {
    pub(crate) fn new(name: &str) -> Self {
        // Where there is no lab, these are skipped as well: they need what it needs.
        the_lab();
        let nobody = gate::alone();
        let name = name.parse().unwrap();
        lab::down(&name).unwrap();
        Self(name, nobody)
    }

    /// The arrangement of the lab that is up, so that each is tried in its turn.
    pub(crate) fn arranged(&self) -> Options {
        Options { clusters: 2, name: self.0.clone(), ..the_lab().options().clone() }
    }

    fn options(&self) -> Options {
        Options { clusters: 1, name: self.0.clone(), ..Options::default() }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = lab::down(&self.0);
    }
}

/// The folders that programs of a cluster write to where a machine has but one.
fn written() -> Vec<String> {
    let folders = ["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods"];
    folders.iter().filter(|folder| fs::exists(folder).unwrap()).map(ToString::to_string).collect()
}

fn mounts() -> String {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Namespaces of labs that are up come and go.
    text.lines().filter(|line| !line.contains("/run/netns")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_lab_with_a_pod_goes_and_leaves_nothing() {
    let other = Other::new("remains");
    let before = (written(), mounts());
    let up = Lab::up(&other.options()).unwrap();
    let cluster = up.cluster(1).unwrap();
    let pod = "{'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': 'p'}, 'spec': {'containers': [{'name': 'p', 'image': 'nicolaka/netshoot:v0.15', 'command': ['sleep', 'infinity']}]}}";
    cluster.apply(&pod.replace('\'', "\"")).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=90s"]).unwrap();
    // Once more changes nothing: the same processes run.
    let status = up.status().unwrap();
    assert!(status.iter().all(|line| line.contains(" runs ")), "{status:?}");
    assert_eq!(Lab::up(&other.options()).unwrap().status().unwrap(), status);
    assert!(!lab::remains(&other.0).unwrap().is_empty());
    // Such as what an `up` was just running when it was killed.
    let mut left = cluster.command(&["sleep", "600"].map(str::to_owned)).unwrap().spawn().unwrap();
    becomes("it has begun", Duration::from_secs(20), || {
        let name = fs::read_to_string(format!("/proc/{}/comm", left.id())).unwrap();
        if name == "sleep\n" { Ok(()) } else { Err(name) }
    });
    lab::down(&other.0).unwrap();
    assert!(left.try_wait().unwrap().is_some());
    assert_eq!(lab::remains(&other.0).unwrap(), [""; 0]);
    assert_eq!((written(), mounts()), before);
}

#[test]
fn a_lab_whose_processes_were_killed_comes_again_and_goes() {
    let other = Other::new("killed");
    let up = Lab::up(&other.options()).unwrap();
    let status = up.status().unwrap();
    for line in &status {
        let pid = line.rsplit_once('(').unwrap().1.trim_end_matches(')');
        assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
    }
    becomes("they are gone", Duration::from_secs(20), || {
        let now = up.status().unwrap();
        let gone = now.iter().all(|line| line.contains(" does not run "));
        if gone { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let again = Lab::up(&other.options()).unwrap().status().unwrap();
    assert!(again.iter().all(|line| line.contains(" runs ")), "{again:?}");
    assert!(again.iter().all(|line| !status.contains(line)), "{again:?}");
    lab::down(&other.0).unwrap();
    assert_eq!(lab::remains(&other.0).unwrap(), [""; 0]);
}

#[test]
fn a_lab_that_was_never_finished_goes() {
    let other = Other::new("half");
    // What is left of one that ended after its first namespace.
    let prefix = "landbridge-half";
    assert!(
        Command::new("ip")
            .args(["netns", "add", &format!("{prefix}-c1")])
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir_all(format!("/var/tmp/{prefix}/c1")).unwrap();
    // Its process has ended, and its number is ours now; the next line was never written to its end.
    let record = format!("{} {} c1/etcd\n7", std::process::id(), u64::MAX);
    fs::write(format!("/var/tmp/{prefix}/processes"), record).unwrap();
    assert!(!lab::remains(&other.0).unwrap().is_empty());
    lab::down(&other.0).unwrap();
    assert_eq!(lab::remains(&other.0).unwrap(), [""; 0]);
}
