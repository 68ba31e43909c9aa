//! The server as its clients meet it: real sockets on loopback, and the events that watches would tell.

mod policy;
mod soak;
mod ways;

use std::net::{IpAddr, Ipv4Addr};

use futures::{StreamExt, channel::mpsc, stream};
use hickory_proto::op::Message;
use landbridge_api::watch::Change;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{config::Ttl, fixture};

/// Where a connection of a test that is made by hand came from.
const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const PATIENCE: Duration = Duration::from_secs(10);
const WEB: &str = "import shop/web ClusterSetIP 10.96.7.7 | http=80/TCP";

struct Running {
    events: mpsc::UnboundedSender<Event>,
    handle: Handle,
    registry: Registry,
    run: JoinHandle<Result<(), RunError>>,
    stop: CancellationToken,
}

impl Running {
    fn start() -> Self {
        Self::with_connections(MAX_CONNECTIONS)
    }

    fn with_connections(most: usize) -> Self {
        Self::configured(Config::default(), most)
    }

    fn configured(config: Config, most: usize) -> Self {
        let (events, told) = mpsc::unbounded();
        let mut registry = Registry::with_prefix("landbridge");
        let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let config = Config { listen, ..config };
        let mut server = DnsServer::with_events(config, told.boxed(), &mut registry).unwrap();
        server.connections = most;
        let (handle, stop) = (server.handle(), CancellationToken::new());
        let run = tokio::spawn(server.run(stop.clone()));
        Self { events, handle, registry, run, stop }
    }

    async fn ready(fixture: &str) -> Self {
        Self::ready_with(fixture, Config::default()).await
    }

