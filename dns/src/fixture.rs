//! Imports, slices and questions as text, for the tests of this crate.
//!
//! ```text
//! import shop/web ClusterSetIP 10.96.7.7 fd00::7 | http=80/TCP =53/UDP
//! import shop/db Headless | pg=5432/TCP
//! slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1 db-1@10.96.8.2! 10.96.8.3
//! ```
//!
//! A port without a name begins with `=`. An endpoint that is not ready ends in `!`, one that does not say in `?`, one that
//! is not ready and published all the same in `~`; one without a hostname has no `@`.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, Record, RecordType},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::{mcs::ServiceImport, watch::Change};
use serde_json::{Value, json};

use crate::{
    config::Ttl,
    snapshot::{Builder, Snapshot},
    state::{Event, State},
    zone::{self, Zone},
};

/// Worked example B, in berlin: a headless StatefulSet of paris, dual-stack.
pub(crate) const BERLIN: &str = "
    import shop/db Headless | pg=5432/TCP
    slice shop/db paris IPv4 | pg=6432/TCP | db-0@10.96.8.1 db-1@10.96.8.2!
    slice shop/db paris IPv6 | pg=6432/TCP | db-0@fd00:10:96::801 db-1@fd00:10:96::802!
";

/// The SOA record of the fixtures' snapshots, as [`told`] writes it.
pub(crate) const SOA: &str = "5 SOA ns.dns hostmaster 7 7200 1800 86400 5";

/// The events that the watches would tell of `text`.
pub(crate) fn events(text: &str) -> Vec<Event> {
    let (mut imports, mut slices) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let words: Vec<&str> = parts[0].split_whitespace().collect();
        match words[0] {
            "import" => imports.push(import(&words, parts.get(1).unwrap_or(&""))),
            "slice" => slices.push(slice(slices.len(), &words, &parts)),
            other => panic!("neither import nor slice: {other}"),
        }
    }
    let imports = Change::listing(imports, []).map(Event::Import);
    imports.chain(Change::listing(slices, []).map(Event::Slice)).collect()
}

fn import(words: &[&str], listed: &str) -> ServiceImport {
    let (namespace, name) = words[1].split_once('/').unwrap();
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": words[2], "ips": words[3..], "ports": ports(listed)},
    }))
    .unwrap()
}

fn slice(number: usize, words: &[&str], parts: &[&str]) -> EndpointSlice {
    let (namespace, service) = words[1].split_once('/').unwrap();
    let endpoints = parts[2].split_whitespace().map(|text| {
        let conditions = match text.chars().last() {
            Some('!') => json!({"ready": false}),
            Some('?') => json!({}),
            Some('~') => json!({"ready": true, "serving": false, "terminating": true}),
            _ => json!({"ready": true}),
        };
        let text = text.trim_end_matches(['!', '?', '~']);
        let (hostname, address) = match text.split_once('@') {
            Some((hostname, address)) => (Some(hostname), address),
            None => (None, text),
        };
        json!({"addresses": [address], "hostname": hostname, "conditions": conditions})
    });
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": format!("slice-{number}"), "labels": {
            "multicluster.kubernetes.io/service-name": service,
            "multicluster.kubernetes.io/source-cluster": words[2],
        }},
        "addressType": words[3],
        "ports": ports(parts[1]),
        "endpoints": endpoints.collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn ports(text: &str) -> Vec<Value> {
    let port = |text: &str| {
        let (name, key) = text.split_once('=').unwrap();
        let (number, protocol) = key.split_once('/').unwrap();
        let number: u16 = number.parse().unwrap();
        json!({"name": name, "port": number, "protocol": protocol})
    };
    text.split_whitespace().map(port).collect()
}

/// The synced snapshot of `text`, with serial 7 and this server at `own`.
pub(crate) fn snapshot_at(text: &str, own: &[&str]) -> Snapshot {
    let zone = Zone::default();
    let own: BTreeSet<IpAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
    let mut state = State::default();
    for event in events(text) {
        assert_eq!(state.apply(event), [], "the fixture cannot be read");
    }
    let mut builder = Builder::new(&zone, Ttl::default().into(), &own);
    for key in state.take_touched() {
        if let Some((import, slices)) = state.service(&key) {
            builder.set(&key, &zone::service(&zone, import, slices));
        }
    }
    builder.snapshot(state.is_synced(), 7, Instant::now())
}

/// The synced snapshot of `text`.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    snapshot_at(text, &[])
}

/// The packet that asks `question`, such as `db.shop.svc A` or `@ TYPE251`: in the zone unless the name ends with a
/// dot.
pub(crate) fn packet(question: &str, payload: Option<u16>) -> Vec<u8> {
    let (name, kind) = question.split_once(' ').unwrap();
    let name = match name.strip_suffix('.') {
        Some(absolute) => format!("{absolute}."),
        None => format!("{name}.clusterset.local."),
    };
    let name = Name::from_ascii(name.trim_start_matches("@.")).unwrap();
    let kind = match kind.strip_prefix("TYPE") {
        Some(number) => RecordType::from(number.parse::<u16>().unwrap()),
        None => kind.parse().unwrap(),
    };
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    if payload.is_some() {
        message.set_edns(Edns::new());
    }
    let mut packet = message.to_vec().unwrap();
    if let Some(payload) = payload {
        // Written by hand: the library does not send what is too small.
        let at = packet.len() - 8;
        packet[at..at + 2].copy_from_slice(&payload.to_be_bytes());
    }
    packet
}

/// An answer as text: its code, then its records by section, sorted, names relative to the zone.
pub(crate) fn told(answer: &[u8]) -> Vec<String> {
    let message = Message::from_vec(answer).unwrap();
    let mut told = vec![code(&message)];
    let sections = [
        ("answer", &message.answers),
        ("authority", &message.authorities),
        ("additional", &message.additionals),
    ];
    for (section, records) in sections {
        let mut lines: Vec<String> =
            records.iter().map(|record| format!("{section} {}", line(record))).collect();
        lines.sort();
        told.append(&mut lines);
    }
    told
}

fn code(message: &Message) -> String {
    let code = match u16::from(message.metadata.response_code) {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => panic!("code {other}"),
    };
    let flags = [
        (message.metadata.authoritative, " aa"),
        (message.metadata.truncation, " tc"),
        (message.metadata.recursion_available, " ra"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    format!("{code}{flags}")
}

fn line(record: &Record) -> String {
    let text = format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data);
    let words = text.split(' ').map(|word| {
        let relative = word.strip_suffix("clusterset.local.");
        match relative.map(|relative| relative.trim_end_matches('.')) {
            Some("") => "@".to_owned(),
            Some(relative) => relative.to_owned(),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Numbers from a seed (SplitMix64): the same in every run.
pub(crate) struct Draw(u64);

impl Draw {
    /// Begins with a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
