//! The lab that is up, with Landbridge on it, and who may use it at the same time.
//!
//! Cases with a namespace of their own run beside one another. What stops or kills something runs alone, and so does
//! whatever brings up another lab, which would take the processors from cases that have seconds.

use std::{
    env,
    process::Command,
    sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use landbridge_xtask::lab::{Lab, install};

use crate::the_lab;

static GATE: RwLock<()> = RwLock::new(());

/// Others may be there.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    // A case that failed has left nothing here that could be half done.
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody else is there.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    GATE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The lab that is up, with this tree's Landbridge on it: installed by the first who asks.
#[track_caller]
pub(crate) fn the_set() -> Lab {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let lab = the_lab();
    let installed = INSTALLED.get_or_init(|| install(&lab));
    if let Err(error) = installed {
        panic!("Landbridge cannot be installed: {error}");
    }
    lab
}

fn install(lab: &Lab) -> Result<(), String> {
    build()?;
    let installed = install::built()
        .and_then(|program| lab.install(&program, lab.installed().unwrap_or_default()));
    installed.map_err(|error| format!("{error:#}"))
}

/// Builds the program, so that it is never that of older sources. Where it is there, nothing happens.
fn build() -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--locked", "--quiet", "--workspace", "--bin", "landbridge"];
    match Command::new(cargo).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        status => Err(format!("it does not build: {status:?}")),
    }
}
