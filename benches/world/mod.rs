//! Clusters for benchmarks: embedded APIs, their clients, and names for what stands in them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context as _;
use kube::Client;
use landbridge_controller::Config;
use landbridge_embedded::{Cluster, ClusterConfig};
use landbridge_model::{ClusterId, Namespace};

/// Where Landbridge lives.
pub(crate) const SYSTEM: &str = "landbridge-system";

/// An embedded API with every kind that Landbridge reads or writes, at an address that no other cluster has: one may
/// resume where it was.
pub(crate) async fn embedded(name: &str, number: u8) -> anyhow::Result<Cluster> {
    let listen: IpAddr = Ipv4Addr::new(127, 59, number, 1).into();
    let config = ClusterConfig {
        name: name.to_owned(),
        listen: (listen, 0).into(),
        service_range_v4: "10.96.0.0/16".parse()?,
        service_range_v6: None,
        crds: landbridge_api::crds::all(),
    };
    Cluster::start(config).await.with_context(|| format!("the API of {name}"))
}

/// A client of the API at `url`.
pub(crate) fn client(url: &str) -> anyhow::Result<Client> {
    Ok(Client::try_from(kube::Config::new(url.parse()?))?)
}

/// Where an embedded API is reached.
pub(crate) fn url(cluster: &Cluster) -> String {
    format!("http://{}", cluster.address())
}

/// What the controller of a member is told, whose network is its own.
pub(crate) fn config(member: &str) -> anyhow::Result<Config> {
    Ok(Config::new(
        ClusterId::parse(member)?,
        "demo".parse()?,
        member.parse()?,
        Namespace::parse(SYSTEM)?,
    ))
}
