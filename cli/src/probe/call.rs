//! The end of `landbridge verify` that calls: it asks the system for names, as any pod does, and calls every address that a
//! name has. What does not work yet is tried again until the deadline: an export is on its way when this begins.

use std::{fs, net::IpAddr, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use futures::future::join_all;
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket, lookup_host},
    time::{Instant, sleep, timeout},
};

use super::{Call, Called, MAX_ANSWER, Step, check};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one question to the DNS may take: what a resolver of the system waits for one server.
const NAMED: Duration = Duration::from_secs(6);
/// How long one call may take: a client that is not answered in this time has given up.
const ANSWERED: Duration = Duration::from_secs(3);
/// What our DNS server says of itself (KEP-1645), to whoever the cluster's own DNS lets ask.
const VERSION: &str = "dns-version.clusterset.local.";
/// Which servers pods ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Whom to call, under which name, as `berlin=at-berlin.ns.svc.clusterset.local:8080`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) cluster: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence with an example.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let split = || {
            let (cluster, at) = text.split_once('=')?;
            let (host, port) = at.rsplit_once(':')?;
            let port = port.parse().ok()?;
            Some(Self { cluster: cluster.to_owned(), host: host.to_owned(), port })
        };
        split().ok_or_else(|| "is no target: give one such as berlin=host.example:8080".into())
    }
}

/// Calls all of them until each has answered, or the time is over.
pub(crate) async fn all(from: &str, targets: &[Target], within: Duration) -> Called {
    let deadline = Instant::now() + within;
    let calls = join_all(targets.iter().map(|target| one(from, target, deadline))).await;
    // Beside names that resolve there is nothing to ask.
    let zone = match calls.iter().find(|call| call.name.holds()) {
        Some(call) => call.name.clone(),
        None => zone().await,
    };
    Called { zone, calls }
}

async fn one(from: &str, target: &Target, deadline: Instant) -> Call {
    let begun = Instant::now();
    let mut call = Call::untried(&target.cluster);
    for attempt in 1_u64.. {
        round(&mut call, target, &format!("{from}-{attempt}\n"), begun).await;
        if call.holds() || Instant::now() + PAUSE > deadline {
            break;
        }
        sleep(PAUSE).await;
    }
    call
}

/// One attempt at everything. A name that has resolved once may not resolve the next time, and that is told.
async fn round(call: &mut Call, target: &Target, question: &str, begun: Instant) {
    let addresses = match addresses(target).await {
        Ok(addresses) => addresses,
        Err(says) => {
            *call = Call { name: Step::Failed { says }, ..Call::untried(&target.cluster) };
            return;
        }
    };
    if !call.name.holds() {
        call.name = Step::held(begun.elapsed());
    }
    call.tcp = each(&addresses, async |to| over_tcp(&target.cluster, question, to).await).await;
    call.udp = each(&addresses, async |to| over_udp(&target.cluster, question, to).await).await;
}

/// As whatever runs in the pod would get them.
async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, String> {
    let asked = timeout(NAMED, lookup_host((target.host.as_str(), target.port))).await;
    let found = asked.map_err(|_| format!("no answer within {NAMED:?}"))?;
    let addresses: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("has no address".into()) } else { Ok(addresses) }
}

/// How long the slowest address took, or what one of them said.
async fn each(
    addresses: &[SocketAddr],
    call: impl AsyncFn(SocketAddr) -> Result<(), String>,
) -> Step {
    let mut slowest = Duration::ZERO;
    for address in addresses {
        let begun = Instant::now();
        let called = timeout(ANSWERED, call(*address)).await;
        let called = called.unwrap_or_else(|_| Err(format!("no answer within {ANSWERED:?}")));
        if let Err(says) = called {
            return Step::Failed { says: format!("{address}: {says}") };
        }
        slowest = slowest.max(begun.elapsed());
    }
    Step::held(slowest)
}

