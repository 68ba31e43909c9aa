//! What is answered, sentence by sentence of the specifications. Every question goes through both ways of reading
//! packets.

use std::time::Instant;

use hickory_proto::op::Message;
use proptest::prelude::*;

use super::*;
use crate::{
    config::{CookieSecret, Ttl},
    fixture::{BERLIN, SOA, packet, snapshot, snapshot_at, told},
    snapshot::Builder,
    zone::Zone,
};

/// A packet from 192.0.2.7, in 2019.
pub(super) fn asked<'a>(
    snapshot: &'a Snapshot,
    rules: &'a Rules,
    transport: Transport,
) -> Asked<'a> {
    let source = "192.0.2.7".parse().unwrap();
    Asked { now: 1_559_731_985, rules, snapshot, source, transport, turn: 0 }
}

pub(super) fn rules(required: bool) -> Rules {
    Rules { forwards: false, jar: Jar::new(&CookieSecret::new([7; 16]), required) }
}

/// Answers a packet by the plain way and by the odd one, which must agree.
fn both_ways(packet: &[u8], snapshot: &Snapshot, transport: Transport) -> Vec<u8> {
    both_ways_by(packet, snapshot, transport, &rules(false))
}

fn both_ways_by(
    packet: &[u8],
    snapshot: &Snapshot,
    transport: Transport,
    rules: &Rules,
) -> Vec<u8> {
    let asked = asked(snapshot, rules, transport);
    let mut out = Vec::new();
    respond(packet, asked, &mut out);
    assert!(message::plain(packet).is_some(), "the plain way gave a plain question up");
    let mut other = Vec::new();
    match message::odd(packet) {
        Odd::Query(query) => write(&query, asked, &mut other),
        odd => panic!("the odd way refused it: {odd:?}"),
    };
    assert_eq!(out, other, "the two ways differ");
    out
}

#[track_caller]
fn check_at(snapshot: &Snapshot, question: &str, expected: &[&str]) {
    let udp = both_ways(&packet(question, Some(1232)), snapshot, Transport::Udp);
    assert_eq!(told(&udp), expected, "{question}");
    let tcp = both_ways(&packet(question, Some(1232)), snapshot, Transport::Tcp);
    assert_eq!(udp, tcp, "{question}: UDP and TCP differ");
    let message = Message::from_vec(&udp).unwrap();
    assert_eq!(message.metadata.id, 4711);
    assert!(message.metadata.recursion_desired, "RD is copied");
    assert_eq!(message.max_payload(), 1232);
}

#[track_caller]
fn check(fixture: &str, question: &str, expected: &[&str]) {
    check_at(&snapshot(fixture), question, expected);
}

/// The name exists, but not with a record of that type (RFC 2308 section 2.2). Section 3: "Name servers authoritative for
/// a zone MUST include the SOA record of the zone in the authority section of the response when reporting an NXDOMAIN or
/// indicating that no data of the requested type exists."
#[track_caller]
fn no_data(fixture: &str, question: &str) {
    check(fixture, question, &["NOERROR aa", &format!("authority @ {SOA}")]);
}

/// The name does not exist (RFC 2308 section 2.1), with the SOA record as above.
#[track_caller]
fn no_name(fixture: &str, question: &str) {
    check(fixture, question, &["NXDOMAIN aa", &format!("authority @ {SOA}")]);
}

const WEB: &str = "import shop/web ClusterSetIP 10.96.7.7 fd00:10:96::7 | http=80/TCP dns=53/TCP dns-udp=53/UDP =9000/TCP";

/// MCS DNS specification 2.2: "clusters implementing multicluster DNS will contain an additional `TXT` record responding
/// with the semantic version of the DNS schema"; its example has a TTL of 28800.
#[test]
fn schema_version() {
    check("", "dns-version TXT", &["NOERROR aa", "answer dns-version 28800 TXT 1.0.0"]);
    no_data("", "dns-version A");
}

