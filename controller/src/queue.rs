//! Pure: what is to be planned, in which order, and when what failed is tried again.
//!
//! ```text
//!           touch              take               done
//!   (idle) ───────► waiting ─────────► running ─────────► (idle)
//!                      ▲                  │ touched meanwhile: waiting again
//!                      └── retry is due ──┘ failed: later
//! ```
//! Work is kept once however often it is touched, so the queue is no longer than there are services, and the work of
//! one service never runs twice at the same time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::plan::{Side, Work};

/// How much work runs at one API at the same time. A create takes about 5 ms at a real API server, so that 64
/// make 10,000 a second, beyond what one writes; and it is no more than its fair queuing lets a client queue.
const MOST_RUNNING: usize = 64;
/// How soon failed work is tried again at first: a conflict is resolved by the next news of a watch, some
/// milliseconds later.
const FIRST_RETRY: Duration = Duration::from_millis(25);
/// The longest wait before an API that was away is tried again: whoever waits for it should hear within seconds.
pub const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// The longest wait before an API that has said no is asked again: what it lacks, a right or a namespace, comes from
/// people.
pub const LONGEST_APPEAL: Duration = Duration::from_secs(30);

/// What is to be planned.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: [VecDeque<Work>; 2],
    is_waiting: BTreeSet<Work>,
    running: BTreeMap<Work, bool>,
    running_at: [usize; 2],
    failures: BTreeMap<Work, u32>,
    later: BTreeMap<Work, Instant>,
}

fn at(side: Side) -> usize {
    match side {
        Side::Hub => 0,
        Side::Local => 1,
    }
}

impl Queue {
    /// Something that `work` depends on has changed.
    pub fn touch(&mut self, work: Work) {
        if let Some(touched) = self.running.get_mut(&work) {
            *touched = true;
            return;
        }
        self.later.remove(&work);
        if self.is_waiting.insert(work.clone()) {
            self.waiting[at(work.side())].push_back(work);
        }
    }

    /// The next work that may run now; it runs until it is [`Self::done`] or has [`Self::failed`].
    pub fn take(&mut self) -> Option<Work> {
        let side = (0..2).find(|side| {
            self.running_at[*side] < MOST_RUNNING && !self.waiting[*side].is_empty()
        })?;
        let work = self.waiting[side].pop_front()?;
        self.is_waiting.remove(&work);
        self.running.insert(work.clone(), false);
        self.running_at[side] += 1;
        Some(work)
    }

    /// Takes `work` and nothing else, where it waits; whether it did.
    pub fn take_only(&mut self, work: &Work) -> bool {
        if !self.is_waiting.remove(work) {
            return false;
        }
        let side = at(work.side());
        self.waiting[side].retain(|waiting| waiting != work);
        self.running.insert(work.clone(), false);
        self.running_at[side] += 1;
        true
    }

    /// `work` is done, and nothing went wrong.
    pub fn done(&mut self, work: &Work) {
        self.failures.remove(work);
        if self.stop(work) {
            self.touch(work.clone());
        }
    }

    /// `work` has failed; it is tried again, the later the more often it has failed, up to `longest`. `draw`, between
    /// 0 and 1, spreads what failed together.
    pub fn failed(&mut self, work: &Work, longest: Duration, now: Instant, draw: f64) {
        let touched = self.stop(work);
        let failures = self.failures.entry(work.clone()).or_default();
        let wait = FIRST_RETRY.saturating_mul(1 << (*failures).min(16)).min(longest);
        let first = *failures == 0;
        *failures = failures.saturating_add(1);
        if touched && first {
            self.touch(work.clone());
        } else {
            let wait = wait.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0);
            self.later.insert(work.clone(), now + wait);
        }
    }

    /// Takes `work` off the running; whether it was touched meanwhile.
    fn stop(&mut self, work: &Work) -> bool {
        let touched = self.running.remove(work);
        if touched.is_some() {
            let running = &mut self.running_at[at(work.side())];
            *running = running.saturating_sub(1);
        }
        touched.unwrap_or(false)
    }

    /// Brings back what is to be tried again.
    pub fn poll(&mut self, now: Instant) {
        let due = self.later.iter().filter(|(_, at)| **at <= now);
        let due: Vec<Work> = due.map(|(work, _)| work.clone()).collect();
        for work in due {
            self.touch(work);
        }
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }

    /// How much is waiting, now or for a later try.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.is_waiting.len() + self.later.len()
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.depth() == 0 && self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use landbridge_model::ServiceKey;

    use super::*;

    fn import(name: &str) -> Work {
        Work::Import(ServiceKey::parse("shop", name).unwrap())
    }

    #[test]
    fn work_is_kept_once_and_never_runs_twice_at_once() {
        let mut queue = Queue::default();
        queue.touch(import("web"));
        queue.touch(import("web"));
        assert_eq!(queue.take(), Some(import("web")));
        assert_eq!(queue.take(), None);
        queue.touch(import("web"));
        assert_eq!(queue.take(), None, "it is still running");
        queue.done(&import("web"));
        assert_eq!(queue.take(), Some(import("web")));
        queue.done(&import("web"));
        assert!(queue.is_idle());
    }

    #[test]
    fn failures_wait_longer_and_longer_until_something_changes() {
        let mut queue = Queue::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        queue.touch(import("web"));
        for _ in 0..10 {
            let work = queue.take().unwrap();
            queue.failed(&work, LONGEST_RETRY, now, 1.0);
            assert_eq!(queue.take(), None);
            let wakeup = queue.next_wakeup().unwrap();
            waits.push(wakeup - now);
            now = wakeup;
            queue.poll(now);
        }
        assert_eq!(waits[0], FIRST_RETRY);
        assert_eq!(waits[1], FIRST_RETRY * 2);
        assert_eq!(waits[9], LONGEST_RETRY);
        let work = queue.take().unwrap();
        queue.failed(&work, LONGEST_RETRY, now, 0.0);
        queue.touch(import("web"));
        assert_eq!(queue.take(), Some(import("web")), "news is not kept waiting");
    }

    #[test]
    fn trouble_with_the_hub_does_not_hold_up_the_cluster() {
        let mut queue = Queue::default();
        for number in 0..2 * MOST_RUNNING {
            let service = ServiceKey::parse("shop", &format!("s{number}")).unwrap();
            queue.touch(Work::Publish(service));
        }
        queue.touch(import("web"));
        let running: Vec<Work> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(running.len(), MOST_RUNNING + 1);
        assert!(running.contains(&import("web")));
    }
}
