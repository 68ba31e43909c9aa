//! Pure: Services and EndpointSlices as kube-apiserver completes and checks them: defaults, IP
//! families, and ClusterIPs allotted from the cluster's ranges. Node ports are not allotted:
//! nothing here listens on nodes. Slices may hold loopback addresses: they are the demo's pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use crate::admit::is_label;
use crate::error::{ApiError, Cause};
use crate::object::{list, map, members, name, namespace, strings, text};
use crate::resource::Resource;

/// How many addresses of a range are used at most: a /16, more than any demo or test asks for. It
/// keeps the search for a free one short.
const MAX_ADDRESSES: u128 = 1 << 16;

/// kube-apiserver's default for `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const AFFINITY_SECONDS: u64 = 10_800;

/// kube-apiserver's limit of one slice.
const MAX_ENDPOINTS: usize = 1000;

/// The ClusterIPs in use and the ranges that they come from.
#[derive(Clone, Debug)]
pub(crate) struct ClusterIps {
    /// By family, IPv4 first: that is the cluster's default.
    ranges: BTreeMap<&'static str, IpNet>,
    /// Which Service has an address, as `namespace/name`.
    used: BTreeMap<IpAddr, String>,
    /// The address given last in a family. A released one rests until the search comes round.
    last: BTreeMap<&'static str, u128>,
}

impl ClusterIps {
    pub(crate) fn new(v4: Ipv4Net, v6: Option<Ipv6Net>) -> Self {
        let ranges = [Some(("IPv4", v4.into())), v6.map(|v6| ("IPv6", v6.into()))];
        let ranges = ranges.into_iter().flatten().collect();
        Self {
            ranges,
            used: BTreeMap::new(),
            last: BTreeMap::new(),
        }
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
        let mut wanted = self.wanted_addresses(service, old).map_err(invalid)?;
        let (policy, families) = self.families(service, old, &wanted).map_err(invalid)?;
        if wanted.first().is_none_or(|first| first != "None") {
            wanted.truncate(families.len());
            for family in &families[wanted.len()..] {
                let full = || ApiError::new(500, "failed to allocate a serviceIP: range is full");
                wanted.push(self.free(family).ok_or_else(full)?.to_string());
            }
        }
        let spec = map(service, "spec");
        spec.entry("internalTrafficPolicy")
            .or_insert_with(|| json!("Cluster"));
        spec.insert("ipFamilyPolicy".into(), json!(policy));
        spec.insert("ipFamilies".into(), json!(families));
        spec.insert("clusterIP".into(), json!(wanted.first()));
        spec.insert("clusterIPs".into(), json!(wanted));
        Ok(())
    }

    /// Frees what `before` had and takes what `after` has.
    pub(crate) fn settle(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let had: Vec<IpAddr> = before.into_iter().flat_map(addresses).collect();
        self.used.retain(|address, _| !had.contains(address));
        for (address, owner) in after
            .into_iter()
            .flat_map(|it| addresses(it).map(move |ip| (ip, owner(it))))
        {
            self.used.insert(address, owner);
            if !had.contains(&address) {
                self.last.insert(family(address), number(address));
            }
        }
    }

    /// What the Service asks for, or had already; checked to be its own to have.
    fn wanted_addresses(&self, service: &Value, old: Option<&Value>) -> Result<Vec<String>, Cause> {
        let own = |object| {
            strings(object, "/spec/clusterIPs")
                .map(str::to_owned)
                .collect()
        };
        let (mut wanted, had): (Vec<String>, Vec<String>) =
            (own(service), old.map_or(Vec::new(), own));
        let single = text(service, "/spec/clusterIP");
        if wanted.is_empty() && !single.is_empty() {
            wanted.push(single.to_owned());
        }
        if wanted.is_empty() {
            wanted.clone_from(&had);
        }
        let refuse = |why: &str| Cause::invalid("spec.clusterIPs[0]", &json!(wanted), why);
        if !single.is_empty() && wanted[0] != single {
            return Err(refuse("first value must match `clusterIP`"));
        }
        if had.first().is_some_and(|had| *had != wanted[0]) {
            return Err(refuse("may not change once set"));
        }
        for address in wanted.iter().filter(|address| *address != "None") {
            let Ok(parsed) = address.parse::<IpAddr>() else {
                return Err(refuse("must be a valid IP address or None"));
            };
            let range = self.ranges.get(family(parsed));
            if range.is_none_or(|range| !range.contains(&parsed)) {
                return Err(refuse(&format!(
                    "the provided IP {address} is not in the valid range"
                )));
            }
            if self
                .used
                .get(&parsed)
                .is_some_and(|owner_now| *owner_now != owner(service))
            {
                return Err(refuse(&format!(
                    "provided IP {address} is already allocated"
                )));
            }
        }
        Ok(wanted)
    }

