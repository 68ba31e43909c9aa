//! Pure: what people are told of a cluster's state and of what was found wrong.

use std::time::Duration;

use landbridge_model::{ServiceKey, Timestamp};

use super::{
    checks::{Finding, Level},
    report::{Link, Member, Problem, Report},
    walk::{self, Step, Verdict},
};
use crate::command::output::table;

/// A length of time in its largest unit: people compare it with a day or a minute.
pub(crate) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How a cluster stands in its set; each export, import and gateway where `wide`.
pub(crate) fn status(report: &Report, now: Timestamp, wide: bool) -> String {
    let role = if report.is_hub { "hub" } else { "member" };
    let mut text = format!(
        "{}, {role} of set {}, on Kubernetes {}\n",
        or(&report.cluster, "a cluster that does not say what it is called"),
        or(&report.cluster_set, "(none)"),
        report.kubernetes
    );
    section(&mut text, &components(report));
    section(&mut text, &members(report, now, wide));
    if wide {
        section(&mut text, &each_link(&report.links, now));
    } else {
        section(&mut text, &links(&report.links, now));
    }
    text.push('\n');
    text.push_str(&services(report));
    if wide {
        section(&mut text, &exports(report));
        section(&mut text, &imports(report));
    }
    section(&mut text, &certificates(report));
    text.push('\n');
    text.push_str(&problems(&report.problems));
    text
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn cell(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| "-".to_owned())
}

/// A table after an empty line; nothing where it has a heading alone.
fn section<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    if rows.len() > 1 {
        text.push('\n');
        text.push_str(&table(rows));
    }
}

fn components(report: &Report) -> Vec<[String; 3]> {
    let mut rows = vec![["COMPONENT", "READY", "VERSION"].map(str::to_owned)];
    rows.extend(report.components.iter().map(|one| {
        let versions = one.versions.join(", ");
        let ready = format!("{}/{}", one.ready, one.wanted);
        [one.name.clone(), ready, or(&versions, "-").to_owned()]
    }));
    rows
}

fn members(report: &Report, now: Timestamp, wide: bool) -> Vec<[String; 7]> {
    let last = if wide { "GATEWAYS" } else { "" };
    let head = ["MEMBER", "STATE", "NETWORK", "VERSION", "KUBERNETES", "HEARD", last];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.members.iter().map(|one: &Member| {
        let here = if one.is_own { " (here)" } else { "" };
        let heard = one.heartbeat.as_deref().and_then(|at| age(at, now));
        let gateways =
            if wide { or(&one.gateways.join(", "), "-").to_owned() } else { String::new() };
        [
            format!("{}{here}", one.cluster),
            cell(one.state.as_ref()),
            cell(one.network.as_ref()),
            cell(one.version.as_ref()),
            cell(one.kubernetes.as_ref()),
            heard.map_or_else(|| "-".to_owned(), |age| format!("{age} ago")),
            gateways,
        ]
    }));
    rows
}

/// How long ago that was; a clock that is ahead of ours says "now".
fn age(at: &str, now: Timestamp) -> Option<String> {
    let at: jiff::Timestamp = at.parse().ok()?;
    let at = Timestamp::from_millis(at.as_millisecond());
    Some(length(if at > now { Duration::ZERO } else { now.since(at) }))
}

fn millis(micros: Option<u64>) -> String {
    micros.map_or_else(
        || "-".to_owned(),
        |micros| format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
    )
}

