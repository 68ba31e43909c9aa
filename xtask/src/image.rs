//! Images made here, without a registry or a daemon: a layer of files, what they are started with, and an archive of both
//! that `docker load` and `ctr images import` take.
//!
//! The same files make the same bytes, so that an image can be told by its digest.

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

/// Where programs look for each other, by older names.
const LINKS: &[(&str, &str)] =
    &[("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")];
/// What the name of a host is looked for in.
const NSSWITCH: (&str, &str) = ("etc/nsswitch.conf", "hosts: files dns\n");
/// Who runs what needs no rights: the user that others' images without a shell have as well.
const USER: u32 = 65532;

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its whole name.
    pub name: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// Who it runs as; root, where it is not said.
    pub(crate) user: Option<u32>,
    pub(crate) root: Root,
}

/// What is in a file.
#[derive(Clone, Debug)]
enum Content {
    /// The same as in a file of the machine.
    File(PathBuf),
    Text(String),
}

/// The files of an image.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    folders: BTreeMap<String, u32>,
    files: BTreeMap<String, (u32, Content)>,
}

impl Default for Root {
    fn default() -> Self {
        let mut root = Self { folders: BTreeMap::new(), files: BTreeMap::new() };
        root.text(NSSWITCH.0, NSSWITCH.1);
        for (_, target) in LINKS {
            root.folder(target, 0o755);
        }
        root
    }
}

impl Root {
    /// Puts a program in, and the libraries that it is linked with.
    pub(crate) fn program(&mut self, place: &str, program: &Path) -> Result<()> {
        let output = Command::new("ldd").arg(program).output().context("ldd")?;
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.file(&written_out(&library), 0o755, Content::File(library));
        }
        self.file(place, 0o755, Content::File(program.to_owned()));
        Ok(())
    }

    pub(crate) fn text(&mut self, place: &str, text: &str) {
        self.file(place, 0o644, Content::Text(text.into()));
    }

    pub(crate) fn folder(&mut self, place: &str, mode: u32) {
        for parent in parents(place) {
            self.folders.entry(parent).or_insert(0o755);
        }
        self.folders.insert(place.into(), mode);
    }

    fn file(&mut self, place: &str, mode: u32, content: Content) {
        for parent in parents(place) {
            self.folders.entry(parent).or_insert(0o755);
        }
        self.files.insert(place.into(), (mode, content));
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (folder, mode) in &self.folders {
            entry(&mut layer, EntryType::Directory, folder, *mode, &[])?;
        }
        for (name, target) in LINKS {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            layer.append_link(&mut header, name, target)?;
        }
        for (name, (mode, content)) in &self.files {
            let bytes = match content {
                Content::File(source) => {
                    fs::read(source).with_context(|| source.display().to_string())?
                }
                Content::Text(text) => text.clone().into_bytes(),
            };
            entry(&mut layer, EntryType::Regular, name, *mode, &bytes)?;
        }
        Ok(layer.into_inner()?)
    }
}

impl Image {
    /// `landbridge` with what it is linked with and nothing else: no shell, and no file that its user may write.
    ///
    /// # Errors
    /// Where it cannot be asked what the program is linked with.
    pub fn landbridge(name: &str, program: &Path) -> Result<Self> {
        let mut root = Root::default();
        root.program("landbridge", program)?;
        root.text("etc/group", &format!("landbridge:x:{USER}:\n"));
        root.text("etc/passwd", &format!("landbridge:x:{USER}:{USER}::/:/nologin\n"));
        Ok(Self {
            name: name.into(),
            entrypoint: vec!["/landbridge".into()],
            command: Vec::new(),
            user: Some(USER),
            root,
        })
    }

    /// The image as an archive.
    ///
    /// # Errors
    /// Where a file of it cannot be read.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.root.layer().with_context(|| self.name.clone())?;
        let diff = HEXLOWER.encode(&Sha256::digest(&layer));
        let mut config = json!({
            "architecture": match env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "config": {"Cmd": self.command, "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
        });
        if let Some(user) = self.user {
            config["config"]["User"] = format!("{user}:{user}").into();
        }
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
            entry(&mut archive, EntryType::Regular, name, 0o644, bytes)?;
        }
        Ok(archive.into_inner()?)
    }
}

/// The files that a program is linked with, as `ldd` tells them.
fn libraries(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once("=> ").map_or(line, |(_, path)| path);
            let path = path.split_whitespace().next()?;
            path.starts_with('/').then(|| path.into())
        })
        .collect()
}

/// The path in an image of a file of the machine: folders that are links in a newer Debian are written out.
fn written_out(path: &Path) -> String {
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

/// A program of the machine.
pub(crate) fn on_the_path(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program {name} to put into an image"))
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
            assert_eq!(written_out(Path::new(from)), to);
        }
        assert_eq!(parents("usr/lib/a.so"), ["usr", "usr/lib"]);
    }

    #[test]
    fn libraries_are_read_from_what_the_linker_says() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(libraries(ldd), ["/lib/x/libc.so.6", "/lib64/ld.so.2"].map(PathBuf::from));
        assert!(libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    fn an_image_is_the_same_bytes_each_time_and_holds_what_its_program_needs_and_no_shell() {
        // Any program will do for one: ours is not built yet.
        let program = on_the_path("sleep").unwrap();
        let image = || Image::landbridge("example/landbridge:1", &program).unwrap();
        assert_eq!(image().archive().unwrap(), image().archive().unwrap());
        let layer = image().root.layer().unwrap();
        let mut layer = tar::Archive::new(&layer[..]);
        let mut names = Vec::new();
        for entry in layer.entries().unwrap() {
            let entry = entry.unwrap();
            let (name, header) = (entry.path().unwrap().display().to_string(), entry.header());
            let mode = header.mode().unwrap();
            let link = header.entry_type() == EntryType::Symlink;
            assert!(link || mode & 0o022 == 0, "{name} can be written: {mode:o}");
            names.push(name);
        }
        assert!(names.iter().any(|name| name == "landbridge"), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("libc.so.6")), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("usr/bin/")), "{names:?}");
    }

    #[test]
    fn it_runs_as_a_user_who_owns_nothing() {
        let image = Image::landbridge("example/landbridge:1", &on_the_path("sleep").unwrap());
        let archive = image.unwrap().archive().unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        let mut configs = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name.ends_with(".json") && name != "manifest.json" {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                configs.push(serde_json::from_str::<serde_json::Value>(&text).unwrap());
            }
        }
        let [config] = &configs[..] else { panic!("one configuration") };
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/landbridge"]));
    }
}
