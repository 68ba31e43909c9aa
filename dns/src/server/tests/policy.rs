//! What operators can decide: others to ask, rates, ages, and how a server ends.

use super::*;

/// A server that answers for `example.com` as a resolver would, and counts what it is asked.
async fn resolver() -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>, JoinHandle<()>) {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::default());
    let count: Arc<std::sync::atomic::AtomicUsize> = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let name = query.queries[0].name.to_ascii().to_ascii_lowercase();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            answer.metadata.recursion_desired = true;
            answer.metadata.recursion_available = true;
            answer.add_query(query.queries[0].clone());
            if name.starts_with("slow.") {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            if name.starts_with("none.") {
                answer.metadata.response_code = hickory_proto::op::ResponseCode::NXDomain;
            } else {
                let name = query.queries[0].name.clone();
                let address = hickory_proto::rr::RData::A("192.0.2.80".parse().unwrap());
                answer.add_answer(hickory_proto::rr::Record::from_rdata(name, 300, address));
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (address, asked, serving)
}

/// Design, "DNS": "`hickory-resolver` forwards where an upstream is given"; what it was told is kept.
#[tokio::test(flavor = "multi_thread")]
async fn other_zones_are_asked_of_the_resolver_that_was_named() {
    let (upstream, asked, serving) = resolver().await;
    let config = Config { upstream: vec![upstream], ..Config::default() };
    let running = Running::ready_with(WEB, config).await;
    for _ in 0..5 {
        let told = running.asked("www.example.com. A").await;
        assert_eq!(told[0], "NOERROR ra");
        assert!(told[1].starts_with("answer www.example.com. "), "{told:?}");
        assert!(told[1].ends_with(" A 192.0.2.80"), "{told:?}");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1, "the answer is kept");
    assert_eq!(running.asked("none.example.com. A").await[0], "NXDOMAIN ra");
    assert_eq!(running.asked("web.shop.svc A").await[0], "NOERROR aa ra");
    let mixed = running.udp(&fixture::packet("WwW.eXample.com. A", Some(1232))).await.unwrap();
    let mixed = Message::from_vec(&mixed).unwrap();
    assert_eq!(mixed.queries[0].name.to_ascii(), "WwW.eXample.com.", "case is kept");
    assert!(mixed.edns.is_some());
    assert!(running.metric("landbridge_dns_forwarded_queries_total{transport=\"udp\"}") >= 7.0);

    serving.abort();
    let _ = serving.await;
    assert_eq!(running.asked("gone.example.com. A").await[0], "SERVFAIL ra");
    assert_eq!(running.asked("web.shop.svc A").await[0], "NOERROR aa ra", "and ours stands");
    running.end().await;
}

/// RFC 7766 section 6.2.1.1: "It is RECOMMENDED that servers […] process multiple pipelined queries concurrently and
/// send responses out of order", as they become available.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_keeps_none_behind_it_waiting() {
    let (upstream, _, serving) = resolver().await;
    let config = Config { upstream: vec![upstream], ..Config::default() };
    let running = Running::ready_with(WEB, config).await;
    let mut stream = running.connect().await;
    let both = [framed("slow.example.com. A"), framed("web.shop.svc A")].concat();
    stream.write_all(&both).await.unwrap();
    // A client that has asked all may close its side and still gets both.
    stream.shutdown().await.unwrap();
    assert_eq!(fixture::told(&receive(&mut stream).await)[1], "answer web.shop.svc 5 A 10.96.7.7");
    assert!(fixture::told(&receive(&mut stream).await)[1].ends_with("A 192.0.2.80"));
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    serving.abort();
    running.end().await;
}

