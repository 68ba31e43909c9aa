//! What the hub gives its members, through links: the API and the authority, to the controller, and for as long as the member is
//! listed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use landbridge_model::Namespace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    older,
    strangers::say,
    world::{Site, World, id, pod, until},
};
use crate::{
    caller::{ObjectName, Workload},
    hub::{Hub, Target, Through},
    metrics::Direction,
    wire::{self, Answer, HubService, Refusal},
};

const LONG: Duration = Duration::from_secs(15);

/// Something at the hub that says its name, then says back what it hears, and counts who is connected.
async fn server(name: &'static str) -> (Option<Target>, Arc<AtomicUsize>) {
    let open = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&open);
    let address = pod(move |mut client| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            let (mut read, mut write) = client.split();
            if write.write_all(name.as_bytes()).await.is_ok() {
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
            count.fetch_sub(1, Ordering::Relaxed);
        }
    })
    .await;
    (Some(address.to_string().parse().unwrap()), open)
}

fn through_paris() -> Hub {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let through = Through { cluster: id("paris"), api: any, authority: any };
    Hub { through: Some(through), ..Hub::default() }
}

/// berlin, whose hub is paris, which dials it.
fn berlin(world: &World, paris: &Site) -> Site {
    let berlin = world.site_with_hub("berlin", through_paris());
    berlin.knows("paris", &[paris.link_address()]);
    berlin
}

fn entry(site: &Site, service: HubService) -> SocketAddr {
    site.core.hub.address(service).unwrap()
}

/// Connects, and reads what is said first.
async fn greeted(at: SocketAddr, greeting: &str) -> TcpStream {
    let mut client = TcpStream::connect(at).await.unwrap();
    let mut said = vec![0; greeting.len()];
    timeout(LONG, client.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, greeting.as_bytes());
    client
}

/// All that is said to one who says nothing.
async fn silent(at: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut client = TcpStream::connect(at).await?;
    let mut said = Vec::new();
    timeout(LONG, client.read_to_end(&mut said)).await.expect("it ends")?;
    Ok(said)
}

fn counted(site: &Site, direction: Direction, service: HubService, result: &'static str) -> u64 {
    site.core.metrics.hub.streams(direction, service, result)
}

