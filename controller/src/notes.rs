//! Pure: what people are told by Kubernetes Events, and how often.
//!
//! An Event says that something has turned: an export became valid or not, is carried or refused, conflicts or does
//! so no more; an import was made or removed. Conditions say the same for as long as it holds.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta},
};
use landbridge_api::{convert, watch::ObjectKey};
use landbridge_model::{Namespace, Timestamp};

use crate::{
    observed::{Observed, Withheld},
    plan::{Kind, Object, Plan, Write},
};

/// How many Events may be written at once: a team that exports its services sees each.
const BURST: u32 = 50;
/// How long it takes until one more may be written: a cold start of a thousand imports is not news.
const PACE: Duration = Duration::from_secs(1);
/// For how long the same is not said again of the same object.
const REPEAT: Duration = Duration::from_secs(300);
/// How many sentences are remembered, so as not to repeat them: more than are written within that time.
const MOST_REMEMBERED: usize = 512;
/// The longest note that an API server takes.
const LONGEST: usize = 1_000;

/// Something to tell of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    kind: Kind,
    key: ObjectKey,
    is_warning: bool,
    reason: String,
    sentence: String,
}

/// What `plan` will have turned once it is carried out. Where a namespace goes, nobody is left to be told there, and an
/// API server takes nothing new.
#[must_use]
pub fn notes(observed: &Observed, plan: &Plan) -> Vec<Note> {
    let writes = plan.steps.iter().flatten();
    let notes = writes.flat_map(|write| of_write(observed, write));
    notes.filter(|note| observed.is_open(&note.key.namespace)).collect()
}

