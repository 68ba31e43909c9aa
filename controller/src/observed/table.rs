//! Pure: the last known state of every object of one kind, whatever the order in which news of it came.
//!
//! A controller hears of its own writes twice: in the answer and, later, in the watch. The table keeps the newer of
//! the two, so that a watch which lags behind does not bring back what was.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use landbridge_api::watch::{Change, Malformed, ObjectKey, Unlisted};

/// An object as it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row<T> {
    /// Tells this object from an earlier one of the same name.
    pub(crate) uid: String,
    /// What an update must name.
    pub(crate) version: String,
    /// What matters of it.
    pub(crate) kept: T,
}

/// All objects of one kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Table<T> {
    rows: BTreeMap<ObjectKey, Row<T>>,
    malformed: BTreeMap<ObjectKey, String>,
    unlisted: Unlisted,
    synced: bool,
    trouble: Option<String>,
}

/// What a change did to a table.
pub(crate) struct Taken<T> {
    /// Each object that is not as it was, and what it was.
    pub(crate) steps: Vec<(ObjectKey, Option<T>)>,
    /// Each object that is newly found unreadable.
    pub(crate) malformed: Vec<Malformed>,
    /// Whether the table can or cannot be read any more, as opposed to before.
    pub(crate) turned: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            malformed: BTreeMap::new(),
            unlisted: Unlisted::default(),
            synced: false,
            trouble: None,
        }
    }
}

impl<T> Table<T> {
    /// Whether there was a first complete picture.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Why the API cannot be read at the moment.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(crate) fn row(&self, key: &ObjectKey) -> Option<&Row<T>> {
        self.rows.get(key)
    }

    pub(crate) fn find(&self, key: &ObjectKey) -> Option<&T> {
        self.rows.get(key).map(|row| &row.kept)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&ObjectKey, &Row<T>)> {
        self.rows.iter()
    }

    /// The objects of a namespace.
    pub(crate) fn rows_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Row<T>)> {
        let first = ObjectKey { namespace: namespace.to_owned(), name: String::new() };
        self.rows.range(first..).take_while(move |(key, _)| key.namespace == namespace)
    }

    /// The objects that cannot be read, and why.
    pub(crate) fn malformed(&self) -> &BTreeMap<ObjectKey, String> {
        &self.malformed
    }
}

impl<T: PartialEq> Table<T> {
    /// Takes in what a watch or an answer says; `keep` reads an object.
    pub(crate) fn take<K: Resource>(
        &mut self,
        change: Change<K>,
        keep: impl FnOnce(K) -> Result<T, String>,
    ) -> Taken<T> {
        let mut taken = Taken { steps: Vec::new(), malformed: Vec::new(), turned: false };
        match change {
            Change::Apply(object) => self.apply(object, keep, &mut taken),
            Change::Delete(key) => self.delete(key, &mut taken),
            Change::Interrupted(reason) => {
                taken.turned = self.trouble.is_none();
                self.trouble = Some(reason);
            }
            Change::Listed => {
                taken.turned = !self.synced || self.trouble.is_some();
                self.synced = true;
                self.trouble = None;
                for key in self.unlisted.end() {
                    self.delete(key, &mut taken);
                }
            }
            Change::Listing => {
                let known = self.rows.keys().chain(self.malformed.keys());
                self.unlisted.begin(known.cloned());
            }
            Change::Malformed(malformed) => self.refuse(malformed, &mut taken),
            Change::Resumed => taken.turned = self.trouble.take().is_some(),
        }
        taken
    }

    fn apply<K: Resource>(
        &mut self,
        mut object: K,
        keep: impl FnOnce(K) -> Result<T, String>,
        taken: &mut Taken<T>,
    ) {
        let key = ObjectKey::of(object.meta());
        self.unlisted.told(&key);
        let (uid, version) = strip(object.meta_mut());
        if self
            .rows
            .get(&key)
            .is_some_and(|known| known.uid == uid && is_older(&version, &known.version))
        {
            return;
        }
        match keep(object) {
            Ok(kept) => {
                self.malformed.remove(&key);
                // What says the same stays where it is: a listing of everything would move everything, and leave holes.
                if let Some(known) = self.rows.get_mut(&key)
                    && known.uid == uid
                    && known.kept == kept
                {
                    known.version = version;
                    return;
                }
                let before = self.rows.insert(key.clone(), Row { uid, version, kept });
                taken.steps.push((key, before.map(|row| row.kept)));
            }
            Err(error) => self.refuse(Malformed { key, error }, taken),
        }
    }

    fn delete(&mut self, key: ObjectKey, taken: &mut Taken<T>) {
        let was_malformed = self.malformed.remove(&key).is_some();
        let before = self.rows.remove(&key);
        if before.is_some() || was_malformed {
            taken.steps.push((key, before.map(|row| row.kept)));
        }
    }

    fn refuse(&mut self, malformed: Malformed, taken: &mut Taken<T>) {
        self.unlisted.told(&malformed.key);
        let known = self.malformed.insert(malformed.key.clone(), malformed.error.clone());
        if known.as_ref() != Some(&malformed.error) {
            taken.malformed.push(malformed);
        }
    }
}

/// Takes out what changes without meaning, so that two states of an object compare by what they say.
fn strip(metadata: &mut ObjectMeta) -> (String, String) {
    metadata.managed_fields = None;
    (metadata.uid.clone().unwrap_or_default(), metadata.resource_version.take().unwrap_or_default())
}

