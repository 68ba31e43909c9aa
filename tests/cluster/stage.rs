//! What a case plays on: a namespace in every cluster, with the first one as the exporter, and a pod in each that calls.
//!
//! Waits are those of the conformance suite, and so is what a command in a pod may take: what it has not said by then
//! is nothing, and so is whatever goes wrong with it.

use std::{
    fmt::{Debug, Display},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Pod, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use landbridge_api::mcs::{ServiceExport, ServiceImport};
use landbridge_xtask::lab::{Cluster, Lab};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::objects::{self, HELLO, REQUEST};

/// What an import and a condition may take to come or go, and a name and a call to work.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// What Kubernetes itself may take: pods, their addresses and slices.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// What the lab's own preparation may take, which is no rule of the suite: controller managers of all clusters share the
/// machine with everything else.
const PREPARED: Duration = Duration::from_secs(180);
/// How long something is watched that is to stay.
const WATCHED: Duration = Duration::from_secs(5);
/// How often objects are looked at, and commands are run.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
pub(crate) const ASK: Duration = Duration::from_secs(1);
/// What a command in a pod may take.
const EXEC_SECONDS: u64 = 4;
/// What is known of an export by its creation has a resolution of a second.
const OLDER: Duration = Duration::from_millis(1100);

/// Kinds that a case has in its namespace.
pub(crate) trait Kind:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Kind for K where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

/// The namespace of one case in all clusters.
pub(crate) struct Stage<'a> {
    lab: &'a Lab,
    pub(crate) namespace: String,
    pub(crate) places: Vec<Place<'a>>,
}

/// The same in one of them.
pub(crate) struct Place<'a> {
    pub(crate) cluster: Cluster<'a>,
    client: Client,
    namespace: String,
}

/// Waits until there is an answer; fails with the last thing said.
pub(crate) async fn within<T>(
    time: Duration,
    every: Duration,
    what: impl Display,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(said) if begun.elapsed() > time => panic!("{what}: not within {time:?}\n{said}"),
            Err(_) => sleep(every).await,
        }
    }
}

/// Looks for as long as the suite does whether something stays as it is.
pub(crate) async fn stays(what: impl Display, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        if let Err(said) = check().await {
            panic!("{what}: not any more after {:?}\n{said}", begun.elapsed());
        }
        sleep(LOOK).await;
    }
}

impl<'a> Stage<'a> {
    /// A namespace of this name in every cluster, made before.
    pub(crate) async fn at(lab: &'a Lab, namespace: &str) -> Self {
        let mut places = Vec::new();
        for cluster in lab.clusters() {
            let client = cluster.client().await.unwrap();
            places.push(Place { cluster, client, namespace: namespace.to_owned() });
        }
        Self { lab, namespace: namespace.to_owned(), places }
    }

    /// Makes it, and waits until pods can be made in it.
    pub(crate) async fn set(&self) {
        for place in &self.places {
            let api: Api<Namespace> = Api::all(place.client.clone());
            let object = serde_json::from_value(json!({"metadata": {"name": self.namespace}}));
            api.create(&PostParams::default(), &object.unwrap()).await.unwrap();
        }
        for place in &self.places {
            within(PREPARED, LOOK, "the account that pods run as", async || {
                let account = place.get::<ServiceAccount>("default").await;
                account.map(drop).ok_or_else(|| "there is none".into())
            })
            .await;
        }
    }

