//! The built binary, from outside: what people and scripts see of each command.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod crds;
mod dns;
mod joining;
mod logs;
mod manifests;
mod pki;
mod running;
mod seeing;
mod settings;
mod token;
mod verify;

use std::process::{Command, Output};

/// Runs `landbridge` with nothing of the tester's own surroundings but what `variables` gives.
fn landbridge_with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landbridge"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn landbridge(arguments: &[&str]) -> Output {
    landbridge_with(arguments, &[])
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
