//! Pure: what a gateway needs to know for one connection, immutable and complete.
//!
//! A connection reads one snapshot and never two; the parts that change at different times are shared between
//! successive snapshots.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use landbridge_model::{
    AllottedPort, ClusterId, Hostname, Peer, PortKey, PortName, Protocol, ServiceKey, Target,
    ZoneName,
};

use crate::{
    access::{self, Rule},
    caller::{Caller, Workload},
    route::rules::{CallRules, Capacity, Rules},
    wire::Refusal,
};

/// Something in the objects that cannot be carried out.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Problem {
    /// One word for metrics.
    pub(crate) kind: &'static str,
    /// A sentence that names the objects and what to do.
    pub(crate) message: String,
}

/// What connections to one allotted port are for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Route {
    /// The service port.
    pub(crate) target: Target,
    /// The other clusters that serve it and have a ready endpoint, in order.
    pub(crate) clusters: Vec<ClusterId>,
    /// The endpoints of those of which they are known.
    pub(crate) capacity: BTreeMap<ClusterId, Capacity>,
    /// Whether the calls of one client go to one endpoint.
    pub(crate) by_client: bool,
    /// How calls are spread over clusters.
    pub(crate) rules: Arc<Rules>,
    /// What holds for each of them.
    pub(crate) call: CallRules,
}

impl Route {
    /// A route that no policy says anything about.
    pub(crate) fn new(target: Target, clusters: Vec<ClusterId>) -> Self {
        Self {
            target,
            clusters,
            capacity: BTreeMap::new(),
            by_client: false,
            rules: Arc::default(),
            call: CallRules::default(),
        }
    }
}

/// A port of an exported Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ExportedPort {
    /// Its name, by which EndpointSlices refer to it.
    pub(crate) name: Option<PortName>,
    /// Protocol and number.
    pub(crate) key: PortKey,
}

/// A ready endpoint of an exported Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ReadyEndpoint {
    /// Its hostname, or the one made from its address.
    pub(crate) hostname: Option<Hostname>,
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its failure zone, where its node has one.
    pub(crate) zone: Option<ZoneName>,
    /// Its ports by name.
    pub(crate) ports: Arc<[ExportedPort]>,
}

/// A Service that this cluster exports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ExportedService {
    /// Its ports.
    pub(crate) ports: Vec<ExportedPort>,
    /// Whether clients choose the endpoint.
    pub(crate) headless: bool,
    /// Its ready endpoints.
    pub(crate) endpoints: Vec<ReadyEndpoint>,
    /// How many there are, ready or not.
    pub(crate) total: usize,
    /// Whether the calls of one client go to one endpoint.
    pub(crate) by_client: bool,
    /// Whether its pods are told who calls.
    pub(crate) proxy_protocol: bool,
    /// The rules of the AccessPolicies in force for it; none where every member may call.
    pub(crate) access: Option<Vec<Rule>>,
}

impl ExportedService {
    /// Where a connection to `port`, of the endpoint `hostname` if one is named, may be brought.
    ///
    /// # Errors
    /// [`Refusal::NotExported`] where the Service has no such port; [`Refusal::NoEndpoint`] where nobody is ready.
    pub(crate) fn destinations(
        &self,
        port: PortKey,
        hostname: Option<&Hostname>,
    ) -> Result<Vec<Destination<'_>>, Refusal> {
        let found = match hostname {
            Some(hostname) => self.of_endpoint(port, hostname)?,
            None => self.of_service(port)?,
        };
        if found.is_empty() { Err(Refusal::NoEndpoint) } else { Ok(found) }
    }

    /// Whether a caller of another cluster may call `port`, of the endpoint `hostname` if one is named.
    ///
    /// # Errors
    /// [`Refusal::Denied`] where policies are in force and none of their rules lets it in.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        port: PortKey,
        hostname: Option<&Hostname>,
    ) -> Result<(), Refusal> {
        let Some(rules) = &self.access else { return Ok(()) };
        let ports = match hostname {
            None => vec![port],
            Some(hostname) => self.service_ports(port, hostname),
        };
        if access::allows(rules, caller, &ports) { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// Which of the Service's ports an endpoint serves at one of its own: rules are about those that the Service has.
    fn service_ports(&self, port: PortKey, hostname: &Hostname) -> Vec<PortKey> {
        let endpoints = self.endpoints.iter();
        let endpoints = endpoints.filter(|endpoint| endpoint.hostname.as_ref() == Some(hostname));
        let served = endpoints.flat_map(|endpoint| endpoint.ports.iter());
        let served = served.filter(|served| served.key == port);
        let named = served.flat_map(|served| {
            let is_it = |own: &&ExportedPort| {
                own.name == served.name && own.key.protocol == served.key.protocol
            };
            self.ports.iter().filter(is_it)
        });
        named.map(|own| own.key).collect()
    }

    /// By the Service's port: EndpointSlices have it under the same name.
    fn of_service(&self, port: PortKey) -> Result<Vec<Destination<'_>>, Refusal> {
        let service_port = self.ports.iter().find(|candidate| candidate.key == port);
        let service_port = service_port.ok_or(Refusal::NotExported)?;
        let same = |candidate: &&ExportedPort| {
            candidate.name == service_port.name
                && candidate.key.protocol == service_port.key.protocol
        };
        let found = self.endpoints.iter().filter_map(|endpoint| {
            let number = endpoint.ports.iter().find(same)?.key.number;
            let address = SocketAddr::new(endpoint.ip, number.get());
            Some(Destination { address, zone: endpoint.zone.as_ref() })
        });
        Ok(found.collect())
    }

    /// By the endpoint's own port: headless clients dial what the endpoint listens on. It must still be one that the
    /// Service has, by name.
    fn of_endpoint(
        &self,
        port: PortKey,
        hostname: &Hostname,
    ) -> Result<Vec<Destination<'_>>, Refusal> {
        if !self.headless {
            return Err(Refusal::NotExported);
        }
        let exported = |candidate: &ExportedPort| {
            let named = |own: &ExportedPort| {
                own.name == candidate.name && own.key.protocol == candidate.key.protocol
            };
            candidate.key == port && self.ports.iter().any(named)
        };
        Ok(self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.hostname.as_ref() == Some(hostname))
            .filter(|endpoint| endpoint.ports.iter().any(exported))
            .map(|endpoint| Destination {
                address: SocketAddr::new(endpoint.ip, port.number.get()),
                zone: endpoint.zone.as_ref(),
            })
            .collect())
    }
}

