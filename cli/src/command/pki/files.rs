//! Writes certificates and keys: keys for their owner only, and nothing over what exists unless told to.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::exit::Usage;

/// A file to write.
pub(super) struct File {
    name: &'static str,
    text: String,
    mode: u32,
}

impl File {
    /// One that everybody may read.
    pub(super) fn public(name: &'static str, text: String) -> Self {
        Self { name, text, mode: 0o644 }
    }

    /// One that only its owner may read.
    pub(super) fn secret(name: &'static str, text: String) -> Self {
        Self { name, text, mode: 0o600 }
    }
}

/// Writes `files` into `folder`, which is made if need be, and returns their paths. With `force` files that exist are
/// replaced, each in one step, so that a gateway that reads one sees the old or the new.
///
/// # Errors
/// [`Usage`] names every file that is in the way, before anything is written.
pub(super) fn write(folder: &Path, files: &[File], force: bool) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = files.iter().map(|file| folder.join(file.name)).collect();
    let exist: Vec<String> =
        paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    if !force && !exist.is_empty() {
        let message = format!(
            "already there: {}. Choose another --out, or replace with --force",
            exist.join(", ")
        );
        return Err(Usage(message).into());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (file, path) in files.iter().zip(&paths) {
        let beside = folder.join(format!(".{}.new", file.name));
        put(&beside, file)
            .and_then(|()| fs::rename(&beside, path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(paths)
}

fn put(path: &Path, file: &File) -> io::Result<()> {
    // What an earlier attempt left must go: it may have other permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path)?;
    opened.write_all(file.text.as_bytes())?;
    opened.sync_all()
}
