//! What a battery needs of whatever serves the API of a cluster.

use std::sync::Arc;

use futures::future::LocalBoxFuture;
use kube::Client;

/// Starts what serves the API of a cluster, with every kind that Landbridge reads or writes.
pub(crate) type Start = fn(&'static str) -> LocalBoxFuture<'static, Arc<dyn Server>>;

/// The cluster whose Services have IPv4 addresses alone; those of all others have two families.
pub(crate) const SINGLE_STACK: &str = "oslo";

/// The API of one cluster.
pub(crate) trait Server: Send + Sync {
    /// A client that may do everything.
    fn admin(&self) -> Client;

    /// A client with the rights that a member's controller has at its own API.
    fn controller(&self) -> LocalBoxFuture<'_, Client>;

    /// A client with the rights that the controller of a member has at this API, which is the hub's.
    fn member(&self, id: &'static str) -> LocalBoxFuture<'_, Client>;

    /// Makes the API unreachable: connections end, new ones are refused, and the objects stay.
    fn pause(&self) -> LocalBoxFuture<'_, ()>;

    /// Ends a pause, at the same address.
    fn resume(&self) -> LocalBoxFuture<'_, ()>;

    /// What service accounts were refused for want of a right.
    fn forbidden(&self) -> Vec<String>;

    /// Whether this API, where it is the hub's, has the policies that hold what roles cannot.
    fn has_policies(&self) -> bool;

    /// Lets Kubernetes' own controllers run that empty namespaces, collect garbage and mirror endpoints, where there
    /// are any. Whether there are.
    fn manage(&self) -> LocalBoxFuture<'_, bool>;
}
