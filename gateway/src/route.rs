//! Pure: where one connection goes.
//!
//! Of the clusters that serve the port and have a link that takes streams, two are drawn and the one with fewer open
//! streams is taken; likewise among its links. What has been tried is not tried again. This cluster's own pods come
//! last: kube-proxy would have taken them had it wanted to.

use std::collections::HashSet;

use landbridge_model::ClusterId;

use crate::health::LinkState;

/// One link as the choice sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LinkView {
    /// Which.
    pub(crate) id: u64,
    /// How it is.
    pub(crate) state: LinkState,
    /// Whether its other end is about to go.
    pub(crate) draining: bool,
    /// Streams open on it.
    pub(crate) streams: usize,
}

impl LinkView {
    fn usable(&self, tried: &Tried, draining: bool) -> bool {
        self.state.takes_streams() && self.draining == draining && !tried.links.contains(&self.id)
    }
}

/// One cluster that serves the port, and the links to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Candidate<'a> {
    /// Which.
    pub(crate) cluster: &'a ClusterId,
    /// Its links.
    pub(crate) links: Vec<LinkView>,
}

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
    clusters: HashSet<ClusterId>,
    links: HashSet<u64>,
    here: bool,
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

/// Two random numbers for each of the two choices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws(pub(crate) [u64; 4]);

/// Where to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Choice {
    /// This cluster's own pods.
    Here,
    /// A link to another cluster.
    Link {
        /// Which cluster.
        cluster: ClusterId,
        /// Which link.
        link: u64,
    },
}

