//! Pure: ServiceImport as its readers, the DNS server and the gateway, need it.

use std::net::IpAddr;

use landbridge_model::{
    DerivedName, ServiceKey, ServiceKind, ServicePort, SessionAffinity, Timestamp,
};

use super::{ConvertError, Reading, created, export::affinity, service_port};
use crate::{mcs::ServiceImport, wellknown::DERIVED_SERVICE};

/// A ServiceImport, of ours or of any other implementation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportView {
    /// Which service.
    pub service: ServiceKey,
    /// When it was made: of two imports that claim one gateway port the older keeps it.
    pub created: Timestamp,
    /// With virtual addresses, or headless.
    pub kind: ServiceKind,
    /// Its addresses in this cluster; empty where headless or not yet allotted.
    pub ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Whether calls of one client go to one endpoint.
    pub affinity: SessionAffinity,
    /// The Service that gives it its addresses, where the implementation tells.
    pub derived: Option<DerivedName>,
}

/// Reads a ServiceImport.
///
/// # Errors
/// [`ConvertError`] names the field that is at fault.
pub fn import(object: &ServiceImport) -> Result<ImportView, ConvertError> {
    let reading = Reading { kind: "ServiceImport", metadata: &object.metadata };
    let spec = &object.spec;
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
    let ip = |text: &String| {
        text.parse()
            .map_err(|_| reading.error("spec.ips", format!("{text:?} is not an IP address")))
    };
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let derived = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DERIVED_SERVICE));
    Ok(ImportView {
        service: reading.key()?,
        created: created(&object.metadata),
        kind,
        ips: spec.ips.iter().map(ip).collect::<Result<_, _>>()?,
        ports,
        affinity: affinity(spec.session_affinity.as_deref(), timeout),
        // Another implementation may name its Services as it likes; only ours are of use to us.
        derived: derived.and_then(|name| DerivedName::parse(name).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value) -> Result<ImportView, String> {
        let object: ServiceImport =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        import(&object).map_err(|error| error.to_string())
    }

    #[test]
    fn an_import_of_any_implementation_is_read() {
        let view = check(serde_json::json!({
            "metadata": {"namespace": "shop", "name": "web", "annotations": {DERIVED_SERVICE: "theirs"}},
            "spec": {"type": "ClusterSetIP", "ips": ["192.0.2.7"], "ports": [{"port": 80}]},
        }))
        .unwrap();
        assert_eq!(view.service.to_string(), "shop/web");
        assert_eq!(view.ports[0].to_string(), "80/TCP");
        assert_eq!(view.derived, None);
    }

    #[test]
    fn a_bad_address_names_the_field() {
        let error = check(serde_json::json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"type": "ClusterSetIP", "ips": ["nowhere"], "ports": []},
        }))
        .unwrap_err();
        assert_eq!(error, "ServiceImport shop/web: spec.ips: \"nowhere\" is not an IP address");
    }
}
