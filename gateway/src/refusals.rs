//! Who was kept out by a policy, as Kubernetes Events of the ServiceExport: whoever owns a service sees there that somebody
//! calls who may not.
//!
//! Few and rare: the same caller is told once in a while, and all of them within a bound. Logs and metrics have each.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff,
};
use kube::{Api, Client, api::PostParams};
use landbridge_model::{Hostname, ServiceKey};
use tokio::sync::mpsc;

use crate::{caller::Caller, core::Core};

/// How many refusals may wait to be told: what comes beyond is told by metrics and logs alone.
pub(crate) const MOST_WAITING: usize = 64;
/// How many Events may be written at once: who tries a policy sees each.
const BURST: u32 = 20;
/// How long it takes until one more may be written: an attack is not news for long.
const PACE: Duration = Duration::from_secs(10);
/// For how long the same caller is not told of again.
const REPEAT: Duration = Duration::from_secs(300);
/// How many callers are remembered: more than are told of within that time.
const MOST_REMEMBERED: usize = 256;

/// A call that a policy does not allow.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Refused {
    service: ServiceKey,
    /// Who calls: not which of an account's pods, of which there may be many.
    caller: String,
}

impl Refused {
    pub(crate) fn new(service: &ServiceKey, caller: &Caller) -> Self {
        let caller = match &caller.source.workload {
            Some(one) => format!("{}/{} of cluster {}", one.namespace, one.account, caller.cluster),
            None => format!("somebody of cluster {} who is not known", caller.cluster),
        };
        Self { service: service.clone(), caller }
    }
}

/// Keeps Events rare.
#[derive(Debug)]
struct Notebook {
    budget: u32,
    paid: Instant,
    said: BTreeMap<Refused, Instant>,
}

impl Notebook {
    fn new(now: Instant) -> Self {
        Self { budget: BURST, paid: now, said: BTreeMap::new() }
    }

    /// Whether it is told now.
    fn takes(&mut self, refused: &Refused, now: Instant) -> bool {
        while self.budget < BURST && now.saturating_duration_since(self.paid) >= PACE {
            self.budget += 1;
            self.paid += PACE;
        }
        if self.budget == BURST {
            self.paid = now;
        }
        self.said.retain(|_, said| now.saturating_duration_since(*said) < REPEAT);
        let is_new = !self.said.contains_key(refused);
        if !is_new || self.budget == 0 || self.said.len() >= MOST_REMEMBERED {
            return false;
        }
        self.budget -= 1;
        self.said.insert(refused.clone(), now);
        true
    }
}

/// Writes them until the gateway ends.
pub(crate) async fn tell(
    core: Arc<Core>,
    client: Client,
    gateway: Hostname,
    mut refusals: mpsc::Receiver<Refused>,
) {
    let mut notebook = Notebook::new(Instant::now());
    let mut serial = 0_u64;
    loop {
        let refused = tokio::select! {
            refused = refusals.recv() => refused,
            () = core.stop.cancelled() => None,
        };
        let Some(refused) = refused else { return };
        if !notebook.takes(&refused, Instant::now()) {
            continue;
        }
        serial += 1;
        let event = event(&refused, &gateway, serial, jiff::Timestamp::now());
        let namespace = refused.service.namespace.as_str();
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            core.metrics.status_failures.inc();
            tracing::debug!("an Event could not be written: {error}");
        }
    }
}

fn event(refused: &Refused, gateway: &Hostname, serial: u64, now: jiff::Timestamp) -> Event {
    let Refused { service, caller } = refused;
    Event {
        action: Some("Call".to_owned()),
        event_time: Some(MicroTime(now)),
        metadata: ObjectMeta {
            // A gateway that is started again counts from the beginning.
            name: Some(format!("{}.{gateway}.{}.{serial}", service.name, now.as_millisecond())),
            namespace: Some(service.namespace.to_string()),
            ..ObjectMeta::default()
        },
        note: Some(format!("No AccessPolicy allows calls of {caller}.")),
        reason: Some("Denied".to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("multicluster.x-k8s.io/v1beta1".to_owned()),
            kind: Some("ServiceExport".to_owned()),
            name: Some(service.name.to_string()),
            namespace: Some(service.namespace.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("landbridge.dev/gateway".to_owned()),
        reporting_instance: Some(gateway.to_string()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(caller: &str) -> Refused {
        let service = ServiceKey::parse("shop", "web").unwrap();
        Refused { service, caller: caller.to_owned() }
    }

    /// Design, "Identity and access": a refusal is "an Event"; rate-bounded.
    #[test]
    fn the_same_caller_is_told_once_in_a_while_and_all_of_them_within_a_bound() {
        let start = Instant::now();
        let mut notebook = Notebook::new(start);
        assert!(notebook.takes(&refused("a"), start));
        assert!(!notebook.takes(&refused("a"), start + REPEAT / 2));
        assert!(notebook.takes(&refused("a"), start + REPEAT));
        let later = start + 3 * REPEAT;
        let told = (0..100).filter(|n| notebook.takes(&refused(&n.to_string()), later)).count();
        assert_eq!(told, BURST as usize);
        assert!(notebook.takes(&refused("x"), later + PACE));
        assert!(!notebook.takes(&refused("y"), later + PACE));
    }

    #[test]
    fn an_event_names_the_export_and_who_called() {
        let gateway = Hostname::parse("gw-0").unwrap();
        let now = jiff::Timestamp::from_second(1_790_000_000).unwrap();
        let event = event(&refused("shop/thief of cluster berlin"), &gateway, 3, now);
        assert_eq!(event.metadata.name.as_deref(), Some("web.gw-0.1790000000000.3"));
        let note = "No AccessPolicy allows calls of shop/thief of cluster berlin.";
        assert_eq!(event.note.as_deref(), Some(note));
        assert_eq!(event.regarding.unwrap().kind.as_deref(), Some("ServiceExport"));
    }
}