    /// The exporter.
    pub(crate) fn first(&self) -> &Place<'a> {
        &self.places[0]
    }

    /// Another cluster.
    pub(crate) fn second(&self) -> &Place<'a> {
        &self.places[1]
    }

    /// What every case begins with: the Service in the first cluster, and in each a pod that calls.
    pub(crate) async fn begin(&self, service: Value) {
        self.begin_with(service, objects::deployment(self.first().cluster.name(), 1)).await;
    }

    /// The same with other pods behind the Service.
    pub(crate) async fn begin_with(&self, service: Value, pods: Value) {
        self.first().create_any(pods).await;
        self.first().create::<Service>(service).await;
        for place in &self.places {
            place.create::<Pod>(objects::request()).await;
        }
        for place in &self.places {
            let name = place.cluster.name();
            within(MINUTE, LOOK, format!("pod {REQUEST} of {name} runs"), async || {
                let pod = place.get::<Pod>(REQUEST).await.ok_or("there is none")?;
                let status = pod.status.unwrap_or_default();
                let runs = status.phase.as_deref() == Some("Running");
                runs.then_some(()).ok_or_else(|| format!("{status:?}"))
            })
            .await;
        }
    }

    /// Exports the Service from the first cluster, and then another one of that name, later, from the second.
    pub(crate) async fn export_both(&self, first: Value, service: Value, second: Value) {
        self.first().create::<ServiceExport>(first).await;
        self.first().import(SOON, |_| Ok(())).await;
        sleep(OLDER).await;
        self.second().deploy(service).await;
        self.second().create::<ServiceExport>(second).await;
    }

    /// Waits until both exports are told that they disagree.
    pub(crate) async fn both_disagree(&self) {
        for place in &self.places[..2] {
            place.condition("Conflict", "True").await;
        }
    }

    /// The name that the Service has in every cluster of the set.
    pub(crate) fn name(&self) -> String {
        format!("{HELLO}.{}.svc.clusterset.local", self.namespace)
    }

    /// Calls it from every cluster over every family that the import has there, until an answer holds `expected`, this
    /// number of times on end.
    pub(crate) async fn answers(&self, port: u16, expected: &str, times: u32) {
        // A machine may be too busy to ask in time: that is no answer, and no time of the service's.
        self.answers_within(2 * SOON * times, port, expected, times).await;
    }

    /// The same, where something else needs its time before.
    pub(crate) async fn answers_within(
        &self,
        time: Duration,
        port: u16,
        expected: &str,
        times: u32,
    ) {
        let answers = async |place: &Place<'_>, family: String| {
            let command = calls(&family, &self.name(), port);
            let what = format!("{command} in {}", place.cluster.name());
            let mut good = 0;
            within(time, Duration::ZERO, what, async || {
                let said = place.sh(&command).await;
                match said.as_str() {
                    "" => {}
                    said if said.contains(expected) => good += 1,
                    _ => good = 0,
                }
                if good == times {
                    return Ok(());
                }
                sleep(ASK).await;
                Err(format!("no {expected:?} in {said:?}"))
            })
            .await;
        };
        let each = self.places.iter().map(async |place| {
            let families = place.families().await;
            join_all(families.into_iter().map(|family| answers(place, family))).await;
        });
        join_all(each).await;
    }

    /// Writes what the clusters look like, and this namespace most of all.
    pub(crate) fn gather(&self, folder: &Path) {
        self.lab.gather(folder).unwrap();
        for place in &self.places {
            let folder = folder.join(place.cluster.name());
            for (file, command) in place.asked() {
                let said = place.cluster.command(&command).unwrap().output().unwrap();
                fs::write(folder.join(file), [said.stdout, said.stderr].concat()).unwrap();
            }
        }
    }

    /// Nobody waits for it.
    pub(crate) async fn strike(&self) {
        for place in &self.places {
            let api: Api<Namespace> = Api::all(place.client.clone());
            // Where the API is away, the case has said more about it.
            let _ = api.delete(&self.namespace, &DeleteParams::default()).await;
        }
    }
}

/// Where what a case that failed has left to say goes.
pub(crate) fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster").join(case)
}

/// The call of the suite. Over IPv6 the address is asked for first, as `nc` with a name can hang.
pub(crate) fn calls(family: &str, name: &str, port: u16) -> String {
    match family {
        "IPv6" => format!(
            "address=$(nslookup -type=AAAA {name}. | awk '/^Address: / {{found = $2}} END {{print found}}'); \
             test -n \"$address\" && echo hi | nc -v -w 2 $address {port} 2>&1"
        ),
        _ => format!("echo hi | nc -v -w 2 -4 {name} {port} 2>&1"),
    }
}

