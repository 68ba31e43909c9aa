//! What a gateway counts.

mod hub;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use landbridge_model::ServiceKey;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

pub(crate) use self::hub::HubMetrics;
use crate::open::Tally;

/// The most services that are counted apart: as many as a cluster imports by default, in which ten series each are a page that
/// Prometheus reads without trouble.
const MOST_SERVICES: usize = 2_000;

/// Which way a connection goes through this gateway.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Direction {
    /// From a client of this cluster to another cluster.
    Outbound,
    /// From another cluster to a pod of this one.
    Inbound,
}

impl Direction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ResultLabels {
    direction: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct PeerResultLabels {
    direction: &'static str,
    peer: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct PeerLabel {
    peer: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct RetryLabels {
    peer: String,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct CallLabels {
    direction: &'static str,
    peer: String,
    service: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct LinkLabels {
    peer: String,
    state: &'static str,
    transport: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct CertificateLabel {
    certificate: &'static str,
}

/// All of them. Cloning shares.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    connections: Family<ResultLabels, Counter>,
    active: Family<DirectionLabel, Gauge>,
    bytes: Family<PeerResultLabels, Counter>,
    connect: Family<PeerLabel, Histogram>,
    refusals: Family<ReasonLabel, Counter>,
    retries: Family<RetryLabels, Counter>,
    ejections: Family<ReasonLabel, Counter>,
    calls: Family<CallLabels, Counter>,
    services: Arc<Mutex<HashSet<ServiceKey>>>,
    cuts: Family<ReasonLabel, Counter>,
    access_log_drops: Counter,
    handshakes: Family<ReasonLabel, Counter>,
    /// What is counted of the hub.
    pub(crate) hub: HubMetrics,
    links: Family<LinkLabels, Gauge>,
    suspicions: Counter,
    certificate_expires: Family<CertificateLabel, Gauge>,
    credentials: Family<ResultLabel, Counter>,
    flows: Family<ResultLabels, Counter>,
    flows_active: Family<DirectionLabel, Gauge>,
    flow_evictions: Counter,
    datagrams: Family<PeerResultLabels, Counter>,
    datagram_drops: Family<ReasonLabel, Counter>,
    pub(crate) listeners: Gauge,
    pub(crate) listen_failures: Counter,
    pub(crate) accept_failures: Counter,
    pub(crate) not_carried: Gauge,
    /// Payload that is kept until an answer confirms it.
    pub(crate) kept: Gauge,
    problems: Family<ReasonLabel, Gauge>,
    pub(crate) interruptions: Counter,
    pub(crate) status_failures: Counter,
}

impl Metrics {
    /// Makes them and registers them below `gateway`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::new();
        let below = registry.sub_registry_with_prefix("gateway");
        metrics.register_connections(below);
        metrics.register_flows(below);
        metrics.register_links(below);
        metrics.register_listeners(below);
        metrics.hub.register(below);
        metrics
    }

    fn register_connections(&self, to: &mut Registry) {
        let connections = self.connections.clone();
        to.register("connections", "Connections, by how they were opened", connections);
        to.register("connections_active", "Connections that are open", self.active.clone());
        to.register_with_unit("transferred", "Payload carried", Unit::Bytes, self.bytes.clone());
        to.register_with_unit(
            "connect_duration",
            "From a client's connection to the answer of the gateway of the cluster that serves it",
            Unit::Seconds,
            self.connect.clone(),
        );
        to.register("refusals", "Streams of peers that were refused", self.refusals.clone());
        to.register("retries", "Connections that were tried elsewhere", self.retries.clone());
        let calls = self.calls.clone();
        to.register("calls", "Connections and flows that have ended or were refused", calls);
        to.register("cuts", "Connections that were cut", self.cuts.clone());
        let drops = self.access_log_drops.clone();
        to.register("access_log_drops", "Lines that the access log had no room for", drops);
        to.register_with_unit(
            "kept",
            "Payload of calls that no answer has confirmed yet: kept so that they can be tried elsewhere",
            Unit::Bytes,
            self.kept.clone(),
        );
        let ejections = self.ejections.clone();
        to.register(
            "ejections",
            "Pods and clusters left out for a while since they fail",
            ejections,
        );
    }

    fn register_flows(&self, to: &mut Registry) {
        to.register("flows", "UDP flows, by how they were opened", self.flows.clone());
        to.register("flows_active", "UDP flows that are open", self.flows_active.clone());
        let evictions = self.flow_evictions.clone();
        to.register("flow_evictions", "UDP flows that made room for others", evictions);
        to.register("datagrams", "Datagrams of UDP flows carried", self.datagrams.clone());
        let drops = self.datagram_drops.clone();
        to.register("datagram_drops", "Datagrams of UDP flows that were dropped", drops);
    }

    fn register_links(&self, to: &mut Registry) {
        to.register("handshake_refusals", "Peers that were refused", self.handshakes.clone());
        to.register(
            "links",
            "Links to peers, by state and by what carries them",
            self.links.clone(),
        );
        to.register("suspicions", "Times that a link fell silent", self.suspicions.clone());
        to.register_with_unit(
            "certificate_expires_in",
            "Until the certificates in force end: the gateway's own, its member's, the set's root",
            Unit::Seconds,
            self.certificate_expires.clone(),
        );
        to.register(
            "certificate_renewals",
            "New certificates that were taken, or found unusable",
            self.credentials.clone(),
        );
        let failures = self.status_failures.clone();
        to.register("status_failures", "Failed writes of status or registration", failures);
    }

    fn register_listeners(&self, to: &mut Registry) {
        to.register("listeners", "Allotted ports that are listened on", self.listeners.clone());
        let failures = self.listen_failures.clone();
        to.register("listen_failures", "Failed attempts to listen", failures);
        let failures = self.accept_failures.clone();
        to.register("accept_failures", "Failed attempts to accept", failures);
        let not_carried = self.not_carried.clone();
        to.register("ports_not_carried", "Allotted ports of protocols not carried", not_carried);
        to.register("problems", "Objects that cannot be carried out", self.problems.clone());
        let interruptions = self.interruptions.clone();
        to.register("watch_interruptions", "Times that the API was not readable", interruptions);
    }

    pub(crate) fn new() -> Self {
        Self {
            connections: Family::default(),
            active: Family::default(),
            bytes: Family::default(),
            // 0.25 ms, a call within one machine, to 8 s, the longest that a client is kept waiting.
            connect: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
            }),
            refusals: Family::default(),
            retries: Family::default(),
            ejections: Family::default(),
            calls: Family::default(),
            services: Arc::default(),
            cuts: Family::default(),
            access_log_drops: Counter::default(),
            handshakes: Family::default(),
            hub: HubMetrics::default(),
            links: Family::default(),
            suspicions: Counter::default(),
            certificate_expires: Family::default(),
            credentials: Family::default(),
            flows: Family::default(),
            flows_active: Family::default(),
            flow_evictions: Counter::default(),
            datagrams: Family::default(),
            datagram_drops: Family::default(),
            listeners: Gauge::default(),
            listen_failures: Counter::default(),
            accept_failures: Counter::default(),
            not_carried: Gauge::default(),
            kept: Gauge::default(),
            problems: Family::default(),
            interruptions: Counter::default(),
            status_failures: Counter::default(),
        }
    }

    /// A connection is open until what is returned is dropped.
    pub(crate) fn open(&self, direction: Direction) -> Open {
        let direction = direction.as_str();
        let gauge = self.active.get_or_create_owned(&DirectionLabel { direction });
        gauge.inc();
        Open(gauge)
    }

    /// A connection was opened, or why not.
    pub(crate) fn connection(&self, direction: Direction, result: &'static str) {
        let direction = direction.as_str();
        self.connections.get_or_create(&ResultLabels { direction, result }).inc();
    }

    /// The counter of payload that goes to `peer` (outbound) or comes from it.
    pub(crate) fn bytes(&self, direction: Direction, peer: &str) -> Counter {
        self.bytes.get_or_create_owned(&PeerResultLabels {
            direction: direction.as_str(),
            peer: peer.to_owned(),
        })
    }

    /// A flow is open until what is returned is dropped.
    pub(crate) fn open_flow(&self, direction: Direction) -> Open {
        let direction = direction.as_str();
        let gauge = self.flows_active.get_or_create_owned(&DirectionLabel { direction });
        gauge.inc();
        Open(gauge)
    }

    /// A flow was opened, or why not.
    pub(crate) fn flow(&self, direction: Direction, result: &'static str) {
        let direction = direction.as_str();
        self.flows.get_or_create(&ResultLabels { direction, result }).inc();
    }

    /// A flow has made room for another.
    pub(crate) fn flow_evicted(&self) {
        self.flow_evictions.inc();
    }

    /// The counters of datagrams that go to `peer` (outbound) or come from it.
    pub(crate) fn datagrams(
        &self,
        direction: Direction,
        peer: &str,
        tally: Arc<Tally>,
    ) -> DatagramCounters {
        let labels = PeerResultLabels { direction: direction.as_str(), peer: peer.to_owned() };
        DatagramCounters {
            datagrams: self.datagrams.get_or_create_owned(&labels),
            bytes: self.bytes(direction, peer),
            direction,
            tally,
        }
    }

    pub(crate) fn datagram_dropped(&self, reason: &'static str) {
        self.datagram_drops.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A call was brought to `peer`, so long after the client connected.
    pub(crate) fn connected_after(&self, peer: &str, time: Duration) {
        let peer = peer.to_owned();
        self.connect.get_or_create(&PeerLabel { peer }).observe(time.as_secs_f64());
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A call is tried elsewhere, since `peer` did not take it.
    pub(crate) fn retried(&self, peer: &str, reason: &'static str) {
        self.retries.get_or_create(&RetryLabels { peer: peer.to_owned(), reason }).inc();
    }

    /// One that has ended or was refused, by peer and service. A service beyond the first [`MOST_SERVICES`] is `other`: labels
    /// that grow without end would cost more than they tell.
    pub(crate) fn call(
        &self,
        direction: Direction,
        peer: &str,
        service: &ServiceKey,
        outcome: &'static str,
    ) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = services.contains(service)
            || services.len() < MOST_SERVICES && services.insert(service.clone());
        drop(services);
        let service = if is_known { service.to_string() } else { "other".to_owned() };
        let (direction, peer) = (direction.as_str(), peer.to_owned());
        self.calls.get_or_create(&CallLabels { direction, peer, service, outcome }).inc();
    }

    /// A connection was cut, for a reason.
    pub(crate) fn cut(&self, reason: &'static str) {
        self.cuts.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The access log had no room for a line.
    pub(crate) fn access_log_dropped(&self) {
        self.access_log_drops.inc();
    }

    /// One of several, a `pod` or a `cluster`, is left out for a while.
    pub(crate) fn ejected(&self, reason: &'static str) {
        self.ejections.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn handshake_refused(&self, reason: &'static str) {
        self.handshakes.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn suspicion(&self) {
        self.suspicions.inc();
    }

    /// A certificate in force ends in so many seconds.
    pub(crate) fn certificate_expires(&self, certificate: &'static str, seconds: i64) {
        self.certificate_expires.get_or_create(&CertificateLabel { certificate }).set(seconds);
    }

    /// New certificates are in force.
    pub(crate) fn credentials_renewed(&self) {
        self.credentials.get_or_create(&ResultLabel { result: "renewed" }).inc();
    }

    /// New certificates cannot be used.
    pub(crate) fn credentials_refused(&self) {
        self.credentials.get_or_create(&ResultLabel { result: "refused" }).inc();
    }

    /// Replaces the numbers of links by peer, state and what carries them.
    pub(crate) fn links<'a>(
        &self,
        counts: impl Iterator<Item = ((&'a str, &'static str, &'static str), i64)>,
    ) {
        self.links.clear();
        for ((peer, state, transport), count) in counts {
            let peer = peer.to_owned();
            self.links.get_or_create(&LinkLabels { peer, state, transport }).set(count);
        }
    }

    /// Replaces the numbers of problems of each kind.
    pub(crate) fn problems(&self, counts: impl Iterator<Item = (&'static str, i64)>) {
        self.problems.clear();
        for (reason, count) in counts {
            self.problems.get_or_create(&ReasonLabel { reason }).set(count);
        }
    }

    #[cfg(test)]
    pub(crate) fn handshake_refusals(&self, reason: &'static str) -> u64 {
        self.handshakes.get_or_create(&ReasonLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn credentials(&self, result: &'static str) -> u64 {
        self.credentials.get_or_create(&ResultLabel { result }).get()
    }

    #[cfg(test)]
    pub(crate) fn certificate_seconds(&self, certificate: &'static str) -> i64 {
        self.certificate_expires.get_or_create(&CertificateLabel { certificate }).get()
    }

    #[cfg(test)]
    pub(crate) fn refusals(&self, reason: &'static str) -> u64 {
        self.refusals.get_or_create(&ReasonLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn flows(&self, direction: Direction, result: &'static str) -> u64 {
        let direction = direction.as_str();
        self.flows.get_or_create(&ResultLabels { direction, result }).get()
    }

    #[cfg(test)]
    pub(crate) fn connections(&self, direction: Direction, result: &'static str) -> u64 {
        let direction = direction.as_str();
        self.connections.get_or_create(&ResultLabels { direction, result }).get()
    }

    #[cfg(test)]
    pub(crate) fn cuts(&self, reason: &'static str) -> u64 {
        self.cuts.get_or_create(&ReasonLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn connected_inbound(&self) -> u64 {
        let labels = ResultLabels { direction: "inbound", result: "connected" };
        self.connections.get_or_create(&labels).get()
    }

    #[cfg(test)]
    pub(crate) fn evictions(&self) -> u64 {
        self.flow_evictions.get()
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self, reason: &'static str) -> u64 {
        self.datagram_drops.get_or_create(&ReasonLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn ejections(&self, reason: &'static str) -> u64 {
        self.ejections.get_or_create(&ReasonLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn retries(&self, peer: &str, reason: &'static str) -> u64 {
        self.retries.get_or_create(&RetryLabels { peer: peer.to_owned(), reason }).get()
    }
}

/// Datagrams one way between this cluster and a peer.
#[derive(Clone, Debug)]
pub(crate) struct DatagramCounters {
    datagrams: Counter,
    bytes: Counter,
    direction: Direction,
    /// What this flow alone has carried.
    tally: Arc<Tally>,
}

impl DatagramCounters {
    /// One more has been carried.
    pub(crate) fn count(&self, bytes: usize) {
        self.datagrams.inc();
        self.bytes.inc_by(bytes as u64);
        let own = match self.direction {
            Direction::Outbound => &self.tally.sent,
            Direction::Inbound => &self.tally.received,
        };
        own.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counts an open connection while it lives.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
