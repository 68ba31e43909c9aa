//! Pure: what is wrong, of each pair of clusters the first thing on the way of a call, and what is to be done about it.

use serde::Serialize;

use super::{objects, seen::Seen};
use crate::probe::{Call, Step};

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// The cluster that calls; none where it is the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The cluster that is called, or has something of its own.
    pub(crate) cluster: String,
    /// How far a call comes.
    pub(crate) step: &'static str,
    pub(crate) says: String,
    pub(crate) remedy: String,
}

/// All that is wrong, with what is one cluster's own first.
pub(crate) fn problems(all: &[Seen], namespace: &str) -> Vec<Problem> {
    let mut problems: Vec<Problem> = all.iter().flat_map(|seen| own(seen, namespace)).collect();
    for from in all {
        for to in all {
            let is_told = |step: &str, cluster: &str| {
                problems.iter().any(|one| one.step == step && one.cluster == cluster)
            };
            // What the one does not offer, or the other could not ask for, is told once.
            let hopeless = ["pod", "export"].iter().any(|step| is_told(step, &to.cluster))
                || ["caller", "dns"].iter().any(|step| is_told(step, &from.cluster));
            if !hopeless {
                problems.extend(between(from, to, namespace));
            }
        }
    }
    problems
}

/// What is wrong with one cluster, whoever calls.
fn own(seen: &Seen, namespace: &str) -> Vec<Problem> {
    let context = context(seen);
    let problem = |step, says: &str, remedy: String| Problem {
        from: None,
        cluster: seen.cluster.clone(),
        step,
        says: says.to_owned(),
        remedy,
    };
    let mut problems = Vec::new();
    if let Some(says) = &seen.server {
        let remedy = "the image is that of the cluster's own components, unless --image says otherwise: can its nodes pull it, and is there room for a pod?";
        problems.push(problem("pod", says, remedy.into()));
    } else if let Some(says) = &seen.export {
        let remedy = if says.contains("may not export") {
            "let the member export the namespace of this run, and give it with --namespace"
                .to_owned()
        } else {
            format!(
                "see `kubectl{context} --namespace landbridge-system logs deployment/landbridge-controller`"
            )
        };
        problems.push(problem("export", says, remedy));
    }
    let Some(called) = &seen.called else {
        let says = seen.caller.as_deref().unwrap_or("its pod has reported nothing");
        let remedy =
            format!("see `kubectl{context} describe pods --namespace {namespace}` while this runs");
        // The same image could not be started twice.
        if seen.server.is_none() {
            problems.push(problem("caller", says, remedy));
        }
        return problems;
    };
    if let Step::Failed { says } = &called.zone {
        let says = format!("pods are told nothing of clusterset.local: {says}");
        let remedy = format!("tell the cluster's own DNS: `landbridge dns enable{context}`");
        problems.push(problem("dns", &says, remedy));
    }
    problems
}

/// The first thing that is wrong on the way of a call.
fn between(from: &Seen, to: &Seen, namespace: &str) -> Option<Problem> {
    let called = from.called.as_ref()?;
    let call = called.calls.iter().find(|call| call.to == to.cluster)?;
    if call.holds() {
        return None;
    }
    let (step, says, remedy) = first(from, to, call, namespace);
    let [caller, cluster] = [from, to].map(|seen| seen.cluster.clone());
    Some(Problem { from: Some(caller), cluster, step, says, remedy })
}

fn first(from: &Seen, to: &Seen, call: &Call, namespace: &str) -> (&'static str, String, String) {
    let other = from.others.get(&to.cluster).cloned().unwrap_or_default();
    let is_far = from.cluster != to.cluster;
    let context = context(from);
    let service = objects::service(&to.cluster);
    let logs = format!(
        "see `kubectl{context} --namespace landbridge-system logs deployment/landbridge-controller`"
    );
    if !other.is_imported {
        let (says, remedy) = match &other.link {
            None if is_far => (
                format!("{} does not know of {}", from.cluster, to.cluster),
                format!(
                    "its controller does not hear from the hub, or {} is no member: {logs}",
                    to.cluster
                ),
            ),
            _ => (format!("{} has no ServiceImport {namespace}/{service}", from.cluster), logs),
        };
        return ("import", says, remedy);
    }
    if let (Some(says), false) = (&other.import, call.name.holds()) {
        return ("import", says.clone(), logs);
    }
    if let Step::Failed { says } = &call.name {
        let remedy =
            format!("ask in a pod there: `nslookup {}`", objects::host(&to.cluster, namespace));
        return ("name", says.clone(), remedy);
    }
    let (step, says) = match (&call.tcp, &call.udp) {
        (Step::Failed { says }, _) => ("tcp", says.clone()),
        (_, Step::Failed { says }) => ("udp", says.clone()),
        _ => ("tcp", "was not tried".to_owned()),
    };
    match other.link {
        Some((false, link)) if is_far => (
            "link",
            format!("{says}; the link to {} does not stand: {link}", to.cluster),
            format!(
                "one of the two has to reach the other's gateways, over UDP or TCP: see `kubectl{context} get peers --output=wide`"
            ),
        ),
        _ => (
            step,
            says,
            format!(
                "is there a NetworkPolicy in the way, of pods to gateways (ports 10000-29999) in {} or of gateways to pods in {}?",
                from.cluster, to.cluster
            ),
        ),
    }
}