/// A line for each peer.
fn links(links: &[Link], now: Timestamp) -> Vec<[String; 6]> {
    let head = ["LINK TO", "GATEWAYS", "OVER", "ROUND TRIP", "SINCE", ""];
    let mut rows = vec![head.map(str::to_owned)];
    for of_peer in links.chunk_by(|one, next| one.peer == next.peer) {
        let up: Vec<&Link> = of_peer.iter().filter(|link| link.state == "Connected").collect();
        let mut over: Vec<&str> = up.iter().filter_map(|link| link.transport.as_deref()).collect();
        over.sort_unstable();
        over.dedup();
        let error =
            of_peer.iter().find_map(|link| link.last_error.clone()).filter(|_| up.is_empty());
        let since = up.iter().filter_map(|link| link.since.as_deref()).max();
        let known = of_peer.iter().filter(|link| !link.gateway.is_empty()).count();
        rows.push([
            of_peer.first().map(|link| link.peer.clone()).unwrap_or_default(),
            format!("{} of {known}", up.len()),
            or(&over.join(", "), "-").to_owned(),
            millis(up.iter().filter_map(|link| link.round_trip_micros).min()),
            since.and_then(|at| age(at, now)).unwrap_or_else(|| "-".to_owned()),
            error.unwrap_or_default(),
        ]);
    }
    rows
}

/// A line for each gateway and peer.
fn each_link(links: &[Link], now: Timestamp) -> Vec<[String; 7]> {
    let head = ["LINK TO", "OF GATEWAY", "STATE", "OVER", "ROUND TRIP", "SINCE", "LAST ERROR"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(links.iter().map(|link| {
        [
            link.peer.clone(),
            or(&link.gateway, "-").to_owned(),
            link.state.clone(),
            cell(link.transport.as_ref()),
            millis(link.round_trip_micros),
            link.since.as_deref().and_then(|at| age(at, now)).unwrap_or_else(|| "-".to_owned()),
            link.last_error.clone().unwrap_or_default(),
        ]
    }));
    rows
}

fn services(report: &Report) -> String {
    let ready = |all: usize, ready: usize, what: &str| {
        let s = if all == 1 { "" } else { "s" };
        match (all, ready) {
            (0, _) => format!("no {what}s"),
            (1, 1) => format!("1 {what}, ready"),
            (all, ready) if all == ready => format!("{all} {what}{s}, all ready"),
            (all, ready) => format!("{all} {what}{s}, {} not ready", all - ready),
        }
    };
    let exports = report.exports.iter().filter(|one| one.is_ready).count();
    let imports = report.imports.iter().filter(|one| one.is_ready).count();
    format!(
        "{}; {}\n",
        ready(report.exports.len(), exports, "export"),
        ready(report.imports.len(), imports, "import")
    )
}

fn is_ready(is_ready: bool, reason: Option<&String>) -> String {
    if is_ready {
        "yes".to_owned()
    } else {
        reason.cloned().unwrap_or_else(|| "not told yet".into())
    }
}

fn exports(report: &Report) -> Vec<[String; 2]> {
    let mut rows = vec![["EXPORT", "READY"].map(str::to_owned)];
    rows.extend(report.exports.iter().map(|one| {
        [format!("{}/{}", one.namespace, one.name), is_ready(one.is_ready, one.reason.as_ref())]
    }));
    rows
}

fn imports(report: &Report) -> Vec<[String; 5]> {
    let mut rows = vec![["IMPORT", "TYPE", "ADDRESS", "READY", "EXPORTED BY"].map(str::to_owned)];
    rows.extend(report.imports.iter().map(|one| {
        [
            format!("{}/{}", one.namespace, one.name),
            one.type_.clone(),
            or(&one.ips.join(", "), "-").to_owned(),
            is_ready(one.is_ready, one.reason.as_ref()),
            one.clusters.join(", "),
        ]
    }));
    rows
}

fn certificates(report: &Report) -> Vec<[String; 3]> {
    let mut rows = vec![["CERTIFICATE", "ENDS", "LEFT"].map(str::to_owned)];
    rows.extend(report.certificates.iter().map(|one| {
        let left = one.seconds_left.map(|left| match left {
            0 => "it has ended".to_owned(),
            left => length(Duration::from_secs(left)),
        });
        let ends = one.ends.as_ref().or(one.unknown.as_ref());
        [one.what.clone(), cell(ends), left.unwrap_or_default()]
    }));
    rows
}

fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "No problems.\n".to_owned();
    }
    let mut text = "Problems\n".to_owned();
    let lines = problems.iter().map(|one| (one.level, one.check, &one.says, &one.remedy));
    text.push_str(&findings(lines));
    text
}

