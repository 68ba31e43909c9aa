//! The cases of the upstream conformance suite of the Multi-Cluster Services API, written anew from what they ask for.
//!
//! | file | cases |
//! | --- | --- |
//! | [`imports`] | R1, R2, R10–R13, O1, O2: when an import is there, of which type, and what it takes over |
//! | [`fields`] | R3–R9: what an import of a Service with an address says |
//! | [`names`] | O3–O9: slices, and what the cluster's DNS answers |
//! | [`calls`] | R14, O10–O13: who answers |
//!
//! Order, waits and commands are the suite's. `R` are required of everybody, `O` are optional there.

mod calls;
mod fields;
mod imports;
mod names;
