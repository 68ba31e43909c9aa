//! What the demo exports: an echo Service of its own, or the Services and ServiceExports of a folder.
//!
//! Only the objects are the user's. The endpoints behind them are echo servers of the demo, on ports that need no
//! privilege, which is what EndpointSlices are for.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context, bail, ensure};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use landbridge_api::mcs::ServiceExport;
use landbridge_model::ServiceKey;
use serde::Deserialize;
use serde_json::{Value, json};

/// The demo's own Service.
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: demo}
spec:
  selector: {app: echo}
  ports:
  - {name: http, port: 8080, targetPort: http}
";

/// Its ServiceExport, as the story shows it.
const EXPORT: &str = "\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata:
  name: echo
  namespace: demo
  annotations:
    landbridge.dev/proxy-protocol: v2   # the pods want to know who calls
";

/// Echo pods behind each Service and cluster.
pub(super) const PODS: u8 = 2;

/// Services that a folder may hold: two pods each must fit below the address of the calling pod.
const MOST_SERVICES: usize = 40;

/// The first port that echo servers listen on; the ports of a Service follow each other.
const FIRST_ECHO_PORT: u16 = 18_080;

/// A Service and its ServiceExport.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// Which.
    pub(super) key: ServiceKey,
    /// The Service, as written but for what only an API server writes.
    pub(super) service: Service,
    /// The ServiceExport, likewise.
    pub(super) export: ServiceExport,
    /// The ServiceExport as people write it.
    pub(super) export_yaml: String,
    /// Which of all workloads, for the pods' addresses.
    index: u8,
}

/// One port of a workload that the echo servers stand behind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EchoPort {
    /// The name of the Service's port.
    pub(super) name: Option<String>,
    /// The number that the echo servers listen on.
    pub(super) number: u16,
}

/// The demo's own workload.
pub(super) fn builtin() -> anyhow::Result<Vec<Workload>> {
    let mut gathered = Gathered::default();
    gathered.read(SERVICE, "the built-in Service")?;
    gathered.read(EXPORT, "the built-in ServiceExport")?;
    gathered.workloads()
}

/// The workloads of a folder's `.yaml`, `.yml` and `.json` files.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<Workload>> {
    let mut gathered = Gathered::default();
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut files: Vec<_> =
        entries.collect::<Result<Vec<_>, _>>()?.iter().map(fs::DirEntry::path).collect();
    files.sort();
    let manifest = |path: &Path| {
        path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
    };
    for file in files.iter().filter(|path| manifest(path)) {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        gathered.read(&text, &file.display().to_string())?;
    }
    gathered.workloads().with_context(|| format!("the manifests in {}", folder.display()))
}

/// Objects of manifests, before it is known which belong together.
#[derive(Default)]
struct Gathered {
    services: Vec<Service>,
    exports: Vec<(ServiceExport, String)>,
}

impl Gathered {
    fn read(&mut self, text: &str, source: &str) -> anyhow::Result<()> {
        for document in serde_norway::Deserializer::from_str(text) {
            let object =
                Value::deserialize(document).with_context(|| format!("{source} is not YAML"))?;
            if object.is_null() {
                continue;
            }
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            let as_what = || format!("{source}: cannot be read as a {kind}");
            match kind.as_str() {
                "Service" => {
                    self.services.push(serde_json::from_value(object).with_context(as_what)?)
                }
                "ServiceExport" => {
                    let yaml = if source.starts_with("the built-in") {
                        text.to_owned()
                    } else {
                        serde_norway::to_string(&object)?
                    };
                    self.exports
                        .push((serde_json::from_value(object).with_context(as_what)?, yaml));
                }
                other => bail!(
                    "{source} holds a {other:?}: the demo takes Services and ServiceExports, and puts its own endpoints behind them"
                ),
            }
        }
        Ok(())
    }

    fn workloads(mut self) -> anyhow::Result<Vec<Workload>> {
        ensure!(
            !self.exports.is_empty(),
            "hold no ServiceExport: add one of the same namespace and name as a Service"
        );
        ensure!(
            self.exports.len() <= MOST_SERVICES,
            "hold more than {MOST_SERVICES} ServiceExports: take some out"
        );
        let mut workloads = Vec::new();
        for (index, (export, export_yaml)) in (0..).zip(std::mem::take(&mut self.exports)) {
            let (namespace, name) = names(&export.metadata);
            let key = ServiceKey::parse(&namespace, &name).context("a ServiceExport")?;
            let service = self
                .services
                .iter()
                .find(|service| names(&service.metadata) == (namespace.clone(), name.clone()));
            let service = service
                .with_context(|| format!("export {key}, but hold no Service of that name"))?;
            workloads.push(Workload {
                service: fresh_service(service, &key),
                export: fresh_export(&export, &key),
                key,
                export_yaml,
                index,
            });
        }
        // The story is told about the first: it needs one that can be called.
        let callable = workloads
            .iter()
            .position(|workload| !workload.echo_ports().is_empty() && !workload.is_headless());
        let callable = callable.context(
            "export nothing that can be called: add a ClusterIP Service with a TCP port",
        )?;
        workloads.swap(0, callable);
        Ok(workloads)
    }
}

type Metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn names(metadata: &Metadata) -> (String, String) {
    (
        metadata.namespace.clone().unwrap_or_else(|| "default".into()),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// What people write of an object's metadata; the rest is another API server's.
fn fresh(metadata: &Metadata, key: &ServiceKey) -> Metadata {
    Metadata {
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        ..Metadata::default()
    }
}

fn fresh_service(service: &Service, key: &ServiceKey) -> Service {
    let mut spec = service.spec.clone().unwrap_or_default();
    if spec.cluster_ip.as_deref() != Some("None") {
        (spec.cluster_ip, spec.cluster_ips) = (None, None);
    }
    Service { metadata: fresh(&service.metadata, key), spec: Some(spec), status: None }
}

fn fresh_export(export: &ServiceExport, key: &ServiceKey) -> ServiceExport {
    ServiceExport {
        metadata: fresh(&export.metadata, key),
        spec: export.spec.clone(),
        status: None,
    }
}

impl Workload {
    fn is_headless(&self) -> bool {
        self.service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
    }

    /// The TCP ports of the Service, and where echo servers stand behind them.
    pub(super) fn echo_ports(&self) -> Vec<EchoPort> {
        let ports = self.service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        let wanted = |port: &k8s_openapi::api::core::v1::ServicePort| match port.target_port {
            Some(IntOrString::Int(number)) => {
                u16::try_from(number).ok().filter(|&number| number >= 1024)
            }
            _ => None,
        };
        tcp.zip(FIRST_ECHO_PORT..)
            .map(|(port, spare)| EchoPort {
                name: port.name.clone(),
                number: wanted(port).unwrap_or(spare),
            })
            .collect()
    }

    /// The number of the first TCP port, which the story calls.
    pub(super) fn called_port(&self) -> u16 {
        let ports = self.service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let mut tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        tcp.next().and_then(|port| u16::try_from(port.port).ok()).unwrap_or_default()
    }

    /// Its name for every cluster of the set.
    pub(super) fn dns_name(&self) -> String {
        format!("{}.{}.svc.clusterset.local", self.key.name, self.key.namespace)
    }

    /// The last numbers of its pods' addresses in any cluster.
    pub(super) fn pod_numbers(&self) -> impl Iterator<Item = u8> + use<> {
        let first = 1 + self.index * PODS;
        first..first + PODS
    }

    /// The slice that names its echo pods in one cluster, as Kubernetes' own controller would write it.
    pub(super) fn endpoints(&self, pods: &[(String, Ipv4Addr)]) -> Value {
        let ports: Vec<Value> = self
            .echo_ports()
            .iter()
            .map(|port| json!({"name": port.name.clone().unwrap_or_default(), "protocol": "TCP", "port": port.number}))
            .collect();
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|(pod, address)| {
                json!({
                    "addresses": [address.to_string()],
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "targetRef": {"kind": "Pod", "namespace": self.key.namespace.as_str(), "name": pod},
                })
            })
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": self.key.namespace.as_str(),
                "name": format!("{}-demo", self.key.name),
                "labels": {
                    "kubernetes.io/service-name": self.key.name.as_str(),
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_workload_is_what_the_story_shows() {
        let workload = builtin().unwrap().remove(0);
        assert_eq!(workload.dns_name(), "echo.demo.svc.clusterset.local");
        assert_eq!(workload.called_port(), 8080);
        assert_eq!(workload.export_yaml, EXPORT);
        let annotations = workload.export.metadata.annotations.unwrap();
        assert_eq!(annotations[landbridge_api::wellknown::PROXY_PROTOCOL], "v2");
    }

    fn check(manifests: &str) -> Result<Vec<Workload>, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("all.yaml"), manifests).unwrap();
        fs::write(folder.path().join("notes.txt"), "not a manifest").unwrap();
        read(folder.path()).map_err(|error| format!("{error:#}"))
    }

    const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, uid: theirs, resourceVersion: '7'}
spec: {clusterIP: 10.96.0.7, ports: [{name: dns, port: 53, protocol: UDP}, {name: http, port: 8081, targetPort: 80}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: web, namespace: shop}
";

    #[test]
    fn a_folder_of_manifests_is_taken_without_what_only_an_api_server_writes() {
        let workload = check(WEB).unwrap().remove(0);
        assert_eq!(workload.service.metadata.uid, None);
        assert_eq!(workload.service.spec.as_ref().unwrap().cluster_ip, None);
        assert_eq!(workload.called_port(), 8081);
        let expected = EchoPort { name: Some("http".into()), number: FIRST_ECHO_PORT };
        assert_eq!(workload.echo_ports(), [expected], "a privileged target port is replaced");
    }

    #[test]
    fn what_cannot_be_used_is_told_with_the_remedy() {
        let (service, export) = WEB.split_once("---").unwrap();
        assert!(
            check(export)
                .unwrap_err()
                .contains("export shop/web, but hold no Service of that name")
        );
        assert!(check(service).unwrap_err().contains("hold no ServiceExport"));
        assert!(
            check("kind: Deployment").unwrap_err().contains("takes Services and ServiceExports")
        );
        let headless = WEB.replace("10.96.0.7", "None");
        assert!(check(&headless).unwrap_err().contains("add a ClusterIP Service with a TCP port"));
    }
}