/// Design, "Identity and access": "The `hub-api` kind goes to one address, from members to the hub only."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reaches_what_the_hub_gives_over_whatever_carries_links() {
    for world in [World::new(), World::over_tcp()] {
        let ((api, _), (authority, _)) = (server("api").await, server("authority").await);
        let paris = world.site_with_hub("paris", Hub { api, authority, through: None });
        paris.knows("berlin", &[]);
        let berlin = berlin(&world, &paris);
        for (service, name) in [(HubService::Api, "api"), (HubService::Authority, "authority")] {
            let mut client = greeted(entry(&berlin, service), name).await;
            let large = vec![b'x'; 1 << 20];
            let (mut read, mut write) = client.split();
            let mut heard = Vec::new();
            let say = async {
                write.write_all(&large).await.unwrap();
                // The other half goes on.
                write.shutdown().await.unwrap();
            };
            let both = async { tokio::join!(say, read.read_to_end(&mut heard)) };
            timeout(LONG, both).await.unwrap().1.unwrap();
            assert_eq!(heard, large);
            assert_eq!(counted(&berlin, Direction::Outbound, service, "connected"), 1);
            assert_eq!(counted(&paris, Direction::Inbound, service, "connected"), 1);
            let over = || paris.core.metrics.hub.active(Direction::Inbound, service) == 0;
            until("it is over", over).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_no_hub_says_so() {
    let world = World::new();
    let paris = world.site("paris");
    paris.knows("berlin", &[]);
    let berlin = berlin(&world, &paris);
    berlin.linked("paris").await;
    let begun = Instant::now();
    assert_eq!(silent(entry(&berlin, HubService::Api)).await.unwrap(), b"", "an end, no reset");
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits for a hub that is none");
    assert_eq!(counted(&berlin, Direction::Outbound, HubService::Api, "not_hub"), 1);
    assert_eq!(counted(&paris, Direction::Inbound, HubService::Api, "not_hub"), 1);
    let asked = say(&berlin, &wire::encode_hub(HubService::Authority)).await;
    assert_eq!(asked, Answer::Refused(Refusal::NotHub));
    assert_eq!(say(&berlin, &[3, 0, 2, 2, 3]).await, Answer::Refused(Refusal::Malformed));
}

/// "its hub streams are cut as well, since an open watch outlives its rights".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_no_longer_listed_loses_its_open_streams_at_once() {
    for world in [World::new(), World::over_tcp()] {
        let (api, open) = server("api").await;
        let paris = world.site_with_hub("paris", Hub { api, ..Hub::default() });
        paris.knows("berlin", &[]);
        let berlin = berlin(&world, &paris);
        let mut watch = greeted(entry(&berlin, HubService::Api), "api").await;
        let begun = Instant::now();
        paris.forgets("berlin");
        let ended = timeout(LONG, watch.read(&mut [0; 8])).await.unwrap();
        assert!(ended.is_err(), "{ended:?}: it is told from an end");
        until("at the hub as well", || open.load(Ordering::Relaxed) == 0).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(silent(entry(&berlin, HubService::Api)).await.unwrap(), b"", "nor another one");
        assert_eq!(counted(&berlin, Direction::Outbound, HubService::Api, "no_link"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_waits_a_little_for_a_link() {
    let world = World::new();
    let (api, _) = server("api").await;
    let paris = world.site_with_hub("paris", Hub { api, ..Hub::default() });
    paris.knows("berlin", &[]);
    let berlin = world.site_with_hub("berlin", through_paris());
    let at = entry(&berlin, HubService::Api);
    let client = tokio::spawn(greeted(at, "api"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    berlin.knows("paris", &[paris.link_address()]);
    timeout(LONG, client).await.unwrap().unwrap();
}

/// A hub that is about to go, and another of its gateways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_lost_is_one_of_several() {
    let world = World::new();
    let (api, _) = server("api").await;
    let hub = Hub { api, ..Hub::default() };
    let first = world.site_with_hub("paris", hub.clone());
    let second = world.site_with_hub("paris", hub);
    let berlin = world.site_with_hub("berlin", through_paris());
    for paris in [&first, &second] {
        paris.knows("berlin", &[]);
    }
    berlin.knows("paris", &[first.link_address(), second.link_address()]);
    until("two links", || berlin.core.links.to(&id("paris")).len() == 2).await;
    let mut watch = greeted(entry(&berlin, HubService::Api), "api").await;
    let at_first = first.core.metrics.hub.active(Direction::Inbound, HubService::Api) == 1;
    let (goes, stays) = if at_first { (first, second) } else { (second, first) };
    goes.core.drain().await;
    let ended = timeout(LONG, watch.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let _again = greeted(entry(&berlin, HubService::Api), "api").await;
    assert_eq!(stays.core.metrics.hub.active(Direction::Inbound, HubService::Api), 1);
}

/// It would not know what to do with such a stream, and is not asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_hub_is_left_out_with_a_reason() {
    let world = World::new();
    let berlin = world.site_with_hub("berlin", through_paris());
    berlin.knows("paris", &[]);
    let identity = world.identity(&world.leaf("paris", 1));
    let paris = older::dial(berlin.link_address(), &identity).await;
    berlin.linked("paris").await;
    assert_eq!(silent(entry(&berlin, HubService::Api)).await.unwrap(), b"");
    assert_eq!(counted(&berlin, Direction::Outbound, HubService::Api, "older"), 1);
    let asked = timeout(Duration::from_millis(100), paris.accept_bi()).await;
    assert!(asked.is_err(), "no stream was opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_the_controller_passes() {
    let world = World::new();
    let (api, _) = server("api").await;
    let paris = world.site_with_hub("paris", Hub { api, ..Hub::default() });
    paris.knows("berlin", &[]);
    let mut hub = through_paris();
    // As in a pod, where others than those of this machine can come to it.
    hub.through.as_mut().unwrap().api = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    let berlin = world.site_with_hub("berlin", hub);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.linked("paris").await;
    let at = SocketAddr::from(([127, 0, 0, 1], entry(&berlin, HubService::Api).port()));
    let is_pod_of = |account: &str| {
        let workload = Workload {
            namespace: Namespace::parse("landbridge-system").unwrap(),
            account: ObjectName::parse(account).unwrap(),
            pod: ObjectName::parse("pod-0").unwrap(),
        };
        berlin.has_pod(at.ip(), workload);
    };
    assert!(silent(at).await.is_err(), "nobody knows it: a reset");
    is_pod_of("landbridge-dns");
    assert!(silent(at).await.is_err());
    assert_eq!(counted(&berlin, Direction::Outbound, HubService::Api, "denied"), 2);
    is_pod_of("landbridge-controller");
    let _client = greeted(at, "api").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_has_so_many_streams_and_no_more() {
    let world = World::new();
    let (api, open) = server("api").await;
    let paris = world.site_with_hub("paris", Hub { api, ..Hub::default() });
    paris.knows("berlin", &[]);
    let berlin = berlin(&world, &paris);
    let at = entry(&berlin, HubService::Api);
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(greeted(at, "api").await);
    }
    assert_eq!(silent(at).await.unwrap(), b"");
    assert_eq!(counted(&paris, Direction::Inbound, HubService::Api, "overloaded"), 1);
    clients.pop();
    until("one has gone", || open.load(Ordering::Relaxed) == 63).await;
    let _another = greeted(at, "api").await;
    let shown = paris.core.hub.shown();
    assert_eq!(shown["streams"]["berlin"], 64);
    assert_eq!(berlin.core.hub.shown()["through"]["clients"], 64);
}

/// What is at the address is away, which says nothing of the link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_away_is_told() {
    let world = World::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = Some(nobody.to_string().parse().unwrap());
    let paris = world.site_with_hub("paris", Hub { api, ..Hub::default() });
    paris.knows("berlin", &[]);
    let berlin = berlin(&world, &paris);
    berlin.linked("paris").await;
    assert_eq!(silent(entry(&berlin, HubService::Api)).await.unwrap(), b"");
    assert_eq!(counted(&berlin, Direction::Outbound, HubService::Api, "connect_failed"), 1);
}
