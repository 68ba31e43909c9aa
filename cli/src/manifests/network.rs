//! Pure: how components are reached, and by whom.

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{
            NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
            NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use landbridge_api::wellknown::{
    GATEWAY_PORT_ADMIN, GATEWAY_PORT_LINK, GATEWAY_PORT_LINK_TCP, GATEWAY_SERVICE, SYSTEM_NAMESPACE,
};
use landbridge_model::AllottedPort;

use super::{
    Part,
    settings::{Expose, LINK_PORT, Settings},
};

/// What components listen on, beside their admin endpoints. Above 1024, so that nobody needs a privilege.
pub(super) const DNS_PORT: u16 = 1053;
/// Where gateways listen for their controller, which wants the hub's API, or the set's authority there.
pub(super) const HUB_PORT: u16 = 6443;
pub(super) const AUTHORITY_PORT: u16 = 6444;
/// The names of those ports.
pub(super) const PORT_HUB: &str = "hub";
pub(super) const PORT_AUTHORITY: &str = "authority";
/// Where the controller finds both.
const HUB_SERVICE: &str = "landbridge-hub";
/// Where the set's authority listens, in the hub's cluster.
pub(super) const JOIN_PORT: u16 = 8443;
/// Where peers reach gateways, by whatever way it is.
pub(crate) const LINK_SERVICE: &str = "landbridge-link";
const UDP: &str = "UDP";
const TCP: &str = "TCP";

/// The Services of a cluster.
pub(super) fn services(settings: &Settings) -> Vec<Service> {
    let mut all = vec![dns(settings), gateways()];
    all.extend(link(settings));
    all.extend(settings.hub.as_ref().map(|_| hub()));
    all.extend(settings.own_hub.then(authority_service));
    all
}

/// Where a controller renews what makes its cluster a member: on the hub the authority itself, elsewhere by way of the
/// cluster's own gateways; nowhere where the hub's API is reached by other means.
pub(super) fn authority(settings: &Settings) -> Option<String> {
    let name = Part::Authority.name();
    if settings.own_hub {
        return Some(format!("{name}.{SYSTEM_NAMESPACE}.svc:{JOIN_PORT}"));
    }
    let hub = settings.hub.as_ref();
    hub.map(|_| format!("{HUB_SERVICE}.{SYSTEM_NAMESPACE}.svc:{AUTHORITY_PORT}"))
}

/// Where the hub's gateways bring those to that join or renew.
fn authority_service() -> Service {
    Service {
        metadata: Part::Authority.metadata(Part::Authority.name()),
        spec: Some(ServiceSpec {
            ip_family_policy: Some("PreferDualStack".into()),
            ports: Some(vec![ServicePort {
                name: Some("join".into()),
                port: JOIN_PORT.into(),
                protocol: Some(TCP.into()),
                target_port: Some(IntOrString::String("join".into())),
                ..ServicePort::default()
            }]),
            selector: Some(Part::Authority.labels()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// At an address of its own, since the cluster's DNS is told that address.
fn dns(settings: &Settings) -> Service {
    let addresses: Vec<String> = settings.dns.iter().map(ToString::to_string).collect();
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.into()),
        port: 53,
        protocol: Some(protocol.into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    };
    Service {
        metadata: Part::Dns.metadata(Part::Dns.name()),
        spec: Some(ServiceSpec {
            cluster_ip: addresses.first().cloned(),
            // Of one alone nothing is said: an API server adds the other family's, and refuses that it be taken away.
            cluster_ips: (addresses.len() > 1).then_some(addresses),
            ip_family_policy: Some("PreferDualStack".into()),
            ports: Some(vec![port("dns", UDP), port("dns-tcp", TCP)]),
            selector: Some(Part::Dns.labels()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Where the controller finds the gateways: their addresses of both families, and what they are asked at. Nobody calls
/// it, so that it takes no ClusterIP.
fn gateways() -> Service {
    let port = |name: &str, protocol: &str, number: u16| ServicePort {
        name: Some(name.into()),
        port: number.into(),
        protocol: Some(protocol.into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    };
    Service {
        metadata: Part::Gateway.metadata(GATEWAY_SERVICE),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            ip_family_policy: Some("PreferDualStack".into()),
            ports: Some(vec![
                port(GATEWAY_PORT_LINK, UDP, LINK_PORT),
                port(GATEWAY_PORT_ADMIN, TCP, Part::Gateway.admin_port()),
            ]),
            selector: Some(Part::Gateway.labels()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Where the controller finds the hub, whose certificates name no address of this cluster.
fn hub() -> Service {
    let port = |name: &str, number: u16| ServicePort {
        name: Some(name.into()),
        port: number.into(),
        protocol: Some(TCP.into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    };
    Service {
        metadata: Part::Gateway.metadata(HUB_SERVICE),
        spec: Some(ServiceSpec {
            ports: Some(vec![port(PORT_HUB, HUB_PORT), port(PORT_AUTHORITY, AUTHORITY_PORT)]),
            selector: Some(Part::Gateway.labels()),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Where peers reach them: Services of their own, since a load balancer must not publish the other port. Many load balancers
/// take no two protocols, so that each has one of its own there; a node's port is one number for both, in one Service.
fn link(settings: &Settings) -> Vec<Service> {
    let udp = |port, node_port| link_port(GATEWAY_PORT_LINK, UDP, port, node_port);
    let tcp = |port, node_port| link_port(GATEWAY_PORT_LINK_TCP, TCP, port, node_port);
    let port = settings.link_port;
    match settings.expose {
        Expose::HostPort => Vec::new(),
        Expose::LoadBalancer => vec![
            link_service(LINK_SERVICE, "LoadBalancer", vec![udp(port, None)]),
            link_service("landbridge-link-tcp", "LoadBalancer", vec![tcp(port, None)]),
        ],
        Expose::Address(_) | Expose::NodePort => {
            let both = vec![udp(LINK_PORT, Some(port)), tcp(LINK_PORT, Some(port))];
            vec![link_service(LINK_SERVICE, "NodePort", both)]
        }
    }
}

fn link_port(name: &str, protocol: &str, port: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        node_port: node_port.map(i32::from),
        port: port.into(),
        protocol: Some(protocol.into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    }
}

fn link_service(name: &str, type_: &str, ports: Vec<ServicePort>) -> Service {
    Service {
        metadata: Part::Gateway.metadata(name),
        spec: Some(ServiceSpec {
            ip_family_policy: Some("PreferDualStack".into()),
            ports: Some(ports),
            selector: Some(Part::Gateway.labels()),
            type_: Some(type_.into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Who may call what. Where they call is not limited: an API server, a peer and a pod may be anywhere.
pub(super) fn policy(part: Part, settings: &Settings) -> NetworkPolicy {
    let allotted = |protocol| ports(protocol, AllottedPort::FIRST, AllottedPort::LAST);
    let anybody = |ports| NetworkPolicyIngressRule { from: None, ports: Some(ports) };
    let by = |from: &[Part], ports| NetworkPolicyIngressRule {
        from: Some(from.iter().copied().map(pods_of).collect()),
        ports: Some(ports),
    };
    let own = match part {
        // Whoever joins comes through a gateway, and the hub's own controller by itself.
        Part::Authority => {
            vec![by(&[Part::Controller, Part::Gateway], vec![port(TCP, JOIN_PORT)])]
        }
        Part::Controller => vec![],
        Part::Dns => vec![anybody(vec![port(UDP, DNS_PORT), port(TCP, DNS_PORT)])],
        // Peers come from outside, and whoever runs on a node is no pod.
        Part::Gateway => {
            let links =
                vec![port(UDP, LINK_PORT), port(TCP, LINK_PORT), allotted(TCP), allotted(UDP)];
            let hub = vec![port(TCP, HUB_PORT), port(TCP, AUTHORITY_PORT)];
            let hub = settings.hub.as_ref().map(|_| by(&[Part::Controller], hub));
            [anybody(links)].into_iter().chain(hub).collect()
        }
    };
    // Metrics, and what the controller asks a gateway, are for pods of this cluster. A kubelet may always ask its own.
    let pods = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    };
    let admin = NetworkPolicyIngressRule {
        from: Some(vec![pods]),
        ports: Some(vec![port(TCP, part.admin_port())]),
    };
    NetworkPolicy {
        metadata: part.metadata(part.name()),
        spec: Some(NetworkPolicySpec {
            ingress: Some(own.into_iter().chain([admin]).collect()),
            pod_selector: Some(part.selector()),
            policy_types: Some(vec!["Ingress".into()]),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// Those of one component, in our namespace.
fn pods_of(part: Part) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(part.selector()), ..NetworkPolicyPeer::default() }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some(protocol.into()),
        ..NetworkPolicyPort::default()
    }
}

fn ports(protocol: &str, first: AllottedPort, last: AllottedPort) -> NetworkPolicyPort {
    NetworkPolicyPort { end_port: Some(last.number().into()), ..port(protocol, first.number()) }
}
