//! Links that have grown old: another is made before their certificates end, and at once where this gateway has a new
//! one. What is open on the old one goes on until it ends, and then the old one is closed.
//!
//! Both sides know both certificates and come to the same. Whoever has dialled dials again; whoever was dialled says
//! that the link takes no more streams, which is word enough for every version.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Link, Links, Table};
use crate::{
    core::Core,
    renewal::{Fate, IDLE, LOOK},
    shared::now,
    transport::CloseReason,
    verifier::leads_to,
};

/// How often links that have been replaced are asked whether they are idle.
const PACE: Duration = Duration::from_millis(250);

/// Looks after the age of every link until the gateway ends.
pub(crate) async fn renew(core: Arc<Core>) {
    let mut credentials = core.credentials.subscribe();
    let mut changes = core.links.subscribe();
    // Since when links that have been replaced are idle.
    let mut idle: HashMap<u64, Instant> = HashMap::new();
    loop {
        let table = core.links.all();
        let in_force = core.credentials.load();
        let mut wait = LOOK;
        for link in table.values().flatten() {
            let at = now();
            let span = link.connection.span();
            let trusted = leads_to(&in_force.roots, link.connection.chain(), span.made);
            if let Err(problem) = trusted {
                tracing::warn!(peer = %link.peer(), "its link is cut, its root is trusted no more: {problem}");
                link.connection.close(CloseReason::NotTrusted);
                continue;
            }
            wait = wait.min(span.wait(at));
            let fate = span.fate(at);
            let ours_is_old = link.connection.serial() != in_force.serial;
            if fate == Fate::Ends {
                tracing::info!(peer = %link.peer(), "its link is cut, its certificates ended long ago");
                link.connection.close(CloseReason::Expired);
            } else if (fate == Fate::Retires || ours_is_old) && !link.retired.is_cancelled() {
                tracing::info!(peer = %link.peer(), "its link is made anew, with new certificates");
                core.links.retire(link);
            }
        }
        if close_idle(&core.links, &table, &mut idle) {
            wait = PACE;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
            _ = credentials.changed() => {}
            _ = changes.changed() => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Closes links that were replaced, carry nothing, and have one beside them that takes streams. Says whether any is left
/// that may soon be such a one.
fn close_idle(links: &Links, table: &Table, idle: &mut HashMap<u64, Instant>) -> bool {
    let at = Instant::now();
    let mut retired = table.values().flatten().filter(|link| link.retired.is_cancelled());
    let mut left = false;
    let mut still = HashMap::new();
    for link in &mut retired {
        left = true;
        let replaced = links.to(&link.peer().cluster).iter().any(|other| replaces(other, link));
        if replaced && !link.connection.is_busy() {
            let since = *idle.get(&link.id).unwrap_or(&at);
            still.insert(link.id, since);
            if at.saturating_duration_since(since) >= IDLE {
                link.connection.close(CloseReason::Replaced);
            }
        }
    }
    *idle = still;
    left
}

/// Whether calls that would have gone over `link` have `other`.
fn replaces(other: &Link, link: &Link) -> bool {
    other.id != link.id && other.state().takes_streams() && !other.going.is_cancelled()
}
