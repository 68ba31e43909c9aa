//! Pure: when a link is to be trusted with new calls, and when a lost one is dialled again.
//!
//! ```text
//!            200 ms + rtt        350 ms or 3 PTO         10 s
//!  Healthy ───────────────▶ Quiet ───────────▶ Suspect ───────▶ Closed
//!     ▲                       │                   │
//!     └────── any packet ─────┴───────────────────┘
//! ```
//!
//! Both sides send keep-alives each 100 ms, so silence means something. Suspicion only keeps new calls away; what is
//! open stays open until the connection closes, so that a hiccup cuts nothing.

use std::time::{Duration, Instant};

/// How often each side says that it is there while nothing else is said.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_millis(100);
/// How often links are looked at: often enough that suspicion comes well within half a second.
pub(crate) const POLL: Duration = Duration::from_millis(25);
/// Silence after which no payload is sent ahead of an answer: two keep-alives went unanswered.
const QUIET: Duration = Duration::from_millis(200);
/// Silence after which a peer is suspect: three keep-alives went unanswered.
const SUSPECT: Duration = Duration::from_millis(350);
/// The longest gap between two looks that is counted as silence of the peer. A longer one means that this process
/// itself did not run, and packets may be waiting that it has not read yet.
const LONGEST_LOOK: Duration = Duration::from_millis(100);
/// How often a suspect peer is tried by another path. What stands between may have forgotten the path that there was: a
/// load balancer, or connection tracking that was emptied. The new one must have the time for a round trip.
const MOVE: Duration = Duration::from_millis(250);
/// What RFC 9000 section 13.2.1 lets a peer delay an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// How a link is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum LinkState {
    /// Heard from lately.
    Healthy,
    /// Silent for longer than usual: new streams, but no payload before an answer.
    Quiet,
    /// Silent for so long that new streams go elsewhere.
    Suspect,
    /// Gone.
    Closed,
}

impl LinkState {
    /// Whether new streams may use the link.
    #[must_use]
    pub(crate) fn takes_streams(self) -> bool {
        matches!(self, Self::Healthy | Self::Quiet)
    }

    /// One word for metrics and objects.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Healthy => "healthy",
            Self::Quiet => "quiet",
            Self::Suspect => "suspect",
        }
    }
}

/// What happens to a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// The connection is gone.
    Closed,
    /// So many datagrams have been received in all, and this is the smoothed round trip.
    Heard {
        /// Datagrams since the connection was made.
        datagrams: u64,
        /// The smoothed round trip.
        round_trip: Duration,
    },
}

/// What is known of one link's health.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: LinkState,
    datagrams: u64,
    /// Whether a packet came since the last look.
    heard: bool,
    silence: Duration,
    looked: Instant,
    round_trip: Duration,
    /// When another path was last tried.
    moved: Option<Instant>,
}

impl Health {
    /// A link that was made just now.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: LinkState::Healthy,
            datagrams: 0,
            heard: false,
            silence: Duration::ZERO,
            looked: now,
            round_trip: Duration::ZERO,
            moved: None,
        }
    }

    /// Takes in what has happened.
    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Closed => self.state = LinkState::Closed,
            Event::Heard { datagrams, round_trip } => {
                self.round_trip = round_trip;
                if datagrams != self.datagrams {
                    self.datagrams = datagrams;
                    self.heard = true;
                }
            }
        }
    }

    /// How the link is at `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> LinkState {
        let gap = now.saturating_duration_since(self.looked);
        self.looked = now;
        if self.state == LinkState::Closed {
            return self.state;
        }
        self.silence = if std::mem::take(&mut self.heard) {
            Duration::ZERO
        } else {
            self.silence + gap.min(LONGEST_LOOK)
        };
        self.state = if self.silence >= suspect_after(self.round_trip) {
            LinkState::Suspect
        } else if self.silence >= QUIET + self.round_trip {
            LinkState::Quiet
        } else {
            LinkState::Healthy
        };
        self.state
    }

    /// Whether to try another path at `now` (RFC 9000 section 9: a client may move).
    pub(crate) fn moves(&mut self, now: Instant) -> bool {
        let wait = MOVE.max(self.round_trip * 2);
        let rested = self.moved.is_none_or(|moved| now.saturating_duration_since(moved) >= wait);
        let moves = self.state == LinkState::Suspect && rested;
        if moves {
            self.moved = Some(now);
        }
        moves
    }

    /// When to look again; never, once the link is gone.
    #[must_use]
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        (self.state != LinkState::Closed).then(|| self.looked + POLL)
    }
}