    async fn ready_with(fixture: &str, config: Config) -> Self {
        let running = Self::configured(config, MAX_CONNECTIONS);
        running.tell(fixture);
        let waited = timeout(PATIENCE, async {
            while !running.handle.is_ready() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        waited.await.expect("the server never became ready");
        running
    }

    fn tell(&self, fixture: &str) {
        for event in fixture::events(fixture) {
            self.events.unbounded_send(event).unwrap();
        }
    }

    fn address(&self) -> SocketAddr {
        self.handle.addresses()[0]
    }

    /// Sends one packet from a socket of its own.
    async fn udp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.send_to(packet, self.address()).await.unwrap();
        let mut answer = vec![0; 65_535];
        let received = timeout(PATIENCE, socket.recv_from(&mut answer));
        let (length, _) = received.await.ok()?.unwrap();
        Some(answer[..length].to_vec())
    }

    async fn asked(&self, question: &str) -> Vec<String> {
        let answer = self.udp(&fixture::packet(question, None)).await;
        fixture::told(&answer.expect("no answer"))
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let found = text.lines().find_map(|told| told.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
    }

    async fn end(self) {
        self.stop.cancel();
        let ended = timeout(PATIENCE, self.run).await.expect("it did not end");
        ended.unwrap().unwrap();
    }
}

fn framed(question: &str) -> Vec<u8> {
    let packet = fixture::packet(question, None);
    let length = u16::try_from(packet.len()).unwrap();
    [length.to_be_bytes().to_vec(), packet].concat()
}

async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let read = timeout(PATIENCE, async {
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    });
    read.await.expect("no answer over TCP")
}

const NEGATIVE: &str = "authority @ 5 SOA";

fn is_negative(told: &[String], code: &str) -> bool {
    told[0] == code && told[1].starts_with(NEGATIVE) && told.len() == 2
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fails_until_everything_was_read_and_then_answers_by_the_newest_snapshot() {
    let running = Running::start();
    assert!(!running.handle.is_ready());
    assert_eq!(running.asked("web.shop.svc A").await, ["SERVFAIL"]);
    assert_eq!(running.metric("landbridge_dns_ready"), 0.0);

    running.tell(WEB);
    let answer = ["NOERROR aa", "answer web.shop.svc 5 A 10.96.7.7"];
    let follows =
        timeout(PATIENCE, async { while running.asked("web.shop.svc A").await != answer {} });
    follows.await.expect("the import was never answered");
    assert!(running.handle.is_ready());

    running.tell("import shop/api ClusterSetIP 10.96.7.8");
    let follows = timeout(PATIENCE, async {
        while running.asked("api.shop.svc A").await.len() != 2
            || running.asked("api.shop.svc A").await[0] != "NOERROR aa"
        {}
    });
    follows.await.expect("the new import was never answered");
    assert!(is_negative(&running.asked("web.shop.svc A").await, "NXDOMAIN aa"));
    running.tell("");
    let follows = timeout(PATIENCE, async {
        while !is_negative(&running.asked("shop.svc A").await, "NXDOMAIN aa") {}
    });
    follows.await.expect("the namespace never went");
    running.end().await;
}

/// The whole of the API's trouble: interrupted watches, objects that cannot be read. What was known is answered.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_api_changes_no_answer() {
    let running = Running::ready(WEB).await;
    let interrupted = Event::Import(Change::Interrupted("connection refused".into()));
    running.events.unbounded_send(interrupted).unwrap();
    let bad = fixture::events("import shop/web ClusterSetIP nowhere | http=80/TCP");
    for event in bad {
        running.events.unbounded_send(event).unwrap();
    }
    let noticed = timeout(PATIENCE, async {
        while running.metric("landbridge_dns_object_problems_total") < 1.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    noticed.await.expect("the bad object was never counted");
    assert_eq!(running.metric("landbridge_dns_watch_interruptions_total"), 1.0);
    assert_eq!(running.asked("web.shop.svc A").await[1], "answer web.shop.svc 5 A 10.96.7.7");
    running.end().await;
}

/// Bad input: "a DNS packet of noise: a clear metric, and the rest goes on".
#[tokio::test(flavor = "multi_thread")]
async fn noise_is_counted_and_the_next_query_answered() {
    let running = Running::ready(WEB).await;
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let response = {
        let mut packet = fixture::packet("web.shop.svc A", None);
        packet[2] |= 0x80;
        packet
    };
    let garbled = {
        let mut packet = fixture::packet("web.shop.svc A", None);
        packet[12] = 0x7f;
        packet
    };
    for noise in [&b""[..], b"x", &[0xff; 2000], &response, &garbled, &[0; 5000]] {
        socket.send_to(noise, running.address()).await.unwrap();
    }
    let counted = timeout(PATIENCE, async {
        while running.metric("landbridge_dns_dropped_total{reason=\"short\"}") < 2.0
            || running.metric("landbridge_dns_dropped_total{reason=\"response\"}") < 2.0
            || running.metric("landbridge_dns_malformed_packets_total{transport=\"udp\"}") < 4.0
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    counted.await.expect("noise was not counted");
    assert_eq!(running.asked("web.shop.svc A").await[0], "NOERROR aa");
    let answered = "landbridge_dns_queries_total{transport=\"udp\",type=\"A\",rcode=\"NOERROR\"}";
    assert_eq!(running.metric(answered), 1.0);
    running.end().await;
}

/// RFC 7830 section 3: "The PADDING octets SHOULD be set to 0x00"; what is longer than a frame is cut and refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_may_be_as_long_as_a_frame_carries() {
    let running = Running::ready(WEB).await;
    let padded = |length: usize| {
        let mut packet = fixture::packet("web.shop.svc A", Some(1232));
        let padding = length - packet.len() - 4;
        let at = packet.len() - 2;
        let be = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
        packet[at..].copy_from_slice(&be(padding + 4));
        packet.extend([be(12), be(padding)].concat());
        packet.resize(length, 0);
        packet
    };
    for (length, code) in
        [(512, "NOERROR aa"), (1_472, "NOERROR aa"), (1_473, "FORMERR"), (4_000, "FORMERR")]
    {
        let answer = running.udp(&padded(length)).await.expect("no answer");
        assert_eq!(fixture::told(&answer)[0], code, "{length}");
    }
    running.end().await;
}

/// RFC 7766 section 6.2.1.1: "clients SHOULD pipeline their queries"; section 8 on messages that come in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn queries_over_tcp_come_in_any_pieces() {
    let running = Running::ready(WEB).await;
    let mut stream = running.connect().await;
    let questions =
        ["web.shop.svc A", "web.shop.svc AAAA", "api.shop.svc A", "_http._tcp.web.shop.svc SRV"];
    let codes = ["NOERROR aa", "NOERROR aa", "NXDOMAIN aa", "NOERROR aa"];
    let all: Vec<u8> = questions.iter().flat_map(|question| framed(question)).collect();

    stream.write_all(&all).await.unwrap();
    for (question, code) in questions.iter().zip(codes) {
        let answer = receive(&mut stream).await;
        assert_eq!(fixture::told(&answer)[0], code, "{question}");
        let name = Message::from_vec(&answer).unwrap().queries[0].name.to_ascii();
        assert!(question.starts_with(name.trim_end_matches(".clusterset.local.")), "out of order");
    }

    stream.set_nodelay(true).unwrap();
    for byte in &all {
        stream.write_all(&[*byte]).await.unwrap();
    }
    for code in codes {
        assert_eq!(fixture::told(&receive(&mut stream).await)[0], code);
    }

    // A client that has asked all it wanted may close its side before the answers come.
    stream.write_all(&all.repeat(200)).await.unwrap();
    stream.shutdown().await.unwrap();
    for _ in 0..200 {
        for code in codes {
            assert_eq!(fixture::told(&receive(&mut stream).await)[0], code);
        }
    }
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "then it closes too");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_over_tcp_ends_only_its_own_connection() {
    let running = Running::ready(WEB).await;
    let mut good = running.connect().await;
    let mut bad = running.connect().await;
    bad.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    let closed = timeout(PATIENCE, bad.read(&mut [0])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    good.write_all(&framed("web.shop.svc A")).await.unwrap();
    assert_eq!(fixture::told(&receive(&mut good).await)[0], "NOERROR aa");
    running.end().await;
}

/// Design section 4, rule 6: "Everything is bounded, […] and overflow is counted."
#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_are_closed_and_counted() {
    let running = Running::with_connections(2);
    let mut within = [running.connect().await, running.connect().await];
    for stream in &mut within {
        // An answer tells that the connection has been accepted.
        stream.write_all(&framed("example.com. A")).await.unwrap();
        receive(stream).await;
    }
    let mut beyond = running.connect().await;
    let closed = timeout(PATIENCE, beyond.read(&mut [0])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    assert_eq!(running.metric("landbridge_dns_dropped_total{reason=\"connections\"}"), 1.0);
    let [mut first, second] = within;
    drop(second);
    first.write_all(&framed("example.com. A")).await.unwrap();
    assert_eq!(fixture::told(&receive(&mut first).await), ["REFUSED"]);
    let accepted_again = timeout(PATIENCE, async {
        loop {
            let mut stream = running.connect().await;
            let asked = stream.write_all(&framed("example.com. A")).await;
            if asked.is_ok() && stream.read_u16().await.is_ok() {
                break;
            }
        }
    });
    accepted_again.await.expect("a place that was left stayed taken");
    running.end().await;
}

/// RFC 7766 section 6.2.3: an idle connection is closed. One that drips single octets is idle, too.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_nothing_are_closed() {
    let running = Running::ready(WEB).await;
    for drip in [false, true] {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let served = Arc::clone(&running.handle.served);
        let served = tokio::spawn(async move {
            let idle = Duration::from_millis(30);
            tcp::serve(stream, FROM, &served, idle, &CancellationToken::new()).await
        });
        let dripping = async {
            while drip && client.try_write(&[16]).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if served.is_finished() {
                    break;
                }
            }
        };
        timeout(PATIENCE, dripping).await.expect("dripping kept it open");
        timeout(PATIENCE, served).await.expect("it stayed open").unwrap().unwrap();
    }
    running.end().await;
}

/// RFC 7766 section 6.2.3: each query begins the wait anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_used_stays_open() {
    let running = Running::ready(WEB).await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let served = Arc::clone(&running.handle.served);
    let idle = Duration::from_secs(1);
    tokio::spawn(async move {
        tcp::serve(stream, FROM, &served, idle, &CancellationToken::new()).await
    });
    let begin = Instant::now();
    while begin.elapsed() < idle + idle / 4 {
        client.write_all(&framed("web.shop.svc A")).await.unwrap();
        assert_eq!(fixture::told(&receive(&mut client).await)[0], "NOERROR aa");
        tokio::time::sleep(idle / 10).await;
    }
    running.end().await;
}

/// Design, "DNS": TC rather than a silent subset; the rest comes over TCP.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_truncated_over_udp_is_whole_over_tcp() {
    let endpoints: Vec<String> = (0..100).map(|pod| format!("10.96.8.{pod}")).collect();
    let fixture = format!(
        "import shop/db Headless | pg=5432/TCP
         slice shop/db paris IPv4 | pg=6432/TCP | {}",
        endpoints.join(" ")
    );
    let running = Running::ready(&fixture).await;
    let told = running.asked("db.shop.svc A").await;
    assert_eq!(told[0], "NOERROR aa tc");
    let mut stream = running.connect().await;
    stream.write_all(&framed("db.shop.svc A")).await.unwrap();
    let told = fixture::told(&receive(&mut stream).await);
    assert_eq!((told[0].as_str(), told.len()), ("NOERROR aa", 101));
    assert_eq!(running.metric("landbridge_dns_truncated_answers_total"), 1.0);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshot_is_shown_as_it_is_answered() {
    let running = Running::ready(fixture::BERLIN).await;
    let shown = running.handle.snapshot();
    assert_eq!(shown["zone"], "clusterset.local.");
    assert_eq!(shown["ready"], true);
    assert_eq!(
        shown["names"]["db-0.paris.db.shop.svc.clusterset.local."],
        serde_json::json!({"A": ["10.96.8.1"], "AAAA": ["fd00:10:96::801"]})
    );
    assert_eq!(
        shown["names"]["db.shop.svc.clusterset.local."]["SRV"],
        serde_json::json!(["0 100 6432 db-0.paris.db.shop.svc.clusterset.local."])
    );
    assert_eq!(shown["names"]["svc.clusterset.local."], serde_json::json!({}));
    assert_eq!(shown, running.handle.snapshot(), "it is stable");
    let names = shown["names"].as_object().unwrap().len();
    assert_eq!(running.metric("landbridge_dns_names"), f64::from(u32::try_from(names).unwrap()));
    assert_eq!(running.metric("landbridge_dns_snapshot_generation"), 1.0);
    assert!(running.metric("landbridge_dns_snapshot_age_seconds") < PATIENCE.as_secs_f64());
    running.end().await;
}

/// A server that is told to stop is not ready, answers what it has received, and closes.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_in_order() {
    let running = Running::ready(WEB).await;
    let (address, handle) = (running.address(), running.handle.clone());
    let mut idle = running.connect().await;
    let mut busy = running.connect().await;
    busy.write_all(&framed("web.shop.svc A").repeat(300)).await.unwrap();
    running.stop.cancel();
    running.end().await;
    assert!(!handle.is_ready());
    assert!(matches!(idle.read(&mut [0]).await, Ok(0) | Err(_)));
    for _ in 0..300 {
        assert_eq!(fixture::told(&receive(&mut busy).await)[0], "NOERROR aa");
    }
    assert!(TcpStream::connect(address).await.is_err());
    let free = UdpSocket::bind(address);
    assert!(free.is_ok(), "{free:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named() {
    let running = Running::start();
    let config = Config { listen: vec![running.address()], ..Config::default() };
    let taken = DnsServer::with_events(config, stream::pending().boxed(), &mut Registry::default());
    let error = taken.err().expect("two servers at one address").to_string();
    let start = format!("cannot listen at {} over TCP", running.address());
    assert!(error.starts_with(&start), "{error}");
    let nowhere = DnsServer::with_events(
        Config::default(),
        stream::pending().boxed(),
        &mut Registry::default(),
    );
    assert!(matches!(nowhere.err(), Some(StartError::NoAddress)));
    running.end().await;
}

/// A watch never ends. One that does is a fault, and is told rather than answered around.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_ends_by_itself_ends_the_server() {
    let running = Running::start();
    running.events.close_channel();
    let ended = timeout(PATIENCE, running.run).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RunError::Ended(name)) if name == "follow"));
}

