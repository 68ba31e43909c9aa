//! Pure: which of a member's controllers plans and writes.
//!
//! All of them observe; the one whose name stands in the Lease `landbridge-controller` acts. It renews the Lease every
//! second and believes itself for three from when it asked. Whoever waits takes the Lease over four seconds after the
//! last change that it saw, by its own clock, so that no two clocks are compared and the two never overlap. The API
//! server decides between two who bid at once, by the version of the Lease.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::ResourceExt;
use landbridge_api::{convert, watch::Change};
use landbridge_model::{Namespace, Timestamp};

/// The Lease that a member's controllers share, in the system namespace.
pub const LEASE: &str = "landbridge-controller";
/// How often the holder renews: a standby sees four renewals before it would take over.
const RENEW: Duration = Duration::from_secs(1);
/// How long the holder believes itself, counted from when it asked for the last renewal that succeeded.
const VALID: Duration = Duration::from_secs(3);
/// How long a standby waits for a change: one second after the holder has stopped by itself, and one before the five
/// within which it is promised to act.
const EXPIRY: Duration = Duration::from_secs(4);
/// The same, as the Lease tells it to people.
const EXPIRY_SECONDS: i32 = 4;
/// How soon a bid that failed is tried again: the namespace of the Lease is made within milliseconds, an API server
/// that is away comes back within seconds.
const RETRY: Duration = Duration::from_millis(100);

/// One controller's view of who holds the Lease.
#[derive(Debug)]
pub struct Election {
    me: String,
    namespace: Namespace,
    is_synced: bool,
    /// Whether a listing has not told of the Lease yet.
    is_unlisted: bool,
    lease: Option<(Lease, Instant)>,
    /// Since when a bid is under way.
    asked: Option<Instant>,
    /// Whether the Lease was told gone since: the answer to the bid may say what was before.
    is_overtaken: bool,
    held_until: Option<Instant>,
    next: Option<Instant>,
    /// Since when a Lease that another controller held is gone. That one may not have heard of it.
    vacant: Option<Instant>,
}

/// A Lease as it is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Bid {
    /// The whole Lease.
    pub lease: Lease,
    /// Whether there is one already, in the version that the bid names.
    pub exists: bool,
}

impl Election {
    /// Nothing seen yet, by the controller `me`.
    #[must_use]
    pub fn new(me: String, namespace: Namespace) -> Self {
        Self {
            me,
            namespace,
            is_synced: false,
            is_unlisted: false,
            lease: None,
            asked: None,
            is_overtaken: false,
            held_until: None,
            next: None,
            vacant: None,
        }
    }

    /// Takes in what the watch of Leases says.
    pub fn take(&mut self, change: &Change<Lease>, now: Instant) {
        match change {
            Change::Apply(lease) if lease.name_any() == LEASE => self.see(lease, now),
            Change::Delete(key) if key.name == LEASE => self.lose(now),
            Change::Apply(_)
            | Change::Delete(_)
            | Change::Interrupted(_)
            | Change::Malformed(_) => {}
            Change::Listed => {
                self.is_synced = true;
                if std::mem::take(&mut self.is_unlisted) {
                    self.lose(now);
                }
                self.heard_nothing_until(now);
            }
            Change::Listing => self.is_unlisted = true,
            Change::Resumed => self.heard_nothing_until(now),
        }
    }

    /// The holder is given the whole time again: it may have renewed unheard.
    fn heard_nothing_until(&mut self, now: Instant) {
        if let Some((_, since)) = &mut self.lease {
            *since = now;
        }
    }

    fn lose(&mut self, now: Instant) {
        if self.holder().is_some() && !self.held_last() {
            self.vacant = Some(now);
        }
        self.lease = None;
        self.held_until = None;
        self.is_overtaken = true;
    }

