//! Pure: how long a UDP flow lasts, and which flows a port remembers.
//!
//! UDP has no end, so silence is one. The times are those of the Linux connection tracking below kube-proxy
//! (`nf_conntrack_udp_timeout` and `nf_conntrack_udp_timeout_stream`): as long as a node sends a client's datagrams
//! here, they find the pod that the first of them found.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::Hash,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Silence that ends a flow: a question and its answer take no longer.
const SHORT: Duration = Duration::from_secs(30);
/// Silence that ends a flow in which both sides have spoken for longer than [`YOUNG`].
const LONG: Duration = Duration::from_secs(120);
/// What is older than this, and answered, is a conversation.
const YOUNG: Duration = Duration::from_secs(2);
/// How many flows are looked at for one that is evicted: those that were due first may have been used since.
const LOOKS: usize = 8;

/// When a flow was last used, by either side.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// Milliseconds since it began.
    last: AtomicU64,
    answered: AtomicBool,
    conversation: AtomicBool,
}

impl Activity {
    /// A flow that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            last: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            conversation: AtomicBool::new(false),
        }
    }

    /// The client has sent something.
    pub(crate) fn asked(&self, now: Instant) {
        let age = self.touch(now);
        if age > YOUNG && self.answered.load(Ordering::Relaxed) {
            self.conversation.store(true, Ordering::Relaxed);
        }
    }

    /// The pod has sent something.
    pub(crate) fn answered(&self, now: Instant) {
        let age = self.touch(now);
        if age > YOUNG {
            self.conversation.store(true, Ordering::Relaxed);
        }
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the pod has ever sent something.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn touch(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.began);
        self.last.fetch_max(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        age
    }
}

/// Something that ends by itself unless it is used.
pub(crate) trait Ends {
    /// When, if nothing happens before.
    fn ends(&self) -> Instant;
}

impl Ends for Activity {
    fn ends(&self) -> Instant {
        let silence = if self.conversation.load(Ordering::Relaxed) { LONG } else { SHORT };
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + silence
    }
}

/// The flows of one port by client, at most so many.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    most: usize,
    flows: HashMap<K, V>,
    /// One entry for each flow, with the earliest time at which it may end: looked at again then.
    due: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Copy + Eq + Hash + Ord, V: Ends> Table<K, V> {
    /// Empty, with room for `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, flows: HashMap::new(), due: BinaryHeap::new() }
    }

    /// The flow of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.flows.get(key)
    }

    /// Puts a flow in, in place of the one of the same key; where there is no room, in place of one that has been
    /// silent for long, which is returned.
    pub(crate) fn put(&mut self, key: K, flow: V) -> Option<V> {
        if let Some(place) = self.flows.get_mut(&key) {
            // What is due for the one before is looked at then.
            *place = flow;
            return None;
        }
        let evicted = if self.flows.len() >= self.most { self.evict() } else { None };
        self.due.push(Reverse((flow.ends(), key)));
        self.flows.insert(key, flow);
        evicted
    }

    /// Takes out the flow that is due first, as far as a few looks tell.
    pub(crate) fn evict(&mut self) -> Option<V> {
        for look in 1.. {
            let Reverse((due, key)) = self.due.pop()?;
            let ends = self.flows.get(&key)?.ends();
            if ends <= due || look >= LOOKS {
                return self.flows.remove(&key);
            }
            self.due.push(Reverse((ends, key)));
        }
        None
    }

    /// Takes out what has ended by `now`, and says how many.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let before = self.flows.len();
        while let Some(Reverse((due, key))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            match self.flows.get(&key).map(Ends::ends) {
                Some(ends) if ends > now => self.due.push(Reverse((ends, key))),
                _ => drop(self.flows.remove(&key)),
            }
        }
        before - self.flows.len()
    }

    /// When to look for what has ended.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// When a flow ends after datagrams at these seconds: `?` of the client, `!` of the pod.
    fn check(datagrams: &str) -> u64 {
        let start = Instant::now();
        let activity = Activity::new(start);
        for word in datagrams.split_whitespace() {
            let (who, at) = word.split_at(1);
            let at = start + s(at.parse().unwrap());
            if who == "?" { activity.asked(at) } else { activity.answered(at) }
        }
        (activity.ends() - start).as_secs()
    }

    #[test]
    fn a_flow_lasts_as_long_as_connection_tracking_has_it() {
        assert_eq!(check("?0"), 30);
        assert_eq!(check("?0 !1"), 31, "a question and its answer");
        assert_eq!(check("?0 ?10"), 40, "nobody answers");
        assert_eq!(check("?0 !1 ?3"), 123, "a conversation");
        assert_eq!(check("?0 !3"), 123, "a late answer");
        assert_eq!(check("?0 !3 ?2"), 123, "datagrams that meet count once");
    }

    impl Ends for Instant {
        fn ends(&self) -> Instant {
            *self
        }
    }

    impl Ends for std::rc::Rc<std::cell::Cell<Instant>> {
        fn ends(&self) -> Instant {
            self.get()
        }
    }

    #[test]
    fn flows_that_are_used_stay_and_silent_ones_go() {
        let start = Instant::now();
        let mut table = Table::new(10);
        let used = std::rc::Rc::new(std::cell::Cell::new(start + s(1)));
        table.put(1, std::rc::Rc::clone(&used));
        table.put(2, std::rc::Rc::new(std::cell::Cell::new(start + s(2))));
        assert_eq!(table.next_wakeup(), Some(start + s(1)));
        used.set(start + s(5));
        assert_eq!(table.expire(start + s(2)), 1);
        assert!(table.get(&1).is_some() && table.get(&2).is_none());
        assert_eq!(table.next_wakeup(), Some(start + s(5)));
        assert_eq!(table.expire(start + s(5)), 1);
        assert_eq!(table.next_wakeup(), None);
    }

    #[test]
    fn a_full_table_makes_room_by_the_one_that_was_silent_for_longest() {
        let start = Instant::now();
        let mut table = Table::new(2);
        assert_eq!(table.put(1, start + s(9)), None);
        assert_eq!(table.put(2, start + s(3)), None);
        assert_eq!(table.put(2, start + s(4)), None, "the same client again needs no room");
        assert_eq!(table.put(3, start + s(5)), Some(start + s(4)));
        assert!(table.get(&1).is_some() && table.get(&2).is_none() && table.get(&3).is_some());
    }

    proptest! {
        /// Whatever happens, there is room, and for each flow one time at which it is looked at.
        #[test]
        fn a_table_never_outgrows_its_bound(steps in proptest::collection::vec((0_u8..20, 0_u64..50, any::<bool>()), 0..200)) {
            let start = Instant::now();
            let mut table = Table::new(7);
            for (key, at, expire) in steps {
                if expire {
                    table.expire(start + s(at));
                } else {
                    table.put(key, start + s(at));
                }
                prop_assert!(table.flows.len() <= 7);
                prop_assert_eq!(table.flows.len(), table.due.len());
            }
        }
    }
}
