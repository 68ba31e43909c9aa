//! Pure: Services and EndpointSlices as kube-apiserver completes and checks them: defaults, IP
//! families, and ClusterIPs allotted from the cluster's ranges. Node ports are not allotted:
//! nothing here listens on nodes. Slices may hold loopback addresses: they are the demo's pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, Value, json};

use crate::admit::is_label;
use crate::error::{ApiError, Cause};
use crate::object::{list, map, members, name, namespace, strings, text};
use crate::resource::Resource;

/// How many addresses of a range are used at most: a /16, more than any demo or test asks for. It
/// keeps the search for a free one short.
const MAX_ADDRESSES: u128 = 1 << 16;

/// The ClusterIPs in use and the ranges that they come from.
#[derive(Clone, Debug)]
pub(crate) struct ClusterIps {
    /// By family; IPv4 is the cluster's default.
    ranges: BTreeMap<&'static str, IpNet>,
    /// Which Service has an address, as `namespace/name`.
    used: BTreeMap<IpAddr, String>,
    /// The address given last in a family. A released one rests until the search comes round.
    last: BTreeMap<&'static str, u128>,
}

impl ClusterIps {
    pub(crate) fn new(v4: Ipv4Net, v6: Option<Ipv6Net>) -> Self {
        let mut ranges = BTreeMap::from([("IPv4", IpNet::from(v4))]);
        ranges.extend(v6.map(|v6| ("IPv6", IpNet::from(v6))));
        let (used, last) = (BTreeMap::new(), BTreeMap::new());
        Self { ranges, used, last }
    }

    /// Completes a Service that is about to be kept in place of `old`. Nothing is taken yet:
    /// [`Self::settle`] does that once the Service is kept.
    pub(crate) fn complete(
        &self,
        resource: &Resource,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        default_spec(service);
        if text(service, "/spec/type") == "ExternalName" {
            return Ok(());
        }
        let invalid = |cause| ApiError::invalid(resource, name(service), &[cause]);
        let mut ips = self.wanted(service, old).map_err(invalid)?;
        let (policy, families) = self.families(service, old, &ips).map_err(invalid)?;
        if ips.first().is_none_or(|first| first != "None") {
            ips.truncate(families.len());
            for family in &families[ips.len()..] {
                let message = "failed to allocate a serviceIP: range is full";
                let free = self.free(family);
                ips.push(free.ok_or_else(|| ApiError::new(500, message))?.to_string());
            }
        }
        let spec = map(service, "spec");
        default(spec, "internalTrafficPolicy", "Cluster");
        spec.insert("ipFamilyPolicy".into(), json!(policy));
        spec.insert("ipFamilies".into(), json!(families));
        spec.insert("clusterIP".into(), json!(ips.first()));
        spec.insert("clusterIPs".into(), json!(ips));
        Ok(())
    }

    /// Frees what `before` had and takes what `after` has.
    pub(crate) fn settle(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let had: Vec<IpAddr> = before.into_iter().flat_map(addresses).collect();
        self.used.retain(|address, _| !had.contains(address));
        let Some(service) = after else { return };
        for address in addresses(service) {
            self.used.insert(address, owner(service));
            if !had.contains(&address) {
                self.last.insert(family(address), number(address));
            }
        }
    }

    /// The addresses that the Service asks for, or had already; checked to be its own to have.
    fn wanted(&self, service: &Value, old: Option<&Value>) -> Result<Vec<String>, Cause> {
        let single = text(service, "/spec/clusterIP");
        let had = old.into_iter().flat_map(|old| strings(old, "/spec/clusterIPs"));
        let had: Vec<String> = had.map(str::to_owned).collect();
        let own = strings(service, "/spec/clusterIPs").map(str::to_owned);
        let mut wanted: Vec<String> = own.collect();
        if wanted.is_empty() {
            wanted = if single.is_empty() { had.clone() } else { vec![single.to_owned()] };
        }
        let refuse = |why| Err(Cause::invalid("spec.clusterIPs[0]", &json!(wanted), why));
        let Some(first) = wanted.first() else {
            return Ok(wanted);
        };
        if !single.is_empty() && first != single {
            return refuse("first value must match `clusterIP`");
        }
        if had.first().is_some_and(|had| had != first) {
            return refuse("may not change once set");
        }
        for address in wanted.iter().filter(|address| *address != "None") {
            let Ok(address) = address.parse::<IpAddr>() else {
                return refuse("must be a valid IP address or None");
            };
            let range = self.ranges.get(family(address));
            if !range.is_some_and(|range| range.contains(&address)) {
                return refuse("the provided IP is not in the valid range");
            }
            let taken = self.used.get(&address);
            if taken.is_some_and(|taken| *taken != owner(service)) {
                return refuse("the provided IP is already allocated");
            }
        }
        Ok(wanted)
    }