/// What was found by all checks.
pub(crate) fn checks(found: &[Finding], is_installed: bool) -> String {
    let mut text = if is_installed {
        String::new()
    } else {
        "Nothing of Landbridge runs here: what `landbridge init` and `landbridge join` need was looked at.\n".to_owned()
    };
    let level = |level| match level {
        Level::Good => "ok",
        Level::Note => "note",
        Level::Wrong => "wrong",
    };
    let lines =
        found.iter().map(|one| (level(one.level), one.check.name(), &one.says, &one.remedy));
    text.push_str(&findings(lines));
    if found.iter().any(|one| one.level != Level::Good) {
        text.push_str("Each check is explained in docs/checks.md, under its name.\n");
    }
    text
}

/// Lines of a level, a check, what it says, and below it what to do.
fn findings<'a>(
    found: impl Iterator<Item = (&'static str, &'static str, &'a String, &'a String)>,
) -> String {
    let mut rows = Vec::new();
    for (level, check, says, remedy) in found {
        let level = if level == "wrong" { "WRONG" } else { level };
        rows.push([format!("  {level}"), check.to_owned(), says.clone()]);
        if !remedy.is_empty() {
            rows.push([String::new(), String::new(), format!("→ {remedy}")]);
        }
    }
    table(&rows)
}

/// The way of a call, step by step, and what to see to first.
pub(crate) fn walk(steps: &[Step], service: &ServiceKey) -> String {
    let first = walk::first_wrong(steps);
    let mut rows = Vec::new();
    for step in steps {
        let verdict = match step.verdict {
            Verdict::Good => "ok",
            Verdict::Note => "note",
            Verdict::Unknown => "?",
            Verdict::Wrong => "WRONG",
        };
        rows.push([format!("  {verdict}"), step.step.to_owned(), step.says.clone()]);
        // What follows from the first thing that is wrong needs no remedy of its own.
        if step.verdict != Verdict::Wrong && !step.remedy.is_empty() {
            rows.push([String::new(), String::new(), format!("→ {}", step.remedy)]);
        }
    }
    let end = match first {
        Some(step) => format!("First of all: {}.\n→ {}\n", step.says, step.remedy),
        None => "Nothing is in the way, as far as this cluster can tell.\n".to_owned(),
    };
    format!("{service}\n{}{end}", table(&rows))
}

