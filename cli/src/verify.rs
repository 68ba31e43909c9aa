//! `landbridge verify`: whether each cluster of a set calls each other by name, found out by doing it.
//!
//! ```text
//! who are they ─► namespace, Service, export and two pods in each ─► what the pods report ─► what is wrong ─► all gone again
//! ```
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`objects`] | what is made in each cluster? |
//! | [`place`] | does it, reads how it went, and takes it away |
//! | [`seen`] | what is known of a cluster then? |
//! | [`judge`] | what is wrong, and what is to be done? |
//! | [`report`] | what are people and programs told? |

pub(crate) mod judge;
pub(crate) mod objects;
pub(crate) mod place;
pub(crate) mod report;
pub(crate) mod seen;

/// On the namespaces that are made: that it was us, so that what a killed run has left is known.
pub(crate) const LABEL: &str = "landbridge.dev/verify";
