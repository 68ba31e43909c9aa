//! Pure: how this cluster stands to the others of its set.

use std::time::Duration;

use landbridge_api::{landbridge::Peer, wellknown::CLUSTER_ID_PROPERTY};

use super::{Check, Facts, Finding, condition, counted};
use crate::seen::{Certificate, Unread, known};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
/// What the name of the gateways' authority begins with.
const AUTHORITY: &str = "authority";
/// What is renewed by itself is renewed long before these are left: 90 days of an authority, ten years of a root, a day of
/// a credential and of a gateway's certificate.
const SOON: [(&str, Duration); 4] = [
    (AUTHORITY, Duration::from_secs(20 * DAY)),
    ("root", Duration::from_secs(180 * DAY)),
    ("credential", Duration::from_secs(6 * HOUR)),
    ("certificate", Duration::from_secs(2 * HOUR)),
];

pub(super) fn members(facts: &Facts) -> Vec<Finding> {
    let check = Check::Members;
    let profiles = match check.of(&facts.profiles) {
        Ok(profiles) => profiles,
        Err(found) => return found,
    };
    let mut found = Vec::new();
    for profile in profiles {
        let name = profile.metadata.name.as_deref().unwrap_or_default();
        let conditions = profile.status.as_ref().map_or(&[][..], |status| &status.conditions);
        match condition(conditions, "ControlPlaneHealthy") {
            Some(one) if one.status == "True" => {}
            Some(one) => {
                let says =
                    format!("{name}: {} ({})", told(&one.message, "it is not well"), one.reason);
                found.push(check.wrong(says, "see there whether its controller runs and reaches the hub; its endpoints are not called meanwhile where they are pods"));
            }
            None => found.push(check.note(format!("{name}: nothing is known yet"), "ask again")),
        }
    }
    for member in known(&facts.hub.members) {
        let name = member.metadata.name.as_deref().unwrap_or_default();
        let conditions = member.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let is_suspended = member.spec.suspended;
        if is_suspended {
            let remedy =
                format!("take `suspended` out of the spec of Member {name} to let it in again");
            found.push(
                check.note(format!("{name} is suspended: what it exports is withheld"), remedy),
            );
        }
        if let Some(one) = condition(conditions, "Compatible").filter(|one| one.status == "False") {
            found.push(
                check.wrong(format!("{name}: {} ({})", one.message, one.reason), "upgrade it"),
            );
        }
    }
    if profiles.is_empty() && found.is_empty() {
        return vec![check.note(
            "none is known here",
            "see `hub` and `leader`: the controller writes a ClusterProfile for each",
        )];
    }
    check.found(found, format!("{} heard of", counted(profiles.len(), "member")))
}

fn told<'a>(message: &'a str, or: &'a str) -> &'a str {
    let message = message.trim_end_matches('.');
    if message.is_empty() { or } else { message }
}

/// Whether others can dial this cluster. One behind a NAT dials them.
pub(super) fn addresses(facts: &Facts) -> Vec<Finding> {
    let check = Check::Addresses;
    let Some(own) = facts.property(CLUSTER_ID_PROPERTY) else { return Vec::new() };
    let member =
        known(&facts.hub.members).iter().find(|one| one.metadata.name.as_deref() == Some(own));
    let gateways = member.and_then(|member| Some(&member.status.as_ref()?.gateways));
    let choice = facts.choice.as_ref().ok().and_then(Option::as_ref);
    let told = match (gateways, choice) {
        (Some(gateways), _) => gateways.iter().map(|one| one.address.clone()).collect(),
        (None, Some(choice)) => choice.get("advertise").cloned().into_iter().collect::<Vec<_>>(),
        (None, None) => return Vec::new(),
    };
    if !told.is_empty() {
        return vec![check.good(format!("others dial {}", told.join(", ")))];
    }
    // Two that can only dial never meet.
    let silent = known(&facts.peers).iter().filter(|peer| peer.spec.gateways.is_empty());
    let silent: Vec<&str> = silent.filter_map(|peer| peer.metadata.name.as_deref()).collect();
    if silent.is_empty() {
        return vec![check.good("nobody dials this cluster: it dials the others")];
    }
    let says = format!("neither this cluster nor {} tells where it is dialled", silent.join(", "));
    vec![check.wrong(
        says,
        "give --advertise to `landbridge init` or `landbridge join` in one of each pair",
    )]
}