async fn over_tcp(cluster: &str, question: &str, to: SocketAddr) -> Result<(), String> {
    let asked = async {
        let mut connection = TcpStream::connect(to).await?;
        connection.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.take(MAX_ANSWER as u64).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = asked.await.map_err(|error| error.to_string())?;
    check(cluster, question, &answer)
}

async fn over_udp(cluster: &str, question: &str, to: SocketAddr) -> Result<(), String> {
    let any: SocketAddr = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }
        .parse()
        .map_err(|_| "no address to call from")?;
    let asked = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        socket.send(question.as_bytes()).await?;
        let mut answer = vec![0; MAX_ANSWER];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        std::io::Result::Ok(answer)
    };
    let answer = asked.await.map_err(|error| error.to_string())?;
    check(cluster, question, &answer)
}

/// Whether the servers that pods ask know of the zone at all, whatever is in it.
async fn zone() -> Step {
    let begun = Instant::now();
    match asked().await {
        Ok(()) => Step::held(begun.elapsed()),
        Err(error) => Step::Failed { says: crate::exit::line(error.as_ref()) },
    }
}

async fn asked() -> Result<()> {
    let text = fs::read_to_string(RESOLV_CONF).context(RESOLV_CONF)?;
    let servers: Vec<NameServerConfig> =
        servers(&text).into_iter().map(NameServerConfig::udp_and_tcp).collect();
    anyhow::ensure!(!servers.is_empty(), "{RESOLV_CONF} names no server");
    let config = ResolverConfig::from_name_servers(servers);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = builder.build().context("the DNS client")?;
    timeout(NAMED, resolver.txt_lookup(VERSION)).await.context("no answer in time")??;
    Ok(())
}

/// The servers of a `resolv.conf`.
fn servers(text: &str) -> Vec<IpAddr> {
    let words = text.lines().map(|line| line.split_whitespace());
    let server = |mut words: std::str::SplitWhitespace<'_>| {
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    words.filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::serve::Server;

    #[test]
    fn a_target_says_whom_to_call_and_where() {
        let target = Target::parse("berlin=at-berlin.v.svc.clusterset.local:8080").unwrap();
        assert_eq!((target.cluster.as_str(), target.port), ("berlin", 8080));
        assert_eq!(target.host, "at-berlin.v.svc.clusterset.local");
        for odd in ["", "berlin", "berlin=host", "berlin=host:x"] {
            assert!(Target::parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_servers_are_those_of_the_system() {
        let text = "search a.svc.cluster.local\nnameserver 10.96.0.10\n# nameserver 1.1.1.1\nnameserver fd00::a\noptions ndots:5\n";
        let expected: [IpAddr; 2] = ["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        assert_eq!(servers(text), expected);
    }

    fn target(cluster: &str, port: u16) -> Target {
        Target { cluster: cluster.into(), host: "127.0.0.1".into(), port }
    }

    #[tokio::test]
    async fn a_cluster_that_answers_is_told_from_one_that_does_not_and_from_another() {
        let server = Server::bind(0).await.unwrap();
        let port = server.port().unwrap();
        let nobody = {
            let freed = Server::bind(0).await.unwrap();
            freed.port().unwrap()
        };
        let targets = [target("berlin", port), target("tokyo", port), target("oslo", nobody)];
        let within = Duration::from_millis(300);
        let called = tokio::select! {
            called = all("paris", &targets, within) => called,
            () = server.run("berlin") => unreachable!(),
        };
        assert!(called.zone.holds());
        let [berlin, tokyo, oslo] = &called.calls[..] else { panic!("{called:?}") };
        assert!(berlin.holds(), "{berlin:?}");
        assert!(tokyo.name.holds());
        let says = |step: &Step| match step {
            Step::Failed { says } => says.clone(),
            other => panic!("{other:?}"),
        };
        let expected = format!("127.0.0.1:{port}: berlin answered, which is another cluster");
        assert_eq!([says(&tokyo.tcp), says(&tokyo.udp)], [expected.clone(), expected]);
        assert!(says(&oslo.tcp).contains("refused"), "{oslo:?}");
    }
}
