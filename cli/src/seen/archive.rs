//! Pure: what goes into the archive that people hand to others: objects without what is secret or only noise, what pods say, and
//! what was found wrong. Secrets are not among the facts; of ConfigMaps there is only what was chosen; values of environment
//! variables are left out, since people put passwords of proxies there.

use anyhow::Result;
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE};
use serde::Serialize;
use serde_json::Value;

use super::{Asked, Facts, Unread, checks, known, report, shown};
use crate::command::output::{Format, render};

/// What stands in place of what is left out.
const LEFT_OUT: &str = "(left out)";
/// What kubectl keeps of an object's whole text.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A pod's log, or why there is none.
pub(crate) type Logs = Vec<(String, Asked<String>)>;

/// Paths and texts, in the order of the archive.
///
/// # Errors
/// Never for what comes from an API: only if an object could not be written as text.
pub(crate) fn entries(facts: &Facts, logs: &Logs) -> Result<Vec<(String, String)>> {
    let mut all = vec![
        ("status.txt".to_owned(), shown::status(&report::of(facts), facts.now, true)),
        ("checks.txt".to_owned(), shown::checks(&checks::all(facts), facts.is_installed())),
        ("status.json".to_owned(), render(Format::Json, &report::of(facts))?),
        ("kinds.txt".to_owned(), kinds(facts)),
    ];
    let mut unread = Vec::new();
    all.extend(objects(facts, &mut unread)?);
    for component in &facts.components {
        let pod = &component.pod;
        let mut put = |name: &str, text: Option<String>| {
            all.extend(text.map(|text| (format!("pods/{pod}/{name}"), text)));
        };
        put("metrics.txt", component.metrics.clone());
        let json = |value: &Option<Value>| {
            value.as_ref().map(|value| render(Format::Json, value)).transpose()
        };
        put("snapshot.json", json(&component.snapshot)?);
        put("connections.json", json(&component.connections)?);
        unread.extend(component.trouble.as_ref().map(|why| told(&format!("pod {pod}"), why)));
    }
    for (name, log) in logs {
        match log {
            Ok(text) => all.push((format!("pods/{name}.log"), text.clone())),
            Err(why) => unread.push(told(&format!("log of {name}"), why)),
        }
    }
    all.insert(0, ("README.txt".to_owned(), about(&unread)));
    Ok(all)
}

fn about(unread: &[String]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let missing = if unread.is_empty() {
        "nothing".to_owned()
    } else {
        format!("\n  {}", unread.join("\n  "))
    };
    format!(
        "What `landbridge gather` {version} has found in one cluster.\n\n\
         Left out: Secrets, other people's ConfigMaps, values of environment variables.\n\
         In it: names of clusters, namespaces, Services, service accounts and pods, and addresses. Look through it before\n\
         you hand it on.\n\n\
         Could not be read: {missing}\n"
    )
}

fn told(what: &str, why: &Unread) -> String {
    match why {
        Unread::Denied(denied) => format!("{what}: you may not {denied}"),
        Unread::NoKind => format!("{what}: not served here"),
        Unread::NotAsked => format!("{what}: not asked for"),
        Unread::Trouble(trouble) => format!("{what}: {trouble}"),
    }
}

/// The kinds that are there, by name, with their versions: the definitions themselves are in the program.
fn kinds(facts: &Facts) -> String {
    let mut lines: Vec<String> = known(&facts.definitions)
        .iter()
        .map(|crd| {
            let versions: Vec<&str> =
                crd.spec.versions.iter().map(|one| one.name.as_str()).collect();
            format!("{} {}\n", crd.metadata.name.as_deref().unwrap_or_default(), versions.join(","))
        })
        .collect();
    lines.sort();
    lines.concat()
}

fn objects(facts: &Facts, unread: &mut Vec<String>) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    let mut put = |name: &str, values: Asked<Vec<Value>>| -> Result<()> {
        match values {
            Ok(values) if values.is_empty() => {}
            Ok(values) => {
                let values: Vec<Value> = values.into_iter().map(cleaned).collect();
                all.push((format!("objects/{name}.yaml"), render(Format::Yaml, &values)?));
            }
            Err(Unread::NotAsked) => {}
            Err(why) => unread.push(told(name, &why)),
        }
        Ok(())
    };
    put("clusterproperties", one(&facts.properties)?)?;
    put("chosen", one(&facts.choice)?)?;
    put("deployments", values(&facts.deployments)?)?;
    put("pods", values(&facts.pods)?)?;
    put("clusterprofiles", values(&facts.profiles)?)?;
    put("peers", values(&facts.peers)?)?;
    put("members", values(&facts.hub.members)?)?;
    put("clusterexports", values(&facts.hub.exports)?)?;
    put("serviceexports", values(&facts.exports)?)?;
    put("serviceimports", values(&facts.imports)?)?;
    put("accesspolicies", values(&facts.access)?)?;
    put("trafficpolicies", values(&facts.traffic)?)?;
    put("allotments", values(&facts.allotments)?)?;
    put("gateways", values(&facts.gateways)?)?;
    let services = values(&facts.services)?;
    put(
        "services",
        services.map(|all| all.into_iter().filter(|one| is_ours(one, facts)).collect()),
    )?;
    let policies = values(&facts.policies)?;
    put(
        "networkpolicies",
        policies.map(|all| all.into_iter().filter(|one| is_near(one, facts)).collect()),
    )?;
    Ok(all)
}

