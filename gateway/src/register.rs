//! A gateway that runs as a plain process tells its cluster that it is there: an EndpointSlice of the gateway Service,
//! and a Lease that it renews, by which the controller can tell one that has died.

use std::{fmt::Debug, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::ObjectReference,
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use landbridge_api::wellknown::{
    GATEWAY_PORT_ADMIN, GATEWAY_PORT_LINK, GATEWAY_SERVICE, KUBE_SERVICE_NAME, LANDBRIDGE,
    MANAGED_BY,
};
use landbridge_model::{Hostname, Namespace};
use serde::{Serialize, de::DeserializeOwned};

use crate::core::Core;

/// How often the Lease is renewed.
const RENEW: Duration = Duration::from_secs(2);
/// After how long without a renewal the gateway counts as dead, in seconds.
const LEASE_SECONDS: i32 = 10;
/// The slice is written again with every so many renewals of the Lease: somebody may have taken it away.
const RENEWALS_PER_SLICE: u32 = 15;
/// How soon a failed write is tried again: the namespace may be about to be made.
const RETRY: Duration = Duration::from_millis(250);

/// What is registered where.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) namespace: Namespace,
    pub(crate) gateway: Hostname,
    /// Where it listens: the first of each family is told.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) link_port: u16,
    pub(crate) admin_port: u16,
}

impl Registration {
    fn name(&self) -> String {
        format!("{GATEWAY_SERVICE}-{}", self.gateway)
    }

    fn name_v6(&self) -> String {
        format!("{}-v6", self.name())
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name()),
            namespace: Some(self.namespace.to_string()),
            ..ObjectMeta::default()
        }
    }

    /// A slice of one family holds addresses of that family alone.
    fn slices(&self) -> Vec<EndpointSlice> {
        let first = |is: fn(&IpAddr) -> bool| self.addresses.iter().copied().find(is);
        let v4 = first(IpAddr::is_ipv4).map(|address| self.slice(address, self.name()));
        let v6 = first(IpAddr::is_ipv6).map(|address| self.slice(address, self.name_v6()));
        v4.into_iter().chain(v6).collect()
    }

    fn slice(&self, address: IpAddr, name: String) -> EndpointSlice {
        let mut metadata = ObjectMeta { name: Some(name), ..self.metadata() };
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        metadata.labels =
            Some([label(KUBE_SERVICE_NAME, GATEWAY_SERVICE), label(MANAGED_BY, LANDBRIDGE)].into());
        let port = |name: &str, protocol: &str, number: u16| EndpointPort {
            name: Some(name.to_owned()),
            port: Some(i32::from(number)),
            protocol: Some(protocol.to_owned()),
            ..EndpointPort::default()
        };
        EndpointSlice {
            address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
            endpoints: vec![Endpoint {
                addresses: vec![address.to_string()],
                conditions: Some(EndpointConditions {
                    ready: Some(true),
                    ..EndpointConditions::default()
                }),
                target_ref: Some(ObjectReference {
                    kind: Some("Lease".to_owned()),
                    name: Some(self.name()),
                    namespace: Some(self.namespace.to_string()),
                    ..ObjectReference::default()
                }),
                ..Endpoint::default()
            }],
            metadata,
            ports: Some(vec![
                port(GATEWAY_PORT_LINK, "UDP", self.link_port),
                port(GATEWAY_PORT_ADMIN, "TCP", self.admin_port),
            ]),
        }
    }

    fn lease(&self, now: jiff::Timestamp) -> Lease {
        Lease {
            metadata: self.metadata(),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.gateway.to_string()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Registers once every allotted port is listened on, and renews until the gateway leaves; then takes both back.
pub(crate) async fn register(core: Arc<Core>, client: Client, registration: Registration) {
    let namespace = registration.namespace.as_str();
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let mut told = false;
    let mut renewals = 0_u32;
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.leaving.cancelled() => break,
        }
        wait = if core.listeners.is_settled() {
            let lease = registration.lease(jiff::Timestamp::now());
            let written = async {
                put(&leases, &lease).await?;
                if renewals.is_multiple_of(RENEWALS_PER_SLICE) {
                    for slice in registration.slices() {
                        put(&slices, &slice).await?;
                    }
                }
                Ok::<(), kube::Error>(())
            };
            match written.await {
                Ok(()) => {
                    told = false;
                    renewals = renewals.wrapping_add(1);
                    RENEW
                }
                Err(error) => {
                    renewals = 0;
                    core.metrics.status_failures.inc();
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("cannot register, will go on trying: {error}");
                    }
                    RETRY
                }
            }
        } else {
            Duration::from_millis(10)
        };
    }
    for slice in registration.slices() {
        let name = slice.metadata.name.unwrap_or_default();
        taken_back(slices.delete(&name, &DeleteParams::default()).await.map(drop));
    }
    taken_back(leases.delete(&registration.name(), &DeleteParams::default()).await.map(drop));
}

fn taken_back(result: Result<(), kube::Error>) {
    match result {
        Err(error) if !is_status(&error, 404) => {
            tracing::warn!("cannot take the registration back: {error}");
        }
        _ => {}
    }
}

/// Makes an object what it should be, whether it is there or not.
async fn put<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.meta().name.as_deref().unwrap_or_default();
    match api.patch(name, &PatchParams::default(), &Patch::Merge(object)).await {
        Err(error) if is_status(&error, 404) => {
            api.create(&PostParams::default(), object).await.map(drop)
        }
        result => result.map(drop),
    }
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
