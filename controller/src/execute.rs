//! Does what a plan says. Whatever there is to decide has been decided: here is only how an API is spoken to.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Service},
        discovery::v1::EndpointSlice,
        events::v1::Event as News,
    },
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use landbridge_api::{
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Member, Peer},
    mcs::{ServiceExport, ServiceImport},
    traffic::TrafficPolicy,
    watch::{Change, ObjectKey},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch as latest},
    time,
};

use crate::{
    election::{Bid, LEASE},
    metrics::{FailureLabels, Metrics, Word, WriteLabels},
    observed::Event,
    outcome::{Failure, Fault, Outcome},
    plan::{Kind, Object, Plan, Write},
    probe,
};

/// How many requests are under way at one API. An API server gives each client a share of its 600 seats; this many
/// keeps one busy at 5 ms a write and leaves the seats to others.
const MOST_REQUESTS: usize = 32;
/// An answer that has not come by now will not come: API servers end writes after 34 s, loaded ones answer in one.
const LONGEST_REQUEST: Duration = Duration::from_secs(10);
/// An answer to a bid that comes later is of no use: the holder has three seconds from when it asked.
const LONGEST_BID: Duration = Duration::from_secs(2);

/// Speaks to the two APIs.
pub(crate) struct Executor {
    local: Client,
    hub: Client,
    local_permits: Semaphore,
    hub_permits: Semaphore,
    held: latest::Receiver<Option<Instant>>,
    metrics: Metrics,
}

