//! Pure: ClusterExport to [`Export`] and back.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use landbridge_model::{
    AppProtocol, ClusterId, Export, IpFamily, PortKey, PortName, Protocol, ServiceKey, ServicePort,
    SessionAffinity, Timestamp, ZoneCapacity, ZoneName, allotment::port_number,
};

use super::{ConvertError, Reading, created, time, timestamp};
use crate::{
    landbridge::{ClusterExport, ClusterExportSpec, ServiceReference, ZoneEndpoints},
    mcs,
    wellknown::{APP_MANAGED_BY, LANDBRIDGE, cluster_export_name, hub_namespace},
};

/// Reads a ClusterExport. Whose it is stands in its namespace, `cluster-<id>`, which the hub's RBAC guards; nothing
/// in the object itself is believed about that.
///
/// # Errors
/// [`ConvertError`] names the field that is at fault.
pub fn export(object: &ClusterExport) -> Result<Export, ConvertError> {
    let reading = Reading { kind: "ClusterExport", metadata: &object.metadata };
    let spec = &object.spec;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let id = namespace.strip_prefix("cluster-").unwrap_or_default();
    let cluster = reading.name("metadata.namespace", ClusterId::parse(id))?;
    let service = reading
        .name("spec.service", ServiceKey::parse(&spec.service.namespace, &spec.service.name))?;
    if object.metadata.name.as_deref() != Some(cluster_export_name(&service).as_str()) {
        return Err(reading
            .error("spec.service", format!("is {service}, which the object is not named after")));
    }
    let kind = spec
        .type_
        .parse()
        .map_err(|()| reading.error("spec.type", "use ClusterSetIP or Headless"))?;
    let mut ports = Vec::with_capacity(spec.ports.len());
    for (index, port) in spec.ports.iter().enumerate() {
        ports.push(
            service_port(port)
                .map_err(|problem| reading.error(format!("spec.ports[{index}]"), problem))?,
        );
    }
    Ok(Export {
        cluster,
        service,
        since: since(object),
        kind,
        ports,
        families: families(&reading, &spec.ip_families)?,
        affinity: affinity(spec.session_affinity.as_deref(), spec.session_affinity_timeout_seconds),
        internal_traffic_policy: spec.internal_traffic_policy.clone(),
        traffic_distribution: spec.traffic_distribution.clone(),
        labels: spec.exported_labels.clone(),
        annotations: spec.exported_annotations.clone(),
        guarded: spec.guarded,
        zones: zones(&reading, &spec.zones)?,
    })
}

/// "its time is the earlier of the ServiceExport's creation and the hub object's": a clock that runs ahead cannot
/// make an export younger than the hub has known it.
fn since(object: &ClusterExport) -> Timestamp {
    let hub = object.metadata.creation_timestamp.as_ref().map(timestamp);
    let told = object.spec.exported_at.as_ref().map(timestamp);
    match (hub, told) {
        (Some(hub), Some(told)) => hub.min(told),
        (hub, told) => hub.or(told).unwrap_or_else(|| created(&object.metadata)),
    }
}

fn families(reading: &Reading<'_>, families: &[String]) -> Result<Vec<IpFamily>, ConvertError> {
    let parse = |family: &String| {
        family
            .parse()
            .map_err(|()| reading.error("spec.ipFamilies", format!("{family:?}: use IPv4 or IPv6")))
    };
    families.iter().map(parse).collect()
}

fn zones(
    reading: &Reading<'_>,
    zones: &[ZoneEndpoints],
) -> Result<BTreeMap<ZoneName, ZoneCapacity>, ConvertError> {
    let parse = |zone: &ZoneEndpoints| {
        let name = reading.name("spec.zones", ZoneName::parse(&zone.zone))?;
        Ok((name, ZoneCapacity { ready: zone.ready, total: zone.total }))
    };
    zones.iter().map(parse).collect()
}

/// Reads a session affinity; anything but `ClientIP` is none.
pub(super) fn affinity(text: Option<&str>, seconds: Option<i32>) -> SessionAffinity {
    if text != Some("ClientIP") {
        return SessionAffinity::None;
    }
    let timeout = seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(SessionAffinity::DEFAULT_TIMEOUT, Duration::from_secs);
    SessionAffinity::ClientIp { timeout }
}

/// Reads a port of a ServiceImport or ClusterExport. A protocol that is left out is TCP.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn service_port(port: &mcs::ServicePort) -> Result<ServicePort, String> {
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let app_protocol = port.app_protocol.as_deref().filter(|text| !text.is_empty());
    let number = port_number(port.port)
        .ok_or_else(|| format!("port {} is not a port number: use 1 to 65535", port.port))?;
    Ok(ServicePort {
        name: name.map(PortName::parse).transpose().map_err(|problem| problem.to_string())?,
        key: PortKey {
            protocol: protocol.parse::<Protocol>().map_err(|problem| problem.to_string())?,
            number,
        },
        app_protocol: app_protocol.map(AppProtocol::parse).transpose()?,
    })
}

