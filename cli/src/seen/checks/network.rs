//! Pure: what in a cluster's own network stands in the way: its DNS, masquerading, NetworkPolicies.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPeer},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;
use serde_json::Value;

use super::{Check, Facts, Finding, counted, services::place};
use crate::{
    command::dns::{SERVICE, ZONE},
    corefile::{self, Refusal, Stanza},
    seen::{known, selects::selects},
};

/// What is said of a cluster whose DNS is not where it usually is.
const ELSEWHERE: &str =
    "put what `landbridge dns print` prints where this cluster's DNS has its configuration";

pub(super) fn dns(facts: &Facts) -> Vec<Finding> {
    let check = Check::Dns;
    let corefile = match check.of(&facts.corefile) {
        Ok(Some(corefile)) => corefile,
        Ok(None) => {
            let says = "there is no Corefile in ConfigMap kube-system/coredns, so that it is not known whether names of the set are found";
            return vec![check.note(says, ELSEWHERE)];
        }
        Err(found) => return found,
    };
    let rest = match corefile::disabled(corefile) {
        Ok(rest) => rest,
        Err(refusal) => {
            return vec![check.wrong(refusal.to_string(), "then run `landbridge dns enable`")];
        }
    };
    let servers = servers(facts);
    let stanza = Stanza { zone: ZONE, servers: &servers };
    match corefile::enabled(corefile, &stanza) {
        Err(refusal @ Refusal::Foreign { .. }) => {
            vec![check.note(refusal.to_string(), "names are answered there: see that it knows ServiceImports")]
        }
        Err(refusal @ Refusal::Half { .. }) => vec![check.wrong(refusal.to_string(), "then run `landbridge dns enable`")],
        Ok(_) if !facts.is_installed() => vec![check.good("CoreDNS can be told of our server")],
        Ok(_) if rest == *corefile => vec![check.wrong(
            format!("CoreDNS is not told of our server: no name of {ZONE} is found"),
            "run `landbridge dns enable`",
        )],
        Ok(wanted) if !servers.is_empty() && wanted != *corefile => vec![check.wrong(
            format!("CoreDNS asks somebody else for {ZONE} than Service {SYSTEM_NAMESPACE}/{SERVICE} ({})", shown(&servers)),
            "run `landbridge dns enable`",
        )],
        Ok(_) => vec![check.good(format!("CoreDNS asks our server for {ZONE}"))],
    }
}

/// Where our server is asked, as far as that was looked at.
fn servers(facts: &Facts) -> Vec<SocketAddr> {
    let ours = known(&facts.services).iter().find(|service| {
        service.metadata.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
            && service.metadata.name.as_deref() == Some(SERVICE)
    });
    let addresses = ours.and_then(|service| service.spec.as_ref()?.cluster_ips.clone());
    let addresses = addresses.unwrap_or_default().into_iter();
    addresses.filter_map(|one| Some((one.parse::<IpAddr>().ok()?, 53).into())).collect()
}

fn shown(servers: &[SocketAddr]) -> String {
    servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether gateways see pods that call by their own addresses. What hides them makes them nobody.
pub(super) fn callers(facts: &Facts) -> Vec<Finding> {
    let check = Check::Callers;
    let nodes = match check.of(&facts.nodes) {
        Ok(nodes) => nodes,
        Err(found) => return found,
    };
    let addresses = nodes
        .iter()
        .flat_map(|node| node.status.iter().flat_map(|status| status.addresses.iter().flatten()));
    let nodes: BTreeSet<IpAddr> = addresses.filter_map(|one| one.address.parse().ok()).collect();
    let mut looked = false;
    let (mut all, mut hidden) = (0, 0);
    for open in facts.components_of("gateway").filter_map(|one| one.connections.as_ref()) {
        looked = true;
        for call in open["connections"].as_array().into_iter().flatten() {
            let Some(client) = client(call) else { continue };
            all += 1;
            hidden += usize::from(nodes.contains(&client));
        }
    }
    if hidden > 0 {
        let says =
            format!("{hidden} of {} come from addresses of nodes", counted(all, "open call"));
        let remedy = "unless those pods are on the host's network, something masquerades calls within the cluster (kube-proxy --masquerade-all, a CNI's own rule): no AccessPolicy knows who they are by their accounts";
        return vec![check.note(says, remedy)];
    }
    if !looked {
        return Vec::new();
    }
    vec![check.good(match all {
        0 => "no call is open now".to_owned(),
        all => format!("{} come from pods' own addresses", counted(all, "open call")),
    })]
}

/// The address that a call of this cluster comes from.
fn client(call: &Value) -> Option<IpAddr> {
    let is_own = call["direction"] == "outbound";
    let text = call["client"].as_str().filter(|_| is_own)?;
    text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse()).ok()
}