/// MCS DNS specification 2.3.1: "If the `<clusterset-ip>` is an IPv4 address, an `A` record of the following form must
/// exist", and an AAAA record of an IPv6 address; "both `A` and `AAAA` records must be created to cover both IPv4 and IPv6
/// assigned ClusterSetIPs".
#[test]
fn cluster_set_ip_addresses() {
    check(WEB, "web.shop.svc A", &["NOERROR aa", "answer web.shop.svc 5 A 10.96.7.7"]);
    check(WEB, "web.shop.svc AAAA", &["NOERROR aa", "answer web.shop.svc 5 AAAA fd00:10:96::7"]);
    no_data("import shop/web ClusterSetIP 10.96.7.7", "web.shop.svc AAAA");
    no_data(WEB, "web.shop.svc TXT");
    no_data(WEB, "web.shop.svc SOA");
    // Nothing ties its addresses to the readiness of endpoints; only an import that has none is not there yet.
    no_name("import shop/web ClusterSetIP | http=80/TCP", "web.shop.svc A");
    no_name("import shop/web ClusterSetIP | http=80/TCP", "_http._tcp.web.shop.svc SRV");
}

/// MCS DNS specification 2.3.2: "For each port in an exported Service with name `<port>` and number `<port-number>` using
/// protocol `<proto>`, an `SRV` record of the following form must exist"; "Unnamed ports do not have an `SRV` record"; "The
/// Additional section of the response may include the Service `A`/`AAAA` record referred to in the `SRV` record."
#[test]
fn cluster_set_ip_ports() {
    let additional =
        ["additional web.shop.svc 5 A 10.96.7.7", "additional web.shop.svc 5 AAAA fd00:10:96::7"];
    check(
        WEB,
        "_http._tcp.web.shop.svc SRV",
        &[
            "NOERROR aa",
            "answer _http._tcp.web.shop.svc 5 SRV 0 100 80 web.shop.svc",
            additional[0],
            additional[1],
        ],
    );
    no_name(WEB, "_http._udp.web.shop.svc SRV");
    no_name(WEB, "__._tcp.web.shop.svc SRV");
    no_data(WEB, "_http._tcp.web.shop.svc A");
    no_data(WEB, "_tcp.web.shop.svc SRV");
    // As CoreDNS answers it and the conformance suite asks it: all ports by the service's name, "deduplicated by
    // (target, port)", so the two of number 53 are one.
    check(
        WEB,
        "web.shop.svc SRV",
        &[
            "NOERROR aa",
            "answer web.shop.svc 5 SRV 0 100 53 web.shop.svc",
            "answer web.shop.svc 5 SRV 0 100 80 web.shop.svc",
            "answer web.shop.svc 5 SRV 0 100 9000 web.shop.svc",
            additional[0],
            additional[1],
        ],
    );
}

/// Worked example B, "dns in berlin". MCS DNS specification 2.4.1: "for each _ready_ endpoint accessible across the cluster
/// set with the IPv4 address `<endpoint-ip>`", and with an IPv6 address, there are records of the service's name; "There
/// must also be an `A` record of the following form for each ready endpoint with hostname of `<hostname>`, member cluster ID
/// of `<clusterid>`, and IPv4 address `<endpoint-ip>`", and AAAA likewise. 2.4.2: "For each combination of _ready_ endpoint
/// with _hostname_ of `<hostname>`, member cluster ID of `<clusterid>`, and port […] an `SRV` record".
#[test]
fn headless_stateful_set() {
    check(BERLIN, "db.shop.svc A", &["NOERROR aa", "answer db.shop.svc 5 A 10.96.8.1"]);
    check(BERLIN, "db.shop.svc AAAA", &["NOERROR aa", "answer db.shop.svc 5 AAAA fd00:10:96::801"]);
    check(
        BERLIN,
        "db-0.paris.db.shop.svc A",
        &["NOERROR aa", "answer db-0.paris.db.shop.svc 5 A 10.96.8.1"],
    );
    no_name(BERLIN, "db-1.paris.db.shop.svc A");
    for question in ["_pg._tcp.db.shop.svc SRV", "db.shop.svc SRV"] {
        let owner = question.trim_end_matches(" SRV");
        check(
            BERLIN,
            question,
            &[
                "NOERROR aa",
                &format!("answer {owner} 5 SRV 0 100 6432 db-0.paris.db.shop.svc"),
                "additional db-0.paris.db.shop.svc 5 A 10.96.8.1",
                "additional db-0.paris.db.shop.svc 5 AAAA fd00:10:96::801",
            ],
        );
    }
}

/// MCS DNS specification 2.3.4: "ClusterSetIP Services should **NOT** have a record disambiguating to a single cluster's
/// backends, ex. `<clusterid>.<svc>.<ns>.svc.<clustersetzone>`", and 2.4.4 the same of "Multicluster Headless Services";
/// although RFC 8020 says of a name with names below it that it exists.
#[test]
fn the_name_of_a_cluster_is_reserved() {
    no_name(BERLIN, "paris.db.shop.svc A");
    no_name(BERLIN, "paris.db.shop.svc TXT");
    no_name(WEB, "paris.web.shop.svc A");
}

