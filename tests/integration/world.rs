//! Embedded clusters for the battery of cases.

use std::sync::Arc;

use futures::{FutureExt, future::LocalBoxFuture};
use kube::Client;
use landbridge_embedded::{Cluster, ClusterConfig};
use serde_json::json;

use crate::{
    battery::server::{SINGLE_STACK, Server},
    support::Block,
};

/// An embedded cluster on loopback. Nobody is asked who they are, so everybody may do everything.
struct Embedded {
    cluster: Cluster,
    _block: Block,
}

/// Starts a cluster whose Services have two families, as real ones of the battery have.
pub(crate) fn start(name: &'static str) -> LocalBoxFuture<'static, Arc<dyn Server>> {
    async move {
        let block = Block::take();
        let config = ClusterConfig {
            name: name.into(),
            listen: (block.address(1), 0).into(),
            service_range_v4: "10.96.0.0/16".parse().unwrap(),
            service_range_v6: (name != SINGLE_STACK).then(|| "fd00:10:96::/112".parse().unwrap()),
            crds: landbridge_api::crds::all(),
        };
        let cluster = Cluster::start(config).await.unwrap();
        let server: Arc<dyn Server> = Arc::new(Embedded { cluster, _block: block });
        server
    }
    .boxed_local()
}

impl Server for Embedded {
    fn admin(&self) -> Client {
        let url = format!("http://{}", self.cluster.address());
        Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
    }

    fn controller(&self) -> LocalBoxFuture<'_, Client> {
        async { self.admin() }.boxed_local()
    }

    fn member(&self, id: &'static str) -> LocalBoxFuture<'_, Client> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": format!("cluster-{id}")}});
        // A case that writes there in the member's place may have made it.
        drop(self.cluster.store().create(namespace));
        async { self.admin() }.boxed_local()
    }

    fn pause(&self) -> LocalBoxFuture<'_, ()> {
        self.cluster.pause().boxed_local()
    }

    fn resume(&self) -> LocalBoxFuture<'_, ()> {
        async { self.cluster.resume().await.unwrap() }.boxed_local()
    }

    fn forbidden(&self) -> Vec<String> {
        Vec::new()
    }

    fn has_policies(&self) -> bool {
        false
    }

    fn manage(&self) -> LocalBoxFuture<'_, bool> {
        async { false }.boxed_local()
    }
}
