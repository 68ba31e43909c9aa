//! The rules of the house, each held by a test.
//!
//! | file | question |
//! | --- | --- |
//! | [`crds`] | are the definitions in `deploy/crds` what the Rust types say? |
//! | [`directions`] | does a crate use only what ARCHITECTURE.md lets it use, and the model nothing that does IO? |
//! | [`headers`] | does every file say what it is and why it is there? |
//! | [`map`] | does ARCHITECTURE.md name what is there, and only that? |
//! | [`manifests`] | does every crate obey the workspace's lints, and come from crates.io what is not ours? |
//! | [`purity`] | does a file that says `//! Pure:` keep its word? |
//! | [`sizes`] | do functions fit a screen, and files a head? |
//! | [`tasks`] | is everything bounded, and does only the top of a component start tasks? |
//! | [`text`] | does the text speak of the project, not of the machine that it was written on? |
//! | [`threats`] | does every threat of `docs/security.md` name a test that is there? |
//!
//! A finding names file, line and remedy. Every check is also run over a small text that breaks it, since a check
//! that cannot fail holds nothing.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod crds;
mod directions;
mod headers;
mod manifests;
mod map;
mod purity;
mod sizes;
mod source;
mod tasks;
mod text;
mod threats;
mod workspace;
