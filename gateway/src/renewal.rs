//! Pure: when a certificate is renewed, what becomes of files that cannot be used, and how long a link lasts.
//!
//! ```text
//! leaf   issued ──────────────── 2/3 + up to 1/6 of its life: renewed ────────── its end
//! link   made ───────────── a quarter of its life before its end: another beside it ── its end ── 1 h: cut
//! ```
//!
//! A link lasts as long as the certificates of both ends. Another is made well before that, and at once where this
//! side's certificate is another one than the link was made with. What is open on the old one goes on until it ends.

use std::time::Duration;

use landbridge_model::Timestamp;

use crate::pki::{Texts, Validity};

/// How often files are looked at: Kubernetes itself takes up to a minute until a Secret's new content is in a pod.
pub(crate) const LOOK: Duration = Duration::from_secs(10);
/// How long what is open on a link may go on after the link's certificates have ended. Its ends were who they said when
/// it was made; an hour lets what takes long finish, and a stolen certificate gain little.
pub(crate) const GRACE: Duration = Duration::from_secs(60 * 60);
/// The most that a link is replaced ahead of its end.
const AHEAD: Duration = Duration::from_secs(60 * 60);
/// How long a link that has been replaced must have been idle before it is closed: the peer has heard by then that it
/// takes no more streams.
pub(crate) const IDLE: Duration = Duration::from_secs(2);
/// How often people are reminded that a certificate is about to end.
const REMIND: Duration = Duration::from_secs(60 * 60);

fn after(at: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(millis))
}

/// What is to be done with files that were read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Look {
    /// They hold what is in force.
    Same,
    /// An identity is to be made of them.
    Try,
}

/// What is known of the files that an identity is made of.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    in_force: Texts,
    /// When a leaf that is issued here is issued anew.
    due: Option<Timestamp>,
    /// When the certificates in force end, and when people are told that they do.
    until: Timestamp,
    remind: Timestamp,
    /// What could not be used at the last look, and whether that has been told.
    refused: Option<(Option<Texts>, bool)>,
    draw: f64,
}

impl Renewal {
    /// `texts` are in force since `now`, for certificates that are `valid` so long, which are issued here or not. `draw`,
    /// evenly distributed in 0 to 1, keeps replicas from renewing together.
    pub(crate) fn new(texts: Texts, valid: Validity, issues: bool, draw: f64) -> Self {
        let mut new = Self {
            in_force: texts.clone(),
            due: None,
            until: valid.until,
            remind: valid.until,
            refused: None,
            draw,
        };
        new.took(texts, valid, issues);
        new
    }

    /// Whether something is to be made of what was read.
    pub(crate) fn look(&self, texts: &Texts, now: Timestamp) -> Look {
        let due = self.due.is_some_and(|due| now >= due);
        if due || *texts != self.in_force { Look::Try } else { Look::Same }
    }

    /// What was read is in force.
    pub(crate) fn took(&mut self, texts: Texts, valid: Validity, issues: bool) {
        let life = valid.until.since(valid.from);
        let share = 2.0 / 3.0 + self.draw.clamp(0.0, 1.0) / 6.0;
        self.due = issues.then(|| after(valid.from, life.mul_f64(share)));
        self.until = valid.until;
        self.remind = before(valid.until, life / 8);
        self.in_force = texts;
        self.refused = None;
    }

    /// What was read (none where not even that could be done) cannot be used. Says whether to tell: once for each content,
    /// and not before it was found twice, for files that belong together may be written one after the other.
    pub(crate) fn refused(&mut self, texts: Option<Texts>) -> bool {
        match &mut self.refused {
            Some((before, told)) if *before == texts => !std::mem::replace(told, true),
            refused => {
                *refused = Some((texts, false));
                false
            }
        }
    }

    /// Files are again what is in force.
    pub(crate) fn same(&mut self) {
        self.refused = None;
    }

    /// Whether people are to be reminded that the certificates in force end soon: in the last eighth of their life.
    pub(crate) fn reminds(&mut self, now: Timestamp) -> bool {
        let reminds = now >= self.remind;
        if reminds {
            self.remind = after(now, REMIND);
        }
        reminds
    }

    /// When the certificates in force end.
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }
}

