//! What the commands share that look at a cluster and change nothing.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, api::ListParams};

use super::api::ApiArguments;
use crate::{
    config::common::Reach,
    exit::{Refused, Usage},
    kubernetes,
    seen::{Asked, Facts, Unread, archive::Logs, ask, ask::Depth, known, logs},
};

/// Which cluster is asked, and which hub.
#[derive(clap::Args, Debug)]
pub(super) struct Whom {
    #[command(flatten)]
    api: ApiArguments,
    /// How to reach the hub's Kubernetes API, where it is to be asked too.
    #[arg(long, value_name = "FILE")]
    hub_kubeconfig: Option<PathBuf>,
    /// Context of the hub's kubeconfig [default: its current one].
    #[arg(long, value_name = "NAME")]
    hub_context: Option<String>,
}

impl Whom {
    /// Asks for everything.
    ///
    /// # Errors
    /// An API that cannot be reached, or that tells nothing at all.
    pub(super) async fn ask(&self, depth: Depth) -> Result<Facts> {
        let client = self.api.client().await?;
        let hub = if self.hub_kubeconfig.is_some() || self.hub_context.is_some() {
            let (kubeconfig, context) = (self.hub_kubeconfig.clone(), self.hub_context.clone());
            Some(kubernetes::client(&Reach { kubeconfig, context }).await.context("the hub")?)
        } else {
            None
        };
        let pods = self.impatient().await?;
        let facts = ask::all(&client, &pods, hub.as_ref(), depth).await?;
        match nothing_told(&facts) {
            Some(denied) => Err(Refused(denied).into()),
            None => Ok(facts),
        }
    }
}

impl Whom {
    /// A client that asks once: 503 is what a pod answers that is not ready, and no reason to ask it again.
    async fn impatient(&self) -> Result<Client> {
        let (kubeconfig, context) = (self.api.kubeconfig.clone(), self.api.context.clone());
        let mut config = kubernetes::config(&Reach { kubeconfig, context }).await?;
        config.default_retry = false;
        kubernetes::connect(config)
    }

    /// All EndpointSlices of a namespace.
    ///
    /// # Errors
    /// Where no client can be made.
    pub(super) async fn slices(&self, namespace: &str) -> Result<Asked<Vec<EndpointSlice>>> {
        let api = Api::namespaced(self.api.client().await?, namespace);
        Ok(ask::list(api, ListParams::default()).await)
    }
}

impl Whom {
    /// What the pods of Landbridge have logged last.
    ///
    /// # Errors
    /// Where no client can be made.
    pub(super) async fn logs(&self, facts: &Facts) -> Result<Logs> {
        let client = self.api.client().await?;
        Ok(logs::all(&client, known(&facts.pods)).await)
    }
}

/// What whoever may not know anything of a cluster is told.
fn nothing_told(facts: &Facts) -> Option<String> {
    let asked = [
        facts.properties.as_ref().err(),
        facts.deployments.as_ref().err(),
        facts.peers.as_ref().err(),
        facts.imports.as_ref().err(),
    ];
    let denied: Vec<&str> = asked
        .iter()
        .filter_map(|unread| match unread {
            Some(Unread::Denied(what)) => Some(what.as_str()),
            _ => None,
        })
        .collect();
    (denied.len() == asked.len()).then(|| {
        format!(
            "you may not {}: ask an administrator of the cluster for rights to read that, or to run this",
            denied.join(", ")
        )
    })
}

/// A cluster that is no member has no state to tell.
///
/// # Errors
/// That it is none, and how it becomes one.
pub(super) fn demand_member(facts: &Facts) -> Result<()> {
    if facts.is_installed() {
        return Ok(());
    }
    let problem = "this cluster is no member of a set";
    let remedy = "`landbridge init` makes it the hub of a new one, `landbridge join` a member; `landbridge check` says whether anything stands in the way";
    Err(Usage(format!("{problem}: {remedy}")).into())
}