/// MCS DNS specification 2.1: a hostname is "in order of precedence, to a) the value of the endpoint's `hostname` field, or
/// b) a unique, system-assigned identifier for the endpoint". Worked example B, the same with a Deployment: "10-244-0-9.paris… has A and AAAA NODATA, fd00-10-244--9.paris… the
/// reverse". In-tree CoreDNS appends `0` where the label would end in `-`.
#[test]
fn endpoints_without_a_hostname_are_called_by_their_address() {
    let fixture = "
        import shop/db Headless | pg=5432/TCP
        slice shop/db paris IPv4 | pg=6432/TCP | 10.244.0.9
        slice shop/db paris IPv6 | pg=6432/TCP | fd00:10:244::9 fd00:: ::9
    ";
    check(
        fixture,
        "10-244-0-9.paris.db.shop.svc A",
        &["NOERROR aa", "answer 10-244-0-9.paris.db.shop.svc 5 A 10.244.0.9"],
    );
    no_data(fixture, "10-244-0-9.paris.db.shop.svc AAAA");
    no_data(fixture, "fd00-10-244--9.paris.db.shop.svc A");
    for (name, address) in
        [("fd00-10-244--9", "fd00:10:244::9"), ("fd00--0", "fd00::"), ("0--9", "::9")]
    {
        check(
            fixture,
            &format!("{name}.paris.db.shop.svc AAAA"),
            &["NOERROR aa", &format!("answer {name}.paris.db.shop.svc 5 AAAA {address}")],
        );
    }
}

/// MCS DNS specification 2.4.2: "the union of records from all clusters are returned". Names of pods differ by cluster, so
/// equal hostnames are no conflict; equal addresses are one record.
#[test]
fn headless_services_are_the_union_of_clusters() {
    let fixture = "
        import shop/db Headless | pg=5432/TCP
        slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1
        slice shop/db tokyo IPv4 | pg=6433/TCP =7000/UDP | db-0@10.96.9.1 twin@10.96.8.1
    ";
    check(
        fixture,
        "db.shop.svc A",
        &["NOERROR aa", "answer db.shop.svc 5 A 10.96.8.1", "answer db.shop.svc 5 A 10.96.9.1"],
    );
    check(
        fixture,
        "db-0.tokyo.db.shop.svc A",
        &["NOERROR aa", "answer db-0.tokyo.db.shop.svc 5 A 10.96.9.1"],
    );
    check(
        fixture,
        "_pg._tcp.db.shop.svc SRV",
        &[
            "NOERROR aa",
            "answer _pg._tcp.db.shop.svc 5 SRV 0 100 6432 db-0.paris.db.shop.svc",
            "answer _pg._tcp.db.shop.svc 5 SRV 0 100 6433 db-0.tokyo.db.shop.svc",
            "answer _pg._tcp.db.shop.svc 5 SRV 0 100 6433 twin.tokyo.db.shop.svc",
            "additional db-0.paris.db.shop.svc 5 A 10.96.8.1",
            "additional db-0.tokyo.db.shop.svc 5 A 10.96.9.1",
            "additional twin.tokyo.db.shop.svc 5 A 10.96.8.1",
        ],
    );
}

/// MCS DNS specification 2.4.2: "if there are **N** _ready_ endpoints and the Service defines **M** named ports, there will
/// be **N** X **M**  **`SRV`** RRs for the Service"; "Unnamed ports do not have an `SRV` record." The bare name has them all.
#[test]
fn each_ready_endpoint_has_a_service_record_for_each_named_port() {
    let fixture = "
        import shop/db Headless | pg=5432/TCP metrics=9090/TCP =7000/TCP
        slice shop/db paris IPv4 | pg=6432/TCP metrics=9090/TCP =7000/TCP | db-0@10.96.8.1 db-1@10.96.8.2 db-2@10.96.8.3!
    ";
    let service_records = |name: &str| {
        let out = both_ways(
            &packet(&format!("{name}db.shop.svc SRV"), Some(1232)),
            &snapshot(fixture),
            Transport::Udp,
        );
        let records = told(&out).into_iter().filter(|line| line.starts_with("answer "));
        let said = records.map(|line| line.split(" SRV ").nth(1).unwrap().to_owned());
        said.collect::<Vec<_>>()
    };
    for (port, number) in [("_pg", 6432), ("_metrics", 9090)] {
        let pod = |pod| format!("0 100 {number} db-{pod}.paris.db.shop.svc");
        assert_eq!(service_records(&format!("{port}._tcp.")), [pod(0), pod(1)], "{port}");
    }
    no_data(fixture, "_tcp.db.shop.svc SRV");
    no_name(fixture, "_pg._udp.db.shop.svc SRV");
    no_name(fixture, "_pg._tcp.db-0.paris.db.shop.svc SRV");
    no_name(fixture, "_pg._tcp.paris.db.shop.svc SRV");
    // As CoreDNS answers it: all ports of all, those without a name too.
    assert_eq!(service_records("").len(), 6);
}

