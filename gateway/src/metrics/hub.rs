//! What is counted of the hub: streams to it, and those that knock without a certificate.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Direction, Open, ResultLabel};
use crate::wire::HubService;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StreamLabels {
    direction: &'static str,
    service: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ServiceLabels {
    direction: &'static str,
    service: &'static str,
}

/// All of them. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubMetrics {
    joins: Family<ResultLabel, Counter>,
    streams: Family<StreamLabels, Counter>,
    active: Family<ServiceLabels, Gauge>,
}

impl HubMetrics {
    pub(super) fn register(&self, to: &mut Registry) {
        let joins = self.joins.clone();
        to.register("joins", "Those that have knocked without a certificate", joins);
        let streams = self.streams.clone();
        to.register("hub_streams", "Streams to the hub, by how they were opened", streams);
        let active = self.active.clone();
        to.register("hub_streams_active", "Streams to the hub that are open", active);
    }

    /// Somebody without a certificate has knocked.
    pub(crate) fn join(&self, result: &'static str) {
        self.joins.get_or_create(&ResultLabel { result }).inc();
    }

    /// A stream to the hub was opened, or why not.
    pub(crate) fn stream(&self, direction: Direction, service: HubService, result: &'static str) {
        let (direction, service) = (direction.as_str(), service.as_str());
        self.streams.get_or_create(&StreamLabels { direction, service, result }).inc();
    }

    /// One is open until what is returned is dropped.
    pub(crate) fn open(&self, direction: Direction, service: HubService) -> Open {
        let (direction, service) = (direction.as_str(), service.as_str());
        let gauge = self.active.get_or_create_owned(&ServiceLabels { direction, service });
        gauge.inc();
        Open(gauge)
    }

    #[cfg(test)]
    pub(crate) fn joins(&self, result: &'static str) -> u64 {
        self.joins.get_or_create(&ResultLabel { result }).get()
    }

    #[cfg(test)]
    pub(crate) fn streams(
        &self,
        direction: Direction,
        service: HubService,
        result: &'static str,
    ) -> u64 {
        let (direction, service) = (direction.as_str(), service.as_str());
        self.streams.get_or_create(&StreamLabels { direction, service, result }).get()
    }

    #[cfg(test)]
    pub(crate) fn active(&self, direction: Direction, service: HubService) -> i64 {
        let (direction, service) = (direction.as_str(), service.as_str());
        self.active.get_or_create(&ServiceLabels { direction, service }).get()
    }
}