    fn see(&mut self, lease: &Lease, now: Instant) {
        self.vacant = None;
        self.is_unlisted = false;
        match &mut self.lease {
            Some((known, _)) if known.uid() == lease.uid() && version(lease) <= version(known) => {}
            Some((known, since)) => {
                if known.spec != lease.spec {
                    *since = now;
                }
                known.clone_from(lease);
            }
            None => self.lease = Some((lease.clone(), now)),
        }
        if self.holder() != Some(self.me.as_str()) {
            self.held_until = None;
        }
    }

    /// The bid that is due, if any; it is under way until [`Self::answered`]. `wall` is what the Lease tells people.
    pub fn poll(&mut self, now: Instant, wall: Timestamp) -> Option<Bid> {
        if self.asked.is_some() || self.next_wakeup(now).is_none_or(|at| at > now) {
            return None;
        }
        self.asked = Some(now);
        self.is_overtaken = false;
        Some(self.bid(Some(self.me.clone()), wall))
    }

    fn bid(&self, holder: Option<String>, wall: Timestamp) -> Bid {
        let wall = MicroTime(convert::time(wall));
        let known = self.lease.as_ref().map(|(lease, _)| lease);
        let mut lease = known.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                namespace: Some(self.namespace.to_string()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let mut spec = lease.spec.take().unwrap_or_default();
        if spec.holder_identity != holder && holder.is_some() {
            let transitions = spec.lease_transitions.unwrap_or(-1);
            spec.lease_transitions = Some(transitions.saturating_add(1));
            spec.acquire_time = Some(wall.clone());
        }
        lease.metadata.managed_fields = None;
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.unwrap_or_default()),
            lease_duration_seconds: Some(EXPIRY_SECONDS),
            renew_time: Some(wall),
            ..spec
        });
        Bid { lease, exists: known.is_some() }
    }

    /// What came of the bid: the Lease as it is now; none where it was refused or nothing was heard.
    pub fn answered(&mut self, lease: Option<&Lease>, now: Instant) {
        let asked = self.asked.take();
        let lease = lease.filter(|_| !self.is_overtaken);
        let Some((lease, asked)) = lease.zip(asked) else {
            self.next = Some(now + RETRY);
            return;
        };
        self.next = None;
        self.see(lease, now);
        if self.holder() == Some(self.me.as_str()) {
            self.held_until = Some(asked + VALID);
            self.next = Some(asked + RENEW);
        }
    }

    /// When [`Self::poll`] has a bid; none while one is under way or the Lease is not known.
    #[must_use]
    pub fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        if self.asked.is_some() || !self.is_synced {
            return None;
        }
        let at = match &self.lease {
            Some((lease, since)) if holder(lease).is_some_and(|holder| holder != self.me) => {
                *since + EXPIRY
            }
            _ => self.vacant.map_or(now, |since| since + EXPIRY),
        };
        Some(self.next.map_or(at, |next| next.max(at)))
    }

    /// Until when this controller may act; none where it may not.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Whether this controller plans and writes at `now`.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Who was last seen to hold the Lease.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref().and_then(|(lease, _)| holder(lease))
    }

    /// Whether this controller was the last that was seen to hold the Lease, if only it could renew it: so it goes on
    /// telling the set that the member lives while the member's own API is away.
    #[must_use]
    pub fn held_last(&self) -> bool {
        self.holder() == Some(self.me.as_str())
    }

    /// What gives the Lease back at the end, where it is this controller's: the next one need not wait.
    pub fn release(&mut self, wall: Timestamp) -> Option<Bid> {
        self.held_until = None;
        self.held_last().then(|| self.bid(None, wall))
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

/// Resource versions of one object are numbers that grow (Kubernetes API conventions, "Resource versions").
fn version(lease: &Lease) -> u64 {
    let version = lease.metadata.resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use landbridge_api::watch::ObjectKey;

    use super::*;

    /// An API server with one Lease, and controllers that bid.
    struct World {
        start: Instant,
        lease: Option<Lease>,
        version: u64,
        controllers: Vec<Election>,
    }

    impl World {
        fn new(names: &[&str]) -> Self {
            let namespace = Namespace::parse("landbridge-system").unwrap();
            let controllers = names.iter().map(|name| {
                let mut election = Election::new((*name).to_owned(), namespace.clone());
                for nothing in Change::listing([], []) {
                    election.take(&nothing, Instant::now());
                }
                election
            });
            Self {
                start: Instant::now(),
                lease: None,
                version: 0,
                controllers: controllers.collect(),
            }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        /// Takes a bid as an API server does: in the right version, or not at all.
        fn write(&mut self, bid: Bid) -> Option<Lease> {
            let known = self.lease.as_ref();
            let fits = known.map(|lease| &lease.metadata.resource_version)
                == bid.exists.then_some(&bid.lease.metadata.resource_version);
            fits.then(|| {
                self.version += 1;
                let mut lease = bid.lease;
                lease.metadata.uid = Some("uid".into());
                lease.metadata.resource_version = Some(self.version.to_string());
                self.lease = Some(lease.clone());
                lease
            })
        }

        /// Lets one controller do what is due.
        fn act(&mut self, who: usize, millis: u64) {
            let now = self.at(millis);
            let wall = Timestamp::from_millis(i64::try_from(millis).unwrap());
            if let Some(bid) = self.controllers[who].poll(now, wall) {
                let answer = self.write(bid);
                self.controllers[who].answered(answer.as_ref(), now);
            }
        }

        /// Everybody hears how the Lease is.
        fn hear(&mut self, millis: u64) {
            let now = self.at(millis);
            if let Some(lease) = &self.lease {
                for controller in &mut self.controllers {
                    controller.take(&Change::Apply(lease.clone()), now);
                }
            }
        }

        fn leaders(&self, millis: u64) -> Vec<usize> {
            let now = self.at(millis);
            let leads = |who: &usize| self.controllers[*who].leads(now);
            (0..self.controllers.len()).filter(leads).collect()
        }
    }

    #[test]
    fn of_two_who_bid_at_once_one_wins_and_keeps_it() {
        let mut world = World::new(&["a", "b"]);
        for millis in (0..20_000).step_by(100) {
            world.act(0, millis);
            world.act(1, millis);
            world.hear(millis);
            assert_eq!(world.leaders(millis), [0], "{millis} ms");
        }
        let spec = world.lease.unwrap().spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
        assert_eq!(spec.lease_transitions, Some(0));
        assert_eq!(world.version, 20, "one renewal a second");
    }

    /// "Lease election, the standby takes over within 5 s", and never while the other one may still write.
    #[test]
    fn a_holder_that_dies_is_followed_within_five_seconds() {
        let mut world = World::new(&["a", "b"]);
        for millis in (0..10_000).step_by(50) {
            if millis <= 3_000 {
                world.act(0, millis);
            }
            world.act(1, millis);
            world.hear(millis);
            assert!(world.leaders(millis).len() <= 1, "{millis} ms");
            if millis >= 8_000 {
                assert_eq!(world.leaders(millis), [1], "{millis} ms");
            }
        }
        let spec = world.lease.unwrap().spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(1));
    }

    #[test]
    fn a_holder_that_cannot_renew_stops_by_itself() {
        let mut world = World::new(&["a"]);
        world.act(0, 0);
        assert_eq!(world.leaders(2_900), [0]);
        let due = world.at(1_000);
        let bid = world.controllers[0].poll(due, Timestamp::from_millis(0));
        assert!(bid.is_some());
        let later = world.at(2_500);
        world.controllers[0].answered(None, later);
        assert_eq!(world.leaders(3_000), [0; 0]);
        assert!(world.controllers[0].held_last());
        world.act(0, 3_100);
        assert_eq!(world.leaders(3_100), [0], "the API is back");
    }

    #[test]
    fn a_lease_that_is_given_back_is_taken_at_once() {
        let mut world = World::new(&["a", "b"]);
        world.act(0, 0);
        world.hear(0);
        world.act(1, 100);
        assert_eq!(world.leaders(100), [0]);
        let bid = world.controllers[0].release(Timestamp::from_millis(0));
        world.write(bid.unwrap()).unwrap();
        assert_eq!(world.leaders(200), [0; 0]);
        world.hear(200);
        world.act(1, 200);
        assert_eq!(world.leaders(200), [1]);
        assert_eq!(
            world.controllers[1].release(Timestamp::from_millis(0)).map(|bid| bid.exists),
            Some(true)
        );
    }

    #[test]
    fn what_somebody_else_has_written_into_the_lease_is_believed() {
        let mut world = World::new(&["a"]);
        world.act(0, 0);
        let mut lease = world.lease.clone().unwrap();
        lease.metadata.resource_version = Some("9".into());
        lease.spec.as_mut().unwrap().holder_identity = Some("by-hand".into());
        let now = world.at(10);
        world.controllers[0].take(&Change::Apply(lease), now);
        assert_eq!(world.leaders(10), [0; 0]);
        let gone = ObjectKey { namespace: "landbridge-system".into(), name: LEASE.into() };
        world.controllers[0].take(&Change::Delete(gone), now);
        world.lease = None;
        world.act(0, 4_000);
        assert_eq!(
            world.leaders(4_000),
            [0; 0],
            "whoever held it may not have heard that it is gone"
        );
        world.act(0, 4_010);
        assert_eq!(world.leaders(4_010), [0], "it is made anew");
    }

    /// Somebody deletes the Lease, and the standby hears of it before the holder does.
    #[test]
    fn a_lease_that_is_gone_is_not_taken_from_who_may_not_have_heard() {
        let mut world = World::new(&["a", "b"]);
        world.act(0, 0);
        world.hear(0);
        world.lease = None;
        let gone = ObjectKey { namespace: "landbridge-system".into(), name: LEASE.into() };
        let (now, heard) = (world.at(100), Change::Delete(gone));
        world.controllers[1].take(&heard, now);
        for millis in (100..3_000).step_by(100) {
            world.act(1, millis);
            assert_eq!(world.leaders(millis), [0], "{millis} ms");
        }
        let now = world.at(3_000);
        world.controllers[0].take(&heard, now);
        world.act(0, 3_000);
        assert_eq!(world.leaders(3_000), [0], "its holder makes it anew at once");
    }

    /// A Lease that was written and then deleted by somebody, of which the watch tells before the answer comes, is
    /// not believed to be there: nothing would ever say again that it is gone.
    #[test]
    fn a_lease_that_is_gone_before_the_answer_comes_is_made_anew() {
        let mut world = World::new(&["a"]);
        world.act(0, 0);
        let due = world.at(1_000);
        let bid = world.controllers[0].poll(due, Timestamp::from_millis(0)).unwrap();
        let answer = world.write(bid);
        let gone = ObjectKey { namespace: "landbridge-system".into(), name: LEASE.into() };
        world.controllers[0].take(&Change::Delete(gone), due);
        world.lease = None;
        world.controllers[0].answered(answer.as_ref(), due);
        assert_eq!(world.leaders(1_000), [0; 0]);
        world.act(0, 1_100);
        assert_eq!(world.leaders(1_100), [0]);
    }

    #[test]
    fn nobody_bids_before_the_leases_were_read_or_because_nothing_was_heard() {
        let namespace = Namespace::parse("landbridge-system").unwrap();
        let mut election = Election::new("a".into(), namespace);
        let start = Instant::now();
        let wall = Timestamp::from_millis(0);
        assert_eq!(election.poll(start, wall), None);
        let mut other = World::new(&["b"]);
        other.act(0, 0);
        let lease = other.lease.unwrap();
        election.take(&Change::Apply(lease.clone()), start);
        let late = start + Duration::from_secs(60);
        for change in Change::listing([lease], []) {
            election.take(&change, late);
        }
        assert_eq!(election.poll(late, wall), None);
        assert!(election.poll(late + EXPIRY, wall).is_some());
    }
}