impl Executor {
    /// Speaks to `local` and `hub`, as long as the Lease is `held`.
    pub(crate) fn new(
        local: Client,
        hub: Client,
        held: latest::Receiver<Option<Instant>>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            hub,
            local_permits: Semaphore::new(MOST_REQUESTS),
            hub_permits: Semaphore::new(MOST_REQUESTS),
            held,
            metrics,
        })
    }

    /// Does the steps one after the other, until one fails; each only while the Lease is held, where the plan is
    /// `fenced` by it.
    pub(crate) async fn execute(&self, plan: Plan, fenced: bool) -> Outcome {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            let held = *self.held.borrow();
            if fenced && held.is_none_or(|until| until <= Instant::now()) {
                outcome.failure = Some(Failure {
                    write: "plan".to_owned(),
                    message: "this controller does not hold the Lease any more".to_owned(),
                    fault: Fault::Outdated,
                });
                break;
            }
            for done in join_all(step.into_iter().map(|write| self.write(write))).await {
                match done {
                    Ok(answer) => outcome.answers.extend(answer),
                    Err(failure) => outcome.failure = Some(failure),
                }
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        outcome
    }

    /// Writes the Lease that this member's controllers share.
    pub(crate) async fn bid(&self, bid: Bid) -> Result<Lease, Failure> {
        let api: Api<Lease> = within(&self.local, &bid.lease.metadata.namespace);
        let params = PostParams::default();
        let answer = async {
            if bid.exists {
                api.replace(LEASE, &params, &bid.lease).await
            } else {
                api.create(&params, &bid.lease).await
            }
        };
        let (fault, message) = match time::timeout(LONGEST_BID, answer).await {
            Ok(Ok(lease)) => return Ok(lease),
            Ok(Err(error)) => (fault(&error), said(&error)),
            Err(_) => (Fault::Api, format!("no answer within {LONGEST_BID:?}")),
        };
        Err(Failure { write: format!("bid for Lease {LEASE}"), message, fault })
    }

    /// Tells people. What cannot be told stands in conditions all the same, so nothing is tried again.
    pub(crate) async fn note(&self, events: Vec<News>) {
        for event in events {
            let api: Api<News> = within(&self.local, &event.metadata.namespace);
            let _permit = self.local_permits.acquire().await;
            let params = PostParams::default();
            let answer = time::timeout(LONGEST_REQUEST, api.create(&params, &event)).await;
            if !matches!(answer, Ok(Ok(_))) {
                self.metrics.events_left_out.inc();
                tracing::debug!(reason = event.reason, "an Event could not be written");
            }
        }
    }

    async fn write(&self, write: Write) -> Result<Option<Event>, Failure> {
        let write = match write {
            Write::Probe { service, numbers, gateways } => {
                let silent = probe::probe(&gateways, &numbers).await;
                for gateway in silent {
                    self.metrics.probe_timeouts.inc();
                    tracing::warn!(%service, %gateway, "a gateway does not say that it listens; the import is written all the same");
                }
                return Ok(Some(Event::Probed(service, numbers)));
            }
            write => write,
        };
        let (verb, kind, name) = describe(&write);
        let labels = WriteLabels { verb: Word(verb), kind: Word(kind.as_str()) };
        let permits = match kind {
            Kind::ClusterExport | Kind::HubSlice | Kind::Member => &self.hub_permits,
            _ => &self.local_permits,
        };
        let permit = permits.acquire().await;
        let answer = time::timeout(LONGEST_REQUEST, Box::pin(self.request(write))).await;
        drop(permit);
        let (fault, message) = match answer {
            Ok(Ok(answer)) => {
                self.metrics.writes.get_or_create(&labels).inc();
                tracing::debug!(verb, kind = kind.as_str(), %name, "written");
                return Ok(answer);
            }
            Ok(Err(error)) => (fault(&error), said(&error)),
            Err(_) => (Fault::Api, format!("no answer within {LONGEST_REQUEST:?}")),
        };
        let labels =
            FailureLabels { verb: labels.verb, kind: labels.kind, fault: Word(fault.as_str()) };
        self.metrics.failures.get_or_create(&labels).inc();
        Err(Failure { write: format!("{verb} {} {name}", kind.as_str()), message, fault })
    }

    async fn request(&self, write: Write) -> kube::Result<Option<Event>> {
        match write {
            Write::Create(object) => self.save(object, false).await.map(Some),
            Write::Delete { kind, key, uid } => self.delete(kind, key, uid).await.map(Some),
            Write::Status { kind, key, status } => self.status(kind, &key, status).await,
            Write::Update(object) => self.save(object, true).await.map(Some),
            // Answered before a request is made of it.
            Write::Probe { .. } => Ok(None),
        }
    }

    async fn save(&self, object: Object, update: bool) -> kube::Result<Event> {
        match object {
            Object::ClusterExport(object) => {
                let api = within(&self.hub, &object.metadata.namespace);
                apply(api, *object, update, Event::ClusterExport).await
            }
            Object::ClusterProfile(object) => {
                let api = within(&self.local, &object.metadata.namespace);
                apply(api, *object, update, Event::ClusterProfile).await
            }
            Object::EndpointSlice(object) => {
                let api = within(&self.local, &object.metadata.namespace);
                apply(api, *object, update, Event::EndpointSlice).await
            }
            Object::HubSlice(object) => {
                let api = within(&self.hub, &object.metadata.namespace);
                apply(api, *object, update, Event::HubSlice).await
            }
            Object::Lease(object) => {
                let api = within(&self.local, &object.metadata.namespace);
                apply(api, *object, update, Event::MemberLease).await
            }
            Object::Namespace(object) => {
                apply(Api::all(self.local.clone()), *object, update, Event::Namespace).await
            }
            Object::Peer(object) => {
                apply(Api::all(self.local.clone()), *object, update, Event::Peer).await
            }
            Object::Service(object) => {
                let api = within(&self.local, &object.metadata.namespace);
                apply(api, *object, update, Event::Service).await
            }
            Object::ServiceImport(object) => {
                let api = within(&self.local, &object.metadata.namespace);
                apply(api, *object, update, Event::ServiceImport).await
            }
        }
    }

    async fn delete(&self, kind: Kind, key: ObjectKey, uid: Option<String>) -> kube::Result<Event> {
        let namespace = Some(key.namespace.clone());
        let (local, hub) = (&self.local, &self.hub);
        match kind {
            Kind::ClusterExport => {
                let api: Api<ClusterExport> = within(hub, &namespace);
                remove(api, key, uid, Event::ClusterExport).await
            }
            Kind::ClusterProfile => {
                let api: Api<ClusterProfile> = within(local, &namespace);
                remove(api, key, uid, Event::ClusterProfile).await
            }
            Kind::EndpointSlice => {
                let api: Api<EndpointSlice> = within(local, &namespace);
                remove(api, key, uid, Event::EndpointSlice).await
            }
            Kind::HubSlice => {
                let api: Api<EndpointSlice> = within(hub, &namespace);
                remove(api, key, uid, Event::HubSlice).await
            }
            Kind::Lease => {
                let api: Api<Lease> = within(local, &namespace);
                remove(api, key, uid, Event::MemberLease).await
            }
            Kind::Member => remove(Api::<Member>::all(hub.clone()), key, uid, Event::Member).await,
            Kind::Namespace => {
                remove(Api::<Namespace>::all(local.clone()), key, uid, Event::Namespace).await
            }
            Kind::Peer => remove(Api::<Peer>::all(local.clone()), key, uid, Event::Peer).await,
            Kind::Service => {
                let api: Api<Service> = within(local, &namespace);
                remove(api, key, uid, Event::Service).await
            }
            Kind::ServiceExport => {
                let api: Api<ServiceExport> = within(local, &namespace);
                remove(api, key, uid, Event::ServiceExport).await
            }
            Kind::ServiceImport => {
                let api: Api<ServiceImport> = within(local, &namespace);
                remove(api, key, uid, Event::ServiceImport).await
            }
            Kind::TrafficPolicy => {
                let api: Api<TrafficPolicy> = within(local, &namespace);
                remove(api, key, uid, Event::TrafficPolicy).await
            }
        }
    }

    /// Kinds without a status are not given one.
    async fn status(
        &self,
        kind: Kind,
        key: &ObjectKey,
        status: Value,
    ) -> kube::Result<Option<Event>> {
        let namespace = Some(key.namespace.clone());
        match kind {
            Kind::ClusterProfile => {
                patch(within(&self.local, &namespace), key, status, Event::ClusterProfile).await
            }
            Kind::Member => {
                let api = Api::all(self.hub.clone());
                patch(api, key, status, Event::Member).await
            }
            Kind::ServiceExport => {
                patch(within(&self.local, &namespace), key, status, Event::ServiceExport).await
            }
            Kind::ServiceImport => {
                patch(within(&self.local, &namespace), key, status, Event::ServiceImport).await
            }
            Kind::TrafficPolicy => {
                patch(within(&self.local, &namespace), key, status, Event::TrafficPolicy).await
            }
            Kind::ClusterExport
            | Kind::EndpointSlice
            | Kind::HubSlice
            | Kind::Lease
            | Kind::Namespace
            | Kind::Peer
            | Kind::Service => Ok(None),
        }
    }
}

