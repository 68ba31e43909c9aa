//! The images of a lab, made from Debian's programs, without a registry.
//!
//! They carry the names that the upstream conformance suite asks for, and the programs that it runs in them. A real
//! `sh` (dash) is among them: the one of busybox runs its own `nc` before the one on the PATH.

use std::path::Path;

use anyhow::Result;

use super::{files::PAUSE, host};
use crate::image::{Image, Root, on_the_path};

/// An image of the lab, and what is in it.
pub(crate) struct Made {
    /// Its whole name.
    pub(crate) name: &'static str,
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    programs: &'static [&'static str],
}

/// Programs that are called otherwise in images than on the machine.
const CALLED: &[(&str, &str)] = &[("nc", "nc.openbsd"), ("sh", "dash"), ("awk", "mawk")];

const SHELL: &[&str] = &["cat", "date", "echo", "env", "hostname", "printf", "sh", "sleep", "true"];

/// Every image of a lab.
pub(crate) const IMAGES: &[Made] = &[
    Made {
        name: PAUSE,
        entrypoint: &["/usr/bin/sleep", "infinity"],
        command: &[],
        programs: &["sleep"],
    },
    Made {
        name: "docker.io/alpine/socat:1.7.4.4",
        entrypoint: &["socat"],
        command: &[],
        // The suite's script looks at the pod's addresses with the others.
        programs: &["awk", "grep", "socat", "tr"],
    },
    Made {
        name: "docker.io/nicolaka/netshoot:v0.15",
        entrypoint: &[],
        command: &["sh"],
        programs: &[
            "awk", "curl", "cut", "dig", "getent", "grep", "head", "host", "ip", "ls", "nc",
            "nslookup", "ping", "ps", "sed", "seq", "socat", "sort", "ss", "tail", "timeout", "tr",
            "wc",
        ],
    },
];

impl Made {
    /// The image as the archive that `ctr images import` takes.
    pub(crate) fn archive(&self) -> Result<Vec<u8>> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let image = Image {
            name: self.name.into(),
            entrypoint: words(self.entrypoint),
            command: words(self.command),
            user: None,
            root: self.root()?,
        };
        image.archive()
    }

    fn root(&self) -> Result<Root> {
        let shell = if self.name == PAUSE { &[] } else { SHELL };
        let mut root = Root::default();
        for name in self.programs.iter().chain(shell) {
            let called =
                CALLED.iter().find(|(short, _)| short == name).map_or(*name, |(_, long)| long);
            root.program(&format!("usr/bin/{name}"), &on_the_path(called)?)?;
        }
        root.folder("tmp", 0o1777);
        for folder in ["dev", "proc", "run", "sys", "var"] {
            root.folder(folder, 0o755);
        }
        root.text("etc/group", "root:x:0:\nnogroup:x:65534:\n");
        root.text(
            "etc/passwd",
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        );
        Ok(root)
    }
}

/// Gives an archive to a cluster's containerd.
pub(crate) fn import(room: &host::Room, archive: &Path) -> Result<()> {
    let archive = archive.display().to_string();
    host::run(&mut room.command(&[
        "ctr",
        "--namespace",
        "k8s.io",
        "images",
        "import",
        &archive,
    ])?)?;
    Ok(())
}
