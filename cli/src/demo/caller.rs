//! A pod that calls: it resolves the name with a stock DNS client and calls from its own address over HTTP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    echo::{CALL_ID, Reply},
    report::Outcome,
};

/// The longest that a call may take: what an impatient client would wait.
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// More than the echo workload ever answers.
const LONGEST_REPLY: usize = 16 * 1024;

/// A calling pod.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    address: Ipv4Addr,
    resolver: TokioResolver,
    ids: Arc<AtomicU64>,
}

impl Caller {
    /// A pod at `address` whose `resolv.conf` names `dns`. Calls are numbered from `ids`.
    pub(super) fn new(
        address: Ipv4Addr,
        dns: SocketAddr,
        ids: Arc<AtomicU64>,
    ) -> anyhow::Result<Self> {
        let mut server = NameServerConfig::udp_and_tcp(dns.ip());
        for connection in &mut server.connections {
            connection.port = dns.port();
        }
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.attempts = 1;
        // Each question is asked: what is measured is the server, not this client's memory.
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4Only;
        options.timeout = Duration::from_millis(500);
        Ok(Self { address, resolver: builder.build().context("the DNS client")?, ids })
    }

    /// The address of `name`, none where there is no such name.
    ///
    /// # Errors
    /// Where the server does not say either.
    pub(super) async fn resolve(&self, name: &str) -> Result<Option<Ipv4Addr>, NetError> {
        match self.resolver.ipv4_lookup(format!("{name}.")).await {
            Ok(found) => Ok(found.answers().iter().find_map(|record| match &record.data {
                hickory_resolver::proto::rr::RData::A(address) => Some(address.0),
                _ => None,
            })),
            Err(error) if error.is_no_records_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Calls once, over a connection of its own.
    pub(super) async fn call(&self, target: SocketAddr) -> anyhow::Result<Reply> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        tokio::time::timeout(CALL_DEADLINE, self.exchange(target, id))
            .await
            .with_context(|| format!("no answer within {CALL_DEADLINE:?}"))?
    }

    async fn exchange(&self, target: SocketAddr, id: u64) -> anyhow::Result<Reply> {
        let socket = TcpSocket::new_v4()?;
        socket
            .bind((self.address, 0).into())
            .with_context(|| format!("the calling pod's address {}", self.address))?;
        let stream =
            socket.connect(target).await.with_context(|| format!("connecting to {target}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get("/")
            .header(header::HOST, target.to_string())
            .header(header::CONNECTION, "close")
            .header(CALL_ID, id)
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let body = Limited::new(response.into_body(), LONGEST_REPLY).collect().await;
            let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
            serde_json::from_slice(&body).context("the reply is not the echo workload's")
        };
        // The connection moves the bytes that the exchange waits for, and may end first.
        tokio::pin!(exchange);
        tokio::select! {
            reply = &mut exchange => reply,
            ended = connection => match exchange.await {
                Ok(reply) => Ok(reply),
                Err(error) => Err(ended.err().map_or(error, Into::into)),
            },
        }
    }

    /// Calls at a steady pace, each on a connection of its own and none waiting for another, until told to stop.
    pub(super) async fn steady(
        &self,
        target: SocketAddr,
        pace: Duration,
        begun: Instant,
        stop: CancellationToken,
    ) -> Vec<Outcome> {
        let mut calls = JoinSet::new();
        let mut outcomes = Vec::new();
        let mut ticks = tokio::time::interval(pace);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    let caller = self.clone();
                    calls.spawn(async move {
                        let from = begun.elapsed();
                        let reply = caller.call(target).await;
                        Outcome { begun: from, ended: begun.elapsed(), by: reply.ok().map(|reply| reply.cluster) }
                    });
                }
                Some(Ok(outcome)) = calls.join_next() => outcomes.push(outcome),
            }
        }
        outcomes.extend(calls.join_all().await);
        outcomes
    }
}