/// Writes a port for a ServiceImport or ClusterExport. The protocol is always written: the API has no default.
#[must_use]
pub fn import_port(port: &ServicePort) -> mcs::ServicePort {
    mcs::ServicePort {
        name: port.name.as_ref().map(ToString::to_string),
        protocol: Some(port.key.protocol.as_str().to_owned()),
        app_protocol: port.app_protocol.as_ref().map(|protocol| protocol.as_str().to_owned()),
        port: i32::from(port.key.number.get()),
    }
}

/// Writes the ClusterExport of `export`.
#[must_use]
pub fn cluster_export(export: &Export) -> ClusterExport {
    let (affinity, timeout) = match export.affinity {
        SessionAffinity::ClientIp { timeout } => {
            ("ClientIP", i32::try_from(timeout.as_secs()).ok())
        }
        SessionAffinity::None => ("None", None),
    };
    let zone = |(zone, capacity): (&ZoneName, &ZoneCapacity)| ZoneEndpoints {
        zone: zone.to_string(),
        ready: capacity.ready,
        total: capacity.total,
    };
    ClusterExport {
        metadata: ObjectMeta {
            name: Some(cluster_export_name(&export.service)),
            namespace: Some(hub_namespace(&export.cluster)),
            labels: Some(BTreeMap::from([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: ClusterExportSpec {
            service: ServiceReference {
                namespace: export.service.namespace.to_string(),
                name: export.service.name.to_string(),
            },
            type_: export.kind.as_str().to_owned(),
            ports: export.ports.iter().map(import_port).collect(),
            ip_families: export.families.iter().map(ToString::to_string).collect(),
            session_affinity: Some(affinity.to_owned()),
            session_affinity_timeout_seconds: timeout,
            internal_traffic_policy: export.internal_traffic_policy.clone(),
            traffic_distribution: export.traffic_distribution.clone(),
            exported_labels: export.labels.clone(),
            exported_annotations: export.annotations.clone(),
            exported_at: Some(Time(time(export.since))),
            guarded: export.guarded,
            zones: export.zones.iter().map(zone).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use landbridge_model::ServiceKind;

    use super::*;

    fn web() -> Export {
        Export {
            cluster: ClusterId::parse("paris").unwrap(),
            service: ServiceKey::parse("shop", "web").unwrap(),
            since: Timestamp::from_millis(1_000),
            kind: ServiceKind::ClusterSetIp,
            ports: vec![ServicePort {
                name: Some(PortName::parse("http").unwrap()),
                key: PortKey { protocol: Protocol::Tcp, number: port_number(80).unwrap() },
                app_protocol: None,
            }],
            families: vec![IpFamily::V4, IpFamily::V6],
            affinity: SessionAffinity::ClientIp { timeout: Duration::from_secs(10) },
            internal_traffic_policy: Some("Cluster".into()),
            traffic_distribution: None,
            labels: BTreeMap::from([("team".into(), "red".into())]),
            annotations: BTreeMap::new(),
            guarded: true,
            zones: BTreeMap::from([(
                ZoneName::parse("").unwrap(),
                ZoneCapacity { ready: 1, total: 2 },
            )]),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(export(&cluster_export(&web())).unwrap(), web());
    }

    /// Design, "Export": "its time is the earlier of the ServiceExport's creation and the hub object's".
    #[test]
    fn a_clock_that_runs_ahead_does_not_make_an_export_younger() {
        let mut object = cluster_export(&web());
        object.spec.exported_at = Some(Time(time(Timestamp::from_millis(3_600_000))));
        object.metadata.creation_timestamp = Some(Time(time(Timestamp::from_millis(5_000))));
        assert_eq!(export(&object).unwrap().since, Timestamp::from_millis(5_000));
    }

    /// What `wrong` does to a good object, and what the error must say.
    fn refused(wrong: impl Fn(&mut ClusterExport), says: &str) {
        let mut object = cluster_export(&web());
        wrong(&mut object);
        let error = export(&object).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }

    #[test]
    fn errors_name_object_field_and_remedy() {
        refused(
            |o| o.spec.ports[0].port = 0,
            "shop.web: spec.ports[0]: port 0 is not a port number",
        );
        refused(|o| o.spec.ports[0].protocol = Some("tcp".into()), "use TCP, UDP or SCTP");
        refused(
            |o| o.spec.ports[0].app_protocol = Some("not one".into()),
            "spec.ports[0]: application protocol \"not one\" is not valid",
        );
        refused(
            |o| o.spec.type_ = "LoadBalancer".into(),
            "spec.type: use ClusterSetIP or Headless",
        );
        refused(
            |o| o.metadata.namespace = Some("shop".into()),
            "metadata.namespace: cluster id is empty",
        );
        refused(|o| o.spec.service.name = "other".into(), "which the object is not named after");
        refused(|o| o.spec.ip_families = vec!["v4".into()], "use IPv4 or IPv6");
        refused(|o| o.spec.zones[0].zone = "eu/west".into(), "spec.zones: zone \"eu/west\"");
    }
}
