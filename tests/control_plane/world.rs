//! Real API servers for the battery of cases: kube-apiserver and etcd, with the roles of `deploy/rbac`.

use std::sync::{Arc, Mutex};

use futures::{FutureExt, future::LocalBoxFuture};
use kube::Client;
use landbridge_xtask::{process::Program, programs::KUBE_CONTROLLER_MANAGER};

use crate::{
    api_server,
    battery::server::{SINGLE_STACK, Server},
    members::Cluster,
    single_stack,
};

/// Kubernetes' own controllers that cases need: what empties namespaces, and what could take objects of ours for garbage
/// or for endpoints that it is to mirror.
const CONTROLLERS: [&str; 3] =
    ["endpointslice-mirroring-controller", "garbage-collector-controller", "namespace-controller"];

/// A kube-apiserver on which everybody has the rights of a role and no others.
struct Real {
    cluster: Cluster,
    is_hub: bool,
    manager: Mutex<Option<Program>>,
}

/// Starts a cluster with every kind that Landbridge reads or writes.
pub(crate) fn start(name: &'static str) -> LocalBoxFuture<'static, Arc<dyn Server>> {
    async move {
        // Other tests have clusters of these names to themselves.
        let server = match name {
            "hub" => api_server("battery-hub").await,
            "paris" => api_server("battery-paris").await,
            "tokyo" => api_server("battery-tokyo").await,
            SINGLE_STACK => single_stack("battery-single-stack").await,
            _ => api_server("battery-berlin").await,
        };
        let cluster = Cluster::of(server, landbridge_api::crds::all()).await;
        let is_hub = name == "hub";
        let files: &[&str] =
            if is_hub { &["hub.yaml", "hub-policies.yaml"] } else { &["controller.yaml"] };
        for file in files {
            cluster.apply(file, name).await;
        }
        let server: Arc<dyn Server> = Arc::new(Real { cluster, is_hub, manager: Mutex::default() });
        server
    }
    .boxed_local()
}

impl Server for Real {
    fn admin(&self) -> Client {
        self.cluster.admin.clone()
    }

    fn controller(&self) -> LocalBoxFuture<'_, Client> {
        self.cluster.client_of("landbridge-system", "landbridge-controller").boxed_local()
    }

    fn member(&self, id: &'static str) -> LocalBoxFuture<'_, Client> {
        async move {
            self.cluster.apply("hub-member.yaml", id).await;
            self.cluster.client_of(&format!("cluster-{id}"), "landbridge-member").await
        }
        .boxed_local()
    }

    fn pause(&self) -> LocalBoxFuture<'_, ()> {
        async { self.cluster.server.stop() }.boxed_local()
    }

    fn resume(&self) -> LocalBoxFuture<'_, ()> {
        async { self.cluster.server.resume().await.unwrap() }.boxed_local()
    }

    fn forbidden(&self) -> Vec<String> {
        self.cluster.server.forbidden()
    }

    fn has_policies(&self) -> bool {
        self.is_hub
    }

    fn manage(&self) -> LocalBoxFuture<'_, bool> {
        async {
            let mut manager = self.manager.lock().unwrap();
            if manager.is_none() {
                let program = KUBE_CONTROLLER_MANAGER.find().unwrap();
                *manager = Some(self.cluster.server.manage(&program, &CONTROLLERS).unwrap());
            }
            true
        }
        .boxed_local()
    }
}
