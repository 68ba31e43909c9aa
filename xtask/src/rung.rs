//! A rung of the test ladder that a machine may not be able to run: it is skipped with a line that says why, or fails
//! where it is demanded.

use std::{env, process};

use crate::{programs::Tool, tell};

/// A rung that needs more than Rust.
#[derive(Clone, Copy, Debug)]
pub struct Rung {
    /// What it is called where it is skipped.
    pub name: &'static str,
    /// The environment variable that demands it with the value `required`.
    pub variable: &'static str,
}

/// Real API servers: kube-apiserver and etcd.
pub const CONTROL_PLANE: Rung =
    Rung { name: "control plane", variable: "LANDBRIDGE_CONTROL_PLANE" };

/// Gateways in network namespaces.
pub const NETWORK: Rung = Rung { name: "network", variable: "LANDBRIDGE_NETWORK" };

/// Whole clusters, of a lab that is up.
pub const CLUSTER: Rung = Rung { name: "cluster", variable: "LANDBRIDGE_CLUSTER" };

impl Rung {
    /// Whether it must run.
    #[must_use]
    pub fn required(&self) -> bool {
        env::var(self.variable).is_ok_and(|value| value == "required")
    }

    /// Goes on where every program is there or can be built, and ends the process otherwise.
    pub fn need(&self, tools: &[Tool]) {
        for tool in tools {
            if let Err(error) = tool.find() {
                self.skip(&error.to_string());
            }
        }
    }

    /// Ends the process: nothing of this rung can be said.
    ///
    /// A single test cannot be skipped once it runs, so the first one ends all, before any other has begun.
    #[expect(clippy::panic, reason = "a rung that is demanded fails")]
    pub fn skip(&self, why: &str) -> ! {
        if self.required() {
            panic!("the {} rung is required, but {why}", self.name);
        }
        tell(&format!("{}: skipped: {why}", self.name));
        process::exit(0)
    }
}