    /// The Service's policy and families, by the rules of the dual-stack KEP-563.
    fn families(
        &self,
        service: &Value,
        old: Option<&Value>,
        ips: &[String],
    ) -> Result<(String, Vec<&'static str>), Cause> {
        let headless = ips.first().is_some_and(|first| first == "None");
        // Such a Service may have both families whatever the cluster has: somebody else fills it.
        let free = headless && members(service, "/spec/selector").next().is_none();
        let default = if free { "RequireDualStack" } else { "SingleStack" };
        let before = old.unwrap_or(&Value::Null);
        let policies = [service, before].map(|object| text(object, "/spec/ipFamilyPolicy"));
        let given = policies.into_iter().find(|policy| !policy.is_empty());
        let policy = given.unwrap_or(default).to_owned();
        let implied: Vec<Value> =
            ips.iter().map(|ip| json!(ip.parse().map_or("", family))).collect();
        let named = [list(service, "/spec/ipFamilies"), list(before, "/spec/ipFamilies"), &implied];
        let known = |named: &[Value]| -> Vec<&'static str> {
            let is = |known: &&str| named.iter().any(|one| one == known);
            let first_is_v6 = named.first().is_some_and(|first| first == "IPv6");
            let order = if first_is_v6 { ["IPv6", "IPv4"] } else { ["IPv4", "IPv6"] };
            order.into_iter().filter(is).collect()
        };
        let families = named.into_iter().map(known).find(|families| !families.is_empty());
        let mut families = families.unwrap_or_else(|| vec!["IPv4"]);
        if policy == "SingleStack" {
            families.truncate(1);
        } else if families.len() == 1 && (free || self.ranges.len() == 2) {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" });
        }
        if policy == "RequireDualStack" && families.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            return Err(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
        }
        if !free && families.iter().any(|family| !self.ranges.contains_key(family)) {
            let why = "not configured on this cluster";
            return Err(Cause::invalid("spec.ipFamilies", &json!(families), why));
        }
        Ok((policy, families))
    }

    /// The next free address, going round from the one given last. The first and the last address
    /// of a range are left alone.
    fn free(&self, family: &str) -> Option<IpAddr> {
        let range = self.ranges.get(family)?;
        let first = number(range.network()) + 1;
        let usable = number(range.broadcast()).checked_sub(first)?.min(MAX_ADDRESSES);
        let start = self.last.get(family).map_or(0, |last| last + 1 - first);
        let address = |number: u128| match u32::try_from(number) {
            Ok(number) if family == "IPv4" => IpAddr::from(Ipv4Addr::from(number)),
            _ => IpAddr::from(Ipv6Addr::from(number)),
        };
        let mut around = (0..usable).map(|step| address(first + (start + step) % usable));
        around.find(|free| !self.used.contains_key(free))
    }
}

/// Everything that is wrong with a Service's type, ports and affinity.
pub(crate) fn service_causes(service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = text(service, "/spec/type");
    let kinds = ["", "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(kind, &kinds, "spec.type", &mut causes);
    let affinity = text(service, "/spec/sessionAffinity");
    one_of(affinity, &["", "ClientIP", "None"], "spec.sessionAffinity", &mut causes);
    let ports = list(service, "/spec/ports");
    let headless = text(service, "/spec/clusterIP") == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        causes.push(Cause::new("spec.ports", "Required value"));
    }
    port_causes(ports, "spec.ports", &mut causes);
    for (index, port) in ports.iter().enumerate() {
        let same =
            |other: &Value| (&other["port"], protocol(other)) == (&port["port"], protocol(port));
        if ports[..index].iter().any(same) {
            causes.push(Cause::new(&format!("spec.ports[{index}]"), "Duplicate value"));
        }
        if text(port, "/name").is_empty() && ports.len() > 1 {
            causes.push(Cause::new(&format!("spec.ports[{index}].name"), "Required value"));
        }
    }
    causes
}

