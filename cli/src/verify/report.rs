//! Pure: what people and programs are told of a run.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{judge::Problem, seen::Seen};
use crate::{
    command::output::table,
    probe::{Call, Step},
};

/// All of one run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) set: String,
    pub(crate) namespace: String,
    pub(crate) seen: Vec<Seen>,
    pub(crate) problems: Vec<Problem>,
    /// What of it could not be taken away, by cluster.
    pub(crate) left: Vec<String>,
}

impl Report {
    /// Whether everybody calls everybody.
    pub(crate) fn holds(&self) -> bool {
        self.problems.is_empty() && self.calls().iter().all(|(_, call)| call.holds())
    }

    /// In one line for the end, where it does not hold.
    pub(crate) fn verdict(&self) -> String {
        let pairs = self.seen.len() * self.seen.len();
        let good = self.calls().iter().filter(|(_, call)| call.holds()).count();
        format!("{} of {pairs} pairs of clusters fail", pairs - good)
    }

    fn calls(&self) -> Vec<(&str, &Call)> {
        let calls = self.seen.iter().flat_map(|seen| {
            let calls = seen.called.iter().flat_map(|called| &called.calls);
            calls.map(|call| (seen.cluster.as_str(), call))
        });
        calls.collect()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let heading = ["FROM", "TO", "NAME", "TCP", "UDP"].map(str::to_owned);
        let mut rows = vec![heading];
        for from in &self.seen {
            for to in &self.seen {
                let calls = from.called.iter().flat_map(|called| &called.calls);
                let call = calls.into_iter().find(|call| call.to == to.cluster);
                let [name, tcp, udp] = call.map_or_else(
                    || ["-", "-", "-"].map(str::to_owned),
                    |call| [&call.name, &call.tcp, &call.udp].map(shown),
                );
                rows.push([from.cluster.clone(), to.cluster.clone(), name, tcp, udp]);
            }
        }
        let mut text = format!("Set {}, namespace {}\n{}", self.set, self.namespace, table(&rows));
        // Writing to a String cannot fail.
        for problem in &self.problems {
            let way = match &problem.from {
                Some(from) => format!("{from} to {}", problem.cluster),
                None => problem.cluster.clone(),
            };
            let _ =
                writeln!(text, "\n{way}, {}: {}\n  {}", problem.step, problem.says, problem.remedy);
        }
        for left in &self.left {
            let _ = writeln!(text, "\nnot taken away: {left}");
        }
        if self.holds() {
            text.push_str("Every cluster calls every other one by name.\n");
        }
        text
    }

    /// For programs.
    pub(crate) fn described(&self) -> Value {
        let calls: Vec<Value> = self
            .calls()
            .into_iter()
            .map(|(from, call)| {
                json!({"from": from, "to": call.to, "holds": call.holds(),
                "name": step(&call.name), "tcp": step(&call.tcp), "udp": step(&call.udp)})
            })
            .collect();
        json!({"clusterSet": self.set, "namespace": self.namespace, "holds": self.holds(),
            "clusters": self.seen.iter().map(|seen| seen.cluster.as_str()).collect::<Vec<_>>(),
            "calls": calls, "problems": self.problems, "left": self.left})
    }
}

/// A step as a cell.
fn shown(step: &Step) -> String {
    match step {
        Step::Failed { .. } => "FAILED".into(),
        Step::Held { micros } if *micros >= 1_000_000 => {
            let tenths = micros / 100_000;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        Step::Held { micros } => {
            let tenths = micros / 100;
            format!("{}.{} ms", tenths / 10, tenths % 10)
        }
        Step::Untried => "-".into(),
    }
}

fn step(step: &Step) -> Value {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Described<'a> {
        holds: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        micros: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        says: Option<&'a str>,
    }
    let described = match step {
        Step::Failed { says } => Described { holds: false, micros: None, says: Some(says) },
        Step::Held { micros } => Described { holds: true, micros: Some(*micros), says: None },
        Step::Untried => Described { holds: false, micros: None, says: None },
    };
    json!(described)
}

