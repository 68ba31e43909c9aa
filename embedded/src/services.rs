//! Pure: Services as kube-apiserver completes them: defaults, IP families, and ClusterIPs allotted
//! from the cluster's ranges. Node ports are not allotted: nothing here listens on nodes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use crate::admit::is_label;
use crate::error::{ApiError, Cause};
use crate::object::{list, map, name, namespace, text};
use crate::resource::Resource;

/// How many addresses of an IPv6 range are used. Any IPv6 range is larger than a demo needs; the
/// bound keeps the search for a free one short.
const IPV6_SHARE: u128 = 1 << 16;

/// kube-apiserver's default for `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const AFFINITY_SECONDS: u64 = 10_800;

/// The ClusterIPs in use and the ranges that they come from.
#[derive(Clone, Debug)]
pub(crate) struct ClusterIps {
    v4: Ipv4Net,
    v6: Option<Ipv6Net>,
    /// Which Service has an address, as `namespace/name`.
    used: BTreeMap<IpAddr, String>,
    /// Behind the address given last, so that a released one rests for as long as possible.
    next: BTreeMap<Family, u128>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Family {
    IPv4,
    IPv6,
}

impl ClusterIps {
    pub(crate) fn new(v4: Ipv4Net, v6: Option<Ipv6Net>) -> Self {
        Self {
            v4,
            v6,
            used: BTreeMap::new(),
            next: BTreeMap::new(),
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
        let spec = map(service, "spec");
        spec.entry("type").or_insert_with(|| json!("ClusterIP"));
        spec.entry("sessionAffinity")
            .or_insert_with(|| json!("None"));
        default_ports(service);
        default_affinity(service);
        if text(service, "/spec/type") == "ExternalName" {
            return Ok(());
        }
        map(service, "spec")
            .entry("internalTrafficPolicy")
            .or_insert_with(|| json!("Cluster"));
        let invalid = |name: &str, cause: Cause| ApiError::invalid(resource, name, &[cause]);
        let called = name(service).to_owned();
        let mut wanted = self
            .wanted_addresses(service, old)
            .map_err(|cause| invalid(&called, cause))?;
        let families = self
            .families(service, old, &wanted)
            .map_err(|cause| invalid(&called, cause))?;
        let spec = map(service, "spec");
        spec.insert(
            "ipFamilies".into(),
            json!(families.iter().map(|f| f.name()).collect::<Vec<_>>()),
        );
        if wanted.first().is_none_or(|first| first != "None") {
            wanted.truncate(families.len());
            for family in families.iter().skip(wanted.len()) {
                let free = self.free(*family).ok_or_else(|| {
                    ApiError::internal("failed to allocate a serviceIP: range is full")
                })?;
                wanted.push(free.to_string());
            }
        }
        let spec = map(service, "spec");
        spec.insert("clusterIP".into(), json!(wanted.first()));
        spec.insert("clusterIPs".into(), json!(wanted));
        Ok(())
    }

    /// Frees what `before` had and takes what `after` has.
    pub(crate) fn settle(&mut self, before: Option<&Value>, after: Option<&Value>) {
        for address in before.into_iter().flat_map(addresses) {
            self.used.remove(&address);
        }
        if let Some(service) = after {
            let owner = owner(service);
            for address in addresses(service) {
                let number = number(address);
                if self.used.insert(address, owner.clone()).is_none()
                    && before.is_none_or(|before| !addresses(before).any(|kept| kept == address))
                {
                    self.next.insert(Family::of(address), number + 1);
                }
            }
        }
    }

    /// What the Service asks for, or had already; checked to be its own to have.
    fn wanted_addresses(&self, service: &Value, old: Option<&Value>) -> Result<Vec<String>, Cause> {
        let field = "spec.clusterIPs";
        let single = text(service, "/spec/clusterIP");
        let strings = |object| {
            list(object, "/spec/clusterIPs")
                .iter()
                .filter_map(Value::as_str)
        };
        let mut wanted: Vec<String> = strings(service).map(str::to_owned).collect();
        let had: Vec<&str> = old.into_iter().flat_map(strings).collect();
        if wanted.is_empty() && !single.is_empty() {
            wanted.push(single.to_owned());
        }
        if wanted.is_empty() {
            wanted = had.iter().map(|address| (*address).to_owned()).collect();
        }
        if !single.is_empty() && wanted.first().is_some_and(|first| first != single) {
            return Err(Cause::invalid(
                field,
                &json!(wanted),
                "first value must match `clusterIP`",
            ));
        }
        if let (Some(had), Some(wanted)) = (had.first(), wanted.first())
            && had != wanted
        {
            return Err(Cause::invalid(
                "spec.clusterIPs[0]",
                &json!([wanted]),
                "may not change once set",
            ));
        }
        let mine = owner(service);
        for (index, address) in wanted.iter().enumerate() {
            if address == "None" && wanted.len() == 1 {
                return Ok(wanted);
            }
            let path = format!("{field}[{index}]");
            let shown = json!(address);
            let parsed: IpAddr = address
                .parse()
                .map_err(|_| Cause::invalid(&path, &shown, "must be a valid IP address or None"))?;
            if !self.holds(parsed) {
                let message = format!(
                    "failed to allocate IP {address}: the provided IP is not in the valid range"
                );
                return Err(Cause::invalid(&path, &shown, &message));
            }
            if self.used.get(&parsed).is_some_and(|owner| *owner != mine) {
                let message =
                    format!("failed to allocate IP {address}: provided IP is already allocated");
                return Err(Cause::invalid(&path, &shown, &message));
            }
        }
        Ok(wanted)
    }

    /// The families that the Service gets, and its policy, by the rules of the dual-stack KEP-563.
    fn families(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        wanted: &[String],
    ) -> Result<Vec<Family>, Cause> {
        let headless = wanted.first().is_some_and(|first| first == "None");
        let selectorless = headless && crate::object::size(service, "/spec/selector") == 0;
        let before = old
            .map_or("", |old| text(old, "/spec/ipFamilyPolicy"))
            .to_owned();
        let policy = match (text(service, "/spec/ipFamilyPolicy"), before.as_str()) {
            ("", "") if selectorless => "RequireDualStack",
            ("", "") => "SingleStack",
            ("", before) => before,
            (given, _) => given,
        }
        .to_owned();
        let listed = list(service, "/spec/ipFamilies")
            .iter()
            .filter_map(Value::as_str);
        let mut families: Vec<Family> = listed.filter_map(Family::parse).collect();
        if families.is_empty() {
            let kept = old
                .map_or(&[][..], |old| list(old, "/spec/ipFamilies"))
                .iter();
            families = kept
                .filter_map(Value::as_str)
                .filter_map(Family::parse)
                .collect();
        }
        let parsed = wanted.iter().filter_map(|address| address.parse().ok());
        for family in parsed
            .map(Family::of)
            .skip(families.len())
            .collect::<Vec<_>>()
        {
            families.push(family);
        }
        let field = "spec.ipFamilyPolicy";
        let both = self.v6.is_some();
        if policy == "SingleStack" && old.is_some() {
            families.truncate(1);
        }
        if policy == "SingleStack" && families.len() > 1 {
            let message = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
            return Err(Cause::invalid(field, &json!(policy), message));
        }
        if policy == "RequireDualStack" && !both && !selectorless {
            let message = "this cluster is not configured for dual-stack services";
            return Err(Cause::invalid(field, &json!(policy), message));
        }
        if !both && !selectorless && families.contains(&Family::IPv6) {
            return Err(Cause::invalid(
                "spec.ipFamilies",
                &json!("IPv6"),
                "not configured on this cluster",
            ));
        }
        let first = *families.first().unwrap_or(&Family::IPv4);
        if families.is_empty() {
            families.push(first);
        }
        if policy != "SingleStack" && families.len() == 1 && (both || selectorless) {
            families.push(first.other());
        }
        map(service, "spec").insert("ipFamilyPolicy".into(), policy.into());
        Ok(families)
    }

    fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(&address),
            IpAddr::V6(address) => self.v6.is_some_and(|range| range.contains(&address)),
        }
    }

