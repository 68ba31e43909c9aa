//! The same questions through every way in: each must give the answers of the pure function.

use std::collections::HashMap;

use super::*;
use crate::{
    answer::{Asked, respond},
    fixture::Draw,
    message::plain,
    udp,
};

/// As many as the promise names.
const QUESTIONS: u16 = 10_000;
/// How many are under way at a time over UDP: what fits a socket's buffer.
const WINDOW: usize = 64;

/// What is imported: enough of each kind, and one answer too long for UDP.
fn imports() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(fixture::BERLIN);
    for number in 0..100 {
        let _ = writeln!(
            text,
            "import shop/web-{number} ClusterSetIP 10.96.7.{number} fd00::{number} | http=80/TCP"
        );
    }
    let many: Vec<String> = (0..100).map(|pod| format!("many-{pod}@10.97.0.{pod}")).collect();
    let _ = writeln!(text, "import shop/many Headless | pg=5432/TCP");
    let _ = writeln!(text, "slice shop/many paris IPv4 | pg=6432/TCP | {}", many.join(" "));
    text
}

/// Question `number`, which its id tells: good names, names that are not there, oddities and noise.
fn question(number: u16, draw: &mut Draw) -> Vec<u8> {
    let kinds = ["A", "AAAA", "SRV", "TXT", "ANY", "SOA", "TYPE65"];
    let kind = kinds[draw.below(kinds.len())];
    let name = match draw.below(10) {
        0 => "db.shop.svc".into(),
        1 => "db-0.paris.db.shop.svc".into(),
        2 => "paris.db.shop.svc".into(),
        3 => "many.shop.svc".into(),
        4 => "@".into(),
        5 => "dns-version".into(),
        6 => "example.com.".into(),
        7 => format!("none-{}.shop.svc", draw.below(100)),
        8 => format!("_http._tcp.WEB-{}.shop.svc", draw.below(100)),
        _ => format!("web-{}.Shop.svc", draw.below(100)),
    };
    let payload = [None, Some(512), Some(1232), Some(4096)][draw.below(4)];
    let mut packet = fixture::packet(&format!("{name} {kind}"), payload);
    match draw.below(20) {
        0 => packet[2] |= 0x20,
        1 => packet[12] = 0xc1,
        2 => packet[5] = 2,
        3 => packet.push(0),
        4 => packet.truncate(packet.len() - 3),
        _ => {}
    }
    packet[..2].copy_from_slice(&number.to_be_bytes());
    packet
}

fn questions() -> Vec<Vec<u8>> {
    let mut draw = Draw::new(7);
    (0..QUESTIONS).map(|number| question(number, &mut draw)).collect()
}

/// An answer with its records in order and without its number of turns: which comes first is nobody's right.
fn normal(answer: &[u8]) -> Vec<String> {
    let mut told = fixture::told(answer);
    told.sort();
    told
}

fn expected(running: &Running, packet: &[u8], transport: Transport) -> Vec<String> {
    let served = &running.handle.served;
    let snapshot = served.current.snapshot.load();
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let asked =
        Asked { now: 0, rules: &served.rules, snapshot: &snapshot, source, transport, turn: 0 };
    let mut out = Vec::new();
    respond(packet, asked, &mut out);
    normal(&out)
}

/// Which records of a truncated answer there are depends on the turn: what counts is that it says so.
fn check(number: u16, got: &[String], expected: &[String], way: &str) {
    if expected.iter().any(|line| line.contains(" tc")) {
        assert!(got.iter().any(|line| line.contains(" tc")), "{way} {number}: {got:?}");
        assert_eq!(got.len(), expected.len(), "{way} {number}");
    } else {
        assert_eq!(got, expected, "{way} {number}");
    }
}

