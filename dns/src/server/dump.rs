//! Every name of a snapshot as JSON, for people who look at a running server.
//!
//! The records are read back from the answers themselves, so that what is shown is what is sent.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use serde_json::{Map, Value};

use crate::{
    answer::{Asked, Rules, Transport, respond},
    compile::CLASS_IN,
    entry::Entry,
    name::Shown,
    snapshot::Snapshot,
};

/// Names, each with its types of record, each with its records.
pub(super) fn names(snapshot: &Snapshot, rules: &Rules) -> Map<String, Value> {
    let shown = |entry: &Entry| {
        let types = entry.types().filter_map(|record_type| {
            let message = ask(snapshot, rules, entry.name(), record_type)?;
            let records = message.answers.iter().map(|record| record.data.to_string());
            let kind = message.answers.first()?.record_type().to_string();
            Some((kind, records.map(Value::String).collect()))
        });
        (Shown(entry.name()).to_string(), Value::Object(types.collect()))
    };
    snapshot.sorted().into_iter().map(shown).collect()
}

fn ask(snapshot: &Snapshot, rules: &Rules, name: &[u8], record_type: u16) -> Option<Message> {
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name);
    query.extend_from_slice(&record_type.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    let mut answer = Vec::new();
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let transport = Transport::Tcp;
    let asked = Asked { now: 0, rules, snapshot, source, transport, turn: 0 };
    respond(&query, asked, &mut answer);
    Message::from_vec(&answer).ok()
}
