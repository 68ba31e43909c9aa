//! A set of members over embedded APIs: what users have written there, and the controllers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use landbridge_embedded::{Cluster, Store};
use serde_json::Value;
use tokio::time::sleep;

use crate::world::{self, Controlling};

/// How often it is looked whether there is still something to do.
const LOOK: Duration = Duration::from_millis(200);
/// Nothing written for so long: there is nothing more to do.
const QUIET: Duration = Duration::from_secs(2);
/// A set that does not stand by then never will.
const LONGEST: Duration = Duration::from_secs(600);
/// Namespaces that the services are spread over.
const NAMESPACES: usize = 10;

pub(crate) const SLICE: (&str, &str) = ("discovery.k8s.io/v1", "EndpointSlice");
pub(crate) const CLUSTER_EXPORT: (&str, &str) = ("landbridge.dev/v1alpha1", "ClusterExport");
const EXPORT: (&str, &str) = ("multicluster.x-k8s.io/v1beta1", "ServiceExport");
const IMPORT: (&str, &str) = ("multicluster.x-k8s.io/v1beta1", "ServiceImport");
const SERVICE: (&str, &str) = ("v1", "Service");

/// A member that exports a service.
#[derive(Clone, Debug)]
pub(crate) struct Exporting {
    pub(crate) member: usize,
    pub(crate) namespace: String,
    pub(crate) service: String,
    /// The first of its pods: the one that churns.
    pub(crate) pod: String,
}

/// A set.
pub(crate) struct Set {
    pub(crate) exports: Vec<Exporting>,
    pub(crate) hub: Cluster,
    pub(crate) members: Vec<Cluster>,
    services: usize,
    begun: Instant,
    controllers: Vec<Controlling>,
}

pub(crate) fn id(member: usize) -> String {
    format!("member-{member}")
}

impl Set {
    /// Everything that users and administrators write is there, and the controllers have just started.
    pub(crate) async fn start(members: usize, services: usize) -> anyhow::Result<Self> {
        let hub = world::embedded("hub", 100).await?;
        let mut set = Self {
            exports: exports(members, services),
            hub,
            members: Vec::new(),
            services,
            begun: Instant::now(),
            controllers: Vec::new(),
        };
        for (member, number) in (0..members).zip(101..) {
            set.join(member, number).await?;
        }
        for export in &set.exports {
            let store = set.members[export.member].store();
            let second = format!("{}0", export.pod);
            let (namespace, name) = (&export.namespace, &export.service);
            for object in world::service(namespace, name, [&export.pod, &second]) {
                store.create(object)?;
            }
            store.create(world::export(namespace, name))?;
        }
        set.begun = Instant::now();
        let hub = world::url(&set.hub);
        for (at, member) in set.members.iter().enumerate() {
            let config = world::config(&id(at))?;
            let (local, hub) = (world::client(&world::url(member))?, world::client(&hub)?);
            set.controllers.push(Controlling::start(config, local, hub).await?);
        }
        Ok(set)
    }

    async fn join(&mut self, member: usize, number: u8) -> anyhow::Result<()> {
        let id = id(member);
        let cluster = world::embedded(&id, number).await?;
        let store = cluster.store();
        store.create(world::namespace(world::SYSTEM))?;
        for at in 0..NAMESPACES {
            store.create(world::namespace(&team(at)))?;
        }
        let services = u16::try_from(self.services)?;
        store.create(world::gateway(world::loopback(number, 3), services).await?)?;
        self.hub.store().create(world::namespace(&format!("cluster-{id}")))?;
        self.hub.store().create(world::member(&id))?;
        self.members.push(cluster);
        Ok(())
    }

    /// Waits until every member has every import, ready, and nothing more is written: how long that took from the
    /// start to the last write.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<Duration> {
        let (mut written, mut last) = (0, self.begun);
        loop {
            sleep(LOOK).await;
            let now = self.written()?;
            if now != written {
                (written, last) = (now, Instant::now());
                continue;
            }
            if last.elapsed() > QUIET && self.is_complete()? {
                return Ok(last - self.begun);
            }
            if self.begun.elapsed() > LONGEST {
                let mut state = Vec::new();
                for controller in &self.controllers {
                    state.push(controller.handle.snapshot().await.to_string());
                }
                bail!("no complete set after {LONGEST:?}: {}", state.join("\n"));
            }
        }
    }

    fn is_complete(&self) -> anyhow::Result<bool> {
        for member in &self.members {
            let imports = member.store().list(IMPORT, None)?.items;
            if imports.len() < self.services || !imports.iter().all(|import| is_ready(import)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many writes no controller could do without: one for each object that is made and each status that is told,
    /// since an API takes an object and its status in two writes; and one more for each derived Service, whose owner,
    /// the import, has no uid before it has the Service's address.
    pub(crate) fn needed(&self) -> anyhow::Result<usize> {
        let mut needed = self.hub.store().list(CLUSTER_EXPORT, None)?.items.len();
        for member in &self.members {
            let store = member.store();
            let imports = store.list(IMPORT, None)?.items.len();
            let exports = store.list(EXPORT, None)?.items.len();
            needed += 2 * imports + exports + 2 * ours(store, SERVICE)? + ours(store, SLICE)?;
        }
        // Three slices of an import in each member: the gateways', and one for each exporting cluster.
        let fewest = self.members.len() * self.services * 7;
        ensure!(needed > fewest, "{needed} writes are needed, which cannot be");
        Ok(needed)
    }

    /// Writes of all controllers, by verb and kind.
    pub(crate) fn writes(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        for controller in &self.controllers {
            for (labels, count) in controller.writes()? {
                *all.entry(labels).or_default() += count;
            }
        }
        Ok(all)
    }

    pub(crate) fn written(&self) -> anyhow::Result<u64> {
        Ok(self.writes()?.values().sum())
    }

    pub(crate) fn failures(&self) -> anyhow::Result<u64> {
        self.controllers.iter().map(|controller| controller.count("write_failures_total")).sum()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for controller in self.controllers {
            controller.stop().await?;
        }
        for cluster in self.members.into_iter().chain([self.hub]) {
            cluster.stop().await;
        }
        Ok(())
    }
}

fn team(at: usize) -> String {
    format!("team-{at}")
}

/// Each service has two exporters, and each member as many exports as any other.
fn exports(members: usize, services: usize) -> Vec<Exporting> {
    let exporting = |service: usize, member: usize| Exporting {
        member,
        namespace: team(service % NAMESPACES),
        service: format!("svc-{service}"),
        pod: format!("10.{}.{}.1", service / 250, service % 250 + 1),
    };
    let two = |service: usize| {
        let first = service % members;
        let second = (first + 1 + service / members % (members - 1)) % members;
        [exporting(service, first), exporting(service, second)]
    };
    (0..services).flat_map(two).collect()
}

fn is_ready(import: &Value) -> bool {
    let conditions = import["status"]["conditions"].as_array();
    conditions
        .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

fn ours(store: &Store, kind: (&str, &str)) -> anyhow::Result<usize> {
    let items = store.list(kind, None)?.items;
    let labels = ["app.kubernetes.io/managed-by", "endpointslice.kubernetes.io/managed-by"];
    let is_ours = |object: &Value| {
        labels.iter().any(|label| object["metadata"]["labels"][*label] == "landbridge.dev")
    };
    Ok(items.iter().filter(|object| is_ours(object)).count())
}
