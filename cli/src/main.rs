//! `landbridge`: controller, DNS server, east-west gateway and the commands that people use, in one binary.
//!
//! | module | holds |
//! | --- | --- |
//! | `command` | what can be asked for |
//! | `config` | flags, environment and file into validated settings |
//! | `demo` | a clusterset on one machine |
//! | `corefile` | what the cluster's own DNS is told |
//! | `init` | how a cluster becomes the hub of a set |
//! | `manifests` | the objects that make a cluster a member |
//! | `verify`, `probe` | whether each cluster calls each other by name |
//! | `seen` | what there is of Landbridge in a cluster, and what that means |
//! | `backup` | what a set cannot do without, in a file |
//! | `lives` | what becomes of members after they have joined |
//! | `admin` | metrics, health and state over HTTP |
//! | `kubernetes` | clients, and who a cluster is |
//! | `telemetry` | logs |
//! | `traces` | spans of calls, for a collector |
//! | `shutdown` | signals |
//! | `exit` | exit codes and the last line |

mod admin;
mod authority;
mod backup;
mod command;
mod config;
mod corefile;
mod demo;
mod enroll;
mod exit;
mod init;
mod kubernetes;
mod lives;
mod manifests;
mod probe;
mod seen;
mod shutdown;
mod telemetry;
mod traces;
mod verify;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

fn main() -> ExitCode {
    // Several libraries use TLS; all shall use the same cryptography. An error means that it is chosen already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = command::Arguments::parse();
    match command::run(arguments, &mut io::stdout()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing can be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "error: {}", exit::line(error.as_ref()));
            exit::Exit::of(&error).into()
        }
    }
}
