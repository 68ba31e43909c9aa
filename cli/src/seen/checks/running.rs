//! Pure: how what runs here is: controller, DNS server and gateways.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;

use super::{Check, Facts, Finding, counted};
use crate::{
    init::progress::{problem, progress},
    seen::{Component, known, metrics},
};

/// Of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn components(facts: &Facts) -> Vec<Finding> {
    let check = Check::Components;
    let mut found = Vec::new();
    for asked in [facts.deployments.as_ref().err(), facts.pods.as_ref().err()].into_iter().flatten()
    {
        found.extend(check.of::<()>(&Err(asked.clone())).err().into_iter().flatten());
    }
    let mut good = Vec::new();
    for deployment in known(&facts.deployments) {
        let one = progress(deployment);
        let says = format!("{} {} of {}", one.name, one.ready, one.wanted);
        if one.is_done {
            good.push(says);
        } else {
            let why = known(&facts.pods).iter().filter(|pod| {
                pod.metadata.name.as_deref().is_some_and(|name| name.starts_with(&one.name))
            });
            let why = why.filter_map(problem).next();
            let remedy = why.unwrap_or_else(|| {
                format!(
                    "see `kubectl --namespace landbridge-system describe deployment {}`",
                    one.name
                )
            });
            found.push(check.wrong(format!("{says} ready"), remedy));
        }
    }
    for component in &facts.components {
        if let Some(Err(why)) = &component.ready {
            let says = format!("pod {} is {why}", component.pod);
            let remedy =
                format!("see `kubectl --namespace landbridge-system logs {}`", component.pod);
            found.push(check.wrong(says, remedy));
        }
    }
    if good.is_empty() && found.is_empty() {
        // As plain processes, or somewhere else.
        good.push("none runs in pods of landbridge-system".to_owned());
    }
    check.found(found, good.join(", "))
}

/// Of the pods that say so.
pub(crate) fn version(component: &Component) -> Option<&str> {
    metrics::label(component.metrics.as_deref()?, "landbridge_build_info", "version")
}

pub(super) fn versions(facts: &Facts) -> Vec<Finding> {
    let check = Check::Versions;
    let mut running: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for component in &facts.components {
        if let Some(version) = version(component) {
            running.entry(version).or_default().insert(&component.part);
        }
    }
    let unasked = facts.components.iter().find_map(|component| component.trouble.clone());
    if running.is_empty() {
        return match unasked {
            Some(why) => check.of::<()>(&Err(why)).err().unwrap_or_default(),
            None => Vec::new(),
        };
    }
    let each: Vec<String> = running
        .iter()
        .map(|(version, parts)| {
            format!("{version} ({})", parts.iter().copied().collect::<Vec<_>>().join(", "))
        })
        .collect();
    if running.len() > 1 {
        let says = format!("several at once: {}", each.join(", "));
        return vec![check.note(says, "wait for the upgrade to end, or run `landbridge init` or `landbridge join` again with one --image")];
    }
    let only = running.keys().next().copied().unwrap_or_default();
    match numbers(only).cmp(&numbers(VERSION)) {
        std::cmp::Ordering::Equal => vec![check.good(only)],
        std::cmp::Ordering::Greater => vec![check.note(
            format!("{only} runs, and this program is {VERSION}"),
            format!("take the `landbridge` of {only}: this one may not know what is new"),
        )],
        std::cmp::Ordering::Less => vec![check.note(
            format!("{only} runs, and this program is {VERSION}"),
            "upgrade: run `landbridge init` or `landbridge join` again with the new --image",
        )],
    }
}

fn numbers(version: &str) -> Vec<u64> {
    let (release, _) = version.split_once('-').unwrap_or((version, ""));
    release.split('.').map(|number| number.parse().unwrap_or_default()).collect()
}

/// What counts as yes.
fn says_yes(component: &Component, metric: &str) -> Option<bool> {
    let value = metrics::value(component.metrics.as_deref()?, metric, "")?;
    Some(value > 0.0)
}

/// The controller that writes.
pub(crate) fn leading(facts: &Facts) -> Option<&Component> {
    let mut all = facts.components_of("controller");
    all.find(|one| says_yes(one, "landbridge_controller_leading") == Some(true))
}

pub(super) fn leader(facts: &Facts) -> Vec<Finding> {
    let check = Check::Leader;
    let all = facts.components_of("controller");
    let told: Vec<(&Component, bool)> = all
        .filter_map(|one| Some((one, says_yes(one, "landbridge_controller_leading")?)))
        .collect();
    let leading: Vec<&str> =
        told.iter().filter(|(_, leads)| *leads).map(|(one, _)| one.pod.as_str()).collect();
    match &leading[..] {
        _ if told.is_empty() => Vec::new(),
        [one] => vec![check.good(format!("{one} writes"))],
        [] => vec![check.wrong(
            "no controller writes: exports and imports stay as they are",
            "see `kubectl --namespace landbridge-system get lease landbridge-controller` and the controllers' logs",
        )],
        several => vec![check.note(
            format!("more than one says that it writes: {}", several.join(", ")),
            "ask again: for some seconds after a change of the leader both may say so",
        )],
    }
}

