//! Whole clusters: what needs pods, kube-proxy, a kubelet and a cluster DNS to be known.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`basics`] | what the lab promises: clusters that are clusters, in the arrangement that was asked for |
//! | [`beyond`] | what the suite does not ask for: UDP, pods by name, what goes on while parts are away |
//! | [`commands`] | four commands from two bare clusters to a call, with API servers that cannot reach each other |
//! | [`conformance`] | the 27 cases of the upstream conformance suite, with Landbridge on the lab |
//! | [`installed`] | Landbridge comes to run on a lab, and goes again |
//! | [`pods`] | Landbridge in pods, and rolling restarts while calls go on |
//! | [`remains`] | a lab that goes leaves nothing, however it ends |
//! | [`space`] | a namespace of its own for each test |
//! | [`upstream`] | whoever has the upstream suite can run it on the lab |
//! | [`case`], [`gate`], [`objects`], [`stage`] | how a case is played, beside whom, with what, and on what |
//!
//! The clusters are those of a lab that is up, `cargo xtask lab up`: see README.md beside this file.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod basics;
mod beyond;
mod case;
mod commands;
mod conformance;
mod gate;
mod installed;
mod objects;
mod pods;
mod remains;
mod space;
mod stage;
mod upstream;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use landbridge_xtask::{
    lab::{self, Lab},
    rung::CLUSTER,
};

/// The lab that is up; ends the process where there is none.
fn the_lab() -> Lab {
    let name =
        env::var("LANDBRIDGE_LAB").map_or_else(|_| Ok(Default::default()), |name| name.parse());
    let lab = lab::require_root().and_then(|()| Lab::attach(&name.unwrap()));
    lab.unwrap_or_else(|error| CLUSTER.skip(&error.to_string()))
}

/// Asks until there is an answer, or for too long.
#[track_caller]
fn becomes<T>(what: &str, within: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(said) if begun.elapsed() > within => {
                panic!("{what}: not within {within:?}\n{said}")
            }
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}
