//! Pure: who may call what this cluster exports, as its AccessPolicies say (design: "Identity and access").
//!
//! Policies add up: a call is let in if any rule of any policy in force allows it. Which cluster calls stands in a
//! certificate; which pod of it, that cluster's gateway says. A caller that it does not know is of no namespace and has no
//! account, so that no rule which asks for one lets it in.

use std::collections::BTreeSet;

use landbridge_api::access::AccessRule;
use landbridge_model::{PortKey, Protocol, allotment::port_number};

use crate::caller::Caller;

/// Callers that are let in: those of whom everything holds that is named here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rule {
    clusters: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    /// As `namespace/name`.
    accounts: BTreeSet<String>,
    ports: BTreeSet<PortKey>,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// A sentence about what cannot be read.
    pub(crate) fn read(rule: &AccessRule) -> Result<Self, String> {
        let set = |names: &[String]| names.iter().cloned().collect();
        let port = |port: &landbridge_api::access::AccessPort| {
            let protocol = port.protocol.as_deref().unwrap_or(Protocol::Tcp.as_str());
            let number = port_number(i32::from(port.port))
                .ok_or_else(|| format!("port {} is none: use 1 to 65535", port.port))?;
            let protocol = protocol
                .parse::<Protocol>()
                .map_err(|problem| format!("port {number}: {problem}"))?;
            Ok::<_, String>(PortKey { protocol, number })
        };
        Ok(Self {
            clusters: set(&rule.clusters),
            namespaces: set(&rule.namespaces),
            accounts: set(&rule.service_accounts),
            ports: rule.ports.iter().map(port).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it lets a call to any of these ports of the service in.
    fn allows(&self, caller: &Caller, ports: &[PortKey]) -> bool {
        let workload = caller.source.workload.as_ref();
        let is_of = |names: &BTreeSet<String>, name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.contains(name))
        };
        let account =
            workload.map(|workload| format!("{}/{}", workload.namespace, workload.account));
        is_of(&self.clusters, Some(caller.cluster.as_str()))
            && is_of(&self.namespaces, workload.map(|workload| workload.namespace.as_str()))
            && is_of(&self.accounts, account.as_deref())
            && (self.ports.is_empty() || ports.iter().any(|port| self.ports.contains(port)))
    }
}

/// Whether a call to any of these ports of a service is let in, by the rules of all policies in force for it.
pub(crate) fn allows(rules: &[Rule], caller: &Caller, ports: &[PortKey]) -> bool {
    rules.iter().any(|rule| rule.allows(caller, ports))
}

#[cfg(test)]
mod tests {
    use landbridge_model::{ClusterId, Namespace};
    use serde_json::{Value, json};

    use super::*;
    use crate::caller::{ObjectName, Source, Workload};

    fn caller(cluster: &str, workload: Option<(&str, &str)>) -> Caller {
        let workload = workload.map(|(namespace, account)| Workload {
            namespace: Namespace::parse(namespace).unwrap(),
            account: ObjectName::parse(account).unwrap(),
            pod: ObjectName::parse("pod-0").unwrap(),
        });
        let source = Source { workload, ..Source::default() };
        Caller { cluster: ClusterId::parse(cluster).unwrap(), source }
    }

    fn rules(rules: Value) -> Vec<Rule> {
        let rules: Vec<AccessRule> = serde_json::from_value(rules).unwrap();
        rules.iter().map(|rule| Rule::read(rule).unwrap()).collect()
    }

    fn port(number: u16, protocol: Protocol) -> PortKey {
        PortKey { protocol, number: number.try_into().unwrap() }
    }

    /// Design, "Objects": AccessPolicy: "who may call an exported service: clusters, namespaces, service accounts".
    #[test]
    fn a_rule_lets_in_those_of_whom_everything_holds_that_it_names() {
        let berlin = caller("berlin", Some(("shop", "client")));
        let http = [port(80, Protocol::Tcp)];
        for (rule, is_let_in) in [
            (json!([]), false),
            (json!([{}]), true),
            (json!([{"clusters": ["berlin", "tokyo"]}]), true),
            (json!([{"clusters": ["tokyo"]}]), false),
            (json!([{"namespaces": ["shop"]}]), true),
            (json!([{"namespaces": ["bank"]}]), false),
            (json!([{"serviceAccounts": ["shop/client"]}]), true),
            (json!([{"serviceAccounts": ["bank/client", "shop/other"]}]), false),
            (json!([{"ports": [{"port": 80}]}]), true),
            (json!([{"ports": [{"port": 80, "protocol": "UDP"}]}]), false),
            (json!([{"ports": [{"port": 81}]}]), false),
            (json!([{"clusters": ["berlin"], "namespaces": ["bank"]}]), false),
            (
                json!([{"clusters": ["berlin"], "namespaces": ["shop"], "ports": [{"port": 80}]}]),
                true,
            ),
            // They add up.
            (json!([{"clusters": ["tokyo"]}, {"namespaces": ["shop"]}]), true),
        ] {
            assert_eq!(allows(&rules(rule.clone()), &berlin, &http), is_let_in, "{rule}");
        }
    }

    /// Design, "Identity and access": "Unknown, hostNetwork, terminal or ambiguous callers match no account rule."
    #[test]
    fn whoever_is_not_known_matches_no_rule_that_asks_who_it_is() {
        let unknown = caller("berlin", None);
        let http = [port(80, Protocol::Tcp)];
        for (rule, is_let_in) in [
            (json!([{"namespaces": ["shop"]}]), false),
            (json!([{"serviceAccounts": ["shop/client"]}]), false),
            (json!([{"clusters": ["berlin"]}]), true),
        ] {
            assert_eq!(allows(&rules(rule.clone()), &unknown, &http), is_let_in, "{rule}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let rule: AccessRule =
            serde_json::from_value(json!({"ports": [{"port": 53, "protocol": "udp"}]})).unwrap();
        let told = Rule::read(&rule).unwrap_err();
        assert!(told.starts_with("port 53: "), "{told}");
        let rule: AccessRule = serde_json::from_value(json!({"ports": [{"port": 0}]})).unwrap();
        assert_eq!(Rule::read(&rule).unwrap_err(), "port 0 is none: use 1 to 65535");
    }
}