/// MCS DNS specification 2.4.1: "If there are multiple IPv4 addresses for a given hostname, then there must be one such `A`
/// record returned for each IP."
#[test]
fn a_hostname_with_several_addresses_has_a_record_for_each() {
    let fixture = "
        import shop/db Headless | pg=5432/TCP
        slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1 db-0@10.96.8.2
    ";
    for name in ["db-0.paris.db.shop.svc", "db.shop.svc"] {
        let answers = [1, 2].map(|last| format!("answer {name} 5 A 10.96.8.{last}"));
        check(fixture, &format!("{name} A"), &["NOERROR aa", &answers[0], &answers[1]]);
    }
}

/// MCS DNS specification 2.3.3 and 2.4.3: "For implementations of Multicluster DNS that use IPs that already have a `PTR`
/// record assigned from the cluster-local DNS specification, no further `PTR` records are required", such as those "that
/// create a new "dummy" cluster-local `Service` object". Reverse zones are the cluster's own.
#[test]
fn reverse_zones_are_left_to_the_cluster() {
    for question in ["7.7.96.10.in-addr.arpa. PTR", "7.0.0.d.f.ip6.arpa. PTR"] {
        check(WEB, question, &["REFUSED"]);
    }
    no_data(WEB, "web.shop.svc PTR");
}

/// EndpointSlice API, `conditions.ready`: "A nil value should be interpreted as \"true\""; and it is true "for all endpoints
/// of a Service with publishNotReadyAddresses", whatever else is said of them. So readiness is read there, and only there.
#[test]
fn published_endpoints_are_answered_though_they_are_not_serving() {
    let fixture = "
        import shop/db Headless | pg=5432/TCP
        slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1~ db-1@10.96.8.2? db-2@10.96.8.3!
    ";
    let answers =
        ["NOERROR aa", "answer db.shop.svc 5 A 10.96.8.1", "answer db.shop.svc 5 A 10.96.8.2"];
    check(fixture, "db.shop.svc A", &answers);
    no_name(fixture, "db-2.paris.db.shop.svc A");
}

/// The MCS DNS specification 2.3 gives `<hostname>.<clusterid>.…` to headless services alone (2.4.1); a ClusterSetIP has one address for
/// all, whatever its slices name.
#[test]
fn endpoints_of_a_cluster_set_ip_have_no_names() {
    let fixture = "
        import shop/web ClusterSetIP 10.96.7.7 | http=80/TCP
        slice shop/web paris IPv4 | http=8080/TCP | web-0@10.244.0.5
    ";
    for question in
        ["web-0.paris.web.shop.svc A", "paris.web.shop.svc A", "_http._tcp.paris.web.shop.svc SRV"]
    {
        no_name(fixture, question);
    }
    check(fixture, "web.shop.svc A", &["NOERROR aa", "answer web.shop.svc 5 A 10.96.7.7"]);
}

/// MCS DNS specification 2.4.1: "If there are no _ready_ endpoints for the headless Service, the answer should be
/// `NXDOMAIN`."
#[test]
fn headless_without_ready_endpoints() {
    let fixture = "
        import shop/db Headless | pg=5432/TCP
        slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1!
    ";
    for question in [
        "db.shop.svc A",
        "db.shop.svc SRV",
        "_pg._tcp.db.shop.svc SRV",
        "db-0.paris.db.shop.svc A",
        "shop.svc A",
    ] {
        no_name(fixture, question);
    }
    no_name("slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1", "db.shop.svc A");
}

