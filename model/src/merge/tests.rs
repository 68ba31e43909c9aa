//! The rules of KEP-1645 and the worked examples, as exports in and a merge out.

use std::num::NonZeroU16;

use super::*;
use crate::port::Protocol;

/// `name number[/protocol]`, or `number` for an unnamed port.
fn port(text: &str) -> ServicePort {
    let (name, rest) = text.split_once(' ').map_or((None, text), |(name, rest)| (Some(name), rest));
    let (number, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
    ServicePort {
        name: name.map(|name| PortName::parse(name).unwrap()),
        key: PortKey {
            protocol: protocol.parse::<Protocol>().unwrap(),
            number: number.parse::<NonZeroU16>().unwrap(),
        },
        app_protocol: None,
    }
}

fn export(cluster: &str, since: i64, ports: &[&str]) -> Export {
    Export {
        cluster: ClusterId::parse(cluster).unwrap(),
        service: ServiceKey::parse("shop", "web").unwrap(),
        since: Timestamp::from_millis(since),
        kind: ServiceKind::ClusterSetIp,
        ports: ports.iter().map(|text| port(text)).collect(),
        families: vec![IpFamily::V4],
        affinity: SessionAffinity::None,
        internal_traffic_policy: Some("Cluster".into()),
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        guarded: false,
        zones: BTreeMap::new(),
    }
}

/// One line a port: `http 80/TCP from paris served by paris,tokyo`; then the conflicts.
fn check(exports: &[Export], expected: &str) {
    let merged = merge(exports).unwrap();
    let mut text = String::new();
    for port in &merged.ports {
        let servers: Vec<&str> = port.served_by.iter().map(ClusterId::as_str).collect();
        text += &format!("{} from {} served by {}\n", port.port, port.from, servers.join(","));
    }
    for conflict in &merged.conflicts {
        text += &format!("{}: {}\n", conflict.reason.as_str(), conflict.message);
    }
    let expected: String =
        expected.trim().lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(text, expected);
    let reversed: Vec<Export> = exports.iter().rev().cloned().collect();
    assert_eq!(
        merge(&reversed),
        Some(merged),
        "the order in which exports are read must not matter"
    );
}

#[test]
fn nothing_exported_is_no_import() {
    assert_eq!(merge([]), None);
}

/// Worked example A: "oldest export first; a port is dropped when its name is taken, then when its (protocol,
/// number) is taken"; "a Service serves an import port if it has that protocol and number, whatever the name".
#[test]
fn ports_one_conflict() {
    check(
        &[
            export("paris", 0, &["http 80", "grpc 9090"]),
            export("tokyo", 5_000, &["http 81", "grpc 9090", "admin 9000"]),
        ],
        r#"
        http 80/TCP from paris served by paris
        grpc 9090/TCP from paris served by paris,tokyo
        admin 9000/TCP from tokyo served by tokyo
        PortConflict: Conflicting ports. Using "http 80/TCP" from oldest service export in "paris", not "http 81/TCP" from "tokyo". 1/2 clusters disagree.
        "#,
    );
}

/// Worked example A, "then paris un-exports": tokyo's order and numbers.
#[test]
fn the_survivor_brings_its_own_ports() {
    check(
        &[export("tokyo", 5_000, &["http 81", "grpc 9090", "admin 9000"])],
        "http 81/TCP from tokyo served by tokyo
         grpc 9090/TCP from tokyo served by tokyo
         admin 9000/TCP from tokyo served by tokyo",
    );
}

/// KEP-1645 "Service Port": the union of ports, and a conflict where they are not identical.
#[test]
fn a_union_without_loss_is_a_conflict_too() {
    check(
        &[
            export("c1", 0, &["tcp 42", "udp 42/UDP"]),
            export("c2", 1_000, &["tcp 42", "stcp 142/SCTP"]),
        ],
        r#"
        tcp 42/TCP from c1 served by c1,c2
        udp 42/UDP from c1 served by c1
        stcp 142/SCTP from c2 served by c2
        PortConflict: Conflicting ports. Using the union of all exports: "udp 42/UDP" from oldest service export in "c1" is not exported by "c2". 1/2 clusters disagree.
        "#,
    );
}

#[test]
fn one_number_under_two_names_is_one_port_that_both_serve() {
    check(
        &[export("c1", 0, &["http 80"]), export("c2", 1_000, &["web 80", "80/UDP"])],
        r#"
        http 80/TCP from c1 served by c1,c2
        80/UDP from c2 served by c2
        PortConflict: Conflicting ports. Using "http 80/TCP" from oldest service export in "c1", not "web 80/TCP" from "c2". 1/2 clusters disagree.
        "#,
    );
}

#[test]
fn a_port_may_lose_to_one_that_is_not_of_the_oldest() {
    check(
        &[
            export("c1", 0, &["http 80"]),
            export("c2", 1_000, &["http 80", "admin 90"]),
            export("c3", 2_000, &["http 80", "admin 91"]),
        ],
        r#"
        http 80/TCP from c1 served by c1,c2,c3
        admin 90/TCP from c2 served by c2
        PortConflict: Conflicting ports. Using "admin 90/TCP" from older service export in "c2", not "admin 91/TCP" from "c3". 2/3 clusters disagree.
        "#,
    );
}

/// "tie: by cluster id".
#[test]
fn of_two_exports_of_the_same_age_the_lower_id_wins() {
    let merged = merge(&[export("b", 0, &["x 1"]), export("a", 0, &["x 2"])]).unwrap();
    assert_eq!(merged.clusters.iter().map(ClusterId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(merged.ports[0].port, port("x 2"));
}

/// KEP-1645 "Headlessness": "the conflict resolution policy" decides; who disagrees serves nothing.
#[test]
fn the_oldest_decides_whether_an_import_is_headless() {
    let mut younger = export("c2", 1_000, &["http 80"]);
    younger.kind = ServiceKind::Headless;
    check(
        &[export("c1", 0, &["http 80"]), younger],
        r#"
        http 80/TCP from c1 served by c1
        TypeConflict: Conflicting type. Using "ClusterSetIP" from oldest service export in "c1", not "Headless" from "c2". 1/2 clusters disagree.
        "#,
    );
}

/// KEP-1645 "Labels and Annotations": the whole set of the oldest wins, nothing is merged.
#[test]
fn labels_and_annotations_are_the_oldest_ones() {
    let labelled = |mut export: Export, value: &str| {
        export.labels.insert("team".into(), value.into());
        export.annotations.insert("note".into(), value.into());
        export
    };
    let mut extra = labelled(export("c2", 1, &["http 80"]), "blue");
    extra.labels.insert("only".into(), "here".into());
    let exports = [labelled(export("c1", 0, &["http 80"]), "red"), extra];
    let merged = merge(&exports).unwrap();
    assert_eq!(merged.labels, exports[0].labels);
    assert_eq!(merged.annotations, exports[0].annotations);
    let reasons: Vec<&str> = merged.conflicts.iter().map(|c| c.reason.as_str()).collect();
    assert_eq!(reasons, ["LabelsConflict", "AnnotationsConflict"]);
}

#[test]
fn every_other_property_is_the_oldest_ones_and_told() {
    use std::time::Duration;
    let mut younger = export("c2", 1_000, &["http 80"]);
    younger.affinity = SessionAffinity::ClientIp { timeout: Duration::from_secs(10) };
    younger.internal_traffic_policy = Some("Local".into());
    younger.traffic_distribution = Some("PreferClose".into());
    younger.families = vec![IpFamily::V6, IpFamily::V4];
    let merged = merge(&[export("c1", 0, &["http 80"]), younger]).unwrap();
    assert_eq!(merged.affinity, SessionAffinity::None);
    assert_eq!(merged.internal_traffic_policy.as_deref(), Some("Cluster"));
    assert_eq!(merged.traffic_distribution, None);
    assert_eq!(merged.families, [IpFamily::V4, IpFamily::V6]);
    let reasons: Vec<&str> = merged.conflicts.iter().map(|c| c.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "SessionAffinityConflict",
            "SessionAffinityConfigConflict",
            "InternalTrafficPolicyConflict",
            "TrafficDistributionConflict",
            "IPFamilyConflict"
        ]
    );
}

#[test]
fn a_message_stays_short_whatever_was_exported() {
    let mut younger = export("c2", 1_000, &["http 80"]);
    younger.annotations.insert("big".into(), "x".repeat(1 << 20));
    let merged = merge(&[export("c1", 0, &["http 80"]), younger]).unwrap();
    assert!(merged.conflicts[0].message.len() < 1_000);
}
