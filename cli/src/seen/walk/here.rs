//! Pure: the steps that lie with whoever calls: the import, its name, its ports, and the policies on both sides.

use std::collections::BTreeSet;

use landbridge_api::wellknown::IMPORT;
use serde_json::Value;

use super::{Step, Verdict, Way};
use crate::{
    command::dns::ZONE,
    seen::{
        checks::{self, Level, condition, counted, import_remedy, listening, why},
        known,
    },
};

pub(super) fn import(way: &Way<'_>) -> Step {
    const STEP: &str = "import";
    if let Err(unread) = &way.facts.imports {
        return Step::unread(STEP, unread);
    }
    let namespace = way.service.namespace.as_str();
    let Some(import) = way.import else {
        let namespaces = known(&way.facts.namespaces);
        let is_there = namespaces.iter().any(|one| one.metadata.name.as_deref() == Some(namespace));
        if !namespaces.is_empty() && !is_there {
            let says = format!("there is no namespace {namespace} here");
            return Step::wrong(STEP, says, format!("kubectl create namespace {namespace}"));
        }
        if way.exporters().is_empty() {
            return Step::wrong(
                STEP,
                "there is none, since nobody is known to export it",
                "see `export`",
            );
        }
        return Step::wrong(
            STEP,
            "there is none",
            "see whether the controller's --import-namespaces and --import-namespace-selector leave the namespace out; then `leader` and `hub` of `landbridge check`",
        );
    };
    match condition(import.conditions(), "Ready") {
        Some(one) if one.status == "True" => {
            let at = if import.spec.ips.is_empty() {
                String::new()
            } else {
                format!(" at {}", import.spec.ips.join(", "))
            };
            let clusters = import.status.iter().flat_map(|status| &status.clusters);
            let clusters: Vec<&str> = clusters.map(|one| one.cluster.as_str()).collect();
            Step::good(STEP, format!("{}{at}, from {}", import.spec.type_, clusters.join(", ")))
        }
        Some(one) => Step::wrong(STEP, why(one), import_remedy(&one.reason)),
        None => Step::wrong(
            STEP,
            "no controller has told whether it is ready",
            "see `leader` of `landbridge check`",
        ),
    }
}

pub(super) fn dns(way: &Way<'_>) -> Step {
    const STEP: &str = "dns";
    let name = format!("{}.{}.svc.{ZONE}", way.service.name, way.service.namespace);
    let servers = way.facts.components_of("dns");
    let told: Vec<(&str, Option<&Value>)> = servers
        .filter_map(|one| {
            let names = one.snapshot.as_ref()?.get("names")?;
            Some((one.pod.as_str(), names.get(format!("{name}."))))
        })
        .collect();
    let ignorant: Vec<&str> =
        told.iter().filter(|(_, records)| records.is_none()).map(|(pod, _)| *pod).collect();
    if !ignorant.is_empty() && way.import.is_some() {
        let says = format!("{} does not know {name}", ignorant.join(", "));
        let remedy =
            "see its log, and whether it reads ServiceImports: `components` of `landbridge check`";
        return Step::wrong(STEP, says, remedy);
    }
    // How the cluster's own DNS comes to ours is the same for every name.
    let asked = checks::one(checks::Check::Dns, way.facts);
    if let Some(finding) =
        asked.iter().max_by_key(|finding| finding.level).filter(|one| one.level != Level::Good)
    {
        let verdict = if finding.level == Level::Wrong { Verdict::Wrong } else { Verdict::Unknown };
        return Step::new(STEP, verdict, finding.says.clone(), finding.remedy.clone());
    }
    match told.len() {
        _ if way.import.is_none() => Step::unknown(STEP, "there is no name without an import", ""),
        0 if asked.is_empty() => {
            Step::unknown(STEP, "neither CoreDNS nor our servers could be asked", "")
        }
        0 => Step::good(
            STEP,
            format!("CoreDNS asks our server for {name}; our servers could not be asked"),
        ),
        servers => Step::good(STEP, format!("{name} is known to {}", counted(servers, "server"))),
    }
}

