//! Pure: where one connection goes.
//!
//! Clusters of the own region come first, then the others; among them two are drawn, and the one with fewer calls is taken;
//! likewise among its links, those over QUIC before those over TCP. A TrafficPolicy may weigh them instead, or let calls go on to others before nobody is left. What
//! has been tried is not tried again. Unless clusters are weighed, this cluster's own pods come last: kube-proxy would have
//! taken them had it wanted to.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`rules`] | how are the calls of one service spread? |
//! | [`spread`] | which one of several, by weight and load? |
//! | [`affinity`] | which one for a client whose calls are to stay together? |
//! | [`outlier`] | which of them are left out for a while? |
//! | [`pods`] | and, in the cluster that serves it, which pod? |
//! | [`tried`] | what has been tried? |

pub(crate) mod affinity;
pub(crate) mod outlier;
pub(crate) mod pods;
pub(crate) mod rules;
mod spread;
#[cfg(test)]
mod tests;
mod tried;

use std::time::Instant;

use landbridge_model::ClusterId;

pub(crate) use self::tried::{Scope, Tried};
use self::{
    affinity::Key,
    rules::{Capacity, Rules, WHOLE},
    spread::{Share, by_weight, less_loaded},
};
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
    /// Whether it goes over TCP, for want of a better way.
    pub(crate) fallback: bool,
    /// Streams open on it.
    pub(crate) streams: usize,
}

impl LinkView {
    fn usable(&self, tried: &Tried, draining: bool) -> bool {
        self.state.takes_streams() && self.draining == draining && !tried.links.contains(&self.id)
    }
}

/// One cluster that serves the port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Candidate<'a> {
    /// Which.
    pub(crate) cluster: &'a ClusterId,
    /// Where its pods are.
    pub(crate) place: Place,
    /// Its links; none to the own cluster.
    pub(crate) links: Vec<LinkView>,
    /// Its endpoints, where they are known.
    pub(crate) capacity: Option<Capacity>,
    /// The calls to the service that it has through this gateway.
    pub(crate) calls: usize,
    /// Until when it is left out.
    pub(crate) out_until: Option<Instant>,
    /// Its share, of 100: less while it comes back.
    pub(crate) warmth: u32,
}

/// Where a cluster's pods are, the nearest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Place {
    /// In this cluster.
    Here,
    /// In this cluster's region.
    Region,
    /// Elsewhere.
    Elsewhere,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The clusters that serve it, this one among them where it has ready pods.
    pub(crate) candidates: &'a [Candidate<'a>],
    /// How its calls are spread.
    pub(crate) rules: &'a Rules,
    /// Whose calls are to stay together.
    pub(crate) affinity: Option<Key>,
}

/// Random numbers: one for who is near enough, two for the cluster, two for the link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws(pub(crate) [u64; 5]);

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

/// A cluster that may be called now, and the links that may be used for that.
type Usable<'a> = (&'a Candidate<'a>, Vec<&'a LinkView>);

/// Chooses; none where nobody is left.
#[must_use]
pub(crate) fn choose(asked: Asked<'_>, tried: &Tried, draws: Draws) -> Option<Choice> {
    let is_weighed = asked.rules.weighs();
    let here = asked.candidates.iter().any(|one| one.place == Place::Here) && !tried.here;
    let among = |draining| {
        let usable = usable(asked.candidates, tried, draining);
        let usable = usable.filter(|(one, _)| is_weighed || one.place != Place::Here);
        choose_among(asked, &usable.collect::<Vec<_>>(), draws)
    };
    // A peer that is about to go serves for a little longer: better than nobody.
    among(false).or_else(|| here.then_some(Choice::Here)).or_else(|| among(true))
}

fn usable<'a>(
    candidates: &'a [Candidate<'a>],
    tried: &'a Tried,
    draining: bool,
) -> impl Iterator<Item = Usable<'a>> {
    candidates.iter().filter_map(move |one| {
        let links = one.links.iter().filter(|link| link.usable(tried, draining));
        let mut links: Vec<&LinkView> = links.collect();
        // Where there is a better way, nobody takes the worse one.
        if links.iter().any(|link| !link.fallback) {
            links.retain(|link| !link.fallback);
        }
        let may = match one.place {
            Place::Here => !draining && !tried.here,
            _ => !links.is_empty() && !tried.clusters.contains(one.cluster),
        };
        may.then_some((one, links))
    })
}

