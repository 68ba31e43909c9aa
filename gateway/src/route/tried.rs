//! Pure: where one connection has been refused already.

use std::collections::HashSet;

use landbridge_model::ClusterId;

use super::LinkView;
use crate::health::LinkState;

/// What is not to be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    /// The whole cluster has nobody for the call.
    Cluster,
    /// This link only: another replica may do.
    Link,
    /// Nothing: the link is silent, and takes streams again when it is heard.
    Silence,
}

/// Where a connection has been refused already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried {
    pub(super) clusters: HashSet<ClusterId>,
    pub(super) links: HashSet<u64>,
    pub(super) here: bool,
}

impl Tried {
    /// Whether every one of `clusters`, and there are some, has said that it has nobody: then waiting is of no use.
    pub(crate) fn exhausts(&self, clusters: &[ClusterId]) -> bool {
        !clusters.is_empty() && clusters.iter().all(|cluster| self.clusters.contains(cluster))
    }

    /// Whether a link would be tried if only it were heard.
    pub(crate) fn may_return_to(&self, link: &LinkView) -> bool {
        link.state == LinkState::Suspect && !self.links.contains(&link.id)
    }

    /// What a try over a link of `cluster` has shown to be of no use.
    pub(crate) fn learn(&mut self, scope: Scope, cluster: ClusterId, link: u64) {
        match scope {
            Scope::Cluster => {
                self.clusters.insert(cluster);
            }
            Scope::Link => self.link(link),
            Scope::Silence => {}
        }
    }

    /// One link cannot be used.
    pub(crate) fn link(&mut self, link: u64) {
        self.links.insert(link);
    }

    /// This cluster's own pods do not answer.
    pub(crate) fn here(&mut self) {
        self.here = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ClusterId {
        ClusterId::parse(name).unwrap()
    }

    #[test]
    fn waiting_is_of_no_use_once_everybody_has_said_no() {
        let mut tried = Tried::default();
        let both = [id("paris"), id("tokyo")];
        assert!(!tried.exhausts(&[]), "who serves it may yet be told");
        tried.learn(Scope::Cluster, id("paris"), 0);
        tried.link(2);
        assert!(!tried.exhausts(&both), "a link may come back");
        tried.learn(Scope::Cluster, id("tokyo"), 0);
        assert!(tried.exhausts(&both));
    }

    /// A hiccup is over when the link is heard again: then it takes the call.
    #[test]
    fn a_link_that_was_silent_is_tried_again_and_one_that_failed_is_not() {
        let mut tried = Tried::default();
        tried.learn(Scope::Silence, id("paris"), 1);
        tried.learn(Scope::Link, id("paris"), 2);
        let link = |id| LinkView {
            id,
            state: LinkState::Suspect,
            draining: false,
            fallback: false,
            streams: 0,
        };
        assert_eq!([1, 2].map(|id| tried.may_return_to(&link(id))), [true, false]);
    }
}