type Labels = BTreeMap<String, String>;

/// NetworkPolicies that let no gateway in to what is exported.
pub(super) fn policies(facts: &Facts) -> Vec<Finding> {
    let check = Check::NetworkPolicies;
    if let Err(found) = check.of(&facts.policies) {
        return found;
    }
    let mut found = Vec::new();
    for export in known(&facts.exports) {
        let name = place(&export.metadata);
        let shut = in_the_way(facts, &name);
        if !shut.is_empty() {
            let says = format!(
                "{name}: no gateway is let in to its pods by NetworkPolicy {}",
                shut.join(", ")
            );
            let remedy = format!(
                "allow ingress from namespace {SYSTEM_NAMESPACE} (namespaceSelector kubernetes.io/metadata.name)"
            );
            found.push(check.wrong(says, remedy));
        }
    }
    check.found(found, "none keeps gateways from what is exported")
}

/// The policies of a service's namespace that apply to its pods, where none of them lets a gateway in. Pods are known by what
/// the Service selects them by.
pub(crate) fn in_the_way(facts: &Facts, service: &str) -> Vec<String> {
    let of_service = known(&facts.services).iter().find(|one| place(&one.metadata) == service);
    let Some(labels) = of_service.and_then(|one| one.spec.as_ref()?.selector.clone()) else {
        return Vec::new();
    };
    let Some((namespace, _)) = service.split_once('/') else { return Vec::new() };
    let applied: Vec<&NetworkPolicy> = known(&facts.policies)
        .iter()
        .filter(|policy| policy.metadata.namespace.as_deref() == Some(namespace))
        .filter(|policy| shuts(policy, &labels))
        .collect();
    if applied.iter().any(|policy| lets_gateways_in(policy, facts, namespace)) {
        return Vec::new();
    }
    applied.into_iter().filter_map(|policy| policy.metadata.name.clone()).collect()
}

/// Whether it is for what comes in to pods of these labels.
fn shuts(policy: &NetworkPolicy, labels: &Labels) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let is_ingress = types.is_empty() || types.iter().any(|one| one == "Ingress");
    is_ingress && spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, labels))
}

fn lets_gateways_in(policy: &NetworkPolicy, facts: &Facts, namespace: &str) -> bool {
    let rules = policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten());
    let mut rules = rules.map(|rule| rule.from.as_deref().unwrap_or_default());
    // A rule without peers is for everybody.
    rules.any(|from| from.is_empty() || from.iter().any(|peer| is_gateway(peer, facts, namespace)))
}

fn is_gateway(peer: &NetworkPolicyPeer, facts: &Facts, namespace: &str) -> bool {
    // Whether a gateway's address is in a block changes with each pod: whoever writes one knows.
    if peer.ip_block.is_some() {
        return true;
    }
    let within = match &peer.namespace_selector {
        None => namespace == SYSTEM_NAMESPACE,
        Some(selector) => selects(selector, &labels_of_ours(facts)),
    };
    let gateway = [("name", "landbridge"), ("component", "gateway")]
        .map(|(name, value)| (format!("app.kubernetes.io/{name}"), value.to_owned()));
    let everything = LabelSelector::default();
    within && selects(peer.pod_selector.as_ref().unwrap_or(&everything), &gateway.into())
}