    /// The next free address, going round from the one given last. The first and the last address
    /// of a range are left alone.
    fn free(&self, family: Family) -> Option<IpAddr> {
        let (first, size) = match family {
            Family::IPv4 => {
                let size = 1_u128 << (32 - u32::from(self.v4.prefix_len()));
                (u128::from(u32::from(self.v4.network())), size)
            }
            Family::IPv6 => {
                let range = self.v6?;
                let size = 1_u128.checked_shl(128 - u32::from(range.prefix_len()));
                (
                    u128::from(range.network()),
                    size.unwrap_or(u128::MAX).min(IPV6_SHARE),
                )
            }
        };
        let usable = size.checked_sub(2)?;
        let start = self
            .next
            .get(&family)
            .map_or(0, |next| next.saturating_sub(first + 1));
        let around = (0..usable).map(|step| first + 1 + (start + step) % usable);
        around
            .map(|number| family.address(number))
            .find(|free| !self.used.contains_key(free))
    }
}

impl Family {
    fn parse(name: &str) -> Option<Self> {
        [Self::IPv4, Self::IPv6]
            .into_iter()
            .find(|family| family.name() == name)
    }

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::IPv4
        } else {
            Self::IPv6
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::IPv4 => Self::IPv6,
            Self::IPv6 => Self::IPv4,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            Self::IPv4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::IPv6 => Ipv6Addr::from(number).into(),
        }
    }
}