/// CoreDNS, `handler_test.go`: the apex, `svc`, and a namespace that exists are NODATA with SOA; what is unknown is
/// NXDOMAIN with SOA.
#[test]
fn what_exists_without_records() {
    for question in ["@ A", "svc A", "shop.svc A", "shop.svc ANY"] {
        no_data(WEB, question);
    }
    for question in
        ["nothing A", "none.svc A", "api.shop.svc A", "web.none.svc A", "x.web.shop.svc A"]
    {
        no_name(WEB, question);
    }
    // RFC 4592 section 2.1.1: a wildcard is what its owner has put into the zone, and nobody has.
    no_name(WEB, "*.shop.svc A");
}

/// RFC 1035 section 3.3.13 and RFC 2308: the zone's own records, and CoreDNS's name for the server.
#[test]
fn the_apex() {
    check("", "@ SOA", &["NOERROR aa", &format!("answer @ {SOA}")]);
    check("", "@ NS", &["NOERROR aa", "answer @ 5 NS ns.dns"]);
    no_name("", "ns.dns A");
    let known = snapshot_at("", &["192.0.2.53"]);
    check_at(
        &known,
        "@ NS",
        &["NOERROR aa", "answer @ 5 NS ns.dns", "additional ns.dns 5 A 192.0.2.53"],
    );
    check_at(&known, "ns.dns A", &["NOERROR aa", "answer ns.dns 5 A 192.0.2.53"]);
    for question in ["ns.dns AAAA", "dns A"] {
        check_at(&known, question, &["NOERROR aa", &format!("authority @ {SOA}")]);
    }
}

/// RFC 8482 section 4.2: ANY may be answered with one HINFO record that says so.
#[test]
fn any_is_answered_minimally() {
    check(WEB, "web.shop.svc ANY", &["NOERROR aa", "answer web.shop.svc 5 HINFO RFC8482 "]);
    no_name(WEB, "api.shop.svc ANY");
}

/// Design, "DNS": REFUSED outside the zone. The zone's name within another's is not the zone; nor are its bytes
/// within a label.
#[test]
fn other_zones_are_refused() {
    for question in [
        "example.com. A",
        ". NS",
        "local. A",
        "web.shop.svc.cluster.local. A",
        "xclusterset.local. A",
        "clusterset.local.example. A",
    ] {
        check(WEB, question, &["REFUSED"]);
    }
    let mut packet = packet("x. A", None);
    packet.truncate(12);
    packet.extend_from_slice(b"\x11\x0aclusterset\x05local\x00\x00\x01\x00\x01");
    let out = both_ways(&packet, &snapshot(""), Transport::Udp);
    assert_eq!(told(&out), ["REFUSED"]);
}

/// Zone transfers (RFC 5936) are nobody's here; classes other than IN are not served.
#[test]
fn transfers_and_other_classes_are_refused() {
    check(WEB, "@ AXFR", &["REFUSED"]);
    check(WEB, "@ TYPE251", &["REFUSED"]);
    let mut chaos = packet("version.bind. TXT", None);
    let at = chaos.len() - 1;
    chaos[at] = 3;
    let out = both_ways(&chaos, &snapshot(WEB), Transport::Udp);
    assert_eq!(told(&out), ["REFUSED"]);
}

/// Design, "DNS": SERVFAIL until the first full sync. What is not in the zone is refused all the same.
#[test]
fn nothing_is_said_of_the_zone_before_it_is_known() {
    let unsynced = Builder::new(&Zone::default(), Ttl::default().into(), &[].into()).snapshot(
        false,
        7,
        Instant::now(),
    );
    for question in ["web.shop.svc A", "@ SOA", "dns-version TXT", "svc A"] {
        check_at(&unsynced, question, &["SERVFAIL"]);
    }
    check_at(&unsynced, "example.com. A", &["REFUSED"]);
}

/// RFC 1035 section 2.3.3: "comparisons between character strings are done in a case-insensitive manner"; "you should
/// always preserve case". Resolvers that mix case to be safe from forgery look for it in the question.
#[test]
fn case_is_ignored_and_kept() {
    let out = both_ways(
        &packet("wEb.SHOP.svc.ClusterSet.LOCAL. A", None),
        &snapshot(WEB),
        Transport::Udp,
    );
    let message = Message::from_vec(&out).unwrap();
    assert_eq!(message.queries[0].name.to_ascii(), "wEb.SHOP.svc.ClusterSet.LOCAL.");
    assert_eq!(message.answers[0].name.to_ascii(), "wEb.SHOP.svc.ClusterSet.LOCAL.");
    assert!(message.edns.is_none(), "who sends no OPT record gets none");
}