/// Of our namespace; every namespace has its name as a label.
fn labels_of_ours(facts: &Facts) -> Labels {
    let ours = known(&facts.namespaces)
        .iter()
        .find(|one| one.metadata.name.as_deref() == Some(SYSTEM_NAMESPACE));
    let mut labels = ours.and_then(|one| one.metadata.labels.clone()).unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".into(), SYSTEM_NAMESPACE.into());
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::seen::testing::{healthy, told};

    #[test]
    fn a_dns_that_is_not_told_or_told_something_else_is_found() {
        let of = |corefile: Option<&str>| {
            told(&dns(&Facts { corefile: Ok(corefile.map(str::to_owned)), ..healthy() }))
        };
        assert_eq!(
            of(Some(".:53 {\n}\n")),
            [
                "WRONG CoreDNS is not told of our server: no name of clusterset.local is found → run `landbridge dns enable`",
            ]
        );
        let servers = ["10.96.0.99:53".parse().unwrap()];
        let other =
            corefile::enabled(".:53 {\n}\n", &Stanza { zone: ZONE, servers: &servers }).unwrap();
        assert_eq!(
            of(Some(&other)),
            [
                "WRONG CoreDNS asks somebody else for clusterset.local than Service landbridge-system/landbridge-dns (10.96.0.53) → run `landbridge dns enable`",
            ]
        );
        let half = other.replace("# The end of", "# Gone: ");
        assert!(
            of(Some(&half))[0].starts_with("WRONG line 1 of the Corefile begins"),
            "{:?}",
            of(Some(&half))
        );
        assert!(
            of(Some("clusterset.local {\n}\n"))[0]
                .starts_with("note line 1 of the Corefile names clusterset.local already")
        );
        assert!(of(None)[0].starts_with("note there is no Corefile"));
    }

    #[test]
    fn calls_that_come_from_nodes_are_told() {
        let mut facts = healthy();
        let call =
            |client: &str, direction: &str| json!({"client": client, "direction": direction});
        let calls = [
            call("192.0.2.11:999", "outbound"),
            call("10.244.0.9", "outbound"),
            call("192.0.2.11", "inbound"),
        ];
        facts.components[2].connections = Some(json!({"connections": calls}));
        let found = told(&callers(&facts));
        assert!(
            found[0].starts_with("note 1 of 2 open calls come from addresses of nodes → unless "),
            "{found:?}"
        );
    }

    #[test]
    fn a_policy_that_lets_no_gateway_in_is_named() {
        let of = |policies: Value| {
            let policies = policies.as_array().unwrap().iter().map(|spec| {
                let policy =
                    json!({"metadata": {"namespace": "shop", "name": "deny"}, "spec": spec});
                serde_json::from_value(policy).unwrap()
            });
            told(&super::policies(&Facts { policies: Ok(policies.collect()), ..healthy() }))
        };
        let deny = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
        let shut = [
            "WRONG shop/web: no gateway is let in to its pods by NetworkPolicy deny → allow ingress from namespace landbridge-system (namespaceSelector kubernetes.io/metadata.name)",
        ];
        assert_eq!(of(json!([deny])), shut);
        let own = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
        assert_eq!(of(json!([own])), shut);
        let open = ["ok none keeps gateways from what is exported"];
        let name = json!({"matchLabels": {"kubernetes.io/metadata.name": "landbridge-system"}});
        for rule in [
            json!({}),
            json!({"from": [{"namespaceSelector": {}}]}),
            json!({"from": [{"namespaceSelector": name}]}),
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}),
        ] {
            let allow = json!({"podSelector": {}, "ingress": [rule]});
            // Policies add up.
            assert_eq!(of(json!([deny, allow])), open, "{rule}");
        }
        for spec in [
            json!({"podSelector": {"matchLabels": {"app": "other"}}}),
            json!({"podSelector": {}, "policyTypes": ["Egress"]}),
        ] {
            assert_eq!(of(json!([spec])), open, "{spec}");
        }
    }
}