/// Everything that is wrong with a Service's ports and affinity.
pub(crate) fn causes(service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = text(service, "/spec/type");
    if !["", "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].contains(&kind) {
        let allowed = "ClusterIP, ExternalName, LoadBalancer, NodePort";
        causes.push(Cause::unsupported("spec.type", &kind.into(), allowed));
    }
    if !["", "ClientIP", "None"].contains(&text(service, "/spec/sessionAffinity")) {
        let field = "spec.sessionAffinity";
        causes.push(Cause::unsupported(
            field,
            &service["spec"]["sessionAffinity"],
            "ClientIP, None",
        ));
    }
    let headless = text(service, "/spec/clusterIP") == "None";
    let ports = list(service, "/spec/ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        port_causes(ports, index, port, &mut causes);
    }
    causes
}

fn port_causes(ports: &[Value], index: usize, port: &Value, causes: &mut Vec<Cause>) {
    let path = format!("spec.ports[{index}]");
    let number = port["port"].as_i64().unwrap_or(0);
    if !(1..=65_535).contains(&number) {
        let message = "must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid(
            &format!("{path}.port"),
            &port["port"],
            message,
        ));
    }
    let name = text(port, "/name");
    if name.is_empty() && ports.len() > 1 {
        causes.push(Cause::required(&format!("{path}.name"), ""));
    }
    if !name.is_empty() && !is_label(name) {
        let message = "must be a lower case RFC 1123 label";
        causes.push(Cause::invalid(
            &format!("{path}.name"),
            &name.into(),
            message,
        ));
    }
    let protocol = |port: &Value| match text(port, "/protocol") {
        "" => "TCP".to_owned(),
        given => given.to_owned(),
    };
    if !["SCTP", "TCP", "UDP"].contains(&protocol(port).as_str()) {
        let field = format!("{path}.protocol");
        causes.push(Cause::unsupported(
            &field,
            &port["protocol"],
            "SCTP, TCP, UDP",
        ));
    }
    for other in &ports[..index] {
        if !name.is_empty() && text(other, "/name") == name {
            causes.push(Cause::duplicate(&format!("{path}.name"), &name.into()));
        }
        if other["port"] == port["port"] && protocol(other) == protocol(port) {
            causes.push(Cause::duplicate(
                &path,
                &json!({"port": number, "protocol": protocol(port)}),
            ));
        }
    }
}

fn default_ports(service: &mut Value) {
    let ports = map(service, "spec")
        .get_mut("ports")
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        let number = port.get("port").cloned();
        port.entry("protocol").or_insert_with(|| json!("TCP"));
        port.entry("targetPort").or_insert_with(|| json!(number));
    }
}

fn default_affinity(service: &mut Value) {
    if text(service, "/spec/sessionAffinity") == "ClientIP" {
        let default = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
        let spec = map(service, "spec");
        if spec.get("sessionAffinityConfig").is_none_or(Value::is_null) {
            spec.insert("sessionAffinityConfig".into(), default);
        }
    } else {
        map(service, "spec").remove("sessionAffinityConfig");
    }
}

fn owner(service: &Value) -> String {
    format!("{}/{}", namespace(service), name(service))
}

fn addresses(service: &Value) -> impl Iterator<Item = IpAddr> {
    list(service, "/spec/clusterIPs")
        .iter()
        .filter_map(|one| one.as_str()?.parse().ok())
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
        Arc::new(kinds.find(|kind| kind.is_core("services")).unwrap())
    }

    fn ips(v6: bool) -> ClusterIps {
        let v6 = v6.then(|| "2001:db8:96::/112".parse().unwrap());
        ClusterIps::new("192.0.2.0/29".parse().unwrap(), v6)
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
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
