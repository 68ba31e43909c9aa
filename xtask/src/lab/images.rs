//! Images made from Debian's programs and the libraries that they are linked with, without a registry.
//!
//! They carry the names that the upstream conformance suite asks for, and the programs that it runs in them. A real
//! `sh` (dash) is among them: the one of busybox runs its own `nc` before the one on the PATH.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{files::PAUSE, host, proc};

/// An image, and what is in it.
pub(crate) struct Image {
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
pub(crate) const IMAGES: &[Image] = &[
    Image {
        name: PAUSE,
        entrypoint: &["/usr/bin/sleep", "infinity"],
        command: &[],
        programs: &["sleep"],
    },
    Image {
        name: "docker.io/alpine/socat:1.7.4.4",
        entrypoint: &["socat"],
        command: &[],
        programs: &["socat"],
    },
    Image {
        name: "docker.io/nicolaka/netshoot:v0.15",
        entrypoint: &[],
        command: &["sh"],
        programs: &[
            "awk", "curl", "cut", "dig", "grep", "head", "host", "ip", "ls", "nc", "nslookup",
            "ping", "ps", "sed", "seq", "socat", "sort", "ss", "tail", "timeout", "tr", "wc",
        ],
    },
];

/// Small files that programs look for.
const FILES: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
];
/// Where programs look for each other, by older names.
const LINKS: &[(&str, &str)] =
    &[("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")];
const FOLDERS: &[&str] = &["dev", "etc", "proc", "run", "sys", "tmp", "usr", "usr/bin", "var"];

impl Image {
    /// The image as the archive that `ctr images import` takes.
    pub(crate) fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.layer()?;
        let diff = HEXLOWER.encode(&Sha256::digest(&layer));
        let config = json!({
            "architecture": match env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "config": {"Cmd": self.command, "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
        });
        let config = config.to_string();
        let config_name = format!("{}.json", HEXLOWER.encode(&Sha256::digest(&config)));
        let manifest =
            json!([{"Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        let mut archive = Builder::new(Vec::new());
        for (name, bytes) in [
            (config_name.as_str(), config.as_bytes()),
            ("layer.tar", &layer),
            ("manifest.json", manifest.to_string().as_bytes()),
        ] {
            file(&mut archive, name, 0o644, bytes)?;
        }
        Ok(archive.into_inner()?)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let shell = if self.name == PAUSE { &[] } else { SHELL };
        let mut files = BTreeMap::new();
        for name in self.programs.iter().chain(shell) {
            let called =
                CALLED.iter().find(|(short, _)| short == name).map_or(*name, |(_, long)| long);
            let program = on_the_path(called)?;
            for library in libraries(&program)? {
                files.insert(place(&library), library);
            }
            files.insert(format!("usr/bin/{name}"), program);
        }
        let mut layer = Builder::new(Vec::new());
        let mut folders: Vec<String> = FOLDERS.iter().map(|&folder| folder.into()).collect();
        folders.extend(files.keys().flat_map(|file| parents(file)));
        folders.sort();
        folders.dedup();
        for folder in folders {
            let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
            entry(&mut layer, EntryType::Directory, &folder, mode, &[])?;
        }
        for (name, target) in LINKS {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            layer.append_link(&mut header, name, target)?;
        }
        for (name, text) in FILES {
            file(&mut layer, name, 0o644, text.as_bytes())?;
        }
        for (name, source) in files {
            let bytes = fs::read(&source).with_context(|| source.display().to_string())?;
            file(&mut layer, &name, 0o755, &bytes)?;
        }
        Ok(layer.into_inner()?)
    }
}

/// The path in an image of a file of the machine: folders that are links in a newer Debian are written out.
fn place(path: &Path) -> String {
    let path = path.display().to_string();
    let path = path.trim_start_matches('/');
    if LINKS.iter().any(|(link, _)| path.starts_with(&format!("{link}/"))) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// The folders that a file is in.
fn parents(file: &str) -> Vec<String> {
    file.match_indices('/').map(|(at, _)| file[..at].to_owned()).collect()
}

fn on_the_path(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program {name} to put into an image"))
}

fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    Ok(proc::libraries(&String::from_utf8_lossy(&output.stdout)))
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    // The same bytes each time.
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    entry(archive, EntryType::Regular, name, mode, bytes)
}

fn entry(
    archive: &mut Builder<Vec<u8>>,
    kind: EntryType,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    archive.append_data(&mut header(kind, mode, bytes.len()), name, bytes)?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_their_paths_but_for_folders_that_are_links() {
        for (from, to) in [
            ("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
            ("/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
            ("/usr/lib/x86_64-linux-gnu/libz.so.1", "usr/lib/x86_64-linux-gnu/libz.so.1"),
        ] {
            assert_eq!(place(Path::new(from)), to);
        }
        assert_eq!(parents("usr/lib/a.so"), ["usr", "usr/lib"]);
    }

    #[test]
    fn an_image_is_the_same_bytes_each_time_and_holds_what_its_programs_need() {
        let [pause, ..] = IMAGES else { panic!("an image") };
        assert_eq!(pause.archive().unwrap(), pause.archive().unwrap());
        let layer = pause.layer().unwrap();
        let mut layer = tar::Archive::new(&layer[..]);
        let names: Vec<String> = layer
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(names.iter().any(|name| name == "usr/bin/sleep"), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("libc.so.6")), "{names:?}");
    }
}