/// Answers one request as a Kubernetes API that has one import and one slice of it would.
async fn api(mut stream: TcpStream, paths: mpsc::UnboundedSender<String>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    paths.unbounded_send(path.clone()).unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    if path.contains("watch=true") {
        let open = format!("{head}transfer-encoding: chunked\r\n\r\n");
        stream.write_all(open.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    }
    let object = if path.contains("serviceimports") {
        serde_json::json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
            "metadata": {"namespace": "shop", "name": "db"},
            "spec": {"type": "Headless", "ports": [{"port": 5432}]},
        })
    } else {
        serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "db-paris-v4", "labels": {
                "multicluster.kubernetes.io/service-name": "db",
                "multicluster.kubernetes.io/source-cluster": "paris",
            }},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.96.8.1"], "hostname": "db-0"}],
        })
    };
    let list = serde_json::json!({
        "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": [object],
    });
    let body = list.to_string();
    let whole = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(whole.as_bytes()).await.unwrap();
}

/// Design section 3: "dns serves other MCS controllers' imports too", so slices are chosen by the label of the API
/// alone.
#[tokio::test(flavor = "multi_thread")]
async fn imports_and_slices_of_any_implementation_are_watched() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (told, paths) = mpsc::unbounded();
    let serving = tokio::spawn(async move {
        let mut requests = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            requests.spawn(api(stream, told.clone()));
        }
    });
    let client = Client::try_from(kube::Config::new(uri)).unwrap();
    let config = Config { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], ..Config::default() };
    let mut registry = Registry::with_prefix("landbridge");
    let server = DnsServer::bind(config, client, &mut registry).await.unwrap();
    let (handle, stop) = (server.handle(), CancellationToken::new());
    let run = tokio::spawn(server.run(stop.clone()));
    let synced = timeout(PATIENCE, async {
        while !handle.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    synced.await.expect("the server never became ready");
    assert_eq!(
        handle.snapshot()["names"]["db-0.paris.db.shop.svc.clusterset.local."],
        serde_json::json!({"A": ["10.96.8.1"]})
    );
    let watches: Vec<String> = paths
        .filter(|path| std::future::ready(path.contains("watch=true")))
        .take(2)
        .collect()
        .await;
    let slices = watches.iter().find(|path| path.contains("/endpointslices?")).unwrap();
    let selector = slices.split('&').find_map(|part| part.strip_prefix("labelSelector="));
    assert_eq!(selector, Some("multicluster.kubernetes.io%2Fservice-name"));
    let imports = watches.iter().find(|path| path.contains("/v1beta1/serviceimports?")).unwrap();
    assert!(!imports.contains("labelSelector"), "{imports}");
    stop.cancel();
    run.await.unwrap().unwrap();
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_are_served() {
    let config = Config {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()],
        ..Config::default()
    };
    let server =
        DnsServer::with_events(config, stream::pending().boxed(), &mut Registry::default());
    let server = match server {
        Ok(server) => server,
        // A machine without IPv6 has no such address to bind.
        Err(StartError::Bind { address, source, .. }) if address.is_ipv6() => {
            assert_ne!(source.kind(), io::ErrorKind::AddrInUse, "{source}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let (handle, stop) = (server.handle(), CancellationToken::new());
    let run = tokio::spawn(server.run(stop.clone()));
    for address in handle.addresses() {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        let socket = tokio::net::UdpSocket::bind((any, 0)).await.unwrap();
        socket.send_to(&fixture::packet("example.com. A", None), address).await.unwrap();
        let mut answer = vec![0; 512];
        let (length, from) =
            timeout(PATIENCE, socket.recv_from(&mut answer)).await.unwrap().unwrap();
        assert_eq!((fixture::told(&answer[..length])[0].as_str(), from), ("REFUSED", address));
    }
    stop.cancel();
    run.await.unwrap().unwrap();
}
