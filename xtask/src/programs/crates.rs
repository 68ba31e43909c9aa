//! Programs from crates.io, built with what their authors have locked, and kept beside those that Go builds.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::built;
use crate::tell;

/// WireGuard in userspace, as Cloudflare wrote it.
pub const BORINGTUN: Crate =
    Crate { package: "boringtun-cli", version: "0.7.1", program: "boringtun-cli" };
/// WireGuard in userspace, as Mullvad goes on from there.
pub const GOTATUN: Crate = Crate { package: "gotatun-cli", version: "0.10.2", program: "gotatun" };

/// A program, and the crate that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Crate {
    package: &'static str,
    version: &'static str,
    /// What the program is called.
    pub program: &'static str,
}

impl Crate {
    /// The program in the pinned version, built where it was not yet.
    ///
    /// # Errors
    /// Where it cannot be fetched or does not build: what cargo has said tells more.
    pub fn pinned(&self) -> anyhow::Result<PathBuf> {
        let Self { package, version, program } = self;
        let place = built().join(format!("{program}-v{version}"));
        if place.is_file() {
            return Ok(place);
        }
        fs::create_dir_all(built())?;
        let lock = File::create(built().join(".lock"))?;
        lock.lock()?;
        // Whoever held the lock may have built it.
        if !place.is_file() {
            tell(&format!("building {program} {version}, once: some minutes at most"));
            let half = built().join(format!(".{program}.half"));
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .args(["install", "--locked", "--quiet", "--root"])
                .arg(&half)
                .arg(format!("{package}@{version}"))
                // It is no part of the workspace that asks for it.
                .current_dir(built())
                .env_remove("CARGO_TARGET_DIR")
                .status()
                .context("cargo cannot be run")?;
            ensure!(status.success(), "{package} {version} does not build");
            fs::rename(half.join("bin").join(program), &place)?;
            fs::remove_dir_all(&half)?;
        }
        drop(lock);
        Ok(place)
    }
}
