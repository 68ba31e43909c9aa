//! Pure: what this cluster exports, and its ready endpoints.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use landbridge_api::{
    convert::{self, ImportView},
    wellknown::GATEWAY_SERVICE,
};
use landbridge_model::{
    PortKey, PortName, ServiceKey, SessionAffinity, ZoneName, allotment::port_number,
};

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
    imports: &Store<ImportView>,
    policies: &Policies<'_>,
) -> HashMap<ServiceKey, Arc<ExportedService>> {
    let services: HashMap<&ServiceKey, &ServiceView> =
        services.iter().map(|service| (&service.service, service)).collect();
    // What all exporters of a service add up to, this one among them, its import says.
    let by_client = |import: &&ImportView| import.affinity != SessionAffinity::None;
    let by_client: HashSet<&ServiceKey> =
        imports.iter().filter(by_client).map(|import| &import.service).collect();
    let mut built: HashMap<ServiceKey, ExportedService> = HashMap::new();
    for export in exports.iter() {
        if let Some(service) = services.get(&export.service) {
            let exported = ExportedService {
                ports: service.ports.clone(),
                headless: service.headless,
                endpoints: Vec::new(),
                total: 0,
                by_client: by_client.contains(&export.service),
                proxy_protocol: export.proxy_protocol,
                access: policies.rules(&export.service),
            };
            built.insert(export.service.clone(), exported);
        }
    }
    for slice in slices.iter() {
        if let SliceView::Local { service, endpoints, total } = slice
            && let Some(exported) = built.get_mut(service)
        {
            exported.endpoints.extend_from_slice(endpoints);
            exported.total += total;
        }
    }
    built.into_iter().map(|(key, exported)| (key, Arc::new(exported))).collect()
}

/// The failure zones that gateways are in, as the slices of their Service say.
pub(super) fn gateway_zones(slices: &Store<SliceView>) -> BTreeMap<IpAddr, ZoneName> {
    let gateways = slices.iter().filter_map(|slice| match slice {
        SliceView::Local { service, endpoints, .. } if service.name.as_str() == GATEWAY_SERVICE => {
            Some(endpoints)
        }
        _ => None,
    });
    let zones = gateways.flatten().filter_map(|one| Some((one.ip, one.zone.clone()?)));
    zones.collect()
}
