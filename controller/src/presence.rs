//! Pure: which of the local gateways answer when they are asked.
//!
//! One that has not answered for a second is silent. It is heard again once it has answered for a while, and for
//! twice as long each time that it has fallen silent again, so that a gateway that flaps does not cost a write of
//! every slice each second.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// "one silent for 1 s leaves the slices".
const SILENCE: Duration = Duration::from_secs(1);
/// How long a gateway answers before it is believed again the first time: two or three answers.
const FIRST_PROOF: Duration = Duration::from_millis(600);
/// The longest proof that is asked for: half a minute of answers without a gap.
const LONGEST_PROOF: Duration = Duration::from_secs(30);
/// A gateway that was well for this long has not flapped.
const FORGIVEN: Duration = Duration::from_secs(300);

/// Who of the gateways was heard when.
#[derive(Debug, Default)]
pub struct Presence(BTreeMap<SocketAddr, State>);

#[derive(Clone, Copy, Debug)]
struct State {
    answered: Instant,
    /// Since when every question was answered.
    steady: Option<Instant>,
    is_silent: bool,
    /// How often it has fallen silent again soon after it had come back.
    falls: u32,
    /// When it last came back.
    back: Option<Instant>,
}

impl Presence {
    /// `gateways` are all that there are. A new one is believed until it is silent for too long.
    pub fn expect(&mut self, gateways: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        let gateways: BTreeSet<SocketAddr> = gateways.into_iter().collect();
        self.0.retain(|gateway, _| gateways.contains(gateway));
        for gateway in gateways {
            self.0.entry(gateway).or_insert(State {
                answered: now,
                steady: None,
                is_silent: false,
                falls: 0,
                back: None,
            });
        }
    }

    /// Everybody was asked, and these have answered.
    pub fn heard(&mut self, answers: &BTreeSet<SocketAddr>, now: Instant) {
        for (gateway, state) in &mut self.0 {
            if answers.contains(gateway) {
                state.answered = now;
                state.steady.get_or_insert(now);
            } else {
                state.steady = None;
            }
            state.judge(now);
        }
    }

    /// Who is silent.
    #[must_use]
    pub fn silent(&self) -> BTreeSet<SocketAddr> {
        let silent = self.0.iter().filter(|(_, state)| state.is_silent);
        silent.map(|(gateway, _)| *gateway).collect()
    }
}

impl State {
    fn judge(&mut self, now: Instant) {
        let since = |at: Instant| now.saturating_duration_since(at);
        if !self.is_silent {
            if since(self.answered) >= SILENCE {
                self.is_silent = true;
                let is_flapping = self.back.is_some_and(|back| since(back) < FORGIVEN);
                self.falls = if is_flapping { self.falls.saturating_add(1) } else { 0 };
            }
            return;
        }
        let proof = FIRST_PROOF.saturating_mul(1 << self.falls.min(16)).min(LONGEST_PROOF);
        if self.steady.is_some_and(|steady| since(steady) >= proof) {
            self.is_silent = false;
            self.back = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "10.244.3.10:9901";

    /// Asks three times a second; `answers` says whether there is an answer. Gives back every change, in
    /// milliseconds.
    fn changes(until: u64, answers: impl Fn(u64) -> bool) -> Vec<(u64, bool)> {
        let start = Instant::now();
        let gateway: SocketAddr = GATEWAY.parse().unwrap();
        let mut presence = Presence::default();
        let mut changes = Vec::new();
        let mut was_silent = false;
        for millis in (0..until).step_by(300) {
            let now = start + Duration::from_millis(millis);
            presence.expect([gateway], now);
            let heard: BTreeSet<SocketAddr> =
                answers(millis).then_some(gateway).into_iter().collect();
            presence.heard(&heard, now);
            let is_silent = !presence.silent().is_empty();
            if is_silent != was_silent {
                changes.push((millis, is_silent));
            }
            was_silent = is_silent;
        }
        changes
    }

    #[test]
    fn a_gateway_is_silent_after_a_second_and_heard_when_it_has_answered_for_a_while() {
        let away = changes(20_000, |millis| !(3_000..6_000).contains(&millis));
        assert_eq!(away, [(3_900, true), (6_600, false)]);
        let hiccup = changes(20_000, |millis| !(3_000..3_700).contains(&millis));
        assert_eq!(hiccup, []);
    }

    #[test]
    fn one_that_flaps_is_believed_less_and_less() {
        // Away for one and a half seconds of every three.
        let flaps = changes(600_000, |millis| millis % 3_000 < 1_500);
        assert!(flaps.len() < 8, "{flaps:?}");
        let seldom = changes(2_000_000, |millis| millis % 600_000 < 597_000);
        assert_eq!(seldom.len(), 6, "an old fall is forgiven: {seldom:?}");
    }

    #[test]
    fn a_gateway_that_is_gone_is_not_silent_but_forgotten() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.expect([GATEWAY.parse().unwrap()], now);
        presence.heard(&BTreeSet::new(), now + SILENCE);
        assert_eq!(presence.silent().len(), 1);
        presence.expect([], now + SILENCE);
        assert!(presence.silent().is_empty());
    }
}
