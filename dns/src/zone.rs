//! Pure: which names the zone has and what their records are (MCS DNS specification 1.0.0).
//!
//! | name below the zone | has |
//! | --- | --- |
//! | the apex | SOA, NS |
//! | `dns-version` | TXT `1.0.0` |
//! | `svc`, `<namespace>.svc`, `_<proto>.<service>…` | nothing of its own: NODATA, since names below it exist |
//! | `<service>.<namespace>.svc` | A, AAAA; SRV for all its ports |
//! | `_<port>._<proto>.<service>.<namespace>.svc` | SRV |
//! | `<hostname>.<cluster>.<service>.<namespace>.svc` | A, AAAA of one endpoint, where headless |
//! | `<cluster>.<service>.<namespace>.svc` | is NXDOMAIN |
//!
//! The last line goes against RFC 8020, by which a name with names below it exists. The MCS DNS specification
//! reserves it in so many words ("MUST NOT exist"), and CoreDNS answers so.

mod headless;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use landbridge_api::convert::{ImportView, McsSlice};
use landbridge_model::{ServiceKey, ServiceKind};
use thiserror::Error;

use crate::name::{MAX_LABEL, MAX_NAME, Name};

/// The version of the MCS DNS specification that the zone follows, as its `dns-version` record tells.
const SCHEMA_VERSION: &str = "1.0.0";
/// The most octets of a zone in wire form, so that `<service>.<namespace>.svc` fits before it whatever the two are
/// called: 255, less two longest labels with their lengths, less `svc` with its.
const MAX_ZONE: usize = MAX_NAME - 2 * (1 + MAX_LABEL) - 4;

/// The zone that is answered for, `clusterset.local` by default.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    apex: Name,
    name_server: Name,
    services: Name,
    version: Name,
}

/// A text that cannot be a zone.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("zone {text:?} is not valid: {problem}")]
pub struct ZoneError {
    text: String,
    problem: &'static str,
}

impl Zone {
    /// Reads a zone such as `clusterset.local`, with or without a dot at its end.
    ///
    /// # Errors
    /// [`ZoneError`] says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        let error = |problem| ZoneError { text: text.chars().take(64).collect(), problem };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let mut apex = Name::root();
        for label in text.strip_suffix('.').unwrap_or(text).rsplit('.') {
            if label.is_empty() || !label.bytes().all(valid) {
                return Err(error(
                    "use labels of letters, digits and '-' with dots between, such as clusterset.local",
                ));
            }
            apex = apex.child(label).filter(|name| name.wire().len() <= MAX_ZONE).ok_or_else(
                || error("use labels of at most 63 characters and at most 121 in all"),
            )?;
        }
        Self::of(apex).ok_or_else(|| error("use at most 121 characters"))
    }

    fn of(apex: Name) -> Option<Self> {
        Some(Self {
            name_server: apex.child("dns")?.child("ns")?,
            services: apex.child("svc")?,
            version: apex.child("dns-version")?,
            apex,
        })
    }

    /// The zone itself.
    pub(crate) fn apex(&self) -> &Name {
        &self.apex
    }

    /// What the NS and SOA records call this server, as CoreDNS does.
    pub(crate) fn name_server(&self) -> &Name {
        &self.name_server
    }

    /// The name of a service.
    ///
    /// None only if the limits of a zone and of Kubernetes names did not fit each other.
    fn service(&self, key: &ServiceKey) -> Option<Name> {
        self.namespace(key)?.child(key.name.as_str())
    }

    /// The name that stands for the namespace of a service.
    pub(crate) fn namespace(&self, key: &ServiceKey) -> Option<Name> {
        self.services.child(key.namespace.as_str())
    }

    /// What is there whatever is imported. `addresses` are this server's own, where it knows them.
    pub(crate) fn fixed(&self, addresses: &BTreeSet<IpAddr>) -> BTreeMap<Name, Node> {
        let mut nodes = BTreeMap::new();
        let apex = Node {
            records: BTreeSet::from([Data::Ns(self.name_server.clone())]),
            additional: addresses
                .iter()
                .map(|address| (self.name_server.clone(), *address))
                .collect(),
        };
        nodes.insert(self.apex.clone(), apex);
        nodes.insert(self.services.clone(), Node::default());
        let version =
            Node { records: BTreeSet::from([Data::Txt(SCHEMA_VERSION)]), ..Node::default() };
        nodes.insert(self.version.clone(), version);
        if !addresses.is_empty() {
            nodes.extend(self.apex.child("dns").map(|name| (name, Node::default())));
            nodes.insert(self.name_server.clone(), Node::addresses(addresses));
        }
        nodes
    }
}