fn hundred() -> String {
    let endpoints: Vec<String> = (0..100).map(|pod| format!("db-{pod}@10.96.8.{pod}")).collect();
    format!(
        "import shop/db Headless | pg=5432/TCP
         slice shop/db paris IPv4 | pg=6432/TCP | {}",
        endpoints.join(" ")
    )
}

/// RFC 2181 section 9: TC says that the answer is not all there is. RFC 6891 section 6.2.5: never more than the sender
/// takes; nor more than passes in one piece.
#[test]
fn an_answer_that_does_not_fit_says_so() {
    let snapshot = snapshot(&hundred());
    for (payload, limit) in [(None, 512), (Some(0), 512), (Some(700), 700), (Some(4096), 1232)] {
        for question in ["db.shop.svc A", "db.shop.svc SRV"] {
            let out = both_ways(&packet(question, payload), &snapshot, Transport::Udp);
            let message = Message::from_vec(&out).unwrap();
            assert!(out.len() <= limit, "{question}: {} octets", out.len());
            assert!(message.metadata.truncation, "{question} at {payload:?}");
            assert!(!message.answers.is_empty(), "some are better than none");
            assert!(message.additionals.is_empty());
            assert_eq!(message.edns.is_some(), payload.is_some());
        }
    }
    let out = both_ways(&packet("db.shop.svc A", None), &snapshot, Transport::Tcp);
    let message = Message::from_vec(&out).unwrap();
    assert_eq!((message.answers.len(), message.metadata.truncation), (100, false));
}

/// RFC 2181 section 9: "The TC bit should not be set merely because some extra information could have been included,
/// but there was insufficient room."
#[test]
fn the_additional_section_goes_first_and_silently() {
    let endpoints: Vec<String> = (0..6).map(|pod| format!("db-{pod}@10.96.8.{pod}")).collect();
    let fixture = format!(
        "import shop/db Headless | pg=5432/TCP
         slice shop/db paris IPv4 | pg=6432/TCP | {}",
        endpoints.join(" ")
    );
    let snapshot = snapshot(&fixture);
    let sections = |payload| {
        let out = both_ways(&packet("db.shop.svc SRV", payload), &snapshot, Transport::Udp);
        let message = Message::from_vec(&out).unwrap();
        (message.answers.len(), message.additionals.len(), message.metadata.truncation)
    };
    assert_eq!(sections(Some(1232)), (6, 6, false));
    assert_eq!(sections(None), (6, 0, false));
}

/// A truncated answer is asked for again: what could be added to it is of no use.
#[test]
fn a_truncated_answer_has_no_additional_section() {
    let ports: Vec<String> = (0..16).map(|port| format!("p{port}={}/TCP", 9000 + port)).collect();
    let snapshot =
        snapshot(&format!("import shop/web ClusterSetIP 10.96.7.7 | {}", ports.join(" ")));
    let sections = |payload| {
        let out = both_ways(&packet("web.shop.svc SRV", payload), &snapshot, Transport::Udp);
        let message = Message::from_vec(&out).unwrap();
        (message.metadata.truncation, message.answers.len() == 16, message.additionals.len())
    };
    assert_eq!(sections(None), (true, false, 0));
    assert_eq!(sections(Some(1232)), (false, true, 1));
}

#[test]
fn several_records_take_turns() {
    let snapshot = snapshot(&hundred());
    let mut out = Vec::new();
    let mut first = |turn| {
        let rules = rules(false);
        let asked = Asked { turn, ..asked(&snapshot, &rules, Transport::Tcp) };
        respond(&packet("db.shop.svc A", None), asked, &mut out);
        let message = Message::from_vec(&out).unwrap();
        assert_eq!(message.answers.len(), 100);
        message.answers[0].data.to_string()
    };
    assert_eq!(
        [first(0), first(1), first(99), first(100), first(usize::MAX)],
        ["10.96.8.0", "10.96.8.1", "10.96.8.99", "10.96.8.0", "10.96.8.15"]
    );
}

/// What the header of the answer to `packet` says, if there is an answer.
fn refused(packet: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    let (snapshot, rules) = (snapshot(WEB), rules(false));
    let outcome = respond(packet, asked(&snapshot, &rules, Transport::Udp), &mut out);
    let answered = matches!(outcome, Outcome::Answered { .. });
    assert_eq!(answered, !out.is_empty());
    answered.then(|| told(&out).join("\n"))
}