fn values<T: Serialize>(asked: &Asked<Vec<T>>) -> Result<Asked<Vec<Value>>> {
    Ok(match asked {
        Ok(all) => Ok(all.iter().map(serde_json::to_value).collect::<Result<_, _>>()?),
        Err(why) => Err(why.clone()),
    })
}

fn one<T: Serialize>(asked: &Asked<T>) -> Result<Asked<Vec<Value>>> {
    Ok(match asked {
        Ok(value) => Ok(vec![serde_json::to_value(value)?]),
        Err(why) => Err(why.clone()),
    })
}

fn metadata<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

/// Services of ours, and those that are exported; no others.
fn is_ours(service: &Value, facts: &Facts) -> bool {
    let (namespace, name) = (metadata(service, "namespace"), metadata(service, "name"));
    let is_exported = known(&facts.exports).iter().any(|export| {
        export.metadata.namespace.as_deref() == Some(namespace)
            && export.metadata.name.as_deref() == Some(name)
    });
    namespace == SYSTEM_NAMESPACE
        || is_exported
        || service["metadata"]["labels"][APP_MANAGED_BY] == LANDBRIDGE
}

/// NetworkPolicies where Landbridge or something that is exported is.
fn is_near(policy: &Value, facts: &Facts) -> bool {
    let namespace = metadata(policy, "namespace");
    let is_exported = known(&facts.exports)
        .iter()
        .any(|export| export.metadata.namespace.as_deref() == Some(namespace));
    namespace == SYSTEM_NAMESPACE || is_exported
}

/// Without what is noise, and without what may be secret.
fn cleaned(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    hide_variables(&mut object);
    object
}

/// In pods and in templates of them, wherever they are.
fn hide_variables(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(variables)) = fields.get_mut("env") {
                for variable in variables.iter_mut().filter_map(Value::as_object_mut) {
                    if let Some(value) = variable.get_mut("value") {
                        *value = LEFT_OUT.into();
                    }
                }
            }
            fields.values_mut().for_each(hide_variables);
        }
        Value::Array(values) => values.iter_mut().for_each(hide_variables),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::seen::testing::{healthy, read};

    fn all(facts: &Facts, logs: &Logs) -> BTreeMap<String, String> {
        entries(facts, logs).unwrap().into_iter().collect()
    }

    #[test]
    fn an_archive_has_what_is_there_and_says_what_it_could_not_read() {
        let mut facts = healthy();
        facts.traffic = Err(Unread::Denied("list trafficpolicies.landbridge.dev".into()));
        let logs = vec![
            ("dns-0".to_owned(), Ok("a line\n".to_owned())),
            ("gateway-0".to_owned(), Err(Unread::Denied("get pods/log".into()))),
        ];
        let all = all(&facts, &logs);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "README.txt",
                "checks.txt",
                "kinds.txt",
                "objects/allotments.yaml",
                "objects/chosen.yaml",
                "objects/clusterprofiles.yaml",
                "objects/clusterproperties.yaml",
                "objects/deployments.yaml",
                "objects/gateways.yaml",
                "objects/members.yaml",
                "objects/peers.yaml",
                "objects/serviceexports.yaml",
                "objects/serviceimports.yaml",
                "objects/services.yaml",
                "pods/controller-0/metrics.txt",
                "pods/controller-0/snapshot.json",
                "pods/dns-0.log",
                "pods/dns-0/metrics.txt",
                "pods/dns-0/snapshot.json",
                "pods/gateway-0/connections.json",
                "pods/gateway-0/metrics.txt",
                "pods/gateway-0/snapshot.json",
                "pods/gateway-1/connections.json",
                "pods/gateway-1/metrics.txt",
                "pods/gateway-1/snapshot.json",
                "status.json",
                "status.txt",
            ]
        );
        let readme = &all["README.txt"];
        assert!(readme.ends_with("Could not be read: \n  trafficpolicies: you may not list trafficpolicies.landbridge.dev\n  log of gateway-0: you may not get pods/log\n"), "{readme}");
        assert!(all["status.txt"].starts_with("paris, hub of set prod"));
        assert!(all["kinds.txt"].contains("peers.landbridge.dev v1alpha1\n"));
    }

    /// "gather (one archive, secrets left out)".
    #[test]
    fn nothing_that_may_be_secret_is_in_it() {
        let mut facts = healthy();
        facts.pods = Ok(vec![read(
            json!({"metadata": {"name": "p", "namespace": "landbridge-system",
            "annotations": {(LAST_APPLIED): "s3cret", "kept": "yes"}, "managedFields": [{"manager": "s3cret"}]},
            "spec": {"containers": [{"name": "c", "env": [{"name": "HTTPS_PROXY", "value": "http://u:s3cret@proxy"}]}]}}),
        )]);
        facts
            .services
            .as_mut()
            .unwrap()
            .push(read(json!({"metadata": {"namespace": "bank", "name": "s3cret"}})));
        facts.policies =
            Ok(vec![read(json!({"metadata": {"namespace": "bank", "name": "s3cret"}}))]);
        facts.corefile = Ok(Some("tsig s3cret".into()));
        let all = all(&facts, &Vec::new());
        let found: Vec<&String> =
            all.iter().filter(|(_, text)| text.contains("s3cret")).map(|(name, _)| name).collect();
        assert_eq!(found, Vec::<&String>::new());
        let pods = &all["objects/pods.yaml"];
        assert!(pods.contains("value: (left out)") && pods.contains("kept: yes"), "{pods}");
    }
}