/// The silence after which a peer with this round trip is suspect: 350 ms, or three probe timeouts (RFC 9002 section
/// 6.2.1) on paths so long that it takes more.
#[must_use]
pub(crate) fn suspect_after(round_trip: Duration) -> Duration {
    let probe_timeout = round_trip + round_trip / 2 + ACK_DELAY;
    SUSPECT.max(probe_timeout * 3)
}

/// The waits between tries to dial an address: doubling from 0.1 to 2 seconds, with jitter. A gateway that goes serves
/// for longer than that, so that whoever restarts one replica after the other leaves no gap.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(Self::FIRST, Self::LONGEST)
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    /// Others than the usual ones.
    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The next wait; `draw` is evenly distributed in 0 to 1 and spreads dialers that lost a peer together.
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let full = self.first.saturating_mul(1 << self.tries.min(6)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(0.5 + 0.5 * draw.clamp(0.0, 1.0))
    }

    /// A connection was made: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn another_path_is_tried_while_a_peer_is_suspect_and_not_too_often() {
        let start = Instant::now();
        let mut health = Health::new(start);
        let mut moved = Vec::new();
        for at in (0..=900).step_by(25) {
            // It is heard again at last.
            let datagrams = u64::from(at >= 850);
            health.apply(Event::Heard { datagrams, round_trip: Duration::ZERO });
            health.poll(start + ms(at));
            if health.moves(start + ms(at)) {
                moved.push(at);
            }
        }
        assert_eq!(moved, [350, 600]);
    }

    /// Looks at a link each 25 ms, of which a packet comes in at the times in `heard`, and tells when it was what.
    fn check(round_trip: Duration, heard: &[u64], until: u64) -> Vec<(u64, LinkState)> {
        let start = Instant::now();
        let mut health = Health::new(start);
        let mut told = vec![(0, LinkState::Healthy)];
        for at in (0..=until).step_by(25) {
            let datagrams = heard.iter().filter(|&&time| time <= at).count() as u64;
            health.apply(Event::Heard { datagrams, round_trip });
            let state = health.poll(start + ms(at));
            if told.last().is_some_and(|(_, last)| *last != state) {
                told.push((at, state));
            }
        }
        told
    }

    /// Design, "Gateway": "Silence of 350 ms makes a peer suspect".
    #[test]
    fn silence_makes_suspect_and_any_packet_heals() {
        assert_eq!(
            check(ms(1), &[0, 100, 200, 1000, 1100], 1100),
            [
                (0, LinkState::Healthy),
                (425, LinkState::Quiet),
                (550, LinkState::Suspect),
                (1000, LinkState::Healthy)
            ]
        );
    }

    #[test]
    fn keep_alives_are_enough_to_stay_healthy() {
        let heard: Vec<u64> = (0..100).map(|beat| beat * 130).collect();
        assert_eq!(check(ms(5), &heard, 12_000), [(0, LinkState::Healthy)]);
    }

    #[test]
    fn long_paths_are_given_three_probe_timeouts() {
        assert_eq!(suspect_after(ms(10)), ms(350));
        assert_eq!(suspect_after(ms(100)), ms(525));
        assert_eq!(
            check(ms(200), &[0], 1200),
            [(0, LinkState::Healthy), (400, LinkState::Quiet), (975, LinkState::Suspect)]
        );
    }

    #[test]
    fn ones_own_absence_is_not_the_peers_silence() {
        let start = Instant::now();
        let mut health = Health::new(start);
        assert_eq!(health.poll(start + Duration::from_secs(30)), LinkState::Healthy);
        assert_eq!(health.next_wakeup(), Some(start + Duration::from_secs(30) + POLL));
    }

    #[test]
    fn closed_is_for_good() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.apply(Event::Closed);
        health.apply(Event::Heard { datagrams: 5, round_trip: ms(1) });
        assert_eq!(health.poll(start + ms(1)), LinkState::Closed);
        assert_eq!(health.next_wakeup(), None);
    }

    #[test]
    fn waits_double_within_bounds() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..8).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits[..3], [ms(100), ms(200), ms(400)]);
        assert_eq!(waits[7], Duration::from_secs(2));
        backoff.reset();
        assert_eq!(backoff.next(0.0), ms(50));
    }
}
