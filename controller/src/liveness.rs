//! Pure: who has been silent for too long.
//!
//! What others write to say that they live is read as "it has changed", measured by the observer's own clock from
//! the last change that it saw: two machines' clocks are never compared. An API that cannot be read means unknown,
//! never expired, so an interruption starts every count anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kube::Resource;
use landbridge_api::watch::Change;

/// A member that has not changed its heartbeat for this long is silent: three beats of three seconds, and one more
/// second for a slow API.
pub const MEMBER_SILENCE: Duration = Duration::from_secs(10);
/// A gateway that has not renewed its Lease for this long is dead: five renewals of two seconds.
pub const GATEWAY_SILENCE: Duration = Duration::from_secs(10);

/// How long one's own word may take to come back: a slow write and its news. A member that beats every three seconds,
/// and was last heard one beat before an API vanished, is not silent before seven seconds; the own word, at the same
/// pace, is missed after five.
const ROUND: Duration = Duration::from_secs(2);

/// The longest time between two beats with which that holds: the own word is missed a beat and a round after an API
/// vanished, and by then no other may have been silent for too long who was heard a beat before.
pub const LONGEST_BEAT: Duration =
    MEMBER_SILENCE.checked_sub(ROUND).expect("a round is shorter").checked_div(2).expect("two");

/// When each of many was last heard.
#[derive(Debug)]
pub struct Liveness {
    after: Duration,
    heard: BTreeMap<String, (String, Instant)>,
    /// Who has not been listed yet.
    unlisted: BTreeSet<String>,
}

impl Liveness {
    /// Nobody yet; whoever is silent for `after` counts as silent.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self { after, heard: BTreeMap::new(), unlisted: BTreeSet::new() }
    }

    /// What `who` says of itself at the moment. Saying the same as before is silence.
    pub fn hear(&mut self, who: &str, says: &str, now: Instant) {
        match self.heard.get_mut(who) {
            Some((said, _)) if said == says => {}
            _ => {
                self.heard.insert(who.to_owned(), (says.to_owned(), now));
            }
        }
    }

    /// Nobody else exists any more.
    pub fn retain(&mut self, mut exists: impl FnMut(&str) -> bool) {
        self.heard.retain(|who, _| exists(who));
    }

    /// Nothing could be heard until now: everybody is given the whole time again.
    pub fn interrupted(&mut self, now: Instant) {
        for (_, at) in self.heard.values_mut() {
            *at = now;
        }
    }

    /// What a watch says of those who are heard by what `says` reads from their objects.
    pub fn take<K: Resource>(
        &mut self,
        change: &Change<K>,
        now: Instant,
        says: impl Fn(&K) -> String,
    ) {
        match change {
            Change::Apply(object) => {
                let name = object.meta().name.as_deref().unwrap_or_default();
                self.unlisted.remove(name);
                self.hear(name, &says(object), now);
            }
            Change::Delete(key) => self.retain(|who| who != key.name),
            Change::Interrupted(_) | Change::Malformed(_) => {}
            Change::Listed => {
                let gone = std::mem::take(&mut self.unlisted);
                self.retain(|who| !gone.contains(who));
                self.interrupted(now);
            }
            Change::Listing => self.unlisted = self.heard.keys().cloned().collect(),
            Change::Resumed => self.interrupted(now),
        }
    }

    /// Who is silent.
    #[must_use]
    pub fn silent(&self, now: Instant) -> BTreeSet<String> {
        self.heard
            .iter()
            .filter(|(_, (_, at))| now.saturating_duration_since(*at) >= self.after)
            .map(|(who, _)| who.clone())
            .collect()
    }

    /// Who is silent, where the observer speaks there itself as `own`, `every` so often: an API that vanishes without
    /// a word is noticed by that before anybody else has been silent for long enough. While the own word does not come
    /// back nothing is known, so nobody else becomes silent who was not `before`.
    #[must_use]
    pub fn silent_beside(
        &self,
        own: &str,
        every: Duration,
        before: &BTreeSet<String>,
        now: Instant,
    ) -> BTreeSet<String> {
        let mut silent = self.silent(now);
        let heard = self.heard.get(own).map(|(_, at)| now.saturating_duration_since(*at));
        if heard.is_some_and(|since| since > every + ROUND) {
            silent.retain(|who| who == own || before.contains(who));
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(silent: &BTreeSet<String>) -> Vec<&str> {
        silent.iter().map(String::as_str).collect()
    }

    #[test]
    fn repeating_oneself_is_silence() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(MEMBER_SILENCE);
        liveness.hear("paris", "1", at(0));
        liveness.hear("tokyo", "1", at(0));
        liveness.hear("paris", "2", at(6));
        liveness.hear("tokyo", "1", at(6));
        assert!(liveness.silent(at(9)).is_empty());
        assert_eq!(names(&liveness.silent(at(10))), ["tokyo"]);
        assert_eq!(names(&liveness.silent(at(16))), ["paris", "tokyo"]);
        liveness.hear("tokyo", "2", at(17));
        assert_eq!(names(&liveness.silent(at(17))), ["paris"]);
        liveness.retain(|who| who == "tokyo");
        assert!(liveness.silent(at(17)).is_empty());
    }

    /// Design, "Joining, liveness, leaving": "A hub that cannot be read means unknown, never expired."
    #[test]
    fn nobody_is_silent_because_nothing_could_be_heard() {
        let start = Instant::now();
        let mut liveness = Liveness::new(MEMBER_SILENCE);
        liveness.hear("paris", "1", start);
        liveness.interrupted(start + Duration::from_secs(60));
        assert!(liveness.silent(start + Duration::from_secs(65)).is_empty());
        assert_eq!(names(&liveness.silent(start + Duration::from_secs(70))), ["paris"]);
    }

    /// The same of a hub that vanishes without ending a connection: nothing says that it cannot be read.
    #[test]
    fn nobody_becomes_silent_while_ones_own_word_does_not_come_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let beat = Duration::from_secs(3);
        let mut liveness = Liveness::new(MEMBER_SILENCE);
        let before = BTreeSet::from(["oslo".to_owned()]);
        liveness.hear("oslo", "1", at(0));
        liveness.hear("tokyo", "1", at(17));
        liveness.hear("paris", "1", at(20));
        // The hub vanishes here.
        for seconds in [25, 26, 27, 29] {
            let silent = liveness.silent_beside("paris", beat, &before, at(seconds));
            assert_eq!(names(&silent), ["oslo"], "after {seconds} s");
        }
        let silent = liveness.silent_beside("paris", beat, &before, at(60));
        assert_eq!(names(&silent), ["oslo", "paris"], "whoever has this id is silent too");
        // It is back, and tells of all that it was told meanwhile.
        liveness.hear("oslo", "2", at(61));
        liveness.hear("paris", "2", at(62));
        let silent = liveness.silent_beside("paris", beat, &before, at(62));
        assert_eq!(names(&silent), ["tokyo"]);
    }
}