/// Asks all over UDP, some at a time; what the system drops for want of room is asked again.
async fn over_udp(address: SocketAddr, questions: &[Vec<u8>]) -> HashMap<u16, Vec<u8>> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    let socket = tokio::net::UdpSocket::bind((any, 0)).await.unwrap();
    socket.connect(address).await.unwrap();
    let mut answers = HashMap::new();
    let mut buffer = vec![0; 65_535];
    for window in questions.chunks(WINDOW) {
        let ids: Vec<u16> =
            window.iter().map(|packet| u16::from_be_bytes([packet[0], packet[1]])).collect();
        let all = timeout(PATIENCE, async {
            while !ids.iter().all(|id| answers.contains_key(id)) {
                for (id, packet) in ids.iter().zip(window) {
                    if !answers.contains_key(id) {
                        socket.send(packet).await.unwrap();
                    }
                }
                let wait = Duration::from_secs(1);
                while let Ok(Ok(length)) = timeout(wait, socket.recv(&mut buffer)).await {
                    let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                    answers.insert(id, buffer[..length].to_vec());
                    if ids.iter().all(|id| answers.contains_key(id)) {
                        break;
                    }
                }
            }
        });
        all.await.expect("some question is never answered");
    }
    answers
}

/// Asks all on one connection, without waiting for an answer before the next question.
async fn over_tcp(address: SocketAddr, questions: &[Vec<u8>]) -> HashMap<u16, Vec<u8>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut framed = Vec::new();
    for packet in questions {
        framed.extend_from_slice(&u16::try_from(packet.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(packet);
    }
    let write = async move {
        writer.write_all(&framed).await.unwrap();
        writer
    };
    let read = async move {
        let mut answers = HashMap::new();
        while answers.len() < usize::from(QUESTIONS) {
            let length = reader.read_u16().await.unwrap();
            let mut answer = vec![0; usize::from(length)];
            reader.read_exact(&mut answer).await.unwrap();
            answers.insert(u16::from_be_bytes([answer[0], answer[1]]), answer);
        }
        answers
    };
    let (_writer, answers) =
        timeout(6 * PATIENCE, async { tokio::join!(write, read) }).await.unwrap();
    answers
}

fn check_all(
    running: &Running,
    questions: &[Vec<u8>],
    answers: &HashMap<u16, Vec<u8>>,
    transport: Transport,
    way: &str,
) {
    for (number, packet) in (0..).zip(questions) {
        let told = normal(&answers[&number]);
        check(number, &told, &expected(running, packet, transport), way);
    }
}

/// Design, "DNS": "A test holds all ways to the same answers."
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_questions_are_answered_alike_through_every_way() {
    let running = Running::ready(&imports()).await;
    let questions = questions();
    let plain = questions.iter().filter(|packet| plain(packet).is_some()).count();
    assert!((7_000..9_900).contains(&plain), "{plain} are plain: both readers are to be asked");

    let answers = over_udp(running.address(), &questions).await;
    check_all(&running, &questions, &answers, Transport::Udp, "UDP");
    let answers = over_tcp(running.address(), &questions).await;
    check_all(&running, &questions, &answers, Transport::Tcp, "TCP");

    let stop = CancellationToken::new();
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
    for (address, single) in [(addresses[0], true), (addresses[1], false)] {
        let socket = match udp::bind((address, 0).into()) {
            Ok(socket) => Arc::new(socket),
            // A machine without IPv6 has no such address to bind.
            Err(error) if address.is_ipv6() => {
                println!("skipped: no IPv6 here ({error})");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let bound = socket.local_addr().unwrap();
        let (served, stop) = (Arc::clone(&running.handle.served), stop.clone());
        let thread = thread::spawn(move || {
            if single {
                udp::serve(&socket, &served, &stop, &mut udp::packet_by_packet());
            } else {
                udp::serve(&socket, &served, &stop, &mut udp::packets(bound));
            }
        });
        let answers = over_udp(bound, &questions).await;
        let way = if single { "UDP, packet by packet" } else { "UDP over IPv6" };
        check_all(&running, &questions, &answers, Transport::Udp, way);
        drop(thread);
    }
    stop.cancel();
    running.end().await;
}