/// Chooses; none where nobody is left. `here` tells whether this cluster has ready pods of its own.
#[must_use]
pub(crate) fn choose(
    candidates: &[Candidate<'_>],
    here: bool,
    tried: &Tried,
    draws: Draws,
) -> Option<Choice> {
    // A peer that is about to go serves for a little longer: better than nobody.
    let anybody = |draining| choose_link(candidates, tried, draws, draining);
    let nobody = || (here && !tried.here).then_some(Choice::Here);
    anybody(false).or_else(nobody).or_else(|| anybody(true))
}

fn choose_link(
    candidates: &[Candidate<'_>],
    tried: &Tried,
    draws: Draws,
    draining: bool,
) -> Option<Choice> {
    let [first, second, third, fourth] = draws.0;
    let usable: Vec<(&ClusterId, Vec<&LinkView>)> = candidates
        .iter()
        .filter(|candidate| !tried.clusters.contains(candidate.cluster))
        .map(|candidate| {
            let links = candidate.links.iter().filter(|link| link.usable(tried, draining));
            (candidate.cluster, links.collect::<Vec<_>>())
        })
        .filter(|(_, links)| !links.is_empty())
        .collect();
    let load = |links: &[&LinkView]| links.iter().map(|link| link.streams).sum::<usize>();
    let (cluster, links) = less_loaded(&usable, first, second, |(_, links)| load(links))?;
    let link = less_loaded(links, third, fourth, |link| link.streams)?;
    Some(Choice::Link { cluster: (*cluster).clone(), link: link.id })
}

/// Draws two different ones and takes the less loaded; of equals the first drawn.
fn less_loaded<T>(among: &[T], first: u64, second: u64, load: impl Fn(&T) -> usize) -> Option<&T> {
    let one = index(first, among.len())?;
    let Some(other) = index(second, among.len() - 1) else {
        return among.get(one);
    };
    // The other ones, counted from the one after the first.
    let other = (one + 1 + other) % among.len();
    if load(&among[other]) < load(&among[one]) { among.get(other) } else { among.get(one) }
}

fn index(draw: u64, count: usize) -> Option<usize> {
    let index = draw.checked_rem(count as u64)?;
    usize::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> ClusterId {
        ClusterId::parse(name).unwrap()
    }

    fn link(id: u64, state: LinkState, streams: usize) -> LinkView {
        LinkView { id, state, draining: false, streams }
    }

    /// Reads `paris 1:healthy:0 2:suspect:3`, one cluster a line, and chooses for many draws.
    fn check(fixture: &str, here: bool, tried: &Tried) -> Vec<String> {
        let lines: Vec<(ClusterId, Vec<LinkView>)> = fixture
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let mut words = line.split_whitespace();
                let cluster = id(words.next().unwrap());
                let links = words.map(|word| {
                    let parts: Vec<&str> = word.split(':').collect();
                    let state = match parts[1] {
                        "healthy" => LinkState::Healthy,
                        "quiet" => LinkState::Quiet,
                        "suspect" => LinkState::Suspect,
                        other => panic!("{other}"),
                    };
                    link(parts[0].parse().unwrap(), state, parts[2].parse().unwrap())
                });
                (cluster, links.collect())
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = lines
            .iter()
            .map(|(cluster, links)| Candidate { cluster, links: links.clone() })
            .collect();
        let mut chosen: Vec<String> = (0..256)
            .map(|n| Draws([n, n / 4, n / 16, n / 64]))
            .map(|draws| match choose(&candidates, here, tried, draws) {
                None => "nobody".to_owned(),
                Some(Choice::Here) => "here".to_owned(),
                Some(Choice::Link { cluster, link }) => format!("{cluster} {link}"),
            })
            .collect();
        chosen.sort();
        chosen.dedup();
        chosen
    }

    #[test]
    fn of_two_the_less_loaded_is_taken() {
        let none = Tried::default();
        assert_eq!(check("paris 1:healthy:5\n tokyo 2:healthy:1", false, &none), ["tokyo 2"]);
        assert_eq!(
            check("paris 1:healthy:1\n tokyo 2:healthy:1", false, &none),
            ["paris 1", "tokyo 2"]
        );
        assert_eq!(check("paris 1:healthy:3 2:healthy:0", false, &none), ["paris 2"]);
    }

    /// Design, "Gateway": suspect means "no new streams".
    #[test]
    fn suspect_links_get_no_new_streams() {
        let none = Tried::default();
        assert_eq!(check("paris 1:suspect:0\n tokyo 2:healthy:9", false, &none), ["tokyo 2"]);
        assert_eq!(check("paris 1:suspect:0 3:quiet:7", false, &none), ["paris 3"]);
        assert_eq!(check("paris 1:suspect:0", false, &none), ["nobody"]);
    }

    #[test]
    fn a_peer_that_goes_is_the_last_resort() {
        let paris = id("paris");
        let going = |id| LinkView { draining: true, ..link(id, LinkState::Healthy, 0) };
        let chosen = |links: &[LinkView], here| {
            let candidates = [Candidate { cluster: &paris, links: links.to_vec() }];
            choose(&candidates, here, &Tried::default(), Draws([0; 4]))
        };
        let to = |link| Some(Choice::Link { cluster: id("paris"), link });
        assert_eq!(chosen(&[going(1), link(2, LinkState::Healthy, 9)], true), to(2));
        assert_eq!(chosen(&[going(1)], true), Some(Choice::Here));
        assert_eq!(chosen(&[going(1)], false), to(1));
    }

    #[test]
    fn what_was_tried_is_not_tried_again_and_own_pods_come_last() {
        let mut tried = Tried::default();
        let two = "paris 1:healthy:0\n tokyo 2:healthy:0 3:healthy:0";
        tried.learn(Scope::Cluster, id("paris"), 0);
        assert_eq!(check(two, true, &tried), ["tokyo 2", "tokyo 3"]);
        tried.link(2);
        assert_eq!(check(two, true, &tried), ["tokyo 3"]);
        tried.link(3);
        assert_eq!(check(two, true, &tried), ["here"]);
        tried.here();
        assert_eq!(check(two, true, &tried), ["nobody"]);
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

    proptest! {
        /// Any draws choose a link that takes streams, if there is one.
        #[test]
        fn no_draw_chooses_what_cannot_be_used(
            draws in any::<[u64; 4]>(),
            states in proptest::collection::vec((0_u8..3, 0_usize..5, any::<bool>()), 1..8),
        ) {
            let links: Vec<LinkView> = states.iter().enumerate().map(|(at, (state, streams, draining))| LinkView {
                id: at as u64,
                state: [LinkState::Healthy, LinkState::Suspect, LinkState::Closed][usize::from(*state)],
                draining: *draining,
                streams: *streams,
            }).collect();
            let paris = id("paris");
            let candidates = [Candidate { cluster: &paris, links: links.clone() }];
            let usable = |link: &LinkView| link.state.takes_streams();
            match choose(&candidates, false, &Tried::default(), Draws(draws)) {
                None => prop_assert!(!links.iter().any(usable)),
                Some(Choice::Here) => prop_assert!(false, "nothing is here"),
                Some(Choice::Link { link, .. }) => {
                    prop_assert!(links.iter().any(|view| view.id == link && usable(view)));
                }
            }
        }
    }

    /// A hiccup is over when the link is heard again: then it takes the call.
    #[test]
    fn a_link_that_was_silent_is_tried_again_and_one_that_failed_is_not() {
        let mut tried = Tried::default();
        tried.learn(Scope::Silence, id("paris"), 1);
        tried.learn(Scope::Link, id("paris"), 2);
        let may = |number| tried.may_return_to(&link(number, LinkState::Suspect, 0));
        assert_eq!([may(1), may(2)], [true, false]);
    }
}