    /// The Service's policy and families, by the rules of the dual-stack KEP-563.
    fn families(
        &self,
        service: &Value,
        old: Option<&Value>,
        wanted: &[String],
    ) -> Result<(String, Vec<&'static str>), Cause> {
        let headless = wanted.first().is_some_and(|first| first == "None");
        // Such a Service may have both families whatever the cluster has: somebody else fills it.
        let free = headless && members(service, "/spec/selector").next().is_none();
        let default = if free {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        let before = old.map_or("", |old| text(old, "/spec/ipFamilyPolicy"));
        let given = [text(service, "/spec/ipFamilyPolicy"), before, default];
        let policy = given
            .into_iter()
            .find(|policy| !policy.is_empty())
            .unwrap_or(default);
        let known = |object| -> Vec<&'static str> {
            let named = strings(object, "/spec/ipFamilies");
            named
                .filter_map(|name| ["IPv4", "IPv6"].into_iter().find(|known| *known == name))
                .collect()
        };
        let mut families = known(service);
        if families.is_empty() {
            families = old.map_or(Vec::new(), known);
        }
        let implied = wanted
            .iter()
            .filter_map(|address| address.parse().ok())
            .map(family);
        families.extend(implied.skip(families.len()).collect::<Vec<_>>());
        if families.is_empty() {
            families.push("IPv4");
        }
        let refuse = |why| Err(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
        if policy == "SingleStack" && old.is_some() {
            families.truncate(1);
        }
        if policy == "SingleStack" && families.len() > 1 {
            return refuse(
                "must be 'RequireDualStack' or 'PreferDualStack' for multiple IP families",
            );
        }
        let dual = self.ranges.len() == 2 || free;
        if policy == "RequireDualStack" && !dual {
            return refuse("this cluster is not configured for dual-stack services");
        }
        if let Some(family) = families
            .iter()
            .find(|family| !free && !self.ranges.contains_key(*family))
        {
            return Err(Cause::invalid(
                "spec.ipFamilies",
                &json!(family),
                "not configured on this cluster",
            ));
        }
        if policy != "SingleStack" && families.len() == 1 && dual {
            families.push(if families[0] == "IPv4" {
                "IPv6"
            } else {
                "IPv4"
            });
        }
        Ok((policy.to_owned(), families))
    }

    /// The next free address, going round from the one given last. The first and the last address
    /// of a range are left alone.
    fn free(&self, family: &str) -> Option<IpAddr> {
        let range = self.ranges.get(family)?;
        let (first, last) = (
            number(range.network()) + 1,
            number(range.broadcast()).checked_sub(1)?,
        );
        let usable = (last + 1).checked_sub(first)?.min(MAX_ADDRESSES);
        let start = self.last.get(family).map_or(0, |last| last + 1 - first);
        let address = |number: u128| match family {
            "IPv4" => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
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
    one_of(
        affinity,
        &["", "ClientIP", "None"],
        "spec.sessionAffinity",
        &mut causes,
    );
    let ports = list(service, "/spec/ports");
    if ports.is_empty() && text(service, "/spec/clusterIP") != "None" && kind != "ExternalName" {
        causes.push(Cause::new("spec.ports", "Required value"));
    }
    port_causes(ports, "spec.ports", &mut causes);
    for (index, port) in ports.iter().enumerate() {
        let same =
            |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        if ports[..index].iter().any(|other| same(&other)) {
            causes.push(Cause::new(
                &format!("spec.ports[{index}]"),
                format!("Duplicate value: {port}"),
            ));
        }
        if text(port, "/name").is_empty() && ports.len() > 1 {
            causes.push(Cause::new(
                &format!("spec.ports[{index}].name"),
                "Required value",
            ));
        }
    }
    causes
}

/// Everything that is wrong with a slice; `old` is the slice that it replaces.
pub(crate) fn slice_causes(slice: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let family = text(slice, "/addressType");
    one_of(
        family,
        &["FQDN", "IPv4", "IPv6"],
        "addressType",
        &mut causes,
    );
    if old.is_some_and(|old| text(old, "/addressType") != family) {
        causes.push(Cause::invalid(
            "addressType",
            &json!(family),
            "field is immutable",
        ));
    }
    let endpoints = list(slice, "/endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        causes.push(Cause::new(
            "endpoints",
            format!("Too many: must have at most {MAX_ENDPOINTS} items"),
        ));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{index}]");
        let legal = |address: &str| match family {
            "IPv4" => address.parse::<Ipv4Addr>().is_ok(),
            "IPv6" => address.parse::<Ipv6Addr>().is_ok(),
            _ => true,
        };
        let addresses = &endpoint["addresses"];
        let mut given = strings(endpoint, "/addresses").peekable();
        if given.peek().is_none() || !given.all(legal) {
            let why = format!("must contain at least 1 address, each a valid {family} address");
            causes.push(Cause::invalid(
                &format!("{path}.addresses"),
                addresses,
                &why,
            ));
        }
        label(
            text(endpoint, "/hostname"),
            &format!("{path}.hostname"),
            &mut causes,
        );
    }
    let ports = list(slice, "/ports");
    port_causes(ports, "ports", &mut causes);
    causes
}

