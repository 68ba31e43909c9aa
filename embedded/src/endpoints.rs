//! Pure: what kube-apiserver refuses in an EndpointSlice, save that loopback addresses are
//! allowed here: they are the demo's pods.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::admit::is_label;
use crate::error::Cause;
use crate::object::{list, text};

/// kube-apiserver's limits of one slice.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;

/// Everything that is wrong with a slice; `old` is the slice that it replaces.
pub(crate) fn causes(slice: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let family = text(slice, "/addressType");
    if !["FQDN", "IPv4", "IPv6"].contains(&family) {
        causes.push(Cause::unsupported(
            "addressType",
            &family.into(),
            "IPv4, IPv6, FQDN",
        ));
    }
    if old.is_some_and(|old| text(old, "/addressType") != family) {
        causes.push(Cause::invalid(
            "addressType",
            &family.into(),
            "field is immutable",
        ));
    }
    let endpoints = list(slice, "/endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        causes.push(Cause::too_long(
            "endpoints",
            &format!("must have at most {MAX_ENDPOINTS} items"),
        ));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        endpoint_causes(
            endpoint,
            family,
            &format!("endpoints[{index}]"),
            &mut causes,
        );
    }
    port_causes(list(slice, "/ports"), &mut causes);
    causes
}

fn endpoint_causes(endpoint: &Value, family: &str, path: &str, causes: &mut Vec<Cause>) {
    let addresses = list(endpoint, "/addresses");
    if addresses.is_empty() {
        causes.push(Cause::required(
            &format!("{path}.addresses"),
            "must contain at least 1 address",
        ));
    }
    for (index, address) in addresses.iter().enumerate() {
        let written = address.as_str().unwrap_or_default();
        let legal = match family {
            "IPv4" => written.parse::<Ipv4Addr>().is_ok(),
            "IPv6" => written.parse::<Ipv6Addr>().is_ok(),
            _ => true,
        };
        if !legal {
            let message = format!("must be a valid {family} address");
            causes.push(Cause::invalid(
                &format!("{path}.addresses[{index}]"),
                address,
                &message,
            ));
        }
    }
    let hostname = text(endpoint, "/hostname");
    if !hostname.is_empty() && !is_label(hostname) {
        let message = "must be a lower case RFC 1123 label";
        causes.push(Cause::invalid(
            &format!("{path}.hostname"),
            &hostname.into(),
            message,
        ));
    }
}

fn port_causes(ports: &[Value], causes: &mut Vec<Cause>) {
    if ports.len() > MAX_PORTS {
        causes.push(Cause::too_long(
            "ports",
            &format!("must have at most {MAX_PORTS} items"),
        ));
    }
    for (index, port) in ports.iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = text(port, "/name");
        if !name.is_empty() && !is_label(name) {
            let message = "must be a lower case RFC 1123 label";
            causes.push(Cause::invalid(
                &format!("{path}.name"),
                &name.into(),
                message,
            ));
        }
        if ports[..index]
            .iter()
            .any(|other| text(other, "/name") == name)
        {
            causes.push(Cause::duplicate(&format!("{path}.name"), &name.into()));
        }
        let number = port.get("port").and_then(Value::as_i64);
        if number.is_some_and(|number| !(1..=65_535).contains(&number)) {
            let message = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(
                &format!("{path}.port"),
                &port["port"],
                message,
            ));
        }
        let protocol = text(port, "/protocol");
        if !["SCTP", "TCP", "UDP", ""].contains(&protocol) {
            let field = format!("{path}.protocol");
            causes.push(Cause::unsupported(
                &field,
                &protocol.into(),
                "SCTP, TCP, UDP",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(slice: Value, fields: &[&str]) {
        let found = causes(&slice, None);
        let found: Vec<&str> = found.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(found, fields, "{slice}");
    }

    #[test]
    fn wrong_slices_name_their_fields() {
        check(
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}]}),
            &[],
        );
        check(
            json!({"addressType": "ipv4", "endpoints": []}),
            &["addressType"],
        );
        check(
            json!({"addressType": "IPv6", "endpoints": [{"addresses": ["192.0.2.1"], "hostname": "A"}, {}]}),
            &[
                "endpoints[0].addresses[0]",
                "endpoints[0].hostname",
                "endpoints[1].addresses",
            ],
        );
        check(
            json!({"addressType": "IPv4", "ports": [{"name": "a", "port": 0}, {"name": "a", "protocol": "X"}]}),
            &["ports[0].port", "ports[1].name", "ports[1].protocol"],
        );
    }
}