pub(super) fn port(way: &Way<'_>) -> Step {
    const STEP: &str = "port";
    if let Err(unread) = &way.facts.allotments {
        return Step::unread(STEP, unread);
    }
    let slices = known(&way.facts.allotments).iter().filter(|slice| {
        let annotations = slice.metadata.annotations.as_ref();
        let import = annotations.and_then(|all| all.get(IMPORT)).map(String::as_str);
        slice.metadata.namespace.as_deref() == Some(way.service.namespace.as_str())
            && import == Some(way.service.name.as_str())
    });
    let ports = slices.flat_map(|slice| slice.ports.iter().flatten());
    let ports: BTreeSet<(String, i64)> = ports
        .filter_map(|port| {
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".into()), i64::from(port.port?)))
        })
        .collect();
    if ports.is_empty() {
        return if way.import.is_none() {
            Step::unknown(STEP, "there is none without an import", "")
        } else if way.across().is_empty() {
            Step::good(STEP, "none is needed: whoever exports it is of this network")
        } else {
            Step::wrong(
                STEP,
                "no gateway port leads to it",
                "see `gateways` of `landbridge check`, and the conditions of the ServiceExport",
            )
        };
    }
    let shown: Vec<String> =
        ports.iter().map(|(protocol, port)| format!("{protocol} {port}")).collect();
    let gateways = way.facts.components_of("gateway");
    let told: Vec<(&str, BTreeSet<(String, i64)>)> =
        gateways.filter_map(|one| Some((one.pod.as_str(), listening(one)?))).collect();
    let deaf: Vec<&str> = told
        .iter()
        .filter(|(_, listening)| !ports.is_subset(listening))
        .map(|(pod, _)| *pod)
        .collect();
    if !deaf.is_empty() {
        let says = format!("{} not listened on by {}", shown.join(", "), deaf.join(", "));
        let remedy =
            "see the gateway's log: a port that something else holds, or too few descriptors";
        return if deaf.len() == told.len() {
            Step::wrong(STEP, says, remedy)
        } else {
            Step::note(STEP, says, remedy)
        };
    }
    let by = if told.is_empty() {
        "; gateways could not be asked".to_owned()
    } else {
        format!(", on {}", counted(told.len(), "gateway"))
    };
    Step::good(STEP, format!("{}{by}", shown.join(", ")))
}

pub(super) fn policy(way: &Way<'_>) -> Step {
    const STEP: &str = "policy";
    let facts = way.facts;
    let (namespace, name) = (way.service.namespace.as_str(), way.service.name.as_str());
    let shut = checks::in_the_way(facts, &way.service.to_string());
    if way.export.is_some() && !shut.is_empty() {
        let says =
            format!("no gateway is let in to its pods here by NetworkPolicy {}", shut.join(", "));
        return Step::wrong(STEP, says, "allow ingress from namespace landbridge-system");
    }
    let mut notes = Vec::new();
    let traffic = known(&facts.traffic).iter().filter(|policy| {
        policy.metadata.namespace.as_deref() == Some(namespace) && policy.spec.service == name
    });
    for policy in traffic {
        let conditions = policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
        if let Some(one) = condition(conditions, "InForce").filter(|one| one.status == "False") {
            let policy = policy.metadata.name.as_deref().unwrap_or_default();
            notes.push(format!("TrafficPolicy {policy} is not in force: {}", why(one)));
        }
    }
    if let Some(guarded) = way.export.and_then(|export| {
        condition(export.conditions(), "Guarded").filter(|one| one.status == "True")
    }) {
        notes.push(guarded.message.trim_end_matches('.').to_owned());
    }
    let guarded: Vec<&str> = way
        .on_hub
        .iter()
        .filter(|(cluster, export)| export.spec.guarded && **cluster != way.own)
        .map(|(cluster, _)| *cluster)
        .collect();
    if !guarded.is_empty() {
        notes.push(format!("{} lets in only whom its AccessPolicies allow", guarded.join(", ")));
    }
    if notes.is_empty() {
        return Step::good(STEP, "none is in the way");
    }
    let remedy =
        "who calls is told by the access logs of gateways; see `callers` of `landbridge check`";
    Step::note(STEP, notes.join("; "), remedy)
}