impl Default for Zone {
    /// `clusterset.local`: the MCS DNS specification allows no other ("must be clusterset.local").
    fn default() -> Self {
        Self::parse("clusterset.local").expect("clusterset.local is a valid zone")
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        Self::parse(text)
    }
}

/// What a record says.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A name server.
    Ns(Name),
    /// Where a port is served.
    Srv {
        /// The name that has the addresses.
        target: Name,
        /// The number of the port.
        port: u16,
    },
    /// A text.
    Txt(&'static str),
}

impl From<IpAddr> for Data {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }
}

/// A name that exists. Without records it is one that has names below it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Node {
    /// Its records.
    pub(crate) records: BTreeSet<Data>,
    /// Addresses of the targets of its records, which whoever asks for them is likely to ask for next.
    pub(crate) additional: BTreeSet<(Name, IpAddr)>,
}

impl Node {
    fn addresses<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Self {
        Self {
            records: addresses.into_iter().copied().map(Data::from).collect(),
            ..Self::default()
        }
    }

    fn add_target(&mut self, target: &Name, port: u16, addresses: &BTreeSet<IpAddr>) {
        let target = target.clone();
        self.additional.extend(addresses.iter().map(|address| (target.clone(), *address)));
        self.records.insert(Data::Srv { target, port });
    }
}

/// The names of one service.
#[derive(Debug, Default)]
pub(crate) struct Described {
    /// Names and what they have. Empty where the service cannot be resolved.
    pub(crate) nodes: BTreeMap<Name, Node>,
    /// What could not be given a name, in sentences.
    pub(crate) problems: Vec<String>,
}

impl Described {
    /// Adds the SRV record of a named port, and the name between it and the service.
    fn named_port(
        &mut self,
        service: &Name,
        (port_name, protocol): (&str, &str),
        target: &Name,
        number: u16,
        addresses: &BTreeSet<IpAddr>,
    ) {
        let transport = service.child(&format!("_{protocol}"));
        let named =
            transport.as_ref().and_then(|transport| transport.child(&format!("_{port_name}")));
        let (Some(transport), Some(named)) = (transport, named) else {
            self.problem(format!(
                "port {port_name} has no SRV record: its name would be too long for the DNS"
            ));
            return;
        };
        self.nodes.entry(transport).or_default();
        let node = self.nodes.entry(named).or_default();
        node.add_target(target, number, addresses);
    }

    /// Notes a problem once, however many endpoints have it.
    fn problem(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// The names and records of the service that `import` and its `slices` tell of.
///
/// A ClusterSetIP service without an address, and a headless one without a ready endpoint, have no names at all.
pub(crate) fn service<'a>(
    zone: &Zone,
    import: &ImportView,
    slices: impl Iterator<Item = &'a McsSlice>,
) -> Described {
    let Some(name) = zone.service(&import.service) else {
        return Described::default();
    };
    match import.kind {
        ServiceKind::ClusterSetIp => cluster_set_ip(&name, import),
        ServiceKind::Headless => headless::describe(&name, slices),
    }
}

fn cluster_set_ip(name: &Name, import: &ImportView) -> Described {
    let mut described = Described::default();
    if import.ips.is_empty() {
        return described;
    }
    let addresses: BTreeSet<IpAddr> = import.ips.iter().copied().collect();
    let mut bare = Node::addresses(&addresses);
    for port in &import.ports {
        let number = port.key.number.get();
        // As CoreDNS has it and the conformance suite asks it: all ports, though the specification names only
        // those with a name. A port that is served over TCP and UDP is one record.
        bare.add_target(name, number, &addresses);
        if let Some(port_name) = &port.name {
            let key = (port_name.as_str(), port.key.protocol.lower());
            described.named_port(name, key, name, number, &addresses);
        }
    }
    described.nodes.insert(name.clone(), bare);
    described
}
