//! What goes on while the whole cluster of the hub is gone: its API, its gateways, its pods.

use std::time::Duration;

use landbridge_api::mcs::{ServiceExport, ServiceImport};
use landbridge_xtask::lab::{Cluster, Lab};

use super::load::{Load, now, pass};
use crate::{
    case::Case,
    gate, objects,
    stage::{MINUTE, Place, SOON, Stage, calls, stays},
};

/// For longer than a member may be silent before others take it for dead.
const GONE: Duration = Duration::from_secs(15);

/// A cluster whose one cable is pulled. It is put back with this, however the case ends.
struct Pulled<'a> {
    lab: &'a Lab,
    cable: String,
}

impl<'a> Pulled<'a> {
    fn from(lab: &'a Lab, cluster: &Cluster<'_>) -> Self {
        let pulled = Self { lab, cable: cluster.name().to_owned() };
        assert!(pulled.set("down"), "the cable of {} stays where it is", pulled.cable);
        pulled
    }

    fn put_back(self) {
        assert!(self.set("up"), "the cable of {} stays pulled", self.cable);
    }

    fn set(&self, state: &str) -> bool {
        let command = ["ip", "link", "set", &self.cable, state].map(str::to_owned);
        let status = self.lab.command(&command).and_then(|mut command| Ok(command.status()?));
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Pulled<'_> {
    fn drop(&mut self) {
        // Done a second time, it changes nothing.
        self.set("up");
    }
}

/// Waits until calls from a cluster are answered by pods of this one.
async fn answered_in(place: &Place<'_>, name: &str, cluster: &str) {
    let expected = format!("in {cluster}");
    let answers = |said: &str| {
        said.contains(&expected).then_some(()).ok_or_else(|| format!("not {expected}"))
    };
    place.says(&calls("IPv4", name, 42), answers).await;
}

async fn imported_of(stage: &Stage<'_>, place: &Place<'_>, cluster: &str) {
    place
        .import(MINUTE, |import| {
            let of = import.status.iter().flat_map(|status| &status.clusters);
            let of: Vec<_> = of.map(|one| one.cluster.as_str()).collect();
            let own = of == [cluster];
            own.then_some(()).ok_or_else(|| format!("{} is of {of:?}", stage.namespace))
        })
        .await;
}

/// "With the hub away, members go on, serve, and catch up": a hub that cannot be read means unknown, never expired.
#[test]
fn a_cluster_serves_itself_while_the_hub_s_is_gone_and_catches_up_when_it_is_back() {
    let case = Case {
        id: "Hub",
        name: "While the cluster of the hub is gone, no call within another one fails and its imports stay, and what it withdrew is known everywhere when the hub is back",
        labels: "Beyond, Failure",
    };
    case.run_alone(async |stage| {
        let lab = gate::the_set();
        let (first, second) = (stage.first(), stage.second());
        let [c1, c2] = [first, second].map(|place| place.cluster.name());
        stage.begin(objects::service()).await;
        stage.export_both(objects::export(), objects::service(), objects::export()).await;
        answered_in(second, &stage.name(), c2).await;
        let address = |import: &ServiceImport| Ok(import.spec.ips.clone());
        let before = second.import(SOON, address).await;
        let load = Load::begin(second, "name", &stage.name()).await;

        let pulled = Pulled::from(&lab, &first.cluster);
        let gone = now();
        pass(GONE).await;
        load.is_good_since(now()).await;
        let failed = load.failed_since(gone).await;
        assert!(failed.is_empty(), "{failed:?}");
        second.unexport().await;
        stays("the import that two clusters had exported", async || {
            let import = second.get::<ServiceImport>(objects::HELLO).await;
            let ips = import.ok_or("there is none")?.spec.ips;
            (ips == before).then_some(()).ok_or_else(|| format!("{ips:?} in place of {before:?}"))
        })
        .await;

        pulled.put_back();
        load.is_good_since(now()).await;
        answered_in(second, &stage.name(), c1).await;
        for place in &stage.places {
            imported_of(stage, place, c1).await;
        }
        second.create::<ServiceExport>(objects::export()).await;
        answered_in(second, &stage.name(), c2).await;
        load.end().await;
    });
}