/// When a link was made, and when the first of its certificates ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    pub(crate) made: Timestamp,
    pub(crate) until: Timestamp,
}

/// What becomes of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It goes on.
    Stands,
    /// Another is to take its place.
    Retires,
    /// It has lasted too long.
    Ends,
}

impl Span {
    /// What is due at `now`.
    pub(crate) fn fate(self, now: Timestamp) -> Fate {
        if now >= after(self.until, GRACE) {
            Fate::Ends
        } else if now >= self.retires() {
            Fate::Retires
        } else {
            Fate::Stands
        }
    }

    fn retires(self) -> Timestamp {
        before(self.until, (self.until.since(self.made) / 4).min(AHEAD))
    }

    /// How long to wait for the next thing to do.
    pub(crate) fn wait(self, now: Timestamp) -> Duration {
        let next = if now < self.retires() { self.retires() } else { after(self.until, GRACE) };
        next.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn texts(certificate: &str) -> Texts {
        Texts([certificate.to_owned(), "key".to_owned(), "roots".to_owned()])
    }

    fn day() -> Validity {
        Validity { from: at(0), until: at(24 * HOUR) }
    }

    /// Design, "Identity and access": "the member signs its own gateways' leaves (24 h)".
    #[test]
    fn a_leaf_that_is_issued_here_is_renewed_hours_before_its_end_and_replicas_not_together() {
        let due = |draw| {
            let renewal = Renewal::new(texts("a"), day(), true, draw);
            let hours =
                (0..24).find(|hour| renewal.look(&texts("a"), at(hour * HOUR)) == Look::Try);
            hours.unwrap()
        };
        assert_eq!((due(0.0), due(0.5), due(1.0)), (16, 18, 20));
        let other = Renewal::new(texts("a"), day(), false, 0.0);
        assert_eq!(other.look(&texts("a"), at(23 * HOUR)), Look::Same, "somebody else renews it");
        assert_eq!(other.look(&texts("b"), at(0)), Look::Try);
    }

    #[test]
    fn files_that_cannot_be_used_are_told_once_and_not_while_they_are_being_written() {
        let mut renewal = Renewal::new(texts("a"), day(), false, 0.0);
        let (half, bad) = (Some(texts("half")), Some(texts("bad")));
        assert!(!renewal.refused(half), "the rest may be on its way");
        assert!(!renewal.refused(bad.clone()));
        assert!(renewal.refused(bad.clone()));
        assert!(!renewal.refused(bad.clone()), "told already");
        renewal.same();
        assert!(!renewal.refused(None));
        assert!(renewal.refused(None), "they cannot even be read");
        renewal.took(texts("b"), day(), false);
        assert_eq!(renewal.look(&texts("b"), at(0)), Look::Same);
        assert!(!renewal.refused(bad));
    }

    #[test]
    fn people_are_reminded_each_hour_of_the_last_eighth() {
        let mut renewal = Renewal::new(texts("a"), day(), false, 0.0);
        let quarters = (0..24 * 4).filter(|quarter| renewal.reminds(at(quarter * HOUR / 4)));
        assert_eq!(quarters.collect::<Vec<_>>(), [84, 88, 92]);
    }

    /// Design, "Identity and access": "Links are replaced before their leaf expires".
    #[test]
    fn a_link_is_replaced_before_its_end_and_cut_an_hour_after_it() {
        let span = Span { made: at(0), until: at(24 * HOUR) };
        let fates = |hours: &[i64]| -> Vec<Fate> {
            hours.iter().map(|hour| span.fate(at(hour * HOUR))).collect()
        };
        assert_eq!(
            fates(&[0, 22, 23, 24, 25]),
            [Fate::Stands, Fate::Stands, Fate::Retires, Fate::Retires, Fate::Ends]
        );
        assert_eq!(span.wait(at(22 * HOUR)), Duration::from_secs(60 * 60));
        assert_eq!(span.wait(at(24 * HOUR)), GRACE);
        let short = Span { made: at(0), until: at(HOUR) };
        assert_eq!(short.fate(at(HOUR / 2)), Fate::Stands, "one must not chase another");
        assert_eq!(short.fate(at(HOUR * 3 / 4)), Fate::Retires);
    }
}
