//! Asks gateways whether they listen where an import is about to send calls.
//!
//! Each gateway answers `GET /listening` on its admin port with what it listens on. It is asked again until all that
//! is waited for is there, or until waiting would do more harm than a first call that has to be repeated.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use landbridge_model::{AllottedPort, Protocol};
use serde_json::Value;
use tokio::{net::TcpStream, time};

use crate::ports::Number;

/// "a probe that finds the allotted ports listening (at most 1 s)".
const LONGEST: Duration = Duration::from_secs(1);
/// The first wait before a gateway is asked again: it needs about as long to hear of a slice and listen.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// The longest wait, so that many probes at once do not keep a gateway busy.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// How long a gateway may take to answer whether it lives: less than the second after which it counts as silent.
const PATIENCE: Duration = Duration::from_millis(700);
/// How many gateways are asked at once whether they live.
const MOST_ASKED: usize = 64;
/// Two protocols with 20,000 ports each, at 35 bytes an entry.
const MOST_BYTES: usize = 2 << 20;

/// Asks `gateways` until all of them listen on all of `numbers`, for at most a second. Gives back the gateways that
/// then do not.
pub(crate) async fn probe(gateways: &[SocketAddr], numbers: &BTreeSet<Number>) -> Vec<SocketAddr> {
    let asked = gateways.iter().map(|gateway| async {
        let listens = time::timeout(LONGEST, wait(*gateway, numbers)).await;
        listens.is_err().then_some(*gateway)
    });
    let silent = futures::future::join_all(asked).await;
    silent.into_iter().flatten().collect()
}

async fn wait(gateway: SocketAddr, numbers: &BTreeSet<Number>) {
    let mut pause = FIRST_PAUSE;
    while !listening(gateway).await.is_some_and(|listens| numbers.is_subset(&listens)) {
        time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Asks each of `gateways` once, and gives back those that answer within [`PATIENCE`].
pub(crate) async fn answering(gateways: Vec<SocketAddr>) -> BTreeSet<SocketAddr> {
    let asked = gateways.into_iter().map(|gateway| async move {
        let answer = time::timeout(PATIENCE, ask(gateway)).await;
        answer.ok().flatten().map(|_| gateway)
    });
    // So many at once: a cluster has a handful of gateways, and one that is away holds up its own slot only.
    let answers = stream::iter(asked).buffer_unordered(MOST_ASKED);
    answers.filter_map(std::future::ready).collect().await
}

/// What a gateway says that it listens on; none where it does not answer.
async fn listening(gateway: SocketAddr) -> Option<BTreeSet<Number>> {
    Some(read(&serde_json::from_slice(&ask(gateway).await?).ok()?))
}

async fn ask(gateway: SocketAddr) -> Option<Bytes> {
    let stream = TcpStream::connect(gateway).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/listening")
        .header(HOST, gateway.to_string())
        .body(Empty::<Bytes>::new())
        .ok()?;
    let exchange = async {
        let response = sender.send_request(request).await.ok()?;
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.ok()?;
        Some(body.to_bytes())
    };
    tokio::pin!(exchange);
    tokio::select! {
        body = &mut exchange => body,
        _ = connection => exchange.await,
    }
}

fn read(answer: &Value) -> BTreeSet<Number> {
    let entries = answer["listening"].as_array().into_iter().flatten();
    let number = |entry: &Value| -> Option<Number> {
        let protocol: Protocol = entry["protocol"].as_str()?.parse().ok()?;
        let port = u16::try_from(entry["port"].as_u64()?).ok()?;
        Some((protocol, AllottedPort::new(port).ok()?))
    };
    entries.filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::{Response, server, service::service_fn};
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    fn numbers(ports: &[u16]) -> BTreeSet<Number> {
        let ports = ports.iter();
        ports.map(|port| (Protocol::Tcp, AllottedPort::new(*port).unwrap())).collect()
    }

    /// A gateway that listens on one port more each time that it is asked.
    async fn gateway() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for asked in 1_u64.. {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = move |_| async move {
                    let ports = (0..asked).map(|n| json!({"protocol": "TCP", "port": 10_000 + n}));
                    let body = json!({"listening": ports.collect::<Vec<_>>()}).to_string();
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
                };
                let serving = server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                serving.await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_gateway_is_asked_until_it_listens() {
        let gateway = gateway().await;
        assert_eq!(probe(&[gateway], &numbers(&[10_000, 10_002])).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_listen_is_waited_for_a_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = listener.local_addr().unwrap();
        drop(listener);
        let start = time::Instant::now();
        assert_eq!(probe(&[dead], &numbers(&[10_000])).await, [dead]);
        assert!(start.elapsed() >= LONGEST);
    }

    #[test]
    fn an_answer_of_another_shape_says_nothing() {
        for answer in [json!({}), json!([1]), json!({"listening": [{"port": 10_000}, 7]})] {
            assert!(read(&answer).is_empty());
        }
    }
}
