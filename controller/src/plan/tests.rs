//! The planner as a whole: clusters and a hub of objects, users who write, and planners that run until all is quiet.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`world`] | objects as JSON, APIs that only keep them, planners driven by what news touches |
//! | [`clusterset_ip`] | worked example A, line by line |
//! | [`exports`] | what a ServiceExport comes to, and what it is told |
//! | [`far`] | worked example B: headless endpoints of other networks |
//! | [`headless`] | headless services at home |
//! | [`hub_slices`] | which pods the hub is told of |
//! | [`limits`] | how much is imported, and of which namespaces |
//! | [`members`] | peers, heartbeats, silence |
//! | [`networks`] | members that share a network, and mixed sets |
//! | [`mischief`] | what others write where only the controller should |
//! | [`traffic`] | TrafficPolicies, and when only gateways are called |
//! | [`trouble`] | malformed and foreign objects, restarts, families, bounds |

mod clusterset_ip;
mod exports;
mod far;
mod headless;
mod hub_slices;
mod limits;
mod members;
mod mischief;
mod networks;
mod traffic;
mod trouble;
mod world;
