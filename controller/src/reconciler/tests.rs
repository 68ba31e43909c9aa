//! One controller, given its news and its answers by hand.

use k8s_openapi::{
    api::core::v1::Namespace as KubeNamespace, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::{landbridge::MemberSpec, watch::ObjectKey};
use landbridge_model::{ClusterId, Namespace};

use super::*;
use crate::plan::{Object, Write};

struct World {
    reconciler: Reconciler,
    start: Instant,
    millis: u64,
}

fn nothing<K>() -> Change<K> {
    Change::Listed
}

impl World {
    /// A controller whose cluster and hub are empty but for its own Member.
    fn new() -> Self {
        let config = Config::new(
            ClusterId::parse("paris").unwrap(),
            "demo".parse().unwrap(),
            "a".parse().unwrap(),
            Namespace::parse("landbridge-system").unwrap(),
        );
        let start = Instant::now();
        let reconciler = Reconciler::new(config, Rulebook::OURS, "me".into(), start);
        let mut world = Self { reconciler, start, millis: 0 };
        let spec = MemberSpec { generation: 1, network: "a".into(), ..MemberSpec::default() };
        let member = Member::new("paris", spec);
        for event in [
            Event::AccessPolicy(nothing()),
            Event::TrafficPolicy(nothing()),
            Event::ClusterExport(nothing()),
            Event::EndpointSlice(nothing()),
            Event::HubSlice(nothing()),
            Event::Lease(nothing()),
            Event::Member(Change::Apply(member)),
            Event::Member(nothing()),
            Event::Namespace(nothing()),
            Event::Peer(nothing()),
            Event::Service(nothing()),
            Event::ServiceExport(nothing()),
            Event::ServiceImport(nothing()),
        ] {
            world.reconciler.apply(event, start);
        }
        world
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.millis)
    }

    /// `bid`, `ask`, and what is to be planned.
    fn poll(&mut self) -> (Vec<String>, Option<Box<Bid>>) {
        let wall = Timestamp::from_millis(i64::try_from(self.millis).unwrap());
        let (mut names, mut bid) = (Vec::new(), None);
        for job in self.reconciler.poll(self.now(), wall) {
            names.push(match job {
                Job::Ask(_) => "ask".to_owned(),
                Job::Bid(asked) => {
                    bid = Some(asked);
                    "bid".to_owned()
                }
                Job::Note(_) => "note".to_owned(),
                Job::Work { work, fenced, .. } => {
                    format!("{work}{}", if fenced { "" } else { "!" })
                }
            });
        }
        (names, bid)
    }

    fn answer(&mut self, answer: Answer) {
        let wall = Timestamp::from_millis(i64::try_from(self.millis).unwrap());
        self.reconciler.answered(answer, self.now(), wall, 0.5);
    }

    fn win(&mut self, bid: Box<Bid>) {
        let mut lease = bid.lease;
        lease.metadata.resource_version = Some(format!("{}", 1 + self.millis));
        self.answer(Answer::Bid(Ok(Box::new(lease))));
    }
}

/// "Of several controllers of one cluster all observe, and the one that holds the Lease plans."
#[test]
fn who_does_not_lead_makes_the_namespace_of_the_lease_and_nothing_else() {
    let mut world = World::new();
    let (jobs, bid) = world.poll();
    assert_eq!(jobs, ["bid", "home!"]);
    world.win(bid.unwrap());
    assert_eq!(world.poll().0, ["member!"]);
    assert!(world.reconciler.leads());
    world.millis = 2_999;
    world.poll();
    assert!(world.reconciler.leads());
    world.millis = 3_000;
    world.poll();
    assert!(!world.reconciler.leads(), "the Lease was not renewed");
}

#[test]
fn it_wants_to_be_asked_again_when_something_is_due() {
    let mut world = World::new();
    let bid = world.poll().1.unwrap();
    assert_eq!(world.reconciler.next_wakeup(world.now()), world.now() + ASK);
    world.win(bid);
    world.poll();
    world.millis = 300;
    world.poll();
    world.millis = 600;
    world.poll();
    world.millis = 900;
    world.poll();
    let renewal = world.start + Duration::from_secs(1);
    assert_eq!(world.reconciler.next_wakeup(world.now()), renewal);
}

#[test]
fn a_failure_is_news_once_and_is_tried_again() {
    let mut world = World::new();
    let failed = |message: &str| {
        let failure = Failure {
            write: "create Namespace landbridge-system".into(),
            message: message.into(),
            fault: Fault::Refused,
        };
        Answer::Work(Work::Home, Outcome { answers: Vec::new(), failure: Some(failure) })
    };
    let news = |world: &mut World| -> Vec<IsNews> {
        let told = world.reconciler.told().into_iter();
        let told = told.filter_map(|told| match told {
            Told::Failed(_, is_news) => Some(is_news),
            _ => None,
        });
        told.collect()
    };
    world.poll();
    world.answer(failed("no"));
    assert_eq!(news(&mut world), [true]);
    world.millis = 100;
    assert_eq!(world.poll().0, ["home!"]);
    world.answer(failed("no"));
    assert_eq!(news(&mut world), [false]);
    world.millis = 200;
    assert_eq!(world.poll().0, ["home!"]);
    world.answer(failed("still no"));
    assert_eq!(news(&mut world), [true]);
    let metadata = ObjectMeta { name: Some("landbridge-system".into()), ..ObjectMeta::default() };
    let made = KubeNamespace { metadata, ..KubeNamespace::default() };
    world.reconciler.apply(Event::Namespace(Change::Apply(made)), world.now());
    assert_eq!(world.poll().0, [""; 0], "it is there");
}

/// Somebody deletes what was just written, and the watch says so before the API's answer to the write is there.
#[test]
fn an_answer_that_news_has_overtaken_brings_nothing_back() {
    let made = || {
        let metadata = ObjectMeta {
            name: Some("landbridge-system".into()),
            uid: Some("1".into()),
            resource_version: Some("5".into()),
            ..ObjectMeta::default()
        };
        KubeNamespace { metadata, ..KubeNamespace::default() }
    };
    let answer = || {
        let answers = vec![Event::Namespace(Change::Apply(made()))];
        Answer::Work(Work::Home, Outcome { answers, failure: None })
    };
    let key = ObjectKey { namespace: String::new(), name: "landbridge-system".into() };
    let deleted = [Event::Namespace(Change::Apply(made())), Event::Namespace(Change::Delete(key))];
    let relisted = [Event::Namespace(nothing())];
    for news in [&deleted[..], &relisted[..]] {
        let mut world = World::new();
        assert_eq!(world.poll().0, ["bid", "home!"]);
        for event in news {
            world.reconciler.apply(event.clone(), world.now());
        }
        world.answer(answer());
        assert_eq!(world.poll().0, ["home!"], "it is gone and is made again");
        world.answer(answer());
        assert_eq!(world.poll().0, [""; 0], "nothing was heard of this one");
    }
}

#[test]
fn a_job_holds_the_whole_plan() {
    let mut world = World::new();
    let wall = Timestamp::from_millis(0);
    let jobs = world.reconciler.poll(world.now(), wall);
    let plan = jobs.into_iter().find_map(|job| match job {
        Job::Work { work: Work::Home, plan, .. } => Some(plan),
        _ => None,
    });
    let steps = plan.unwrap().steps;
    let [Write::Create(Object::Namespace(made))] = &steps[0][..] else { panic!("{steps:?}") };
    assert_eq!(made.metadata.name.as_deref(), Some("landbridge-system"));
}