fn choose_among(asked: Asked<'_>, usable: &[Usable<'_>], draws: Draws) -> Option<Choice> {
    let [near, first, second, third, fourth] = draws.0;
    let out: Vec<_> = usable.iter().map(|(one, _)| one.out_until).collect();
    let used = outlier::used(&out, &asked.rules.outliers);
    let used = usable.iter().zip(used).filter_map(|(one, used)| used.then_some(one));
    let mut used: Vec<&Usable<'_>> = used.collect();
    if used.is_empty() {
        // A policy may let all be left out; a call is tried all the same.
        used = usable.iter().collect();
    }
    let near = asked.affinity.map_or(near, |key| key.draw("near"));
    let tier = tier(asked.rules, &used, near);
    let (one, links) = in_tier(asked, &tier, [first, second])?;
    if one.place == Place::Here {
        return Some(Choice::Here);
    }
    let share = |link: &&LinkView| Share { weight: 1, load: link.streams };
    let link = less_loaded(links, share, [third, fourth])?;
    Some(Choice::Link { cluster: one.cluster.clone(), link: link.id })
}

/// Those among whom the choice is: the nearest, unless a rule says that some calls go on. Where nobody takes a call, the
/// nearest do all the same.
fn tier<'a, 'b>(rules: &Rules, used: &[&'a Usable<'b>], mut draw: u64) -> Vec<&'a Usable<'b>> {
    let rank = |one: &Candidate<'_>| match &rules.weights {
        Some(weights) => weights.get(one.cluster).is_none_or(|weight| *weight == 0).into(),
        None if rules.anywhere => 0,
        None => one.place as u8,
    };
    let mut ranks: Vec<u8> = used.iter().map(|(one, _)| rank(one)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let of = |wanted: u8| {
        let those = used.iter().filter(|(one, _)| rank(one) == wanted);
        those.copied().collect::<Vec<_>>()
    };
    for wanted in &ranks {
        let those = of(*wanted);
        let taken = rules.spill.map_or(WHOLE, |spill| {
            let capacity = those.iter().map(|(one, _)| one.capacity).sum::<Option<Capacity>>();
            let calls: usize = those.iter().map(|(one, _)| one.calls).sum();
            spill.taken(capacity, calls / those.len().max(1))
        });
        if draw % u64::from(WHOLE) < u64::from(taken) {
            return those;
        }
        draw /= u64::from(WHOLE);
    }
    ranks.first().map(|first| of(*first)).unwrap_or_default()
}

impl std::iter::Sum for Capacity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            ready: sum.ready.saturating_add(one.ready),
            total: sum.total.saturating_add(one.total),
        })
    }
}

fn in_tier<'a, 'b>(
    asked: Asked<'_>,
    tier: &[&'a Usable<'b>],
    draws: [u64; 2],
) -> Option<&'a Usable<'b>> {
    let weights = weights(asked.rules, tier);
    if let Some(key) = asked.affinity {
        let costs = tier.iter().zip(&weights).filter(|(_, weight)| **weight > 0);
        let costs = costs.map(|(one, weight)| (key.cost(one.0.cluster.as_str(), *weight), *one));
        return costs.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, one)| one);
    }
    if asked.rules.weights.is_some() {
        return tier.get(by_weight(&weights, draws[0])?).copied();
    }
    let numbered: Vec<(usize, u32)> = weights.into_iter().enumerate().collect();
    let share = |(at, weight): &(usize, u32)| Share { weight: *weight, load: tier[*at].0.calls };
    less_loaded(&numbered, share, draws).map(|(at, _)| tier[*at])
}

/// What share each of a tier gets.
fn weights(rules: &Rules, tier: &[&Usable<'_>]) -> Vec<u32> {
    let all_known = tier.iter().all(|(one, _)| one.capacity.is_some());
    let of = |one: &Candidate<'_>| {
        let weight = match &rules.weights {
            Some(weights) => weights.get(one.cluster).copied().unwrap_or_default(),
            // More pods carry more.
            None if all_known => one.capacity.map_or(1, |capacity| capacity.ready.clamp(1, 1_000)),
            None => 1,
        };
        let taken = rules.spill.map_or(WHOLE, |spill| spill.taken(one.capacity, one.calls));
        weight * (taken * one.warmth / WHOLE).max(u32::from(taken > 0))
    };
    let weights: Vec<u32> = tier.iter().map(|(one, _)| of(one)).collect();
    // Where none of them takes any, or none has a weight, they are all alike.
    if weights.iter().all(|weight| *weight == 0) { vec![1; tier.len()] } else { weights }
}
