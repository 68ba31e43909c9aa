//! Pure: what a watch asks the API for next, and what the answers mean.
//!
//! ```text
//!            last page                    lost its place (410)
//!   Page ───────────────► Watch ───────────────────────────────► Page
//!    ▲ │                   ▲ │
//!    └─┘ next page, retry  └─┘ the stream has ended: taken up at the last version seen
//! ```

use std::time::{Duration, Instant};

/// How soon what has failed is tried again at first. A restarted API server is back within seconds, and whoever
/// waits for an endpoint should not wait for a timer.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// A watch that ends sooner than this, with nothing told, has failed: servers end one after minutes.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ask {
    /// A page of all objects: the first one, or the one after that which ended with this.
    Page(Option<String>),
    /// What has changed since this version.
    Watch(String),
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The API cannot be read, for this reason.
    Away(String),
    /// The API does not know any more, or not yet, what has changed since the version, or where the page begins.
    Lost,
}

/// What one page is of the whole listing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part {
    /// It is the first one.
    pub(super) begins: bool,
    /// It is the last one.
    pub(super) ends: bool,
}

/// Where a watch is.
#[derive(Debug)]
pub(super) struct Course {
    ask: Ask,
    /// Whether it was told that the API is away, and not yet that it is back.
    is_away: bool,
    /// Since when a watch stands that has told nothing yet.
    opened: Option<Instant>,
    /// Whether the watch before it has ended as soon as it began.
    was_brief: bool,
    /// The longest that the next failure is followed by.
    backoff: Duration,
    /// Whether the next request has to wait.
    waits: bool,
}

impl Course {
    pub(super) fn new() -> Self {
        Self {
            ask: Ask::Page(None),
            is_away: false,
            opened: None,
            was_brief: false,
            backoff: FIRST_RETRY,
            waits: false,
        }
    }

