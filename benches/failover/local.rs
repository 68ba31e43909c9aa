//! The loss of a gateway of the callers' own cluster: no link tells of that, but the controller, which probes.

use std::{thread, time::Duration};

use super::{
    gateway::{
        ground::Ground,
        load::{Asked, Clients, Entries, Order, clock},
        mesh::Mesh,
        pki::Pki,
        pods::Pods,
    },
    trial::{EVERY, Told, judge, signal, twice},
};

const BEFORE: Duration = Duration::from_secs(1);
/// Longer than it may take until nobody is sent there any more.
const AFTER: Duration = Duration::from_secs(8);

/// Stops one of two replicas of berlin in the midst of calls.
pub(crate) fn lose() -> anyhow::Result<Told> {
    let ground = Ground::new()?;
    let pki = Pki::new(ground.folder.path(), &["berlin", "paris"])?;
    let mut pods = Pods::start(&ground.paris, "paris")?;
    let mut clients = Clients::start(&ground.berlin)?;
    let mesh = Mesh::start(&ground, &pki, 1)?;
    let order = |prefix: String, lasts| {
        let at = Entries::Followed(mesh.entries.clone());
        Order::Ask { at, prefix, every: EVERY, lasts }
    };
    for turn in 0.. {
        let order = order(format!("warm-{turn}"), Duration::from_secs(1));
        let warm: Vec<Asked> = clients.carry_out(&order)?;
        if warm.iter().all(|asked| asked.answer.is_ok()) {
            break;
        }
    }
    clients.begin(&order("call".to_owned(), BEFORE + AFTER))?;
    thread::sleep(BEFORE);
    let lost = clock();
    let stopped = mesh.berlin.gateways[0].id();
    signal("-STOP", stopped)?;
    let asked: Vec<Asked> = clients.end()?;
    signal("-CONT", stopped)?;
    thread::sleep(Duration::from_secs(1));
    let repeated = twice(&pods.heard()?);
    Ok(judge(&asked, lost, repeated))
}