/// What is wrong, in one line for the end.
pub(crate) fn wrong(found: &[Finding]) -> Option<String> {
    let mut names: Vec<&str> = found
        .iter()
        .filter(|finding| finding.level == Level::Wrong)
        .map(|finding| finding.check.name())
        .collect();
    names.dedup();
    let are = if names.len() == 1 { "is not as it should be" } else { "are not as they should be" };
    (!names.is_empty()).then(|| format!("{} {are}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::{
        Facts, checks as look,
        report::of,
        testing::{NOW, conditions, export, healthy, peer},
    };

    #[test]
    fn a_cluster_that_is_well_is_told_at_a_glance() {
        assert_eq!(
            status(&of(&healthy()), NOW, false),
            "\
paris, hub of set prod, on Kubernetes v1.34.2

COMPONENT               READY   VERSION
landbridge-controller   2/2     0.1.0
landbridge-dns          2/2     0.1.0
landbridge-gateway      2/2     0.1.0

MEMBER         STATE   NETWORK   VERSION   KUBERNETES   HEARD
paris (here)   Alive   paris     0.1.0     v1.34.2      3 s ago
tokyo          Alive   tokyo     0.1.0     v1.34.2      3 s ago

LINK TO   GATEWAYS   OVER   ROUND TRIP   SINCE
tokyo     2 of 2     quic   0.8 ms       2 d

1 export, ready; 2 imports, all ready

CERTIFICATE                 ENDS                   LEFT
authority of the gateways   2026-12-01T14:13:20Z   71 d
root of the set             2036-09-08T14:13:20Z   3640 d

No problems.
"
        );
    }

    #[test]
    fn a_member_that_asks_its_hub_is_no_hub() {
        let text = status(&of(&Facts { is_hub_elsewhere: true, ..healthy() }), NOW, false);
        assert!(text.starts_with("paris, member of set prod, on Kubernetes v1.34.2\n"), "{text}");
    }

    #[test]
    fn everything_is_told_where_that_is_asked() {
        let text = status(&of(&healthy()), NOW, true);
        for part in [
            "tokyo          Alive   tokyo     0.1.0     v1.34.2      3 s ago   192.0.2.11:4433\n",
            "LINK TO   OF GATEWAY   STATE       OVER   ROUND TRIP   SINCE   LAST ERROR\ntokyo     gateway-0    Connected   quic   0.8 ms       2 d\ntokyo     gateway-1    Connected   quic   12.4 ms      2 d\n",
            "EXPORT     READY\nshop/web   yes\n",
            "IMPORT     TYPE           ADDRESS      READY   EXPORTED BY\nshop/db    ClusterSetIP   10.96.12.8   yes     tokyo\nshop/web   ClusterSetIP   10.96.31.4   yes     paris, tokyo\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    fn unwell() -> Facts {
        let status = serde_json::json!({
            "links": {"gateway-0": {"state": "Dialing", "lastError": "timed out"}},
            "conditions": conditions(&[("Connected", "False", "Dialing", "timed out")])});
        let not = conditions(&[("Valid", "False", "NoService", "There is no Service \"web\".")]);
        Facts {
            peers: Ok(vec![peer("tokyo", &["198.51.100.7:4433"], &status)]),
            exports: Ok(vec![export("shop", "web", &not)]),
            ..healthy()
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        let text = status(&of(&unwell()), NOW, false);
        let end = "\
LINK TO   GATEWAYS   OVER   ROUND TRIP   SINCE
tokyo     0 of 1     -      -            -       timed out

1 export, 1 not ready; 2 imports, all ready

CERTIFICATE                 ENDS                   LEFT
authority of the gateways   2026-12-01T14:13:20Z   71 d
root of the set             2036-09-08T14:13:20Z   3640 d

Problems
  WRONG   links     tokyo: timed out (Dialing)
                    → let UDP and TCP through to 198.51.100.7:4433, from here or from there: firewalls, security groups, the port of the nodes or the load balancer
  WRONG   exports   shop/web: There is no Service \"web\" (NoService)
                    → create the Service of this name, or delete the ServiceExport
";
        assert!(text.ends_with(end), "{text}");
        let found = look::all(&unwell());
        assert_eq!(wrong(&found).unwrap(), "links, exports are not as they should be");
        assert_eq!(wrong(&look::all(&healthy())), None);
    }

    #[test]
    fn checks_are_lines_with_what_to_do_below() {
        let text = checks(&look::all(&crate::seen::testing::bare()), false);
        assert_eq!(
            text,
            "\
Nothing of Landbridge runs here: what `landbridge init` and `landbridge join` need was looked at.
  ok   server        Kubernetes v1.34.2
  ok   permissions   everything that `landbridge init` and `landbridge join` do
  ok   kinds         none is there yet: `landbridge init` and `landbridge join` bring them
  ok   identity      it does not say yet what it is called
  ok   dns           CoreDNS can be told of our server
"
        );
        let text = checks(&look::all(&healthy()), true);
        assert!(text.starts_with("  ok   server             Kubernetes v1.34.2\n"), "{text}");
        assert!(
            text.contains("  ok   ports              2 of 20000 TCP and 0 of 20000 UDP are used\n"),
            "{text}"
        );
        assert!(!text.contains("docs/checks.md"), "{text}");
    }

    #[test]
    fn lengths_of_time_are_for_a_glance() {
        for (seconds, text) in [(119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 d")] {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
    }
}
