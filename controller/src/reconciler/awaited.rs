//! Pure: which answers to writes have been overtaken by news.
//!
//! A controller hears of its own writes twice, in the answer and in the watch, and an answer may come last: an object
//! that was written, then deleted by somebody, and told gone by the watch must not come back by the answer, since no
//! watch would ever tell again that it is gone. So an answer counts only while nothing was heard of its object since
//! it was asked for. That loses nothing: what the answer says, the watch says too.

use std::collections::BTreeMap;

use kube::Resource;
use landbridge_api::watch::{Change, ObjectKey};

use crate::{
    observed::Event,
    plan::{Kind, Plan, Work, Write},
};

/// The objects that plans under way write, and whether something was heard of them since. Each work runs once at a
/// time and in a bounded number, so that this is bounded as plans are.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    objects: BTreeMap<(Kind, ObjectKey), bool>,
    works: BTreeMap<Work, Vec<(Kind, ObjectKey)>>,
}

impl Awaited {
    /// A plan is about to be carried out.
    pub(super) fn begin(&mut self, work: &Work, plan: &Plan) {
        let writes = plan.steps.iter().flatten();
        let objects: Vec<(Kind, ObjectKey)> = writes.map(Write::target).collect();
        self.objects.extend(objects.iter().map(|object| (object.clone(), false)));
        self.works.insert(work.clone(), objects);
    }

    /// A watch tells something.
    pub(super) fn hear(&mut self, event: &Event) {
        if self.objects.is_empty() {
            return;
        }
        match read(event) {
            Some((kind, Heard::All)) => {
                let of_kind = self.objects.iter_mut().filter(|((of, _), _)| *of == kind);
                of_kind.for_each(|(_, is_overtaken)| *is_overtaken = true);
            }
            Some((kind, Heard::One(key))) => {
                if let Some(is_overtaken) = self.objects.get_mut(&(kind, key)) {
                    *is_overtaken = true;
                }
            }
            None => {}
        }
    }

    /// Whether an answer says what may have changed since.
    pub(super) fn is_overtaken(&self, answer: &Event) -> bool {
        match read(answer) {
            Some((kind, Heard::One(key))) => {
                self.objects.get(&(kind, key)).copied().unwrap_or_default()
            }
            _ => false,
        }
    }

    /// All answers of a plan have come.
    pub(super) fn end(&mut self, work: &Work) {
        for object in self.works.remove(work).unwrap_or_default() {
            self.objects.remove(&object);
        }
    }
}

/// Which objects news is of.
enum Heard {
    All,
    One(ObjectKey),
}

fn heard<K: Resource>(change: &Change<K>) -> Option<Heard> {
    match change {
        Change::Apply(object) => Some(Heard::One(ObjectKey::of(object.meta()))),
        Change::Delete(key) => Some(Heard::One(key.clone())),
        Change::Interrupted(_) | Change::Resumed => None,
        // What is asked for while a listing is told is newer than all of it.
        Change::Listed | Change::Listing => Some(Heard::All),
        Change::Malformed(malformed) => Some(Heard::One(malformed.key.clone())),
    }
}

fn read(event: &Event) -> Option<(Kind, Heard)> {
    let (kind, heard) = match event {
        Event::ClusterExport(change) => (Kind::ClusterExport, heard(change)),
        Event::ClusterProfile(change) => (Kind::ClusterProfile, heard(change)),
        Event::EndpointSlice(change) => (Kind::EndpointSlice, heard(change)),
        Event::HubSlice(change) => (Kind::HubSlice, heard(change)),
        Event::Member(change) => (Kind::Member, heard(change)),
        Event::MemberLease(change) => (Kind::Lease, heard(change)),
        Event::Namespace(change) => (Kind::Namespace, heard(change)),
        Event::Peer(change) => (Kind::Peer, heard(change)),
        Event::Service(change) => (Kind::Service, heard(change)),
        Event::ServiceExport(change) => (Kind::ServiceExport, heard(change)),
        Event::ServiceImport(change) => (Kind::ServiceImport, heard(change)),
        Event::TrafficPolicy(change) => (Kind::TrafficPolicy, heard(change)),
        // No plan writes it, or it is of no object.
        Event::AccessPolicy(_)
        | Event::Kubernetes(_)
        | Event::Lease(_)
        | Event::Probed(..)
        | Event::Served(_) => return None,
    };
    Some((kind, heard?))
}