/// Clusters for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::{probe::Called, verify::seen::Other};

    pub(crate) fn failed(says: &str) -> Step {
        Step::Failed { says: says.into() }
    }

    /// One of paris and berlin, of which nothing is wrong.
    pub(crate) fn seen(cluster: &str) -> Seen {
        let held = |micros| Step::Held { micros };
        let call = |to: &str| Call {
            to: to.into(),
            name: held(if to == cluster { 2_412_345 } else { 812_900 }),
            tcp: held(1_250),
            udp: held(940),
        };
        let other = Other {
            is_imported: true,
            import: None,
            link: Some((true, "Connected: All gateways.".into())),
        };
        Seen {
            cluster: cluster.into(),
            context: format!("kind-{cluster}"),
            called: Some(Called { zone: held(900), calls: vec![call("paris"), call("berlin")] }),
            others: ["paris", "berlin"].map(|name| (name.to_owned(), other.clone())).into(),
            ..Seen::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use crate::verify::judge;

    fn report(seen: Vec<Seen>) -> Report {
        let problems = judge::problems(&seen, "landbridge-verify-x7k2p");
        let [set, namespace] = ["prod", "landbridge-verify-x7k2p"].map(str::to_owned);
        Report { set, namespace, seen, problems, left: Vec::new() }
    }

    #[test]
    fn where_all_is_well_people_see_how_long_it_took() {
        let report = report(vec![seen("paris"), seen("berlin")]);
        assert!(report.holds());
        let expected = "\
Set prod, namespace landbridge-verify-x7k2p
FROM     TO       NAME       TCP      UDP
paris    paris    2.4 s      1.2 ms   0.9 ms
paris    berlin   812.9 ms   1.2 ms   0.9 ms
berlin   paris    812.9 ms   1.2 ms   0.9 ms
berlin   berlin   2.4 s      1.2 ms   0.9 ms
Every cluster calls every other one by name.
";
        assert_eq!(report.text(), expected);
    }

    #[test]
    fn what_is_wrong_is_told_by_pair_and_step_with_what_to_do() {
        let (mut paris, mut berlin) = (seen("paris"), seen("berlin"));
        let call = &mut paris.called.as_mut().unwrap().calls[1];
        call.tcp = failed("10.96.0.9:8080: no answer within 3s");
        call.udp = Step::Untried;
        berlin.called = None;
        berlin.caller = Some("pod calls: Pending".into());
        let mut report = report(vec![paris, berlin]);
        report.left.push("berlin: namespace landbridge-verify-x7k2p: it is still going".into());
        assert!(!report.holds());
        assert_eq!(report.verdict(), "3 of 4 pairs of clusters fail");
        let expected = "\
Set prod, namespace landbridge-verify-x7k2p
FROM     TO       NAME       TCP      UDP
paris    paris    2.4 s      1.2 ms   0.9 ms
paris    berlin   812.9 ms   FAILED   -
berlin   paris    -          -        -
berlin   berlin   -          -        -

berlin, caller: pod calls: Pending
  see `kubectl --context kind-berlin describe pods --namespace landbridge-verify-x7k2p` while this runs

paris to berlin, tcp: 10.96.0.9:8080: no answer within 3s
  is there a NetworkPolicy in the way, of pods to gateways (ports 10000-29999) in paris or of gateways to pods in berlin?

not taken away: berlin: namespace landbridge-verify-x7k2p: it is still going
";
        assert_eq!(report.text(), expected);
    }

    #[test]
    fn programs_are_told_the_same() {
        let mut paris = seen("paris");
        paris.called.as_mut().unwrap().calls[1].udp = failed("no answer");
        let described = report(vec![paris, seen("berlin")]).described();
        assert_eq!(described["holds"], false);
        assert_eq!(described["clusters"], json!(["paris", "berlin"]));
        let call = &described["calls"][1];
        assert_eq!((&call["from"], &call["to"]), (&json!("paris"), &json!("berlin")));
        assert_eq!(call["tcp"], json!({"holds": true, "micros": 1250}));
        assert_eq!(call["udp"], json!({"holds": false, "says": "no answer"}));
        assert_eq!(described["problems"][0]["step"], "udp");
    }
}