/// The record that holds addresses of a family.
pub(crate) fn record(family: &str) -> &'static str {
    if family == "IPv6" { "AAAA" } else { "A" }
}

impl Place<'_> {
    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create<K: Kind>(&self, object: Value) -> K {
        let object = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Creates pods in whichever way `object` says.
    pub(crate) async fn create_any(&self, object: Value) {
        use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
        if object["kind"] == "StatefulSet" {
            self.create::<StatefulSet>(object).await;
        } else {
            self.create::<Deployment>(object).await;
        }
    }

    /// The Deployment and this Service.
    pub(crate) async fn deploy(&self, service: Value) {
        self.create_any(objects::deployment(self.cluster.name(), 1)).await;
        self.create::<Service>(service).await;
    }

    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Option<K> {
        self.api().get_opt(name).await.unwrap()
    }

    pub(crate) async fn list<K: Kind>(&self, labels: &str) -> Vec<K> {
        self.api().list(&ListParams::default().labels(labels)).await.unwrap().items
    }

    pub(crate) async fn unexport(&self) {
        self.api::<ServiceExport>().delete(HELLO, &DeleteParams::default()).await.unwrap();
    }

    /// Waits for the import to be as `check` wants it.
    pub(crate) async fn import<T>(
        &self,
        time: Duration,
        check: impl Fn(&ServiceImport) -> Result<T, String>,
    ) -> T {
        let what = format!("the import in {}", self.cluster.name());
        within(time, LOOK, what, async || {
            let import = self.get::<ServiceImport>(HELLO).await.ok_or("there is none")?;
            check(&import).map_err(|said| format!("{said}: {import:?}"))
        })
        .await
    }

    /// Waits until there is no import.
    pub(crate) async fn no_import(&self) {
        let what = format!("the import in {} is gone", self.cluster.name());
        within(SOON, LOOK, what, async || match self.get::<ServiceImport>(HELLO).await {
            None => Ok(()),
            Some(import) => Err(format!("{import:?}")),
        })
        .await;
    }

    /// The families of the import, once it has any.
    pub(crate) async fn families(&self) -> Vec<String> {
        self.import(SOON, |import| match &import.spec.ip_families[..] {
            [] => Err("it has no family".into()),
            families => Ok(families.to_vec()),
        })
        .await
    }

    /// Waits for a condition of the export.
    pub(crate) async fn condition(&self, kind: &str, status: &str) {
        let what = format!("{kind}={status} of the export in {}", self.cluster.name());
        within(SOON, LOOK, what, async || {
            let export = self.get::<ServiceExport>(HELLO).await.ok_or("there is none")?;
            let mut conditions = export.conditions().iter();
            let found = conditions.any(|one| one.type_ == kind && one.status == status);
            found.then_some(()).ok_or_else(|| format!("{:?}", export.conditions()))
        })
        .await;
    }

    /// Waits for an MCS EndpointSlice of this family that holds endpoints and is as `check` wants it.
    pub(crate) async fn slice(
        &self,
        family: &str,
        check: impl Fn(&EndpointSlice) -> Result<(), String>,
    ) -> EndpointSlice {
        let what = format!("an MCS slice of {family} in {}", self.cluster.name());
        within(MINUTE, LOOK, what, async || {
            let labels =
                "multicluster.kubernetes.io/service-name,multicluster.kubernetes.io/source-cluster";
            let all = self.list::<EndpointSlice>(labels).await;
            let mut with = all.iter().filter(|one| one.address_type == family);
            let found = with.find(|one| !one.endpoints.is_empty());
            let found = found.ok_or_else(|| format!("none of {all:?}"))?;
            check(found).map_err(|said| format!("{said}: {found:?}"))?;
            Ok(found.clone())
        })
        .await
    }

    /// The addresses of pods behind the Service of this cluster, and their names, once all are ready.
    pub(crate) async fn backing(
        &self,
        family: &str,
        count: usize,
    ) -> Vec<(String, Option<String>)> {
        let what = format!("{count} endpoints of {family} in {}", self.cluster.name());
        within(MINUTE, LOOK, what, async || {
            let slices =
                self.list::<EndpointSlice>(&format!("kubernetes.io/service-name={HELLO}")).await;
            let slices = slices.iter().filter(|slice| slice.address_type == family);
            let all: Vec<_> = slices.flat_map(|slice| slice.endpoints.iter()).collect();
            let ready = all.iter().all(|one| {
                one.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
            });
            if !ready || all.len() != count {
                return Err(format!("{all:?}"));
            }
            let of = |one: &&k8s_openapi::api::discovery::v1::Endpoint| {
                one.addresses
                    .iter()
                    .map(|ip| (ip.clone(), one.hostname.clone()))
                    .collect::<Vec<_>>()
            };
            Ok(all.iter().flat_map(of).collect())
        })
        .await
    }

    /// The first address of the first pod behind the Service.
    pub(crate) async fn pod_ip(&self) -> String {
        let what = format!("a pod in {} has an address", self.cluster.name());
        within(MINUTE, LOOK, what, async || {
            let pods = self.list::<Pod>(&format!("app={HELLO}")).await;
            let ip = |pod: &Pod| pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty());
            pods.first().and_then(ip).ok_or_else(|| format!("{pods:?}"))
        })
        .await
    }

    /// What a shell in the calling pod prints within four seconds: nothing, where anything goes wrong.
    pub(crate) async fn sh(&self, script: &str) -> String {
        self.sh_in(REQUEST, script).await
    }

    /// The same in another pod.
    pub(crate) async fn sh_in(&self, pod: &str, script: &str) -> String {
        let words = ["kubectl", "exec", "--namespace", &self.namespace, pod, "--", "sh", "-c"];
        let said = self.run(&words, script).await;
        said.map(|output| String::from_utf8_lossy(&output).into_owned()).unwrap_or_default()
    }

    async fn run(&self, words: &[&str], script: &str) -> Option<Vec<u8>> {
        let limit = ["timeout".to_owned(), EXEC_SECONDS.to_string()];
        let words = words.iter().chain([&script]).map(ToString::to_string);
        let command: Vec<String> = limit.into_iter().chain(words).collect();
        let mut command: Command = self.cluster.command(&command).unwrap();
        let output = spawn_blocking(move || command.output());
        // Its own limit comes first, where the machine is not too busy for that.
        let output = timeout(Duration::from_secs(2 * EXEC_SECONDS), output).await;
        Some(output.ok()?.ok()?.ok()?.stdout)
    }

    /// Asks until what is said is as `check` wants it, for as long as the suite does.
    pub(crate) async fn says<T>(
        &self,
        script: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        within(SOON, ASK, format!("{script} in {}", self.cluster.name()), async || {
            let said = self.sh(script).await;
            check(&said).map_err(|why| format!("{why} in {said:?}"))
        })
        .await
    }

    /// What is asked where a case has failed, beside what is asked of every lab: what concerns its namespace alone.
    fn asked(&self) -> Vec<(&'static str, Vec<String>)> {
        let namespace = &self.namespace;
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let shell =
            |script: String| vec!["timeout".into(), "10".into(), "sh".into(), "-c".into(), script];
        vec![
            (
                "case.yaml",
                words(&format!(
                    "timeout 10 kubectl get serviceexports,serviceimports,services,endpointslices,pods --namespace {namespace} --output yaml"
                )),
            ),
            (
                "case-events",
                words(&format!(
                    "timeout 10 kubectl get events --namespace {namespace} --sort-by .lastTimestamp"
                )),
            ),
            (
                "case-resolv.conf",
                words(&format!(
                    "timeout 10 kubectl exec --namespace {namespace} {REQUEST} -- cat /etc/resolv.conf"
                )),
            ),
            // Whichever way kube-proxy works, what it writes for a Service names it.
            (
                "case-packet-filter",
                shell(format!(
                    "iptables-save | grep -F {namespace}/; ip6tables-save | grep -F {namespace}/; nft list ruleset | grep -F -A 4 {namespace}/"
                )),
            ),
        ]
    }
}