pub(super) fn hub(facts: &Facts) -> Vec<Finding> {
    let check = Check::Hub;
    let Some(leader) = leading(facts) else { return Vec::new() };
    match says_yes(leader, "landbridge_controller_hub_reachable") {
        None => Vec::new(),
        Some(true) => vec![check.good("the controller reads it")],
        Some(false) => {
            let trouble =
                leader.snapshot.as_ref().and_then(|all| all.pointer("/hub/trouble")?.as_str());
            let trouble = trouble.map(|why| format!(": {why}")).unwrap_or_default();
            vec![check.wrong(
                format!("the controller cannot read it{trouble}"),
                "what was imported goes on; see that the hub's API is up and reached from here, and `certificates`",
            )]
        }
    }
}

pub(super) fn gateways(facts: &Facts) -> Vec<Finding> {
    let check = Check::Gateways;
    let slices = match check.of(&facts.gateways) {
        Ok(slices) => slices,
        Err(found) => return found,
    };
    match ready(slices) {
        0 => vec![check.wrong(
            "no gateway of this cluster is ready: nothing is reached in other networks, nor from there",
            "see `components`; gateways that run as plain processes need --register",
        )],
        1 => vec![check.note("one gateway is ready: nobody takes its place where it goes", "run two at least")],
        several => vec![check.good(format!("{several} are ready"))],
    }
}

/// How many gateways take calls, whatever families their addresses are of.
fn ready(slices: &[EndpointSlice]) -> usize {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    let names: BTreeSet<String> = ready
        .map(|endpoint| match endpoint.target_ref.as_ref().and_then(|target| target.name.clone()) {
            Some(name) => name,
            None => endpoint.addresses.join(","),
        })
        .collect();
    names.len()
}

/// Protocols and numbers that gateways are to listen on.
pub(crate) fn allotted(facts: &Facts) -> BTreeSet<(String, i64)> {
    let ports = known(&facts.allotments).iter().flat_map(|slice| slice.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((protocol, i64::from(port.port?)))
        })
        .collect()
}

/// Those that a gateway listens on.
pub(crate) fn listening(component: &Component) -> Option<BTreeSet<(String, i64)>> {
    let all = component.snapshot.as_ref()?["listening"].as_array()?.iter();
    let one = |port: &Value| Some((port["protocol"].as_str()?.to_owned(), port["port"].as_i64()?));
    Some(all.filter_map(one).collect())
}

pub(super) fn listeners(facts: &Facts) -> Vec<Finding> {
    let check = Check::Listeners;
    if let Err(found) = check.of(&facts.allotments) {
        return found;
    }
    let wanted = allotted(facts);
    let told: Vec<(&Component, BTreeSet<(String, i64)>)> =
        facts.components_of("gateway").filter_map(|one| Some((one, listening(one)?))).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (gateway, listening) in told {
        let missing: Vec<String> = wanted
            .difference(&listening)
            .map(|(protocol, port)| format!("{protocol} {port}"))
            .collect();
        if let Some(first) = missing.first() {
            let says = format!(
                "gateway {} does not listen on {first}{}",
                gateway.pod,
                if missing.len() > 1 {
                    format!(" and {} more", missing.len() - 1)
                } else {
                    String::new()
                },
            );
            found.push(check.wrong(says, "see its log: a port that something else holds, or too few descriptors (`ulimit -n`)"));
        }
    }
    check.found(found, format!("gateways listen on {}", counted(wanted.len(), "port")))
}

