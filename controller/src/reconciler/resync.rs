//! Pure: which services are planned again although nothing has changed.
//!
//! All of them at once would be a second's work with a thousand, in which news waits: each has its moment in a round.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use landbridge_model::ServiceKey;

use super::pace::Pace;

/// How often a few are planned again. Plans that are true cost no write.
const STEP: Duration = Duration::from_secs(1);
/// In how many steps each service has had its turn: a minute heals what no watch tells, such as the name of a derived
/// slice that somebody has taken and given back.
const STEPS: usize = 60;

/// A round that is under way.
#[derive(Debug)]
pub(super) struct Resync {
    pace: Pace,
    left: VecDeque<ServiceKey>,
    steps: usize,
}

/// What is due.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Due {
    /// Whether a round begins, and with it what concerns no service.
    pub(super) begins: bool,
    /// Services.
    pub(super) services: Vec<ServiceKey>,
}

impl Resync {
    pub(super) fn new(now: Instant) -> Self {
        Self { pace: Pace::new(STEP, now), left: VecDeque::new(), steps: 0 }
    }

    /// What is due at `now`. A round is of all services that there are when it begins.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        all: impl FnOnce() -> BTreeSet<ServiceKey>,
    ) -> Option<Due> {
        if !self.pace.is_due(now) {
            return None;
        }
        let begins = self.steps == 0;
        if begins {
            self.left = all().into_iter().collect();
            self.steps = STEPS;
        }
        // So that the last step has the last ones, whatever remains.
        let share = self.left.len().div_ceil(self.steps);
        self.steps -= 1;
        Some(Due { begins, services: self.left.drain(..share).collect() })
    }

    pub(super) fn next(&self) -> Instant {
        self.pace.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(count: usize) -> BTreeSet<ServiceKey> {
        let name = |at: usize| -> ServiceKey { format!("shop/web-{at}").parse().unwrap() };
        (0..count).map(name).collect()
    }

    #[track_caller]
    fn check(count: usize, most_at_once: usize) {
        let start = Instant::now();
        let mut resync = Resync::new(start);
        let (mut planned, mut rounds) = (BTreeSet::new(), 0);
        for second in 0..60 {
            let now = start + STEP * second;
            assert!(resync.next() <= now);
            let due = resync.poll(now, || services(count)).unwrap();
            assert_eq!(resync.poll(now, || services(count)), None, "once in a step");
            assert!(due.services.len() <= most_at_once, "{due:?}");
            rounds += u32::from(due.begins);
            planned.extend(due.services);
        }
        assert_eq!((planned, rounds), (services(count), 1));
    }

    /// "Be bounded in flight": a thousand services are not planned at once because a minute has gone by.
    #[test]
    fn every_service_has_its_turn_once_a_minute_and_few_at_a_time() {
        check(0, 0);
        check(1, 1);
        check(59, 1);
        check(61, 2);
        check(1_000, 17);
    }

    #[test]
    fn what_came_during_a_round_is_planned_in_the_next_one() {
        let start = Instant::now();
        let mut resync = Resync::new(start);
        for second in 0..60 {
            resync.poll(start + STEP * second, BTreeSet::new);
        }
        let due = resync.poll(start + STEP * 60, || services(1)).unwrap();
        assert_eq!(due, Due { begins: true, services: services(1).into_iter().collect() });
    }
}