/// What is to be done about a peer to which no link stands, by the reason that gateways tell.
pub(crate) fn remedy(peer: &Peer, reason: &str) -> String {
    let addresses: Vec<&str> = peer.spec.gateways.iter().map(|one| one.address.as_str()).collect();
    let name = peer.metadata.name.as_deref().unwrap_or_default();
    match reason {
        "CertificateInvalid" => format!(
            "somebody else may answer at {}: see that it is {name}, of the same set, with a clock that is right and an authority that has not ended",
            addresses.join(", ")
        ),
        "NotListed" => format!(
            "{name} does not list this cluster: see `landbridge status` there, and on the hub whether this cluster was removed or has joined anew"
        ),
        "Refused" => format!("see the log of the gateways of {name}"),
        _ if addresses.is_empty() => format!(
            "{name} tells no address, so that it has to dial: see `landbridge check` there, or give it --advertise"
        ),
        _ => format!(
            "let UDP and TCP through to {}, from here or from there: firewalls, security groups, the port of the nodes or the load balancer",
            addresses.join(", ")
        ),
    }
}

pub(super) fn links(facts: &Facts) -> Vec<Finding> {
    let check = Check::Links;
    let peers = match check.of(&facts.peers) {
        Ok(peers) => peers,
        Err(found) => return found,
    };
    let found = peers.iter().flat_map(link).collect();
    check.found(
        found,
        match peers.len() {
            0 => "there is no other member".to_owned(),
            number => format!("{} reached", counted(number, "peer")),
        },
    )
}

fn link(peer: &Peer) -> Vec<Finding> {
    let check = Check::Links;
    let name = peer.metadata.name.as_deref().unwrap_or_default();
    let status = peer.status.clone().unwrap_or_default();
    let Some(connected) = condition(&status.conditions, "Connected") else {
        let says = format!("{name}: no gateway has told of it yet");
        return vec![check.wrong(says, "see `gateways`")];
    };
    if connected.status != "True" {
        let why = told(&connected.message, "no link stands");
        let says = format!("{name}: {why} ({})", connected.reason);
        return vec![check.wrong(says, remedy(peer, &connected.reason))];
    }
    let mut found = Vec::new();
    let apart: Vec<&str> = status
        .links
        .iter()
        .filter(|(_, link)| link.state != "Connected")
        .map(|(gateway, _)| gateway.as_str())
        .collect();
    if !apart.is_empty() {
        let says = format!("{name}: {} without a link", apart.join(", "));
        found.push(check.note(says, "other gateways reach it; see that all nodes may send to it"));
    }
    if status.links.values().any(|link| link.transport.as_deref() == Some("tcp")) {
        let says = format!("{name}: over TCP, since UDP does not pass");
        found.push(check.note(says, "let UDP through to the same port: calls cost less, and one that loses packets holds up no other"));
    }
    found
}

