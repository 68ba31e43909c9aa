//! Pure: the steps that lie with whoever exports: the ServiceExport, what the hub has of it, the link there, its endpoints.

use landbridge_api::wellknown::{KUBE_SERVICE_NAME, SERVICE_NAME};
use landbridge_model::derived;

use super::{Step, Way, ready};
use crate::seen::{
    Unread,
    checks::{condition, counted, export_remedy, link_remedy, why},
    known,
};

pub(super) fn export(way: &Way<'_>) -> Step {
    const STEP: &str = "export";
    if let Err(unread) = &way.facts.exports {
        return Step::unread(STEP, unread);
    }
    let others: Vec<&str> = way.exporters().into_iter().filter(|one| *one != way.own).collect();
    let Some(export) = way.export else {
        return if others.is_empty() {
            Step::wrong(
                STEP,
                format!(
                    "there is no ServiceExport {} here, and none of another cluster is known",
                    way.service
                ),
                "create one in each cluster that is to serve it, beside the Service of the same name",
            )
        } else {
            Step::good(STEP, format!("by {}, not by this cluster", others.join(", ")))
        };
    };
    let conditions = export.conditions();
    let not = ["Valid", "Ready"]
        .into_iter()
        .find_map(|type_| condition(conditions, type_).filter(|one| one.status == "False"));
    if let Some(not) = not {
        let (says, remedy) = (format!("here: {}", why(not)), export_remedy(&not.reason));
        // Somebody else serves it all the same.
        return if others.is_empty() {
            Step::wrong(STEP, says, remedy)
        } else {
            Step::note(STEP, says, remedy)
        };
    }
    if conditions.is_empty() {
        let says = "no controller has told of the ServiceExport here";
        return Step::wrong(STEP, says, "see `leader` of `landbridge check`");
    }
    if let Some(conflict) = condition(conditions, "Conflict").filter(|one| one.status == "True") {
        return Step::note(
            STEP,
            why(conflict),
            "make the Services alike in all clusters that export it",
        );
    }
    let and =
        if others.is_empty() { String::new() } else { format!(", and by {}", others.join(", ")) };
    Step::good(STEP, format!("by this cluster{and}"))
}

pub(super) fn hub(way: &Way<'_>) -> Step {
    const STEP: &str = "hub";
    let facts = way.facts;
    if known(&facts.hub.members).is_empty() {
        return match &facts.hub.members {
            Err(Unread::Denied(what)) => {
                Step::unknown(STEP, format!("you may not {what}"), "ask somebody who may")
            }
            _ => Step::unknown(
                STEP,
                "it is another cluster",
                "name it with --hub-context to look there too",
            ),
        };
    }
    if let Err(unread) = &facts.hub.exports {
        return Step::unread(STEP, unread);
    }
    if way.export.is_some() && !way.on_hub.contains_key(way.own) {
        let says = format!("it has no ClusterExport of {} for it", way.own);
        return Step::wrong(STEP, says, "see `hub`, `leader` and `exports` of `landbridge check`");
    }
    if way.on_hub.is_empty() {
        return Step::wrong(
            STEP,
            "no cluster has exported it there",
            "see `landbridge diagnose` in the cluster that exports it",
        );
    }
    let withheld = known(&facts.hub.members).iter().filter(|member| {
        let name = member.metadata.name.as_deref().unwrap_or_default();
        way.on_hub.contains_key(name) && member.spec.suspended
    });
    let withheld: Vec<&str> =
        withheld.filter_map(|member| member.metadata.name.as_deref()).collect();
    if !withheld.is_empty() {
        let says = format!("{} suspended: what it exports is withheld", withheld.join(", "));
        let remedy = "take `suspended` out of the Member's spec";
        return if withheld.len() == way.on_hub.len() {
            Step::wrong(STEP, says, remedy)
        } else {
            Step::note(STEP, says, remedy)
        };
    }
    let each: Vec<String> = way
        .on_hub
        .iter()
        .map(|(cluster, export)| {
            let zones = &export.spec.zones;
            let sum = |of: fn(&landbridge_api::landbridge::ZoneEndpoints) -> u32| {
                zones.iter().map(of).fold(0, u32::saturating_add)
            };
            format!(
                "{cluster} with {} of {} endpoints ready",
                sum(|zone| zone.ready),
                sum(|zone| zone.total)
            )
        })
        .collect();
    Step::good(STEP, each.join(", "))
}

pub(super) fn link(way: &Way<'_>) -> Step {
    const STEP: &str = "link";
    if let Err(unread) = &way.facts.peers {
        return Step::unread(STEP, unread);
    }
    let across = way.across();
    if across.is_empty() {
        return Step::good(STEP, "none is needed: whoever exports it is of this network");
    }
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for cluster in &across {
        let peers = known(&way.facts.peers).iter();
        let Some(peer) =
            peers.into_iter().find(|one| one.metadata.name.as_deref() == Some(*cluster))
        else {
            down.push((
                format!("{cluster} is no peer here"),
                "see `members`, `hub` and `leader` of `landbridge check`".to_owned(),
            ));
            continue;
        };
        let conditions = peer.status.as_ref().map_or(&[][..], |status| &status.conditions);
        match condition(conditions, "Connected") {
            Some(one) if one.status == "True" => up.push(*cluster),
            Some(one) => {
                down.push((format!("{cluster}: {}", why(one)), link_remedy(peer, &one.reason)))
            }
            None => down.push((
                format!("{cluster}: no gateway has told of it"),
                "see `gateways` of `landbridge check`".into(),
            )),
        }
    }
    let serves_itself = way.exporters().len() > across.len();
    match (down.into_iter().next(), up.is_empty()) {
        (None, _) => Step::good(STEP, format!("to {}", up.join(", "))),
        (Some((says, remedy)), true) if !serves_itself => Step::wrong(STEP, says, remedy),
        (Some((says, remedy)), _) => Step::note(STEP, says, remedy),
    }
}

pub(super) fn endpoint(way: &Way<'_>) -> Step {
    const STEP: &str = "endpoint";
    if let Err(unread) = way.slices {
        return Step::unread(STEP, unread);
    }
    let own = ready(&way.labelled(KUBE_SERVICE_NAME, way.service.name.as_str()));
    let is_headless = way.import.is_some_and(|import| import.spec.type_ == "Headless");
    let found = if is_headless {
        way.labelled(SERVICE_NAME, way.service.name.as_str())
    } else {
        way.labelled(KUBE_SERVICE_NAME, derived::service(way.service).as_str())
    };
    let used = ready(&found);
    if way.import.is_none() {
        return match way.export {
            Some(_) => Step::unknown(
                STEP,
                format!("{} here; it is not imported", counted(own, "ready pod")),
                "",
            ),
            None => Step::unknown(STEP, "it is not imported", ""),
        };
    }
    let pods = "see whether pods of the Service are ready where it is exported: `kubectl get endpointslices`";
    if used == 0 {
        return Step::wrong(STEP, "nobody takes calls: no endpoint is ready", pods);
    }
    if way.export.is_some() && own == 0 {
        return Step::note(STEP, "no pod of this cluster is ready: others take its calls", pods);
    }
    let own = if way.export.is_some() {
        format!(", of which {} here", counted(own, "pod"))
    } else {
        String::new()
    };
    Step::good(STEP, format!("{} ready{own}", counted(used, "way")))
}
