//! How a command reaches a cluster's Kubernetes API: as kubectl does, unless it is told otherwise.

use std::path::PathBuf;

use anyhow::Result;
use kube::Client;

use crate::{config::common::Reach, kubernetes};

#[derive(clap::Args, Debug)]
pub(crate) struct ApiArguments {
    /// How to reach the cluster's Kubernetes API [default: as kubectl does].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one].
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

impl ApiArguments {
    /// A client for it. Nothing is sent yet.
    pub(crate) async fn client(&self) -> Result<Client> {
        let reach = Reach { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        kubernetes::client(&reach).await
    }
}