pub(super) fn certificates(facts: &Facts) -> Vec<Finding> {
    let check = Check::Certificates;
    let mut found = Vec::new();
    for Certificate { what, until } in &facts.certificates {
        let until = match until {
            Ok(until) => *until,
            Err(Unread::Denied(denied)) => {
                let says = format!("{what}: not looked at: you may not {denied}");
                found.push(check.note(says, "ask somebody who may"));
                continue;
            }
            Err(Unread::Trouble(why)) => {
                found.push(check.wrong(format!("{what}: {why}"), "join again with a new token"));
                continue;
            }
            Err(Unread::NoKind | Unread::NotAsked) => continue,
        };
        if until <= facts.now {
            let says = format!("{what} has ended");
            found.push(
                check.wrong(says, "join again with a new token; on the hub, run `landbridge init`"),
            );
            continue;
        }
        let left = until.since(facts.now);
        let soon = SOON.iter().find(|(of, _)| what.starts_with(of));
        if soon.is_some_and(|(_, soon)| left < *soon) {
            let says = format!("{what} ends in {}", crate::seen::shown::length(left));
            found.push(check.note(
                says,
                "it should have been renewed: see `hub`, or join again with a new token",
            ));
        }
    }
    let has_authority = facts.certificates.iter().any(|one| one.what.starts_with(AUTHORITY));
    if !has_authority && !known(&facts.deployments).is_empty() {
        let says = "there is no Secret landbridge-system/landbridge-member: no gateway can start";
        found.push(
            check.wrong(says, "join again with a new token; on the hub, run `landbridge init`"),
        );
    } else if facts.certificates.is_empty() {
        return Vec::new();
    }
    let least = facts.certificates.iter().filter_map(|one| one.until.as_ref().ok()).min();
    let least = least.map(|until| crate::seen::shown::length(until.since(facts.now)));
    check.found(found, format!("the first ends in {}", least.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use landbridge_model::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::seen::testing::{healthy, peer, told};

    #[test]
    fn a_link_that_does_not_stand_is_told_with_its_reason() {
        let of = |status: serde_json::Value| {
            let peers = vec![peer("tokyo", &["198.51.100.7:4433"], &status)];
            told(&links(&Facts { peers: Ok(peers), ..healthy() }))
        };
        let not = |reason: &str, message: &str| {
            json!({"conditions": [{"type": "Connected", "status": "False", "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        assert_eq!(
            of(not("Dialing", "timed out")),
            [
                "WRONG tokyo: timed out (Dialing) → let UDP and TCP through to 198.51.100.7:4433, from here or from there: firewalls, security groups, the port of the nodes or the load balancer",
            ]
        );
        assert!(
            of(not("NotListed", "x"))[0]
                .ends_with("whether this cluster was removed or has joined anew")
        );
        assert!(
            of(not("CertificateInvalid", "x"))[0]
                .contains("→ somebody else may answer at 198.51.100.7:4433")
        );
        assert_eq!(of(json!({})), ["WRONG tokyo: no gateway has told of it yet → see `gateways`"]);
        let one_of_two = json!({"links": {"gateway-0": {"state": "Connected", "transport": "tcp"}, "gateway-1": {"state": "Dialing"}},
            "conditions": [{"type": "Connected", "status": "True", "reason": "Connected", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        assert_eq!(
            of(one_of_two),
            [
                "note tokyo: gateway-1 without a link → other gateways reach it; see that all nodes may send to it",
                "note tokyo: over TCP, since UDP does not pass → let UDP through to the same port: calls cost less, and one that loses packets holds up no other",
            ]
        );
    }

    #[test]
    fn two_that_only_dial_never_meet() {
        let mut facts = healthy();
        facts.hub.members = Err(Unread::NoKind);
        facts.choice = Ok(Some([("cluster".to_owned(), "paris".to_owned())].into()));
        assert_eq!(told(&addresses(&facts)), ["ok nobody dials this cluster: it dials the others"]);
        facts.peers = Ok(vec![peer("berlin", &[], &json!({}))]);
        assert_eq!(
            told(&addresses(&facts)),
            [
                "WRONG neither this cluster nor berlin tells where it is dialled → give --advertise to `landbridge init` or `landbridge join` in one of each pair",
            ]
        );
    }

    #[test]
    fn what_ends_soon_or_has_ended_is_told() {
        let of = |what: &str, hours: i64| {
            let facts = healthy();
            let until = Timestamp::from_millis(facts.now.as_millis() + hours * 3_600_000);
            let all = vec![Certificate { what: what.into(), until: Ok(until) }];
            told(&certificates(&Facts { certificates: all, deployments: Ok(Vec::new()), ..facts }))
        };
        assert_eq!(of("authority of the gateways", 24 * 80), ["ok the first ends in 80 d"]);
        assert_eq!(
            of("authority of the gateways", 24 * 19),
            [
                "note authority of the gateways ends in 19 d → it should have been renewed: see `hub`, or join again with a new token",
            ]
        );
        assert_eq!(of("credential of the hub", 24), ["ok the first ends in 24 h"]);
        assert!(
            of("credential of the hub", 5)[0].starts_with("note credential of the hub ends in 5 h")
        );
        assert!(of("root of the set", -1)[0].starts_with("WRONG root of the set has ended"));
    }

    #[test]
    fn an_authority_that_is_missing_keeps_gateways_from_starting() {
        let none = Facts { certificates: Vec::new(), ..healthy() };
        let told = told(&certificates(&none));
        assert!(
            told[0].starts_with("WRONG there is no Secret landbridge-system/landbridge-member"),
            "{told:?}"
        );
        // Plain processes have it as files.
        assert_eq!(certificates(&Facts { deployments: Ok(Vec::new()), ..none }), Vec::new());
    }

    #[test]
    fn a_member_that_is_silent_suspended_or_too_old_is_told() {
        let mut facts = healthy();
        let status = &mut facts.profiles.as_mut().unwrap()[1].status;
        let one = &mut status.as_mut().unwrap().conditions[0];
        (one.status, one.reason, one.message) = (
            "Unknown".into(),
            "HeartbeatMissed".into(),
            "Nothing is heard of the member's controller.".into(),
        );
        facts.hub.members.as_mut().unwrap()[1].spec.suspended = true;
        let found = told(&members(&facts));
        assert!(
            found[0].starts_with(
                "WRONG tokyo: Nothing is heard of the member's controller (HeartbeatMissed) → "
            ),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("note tokyo is suspended: what it exports is withheld → "),
            "{found:?}"
        );
    }
}
