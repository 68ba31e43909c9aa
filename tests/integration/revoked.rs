//! A member that is revoked, with controllers and gateways that know nothing but the objects: how soon it calls nobody and is
//! called by nobody, and with what it does not come back. What `landbridge revoke` does on the hub, and the rights that end with
//! it, are in `cli/tests/hub`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{sleep, timeout},
};

use crate::{
    calls::{BY_GATEWAY, CLIENT, Set, ask, export, export_web, pod, slice},
    controller::{IMPORT, MEMBER, create, find},
    support::eventually,
};

/// "Where the hub is reachable, within 3 s no new stream from it anywhere, its exports gone everywhere".
const WITHIN: Duration = Duration::from_secs(3);
const PEER: (&str, &str) = ("landbridge.dev/v1alpha1", "Peer");
/// What is derived from shop/zoo.
const ZOO: &str = "zoo";

/// A call that is begun and not ended.
async fn held(from: SocketAddr, to: SocketAddr) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(b"wait").await.unwrap();
    stream
}

/// When the last call was answered, of those that were begun one after the other for so long.
async fn last_answer(from: SocketAddr, to: SocketAddr, begun: Instant, long: Duration) -> Duration {
    let mut last = Duration::ZERO;
    while begun.elapsed() < long {
        let asked = begun.elapsed();
        if matches!(timeout(Duration::from_millis(400), ask(from, to)).await, Ok(Ok(_))) {
            last = asked;
        }
        sleep(Duration::from_millis(20)).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_revoked_is_cut_off_and_does_not_come_back_with_what_it_has() {
    let set = Set::start().await;
    let [hub, paris, berlin] = ["hub", "paris", "berlin"].map(|name| set.member(name));
    export_web(berlin, "berlin's pod").await;
    let endpoint = pod(paris, 12, 8081, "paris's pod").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": ZOO},
        "spec": {"selector": {"app": ZOO}, "ports": [{"name": "http", "port": 80, "targetPort": 8081}]}});
    let port = json!({"name": "http", "protocol": "TCP", "port": 8081});
    export(paris, service, slice(ZOO, &port, &[endpoint]));
    let web = set.address("paris", "derived-isrlchlhrq", 80).await;
    let zoo = landbridge_model::derived::service(
        &landbridge_model::ServiceKey::parse("shop", ZOO).unwrap(),
    );
    let zoo = set.address("berlin", zoo.as_str(), 80).await;
    set.answers("paris", web, &format!("berlin's pod to {BY_GATEWAY}")).await;
    set.answers("berlin", zoo, &format!("paris's pod to {BY_GATEWAY}")).await;
    let [from_paris, from_berlin] =
        [paris, berlin].map(|running| SocketAddr::new(running.block.address(CLIENT), 0));
    let mut open = held(from_paris, web).await;

    let member = find(hub, MEMBER, ("", "paris")).unwrap();
    hub.cluster.store().delete(MEMBER, ("", "paris")).unwrap();
    let begun = Instant::now();
    let watched = WITHIN + Duration::from_millis(500);
    let ended = async {
        // Nothing was answered: the call ends with nothing, or is reset.
        let mut answer = Vec::new();
        let _ = open.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
        begun.elapsed()
    };
    let (outwards, inwards, ended) = tokio::join!(
        last_answer(from_paris, web, begun, watched),
        last_answer(from_berlin, zoo, begun, watched),
        timeout(WITHIN, ended),
    );
    let ended = ended.expect("what was open is cut");
    println!(
        "revoked: calls from it until {outwards:?}, to it until {inwards:?}, open ones until {ended:?}"
    );
    assert!(outwards < WITHIN && inwards < WITHIN, "{outwards:?} {inwards:?}");
    for name in ["berlin", "oslo"] {
        let other = set.member(name);
        assert!(find(other, PEER, ("", "paris")).is_none(), "{name} knows it");
        assert!(find(other, IMPORT, ("shop", ZOO)).is_none(), "{name} imports from it");
    }

    // It is let in again, as whoever has a new token would be; the gateway has its certificates of before.
    let mut again = json!({"apiVersion": MEMBER.0, "kind": MEMBER.1, "metadata": {"name": "paris"}, "spec": member["spec"]});
    again["spec"]["generation"] = json!(2);
    create(hub, again);
    eventually("berlin knows it again", &set.clusters, async || {
        let peer = find(berlin, PEER, ("", "paris")).ok_or("not yet")?;
        (peer["spec"]["generation"] == 2).then_some(()).ok_or_else(|| peer.to_string())
    })
    .await;
    let last = last_answer(from_paris, web, Instant::now(), Duration::from_secs(2)).await;
    assert_eq!(last, Duration::ZERO, "certificates of generation 1 are believed");
    set.stop().await;
}