/// What has to be given to reach the same cluster again.
fn context(seen: &Seen) -> String {
    if seen.context.is_empty() { String::new() } else { format!(" --context {}", seen.context) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::report::testing::{failed, seen};

    fn told(all: &[Seen]) -> Vec<String> {
        let told = |one: Problem| {
            let from = one.from.map(|from| format!("{from}>")).unwrap_or_default();
            format!("{from}{} {}: {} | {}", one.cluster, one.step, one.says, one.remedy)
        };
        problems(all, "verify-x").into_iter().map(told).collect()
    }

    #[test]
    fn nothing_is_wrong_where_all_calls_are_answered() {
        assert_eq!(told(&[seen("paris"), seen("berlin")]), [""; 0]);
    }

    /// What hinders every call of one cluster is told once, and not of each pair.
    #[test]
    fn what_is_one_clusters_own_is_told_once() {
        let mut berlin = seen("berlin");
        berlin.server = Some("pod answers: ErrImagePull: no such image".into());
        berlin.called = None;
        let told_of = told(&[seen("paris"), berlin]);
        assert_eq!(told_of.len(), 1);
        assert!(told_of[0].starts_with("berlin pod: pod answers: ErrImagePull"), "{told_of:?}");

        let mut berlin = seen("berlin");
        let called = berlin.called.as_mut().unwrap();
        called.zone = failed("no records found");
        called.calls.iter_mut().for_each(|call| call.name = failed("Name or service not known"));
        let expected = "berlin dns: pods are told nothing of clusterset.local: no records found | tell the cluster's own DNS: `landbridge dns enable --context kind-berlin`";
        assert_eq!(told(&[seen("paris"), berlin]), [expected]);

        let mut berlin = seen("berlin");
        berlin.export = Some("NamespaceNotAllowed: the member may not export namespace".into());
        let told_of = told(&[seen("paris"), berlin]);
        assert!(told_of[0].contains("give it with --namespace"), "{told_of:?}");
    }

    #[test]
    fn of_a_pair_the_first_thing_on_the_way_is_told() {
        let all = |change: &dyn Fn(&mut Seen)| {
            let mut paris = seen("paris");
            change(&mut paris);
            told(&[paris, seen("berlin")])
        };
        let call = |seen: &mut Seen| {
            let called = seen.called.as_mut().unwrap();
            let call = &mut called.calls[1];
            call.tcp = failed("10.96.0.9:8080: no answer within 3s");
            call.udp = Step::Untried;
        };
        let lost = all(&|seen| {
            call(seen);
            let link = Some((false, "Dialing: 192.0.2.7:4433: no answer".into()));
            seen.others.get_mut("berlin").unwrap().link = link;
        });
        assert_eq!(
            lost,
            [
                "paris>berlin link: 10.96.0.9:8080: no answer within 3s; the link to berlin does not stand: Dialing: 192.0.2.7:4433: no answer | one of the two has to reach the other's gateways, over UDP or TCP: see `kubectl --context kind-paris get peers --output=wide`"
            ]
        );
        let refused = all(&call);
        assert!(refused[0].starts_with("paris>berlin tcp: 10.96.0.9:8080"), "{refused:?}");
        assert!(refused[0].contains("NetworkPolicy"), "{refused:?}");
        let unknown = all(&|seen| {
            seen.called.as_mut().unwrap().calls[1].name = failed("Name or service not known");
            seen.others.clear();
        });
        assert!(
            unknown[0].starts_with("paris>berlin import: paris does not know of berlin |"),
            "{unknown:?}"
        );
        let unresolved = all(&|seen| {
            seen.called.as_mut().unwrap().calls[1].name = failed("Temporary failure");
        });
        assert!(
            unresolved[0].starts_with("paris>berlin name: Temporary failure | ask in a pod"),
            "{unresolved:?}"
        );
    }
}