fn within<K>(client: &Client, namespace: &Option<String>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace.as_deref().unwrap_or_default())
}

async fn apply<K>(
    api: Api<K>,
    object: K,
    update: bool,
    event: fn(Change<K>) -> Event,
) -> kube::Result<Event>
where
    K: Clone + Debug + serde::de::DeserializeOwned + serde::Serialize + Resource,
{
    let params = PostParams::default();
    let answer = if update {
        let name = object.meta().name.clone().unwrap_or_default();
        api.replace(&name, &params, &object).await?
    } else {
        api.create(&params, &object).await?
    };
    Ok(event(Change::Apply(answer)))
}

async fn remove<K>(
    api: Api<K>,
    key: ObjectKey,
    uid: Option<String>,
    event: fn(Change<K>) -> Event,
) -> kube::Result<Event>
where
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    let params = DeleteParams {
        preconditions: uid.map(|uid| Preconditions { resource_version: None, uid: Some(uid) }),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        answer => drop(answer?),
    }
    Ok(event(Change::Delete(key)))
}

async fn patch<K>(
    api: Api<K>,
    key: &ObjectKey,
    status: Value,
    event: fn(Change<K>) -> Event,
) -> kube::Result<Option<Event>>
where
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "status": status }));
    match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
        Ok(answer) => Ok(Some(event(Change::Apply(answer)))),
        // It was written; that the rest of the object cannot be read is what it was told.
        Err(kube::Error::SerdeError(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an API server has said, for people; kube adds the whole of the answer to that.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

fn fault(error: &kube::Error) -> Fault {
    match error {
        kube::Error::Api(status) => Fault::of_status(status.code),
        _ => Fault::Api,
    }
}

fn describe(write: &Write) -> (&'static str, Kind, String) {
    let verb = match write {
        Write::Create(_) => "create",
        Write::Delete { .. } => "delete",
        Write::Probe { service, .. } => return ("probe", Kind::ServiceImport, service.to_string()),
        Write::Status { .. } => "patch_status",
        Write::Update(_) => "update",
    };
    let (kind, key) = write.target();
    (verb, kind, key.to_string())
}