#[test]
fn odd_packets_are_answered_by_what_is_odd_about_them() {
    let good = packet("web.shop.svc A", Some(1232));
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        refused(&packet)
    };
    // RFC 1035 section 4.1.1: an operation that the server does not support.
    for operation in [1_u8, 2, 4, 5, 15] {
        let answer = changed(&|packet| packet[2] |= operation << 3);
        assert_eq!(answer.as_deref(), Some("NOTIMP"), "{operation}");
    }
    // RFC 9619: "A DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly formatted message."
    assert_eq!(changed(&|packet| packet[5] = 2).as_deref(), Some("FORMERR"));
    assert_eq!(changed(&|packet| packet[5] = 0).as_deref(), Some("FORMERR"));
    assert_eq!(changed(&|packet| packet[4..6].fill(0xff)).as_deref(), Some("FORMERR"));
    // A response is never answered, or two servers could keep each other busy.
    assert_eq!(changed(&|packet| packet[2] |= 0x80), None);
    assert_eq!(changed(&|packet| packet.truncate(11)), None);
    assert_eq!(changed(&|packet| packet.truncate(20)).as_deref(), Some("FORMERR"));
    // RFC 6891 section 6.1.3: "If a responder does not implement the VERSION level of the request, then it MUST
    // respond with RCODE=BADVERS."
    let version = good.len() - 5;
    assert_eq!(changed(&|packet| packet[version] = 1).as_deref(), Some("BADVERS"));
    // RFC 6891 section 6.1.1: "If a query message with more than one OPT RR is received, a FORMERR MUST be returned."
    let twice = changed(&|packet| {
        let opt = packet[packet.len() - 11..].to_vec();
        packet.extend_from_slice(&opt);
        packet[11] = 2;
    });
    assert_eq!(twice.as_deref(), Some("FORMERR"));
    // A pointer that leads to itself.
    let circle = changed(&|packet| packet[12..14].copy_from_slice(&[0xc0, 12]));
    assert_eq!(circle.as_deref(), Some("FORMERR"));
    // What is behind the message is not part of it.
    let web = Some("NOERROR aa\nanswer web.shop.svc 5 A 10.96.7.7");
    assert_eq!(changed(&|packet| packet.push(0)).as_deref(), web);
    // A client subnet (RFC 7871) is nothing to this server.
    let subnet = changed(&|packet| {
        let at = packet.len() - 1;
        packet[at] = 11;
        packet.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
    });
    assert_eq!(subnet.as_deref(), web);
}

/// RFC 3225 section 3: "The DO bit of the query MUST be copied in the response."
#[test]
fn the_do_bit_is_copied() {
    let mut packet = packet("web.shop.svc A", Some(1232));
    let at = packet.len() - 4;
    packet[at] = 0x80;
    let out = both_ways(&packet, &snapshot(WEB), Transport::Udp);
    let edns = Message::from_vec(&out).unwrap().edns.unwrap();
    assert!(edns.flags().dnssec_ok);
}

proptest! {
    /// Whatever comes: no panic, and an answer that is whole, not too large, and its sender's.
    #[test]
    fn noise_is_survived(
        mut packet in proptest::collection::vec(any::<u8>(), 0..600),
        query in any::<bool>(),
        turn in any::<usize>(),
        tcp in any::<bool>(),
    ) {
        // Half of the packets look like queries, so that the noise reaches what is behind the header.
        if query && packet.len() > 12 {
            let additional = packet[11] & 1;
            packet[2..12].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, additional]);
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut out = Vec::new();
        let (snapshot, rules) = (snapshot(BERLIN), rules(false));
        respond(&packet, Asked { turn, ..asked(&snapshot, &rules, transport) }, &mut out);
        if !out.is_empty() {
            let message = Message::from_vec(&out).unwrap();
            prop_assert!(tcp || out.len() <= MAX_UDP);
            prop_assert_eq!(&out[..2], &packet[..2]);
            prop_assert_eq!(message.metadata.message_type, hickory_proto::op::MessageType::Response);
        }
    }
}

/// A question with an OPT record that holds a COOKIE option.
fn with_cookie(question: &str, cookie: &[u8]) -> Vec<u8> {
    let mut packet = packet(question, Some(1232));
    let at = packet.len() - 2;
    let length = u16::try_from(cookie.len()).unwrap();
    packet[at..].copy_from_slice(&(4 + length).to_be_bytes());
    packet.extend_from_slice(&[0, 10]);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(cookie);
    packet
}

/// The cookie of an answer.
fn cookie_of(answer: &[u8]) -> Vec<u8> {
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    let edns = Message::from_vec(answer).unwrap().edns.unwrap();
    match edns.options().get(EdnsCode::Cookie) {
        Some(EdnsOption::Unknown(_, data)) => data.clone(),
        other => panic!("no cookie: {other:?}"),
    }
}