/// Everything that is wrong with a slice's addresses and ports.
pub(crate) fn slice_causes(slice: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = text(slice, "/addressType");
    one_of(kind, &["FQDN", "IPv4", "IPv6"], "addressType", &mut causes);
    for (index, endpoint) in list(slice, "/endpoints").iter().enumerate() {
        let path = format!("endpoints[{index}]");
        let legal = |address: &str| kind == "FQDN" || address.parse().map(family) == Ok(kind);
        let mut addresses = strings(endpoint, "/addresses").peekable();
        if addresses.peek().is_none() || !addresses.all(legal) {
            let why = format!("must contain at least 1 address, each a valid {kind} address");
            let field = format!("{path}.addresses");
            causes.push(Cause::invalid(&field, &endpoint["addresses"], &why));
        }
        label(endpoint, "hostname", &path, &mut causes);
    }
    port_causes(list(slice, "/ports"), "ports", &mut causes);
    causes
}

/// Gives every port of a Service's spec or of a slice the default of `key`.
pub(crate) fn default_ports(
    holder: &mut Map<String, Value>,
    key: &str,
    of: impl Fn(&Value) -> Value,
) {
    let ports = holder.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let value = of(port);
        if port.get(key).is_none_or(Value::is_null) {
            port[key] = value;
        }
    }
}

/// What Services and slices ask of their ports alike.
fn port_causes(ports: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let number = port["port"].as_i64().unwrap_or(1);
        if !(1..=65_535).contains(&number) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(&format!("{path}.port"), &port["port"], why));
        }
        let field = format!("{path}.protocol");
        one_of(protocol(port), &["SCTP", "TCP", "UDP"], &field, causes);
        label(port, "name", &path, causes);
        let same = |other: &Value| !port["name"].is_null() && other["name"] == port["name"];
        if ports[..index].iter().any(same) {
            causes.push(Cause::new(&format!("{path}.name"), "Duplicate value"));
        }
    }
}

fn one_of(given: &str, allowed: &[&str], field: &str, causes: &mut Vec<Cause>) {
    if !allowed.contains(&given) {
        let allowed = allowed.join(", ");
        let message = format!("Unsupported value: \"{given}\": supported values: {allowed}");
        causes.push(Cause::new(field, message));
    }
}

fn label(holder: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    let given = holder[field].as_str().unwrap_or_default();
    if !given.is_empty() && !is_label(given) {
        let why = "must be a lower case RFC 1123 label";
        causes.push(Cause::invalid(&format!("{path}.{field}"), &holder[field], why));
    }
}

fn default_spec(service: &mut Value) {
    let spec = map(service, "spec");
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        // kube-apiserver's default: three hours.
        let config = json!({"clientIP": {"timeoutSeconds": 10_800}});
        spec.entry("sessionAffinityConfig").or_insert(config);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    default_ports(spec, "protocol", |_| json!("TCP"));
    default_ports(spec, "targetPort", |port| port["port"].clone());
}

