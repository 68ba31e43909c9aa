//! A hub and two members on real API servers, and what people and controllers need there.

use std::net::UdpSocket;

use anyhow::Context as _;

use crate::world::{
    self, Controlling,
    real::{CLUSTER_EXPORT, Cluster, EXPORT, IMPORT, SERVICE, SLICE, until},
};

/// Gateways say that they listen on so many numbers: more imports than there are at any time.
const NUMBERS: u16 = 2_500;
/// The exporting member, and the importing one.
pub(crate) const PARIS: &str = "paris";
pub(crate) const BERLIN: &str = "berlin";

/// The set.
pub(crate) struct Set {
    pub(crate) hub: Cluster,
    pub(crate) paris: Cluster,
    pub(crate) berlin: Cluster,
}

impl Set {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let [hub, paris, berlin] = [
            Cluster::start("hub").await?,
            Cluster::start(PARIS).await?,
            Cluster::start(BERLIN).await?,
        ];
        hub.apply("hub.yaml", "").await?;
        hub.apply("hub-policies.yaml", "").await?;
        let address = own_address()?;
        for (id, member) in [(PARIS, &paris), (BERLIN, &berlin)] {
            hub.create(world::member(id)).await?;
            hub.apply("hub-member.yaml", id).await?;
            member.apply("controller.yaml", id).await?;
            member.create(world::gateway(address, NUMBERS).await?).await?;
        }
        Ok(Self { hub, paris, berlin })
    }

    /// Runs the controllers of both members, each with the rights of its roles and no others, until they are ready.
    pub(crate) async fn control(&self) -> anyhow::Result<Vec<Controlling>> {
        let mut controllers = Vec::new();
        for (id, member) in [(PARIS, &self.paris), (BERLIN, &self.berlin)] {
            let local = member.client_of(world::SYSTEM, "landbridge-controller").await?;
            let hub = self.hub.client_of(&format!("cluster-{id}"), "landbridge-member").await?;
            controllers.push(Controlling::start(world::config(id)?, local, hub).await?);
        }
        let leads = |one: &Controlling| one.count("leading").is_ok_and(|leads| leads == 1);
        until("both controllers lead", async || {
            let all = controllers.iter().all(|one| one.handle.is_ready() && leads(one));
            Ok(all.then_some(()))
        })
        .await?;
        Ok(controllers)
    }

    /// Takes away what exports came to.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        for cluster in [&self.hub, &self.paris, &self.berlin] {
            for kind in [EXPORT, CLUSTER_EXPORT, IMPORT, SLICE, SERVICE] {
                cluster.clear(kind).await?;
            }
        }
        Ok(())
    }

    /// A namespace in both members, as a set has it.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        for member in [&self.paris, &self.berlin] {
            member.create(world::namespace(name)).await?;
        }
        Ok(())
    }
}

/// An address of this machine: API servers refuse endpoints on loopback. Nothing is sent to find it.
fn own_address() -> anyhow::Result<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9").context("this machine has no address but loopback")?;
    Ok(socket.local_addr()?.ip())
}