/// RFC 7873 section 5.2.3: whoever has only a client cookie may be answered, with a server cookie to come back with;
/// section 5.2.5: so is whoever has that.
#[test]
fn a_client_gets_a_cookie_and_keeps_it() {
    let snapshot = snapshot(WEB);
    let out = both_ways(&with_cookie("web.shop.svc A", &[1; 8]), &snapshot, Transport::Udp);
    assert_eq!(told(&out), ["NOERROR aa", "answer web.shop.svc 5 A 10.96.7.7"]);
    let cookie = cookie_of(&out);
    assert_eq!((cookie.len(), &cookie[..8]), (24, &[1; 8][..]));
    for transport in [Transport::Udp, Transport::Tcp] {
        let again = both_ways(&with_cookie("web.shop.svc A", &cookie), &snapshot, transport);
        assert_eq!(cookie_of(&again), cookie);
    }
    let short = both_ways(&with_cookie("web.shop.svc A", &[1; 7]), &snapshot, Transport::Udp);
    assert_eq!(told(&short), ["FORMERR"]);
}

/// RFC 7873 section 5.2.3, where cookies are required: BADCOOKIE for a client without ours, and none of what it asked. Who
/// knows no cookies can still come by TCP.
#[test]
fn required_cookies_hold_answers_back_from_forgers() {
    let (snapshot, rules) = (snapshot(WEB), rules(true));
    let ask = |packet: &[u8], transport| both_ways_by(packet, &snapshot, transport, &rules);
    let plain = packet("web.shop.svc A", None);
    let out = ask(&plain, Transport::Udp);
    assert_eq!((told(&out), out.len()), (vec!["NOERROR tc".into()], plain.len()));
    assert_eq!(told(&ask(&plain, Transport::Tcp)).len(), 2);
    let first = ask(&with_cookie("web.shop.svc A", &[1; 8]), Transport::Udp);
    assert_eq!(told(&first), ["BADCOOKIE"]);
    let again = with_cookie("web.shop.svc A", &cookie_of(&first));
    assert_eq!(told(&ask(&again, Transport::Udp)).len(), 2);
}

/// RFC 7873 section 5.4: "queries with an empty Question Section (a QDCOUNT of zero (0)), provided that an OPT record is
/// present with a COOKIE option".
#[test]
fn a_cookie_can_be_asked_for_alone() {
    let mut asking = with_cookie(". A", &[1; 8]);
    asking.drain(12..17);
    asking[5] = 0;
    let snapshot = snapshot(WEB);
    let rules = rules(false);
    let mut out = Vec::new();
    respond(&asking, asked(&snapshot, &rules, Transport::Udp), &mut out);
    assert_eq!(told(&out), ["NOERROR"]);
    assert_eq!((cookie_of(&out).len(), out[5]), (24, 0));
}

/// An answer that is cut has no more octets than the question had, and says that it is.
#[test]
fn a_cut_answer_is_no_longer_than_its_question() {
    let snapshot = snapshot(&hundred());
    let question = packet("db.shop.svc A", Some(1232));
    let mut out = both_ways(&question, &snapshot, Transport::Udp);
    assert!(out.len() > 1000);
    cut(&mut out);
    assert_eq!(told(&out), ["NOERROR aa tc"]);
    assert!(out.len() <= question.len());
    let mut rejected = vec![0; 12];
    cut(&mut rejected);
    assert!(rejected.is_empty(), "what has no question is not sent at all");
}

/// RFC 1034 section 4.3.1: "recursive service is only provided if requested"; RA says that there is such service.
#[test]
fn other_zones_are_asked_elsewhere_where_there_is_somebody_to_ask() {
    let snapshot = snapshot(WEB);
    let rules = Rules { forwards: true, ..rules(false) };
    let mut out = Vec::new();
    let mut ask = |packet: &[u8]| {
        let outcome = respond(packet, asked(&snapshot, &rules, Transport::Udp), &mut out);
        (outcome, out.clone())
    };
    let mut other = packet("example.com. A", None);
    assert_eq!(ask(&other), (Outcome::Elsewhere, vec![]));
    other[2] &= !1;
    assert_eq!(told(&ask(&other).1), ["REFUSED ra"]);
    assert_eq!(told(&ask(&packet("web.shop.svc A", None)).1)[0], "NOERROR aa ra");
}
