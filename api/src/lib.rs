//! Kubernetes as Landbridge sees it: resource types, well-known names, conversion between objects and the model,
//! and watch streams.
//!
//! Everything that knows how a Kubernetes object looks lives here, so that the controller, the DNS server and the
//! gateway meet in the same reading of the same objects.
//!
//! | module | holds |
//! | --- | --- |
//! | [`mcs`] | ServiceExport and ServiceImport, v1beta1 and v1alpha1 |
//! | [`about`], [`inventory`] | ClusterProperty; ClusterProfile |
//! | [`landbridge`] | Member, ClusterExport, Peer |
//! | [`crds`] | the CustomResourceDefinitions of all of them |
//! | [`wellknown`] | labels, annotations and object names |
//! | [`convert`] | objects to model and back |
//! | [`condition`] | conditions that change only when they change |
//! | [`watch`] | watch streams that survive malformed objects, relists and 410 |

pub mod about;
pub mod access;
pub mod condition;
pub mod convert;
pub mod crds;
pub mod inventory;
pub mod landbridge;
pub mod mcs;
pub mod served;
pub mod traffic;
pub mod watch;
pub mod wellknown;
