//! Pure: which ports an import has, who serves each, and whether the exports agree on them.
//!
//! Oldest export first, a port is dropped when its name is taken, then when its (protocol, number) is taken. The
//! Service of any cluster that has an import port's protocol and number serves it, whatever the name.

use std::collections::BTreeSet;

use super::{Conflict, ConflictReason, MergedPort};
use crate::{export::Export, name::ClusterId, port::ServicePort};

/// Merges the ports of `exports`, which come oldest first, and tells where they disagree.
pub(super) fn merge(exports: &[&Export]) -> (Vec<MergedPort>, Option<Conflict>) {
    let mut merged: Vec<MergedPort> = Vec::new();
    let mut first_loss: Option<Loss<'_>> = None;
    for export in exports {
        for port in &export.ports {
            match taken(&merged, port) {
                None => merged.push(MergedPort {
                    port: port.clone(),
                    from: export.cluster.clone(),
                    served_by: servers(exports, port),
                }),
                Some(winner) if winner.port != *port => {
                    first_loss.get_or_insert_with(|| Loss {
                        winner: winner.clone(),
                        loser: port,
                        cluster: &export.cluster,
                    });
                }
                Some(_) => {}
            }
        }
    }
    let conflict = conflict(exports, first_loss.as_ref());
    (merged, conflict)
}

/// A port that was dropped, and the one that was kept.
struct Loss<'a> {
    winner: MergedPort,
    loser: &'a ServicePort,
    cluster: &'a ClusterId,
}

fn taken<'a>(merged: &'a [MergedPort], port: &ServicePort) -> Option<&'a MergedPort> {
    let by_name = merged.iter().find(|kept| kept.port.name == port.name);
    by_name.or_else(|| merged.iter().find(|kept| kept.port.key == port.key))
}

/// An export that disagrees on headlessness serves no port: its clients were promised another kind of address.
fn servers(exports: &[&Export], port: &ServicePort) -> Vec<ClusterId> {
    let kind = exports.first().map(|oldest| oldest.kind);
    let serves = |export: &&&Export| {
        Some(export.kind) == kind && export.ports.iter().any(|own| own.key == port.key)
    };
    exports.iter().filter(serves).map(|export| export.cluster.clone()).collect()
}

fn conflict(exports: &[&Export], loss: Option<&Loss<'_>>) -> Option<Conflict> {
    let (oldest, younger) = exports.split_first()?;
    let set = |export: &Export| export.ports.iter().cloned().collect::<BTreeSet<_>>();
    let reference = set(oldest);
    let mut disagreeing = younger.iter().filter(|export| set(export) != reference);
    let first = disagreeing.next()?;
    let count = 1 + disagreeing.count();
    let what = match loss {
        Some(Loss { winner, loser, cluster }) => format!(
            "Using \"{}\" from {} in \"{}\", not \"{loser}\" from \"{cluster}\".",
            winner.port,
            if winner.from == oldest.cluster {
                "oldest service export"
            } else {
                "older service export"
            },
            winner.from
        ),
        None => difference(oldest, first),
    };
    let message = format!("Conflicting ports. {what} {count}/{} clusters disagree.", exports.len());
    Some(Conflict { reason: ConflictReason::Port, message })
}

/// Says in what two exports differ of which no port had to be dropped.
fn difference(oldest: &Export, other: &Export) -> String {
    let missing = |from: &Export, port: &&ServicePort| !from.ports.contains(port);
    if let Some(port) = oldest.ports.iter().find(|port| missing(other, port)) {
        return format!(
            "Using the union of all exports: \"{port}\" from oldest service export in \"{}\" is not exported by \"{}\".",
            oldest.cluster, other.cluster
        );
    }
    let extra = other.ports.iter().find(|port| missing(oldest, port)).map(ToString::to_string);
    format!(
        "Using the union of all exports: \"{}\" from \"{}\" is not exported by the oldest service export in \"{}\".",
        extra.unwrap_or_default(),
        other.cluster,
        oldest.cluster
    )
}