/// Objects that cannot be read, or not be carried out.
pub(super) fn objects(facts: &Facts) -> Vec<Finding> {
    let check = Check::Objects;
    let mut found = Vec::new();
    let mut looked = false;
    if let Some(snapshot) = leading(facts).and_then(|leader| leader.snapshot.as_ref()) {
        looked = true;
        for (object, error) in snapshot["malformed"].as_object().into_iter().flatten() {
            let says = format!("{object} cannot be read: {}", error.as_str().unwrap_or_default());
            found.push(check.wrong(says, "correct it, or delete it"));
        }
    }
    let mut told = BTreeSet::new();
    for gateway in facts.components_of("gateway").filter_map(|one| one.snapshot.as_ref()) {
        looked = true;
        told.extend(gateway["problems"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    found.extend(told.into_iter().map(|says| {
        check.wrong(format!("gateways say: {says}"), "correct the object that is named")
    }));
    if looked { check.found(found, "all can be read") } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::seen::{
        Unread,
        testing::{healthy, pod_says, told},
    };

    fn with(change: impl Fn(&mut Component)) -> Facts {
        let mut facts = healthy();
        facts.components.iter_mut().for_each(change);
        facts
    }

    #[test]
    fn a_pod_that_waits_says_for_what() {
        let waits = with(|one| {
            if one.part == "dns" {
                one.ready = Some(Err("not ready: it waits for imports".into()));
            }
        });
        assert_eq!(
            told(&components(&waits)),
            [
                "WRONG pod dns-0 is not ready: it waits for imports → see `kubectl --namespace landbridge-system logs dns-0`"
            ]
        );
    }

    #[test]
    fn a_deployment_that_has_not_come_far_says_why() {
        let mut facts = healthy();
        for deployment in facts.deployments.as_mut().unwrap() {
            deployment.status.as_mut().unwrap().available_replicas = Some(1);
        }
        let found = told(&components(&facts));
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[0],
            "WRONG landbridge-controller 1 of 2 ready → see `kubectl --namespace landbridge-system describe deployment landbridge-controller`"
        );
    }

    #[test]
    fn versions_are_compared_with_one_another_and_with_this_program() {
        let of = |of: [&str; 2]| {
            let facts = with(|one| {
                let version = if one.part == "dns" { of[0] } else { of[1] };
                one.metrics = Some(format!("landbridge_build_info{{version=\"{version}\"}} 1\n"));
            });
            told(&versions(&facts))
        };
        assert_eq!(of([VERSION; 2]), [format!("ok {VERSION}")]);
        assert_eq!(
            of(["99.0.0"; 2]),
            [format!(
                "note 99.0.0 runs, and this program is {VERSION} → take the `landbridge` of 99.0.0: this one may not know what is new"
            )]
        );
        assert_eq!(
            of(["0.0.1"; 2]),
            [format!(
                "note 0.0.1 runs, and this program is {VERSION} → upgrade: run `landbridge init` or `landbridge join` again with the new --image"
            )]
        );
        assert_eq!(
            of(["0.0.1", "0.0.2"]),
            [
                "note several at once: 0.0.1 (dns), 0.0.2 (controller, gateway) → wait for the upgrade to end, or run `landbridge init` or `landbridge join` again with one --image"
            ]
        );
        let denied = with(|one| {
            one.metrics = None;
            one.trouble = Some(Unread::Denied("get pods/proxy".into()));
        });
        assert_eq!(
            told(&versions(&denied)),
            ["note not looked at: you may not get pods/proxy → ask somebody who may"]
        );
    }

    #[test]
    fn a_hub_that_is_away_is_told_by_the_controller_that_writes() {
        let away = with(|one| {
            if one.part == "controller" {
                one.metrics = Some(
                    "landbridge_controller_leading 1\nlandbridge_controller_hub_reachable 0\n"
                        .into(),
                );
                one.snapshot = Some(json!({"hub": {"trouble": "connection refused"}}));
            }
        });
        assert_eq!(
            told(&hub(&away)),
            [
                "WRONG the controller cannot read it: connection refused → what was imported goes on; see that the hub's API is up and reached from here, and `certificates`"
            ]
        );
        let nobody = with(|one| one.metrics = Some("landbridge_controller_leading 0\n".into()));
        assert!(told(&leader(&nobody))[0].starts_with("WRONG no controller writes"));
        assert_eq!(hub(&nobody), Vec::new());
    }

    #[test]
    fn a_gateway_that_misses_a_port_is_named() {
        let mut facts = healthy();
        pod_says(
            &mut facts,
            "gateway-1",
            json!({"listening": [], "problems": ["Peer tokyo: no address"]}),
        );
        assert_eq!(
            told(&listeners(&facts)),
            [
                "WRONG gateway gateway-1 does not listen on TCP 10000 and 1 more → see its log: a port that something else holds, or too few descriptors (`ulimit -n`)"
            ]
        );
        assert_eq!(
            told(&objects(&facts)),
            ["WRONG gateways say: Peer tokyo: no address → correct the object that is named"]
        );
    }

    #[test]
    fn gateways_are_counted_once_whatever_their_families() {
        let mut facts = healthy();
        let slices = facts.gateways.as_mut().unwrap();
        assert_eq!(ready(slices), 2);
        slices.extend(slices.clone());
        assert_eq!(ready(slices), 2);
        slices.iter_mut().for_each(|slice| slice.endpoints.truncate(1));
        assert_eq!(
            told(&gateways(&facts)),
            ["note one gateway is ready: nobody takes its place where it goes → run two at least"]
        );
        facts.gateways = Ok(Vec::new());
        assert!(told(&gateways(&facts))[0].starts_with("WRONG no gateway"));
    }
}
