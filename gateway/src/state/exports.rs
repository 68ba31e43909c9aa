//! Pure: what this cluster exports, and its ready endpoints.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use landbridge_api::convert;
use landbridge_model::{PortKey, PortName, ServiceKey, allotment::port_number};

use super::{
    ExportView,
    policies::Policies,
    slice::SliceView,
    store::{Read, Store},
};
use crate::snapshot::{ExportedPort, ExportedService};

/// A Service, as far as a gateway cares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceView {
    service: ServiceKey,
    headless: bool,
    ports: Vec<ExportedPort>,
}

/// Reads a Service. One of type ExternalName cannot be exported; a port that cannot be read is nobody's.
pub(super) fn read_service(object: &Service) -> Read<ServiceView> {
    let Some(spec) = &object.spec else {
        return Read::Other;
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Read::Other;
    }
    let ports = spec.ports.as_deref().unwrap_or_default().iter().filter_map(|port| {
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        Some(ExportedPort {
            name: name.map(PortName::parse).transpose().ok()?,
            key: PortKey {
                protocol: port.protocol.as_deref().unwrap_or("TCP").parse().ok()?,
                number: port_number(port.port)?,
            },
        })
    });
    convert::service_key("Service", &object.metadata)
        .map(|service| ServiceView {
            service,
            headless: spec.cluster_ip.as_deref() == Some("None"),
            ports: ports.collect(),
        })
        .into()
}

/// Every exported Service that is there.
pub(super) fn build(
    exports: &Store<ExportView>,
    services: &Store<ServiceView>,
    slices: &Store<SliceView>,
    policies: &Policies<'_>,
) -> HashMap<ServiceKey, Arc<ExportedService>> {
    let services: HashMap<&ServiceKey, &ServiceView> =
        services.iter().map(|service| (&service.service, service)).collect();
    let mut built: HashMap<ServiceKey, ExportedService> = HashMap::new();
    for export in exports.iter() {
        if let Some(service) = services.get(&export.service) {
            let exported = ExportedService {
                ports: service.ports.clone(),
                headless: service.headless,
                endpoints: Vec::new(),
                proxy_protocol: export.proxy_protocol,
                access: policies.rules(&export.service),
            };
            built.insert(export.service.clone(), exported);
        }
    }
    for slice in slices.iter() {
        if let SliceView::Local { service, endpoints } = slice
            && let Some(exported) = built.get_mut(service)
        {
            exported.endpoints.extend_from_slice(endpoints);
        }
    }
    built.into_iter().map(|(key, exported)| (key, Arc::new(exported))).collect()
}