/// Resource versions of one object are numbers that grow (Kubernetes API conventions, "Resource versions"). What is
/// no number is believed to be new.
fn is_older(version: &str, known: &str) -> bool {
    match (version.parse::<u64>(), known.parse::<u64>()) {
        (Ok(version), Ok(known)) => version < known,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;

    use super::*;

    fn map(name: &str, version: u64, value: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                resource_version: Some(version.to_string()),
                uid: Some(format!("uid-{name}")),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([("v".to_owned(), value.to_owned())])),
            ..ConfigMap::default()
        }
    }

    fn value(object: ConfigMap) -> Result<String, String> {
        let value = object.data.and_then(|mut data| data.remove("v"));
        match value {
            Some(value) if value == "bad" => Err("is bad".into()),
            value => Ok(value.unwrap_or_default()),
        }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: String::new(), name: name.into() }
    }

    #[test]
    fn a_watch_that_lags_behind_an_answer_is_not_believed() {
        let mut table = Table::default();
        table.take(Change::Apply(map("a", 12, "new")), value);
        let taken = table.take(Change::Apply(map("a", 10, "old")), value);
        assert!(taken.steps.is_empty());
        assert_eq!(table.find(&key("a")).map(String::as_str), Some("new"));
        let taken = table.take(Change::Apply(map("a", 13, "new")), value);
        assert!(taken.steps.is_empty(), "only the version has changed");
        assert_eq!(table.row(&key("a")).unwrap().version, "13");
    }

    /// An object of ours is deleted and made anew, and the answers come before the watch tells of the first.
    #[test]
    fn an_object_that_was_made_anew_is_not_taken_for_the_one_that_has_gone() {
        let mut table = Table::default();
        let again = || {
            let mut again = map("a", 15, "new");
            again.metadata.uid = Some("uid-of-another".into());
            again
        };
        table.take(Change::Apply(map("a", 12, "old")), value);
        table.take(Change::Apply(again()), value);
        table.take(Change::<ConfigMap>::Delete(key("a")), value);
        table.take(Change::Apply(again()), value);
        assert_eq!(table.find(&key("a")).map(String::as_str), Some("new"));
    }

    #[test]
    fn of_an_unreadable_object_what_was_known_stands() {
        let mut table = Table::default();
        table.take(Change::Apply(map("a", 1, "good")), value);
        let taken = table.take(Change::Apply(map("a", 2, "bad")), value);
        assert_eq!(taken.malformed.len(), 1);
        let again = table.take(Change::Apply(map("a", 3, "bad")), value);
        assert!(again.malformed.is_empty(), "it is told once");
        let malformed = Malformed { key: key("a"), error: "is bad".into() };
        for change in Change::listing([], [malformed]) {
            table.take(change, value);
        }
        assert_eq!(table.find(&key("a")).map(String::as_str), Some("good"));
        assert_eq!(table.malformed().len(), 1);
    }

    #[test]
    fn what_a_listing_does_not_tell_is_gone_once_it_is_complete_and_not_before() {
        let mut table = Table::default();
        table.take(Change::Apply(map("gone", 1, "a")), value);
        table.take(Change::Apply(map("stays", 2, "a")), value);
        table.take(Change::Interrupted::<ConfigMap>("refused".into()), value);
        table.take(Change::<ConfigMap>::Listing, value);
        let again = table.take(Change::Apply(map("stays", 2, "a")), value);
        assert!(again.steps.is_empty() && table.find(&key("gone")).is_some());
        // The answer to a write of our own, which the listing is too old to know of.
        table.take(Change::Apply(map("new", 9, "a")), value);
        assert!(table.trouble().is_some() && !table.is_synced());
        let taken = table.take(Change::<ConfigMap>::Listed, value);
        assert_eq!(taken.steps, [(key("gone"), Some("a".to_owned()))]);
        assert!(taken.turned && table.trouble().is_none() && table.is_synced());
        assert!(table.find(&key("new")).is_some());
    }

    #[test]
    fn an_api_that_is_back_where_it_was_changes_nothing_but_that() {
        let mut table = Table::default();
        for change in Change::listing([map("a", 1, "a")], []) {
            table.take(change, value);
        }
        let before = table.clone();
        assert!(table.take(Change::Interrupted::<ConfigMap>("refused".into()), value).turned);
        assert!(!table.take(Change::Interrupted::<ConfigMap>("still".into()), value).turned);
        assert!(table.take(Change::<ConfigMap>::Resumed, value).turned);
        assert_eq!(table, before);
    }

    proptest! {
        /// Design, "The house", rule 3: "Any order, or one relist, gives the same state."
        #[test]
        fn any_order_or_one_reset_gives_the_same_state(
            values in prop::collection::vec((0_u8..5, "[a-c]"), 1..20),
            seed in prop::collection::vec(any::<u16>(), 20),
        ) {
            let objects: Vec<ConfigMap> = values
                .iter()
                .enumerate()
                .map(|(at, (name, value))| map(&format!("o{name}"), at as u64 + 1, value))
                .collect();
            let mut shuffled: Vec<(u16, ConfigMap)> =
                seed.into_iter().zip(objects.iter().cloned()).collect();
            shuffled.sort_by_key(|(draw, _)| *draw);

            let mut in_order = Table::default();
            for change in Change::listing([], []) {
                in_order.take(change, value);
            }
            let mut in_disorder = in_order.clone();
            let mut relisted = Table::default();
            for object in &objects {
                in_order.take(Change::Apply(object.clone()), value);
            }
            for (_, object) in shuffled {
                in_disorder.take(Change::Apply(object), value);
            }
            relisted.take(Change::Apply(map("gone", 1, "a")), value);
            // A listing that was cut short says nothing of what is gone.
            let cut = Change::listing(objects.clone(), []).take(2);
            for change in cut.chain(Change::listing(objects, [])) {
                relisted.take(change, value);
            }
            prop_assert_eq!(&in_order, &in_disorder);
            prop_assert_eq!(&in_order, &relisted);
        }
    }
}