fn default(spec: &mut Map<String, Value>, key: &str, value: &str) {
    spec.entry(key).or_insert_with(|| json!(value));
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

fn owner(service: &Value) -> String {
    format!("{}/{}", namespace(service), name(service))
}

fn addresses(service: &Value) -> impl Iterator<Item = IpAddr> {
    strings(service, "/spec/clusterIPs").filter_map(|one| one.parse().ok())
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn resource() -> Arc<Resource> {
        let mut kinds = crate::resource::core_kinds().into_iter();
        Arc::new(kinds.find(|kind| kind.is("", "services")).unwrap())
    }

    fn ips(v6: bool) -> ClusterIps {
        let v6 = v6.then(|| "2001:db8:96::/112".parse().unwrap());
        ClusterIps::new("192.0.2.0/29".parse().unwrap(), v6)
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
    }

    fn wrong(found: &[Cause]) -> Vec<&str> {
        found.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn wrong_slices_name_their_fields() {
        let check = |slice: Value, fields: &[&str]| {
            assert_eq!(wrong(&slice_causes(&slice)), fields, "{slice}");
        };
        check(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}]}), &[]);
        check(json!({"addressType": "ipv4", "endpoints": []}), &["addressType"]);
        check(
            json!({"addressType": "IPv6", "endpoints": [{"addresses": ["192.0.2.1"], "hostname": "A"}, {}]}),
            &["endpoints[0].addresses", "endpoints[0].hostname", "endpoints[1].addresses"],
        );
        check(
            json!({"addressType": "IPv4", "ports": [{"name": "a", "port": 0}, {"name": "a", "port": 1, "protocol": "X"}]}),
            &["ports[0].port", "ports[1].protocol", "ports[1].name"],
        );
    }

    fn check(ips: &ClusterIps, spec: Value, expected: &str) {
        let mut made = service("web", spec);
        let told = match ips.complete(&resource(), &mut made, None) {
            Ok(()) => {
                let spec = &made["spec"];
                format!(
                    "{} {} {}",
                    spec["clusterIPs"],
                    spec["ipFamilies"],
                    text(&made, "/spec/ipFamilyPolicy")
                )
            }
            Err(error) => error.to_string(),
        };
        assert!(told.contains(expected), "{told}");
    }

    /// KEP-563: "SingleStack" is the default; headless Services without selectors get both
    /// families, whatever the cluster has.
    #[test]
    fn families_and_addresses() {
        let port = json!([{"port": 80}]);
        check(&ips(false), json!({"ports": port}), r#"["192.0.2.1"] ["IPv4"] SingleStack"#);
        check(
            &ips(true),
            json!({"ports": port, "ipFamilyPolicy": "PreferDualStack"}),
            r#"["192.0.2.1","2001:db8:96::1"] ["IPv4","IPv6"] PreferDualStack"#,
        );
        check(
            &ips(false),
            json!({"ports": port, "ipFamilyPolicy": "PreferDualStack"}),
            r#"["192.0.2.1"] ["IPv4"] PreferDualStack"#,
        );
        check(
            &ips(true),
            json!({"ipFamilies": ["IPv6"]}),
            r#"["2001:db8:96::1"] ["IPv6"] SingleStack"#,
        );
        check(
            &ips(false),
            json!({"clusterIP": "None"}),
            r#"["None"] ["IPv4","IPv6"] RequireDualStack"#,
        );
        check(
            &ips(false),
            json!({"clusterIP": "None", "selector": {"a": "b"}}),
            r#"["None"] ["IPv4"] SingleStack"#,
        );
        check(&ips(false), json!({"clusterIP": "192.0.2.5"}), r#"["192.0.2.5"]"#);
        check(&ips(false), json!({"clusterIP": "198.51.100.1"}), "not in the valid range");
        check(
            &ips(false),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "not configured for dual-stack",
        );
        check(&ips(false), json!({"ipFamilies": ["IPv6"]}), "not configured on this cluster");
        check(&ips(false), json!({"type": "ExternalName", "externalName": "a.b"}), "null null ");
    }

    #[test]
    fn addresses_are_kept_rest_and_run_out() {
        let mut ips = ips(false);
        let mut kept = Vec::new();
        for index in 0..6 {
            let mut one = service(&format!("s{index}"), json!({"ports": [{"port": 80}]}));
            ips.complete(&resource(), &mut one, None).unwrap();
            ips.settle(None, Some(&one));
            kept.push(one);
        }
        let mut last = service("last", json!({"ports": [{"port": 80}]}));
        assert_eq!(ips.complete(&resource(), &mut last, None).unwrap_err().code(), 500);
        ips.settle(Some(&kept[2]), None);
        ips.complete(&resource(), &mut last, None).unwrap();
        assert_eq!(last["spec"]["clusterIP"], "192.0.2.3");

        let mut update = service("s0", json!({"ports": [{"port": 81}]}));
        ips.complete(&resource(), &mut update, Some(&kept[0])).unwrap();
        assert_eq!(update["spec"]["clusterIP"], kept[0]["spec"]["clusterIP"]);
        let mut moved = service("s0", json!({"clusterIP": "192.0.2.3"}));
        let error = ips.complete(&resource(), &mut moved, Some(&kept[0])).unwrap_err();
        assert!(error.message().contains("may not change once set"));
        let mut taken = service("new", json!({"clusterIP": "192.0.2.1"}));
        let error = ips.complete(&resource(), &mut taken, None).unwrap_err();
        assert!(error.message().contains("already allocated"));
    }
}