fn of_write(observed: &Observed, write: &Write) -> Vec<Note> {
    let import = |key: &ObjectKey, reason: &str, sentence: &str| Note {
        kind: Kind::ServiceImport,
        key: key.clone(),
        is_warning: false,
        reason: reason.to_owned(),
        sentence: sentence.to_owned(),
    };
    match write {
        Write::Create(Object::ServiceImport(object)) => {
            let key = ObjectKey::of(&object.metadata);
            vec![import(&key, "Imported", "The service can be called here.")]
        }
        Write::Delete { kind: Kind::ServiceImport, key, .. } => {
            let namespace = Namespace::parse(&key.namespace).ok();
            let withheld = namespace.and_then(|namespace| observed.withheld(&namespace));
            let removed = match withheld {
                Some(Withheld::NotSelected) => (
                    "NotSelected",
                    "The controller imports services of other namespaces only (--import-namespaces, --import-namespace-selector).",
                ),
                _ => ("Removed", "No cluster exports the service to this one."),
            };
            vec![import(key, removed.0, removed.1)]
        }
        Write::Status { kind: kind @ Kind::ServiceExport, key, status } => {
            let before = observed.service_exports.find(key);
            let before = before.map_or(&[][..], |view| &view.conditions);
            let after: Vec<Condition> =
                serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
            let turned = after.iter().filter_map(|after| {
                let before = before.iter().find(|before| before.type_ == after.type_);
                turn(before, after)
            });
            let note = |(is_warning, reason, sentence)| Note {
                kind: *kind,
                key: key.clone(),
                is_warning,
                reason,
                sentence,
            };
            turned.map(note).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether it is a warning, its reason and its sentence, where a condition has turned in a way that matters.
fn turn(before: Option<&Condition>, after: &Condition) -> Option<(bool, String, String)> {
    let was = before.map(|before| (before.status.as_str(), before.reason.as_str()));
    if was == Some((after.status.as_str(), after.reason.as_str())) {
        return None;
    }
    let good = |reason: &str, sentence: &str| Some((false, reason.to_owned(), sentence.to_owned()));
    let bad = |reason: &str| Some((true, reason.to_owned(), after.message.clone()));
    let had = |status: &str| was.is_some_and(|(was, _)| was == status);
    match (after.type_.as_str(), after.status.as_str()) {
        ("Valid", "False") | ("Degraded", "True") => bad(&after.reason),
        ("Valid", "True") if had("False") => good("Valid", "The service can be exported."),
        ("Ready", "False") if after.reason != "Pending" => bad(&after.reason),
        ("Ready", "True") => good("Exported", "The set was told of the service."),
        ("Conflict", "True") => bad("Conflict"),
        ("Conflict", "False") if had("True") => good("NoConflicts", "All exporters agree."),
        ("Degraded", "False") if had("True") => good("NothingLeftOut", "All of it is exported."),
        _ => None,
    }
}

/// Keeps Events rare: each once in a while, and all of them within a bound.
#[derive(Debug)]
pub struct Notebook {
    me: String,
    budget: u32,
    paid: Instant,
    said: BTreeMap<(Kind, ObjectKey, String, String), Instant>,
    serial: u64,
}

impl Notebook {
    /// Nothing said yet, by the controller `me`.
    #[must_use]
    pub fn new(me: String, now: Instant) -> Self {
        Self { me, budget: BURST, paid: now, said: BTreeMap::new(), serial: 0 }
    }

    /// The Events to write of `notes`, and how many are left out because there are too many.
    pub fn events(
        &mut self,
        observed: &Observed,
        notes: Vec<Note>,
        now: Instant,
        wall: Timestamp,
    ) -> (Vec<Event>, u64) {
        while self.budget < BURST && now.saturating_duration_since(self.paid) >= PACE {
            self.budget += 1;
            self.paid += PACE;
        }
        if self.budget == BURST {
            self.paid = now;
        }
        let is_fresh = |said: Instant| now.saturating_duration_since(said) < REPEAT;
        self.said.retain(|_, said| is_fresh(*said));
        let (mut events, mut left_out) = (Vec::new(), 0);
        for note in notes {
            let sentence =
                (note.kind, note.key.clone(), note.reason.clone(), note.sentence.clone());
            if self.said.contains_key(&sentence) {
                continue;
            }
            if self.budget == 0 || self.said.len() >= MOST_REMEMBERED {
                left_out += 1;
                continue;
            }
            self.budget -= 1;
            self.said.insert(sentence, now);
            self.serial += 1;
            events.push(self.event(observed, note, wall));
        }
        (events, left_out)
    }

    fn event(&self, observed: &Observed, note: Note, wall: Timestamp) -> Event {
        let uid = match note.kind {
            Kind::ServiceImport => {
                observed.service_imports.row(&note.key).map(|row| row.uid.clone())
            }
            _ => observed.service_exports.row(&note.key).map(|row| row.uid.clone()),
        };
        let verb = if note.kind == Kind::ServiceImport { "Import" } else { "Export" };
        Event {
            action: Some(verb.to_owned()),
            event_time: Some(MicroTime(convert::time(wall))),
            metadata: ObjectMeta {
                name: Some(format!("{}.{}.{}", note.key.name, self.me, self.serial)),
                namespace: Some(note.key.namespace.clone()),
                ..ObjectMeta::default()
            },
            note: Some(note.sentence.chars().take(LONGEST).collect()),
            reason: Some(note.reason.chars().take(128).collect()),
            regarding: Some(ObjectReference {
                api_version: Some(observed.mcs.api_version().to_owned()),
                kind: Some(note.kind.as_str().to_owned()),
                name: Some(note.key.name),
                namespace: Some(note.key.namespace),
                uid,
                ..ObjectReference::default()
            }),
            reporting_controller: Some("landbridge.dev/controller".to_owned()),
            reporting_instance: Some(self.me.clone()),
            type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use landbridge_api::condition::{Wanted, apply};
    use landbridge_model::ClusterId;

    use super::*;
    use crate::Config;

    fn condition(type_: &'static str, status: bool, reason: &str) -> Condition {
        let wanted = [Wanted::new(type_, status, reason, "why")];
        apply(&[], &wanted, None, Timestamp::from_millis(0)).remove(0)
    }

    #[test]
    fn what_turns_is_told_and_what_stays_is_not() {
        let told = |before: Option<(bool, &str)>, type_, status, reason| {
            let before = before.map(|(status, reason)| condition(type_, status, reason));
            turn(before.as_ref(), &condition(type_, status, reason))
                .map(|(is_warning, reason, _)| format!("{is_warning} {reason}"))
        };
        for (before, type_, status, reason, expected) in [
            (None, "Valid", true, "Valid", None),
            (None, "Valid", false, "NoService", Some("true NoService")),
            (Some((false, "NoService")), "Valid", true, "Valid", Some("false Valid")),
            (None, "Ready", false, "Pending", None),
            (Some((false, "Pending")), "Ready", true, "Exported", Some("false Exported")),
            (Some((true, "Exported")), "Ready", true, "Exported", None),
            (None, "Ready", false, "Failed", Some("true Failed")),
            (None, "Conflict", true, "PortConflict", Some("true Conflict")),
            (None, "Conflict", false, "NoConflicts", None),
            (
                Some((true, "PortConflict")),
                "Conflict",
                false,
                "NoConflicts",
                Some("false NoConflicts"),
            ),
        ] {
            assert_eq!(
                told(before, type_, status, reason).as_deref(),
                expected,
                "{type_} {reason}"
            );
        }
    }

    #[test]
    fn the_same_is_not_said_twice_and_not_too_much_at_once() {
        let observed = Observed::new(Config::new(
            ClusterId::parse("paris").unwrap(),
            "demo".parse().unwrap(),
            "a".parse().unwrap(),
            Namespace::parse("landbridge-system").unwrap(),
        ));
        let note = |number: u32| Note {
            kind: Kind::ServiceExport,
            key: ObjectKey { namespace: "shop".into(), name: format!("web-{number}") },
            is_warning: true,
            reason: "Conflict".into(),
            sentence: "why".into(),
        };
        let start = Instant::now();
        let mut notebook = Notebook::new("me".into(), start);
        let mut say = |numbers: std::ops::Range<u32>, after: Duration| {
            let notes = numbers.map(note).collect();
            let wall = Timestamp::from_millis(0);
            let (events, left_out) = notebook.events(&observed, notes, start + after, wall);
            (events.len(), left_out)
        };
        assert_eq!(say(0..1, Duration::ZERO), (1, 0));
        assert_eq!(say(0..1, Duration::ZERO), (0, 0));
        assert_eq!(say(0..100, Duration::ZERO), (49, 50));
        assert_eq!(say(60..70, PACE * 5), (5, 5));
        assert_eq!(say(0..1, REPEAT + PACE), (1, 0), "after a while it is news again");
    }
}
