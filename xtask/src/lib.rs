//! What contributors run, as a library, so that tests and benchmarks can run it too.
//!
//! | module | question |
//! | --- | --- |
//! | [`programs`] | where are etcd, CoreDNS and the programs of Kubernetes, in the versions that are pinned here? |
//! | [`process`] | how does a program end when whoever started it does? |
//! | [`apiserver`] | how does a test get a real API server? |
//! | [`image`] | how does an image of ours come to be, without a registry or a daemon? |
//! | [`lab`] | how do whole clusters come to stand on one machine, and go again? |
//! | [`conformance`] | how do the cases of `tests/cluster` go, in which arrangement? |
//! | [`space`] | how do tests and benchmarks get networks of their own? |
//! | [`rung`] | what does a rung of the test ladder do where it cannot run? |
//!
//! No crate of ours is used here, so that tests of each of them can use this one.

use std::io::{self, Write as _};

pub mod apiserver;
pub mod conformance;
pub mod image;
pub mod lab;
pub mod process;
pub mod programs;
pub mod rung;
pub mod space;

/// Says what is done, where a test harness does not hold it back. Where standard error is closed, nobody listens.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