/// Where a connection may be brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Destination<'a> {
    /// Where the pod listens.
    pub(crate) address: SocketAddr,
    /// Its failure zone, where its node has one.
    pub(crate) zone: Option<&'a ZoneName>,
}

/// Who has which address.
pub(crate) type Callers = HashMap<IpAddr, Workload>;

/// Everything, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Counts snapshots.
    pub(crate) revision: u64,
    /// Whether every kind of object has been read once.
    pub(crate) synced: bool,
    /// What to listen on, and what it means.
    pub(crate) routes: Arc<BTreeMap<(Protocol, AllottedPort), Arc<Route>>>,
    /// The addresses of gateways of this cluster that slices send clients to.
    pub(crate) gateways: Arc<BTreeSet<IpAddr>>,
    /// The failure zones that this cluster's gateways are in.
    pub(crate) gateway_zones: Arc<BTreeMap<IpAddr, ZoneName>>,
    /// The failure zone that this gateway is in, where its node has one.
    pub(crate) zone: Option<ZoneName>,
    /// What this cluster exports.
    pub(crate) exports: Arc<HashMap<ServiceKey, Arc<ExportedService>>>,
    /// The pods whose address says who they are.
    pub(crate) callers: Arc<Callers>,
    /// The other members.
    pub(crate) peers: Arc<BTreeMap<ClusterId, Peer>>,
    /// What cannot be carried out.
    pub(crate) problems: Arc<Vec<Problem>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: Option<&str>, number: u16) -> ExportedPort {
        ExportedPort { name: name.map(|name| PortName::parse(name).unwrap()), key: key(number) }
    }

    fn key(number: u16) -> PortKey {
        PortKey { protocol: Protocol::Tcp, number: number.try_into().unwrap() }
    }

    fn endpoint(hostname: &str, ip: &str, ports: &[ExportedPort]) -> ReadyEndpoint {
        ReadyEndpoint {
            hostname: Hostname::parse(hostname).ok(),
            ip: ip.parse().unwrap(),
            zone: None,
            ports: ports.into(),
        }
    }

    fn addresses(found: Result<Vec<Destination<'_>>, Refusal>) -> Result<Vec<String>, Refusal> {
        found.map(|found| found.iter().map(|pod| pod.address.to_string()).collect())
    }

    /// Worked example A: "service port; paris's gateway maps it to 8080".
    #[test]
    fn a_service_port_leads_to_the_port_of_the_same_name() {
        let service = ExportedService {
            ports: vec![port(Some("http"), 80), port(Some("grpc"), 9090)],
            endpoints: vec![
                endpoint("", "10.244.0.5", &[port(Some("http"), 8080), port(Some("grpc"), 9191)]),
                endpoint("", "10.244.0.6", &[port(Some("http"), 8081)]),
            ],
            ..ExportedService::default()
        };
        let to = |number| addresses(service.destinations(key(number), None));
        assert_eq!(to(80), Ok(vec!["10.244.0.5:8080".to_owned(), "10.244.0.6:8081".to_owned()]));
        assert_eq!(to(9090), Ok(vec!["10.244.0.5:9191".to_owned()]));
        assert_eq!(to(8080), Err(Refusal::NotExported), "a pod's port is no service port");
        let hostname = Hostname::parse("a").unwrap();
        assert_eq!(
            service.destinations(key(8080), Some(&hostname)),
            Err(Refusal::NotExported),
            "endpoints are for headless services only"
        );
    }

    /// Worked example B: "paris's gateway dials the pod with that hostname".
    #[test]
    fn an_endpoint_of_a_headless_service_is_dialled_by_its_hostname_and_own_port() {
        let service = ExportedService {
            ports: vec![port(Some("pg"), 5432)],
            headless: true,
            endpoints: vec![endpoint(
                "db-0",
                "10.244.0.7",
                &[port(Some("pg"), 6432), port(Some("debug"), 1)],
            )],
            ..ExportedService::default()
        };
        let to = |name: &str, number| {
            addresses(service.destinations(key(number), Some(&Hostname::parse(name).unwrap())))
        };
        assert_eq!(to("db-0", 6432), Ok(vec!["10.244.0.7:6432".to_owned()]));
        assert_eq!(to("db-1", 6432), Err(Refusal::NoEndpoint));
        assert_eq!(to("db-0", 1), Err(Refusal::NoEndpoint), "the Service has no port debug");
    }
}