/// The defaults of a slice's ports.
pub(crate) fn complete_slice(slice: &mut Value) {
    default_ports(slice, |port| {
        port.entry("name").or_insert_with(|| json!(""));
    });
}

/// What Services and slices ask of their ports alike.
fn port_causes(ports: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let number = port["port"].as_i64();
        if number.is_some_and(|number| !(1..=65_535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(&format!("{path}.port"), &port["port"], why));
        }
        one_of(
            protocol(port),
            &["SCTP", "TCP", "UDP"],
            &format!("{path}.protocol"),
            causes,
        );
        let called = text(port, "/name");
        label(called, &format!("{path}.name"), causes);
        if !called.is_empty()
            && ports[..index]
                .iter()
                .any(|other| text(other, "/name") == called)
        {
            causes.push(Cause::new(
                &format!("{path}.name"),
                format!("Duplicate value: \"{called}\""),
            ));
        }
    }
}

fn one_of(given: &str, allowed: &[&str], field: &str, causes: &mut Vec<Cause>) {
    if !allowed.contains(&given) {
        let message = format!(
            "Unsupported value: \"{given}\": supported values: {}",
            allowed.join(", ")
        );
        causes.push(Cause::new(field, message));
    }
}

fn label(given: &str, field: &str, causes: &mut Vec<Cause>) {
    if !given.is_empty() && !is_label(given) {
        causes.push(Cause::invalid(
            field,
            &json!(given),
            "must be a lower case RFC 1123 label",
        ));
    }
}

fn default_spec(service: &mut Value) {
    let spec = map(service, "spec");
    spec.entry("type").or_insert_with(|| json!("ClusterIP"));
    spec.entry("sessionAffinity")
        .or_insert_with(|| json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        let default = || json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
        spec.entry("sessionAffinityConfig").or_insert_with(default);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    default_ports(
        service.get_mut("spec").unwrap_or(&mut Value::Null),
        |port| {
            let number = port.get("port").cloned();
            port.entry("targetPort").or_insert_with(|| json!(number));
        },
    );
}

fn default_ports(holder: &mut Value, more: impl Fn(&mut serde_json::Map<String, Value>)) {
    let ports = holder.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.entry("protocol").or_insert_with(|| json!("TCP"));
        more(port);
    }
}

fn protocol(port: &Value) -> &str {
    Some(text(port, "/protocol"))
        .filter(|given| !given.is_empty())
        .unwrap_or("TCP")
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
            assert_eq!(wrong(&slice_causes(&slice, None)), fields, "{slice}");
        };
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
                "endpoints[0].addresses",
                "endpoints[0].hostname",
                "endpoints[1].addresses",
            ],
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
        check(
            &ips(false),
            json!({"ports": port}),
            r#"["192.0.2.1"] ["IPv4"] SingleStack"#,
        );
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
        check(
            &ips(false),
            json!({"clusterIP": "192.0.2.5"}),
            r#"["192.0.2.5"]"#,
        );
        check(
            &ips(false),
            json!({"clusterIP": "198.51.100.1"}),
            "not in the valid range",
        );
        check(
            &ips(false),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "not configured for dual-stack",
        );
        check(
            &ips(false),
            json!({"ipFamilies": ["IPv6"]}),
            "not configured on this cluster",
        );
        check(
            &ips(false),
            json!({"type": "ExternalName", "externalName": "a.b"}),
            "null null ",
        );
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
        assert_eq!(
            ips.complete(&resource(), &mut last, None)
                .unwrap_err()
                .code(),
            500
        );
        ips.settle(Some(&kept[2]), None);
        ips.complete(&resource(), &mut last, None).unwrap();
        assert_eq!(last["spec"]["clusterIP"], "192.0.2.3");

        let mut update = service("s0", json!({"ports": [{"port": 81}]}));
        ips.complete(&resource(), &mut update, Some(&kept[0]))
            .unwrap();
        assert_eq!(update["spec"]["clusterIP"], kept[0]["spec"]["clusterIP"]);
        let mut moved = service("s0", json!({"clusterIP": "192.0.2.3"}));
        let error = ips
            .complete(&resource(), &mut moved, Some(&kept[0]))
            .unwrap_err();
        assert!(error.message().contains("may not change once set"));
        let mut taken = service("new", json!({"clusterIP": "192.0.2.1"}));
        let error = ips.complete(&resource(), &mut taken, None).unwrap_err();
        assert!(error.message().contains("already allocated"));
    }
}
