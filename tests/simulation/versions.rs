//! Two versions of the controller: one that merges as this one does, and a later one that knows other rules as well.

use std::collections::BTreeMap;

use landbridge_model::{
    Export, Merged, Timestamp,
    merge::{Rulebook, Rules},
};

use crate::{chance::Chance, world::Mischief};

/// The rules of this version.
pub(crate) const OLD: Rulebook = Rulebook::OURS;
/// Those, and the ones that the next version has thought of: ports in the opposite order, so that each import shows
/// by which rules it was made.
pub(crate) const NEW: Rulebook = Rulebook::new(&[
    Rules { revision: 1, merge: by_oldest },
    Rules { revision: 2, merge: in_opposite_order },
]);
/// What says that it merges by the usual rules and does not.
const LIES: Rulebook = Rulebook::new(&[Rules { revision: 1, merge: in_opposite_order }]);
/// The same, in another way.
const YOUNGEST: Rulebook = Rulebook::new(&[Rules { revision: 1, merge: by_youngest }]);

/// The version that the cluster of a number begins with.
pub(crate) fn of_start(mischief: Mischief, number: u64, chance: &mut Chance) -> Rulebook {
    let is_new = chance.percent(15);
    match mischief {
        Mischief::WrongRevision if number == 0 => LIES,
        Mischief::YoungestWins => YOUNGEST,
        _ if is_new => NEW,
        _ => OLD,
    }
}

fn by_oldest(exports: &[&Export]) -> Option<Merged> {
    landbridge_model::merge(exports.iter().copied())
}

fn in_opposite_order(exports: &[&Export]) -> Option<Merged> {
    let mut merged = by_oldest(exports)?;
    merged.ports.reverse();
    Some(merged)
}

fn by_youngest(exports: &[&Export]) -> Option<Merged> {
    let times: BTreeMap<_, _> = exports.iter().map(|one| (&one.cluster, one.since)).collect();
    let turned = exports.iter().map(|one| Export {
        since: Timestamp::from_millis(-times[&one.cluster].as_millis()),
        ..(*one).clone()
    });
    let turned: Vec<Export> = turned.collect();
    landbridge_model::merge(&turned)
}
