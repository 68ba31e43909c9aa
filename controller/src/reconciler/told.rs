//! Pure: what a controller has found out or done, for logs and metrics.

use std::{collections::BTreeSet, time::Duration};

use super::{Reconciler, propagation::Stage};
use crate::{observed::Problem, outcome::Failure, plan::Work};

/// Something that people and their dashboards are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told {
    /// A bid for the Lease was refused; another controller was faster.
    BidRefused(String),
    /// A plan was already true.
    EmptyPlan,
    /// So many Events were not written, because there were too many at once.
    EventsLeftOut(u64),
    /// A write failed and is tried again. What has failed in the same way before, or what the next plan mends, is no
    /// news.
    Failed(Failure, IsNews),
    /// Somebody is heard again.
    Heard(Who, String),
    /// The hub cannot be read.
    HubAway(String),
    /// The hub can be read again.
    HubBack,
    /// This controller plans and writes from now on, or does no more; and who holds the Lease.
    Leads(bool, String),
    /// Something is not as it should be.
    Problem(Problem),
    /// An export has got through to a stage.
    Propagated(Stage, Duration),
    /// Nothing is heard of somebody.
    Silent(Who, String),
    /// An export is not timed, because too many came at once.
    Untimed,
}

/// Whether people have not been told before.
pub type IsNews = bool;

/// Who can be silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// A gateway of this cluster.
    Gateway,
    /// Another member.
    Member,
}

impl Who {
    /// As people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Member => "member",
        }
    }
}

impl Reconciler {
    /// Tells what a plan has found wrong, where the plan before it did not.
    pub(super) fn tell(&mut self, work: &Work, problems: Vec<Problem>) {
        let known = self.problems.remove(work).unwrap_or_default();
        let new = problems.iter().filter(|problem| !known.contains(problem));
        self.told.extend(new.cloned().map(Told::Problem));
        if !problems.is_empty() {
            self.problems.insert(work.clone(), problems);
        }
    }

    /// Tells of a write that failed, once for as long as it fails in the same way.
    pub(super) fn tell_failure(&mut self, work: &Work, failure: Failure) {
        let is_known = self.failures.get(work) == Some(&failure.message);
        let is_news = !is_known && failure.fault != crate::outcome::Fault::Outdated;
        if is_news {
            self.failures.insert(work.clone(), failure.message.clone());
        }
        self.told.push(Told::Failed(failure, is_news));
    }

    /// Tells who has fallen silent, and who is heard again.
    pub(super) fn tell_silence(
        &mut self,
        who: Who,
        before: &BTreeSet<String>,
        after: &BTreeSet<String>,
    ) {
        let silent = after.difference(before);
        self.told.extend(silent.map(|name| Told::Silent(who, name.clone())));
        let heard = before.difference(after);
        self.told.extend(heard.map(|name| Told::Heard(who, name.clone())));
    }
}