    /// What is to be asked for.
    pub(super) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// How long to wait before that. Waits double up to the longest; `draw`, between 0 and 1, spreads them, so that a
    /// thousand watchers do not return to a restarted API server at once.
    pub(super) fn wait(&mut self, draw: f64) -> Duration {
        if !std::mem::take(&mut self.waits) {
            return Duration::ZERO;
        }
        let wait = self.backoff.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0);
        self.backoff = (self.backoff * 2).min(LONGEST_RETRY);
        wait
    }

    /// A page has come, and says where the next one begins, if there is one, and of which version all of it is.
    pub(super) fn page(&mut self, next: Option<String>, version: String) -> Part {
        let part = Part { begins: self.ask == Ask::Page(None), ends: next.is_none() };
        self.ask = next.map_or(Ask::Watch(version), |next| Ask::Page(Some(next)));
        if part.ends {
            self.is_away = false;
        }
        part
    }

    /// A watch stands. Whether it is to be told that the API is back.
    pub(super) fn opened(&mut self, now: Instant) -> bool {
        self.opened = Some(now);
        std::mem::take(&mut self.is_away)
    }

    /// The watch has told of something, and goes on from this version.
    pub(super) fn reached(&mut self, version: &str) {
        if !version.is_empty()
            && let Ask::Watch(known) = &mut self.ask
        {
            version.clone_into(known);
        }
        self.stands();
    }

    /// The watch has ended, for whatever reason: servers end each after some minutes, and when they restart. It is
    /// taken up where it was. Whether it is to be told that the API is away.
    pub(super) fn ended(&mut self, now: Instant) -> bool {
        let opened = self.opened.take();
        if opened.is_none_or(|opened| now.saturating_duration_since(opened) >= SHORTEST_WATCH) {
            self.stands();
            return false;
        }
        // One may have begun just when its server ended.
        self.waits = true;
        let again = std::mem::replace(&mut self.was_brief, true);
        self.is_away |= again;
        again
    }

    /// There is no answer. Why the API is away, if that is to be told.
    pub(super) fn failed(&mut self, failure: Failure) -> Option<String> {
        self.opened = None;
        self.waits = true;
        match failure {
            Failure::Lost if self.ask != Ask::Page(None) => {
                self.ask = Ask::Page(None);
                None
            }
            Failure::Lost => {
                self.is_away = true;
                Some("the first page of a listing is said to be too old".to_owned())
            }
            Failure::Away(reason) => {
                self.is_away = true;
                Some(reason)
            }
        }
    }

    /// The API does what it is asked for. A listing alone shows nothing: each may begin well and fail.
    fn stands(&mut self) {
        self.opened = None;
        self.was_brief = false;
        self.backoff = FIRST_RETRY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Failure {
        Failure::Away("refused".into())
    }

    /// A course that has listed everything at version 7, and watches.
    fn watching(now: Instant) -> Course {
        let mut course = Course::new();
        course.page(None, "7".into());
        assert!(!course.opened(now));
        course
    }

    fn watch(version: &str) -> Ask {
        Ask::Watch(version.into())
    }

    #[test]
    fn pages_follow_one_another_and_then_the_watch_from_the_version_of_the_last() {
        let mut course = Course::new();
        assert_eq!(*course.ask(), Ask::Page(None));
        let first = course.page(Some("b".into()), "7".into());
        assert_eq!(first, Part { begins: true, ends: false });
        assert_eq!(*course.ask(), Ask::Page(Some("b".into())));
        assert_eq!(course.page(None, "7".into()), Part { begins: false, ends: true });
        assert_eq!(*course.ask(), watch("7"));
        assert_eq!(course.wait(1.0), Duration::ZERO);
    }

    #[test]
    fn a_page_that_fails_is_asked_for_again_and_one_that_is_too_old_begins_anew() {
        let mut course = Course::new();
        course.page(Some("b".into()), "7".into());
        assert_eq!(course.failed(away()).as_deref(), Some("refused"));
        assert_eq!(*course.ask(), Ask::Page(Some("b".into())));
        assert_eq!(course.failed(Failure::Lost), None);
        assert_eq!(*course.ask(), Ask::Page(None));
        assert!(course.page(None, "9".into()).begins);
    }

    /// "members go on, serve, and catch up by resourceVersion with jitter".
    #[test]
    fn a_watch_is_taken_up_at_the_last_version_seen() {
        let now = Instant::now();
        let mut course = watching(now);
        course.reached("12");
        course.reached("");
        assert!(!course.ended(now), "what has told something has not failed");
        assert_eq!(*course.ask(), watch("12"));
        assert_eq!(course.wait(1.0), Duration::ZERO);
        assert!(course.failed(away()).is_some());
        assert_eq!(*course.ask(), watch("12"));
        assert!(course.wait(0.0) >= FIRST_RETRY / 2);
        assert!(course.opened(now), "whoever was told that it is away is told that it is back");
        assert!(!course.opened(now), "once");
    }

    /// Kubernetes API concepts, "410 Gone": "the client must handle the case by … performing a new get or list
    /// operation".
    #[test]
    fn a_watch_that_fell_behind_leads_to_one_listing() {
        let now = Instant::now();
        let mut course = watching(now);
        assert_eq!(course.failed(Failure::Lost), None, "the API can be read");
        assert_eq!(*course.ask(), Ask::Page(None));
        assert!(course.wait(0.0) > Duration::ZERO, "not everybody lists at once");
        assert_eq!(course.page(None, "30".into()), Part { begins: true, ends: true });
        assert_eq!(*course.ask(), watch("30"));
    }

    #[test]
    fn a_listing_after_an_interruption_says_that_the_api_is_back() {
        let now = Instant::now();
        let mut course = watching(now);
        course.failed(away());
        course.failed(Failure::Lost);
        course.page(None, "30".into());
        assert!(!course.opened(now), "the end of the listing has told it");
    }

    #[test]
    fn watches_that_end_as_they_begin_have_failed_and_are_not_taken_up_at_once() {
        let now = Instant::now();
        let mut course = watching(now);
        assert!(!course.ended(now + SHORTEST_WATCH / 2), "its server may have ended just then");
        let first = course.wait(1.0);
        assert!(!course.opened(now));
        assert!(course.ended(now));
        assert!(course.wait(1.0) > first);
        assert!(course.opened(now));
        assert!(!course.ended(now + SHORTEST_WATCH), "one that lasts has not");
        assert_eq!(course.wait(1.0), Duration::ZERO);
    }

    #[test]
    fn waits_double_up_to_the_longest_until_the_api_does_what_it_is_asked_for() {
        let now = Instant::now();
        let mut course = watching(now);
        let fail = |course: &mut Course, draw| {
            course.failed(away());
            course.wait(draw)
        };
        assert_eq!(fail(&mut course, 0.0), FIRST_RETRY / 2);
        assert_eq!(fail(&mut course, 1.0), FIRST_RETRY * 2);
        for _ in 0..10 {
            fail(&mut course, 1.0);
        }
        assert_eq!(fail(&mut course, 1.0), LONGEST_RETRY);
        assert_eq!(fail(&mut course, 0.0), LONGEST_RETRY / 2);
        course.opened(now);
        assert_eq!(fail(&mut course, 1.0), LONGEST_RETRY, "to be let in is not to be told");
        course.reached("8");
        assert_eq!(fail(&mut course, 1.0), FIRST_RETRY);
    }
}