/// Off by default; where it is on, a source that has too many is told of TCP, where it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_has_as_many_answers_as_it_may() {
    let config = Config { rate: NonZeroU32::new(5), ..Config::default() };
    let running = Running::ready_with(WEB, config).await;
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let question = fixture::packet("web.shop.svc A", None);
    for _ in 0..40 {
        socket.send_to(&question, running.address()).await.unwrap();
    }
    let mut cut = 0;
    let counted = timeout(PATIENCE, async {
        while cut == 0 {
            let mut answer = [0; 512];
            let (length, _) = socket.recv_from(&mut answer).await.unwrap();
            let told = fixture::told(&answer[..length]);
            assert!(length <= question.len() || told[0] == "NOERROR aa");
            cut += usize::from(told == ["NOERROR aa tc"]);
        }
    });
    counted.await.expect("no answer was cut");
    let mut stream = running.connect().await;
    for _ in 0..20 {
        stream.write_all(&framed("web.shop.svc A")).await.unwrap();
        assert_eq!(fixture::told(&receive(&mut stream).await).len(), 2);
    }
    assert!(running.metric("landbridge_dns_limited_answers_total{action=\"slip\"}") >= 1.0);
    running.end().await;
}

/// With the API away the last snapshot is served; how old it is is told, and past the bound the readiness says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_is_served_and_told() {
    let config = Config { max_age: Some(Duration::from_millis(50)), ..Config::default() };
    let running = Running::ready_with(WEB, config).await;
    assert_eq!(running.metric("landbridge_dns_snapshot_age_seconds"), 0.0);
    let interrupted = Event::Slice(Change::Interrupted("connection refused".into()));
    running.events.unbounded_send(interrupted).unwrap();
    let until = |ready: bool| {
        let handle = running.handle.clone();
        timeout(PATIENCE, async move {
            while handle.is_ready() != ready {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    until(false).await.expect("it stayed ready");
    assert!(running.metric("landbridge_dns_snapshot_age_seconds") >= 0.05);
    assert_eq!(running.asked("web.shop.svc A").await[1], "answer web.shop.svc 5 A 10.96.7.7");
    running.events.unbounded_send(Event::Slice(Change::Resumed)).unwrap();
    until(true).await.expect("it never became ready again");
    assert_eq!(running.metric("landbridge_dns_snapshot_age_seconds"), 0.0);
    running.end().await;
}

/// Unready first, then a time in which whoever sends queries can hear of it, then the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_answers_and_says_that_it_is_one() {
    let config = Config { lame_duck: Duration::from_secs(2), ..Config::default() };
    let running = Running::ready_with(WEB, config).await;
    running.stop.cancel();
    let noticed = timeout(PATIENCE, async {
        while running.handle.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    noticed.await.expect("it is still ready");
    assert_eq!(running.asked("web.shop.svc A").await[0], "NOERROR aa");
    assert!(!running.run.is_finished());
    running.end().await;
}

/// TTLs are those of the kind of answer.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_answer_has_its_own_time_to_live() {
    let seconds = Duration::from_secs;
    let ttl = Ttl { addresses: seconds(7), negative: seconds(3), ports: seconds(30) };
    let running = Running::ready_with(WEB, Config { ttl, ..Config::default() }).await;
    assert_eq!(running.asked("web.shop.svc A").await[1], "answer web.shop.svc 7 A 10.96.7.7");
    let ports = running.asked("_http._tcp.web.shop.svc SRV").await;
    assert_eq!(ports[1], "answer _http._tcp.web.shop.svc 30 SRV 0 100 80 web.shop.svc");
    assert_eq!(ports[2], "additional web.shop.svc 7 A 10.96.7.7");
    let none = &running.asked("none.shop.svc A").await[1];
    assert!(none.starts_with("authority @ 3 SOA") && none.ends_with(" 3"), "{none}");
    let version = running.asked("dns-version TXT").await;
    assert_eq!(version[1], "answer dns-version 28800 TXT 1.0.0");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_and_propagation_are_measured() {
    let running = Running::ready(WEB).await;
    running.asked("web.shop.svc A").await;
    let mut stream = running.connect().await;
    stream.write_all(&framed("web.shop.svc A")).await.unwrap();
    receive(&mut stream).await;
    running.tell("import shop/api ClusterSetIP 10.96.7.8");
    let measured = timeout(PATIENCE, async {
        while running.metric("landbridge_dns_propagation_seconds_count") < 1.0
            || running.metric("landbridge_dns_query_seconds_count{transport=\"udp\"}") < 1.0
            || running.metric("landbridge_dns_query_seconds_count{transport=\"tcp\"}") < 1.0
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    measured.await.expect("nothing was measured");
    running.end().await;
}
